"""Unmodified ``instructor``: it retries until the response validates, and each attempt is a billed call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import query_run
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import SYSTEM, Recorder

instructor = pytest.importorskip("instructor", reason="the package instructor is not installed")
core = pytest.importorskip("instructor.core")
pydantic = pytest.importorskip("pydantic")

MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Who?"}]
WRONG, RIGHT = '{"name": "Ann", "age": -1}', '{"name": "Ann", "age": 31}'


class Person(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)


@pytest.fixture
def openai_client(recorder: Recorder) -> Iterator[OpenAI]:
    with OpenAI(max_retries=0) as made:
        yield made


def test_a_response_that_validates_at_once_is_one_record(recorder: Recorder, openai_client: OpenAI) -> None:
    client = instructor.from_openai(openai_client)  # instructor requests a tool call
    answer, completion = client.chat.completions.create_with_completion(
        model="gpt-4.1", messages=MESSAGES, response_model=Person
    )
    (row,) = recorder.check(calls=1)
    assert isinstance(answer, Person)
    assert row["tool_call_count"] == 1
    assert row["prompt_tokens"] == completion.usage.prompt_tokens


def test_each_attempt_of_a_retried_response_is_a_record(recorder: Recorder, openai_client: OpenAI) -> None:
    recorder.endpoint.script(Reply(text=WRONG), Reply(text="no JSON at all"), Reply(text=RIGHT))
    client = instructor.from_openai(openai_client, mode=instructor.Mode.JSON)
    with query_run("q") as run:
        run.iteration = 1
        answer, completion = client.chat.completions.create_with_completion(
            model="gpt-4.1", messages=MESSAGES, response_model=Person, max_retries=3
        )
    rows = recorder.check(calls=3)
    assert answer.model_dump() == {"name": "Ann", "age": 31}
    assert [(row["iteration"], row["success"]) for row in rows] == [(1, True)] * 3
    assert [row["context_messages"] for row in rows] == sorted(
        {row["context_messages"] for row in rows}
    )  # each retry appends to the conversation
    assert rows[0]["cached_tokens"] == 0 < rows[1]["cached_tokens"] <= rows[2]["cached_tokens"]
    # instructor adds up the usage of its attempts, so it equals the sum of the records.
    assert completion.usage.prompt_tokens == sum(row["prompt_tokens"] for row in rows)
    assert completion.usage.completion_tokens == sum(row["completion_tokens"] for row in rows)


def test_a_response_that_never_validates_has_a_record_per_attempt_and_raises(
    recorder: Recorder, openai_client: OpenAI
) -> None:
    recorder.endpoint.script(*[Reply(text=WRONG)] * 3)
    client = instructor.from_openai(openai_client, mode=instructor.Mode.JSON)
    with pytest.raises(core.InstructorRetryException):
        client.chat.completions.create(model="gpt-4.1", messages=MESSAGES, response_model=Person, max_retries=2)
    assert [row["success"] for row in recorder.check(calls=3)] == [True] * 3  # the calls themselves succeeded


async def test_async_calls_have_one_record_per_attempt(recorder: Recorder) -> None:
    recorder.endpoint.script(Reply(text=WRONG), Reply(text=RIGHT))
    async with AsyncOpenAI(max_retries=0) as made, query_run("q"):
        client = instructor.from_openai(made, mode=instructor.Mode.JSON)
        answer = await client.chat.completions.create(
            model="gpt-4.1", messages=MESSAGES, response_model=Person, max_retries=2
        )
    assert answer.age == 31
    assert [row["query_id"] for row in recorder.check(calls=2)] == ["q", "q"]


def test_a_streamed_partial_response_is_one_record(recorder: Recorder, openai_client: OpenAI) -> None:
    recorder.endpoint.script(Reply(text=RIGHT))
    client = instructor.from_openai(openai_client, mode=instructor.Mode.JSON)
    parts = list(client.chat.completions.create_partial(model="gpt-4.1", messages=MESSAGES, response_model=Person))
    (row,) = recorder.check(calls=1)
    assert (parts[-1].name, parts[-1].age) == ("Ann", 31)
    assert row["metadata"]["stream"] is True


def test_the_responses_api_is_recorded(recorder: Recorder, openai_client: OpenAI) -> None:
    client = instructor.from_openai(openai_client, mode=instructor.Mode.RESPONSES_TOOLS)
    answer = client.responses.create(model="gpt-4.1", input=MESSAGES, response_model=Person)
    assert isinstance(answer, Person)
    assert [row["api"] for row in recorder.check(calls=1)] == ["responses"]


def test_a_server_error_is_one_failed_record(recorder: Recorder, openai_client: OpenAI) -> None:
    recorder.endpoint.script(Reply(status=400, error="not like this"))
    client = instructor.from_openai(openai_client)
    with pytest.raises(Exception, match="not like this"):
        client.chat.completions.create(model="gpt-4.1", messages=MESSAGES, response_model=Person, max_retries=1)
    assert [(row["success"], row["error_type"]) for row in recorder.rows()] == [(False, "BadRequestError")]
