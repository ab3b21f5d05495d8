"""``set_context``: the fields that it fills, and the precedence of records and runs."""

from __future__ import annotations

import inspect

from openai import OpenAI

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, instrument, query_run
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.client_calls import T0, at


def test_context_fills_omitted_fields_of_a_record(db: TimescaleDBClient) -> None:
    db.set_context(
        query_id="from context",
        run_id=T0,
        iteration=2,
        current_depth=1,
        max_depth=3,
        recursion_id="r-2",
        parent_recursion_id="r-1",
        model="context-model",
        model_index=4,
        model_type="sub",
    )
    db.record_llm_interaction(LLMInteractionRecord("", None, "", prompt_tokens=1))  # type: ignore[arg-type]
    (row,) = db.get_llm_interactions("from context", T0)
    expected = {
        "query_id": "from context",
        "run_id": T0,
        "iteration": 2,
        "current_depth": 1,
        "max_depth": 3,
        "recursion_id": "r-2",
        "parent_recursion_id": "r-1",
        "model": "context-model",
        "model_index": 4,
        "model_type": "sub",
    }
    assert {name: row[name] for name in expected} == expected
    assert set(expected) == set(inspect.signature(db.set_context).parameters)


def test_set_context_changes_only_the_arguments_that_are_passed(db: TimescaleDBClient) -> None:
    db.set_context(query_id="q", run_id=T0, iteration=1, model_type="root")
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=at(0)))
    db.set_context(iteration=2)
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=at(1)))
    db.set_context(current_depth=0, model_type="sub")
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=at(2)))
    rows = db.get_llm_interactions("q", T0)
    fields = [(row["iteration"], row["model_type"], row["current_depth"]) for row in rows]
    assert fields == [(1, "root", None), (2, "root", None), (2, "sub", 0)]


def test_the_fields_of_a_record_take_precedence_over_the_context(db: TimescaleDBClient) -> None:
    db.set_context(query_id="q", run_id=T0, iteration=1, model="other", model_type="root")
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "mine", iteration=0, model_type="sub"))
    (row,) = db.get_llm_interactions("q", T0)
    assert (row["model"], row["iteration"], row["model_type"]) == ("mine", 0, "sub")


def test_the_context_of_one_run_does_not_apply_to_another(db: TimescaleDBClient) -> None:
    db.set_context(query_id="q", run_id=T0, iteration=7)
    db.record_llm_interaction(LLMInteractionRecord("other", T0, "m"))
    (row,) = db.get_llm_interactions("other", T0)
    assert row["iteration"] is None


def test_the_context_applies_to_instrumented_calls_too(db: TimescaleDBClient, endpoint: SimulatedEndpoint) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as openai:
        instrument(openai, store=db)
        db.set_context(query_id="by hand", run_id=T0, iteration=5, model_type="root", max_depth=2)
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
        db.set_context(iteration=6)
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    rows = db.get_llm_interactions("by hand", T0)
    assert [(row["iteration"], row["model_type"], row["max_depth"]) for row in rows] == [(5, "root", 2), (6, "root", 2)]
    assert {row["model"] for row in rows} == {"gpt-5-2025-08-07"}  # the model that the server reported


def test_a_query_run_takes_precedence_over_the_context_of_another_run(
    db: TimescaleDBClient, endpoint: SimulatedEndpoint
) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as openai:
        instrument(openai, store=db)
        db.set_context(query_id="by hand", run_id=T0, iteration=5)
        with query_run("q") as run:
            openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
            db.record_llm_interaction(LLMInteractionRecord("", None, "m"))  # type: ignore[arg-type]
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    inside = db.get_llm_interactions("q", run.run_id)
    assert [row["iteration"] for row in inside] == [None, None]  # iteration 5 belongs to the other run
    assert [row["iteration"] for row in db.get_llm_interactions("by hand", T0)] == [5]


def test_the_context_fills_fields_that_a_query_run_leaves_out(db: TimescaleDBClient) -> None:
    db.set_context(iteration=3, model_type="root", model="m")
    with query_run("q") as run:
        db.record_llm_interaction(LLMInteractionRecord("", None, ""))  # type: ignore[arg-type]
        run.iteration = 4
        db.record_llm_interaction(LLMInteractionRecord("", None, ""))  # type: ignore[arg-type]
    rows = db.get_llm_interactions("q", run.run_id)
    assert sorted((row["iteration"], row["model_type"], row["model"]) for row in rows) == [
        (3, "root", "m"),
        (4, "root", "m"),
    ]


def test_closing_a_client_ends_its_context(db_url: str, endpoint: SimulatedEndpoint) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as openai:
        with TimescaleDBClient(db_url) as first:
            instrument(openai, store=first)
            first.set_context(query_id="gone", run_id=T0)
        openai.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
        with TimescaleDBClient(db_url) as second:
            assert [run["query_id"] for run in second.list_query_runs()] == ["adhoc"]
