"""Unmodified ``pydantic-ai``: chat completions and Responses, plain and streamed."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_cachetrack import query_run, uninstrument
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import SYSTEM, Recorder

pydantic_ai = pytest.importorskip("pydantic_ai", reason="the package pydantic-ai-slim is not installed")
models = pytest.importorskip("pydantic_ai.models.openai", reason="pydantic-ai-slim[openai] is not installed")
pydantic = pytest.importorskip("pydantic")

# pydantic-ai does not close its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
in_one_loop = pytest.mark.asyncio(loop_scope="module")  # its client is cached across tests and bound to one event loop


class Person(pydantic.BaseModel):
    name: str


@pytest.fixture(params=["OpenAIChatModel", "OpenAIResponsesModel"])
def make(request: pytest.FixtureRequest, recorder: Recorder) -> Any:
    """Return a function that creates an agent, which uses Responses or chat completions."""

    def agent(**more: Any) -> Any:
        return pydantic_ai.Agent(getattr(models, request.param)("gpt-4.1"), system_prompt=SYSTEM, **more)

    return agent


async def ask(agent: Any, streamed: bool) -> Any:
    """Run an agent to its end. Returns its output and the usage that it reports."""
    if not streamed:
        result = await agent.run("What is it?")
        return result.output, result.usage
    async with agent.run_stream("What is it?") as stream:
        return await stream.get_output(), stream.usage


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_call_of_an_agent_is_one_record_with_the_numbers_it_reports(
    recorder: Recorder, make: Any, streamed: bool
) -> None:
    recorder.endpoint.script(Reply(text="the answer"), Reply(text="the answer"))
    agent: Any = make()
    usage: Any = None
    async with query_run("q") as whole:
        for _ in whole.iterations(range(2)):
            output, usage = await ask(agent, streamed)
            assert output == "the answer"
    rows = recorder.check(calls=2)
    assert [(row["query_id"], row["iteration"]) for row in rows] == [("q", 1), ("q", 2)]
    # 1,504 tokens of instructions and 7 of the question (4 for the role, 11 characters); 1,408 (11 x 128) are cached.
    assert [(row["prompt_tokens"], row["cached_tokens"]) for row in rows] == [(1511, 0), (1511, 1408)]
    assert (usage.requests, usage.input_tokens, usage.cache_read_tokens) == (1, 1511, 1408)


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_call_and_the_following_response_are_two_records(
    recorder: Recorder, make: Any, streamed: bool
) -> None:
    recorder.endpoint.script(Reply(tool_calls=("look_up", "look_up")), Reply(text="done"))
    agent, asked = make(), []

    @agent.tool_plain
    def look_up(name: str) -> str:
        """Look something up."""
        asked.append(name)
        return "found"

    async with query_run("q"):
        output, _ = await ask(agent, streamed)
    rows = recorder.check(calls=2)
    assert (output, asked) == ("done", ["text", "text"])
    assert [(row["query_id"], row["tool_call_count"]) for row in rows] == [("q", 2), ("q", 0)]


@in_one_loop
async def test_structured_output_is_one_record(recorder: Recorder, make: Any) -> None:
    output, _ = await ask(make(output_type=Person), streamed=False)
    assert output == Person(name="text")  # the text that the simulator generates for any string
    recorder.check(calls=1)


def test_an_agent_in_a_synchronous_program_is_recorded(recorder: Recorder, make: Any) -> None:
    recorder.endpoint.script(Reply(text="yes"))
    with query_run("q"):
        assert make().run_sync("Is it?").output == "yes"
    assert [row["query_id"] for row in recorder.check(calls=1)] == ["q"]


@in_one_loop
async def test_a_stream_that_ends_early_is_one_record(recorder: Recorder, make: Any) -> None:
    recorder.endpoint.script(Reply(text="word " * 200))
    async with make().run_stream("What is it?") as stream:
        async for _text in stream.stream_text(delta=True, debounce_by=None):
            break
    (row,) = recorder.rows()
    assert (row["success"], row["cached_tokens"]) == (True, None)
    assert row["metadata"]["usage"] == "unknown"


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_is_one_failed_record_and_raises_pydantic_ais_exception(
    recorder: Recorder, make: Any, streamed: bool
) -> None:
    recorder.endpoint.script(Reply(status=400, error="not like this"))
    with pytest.raises(pydantic_ai.exceptions.ModelHTTPError, match="not like this"):
        await ask(make(), streamed)
    assert [(row["success"], row["error_type"]) for row in recorder.rows()] == [(False, "BadRequestError")]


@in_one_loop
async def test_the_program_receives_the_same_stream_as_without_recording(recorder: Recorder, make: Any) -> None:
    async def texts() -> list[str]:
        recorder.endpoint.script(Reply(text="one two three four", cold=True))
        async with make().run_stream("What is it?") as stream:
            return [text async for text in stream.stream_text(delta=True, debounce_by=None)]

    with_us = await texts()
    recorder.check(calls=1)
    uninstrument()
    assert await texts() == with_us
    assert "".join(with_us) == "one two three four"
