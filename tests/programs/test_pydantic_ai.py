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

# Its HTTP client is left to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
in_one_loop = pytest.mark.asyncio(loop_scope="module")  # its client outlives a test, and belongs to one event loop


class Person(pydantic.BaseModel):
    name: str


@pytest.fixture(params=["OpenAIChatModel", "OpenAIResponsesModel"])
def make(request: pytest.FixtureRequest, recorder: Recorder) -> Any:
    """Make an agent for one of the two APIs."""

    def agent(**more: Any) -> Any:
        return pydantic_ai.Agent(getattr(models, request.param)("gpt-4.1"), system_prompt=SYSTEM, **more)

    return agent


async def ask(agent: Any, streamed: bool) -> Any:
    """Run an agent to its end and return its output and usage."""
    if not streamed:
        result = await agent.run("What is it?")
        return result.output, result.usage
    async with agent.run_stream("What is it?") as stream:
        return await stream.get_output(), stream.usage


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_call_of_an_agent_is_one_record_with_the_numbers_it_shows(
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
    # 1,504 tokens of instructions and 7 of the question (4 for its role, 11 characters); 1,408 are whole steps of 128.
    assert [(row["prompt_tokens"], row["cached_tokens"]) for row in rows] == [(1511, 0), (1511, 1408)]
    assert (usage.requests, usage.input_tokens, usage.cache_read_tokens) == (1, 1511, 1408)


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_and_the_answer_after_it_are_a_record_each(recorder: Recorder, make: Any, streamed: bool) -> None:
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
    assert output == Person(name="text")  # the simulator's word for any text
    recorder.check(calls=1)


def test_an_agent_run_from_a_program_without_asyncio_is_recorded(recorder: Recorder, make: Any) -> None:
    recorder.endpoint.script(Reply(text="yes"))
    with query_run("q"):
        assert make().run_sync("Is it?").output == "yes"
    assert [row["query_id"] for row in recorder.check(calls=1)] == ["q"]


@in_one_loop
async def test_a_stream_that_is_left_early_is_one_record(recorder: Recorder, make: Any) -> None:
    recorder.endpoint.script(Reply(text="word " * 200))
    async with make().run_stream("What is it?") as stream:
        async for _text in stream.stream_text(delta=True, debounce_by=None):
            break
    (row,) = recorder.rows()
    assert (row["success"], row["cached_tokens"]) == (True, None)
    assert row["metadata"]["usage"] == "unknown"


@in_one_loop
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_is_one_failed_record_and_pydantic_ais_own_for_the_program(
    recorder: Recorder, make: Any, streamed: bool
) -> None:
    recorder.endpoint.script(Reply(status=400, error="not like this"))
    with pytest.raises(pydantic_ai.exceptions.ModelHTTPError, match="not like this"):
        await ask(make(), streamed)
    assert [(row["success"], row["error_type"]) for row in recorder.rows()] == [(False, "BadRequestError")]


@in_one_loop
async def test_what_the_program_sees_in_a_stream_is_as_without_us(recorder: Recorder, make: Any) -> None:
    async def texts() -> list[str]:
        recorder.endpoint.script(Reply(text="one two three four", cold=True))
        async with make().run_stream("What is it?") as stream:
            return [text async for text in stream.stream_text(delta=True, debounce_by=None)]

    with_us = await texts()
    recorder.check(calls=1)
    uninstrument()
    assert await texts() == with_us
    assert "".join(with_us) == "one two three four"
