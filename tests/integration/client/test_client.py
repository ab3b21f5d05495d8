"""The client itself: its signatures, opening, closing, counting and deleting."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import psycopg
import pytest

import rlm_cachetrack
from rlm_cachetrack import TimescaleDBClient
from tests.support.client_calls import T0, at, call, record_the_mixed_run


def test_signatures_match_the_contract() -> None:
    def shape(function: Any) -> list[tuple[str, Any]]:
        parameters = list(inspect.signature(function).parameters.values())
        return [(p.name, p.default) for p in parameters if p.name != "self"]

    empty = inspect.Parameter.empty
    assert shape(TimescaleDBClient) == [("db_url", None), ("pool_size", 10), ("pricing", None)]
    assert shape(TimescaleDBClient.set_context) == [
        (name, None)
        for name in (
            "query_id",
            "run_id",
            "iteration",
            "current_depth",
            "max_depth",
            "recursion_id",
            "parent_recursion_id",
            "model",
            "model_index",
            "model_type",
        )
    ]
    run = [("query_id", empty), ("run_id", empty)]
    assert shape(TimescaleDBClient.initialize_query_run) == [*run, ("metadata", None)]
    assert shape(TimescaleDBClient.record_llm_interaction) == [("record", empty)]
    assert shape(TimescaleDBClient.complete_query_run) == [*run, ("status", "completed")]
    for name in (
        "get_token_cache_summary",
        "calculate_and_store_cache_optimization",
        "get_token_cache_optimization",
        "get_llm_interactions",
        "get_query_run_summary",
    ):
        assert shape(getattr(TimescaleDBClient, name)) == run
    filters = ("filters", empty)
    assert shape(TimescaleDBClient.get_top_cache_savings) == [("limit", 10), filters]
    assert shape(TimescaleDBClient.get_cache_effectiveness_by_model) == [("since", None), ("until", None), filters]
    assert shape(TimescaleDBClient.list_query_runs) == [("limit", 100), filters]
    assert shape(TimescaleDBClient.close) == []


def test_writing_methods_return_nothing(db: TimescaleDBClient) -> None:
    assert db.set_context(iteration=1) is None  # type: ignore[func-returns-value]
    assert db.initialize_query_run("q", T0) is None  # type: ignore[func-returns-value]
    assert db.complete_query_run("q", T0) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("variable", ["RLM_CACHETRACK_DB_URL", "TIMESCALE_DB_URL"])
def test_the_address_may_come_from_the_environment(db_url: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, db_url)
    with TimescaleDBClient() as db:
        db.record_llm_interaction(call(0, prompt_tokens=3))
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT prompt_tokens FROM llm_interactions").fetchall() == [(3,)]


def test_two_clients_of_one_store_share_records_and_close_independently(db_url: str) -> None:
    with TimescaleDBClient(db_url) as first:
        with TimescaleDBClient(db_url) as second:
            second.record_llm_interaction(call(0, prompt_tokens=3))
            assert len(first.get_llm_interactions("q", T0)) == 1
        first.record_llm_interaction(call(1, prompt_tokens=4))
        assert len(first.get_llm_interactions("q", T0)) == 2


def test_closing_stores_what_was_recorded_and_may_be_repeated(db_url: str) -> None:
    db = TimescaleDBClient(db_url)
    db.record_llm_interaction(call(0, prompt_tokens=3))
    db.close()
    db.close()
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM llm_interactions").fetchone() == (1,)


def test_closing_ends_the_writer_thread(db_url: str) -> None:
    before = set(threading.enumerate())
    for _ in range(30):  # the thread may be at any point of its loop
        TimescaleDBClient(db_url).close()
        assert set(threading.enumerate()) <= before


def test_stats_count_what_was_recorded_and_stored(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    assert rlm_cachetrack.flush(timeout_s=120)
    counts = rlm_cachetrack.stats()
    assert counts["recorded"] == counts["stored"] == 6  # the run's start and five calls
    assert counts["pending"] == 0
    assert counts["dropped"] == {}
    assert counts["internal_errors"] == db.stats()["internal_errors"]


# -- deleting ----


def test_count_returns_what_delete_then_deletes(db: TimescaleDBClient) -> None:
    record_the_mixed_run(db)
    db.initialize_query_run("q", at(1))  # a run without calls
    db.record_llm_interaction(call(0, query_id="kept"))
    db.complete_query_run("q", T0)
    assert db.count(query_id="q") == {"interactions": 5, "runs": 2}
    assert db.delete(query_id="q") == {"interactions": 5, "runs": 2}
    assert [run["query_id"] for run in db.list_query_runs()] == ["kept"]
    assert db.get_token_cache_optimization("q", T0) is None
    assert db.count(query_id="q") == {"interactions": 0, "runs": 0}


def test_pruning_keeps_runs_that_have_later_calls(db: TimescaleDBClient) -> None:
    later = at(86400)  # run_id is only an identifier; a run starts with its first call
    db.record_llm_interaction(call(0, query_id="old", run_id=later, prompt_tokens=10, completion_tokens=0))
    db.record_llm_interaction(call(0, query_id="both", prompt_tokens=10, completion_tokens=0))
    db.record_llm_interaction(call(100, query_id="both", prompt_tokens=10, completion_tokens=0))
    for key in (("old", later), ("both", T0)):
        db.calculate_and_store_cache_optimization(*key)
    assert db.count(before=at(50)) == {"interactions": 2, "runs": 1}
    assert db.delete(before=at(50)) == {"interactions": 2, "runs": 1}
    assert [run["query_id"] for run in db.list_query_runs()] == ["both"]
    assert [run["query_id"] for run in db.get_top_cache_savings()] == ["both"]
