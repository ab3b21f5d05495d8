"""Unmodified ``openai-agents``: plain and streamed calls, tools, and handoffs to other agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rlm_cachetrack import query_run, uninstrument
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import SYSTEM, Recorder

agents = pytest.importorskip("agents", reason="the package openai-agents is not installed")

# openai-agents does not close its client.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
in_one_loop = pytest.mark.asyncio(loop_scope="module")  # its client is cached across tests and bound to one event loop

MODELS = ["responses", "chat_completions"]


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest, recorder: Recorder) -> Iterator[Any]:
    """Return a function that creates an agent, which uses Responses or chat completions."""
    agents.set_tracing_disabled(True)  # otherwise the package sends traces to api.openai.com
    agents.set_default_openai_api(request.param)

    def agent(name: str = "Agent", **more: Any) -> Any:
        return agents.Agent(name=name, instructions=SYSTEM, model="gpt-4.1", **more)

    yield agent
    agents.set_default_openai_api("responses")
    agents.set_tracing_disabled(False)


@agents.function_tool
def look_up(name: str) -> str:
    """Look something up."""
    return f"found {name}"


async def run(agent: Any, streamed: bool) -> Any:
    """Run an agent to its end, streamed or not."""
    if not streamed:
        return await agents.Runner.run(agent, "What is it?")
    result = agents.Runner.run_streamed(agent, "What is it?")
    async for _event in result.stream_events():
        pass
    return result


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_call_of_an_agent_is_one_record(recorder: Recorder, make: Any, streamed: bool) -> None:
    recorder.endpoint.script(Reply(text="the answer"), Reply(text="the answer"))
    async with query_run("q") as whole:
        for _ in whole.iterations(range(2)):
            result = await run(make(), streamed)
            assert result.final_output == "the answer"
    rows = recorder.check(calls=2)
    assert [(row["query_id"], row["iteration"], row["success"]) for row in rows] == [("q", 1, True), ("q", 2, True)]
    # 1,504 tokens of instructions and 7 of the question (4 for the role, 11 characters); 1,408 (11 x 128) are cached.
    assert [(row["prompt_tokens"], row["cached_tokens"]) for row in rows] == [(1511, 0), (1511, 1408)]
    usage = result.context_wrapper.usage
    # openai-agents does not request the usage of a chat stream. We do, and hide it from the program.
    shown = (0, 0) if streamed and rows[1]["api"] == "chat.completions" else (1511, 1408)
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens) == shown


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_call_and_the_following_response_are_two_records(
    recorder: Recorder, make: Any, streamed: bool
) -> None:
    recorder.endpoint.script(Reply(tool_calls=("look_up", "look_up")), Reply(text="done"))
    result = await run(make(tools=[look_up]), streamed)
    rows = recorder.check(calls=2)
    assert result.final_output == "done"
    assert [item.output for item in result.new_items if item.type == "tool_call_output_item"] == ["found text"] * 2
    assert [(row["tool_call_count"], row["has_tool_calls"]) for row in rows] == [(2, True), (0, False)]


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_handoff_is_one_more_record_in_the_same_run(recorder: Recorder, make: Any, streamed: bool) -> None:
    recorder.endpoint.script(Reply(tool_calls=("transfer_to_writer",)), Reply(text="from the writer"))
    async with query_run("q"):
        result = await run(make("Clerk", handoffs=[make("Writer")]), streamed)
    rows = recorder.check(calls=2)
    assert (result.final_output, result.last_agent.name) == ("from the writer", "Writer")
    assert {row["query_id"] for row in rows} == {"q"}
    assert [row["tool_call_count"] for row in rows] == [1, 0]


def test_an_agent_in_a_synchronous_program_is_recorded(recorder: Recorder, make: Any) -> None:
    recorder.endpoint.script(Reply(text="yes"))
    with query_run("q"):
        assert agents.Runner.run_sync(make(), "Is it?").final_output == "yes"
    assert [row["query_id"] for row in recorder.check(calls=1)] == ["q"]


@in_one_loop
async def test_a_tool_that_calls_a_model_is_in_the_same_run(recorder: Recorder, make: Any) -> None:
    recorder.endpoint.script(Reply(tool_calls=("ask",)), Reply(text="inner"), Reply(text="outer"))
    inner = make("Inner").as_tool(tool_name="ask", tool_description="Asks.")
    async with query_run("q") as whole:
        whole.iteration = 3
        assert (await run(make(tools=[inner]), False)).final_output == "outer"
    assert [(row["query_id"], row["iteration"]) for row in recorder.check(calls=3)] == [("q", 3)] * 3


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_is_one_failed_record_and_reaches_the_program(
    recorder: Recorder, make: Any, streamed: bool
) -> None:
    import openai

    recorder.endpoint.script(Reply(status=400, error="not like this"))
    with pytest.raises(openai.BadRequestError, match="not like this"):
        await run(make(), streamed)
    (row,) = recorder.rows()
    assert (row["success"], row["error_type"]) == (False, "BadRequestError")


@in_one_loop
async def test_the_program_receives_the_same_events_as_without_recording(recorder: Recorder, make: Any) -> None:
    async def events() -> list[Any]:
        recorder.endpoint.script(Reply(text="one two three four", cold=True))
        result = agents.Runner.run_streamed(make(), "What is it?")
        return [
            (event.type, getattr(getattr(event, "data", None), "type", None), getattr(event.data, "delta", None))
            if event.type == "raw_response_event"
            else (event.type, getattr(event, "name", None), None)
            async for event in result.stream_events()
        ]

    with_us = await events()
    recorder.check(calls=1)
    uninstrument()
    assert await events() == with_us
    assert len(with_us) > 5
