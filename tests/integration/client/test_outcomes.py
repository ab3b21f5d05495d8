"""Outcomes and tags of runs, recorded in the run or afterwards."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, flush, instrument, query_run, shutdown
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import RecordError
from tests.support.client_calls import T0

RUNS = "SELECT query_id, success, score, outcome_label, tags, status FROM query_run_summaries ORDER BY query_id"


def runs(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(RUNS).fetchall()


def test_the_outcome_of_a_run_is_stored_with_its_tags(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", db_url)
    try:
        with query_run("solved", tags={"agent": "planner", "seed": 3}) as run:
            run.record_outcome(success=True, score=0.5)
            run.record_outcome(score=0.83, label="pass")
        with query_run("silent"):
            pass
        assert flush(120)
    finally:
        shutdown()
    assert runs(db_url) == [
        ("silent", None, None, None, None, "completed"),
        ("solved", True, 0.83, "pass", {"agent": "planner", "seed": "3"}, "completed"),
    ]


def test_an_outcome_can_follow_after_the_run_and_before_its_calls(db: TimescaleDBClient, db_url: str) -> None:
    db.initialize_query_run("after", T0)
    db.complete_query_run("after", T0)
    assert db.flush()
    db.record_outcome("after", T0, success=False, label="timeout")
    db.record_outcome("unknown", T0.isoformat(), score=1)
    assert db.flush()
    assert runs(db_url) == [
        ("after", False, None, "timeout", None, "completed"),
        ("unknown", None, 1.0, None, None, "running"),
    ]


def test_an_outcome_that_says_nothing_is_refused(db: TimescaleDBClient) -> None:
    with pytest.raises(RecordError, match="an outcome needs success, score or label"):
        db.record_outcome("q", T0)


def test_outcomes_cost_nothing_where_recording_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "1")
    instrument()
    with query_run("off", tags={"user": "x"}) as run:
        run.record_outcome(success=True)


def test_the_outcome_is_shown_with_the_run(db: TimescaleDBClient, db_url: str) -> None:
    db.initialize_query_run("judged", T0)
    db.record_llm_interaction(LLMInteractionRecord("judged", T0, "m", prompt_tokens=10))
    db.record_outcome("judged", T0, success=False, score=0.25, label="time|out")
    run = db.get_query_run_summary("judged", T0)
    assert run is not None
    assert (run["success"], run["score"], run["outcome_label"], run["tags"]) == (False, 0.25, "time|out", None)
    shown = CliRunner().invoke(app, ["show", "judged", "--db-url", db_url]).stdout
    assert "Outcome: failed, score 0.25, label time|out" in shown
    report = CliRunner().invoke(app, ["report", "judged", "--db-url", db_url]).stdout
    assert "; outcome: failed, score 0.25, label time\\|out\n" in report


def test_a_run_without_an_outcome_shows_none(db: TimescaleDBClient, db_url: str) -> None:
    db.record_llm_interaction(LLMInteractionRecord("open", T0, "m", prompt_tokens=10))
    assert db.flush()
    for command in ("show", "report"):
        assert "utcome" not in CliRunner().invoke(app, [command, "open", "--db-url", db_url]).stdout
