"""Runs whose calls were partly or all deleted by age: summary, list, optimization and `show` agree."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.cli import app
from tests.support.client_calls import T0, at, call

LATER = timedelta(days=2)


@pytest.fixture
def ended(db: TimescaleDBClient) -> dict[str, Any]:
    """Record a run of 20 calls over two days; return what is shown of it at its end."""
    for number in range(20):
        moment = at(number) + (LATER if number >= 10 else timedelta(0))
        db.record_llm_interaction(
            call(
                number,
                prompt_tokens=1000,
                completion_tokens=10,
                cached_tokens=400 if number % 2 else 0,
                iteration=number + 1,
                start_time=moment,
                end_time=moment + timedelta(milliseconds=100 + number),
            )
        )
    db.complete_query_run("q", T0)
    return everything(db)


def everything(db: TimescaleDBClient) -> dict[str, Any]:
    (listed,) = db.list_query_runs()
    return {
        "summary": dict(db.get_token_cache_summary("q", T0) or {}),
        "optimization": dict(db.get_token_cache_optimization("q", T0) or {}),
        "run": dict(db.get_query_run_summary("q", T0) or {}),
        "listed": dict(listed),
    }


def drop(db: TimescaleDBClient, first: int, last: int) -> None:
    """Delete calls without their run, as retention does."""
    with psycopg.connect(db.runtime.store()._open_url(), autocommit=True) as connection:
        gone = "DELETE FROM llm_interactions WHERE query_id = 'q' AND iteration BETWEEN %s AND %s"
        assert connection.execute(gone, [first, last]).rowcount == last - first + 1


def not_of_the_end(summary: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not stored at the end of a run, and the count of dropped calls. Costs: to 1e-11 USD."""
    unknown = (
        "total_cache_write_tokens",
        "total_reasoning_tokens",
        "avg_cost_per_interaction",
        "avg_time_to_first_token_ms",
        "models",
        "dropped_interactions",
        "last_call_time",
    )
    kept = {key: value for key, value in summary.items() if key not in unknown}
    return {key: round(value, 11) if isinstance(value, float) else value for key, value in kept.items()}


@pytest.mark.parametrize("last", [10, 20], ids=["half", "all"])
def test_a_run_keeps_its_totals_when_its_calls_are_dropped(
    db: TimescaleDBClient, ended: dict[str, Any], last: int
) -> None:
    drop(db, 1, last)
    left = everything(db)
    assert left["listed"] == ended["listed"]
    assert left["listed"]["total_interactions"] == left["summary"]["total_interactions"] == 20
    assert not_of_the_end(left["summary"]) == not_of_the_end(ended["summary"])
    assert not_of_the_end(left["run"]) == not_of_the_end(ended["run"])
    assert left["optimization"] == ended["optimization"]
    assert left["summary"]["dropped_interactions"] == left["run"]["dropped_interactions"] == last
    assert ended["summary"]["dropped_interactions"] == 0


def test_show_says_that_details_were_dropped(db: TimescaleDBClient, ended: dict[str, Any]) -> None:
    url = db.runtime.store()._open_url()

    def show(*more: str) -> str:
        result = CliRunner().invoke(app, ["show", "q", "--db-url", url, *more], env={"COLUMNS": "120"})
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    assert "dropped by retention" not in show()
    drop(db, 1, 15)
    assert "Details dropped by retention: 15 of 20 calls of this run were deleted" in show()
    report = json.loads(show("--json"))
    assert report["summary"]["total_interactions"] == report["run"]["total_interactions"] == 20
    assert len(report["optimization"]["cache_evolution"]) == 20
    assert [step["iteration"] for step in report["iterations"]] == [16, 17, 18, 19, 20]
    drop(db, 16, 20)
    assert "Details dropped by retention: 20 of 20 calls of this run were deleted" in show()


def test_late_calls_do_not_replace_the_totals_of_more_calls(db: TimescaleDBClient, ended: dict[str, Any]) -> None:
    drop(db, 1, 15)
    db.record_llm_interaction(call(21, prompt_tokens=7, iteration=21))
    db.calculate_and_store_cache_optimization("q", T0)
    left = everything(db)
    assert left["optimization"] == ended["optimization"]
    assert left["summary"]["total_interactions"] == left["listed"]["total_interactions"] == 20


def test_pruned_calls_leave_the_totals_of_the_run(db: TimescaleDBClient, ended: dict[str, Any]) -> None:
    assert db.delete(before=T0 + timedelta(days=1)) == {"interactions": 10, "runs": 0}
    left = everything(db)
    assert left["listed"] == ended["listed"]
    assert left["summary"]["dropped_interactions"] == 10
