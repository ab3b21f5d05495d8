"""The page Experiments and its reports: costs that belong to the outcome of a group, and the order."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from tests.integration.web.test_pages import fetch, text_of
from tests.support.web import BEGUN

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

# query, model, solved, score, cost in USD, cost with nothing cached
RUNS = [
    ("ask", "large", True, 0.9, 0.05, 0.09),
    ("ask", "large", False, 0.3, 0.03, 0.07),
    ("ask", "large", None, None, 0.20, 0.20),
    ("ask", "medium", False, 0.1, 0.01, 0.01),
    ("ask", "small", None, None, 0.001, 0.001),
    ("chat", "alone", True, None, 0.40, 0.40),
]


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return a database in which "large" has two judged runs and an expensive one without an outcome."""
    with TimescaleDBClient(module_db_url) as db:
        for number, (query, model, solved, score, cost, original) in enumerate(RUNS):
            run_id = BEGUN + timedelta(minutes=number)
            db.initialize_query_run(query, run_id)
            db.record_llm_interaction(
                LLMInteractionRecord(
                    query, run_id, model, prompt_tokens=100, total_cost=cost, original_cost=original, start_time=run_id
                )
            )
            db.complete_query_run(query, run_id)
            if solved is not None or score is not None:
                db.record_outcome(query, run_id, solved, score)
        assert db.flush()
    return module_db_url


def test_the_cost_per_run_is_that_of_the_judged_runs(address: str) -> None:
    words = text_of(address, "/experiments", by="model")
    # large: (0.05 + 0.03) / 2 for a judged run, 0.16 / 2 with nothing cached, 0.08 for one success, 0.28 for all runs
    row = words[words.index(" large ") : words.index(" medium ")]
    assert row.startswith(" large ★ 3 2 judged 50.0% ")
    assert " 0.600 $0.0800 $0.0400 $0.0800 $0.2800 " in row
    assert "If a group has judged runs, cost per run and without cache cover these" in words
    assert re.search(r" small 1 0 judged . . . \$0\.0010 ", words)  # the cost of all runs, because none is judged


def test_groups_without_a_cost_per_success_are_the_last_rows(address: str) -> None:
    page = fetch(f"{address}/experiments?by=model")[0].decode()
    names = re.findall(r'<th scope="row"><bdi>(\w+)</bdi>', page)
    assert names == ["large", "alone", "small", "medium"]


def points(page: str) -> dict[str, tuple[Any, Any]]:
    """Return cost and quality of each group in the chart of a page."""
    figure = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    return {
        name: (cost, quality)
        for series in figure["series"]
        for name, cost, quality in zip(series["labels"], series["x"], series["y"], strict=True)
    }


def test_both_axes_of_the_chart_cover_the_same_runs(address: str) -> None:
    page = fetch(f"{address}/experiments?by=model")[0].decode()
    assert points(page) == {
        "large": (pytest.approx(0.04), pytest.approx(0.6)),
        "medium": (pytest.approx(0.01), pytest.approx(0.1)),
    }
    assert "mean cost per run with a score" in page
    rates = fetch(f"{address}/experiments?by=model&query=chat")[0].decode()
    assert points(rates) == {"alone": (pytest.approx(0.4), 1.0)}
    assert "mean cost per judged run" in rates


def test_a_hint_says_that_queries_are_mixed(address: str) -> None:
    hint = "The groups contain runs of several queries, whose tasks may differ. Filter by query"
    assert hint in text_of(address, "/experiments", by="model")
    assert "several queries" not in text_of(address, "/experiments", by="model", query="ask")
    assert "several queries" not in text_of(address, "/experiments", by="query")


def test_no_word_about_judged_runs_if_all_are_judged(address: str) -> None:
    assert "judged" not in text_of(address, "/experiments", by="model", query="chat")


def test_a_report_says_which_runs_are_judged(stored: str, tmp_path: Path) -> None:
    file = tmp_path / "models.html"
    asked = ["report", "--experiments", "model", "--html", str(file), "--md", "--db-url", stored]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if line.startswith("| `large`"))
    assert "| 3, 2 judged | 50.0% | 0.600 | $0.0800 |" in row
    assert "| $0.0400 | $0.0800 |" in row
    assert "In groups with judged runs, costs per run cover these" in result.stdout
    assert "several queries" in result.stdout
    assert "2 judged" in file.read_text()
