"""Batches, evals, graders and agent sessions: the usage that the server sums up is recorded once."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from rlm_cachetrack import instrument, query_run
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.support.scripted_media import CREATED, GRADER_USAGE, TOTAL_USAGE
from tests.surfaces.calls import MODES, assert_recording_changes_nothing, client_of, items, settled, with_and_without
from tests.surfaces.test_media import FORMS, call, describe, method_of

TOKENS = {"prompt_tokens": 10_000, "completion_tokens": 500, "cached_tokens": 4_000, "reasoning_tokens": 100}


def counts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in TOKENS}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", ["completed", "cancelled", "expired"])
def test_a_batch_that_ended_is_one_record_at_batch_prices(
    server: ScriptedServer, sink: MemorySink, status: str, form: str, mode: str
) -> None:
    batch_id = f"batch_{status}-{server.salt}"

    async def act(client: Any) -> Any:
        return [await call(client, "batches.retrieve", {"batch_id": batch_id}, form) for _ in range(2)]

    def prepare(client: Any) -> None:
        instrument(client, store=sink)
        runs.enter_context(query_run("batches"))

    with contextlib.ExitStack() as runs:
        with_us, without = with_and_without(server, mode, lambda: client_of(server, mode), prepare, act)
    assert without[0] == "returned"
    assert with_us == without
    row = sink.row
    assert (row["query_id"], row["api"], row["response_id"]) == ("batches", "batches", batch_id)
    assert (row["model"], row["service_tier"], row["finish_reason"]) == ("gpt-5-2025-08-07", "batch", status)
    assert (counts(row), row["usage"]) == (TOKENS, TOTAL_USAGE)
    # Half of 1.25, 0.125 and 10 USD per 1,000,000 tokens, as genai-prices 0.2.3 lists them.
    assert row["total_cost"] == pytest.approx((6_000 * 1.25 + 4_000 * 0.125 + 500 * 10) / 2e6)
    assert row["time"].timestamp() == CREATED
    assert row["duration_ms"] is None


@pytest.mark.parametrize("status", ["in_progress", "failed"])
def test_a_batch_without_usage_is_no_record(server: ScriptedServer, sink: MemorySink, status: str) -> None:
    with client_of(server, "sync") as client:
        instrument(client, store=sink).batches.retrieve(f"batch_{status}-{server.salt}")
    assert sink.rows == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_an_eval_run_is_one_record_per_model(server: ScriptedServer, sink: MemorySink, form: str, mode: str) -> None:
    run_id = f"run-{server.salt}"

    async def act(client: Any) -> Any:
        arguments = {"eval_id": "eval_1"}
        await call(client, "evals.runs.retrieve", {**arguments, "run_id": f"queued-{run_id}"}, form)
        return [await call(client, "evals.runs.retrieve", {**arguments, "run_id": run_id}, form) for _ in range(2)]

    assert_recording_changes_nothing(server, sink, mode, act)
    rows = sink.rows
    assert [(row["api"], row["model"], row["response_id"]) for row in rows] == [
        ("evals", "gpt-5", run_id),
        ("evals", "gpt-5-mini", run_id),
    ]
    assert {(row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) for row in rows} == {(300, 10, 20)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "records"), [("score_model", 2), ("python", 0)])
def test_a_grader_is_a_record_for_each_model_that_it_asked(
    server: ScriptedServer, sink: MemorySink, kind: str, records: int, mode: str
) -> None:
    async def act(client: Any) -> Any:
        run = method_of(client, "fine_tuning.alpha.graders.run")
        grader: Any = {"type": kind, "name": "g", "model": "gpt-5", "input": [], "source": "s"}
        return [describe(await settled(run(grader=grader, model_sample="x"))) for _ in range(2)]

    assert_recording_changes_nothing(server, sink, mode, act)
    found = {(row["api"], row["model"], row["prompt_tokens"], str(row["usage"])) for row in sink.rows}
    assert len(sink.rows) == records
    assert found <= {("graders", "gpt-5-2025-08-07", 70, str(GRADER_USAGE))}


@pytest.mark.parametrize("mode", MODES)
def test_turns_of_agent_sessions_are_one_record_each(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    """A turn is seen in the stream, in the list and by its id; the session names the model and the service tier."""
    session_id = f"sess_{server.salt}"

    async def act(client: Any) -> Any:
        method_of(client, "beta.agents.sessions.create")
        sessions = client.beta.agents.sessions
        stream = await settled(sessions.events.stream(session_id))
        observed = [describe(event) for event in await items(stream)]
        observed.append(
            describe(await settled(sessions.turns.retrieve(f"turn_of_{session_id}", session_id=session_id)))
        )
        return [*observed, describe(await settled(sessions.retrieve(session_id)))]

    assert_recording_changes_nothing(server, sink, mode, act)
    row = sink.row
    assert (row["api"], row["response_id"]) == ("agents", f"turn_of_{session_id}")
    assert (row["model"], row["service_tier"]) == ("gpt-6-luna", "flex")
    assert (counts(row), row["duration_ms"]) == (TOKENS, 30_000)
    assert row["request_options"] == {"cache_ttl": "12h"}


@pytest.mark.parametrize("mode", MODES)
def test_a_created_session_streams_its_turn(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    session_id = f"sess_{server.salt}"

    async def act(client: Any) -> Any:
        create = method_of(client, "beta.agents.sessions.create")
        stream = await settled(create(agent={"id": "a"}, environment={"id": session_id}, stream=True))
        return [describe(event) for event in await items(stream)]

    assert_recording_changes_nothing(server, sink, mode, act)
    assert (sink.row["response_id"], sink.row["model"]) == (f"turn_of_{session_id}", "gpt-6-luna")


def test_a_turn_that_failed_is_a_failure(server: ScriptedServer, sink: MemorySink) -> None:
    with client_of(server, "sync") as client:
        method_of(client, "beta.agents.sessions.create")
        turns = instrument(client, store=sink).beta.agents.sessions.turns
        turns.retrieve(f"failed_{server.salt}", session_id="s")
        list(turns.list("s"))
    failed, listed = sink.rows
    assert (failed["success"], failed["error_type"]) == (False, "turn_failed")
    assert (listed["response_id"], listed["success"], listed["model"]) == ("turn_a", True, "unknown")
