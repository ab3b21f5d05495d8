"""Each example runs offline as a separate process, and its output agrees with the database."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.simulator import MINIMUM_TOKENS, STEP_TOKENS, SimulatedEndpoint
from tests.support import forked

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run_example(name: str, db_url: str, folder: Path, *arguments: str, **environment: str) -> Any:
    """Run it from another folder; the fixture `isolated` has cleared the settings and set a state folder."""
    env = {**os.environ, "RLM_CACHETRACK_DB_URL": db_url, **environment}
    return forked.run(["-W", "error", str(EXAMPLES / name), *arguments], cwd=folder, env=env)


def printed_by(name: str, db_url: str, folder: Path) -> str:
    # A key alone must not cause requests to the real API; no server listens at these two addresses.
    ended = run_example(name, db_url, folder, OPENAI_API_KEY="sk-unused", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return str(ended.stdout)


def line(text: str, start: str) -> list[str]:
    """Return the words of the only line that begins with ``start``, without that start and thousands separators."""
    (found,) = [each.strip() for each in text.splitlines() if each.strip().startswith(start)]
    return found.removeprefix(start).replace(",", "").split()


def only_run(db: TimescaleDBClient, query_id: str) -> tuple[str, Any]:
    (listed,) = db.list_query_runs(query_id=query_id)
    return query_id, listed["run_id"]


def test_basic_cache_tracking_prints_the_totals_of_its_run(db_url: str, tmp_path: Path) -> None:
    text = printed_by("basic_cache_tracking.py", db_url, tmp_path)
    with TimescaleDBClient(db_url) as db:
        calls = db.get_llm_interactions(*only_run(db, "example-basic"))
    # Five questions after one long prefix: the first call misses the cache, the others read whole steps of it.
    assert [call["iteration"] for call in calls] == [1, 2, 3, 4, 5]
    assert calls[0]["cached_tokens"] == 0
    assert all(call["cached_tokens"] >= MINIMUM_TOKENS for call in calls[1:])
    assert all(call["cached_tokens"] % STEP_TOKENS == 0 for call in calls)
    prompt = sum(call["prompt_tokens"] for call in calls)
    cached = sum(call["cached_tokens"] for call in calls)
    paid = sum(call["total_cost"] for call in calls)
    full = sum(call["original_cost"] for call in calls)
    assert line(text, "calls") == ["5"]
    assert line(text, "… that hit the cache") == ["4"]
    assert line(text, "prompt tokens") == [str(prompt)]
    assert line(text, "… read from the cache") == [str(cached)]
    assert line(text, "cache hit rate") == [f"{100 * cached / prompt:.1f}%"]
    assert float(line(text, "cost")[0]) == pytest.approx(paid, abs=1e-6)
    assert float(line(text, "… without the cache")[0]) == pytest.approx(full, abs=1e-6)
    assert float(line(text, "… saved")[0]) == pytest.approx(full - paid, abs=1e-6)
    assert paid < full


def test_cache_evolution_shows_each_turn_and_the_changed_prefix(db_url: str, tmp_path: Path) -> None:
    text = printed_by("cache_evolution.py", db_url, tmp_path)
    with TimescaleDBClient(db_url) as db:
        runs = db.list_query_runs(query_id="example-evolution")
        stable, broken = (
            next(db.get_llm_interactions(run["query_id"], run["run_id"]) for run in runs if run["metadata"] == wanted)
            for wanted in ({"prefix": "stable"}, {"prefix": "broken"})
        )
    for calls in (stable, broken):
        sizes = [call["prompt_tokens"] for call in calls]
        assert len(sizes) == 6
        assert sizes == sorted(sizes)
    # Each turn reads the prompt of the previous turn from the cache, in whole steps.
    assert [call["cached_tokens"] for call in stable] == [
        0,
        *(call["prompt_tokens"] // STEP_TOKENS * STEP_TOKENS for call in stable[:-1]),
    ]
    assert [call["cached_tokens"] for call in broken] == [0] * 6
    turns = re.findall(r"^ +(\d+) +([\d,]+) +([\d,]+)  ([█░]+) +(\d+)%$", text, re.MULTILINE)
    assert [tuple(int(number.replace(",", "")) for number in turn[:3]) for turn in turns] == [
        (call["iteration"], call["prompt_tokens"], call["cached_tokens"]) for call in (*stable, *broken)
    ]
    for *_, bar, percentage in turns:
        assert bar.count("█") / len(bar) == pytest.approx(int(percentage) / 100, abs=0.03)
    percentages = [float(each) for each in re.findall(r"the cache saved (\d+\.\d)%", text)]
    saved = sum(call["original_cost"] - call["total_cost"] for call in stable)
    assert percentages[0] == pytest.approx(100 * saved / sum(call["original_cost"] for call in stable), abs=0.06)
    assert percentages[1] == 0.0


def test_cost_analysis_adds_up_and_shows_an_unpriced_model_as_unknown(db_url: str, tmp_path: Path) -> None:
    text = printed_by("cost_analysis.py", db_url, tmp_path)
    with TimescaleDBClient(db_url) as db:
        top = db.get_top_cache_savings()
        models = db.get_cache_effectiveness_by_model()
    assert len(models) == 4
    for row in models:
        calls, full, paid, saved, rate = line(text, row["model"])
        assert int(calls) == row["total_interactions"] == 4
        assert rate == f"{100 * row['total_cached_tokens'] / row['total_prompt_tokens']:.1f}%"
        if row["model"] == "our-own-model":
            assert row["total_cost"] is None
            assert row["original_cost"] is None
            assert row["unpriced_interactions"] == 4
            assert (full, paid, saved) == ("unknown",) * 3
        else:
            assert float(full) == pytest.approx(row["original_cost"], abs=1e-6)
            assert float(paid) == pytest.approx(row["total_cost"], abs=1e-6)
            assert float(saved) == pytest.approx(row["original_cost"] - row["total_cost"], abs=1e-6)
            assert row["total_cost"] < row["original_cost"]
    shown = re.findall(r"^  (example-cost/\S+) .* (\d+\.\d{6}) +\d+\.\d$", text, re.MULTILINE)
    assert [name for name, _ in shown] == [row["query_id"] for row in top]
    assert "example-cost/our-own-model" not in dict(shown)
    savings = [float(saved) for _, saved in shown]
    assert savings == sorted(savings, reverse=True)
    assert len(savings) == 3
    total = sum(row["total_cost"] for row in models if row["total_cost"] is not None)
    assert float(line(text, "paid")[0]) == pytest.approx(total, abs=1e-6)
    assert "; 4 calls have no known price" in text


def test_price_override_prices_each_call_by_the_file(db_url: str, tmp_path: Path) -> None:
    text = printed_by("price_override.py", db_url, tmp_path)
    with TimescaleDBClient(db_url) as db:
        calls = db.get_llm_interactions(*only_run(db, "example-prices"))
    # USD per 1M tokens from examples/price_override.yaml: prompt, cached, completion.
    gpt_5, flex, own = (1.25, 0.125, 10), (0.625, 0.0625, 5), (0.2, 0.2, 0.4)
    expected = {0: gpt_5, 1: gpt_5, 2: flex, 4: gpt_5, 5: own}
    rows = [row.split() for row in text.splitlines() if "default " in row or "flex " in row]
    assert len(rows) == len(calls) == 6
    assert calls[1]["cached_tokens"] >= MINIMUM_TOKENS
    for number, (prompt, cached, completion) in expected.items():
        call = calls[number]
        cost = (
            (call["prompt_tokens"] - call["cached_tokens"]) * prompt
            + call["cached_tokens"] * cached
            + call["completion_tokens"] * completion
        ) / 1_000_000
        assert call["total_cost"] == pytest.approx(cost)
        assert call["price_source"].startswith("yaml:")
        model, tier, *prices, shown, source = rows[number]
        assert (model, tier, source) == (call["model"], call["service_tier"], call["price_source"])
        assert [float(price) for price in prices if price != "/"] == [prompt, cached, completion]
        assert float(shown) == pytest.approx(cost, abs=1e-6)
    assert calls[3]["price_source"].startswith("genai-prices:")


def test_real_world_integration_records_the_same_by_hand_and_instrumented(db_url: str, tmp_path: Path) -> None:
    text = printed_by("real_world_integration.py", db_url, tmp_path)
    hand, instrumented = text.split("\ninstrumented\n")
    with TimescaleDBClient(db_url) as db:
        key = only_run(db, "example-by-hand")
        by_hand, summary = db.get_llm_interactions(*key), db.get_token_cache_summary(*key)
        agent = db.get_llm_interactions(*only_run(db, "example-agent"))
        (failed,) = db.get_llm_interactions(*only_run(db, "example-failing"))
        ended = {run["query_id"]: run["status"] for run in db.list_query_runs()}
    assert ended == {"example-by-hand": "completed", "example-agent": "completed", "example-failing": "error"}

    assert [call["success"] for call in by_hand] == [True, True, True, False]
    assert [call["iteration"] for call in by_hand[:3]] == [1, 2, 3]
    assert summary is not None
    assert (summary["interactions_not_reported"], summary["failed_interactions"]) == (0, 1)
    assert all(call["duration_ms"] > 0 and call["total_cost"] > 0 for call in by_hand[:3])
    assert "4 calls, 1 failed, run completed" in hand
    rate = sum(call["cached_tokens"] for call in by_hand[:3]) / sum(call["prompt_tokens"] for call in by_hand[:3])
    assert f"hit rate {100 * rate:.1f}%" in hand
    assert "most is saved in example-by-hand" in hand

    # Two questions, each split in two, and each half again: 1 + 2 + 4 calls per question.
    assert Counter(call["current_depth"] for call in agent) == {0: 2, 1: 4, 2: 8}
    assert Counter(call["iteration"] for call in agent) == {1: 7, 2: 7}
    depth_of = {call["recursion_id"]: call["current_depth"] for call in agent}
    for call in agent:
        if call["current_depth"] == 0:
            assert call["parent_recursion_id"] is None
        else:
            assert call["model_type"] == "sub"
            assert depth_of[call["parent_recursion_id"]] == call["current_depth"] - 1
    table = re.findall(r"^ +(\d) +(\d+) +(\d+) +[\d.]+%$", instrumented, re.MULTILINE)
    assert table == [("0", "2", "1"), ("1", "4", "4"), ("2", "8", "8")]
    saved = sum(call["original_cost"] - call["total_cost"] for call in agent)
    assert float(line(instrumented, "14 calls, saved")[0]) == pytest.approx(saved, abs=1e-6)

    for error in (by_hand[3], failed):
        assert error["success"] is False
        assert error["error_type"] == "BadRequestError"
        assert error["total_cost"] is None
    assert text.count("rejected and recorded: BadRequestError 400") == 2


def test_live_calls_the_address_of_the_sdk_and_not_the_simulated_endpoint(
    db_url: str, tmp_path: Path, endpoint: SimulatedEndpoint
) -> None:
    reached = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": endpoint.base_url}
    ended = run_example("basic_cache_tracking.py", db_url, tmp_path, "--live", **reached)
    assert ended.returncode == 0, ended.stderr
    assert len(endpoint.requests) == 5


def test_live_without_a_key_names_the_missing_variable(db_url: str, tmp_path: Path) -> None:
    ended = run_example("basic_cache_tracking.py", db_url, tmp_path, "--live")
    assert ended.returncode == 1
    assert ended.stderr.strip() == "--live calls the real API: set OPENAI_API_KEY, or omit --live"


def test_the_readme_lists_every_example() -> None:
    listed = re.findall(r"^\| \[([\w.]+)\]", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(file.name for file in EXAMPLES.glob("[!_]*.py"))
