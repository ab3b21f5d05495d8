"""Calls through the real SDK over real HTTP, read back from a real PostgreSQL."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import psycopg
import pytest
import respx
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run, shutdown, stats, uninstrument
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.simulator import Reply, SimulatedEndpoint
from tests.integration.pipeline.test_writer import in_time

SECRET = "the quick brown prompt that nobody may read"
MESSAGES: list[Any] = [
    {"role": "system", "content": "You are brief. " * 400},
    {"role": "user", "content": SECRET},
]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


@pytest.fixture
def client(endpoint: SimulatedEndpoint, db_url: str) -> Iterator[OpenAI]:
    """Return an instrumented client of the simulated endpoint."""
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test-0123456789", max_retries=0) as made:
        yield instrument(made, store=db_url)


def rows(db_url: str, run: Any) -> list[dict[str, Any]]:
    with TimescaleDBClient(db_url) as db:
        return db.get_llm_interactions(run.query_id, run.run_id)


def one(db_url: str, run: Any) -> dict[str, Any]:
    (row,) = rows(db_url, run)
    return row


def test_a_plain_chat_call_is_recorded_with_usage_timing_and_identity(
    client: OpenAI, db_url: str, endpoint: SimulatedEndpoint
) -> None:
    with query_run("q") as run:
        answer = client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    row = one(db_url, run)
    assert answer.usage is not None
    assert row["prompt_tokens"] == answer.usage.prompt_tokens
    assert row["completion_tokens"] == answer.usage.completion_tokens
    assert row["total_tokens"] == answer.usage.total_tokens
    assert row["cached_tokens"] == 0
    assert row["uncached_prompt_tokens"] == answer.usage.prompt_tokens
    assert row["model"] == answer.model == "gpt-5-2025-08-07"
    host = endpoint.base_url.removeprefix("http://").removesuffix("/v1")
    assert (row["provider"], row["metadata"]) == ("unknown", {"requested_model": "gpt-5", "host": host})
    assert row["finish_reason"] == answer.choices[0].finish_reason
    assert row["request_id"] == answer._request_id
    assert row["api"] == "chat.completions"
    assert row["context_messages"] == 2
    assert row["response_length"] == len(answer.choices[0].message.content or "")
    assert (row["success"], row["error_type"], row["error_message"]) == (True, None, None)
    assert (row["has_tool_calls"], row["tool_call_count"]) == (False, 0)
    assert row["duration_ms"] > 0
    assert row["time_to_first_token_ms"] is None
    assert row["usage"] == answer.usage.to_dict()
    elapsed_ms = (row["end_time"] - row["start_time"]).total_seconds() * 1000
    assert elapsed_ms == pytest.approx(row["duration_ms"], abs=0.01)
    assert row["time"] == row["start_time"]


def test_the_second_identical_call_is_read_from_the_cache_and_costs_less(client: OpenAI, db_url: str) -> None:
    with query_run("q") as run:
        for _ in run.iterations(range(2)):
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    first, second = rows(db_url, run)
    prompt = first["prompt_tokens"]
    cached = prompt // 128 * 128  # OpenAI's cache reads whole steps of 128 tokens
    assert (first["cached_tokens"], second["cached_tokens"]) == (0, cached)
    # gpt-5: 1.25 USD, 0.125 USD cached, 10 USD output per million tokens
    output = second["completion_tokens"] * 10e-6
    assert second["total_cost"] == pytest.approx((prompt - cached) * 1.25e-6 + cached * 0.125e-6 + output, abs=1e-12)
    assert second["original_cost"] == pytest.approx(prompt * 1.25e-6 + output, abs=1e-12)
    summary = run.summary()
    assert summary is not None
    assert summary["cache_hit_rate"] == pytest.approx(cached / (2 * prompt))


def test_a_responses_call_is_recorded(client: OpenAI, db_url: str) -> None:
    with query_run("q") as run:
        answer = client.responses.create(model="gpt-5", instructions="Be brief. " * 500, input=SECRET)
    row = one(db_url, run)
    assert answer.usage is not None
    assert row["prompt_tokens"] == answer.usage.input_tokens
    assert row["completion_tokens"] == answer.usage.output_tokens
    assert row["cached_tokens"] == answer.usage.to_dict()["input_tokens_details"]["cached_tokens"]  # type: ignore[index]
    assert row["reasoning_tokens"] == answer.usage.output_tokens_details.reasoning_tokens
    assert (row["api"], row["finish_reason"], row["model"]) == ("responses", "completed", answer.model)
    assert row["response_length"] == len(answer.output_text)


def test_tool_calls_are_counted_plain_and_streamed(client: OpenAI, db_url: str) -> None:
    with query_run("q") as run:
        for stream in (False, True):
            answer: Any = client.chat.completions.create(
                model="gpt-5", messages=MESSAGES, tools=TOOLS, tool_choice="required", stream=stream
            )
            if stream:
                list(answer)
    for row in rows(db_url, run):
        assert (row["has_tool_calls"], row["tool_call_count"]) == (True, 1)
        assert row["finish_reason"] == "tool_calls"


def normalised(chunk: Any) -> str:
    """Return a chunk as the server sent it, without the fields that differ between two calls (id, time, reasoning)."""
    data = {**chunk.to_dict(), "id": "", "created": 0}
    if data.get("usage"):
        data["usage"] = sorted(data["usage"])
    return json.dumps(data)


@pytest.mark.parametrize("options", [None, {"include_usage": True}, {"include_usage": False}])
def test_a_stream_gives_the_caller_the_same_as_without_recording(
    endpoint: SimulatedEndpoint, db_url: str, options: Any
) -> None:
    arguments: dict[str, Any] = {"model": "gpt-5", "messages": MESSAGES, "stream": True}
    if options is not None:
        arguments["stream_options"] = options
    with OpenAI(base_url=endpoint.base_url, api_key="x") as client:
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # warm the cache
        endpoint.script(Reply(text="one two three four"), Reply(text="one two three four"))
        before = client.chat.completions.create(**arguments)
        without_us = [normalised(chunk) for chunk in before]
        instrument(client, store=db_url)
        with query_run("q") as run:
            after = client.chat.completions.create(**arguments)
            with_us = [normalised(chunk) for chunk in after]
    assert type(after) is type(before)
    assert with_us == without_us
    row = one(db_url, run)
    assert row["prompt_tokens"] == endpoint.requests[-1].prompt_tokens
    assert row["cached_tokens"] == endpoint.requests[-1].cached_tokens > 0
    assert row["completion_tokens"] == endpoint.requests[-1].completion_tokens
    assert 0 < row["time_to_first_token_ms"] <= row["duration_ms"]
    assert row["response_length"] == len("one two three four")


def test_requesting_usage_of_streams_can_be_disabled(endpoint: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="x") as client, query_run_into(db_url) as run:
        instrument(client, store=db_url, stream_usage=False)
        list(client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True))
    row = one(db_url, run)
    assert endpoint.requests[-1].include_usage is False
    assert (row["prompt_tokens"], row["cached_tokens"], row["total_cost"]) == (None, None, None)
    assert row["metadata"]["usage"] == "unknown"


def query_run_into(db_url: str) -> Any:
    """A run in a store that is chosen before any client is instrumented."""
    TimescaleDBClient(db_url)
    return query_run("q")


def test_a_server_that_rejects_stream_options_still_responds(client: OpenAI, db_url: str, endpoint: Any) -> None:
    endpoint.script(Reply(status=400, error="Unrecognized request argument supplied: stream_options"))
    with query_run("q") as run:
        for _ in range(2):
            assert list(client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True))
    assert [request.status for request in endpoint.requests] == [400, 200, 200]
    assert [request.include_usage for request in endpoint.requests[1:]] == [
        False,
        False,
    ]  # the library remembers the host
    assert [row["success"] for row in rows(db_url, run)] == [True, True]


async def test_async_calls_are_recorded_like_sync_ones(endpoint: SimulatedEndpoint, db_url: str) -> None:
    async with AsyncOpenAI(base_url=endpoint.base_url, api_key="x") as client, query_run_into(db_url) as run:
        instrument(client, store=db_url)
        await client.chat.completions.create(model="gpt-5", messages=MESSAGES)
        stream = await client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True)
        assert all([chunk.choices async for chunk in stream])
        answer = await client.responses.create(model="gpt-5", input=SECRET)
        events = await client.responses.create(model="gpt-5", input=SECRET, stream=True)
        assert [event.type async for event in events][-1] == "response.completed"
    recorded = rows(db_url, run)
    assert [row["prompt_tokens"] for row in recorded] == [request.prompt_tokens for request in endpoint.requests]
    assert [row["cached_tokens"] for row in recorded] == [request.cached_tokens for request in endpoint.requests]
    assert [row["time_to_first_token_ms"] is None for row in recorded] == [True, False, True, False]
    assert recorded[2]["response_length"] == len(answer.output_text)


def test_the_streaming_helpers_work_and_are_recorded(client: OpenAI, db_url: str) -> None:
    with query_run("q") as run:
        chat_completions = (
            client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions
        )
        with chat_completions.stream(model="gpt-5", messages=MESSAGES) as stream:
            chat = stream.get_final_completion()
        with client.responses.stream(model="gpt-5", input=SECRET) as events:
            response = events.get_final_response()
    first, second = rows(db_url, run)
    assert first["response_length"] == len(chat.choices[0].message.content or "")
    assert chat.usage is None  # the caller did not ask for it
    assert second["completion_tokens"] == response.usage.output_tokens  # type: ignore[union-attr]
    assert first["prompt_tokens"] > 0


def test_a_stream_closed_early_is_one_record(client: OpenAI, db_url: str) -> None:
    with query_run("q") as run:
        with client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True) as stream:
            next(stream)
        stream.close()
    row = one(db_url, run)
    assert row["success"] is True
    assert row["metadata"]["ended"] == "closed_early"
    assert row["metadata"]["usage"] == "unknown"
    assert row["prompt_tokens"] is None


def test_a_stream_that_is_dropped_is_one_record(client: OpenAI, db_url: str) -> None:
    with query_run("q") as run:
        stream = client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True)
        stream.response.close()
        del stream
        gc.collect()
    row = one(db_url, run)
    assert row["prompt_tokens"] is None
    assert row["metadata"]["ended"] in ("closed_early", "abandoned")


def test_a_stream_that_breaks_is_a_failure_with_the_error_the_caller_got(
    client: OpenAI, db_url: str, endpoint: SimulatedEndpoint
) -> None:
    endpoint.script(Reply(error_after=2, error="boom in the middle"))
    with query_run("q") as run, pytest.raises(openai.APIError, match="boom in the middle"):
        list(client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True))
    row = one(db_url, run)
    assert (row["success"], row["error_type"]) == (False, "APIError")
    assert "boom in the middle" in row["error_message"]


def test_an_error_reaches_the_caller_unchanged_and_is_recorded(
    client: OpenAI, db_url: str, endpoint: SimulatedEndpoint
) -> None:
    endpoint.script(Reply(status=400, error="no such thing; key sk-abcdefghij0123456789 refused", param="messages"))
    with query_run("q") as run, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert caught.value.__context__ is None or not isinstance(caught.value.__context__, ConfigError)
    row = one(db_url, run)
    assert (row["success"], row["error_type"], row["model"]) == (False, "BadRequestError", "gpt-5")
    assert row["error_message"].startswith("no such thing; key *** refused")
    assert row["metadata"]["status_code"] == 400
    assert row["request_id"] == endpoint.requests[-1].request_id
    assert (row["prompt_tokens"], row["cached_tokens"], row["total_cost"]) == (None, None, None)


def test_a_response_with_status_200_and_an_error_is_a_failure(
    client: OpenAI, db_url: str, endpoint: SimulatedEndpoint
) -> None:
    endpoint.script(Reply(status=200, error="overloaded"))
    with query_run("q") as run:
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    row = one(db_url, run)
    assert (row["success"], row["error_message"]) == (False, "overloaded")


def test_retries_of_the_sdk_are_one_record(endpoint: SimulatedEndpoint, db_url: str) -> None:
    endpoint.script(Reply(status=500, error="once"), Reply(status=429, error="twice", retry_after_s=0.01))
    with OpenAI(base_url=endpoint.base_url, api_key="x", max_retries=3) as client, query_run_into(db_url) as run:
        instrument(client, store=db_url)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert len(endpoint.requests) == 3
    assert one(db_url, run)["success"] is True


def test_raw_responses_are_recorded_and_unchanged(client: OpenAI, db_url: str) -> None:
    with query_run("q") as run:
        raw = client.chat.completions.with_raw_response.create(model="gpt-5", messages=MESSAGES)
        answer = raw.parse()
        streamed = client.chat.completions.with_raw_response.create(model="gpt-5", messages=MESSAGES, stream=True)
        chunks = list(streamed.parse())
        with client.chat.completions.with_streaming_response.create(model="gpt-5", messages=MESSAGES) as late:
            later = late.parse()
    assert raw.headers["x-request-id"]
    assert all(chunk.choices for chunk in chunks)
    first, second, third = rows(db_url, run)
    assert first["completion_tokens"] == answer.usage.completion_tokens  # type: ignore[union-attr]
    assert second["prompt_tokens"] == first["prompt_tokens"]
    assert third["completion_tokens"] == later.usage.completion_tokens  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [AzureOpenAI, AsyncAzureOpenAI])
async def test_azure_clients_are_recorded(kind: Any, endpoint: SimulatedEndpoint, db_url: str) -> None:
    origin = endpoint.base_url.removesuffix("/v1")
    client = kind(azure_endpoint=origin, api_key="x", api_version="2024-10-21", azure_deployment="gpt-5")
    instrument(client, store=db_url)
    with query_run("q") as run:
        answer = client.chat.completions.create(model="gpt-5", messages=MESSAGES)
        if kind is AsyncAzureOpenAI:
            answer = await answer
            await client.close()
        else:
            client.close()
    row = one(db_url, run)
    assert (row["provider"], row["prompt_tokens"]) == ("azure", answer.usage.prompt_tokens)


def test_only_the_given_client_and_its_copies_are_recorded(endpoint: SimulatedEndpoint, db_url: str) -> None:
    with (
        OpenAI(base_url=endpoint.base_url, api_key="x") as mine,
        OpenAI(base_url=endpoint.base_url, api_key="x") as other,
    ):
        assert instrument(mine, store=db_url) is mine
        with query_run("q") as run:
            mine.with_options(timeout=5).copy().chat.completions.create(model="gpt-5", messages=MESSAGES)
            other.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert len(rows(db_url, run)) == 1


def test_without_a_client_every_client_is_recorded_once(endpoint: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="x") as before:
        instrument(store=db_url)
        instrument()
        instrument(before)
        with OpenAI(base_url=endpoint.base_url, api_key="x") as after, query_run("q") as run:
            before.chat.completions.create(model="gpt-5", messages=MESSAGES)
            after.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert len(rows(db_url, run)) == 2


def test_module_level_calls_are_recorded(
    endpoint: SimulatedEndpoint, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "api_key", "x")
    monkeypatch.setattr(openai, "base_url", endpoint.base_url + "/")
    monkeypatch.setattr(openai, "http_client", httpx.Client())
    instrument(store=db_url)
    with query_run("q") as run:
        openai.chat.completions.create(model="gpt-5", messages=MESSAGES)
    openai.http_client.close()  # type: ignore[union-attr]
    assert len(rows(db_url, run)) == 1


def test_uninstrument_leaves_the_sdk_and_the_client_as_they_were(endpoint: SimulatedEndpoint, db_url: str) -> None:
    classes = {kind: dict(vars(kind)) for kind in (OpenAI, AsyncOpenAI, AzureOpenAI, AsyncAzureOpenAI)}
    with OpenAI(base_url=endpoint.base_url, api_key="x") as client:
        attributes = dict(vars(client))
        instrument(client, store=db_url)
        instrument(store=db_url)
        assert vars(OpenAI) != classes[OpenAI]
        uninstrument()
        assert dict(vars(client)) == attributes
        for kind, before in classes.items():
            assert dict(vars(kind)) == before, kind
        with query_run("q") as run:
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert rows(db_url, run) == []


def test_nothing_is_patched_if_disabled_by_the_environment(
    endpoint: SimulatedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "1")
    before = dict(vars(OpenAI))
    with OpenAI(base_url=endpoint.base_url, api_key="x") as client:
        assert instrument(client) is client
        with query_run("q"):
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert dict(vars(OpenAI)) == before


def test_no_prompt_completion_or_key_reaches_the_database_or_the_disk(
    client: OpenAI, db_url: str, endpoint: SimulatedEndpoint, tmp_path: Any
) -> None:
    endpoint.script(Reply(text="a completion that nobody may read"), Reply(text="a completion that nobody may read"))
    with query_run("q"):
        client.chat.completions.create(model="gpt-5", messages=MESSAGES, user=SECRET, metadata={"k": SECRET})
        list(client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True))
        client.responses.create(model="gpt-5", input=SECRET, instructions=SECRET)
    assert flush()
    with psycopg.connect(db_url) as connection:
        stored = "".join(str(row) for row in connection.execute("SELECT i::text FROM llm_interactions AS i").fetchall())
    on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "gpt-5" in stored
    for hidden in (SECRET, "a completion that nobody may read", "sk-test-0123456789"):
        assert hidden not in stored
        assert hidden.encode() not in on_disk


def test_a_legacy_http_client_works_with_respx(db_url: str) -> None:
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
        "usage": {
            "prompt_tokens": 2000,
            "completion_tokens": 10,
            "total_tokens": 2010,
            "prompt_tokens_details": {"cached_tokens": 1920},
        },
    }
    with respx.mock(base_url="https://api.openai.com") as mock, httpx.Client() as http:
        mock.post("/v1/chat/completions").mock(return_value=httpx.Response(200, json=body))
        client = instrument(OpenAI(api_key="x", http_client=http), store=db_url)
        with query_run("q") as run:
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    row = one(db_url, run)
    assert (row["provider"], row["cached_tokens"], row["uncached_prompt_tokens"]) == ("openai", 1920, 80)
    # gpt-4o: 2.50 USD, 1.25 USD cached, 10 USD output per million tokens
    assert row["total_cost"] == pytest.approx(80 * 2.5e-6 + 1920 * 1.25e-6 + 10 * 10e-6, abs=1e-12)
    assert row["original_cost"] == pytest.approx(2000 * 2.5e-6 + 10 * 10e-6, abs=1e-12)


@pytest.mark.parametrize("thing", [object(), "client", 7, OpenAI, openai])
def test_an_object_that_is_not_an_openai_client_raises_in_instrument(thing: Any) -> None:
    with pytest.raises(ConfigError, match="expected a client of the openai package"):
        instrument(thing)


def test_a_second_store_in_one_process_raises(db_url: str, empty_db_url: str) -> None:
    instrument(store=db_url)
    with pytest.raises(ConfigError, match="second store"):
        instrument(store=empty_db_url)


def test_an_unreachable_database_is_logged_once_and_calls_continue(
    endpoint: SimulatedEndpoint, db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = "postgresql://someone:hunter2@127.0.0.1:1/nowhere"
    with OpenAI(base_url=endpoint.base_url, api_key="x") as client, caplog.at_level("INFO", "rlm_cachetrack"):
        instrument(client, store=nowhere)
        for _ in range(3):
            assert client.chat.completions.create(model="gpt-5", messages=MESSAGES).usage
        assert flush(timeout_s=1) is False
        assert in_time(lambda: any(record.levelname == "WARNING" for record in caplog.records))
        assert stats()["pending"] == 3
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "127.0.0.1" in warnings[0].getMessage()
    assert "hunter2" not in caplog.text
    shutdown(0.1)


def test_credentials_and_headers_in_an_error_are_not_stored(db_url: str, endpoint: SimulatedEndpoint) -> None:
    words = [
        "Unusual/Key",
        "their-organization",
        "header-of-client",
        "header-of-call",
        "query-of-client",
        "query-of-call",
    ]
    key, organization, *others = words
    with OpenAI(
        base_url=endpoint.base_url,
        api_key=key,
        organization=organization,
        default_headers={"x-a": others[0]},
        default_query={"a": others[2]},
        max_retries=0,
    ) as client:
        instrument(client, store=db_url)
        endpoint.script(Reply(status=400, error=f"Refused: {' | '.join(words)}"))
        with query_run("q") as run, pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                model="gpt-5",
                messages=[{"role": "user", "content": "hi"}],
                extra_headers={"x-b": others[1]},
                extra_query={"b": others[3]},
            )
        assert one(db_url, run)["error_message"] == "Refused: " + " | ".join(["[…]"] * len(words))


def test_quotes_of_the_prompt_in_an_error_are_not_stored(
    client: OpenAI, db_url: str, endpoint: SimulatedEndpoint
) -> None:
    endpoint.script(Reply(status=400, error=f"Invalid prompt: '{SECRET}' is not allowed", param="messages"))
    with query_run("q") as run, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert one(db_url, run)["error_message"] == "Invalid prompt: '[…]' is not allowed"


def answering(body: bytes, kind: str) -> httpx.Client:
    """Return an HTTP client with one fixed response, a mock because no well-behaved endpoint sends such ones."""
    return httpx.Client(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, content=body, headers={"content-type": kind}))
    )


@pytest.mark.parametrize("choices", ['"choices":[],', '"choices":null,', ""])
def test_the_extra_chunk_is_hidden_in_every_form_a_server_sends_it(db_url: str, choices: str) -> None:
    head = '"id":"c","object":"chat.completion.chunk","created":1,"model":"m"'
    text = f'data: {{{head},"choices":[{{"index":0,"delta":{{"content":"hi"}},"finish_reason":"stop"}}]}}\n\n'
    usage = f'data: {{{head},{choices}"usage":{{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}}}\n\n'
    body = (text + usage + "data: [DONE]\n\n").encode()
    with answering(body, "text/event-stream") as http, query_run_into(db_url) as run:
        client = instrument(OpenAI(api_key="x", http_client=http), store=db_url)
        chunks = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["hi"]
    assert (one(db_url, run)["prompt_tokens"], one(db_url, run)["completion_tokens"]) == (9, 1)


@pytest.mark.parametrize("body", [b"no json at all", b'data: {"x": 1}\n\n'])
def test_a_streamed_raw_response_that_is_not_json_is_one_record(db_url: str, body: bytes) -> None:
    with answering(body, "text/plain") as http, query_run_into(db_url) as run:
        client = instrument(OpenAI(api_key="x", http_client=http), store=db_url)
        with client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES) as raw:
            assert raw.read() == body
    row = one(db_url, run)
    assert (row["prompt_tokens"], row["metadata"]["usage"]) == (None, "unknown")
