"""Unmodified ``langchain-openai``, which requests raw responses and parses them itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rlm_cachetrack import query_run
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import SYSTEM, Recorder

langchain_openai = pytest.importorskip("langchain_openai", reason="the package langchain-openai is not installed")
pydantic = pytest.importorskip("pydantic")

# LangChain does not close its HTTP clients.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
in_one_loop = pytest.mark.asyncio(loop_scope="module")  # its client is cached across tests and bound to one event loop

MESSAGES = [("system", SYSTEM), ("user", "What is it?")]
# 1,504 tokens of system message and 7 of user message (4 for the role, 11 characters); 1,408 of 1,511 are cached.
PROMPT, CACHED = 1511, 1408


@pytest.fixture
def model(recorder: Recorder) -> Any:
    return langchain_openai.ChatOpenAI(model="gpt-4.1", max_retries=0)


@pytest.fixture
def responses(recorder: Recorder) -> Any:
    return langchain_openai.ChatOpenAI(model="gpt-4.1", max_retries=0, use_responses_api=True)


def cache_read(message: Any) -> tuple[int, int]:
    """Return the input tokens and cached input tokens that LangChain reports to the program."""
    usage = message.usage_metadata
    return usage["input_tokens"], usage["input_token_details"]["cache_read"]


def test_a_chat_call_is_one_record_with_the_numbers_that_langchain_reports(recorder: Recorder, model: Any) -> None:
    with query_run("q") as run:
        answers = [model.invoke(MESSAGES) for _ in run.iterations(range(2))]
    rows = recorder.check(calls=2)
    assert [cache_read(answer) for answer in answers] == [(PROMPT, 0), (PROMPT, CACHED)]
    assert [(row["prompt_tokens"], row["cached_tokens"]) for row in rows] == [(PROMPT, 0), (PROMPT, CACHED)]
    assert [(row["query_id"], row["iteration"]) for row in rows] == [("q", 1), ("q", 2)]
    assert [row["response_length"] for row in rows] == [len(answer.content) for answer in answers]


@pytest.mark.parametrize("usage", [True, False, None])
def test_a_streamed_chat_call_is_one_record_with_and_without_requested_usage(
    recorder: Recorder, usage: bool | None
) -> None:
    recorder.endpoint.script(Reply(text="one two three four five"))
    model = langchain_openai.ChatOpenAI(model="gpt-4.1", max_retries=0, stream_usage=usage)
    chunks = list(model.stream(MESSAGES))
    (row,) = recorder.check(calls=1)
    assert "".join(chunk.content for chunk in chunks) == "one two three four five"
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert len(usages) == (1 if usage else 0)  # with a custom base_url, LangChain requests usage only if this is set
    assert row["response_length"] == len("one two three four five")
    assert row["time_to_first_token_ms"] > 0


@in_one_loop
async def test_async_calls_and_streams_are_one_record_each(recorder: Recorder, model: Any) -> None:
    recorder.endpoint.script(Reply(text="plain"), Reply(text="in a stream"))
    async with query_run("q"):
        answer = await model.ainvoke(MESSAGES)
        chunks = [chunk.content async for chunk in model.astream(MESSAGES)]
    rows = recorder.check(calls=2)
    assert (answer.content, "".join(chunks)) == ("plain", "in a stream")
    assert [row["cached_tokens"] for row in rows] == [0, CACHED]
    assert {row["query_id"] for row in rows} == {"q"}


def test_a_batch_belongs_to_the_run_and_iteration_that_started_it(recorder: Recorder, model: Any) -> None:
    with query_run("q") as run:
        for _ in run.iterations(range(2)):
            model.batch([MESSAGES] * 3)
    assert [row["iteration"] for row in recorder.check(calls=6)] == [1, 1, 1, 2, 2, 2]


def test_tool_calls_are_counted_plain_and_streamed(recorder: Recorder, model: Any) -> None:
    def look_up(name: str) -> str:
        """Look something up."""
        return name

    recorder.endpoint.script(*[Reply(tool_calls=("look_up", "look_up"))] * 2)
    bound = model.bind_tools([look_up])
    plain = bound.invoke(MESSAGES)
    chunks = list(bound.stream(MESSAGES))
    assert [call["name"] for call in plain.tool_calls] == ["look_up"] * 2
    assert len([part for chunk in chunks for part in chunk.tool_call_chunks if part["name"]]) == 2
    assert [row["tool_call_count"] for row in recorder.check(calls=2)] == [2, 2]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_one_record(recorder: Recorder, model: Any, method: str) -> None:
    class Person(pydantic.BaseModel):
        """A person."""

        name: str

    answer = model.with_structured_output(Person, method=method).invoke(MESSAGES)
    assert answer == Person(name="text")  # the text that the simulator generates for any string
    recorder.check(calls=1)


def test_responses_plain_and_streamed_are_one_record_each(recorder: Recorder, responses: Any) -> None:
    recorder.endpoint.script(Reply(text="plain"), Reply(text="in a stream"))
    answer = responses.invoke(MESSAGES)
    chunks = list(responses.stream(MESSAGES))
    rows = recorder.check(calls=2)
    assert (answer.text, "".join(chunk.text for chunk in chunks)) == ("plain", "in a stream")
    assert cache_read(answer) == (PROMPT, 0)
    assert [row["cached_tokens"] for row in rows] == [0, CACHED]


@in_one_loop
async def test_async_responses_plain_and_streamed_are_one_record_each(recorder: Recorder, responses: Any) -> None:
    recorder.endpoint.script(Reply(text="plain"), Reply(text="in a stream"))
    answer = await responses.ainvoke(MESSAGES)
    chunks = [chunk async for chunk in responses.astream(MESSAGES)]
    assert (answer.text, "".join(chunk.text for chunk in chunks)) == ("plain", "in a stream")
    assert [row["cached_tokens"] for row in recorder.check(calls=2)] == [0, CACHED]


@in_one_loop
async def test_embeddings_are_recorded_without_a_cache(recorder: Recorder) -> None:
    # Avoids the download of a tokenizer: the texts are sent unchanged, as to any endpoint other than OpenAI's.
    made = langchain_openai.OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
    assert len(made.embed_documents(["x" * 40, "y" * 4])) == 2
    assert len(await made.aembed_query("x" * 12)) == 1536
    rows = recorder.rows()
    assert [(row["api"], row["prompt_tokens"], row["cached_tokens"], row["success"]) for row in rows] == [
        ("embeddings", 11, None, True),  # one token per 4 characters
        ("embeddings", 3, None, True),
    ]
    assert [row["request_id"] for row in rows] == [request.request_id for request in recorder.endpoint.requests]


def test_the_program_gets_the_same_results_as_without_recording(recorder: Recorder, model: Any, responses: Any) -> None:
    def everything() -> Iterator[dict[str, Any]]:
        recorder.endpoint.script(*[Reply(text="one two three four", cold=True)] * 4)
        for made in (model, responses):
            for message in (made.invoke(MESSAGES), *made.stream(MESSAGES)):
                shown = message.model_dump(exclude={"id", "response_metadata"})
                yield {**shown, "content": made is model and message.content, "text": str(message.text)}

    from rlm_cachetrack import uninstrument

    with_us = list(everything())
    recorder.check(calls=4)
    uninstrument()
    assert list(everything()) == with_us


@pytest.mark.parametrize("kind", ["model", "responses"])
def test_an_error_is_one_failed_record_and_reaches_the_program(
    recorder: Recorder, kind: str, request: pytest.FixtureRequest
) -> None:
    import openai

    recorder.endpoint.script(Reply(status=400, error="not like this"))
    with query_run("q"), pytest.raises(openai.BadRequestError, match="not like this"):
        request.getfixturevalue(kind).invoke(MESSAGES)
    (row,) = recorder.rows()
    assert (row["success"], row["error_type"], row["error_message"]) == (False, "BadRequestError", "not like this")


def test_retries_are_one_record_with_their_count(recorder: Recorder) -> None:
    recorder.endpoint.script(Reply(status=429, error="slow down", retry_after_s=0.01), Reply(text="at last"))
    model = langchain_openai.ChatOpenAI(model="gpt-4.1", max_retries=2)
    assert model.invoke(MESSAGES).content == "at last"
    (row,) = recorder.rows()
    assert row["metadata"]["attempts"] == len(recorder.endpoint.requests) == 2
    assert (row["success"], row["prompt_tokens"]) == (True, PROMPT)
