"""Runs and results in notebooks and as pandas data frames."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime

import pytest
from openai import OpenAI

from rlm_cachetrack import TimescaleDBClient, instrument, query_run
from rlm_cachetrack.formatting.text import usd
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.web import BEGUN, HOSTILE, store_missed, store_runs


def test_results_render_as_tables_and_escape_foreign_names(reused_db_url: str) -> None:
    store_runs(reused_db_url)
    with TimescaleDBClient(reused_db_url) as db:
        for table in (
            db.get_cache_effectiveness_by_model(),
            db.list_query_runs(),
            db.get_llm_interactions(HOSTILE, BEGUN),
            db.get_top_cache_savings(),
        ):
            shown = table._repr_html_()
            assert shown.count("<tr>") == len(table) + 1
            assert "<img" not in shown
            assert "\x1b" not in shown
        summary = db.get_token_cache_summary("bench", BEGUN)
        models = db.get_cache_effectiveness_by_model()
    assert '<th>cache_hit_rate</th><td style="text-align:right">41.7%</td>' in summary._repr_html_()  # type: ignore[union-attr]
    assert '<th>total_cost</th><td style="text-align:right">$0.0495</td>' in summary._repr_html_()  # type: ignore[union-attr]
    for same in (pickle.loads(pickle.dumps(models)), copy.deepcopy(models), json.loads(json.dumps(models))):
        assert same == models
    assert isinstance(models, list)
    assert isinstance(summary, dict)


def test_results_convert_to_data_frames(reused_db_url: str) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    with TimescaleDBClient(reused_db_url) as db:
        empty = db.get_cache_effectiveness_by_model().to_pandas()
        assert "total_cost" in empty.columns
        store_runs(reused_db_url)
        frame = db.get_cache_effectiveness_by_model().to_pandas()
    assert list(frame.columns) == list(empty.columns)
    assert frame.set_index("model").loc["tuned", "total_interactions"] == 46


def test_a_run_shows_its_totals(endpoint: SimulatedEndpoint, reused_db_url: str) -> None:
    run = query_run("in-a-notebook", run_id=datetime(2026, 1, 2, tzinfo=UTC))
    assert repr(run) == "<QueryRun 'in-a-notebook', run 2026-01-02T00:00:00+00:00, not begun>"
    assert run._repr_html_() is None
    with OpenAI(base_url=endpoint.base_url, api_key="x") as sdk:
        instrument(sdk, store=reused_db_url)
        with run:
            sdk.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
        assert '<th>total_interactions</th><td style="text-align:right">1</td>' in (run._repr_html_() or "")
    assert repr(run).endswith(", ended>")
    assert repr(endpoint) == f"<SimulatedEndpoint {endpoint.base_url}, 1 requests>"
    assert repr(query_run("not-yet")) == "<QueryRun 'not-yet', not begun>"
    assert repr(SimulatedEndpoint()) == "<SimulatedEndpoint not started, 0 requests>"


def test_an_explanation_and_a_comparison_show_as_tables(db_url: str) -> None:
    store_missed(db_url, calls=3)
    store_missed(db_url, calls=3)
    with TimescaleDBClient(db_url) as db:
        runs = [(run["query_id"], run["run_id"]) for run in db.list_query_runs()]
        explained, compared = db.explain_cache(*runs[1]), db.compare_runs(runs[1], runs[0])
    assert explained is not None
    shown = explained._repr_html_()  # type: ignore[attr-defined]
    assert shown.count("<table>") == 4
    assert '<td style="text-align:left">prefix_changed</td>' in shown
    assert f'<th>tokens_lost</th><td style="text-align:right">{explained["tokens_lost"]:,}</td>' in shown
    assert f'text-align:right">{explained["interactions"][-1]["confidence"]:.1%}' in shown
    assert "token counts of parts of prompts are estimated" in shown
    beside = compared._repr_html_()  # type: ignore[attr-defined]
    cost = next(metric for metric in compared["metrics"] if metric["name"] == "total_cost")
    assert f'<td style="text-align:left">total_cost</td><td style="text-align:right">{usd(cost["a"])}</td>' in beside
    assert json.loads(json.dumps(compared, default=str))["metrics"] == compared["metrics"]
    assert copy.deepcopy(explained) == pickle.loads(pickle.dumps(explained)) == explained
    pytest.importorskip("pandas", reason="pandas is not installed")
    assert explained["interactions"].to_pandas()["tokens_lost"].sum() == explained["tokens_lost"]
    assert "difference" in compared["metrics"].to_pandas().columns
