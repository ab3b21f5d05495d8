"""The simulated endpoint, called by the real SDK over real HTTP. Expected token counts are computed by hand:
a message has 4 tokens for its role and one for every 4 characters of its text."""

from __future__ import annotations

import asyncio
import enum
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pydantic
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from rlm_cachetrack.simulator import Reply, SimulatedEndpoint, SimulatedRequest

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    "required": ["city", "days"],
}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
RESPONSES_TOOL = {"type": "function", "name": "get_weather", "parameters": WEATHER}
BROKEN_STREAM = (openai.APIConnectionError, httpx.TransportError)  # openai 1.66 raises the error of the transport


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoint(clock: Clock) -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(clock=clock, latency=False) as running:
        yield running
    assert running.errors == []


@pytest.fixture
def client(endpoint: SimulatedEndpoint) -> Iterator[OpenAI]:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-one", max_retries=0) as made:
        yield made


def message(tokens: int, role: str = "user", fill: str = "x") -> dict[str, Any]:
    return {"role": role, "content": fill * 4 * (tokens - 4)}


def chat_cached(client: OpenAI, *messages: dict[str, Any], model: str = "gpt-4.1", **options: Any) -> int:
    completion = client.chat.completions.create(model=model, messages=messages, **options)
    return completion.usage.prompt_tokens_details.cached_tokens


def send(endpoint: SimulatedEndpoint, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, Any]:
    port = int(endpoint.base_url.split(":")[2].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    return answer.status, text if streamed else json.loads(text)


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# --- Cache contents before GPT-5.6 ---


@pytest.mark.parametrize(
    ("tokens", "cached"), [(1023, 0), (1024, 1024), (1151, 1024), (1152, 1152), (1300, 1280), (20_000, 19_968)]
)
def test_a_repeated_prompt_is_read_in_steps_of_128_from_1024_tokens(client: OpenAI, tokens: int, cached: int) -> None:
    assert chat_cached(client, message(tokens)) == 0
    assert chat_cached(client, message(tokens)) == cached


def test_prompt_tokens_are_the_sum_of_the_segments(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    messages = [message(100, "system"), {"role": "user", "content": "12345"}, {"role": "assistant", "content": ""}]
    completion = client.chat.completions.create(model="gpt-4.1", messages=messages)
    assert completion.usage.prompt_tokens == 100 + (4 + 2) + 4
    assert completion.usage.total_tokens == 110 + completion.usage.completion_tokens
    assert endpoint.requests[0].segment_tokens == (100, 6, 4)


def test_a_growing_conversation_reads_what_the_call_before_it_sent(client: OpenAI) -> None:
    turns = [message(1100, "system"), message(100), message(400, "assistant"), message(100)]
    assert chat_cached(client, *turns[:2]) == 0
    assert chat_cached(client, *turns) == 1152  # 1,200 tokens in common
    assert chat_cached(client, *turns, message(9)) == 1664  # 1,700 tokens in common


def test_only_the_common_prefix_is_read(client: OpenAI) -> None:
    chat_cached(client, message(1200, "system"), message(300, fill="a"))
    assert (
        chat_cached(client, message(1200, "system"), message(300, fill="b")) == 1152
    )  # 1,204 tokens, including the role
    assert chat_cached(client, message(1200, "system", fill="y"), message(300, fill="a")) == 0


def test_a_changed_character_ends_the_prefix_within_a_message(client: OpenAI) -> None:
    text = "x" * 4 * 2000
    chat_cached(client, {"role": "user", "content": text})
    changed = text[: 4 * 1276] + "!" + text[4 * 1276 + 1 :]  # the token after 4 + 1,276 = 1,280
    assert chat_cached(client, {"role": "user", "content": changed}) == 1280


def test_tools_and_the_output_schema_stand_before_the_messages(client: OpenAI) -> None:
    other = {"type": "function", "function": {"name": "other", "parameters": WEATHER}}
    never: dict[str, Any] = {"tool_choice": "none"}
    chat_cached(client, message(2000), tools=[CHAT_TOOL, other], **never)
    assert chat_cached(client, message(2000), tools=[CHAT_TOOL, other], **never) >= 1920
    assert chat_cached(client, message(2000), tools=[other, CHAT_TOOL], **never) == 0
    schema = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}
    assert chat_cached(client, message(2000), response_format=schema) == 0
    assert chat_cached(client, message(2000), response_format=schema) >= 1920


def test_a_prefix_expires_when_not_used_for_the_ttl(client: OpenAI, clock: Clock) -> None:
    chat_cached(client, message(2000))
    for _ in range(3):  # each use restarts the TTL
        clock.now += 300.0
        assert chat_cached(client, message(2000)) == 1920
    clock.now += 300.5
    assert chat_cached(client, message(2000)) == 0


def test_extended_retention_lasts_24_hours(client: OpenAI, clock: Clock) -> None:
    extended = {"extra_body": {"prompt_cache_retention": "24h"}}
    chat_cached(client, message(2000), **extended)
    clock.now += 86_400.0
    assert chat_cached(client, message(2000), **extended) == 1920
    clock.now += 86_401.0
    assert chat_cached(client, message(2000), **extended) == 0


def test_each_model_has_its_own_cache_which_its_snapshots_share(client: OpenAI) -> None:
    chat_cached(client, message(2000), model="gpt-5")
    assert chat_cached(client, message(2000), model="gpt-5-mini") == 0
    assert chat_cached(client, message(2000), model="gpt-5-2025-08-07") == 1920


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo"])
def test_models_before_gpt_4o_do_not_cache(client: OpenAI, model: str) -> None:
    assert [chat_cached(client, message(2000), model=model) for _ in range(2)] == [0, 0]


def test_a_different_cache_key_has_a_separate_cache(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    def cached(key: str | None) -> int:
        return chat_cached(client, message(2000), extra_body={"prompt_cache_key": key} if key else None)

    assert [cached(key) for key in ("a", "b", "a", None, None)] == [0, 0, 1920, 0, 1920]
    assert [request.prompt_cache_key for request in endpoint.requests] == ["a", "b", "a", None, None]


def test_organizations_share_nothing(client: OpenAI) -> None:
    chat_cached(client, message(2000))
    assert chat_cached(client.with_options(api_key="sk-two"), message(2000)) == 0


def test_the_oldest_prefixes_are_evicted(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_cachetrack.simulator.endpoint._MAX_ENTRIES", 16)  # instead of thousands of prompts
    chat_cached(client, message(2000, fill="a"))  # 8 steps of at least 1,024 tokens
    chat_cached(client, message(3000, fill="b"))  # 16
    assert chat_cached(client, message(2000, fill="a")) == 0


def test_all_apis_count_and_cache_alike(client: OpenAI) -> None:
    for expected in (0, 1920):
        response = client.responses.create(
            model="gpt-5", instructions="i" * 400, input=[message(100), message(1800, "assistant")]
        )
        assert response.usage.input_tokens == 104 + 1900
        assert response.usage.model_dump()["input_tokens_details"]["cached_tokens"] == expected


def test_the_response_agrees_with_the_recorded_request(
    client: OpenAI, endpoint: SimulatedEndpoint, clock: Clock
) -> None:
    tokens = 4 + 6 * 1996
    chat_cached(client, message(2000, fill="secret"), model="gpt-5")
    completion = client.chat.completions.create(model="gpt-5", messages=[message(2000, fill="secret")])
    assert endpoint.requests[1] == SimulatedRequest(
        api="chat",
        model=completion.model,
        request_id=completion._request_id,
        service_tier=completion.service_tier,
        prompt_tokens=tokens,
        cached_tokens=11_904,  # 93 steps of 128
        completion_tokens=completion.usage.completion_tokens,
        reasoning_tokens=completion.usage.completion_tokens_details.reasoning_tokens,
        segment_tokens=(tokens,),
        arrived_at=clock.now,
    )
    assert completion.model == "gpt-5-2025-08-07"
    assert completion.service_tier == "default"
    assert "secret" not in repr(endpoint.requests)


# --- From GPT-5.6 on: breakpoints ---


def breakpoint_usage(client: OpenAI, *messages: dict[str, Any], **extra: Any) -> tuple[int, int]:
    completion = client.chat.completions.create(model="gpt-5.6-sol", messages=messages, extra_body=extra)
    details = completion.usage.prompt_tokens_details.model_dump()
    return details["cached_tokens"], details["cache_write_tokens"]


def marked(tokens: int) -> dict[str, Any]:
    text = message(tokens)["content"]
    return {
        "role": "system",
        "content": [{"type": "text", "text": text, "prompt_cache_breakpoint": {"mode": "explicit"}}],
    }


def test_a_conversation_reads_up_to_the_breakpoint_before(client: OpenAI, clock: Clock) -> None:
    turns = [message(1500, "system"), message(99), message(50, "assistant"), message(31)]
    assert breakpoint_usage(client, *turns[:2]) == (0, 1599)
    clock.now += 1800.0
    assert breakpoint_usage(client, *turns) == (1599, 81)
    assert breakpoint_usage(client, *turns) == (1680, 0)
    clock.now += 1800.5
    assert breakpoint_usage(client, *turns) == (0, 1680)


def test_a_shared_prefix_without_a_breakpoint_is_not_read(client: OpenAI) -> None:
    assert breakpoint_usage(client, message(1500, "system"), message(99, fill="a")) == (0, 1599)
    assert breakpoint_usage(client, message(1500, "system"), message(99, fill="b")) == (0, 1599)


def test_a_marked_block_is_read_under_a_changing_suffix(client: OpenAI) -> None:
    assert breakpoint_usage(client, marked(1500), message(99, fill="a")) == (0, 1599)
    assert breakpoint_usage(client, marked(1500), message(99, fill="b")) == (1500, 99)


def test_explicit_mode_writes_marked_blocks_only(client: OpenAI) -> None:
    explicit = {"prompt_cache_options": {"mode": "explicit"}}
    assert breakpoint_usage(client, marked(1500), message(99), **explicit) == (0, 1500)
    assert breakpoint_usage(client, marked(1500), message(99), **explicit) == (1500, 0)
    assert breakpoint_usage(client, message(1500), message(99), **explicit) == (0, 0)


def test_a_breakpoint_below_1024_tokens_is_not_written(client: OpenAI) -> None:
    assert [breakpoint_usage(client, message(1023)) for _ in range(2)] == [(0, 0), (0, 0)]


def test_earlier_models_reject_breakpoints(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="gpt-5", messages=[marked(1500)])
    assert refused.value.param == "prompt_cache_options"


# --- Formats that the SDK's types and helpers require ---


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_reports_usage_in_a_last_chunk_only_when_asked(client: OpenAI, asked: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked else {}
    stream = client.chat.completions.create(model="gpt-5", messages=[message(50)], stream=True, **options)
    *chunks, last = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert all(("usage" in chunk.model_fields_set) is asked for chunk in chunks)
    if asked:
        assert last.choices == []
        assert last.usage.prompt_tokens == 50
    else:
        assert last.choices[0].finish_reason == "stop"
        assert "usage" not in last.model_fields_set


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("chat/completions", {"messages": [message(9)]}, ChatCompletion),
        (
            "chat/completions",
            {"messages": [message(9)], "tools": [CHAT_TOOL], "tool_choice": "required"},
            ChatCompletion,
        ),
        ("chat/completions", {"messages": [message(9)], "n": 3, "stream": True}, ChatCompletionChunk),
        ("responses", {"input": "hello"}, Response),
        ("responses", {"input": "hello", "tools": [RESPONSES_TOOL], "tool_choice": "required"}, Response),
        ("responses", {"input": "hello", "stream": True}, ResponseStreamEvent),
        ("responses", {"input": "hello", "max_output_tokens": 16, "stream": True}, ResponseStreamEvent),
        (
            "responses",
            {"input": "hello", "tools": [RESPONSES_TOOL], "tool_choice": "required", "stream": True},
            ResponseStreamEvent,
        ),
    ],
)
def test_bodies_and_events_satisfy_the_sdks_types(endpoint: SimulatedEndpoint, path: str, body: Any, kind: Any) -> None:
    raw = json.dumps({"model": "gpt-5", **body}).encode()
    status, answer = send(endpoint, "POST", f"/v1/{path}", raw, authorization="Bearer k")
    documents = events(answer) if body.get("stream") else [answer]
    assert status == 200
    assert len(documents) > (3 if body.get("stream") else 0)
    for document in documents:
        pydantic.TypeAdapter(kind).validate_python(document)


def test_chat_streams_feed_the_sdks_helper(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(text="One, two, three, four, five."))
    helper = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    with helper(model="gpt-5", messages=[message(9)]) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text == final.choices[0].message.content == "One, two, three, four, five."


def test_responses_streams_feed_the_sdks_helper(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(text="One, two, three, four, five."))
    with client.responses.stream(model="gpt-5", input="count") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "One, two, three, four, five."
    assert final.usage.input_tokens == 4 + 2
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert kinds.count("response.output_text.delta") == 2  # 28 characters in pieces of 16


class Mood(enum.Enum):
    good = "good"


class Node(pydantic.BaseModel):
    mood: Mood
    weight: float
    sure: bool
    names: list[str]
    note: str | None
    inner: Node | None


def test_structured_outputs_parse(client: OpenAI) -> None:
    parse = getattr(client.chat.completions, "parse", None) or client.beta.chat.completions.parse
    chat = parse(model="gpt-5", messages=[message(9)], response_format=Node)
    assert isinstance(chat.choices[0].message.parsed, Node)
    assert isinstance(client.responses.parse(model="gpt-5", input="hello", text_format=Node).output_parsed, Node)


def test_a_required_tool_is_called_with_arguments_that_fit(client: OpenAI) -> None:
    options: Any = {"model": "gpt-5", "tool_choice": "required"}
    choice = client.chat.completions.create(messages=[message(9)], tools=[CHAT_TOOL], **options).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content, call.function.name) == ("tool_calls", None, "get_weather")
    assert json.loads(call.function.arguments) == {"city": "text", "days": 3}
    (item,) = client.responses.create(input="hello", tools=[RESPONSES_TOOL], **options).output
    assert (item.type, item.name, json.loads(item.arguments)) == (
        "function_call",
        "get_weather",
        {"city": "text", "days": 3},
    )


def test_tools_are_called_after_some_user_messages_and_never_after_their_result(client: OpenAI) -> None:
    def calls(*messages: dict[str, Any]) -> set[bool]:
        options: Any = {"model": "gpt-5", "tools": [CHAT_TOOL], "messages": messages}
        return {bool(client.chat.completions.create(**options).choices[0].message.tool_calls) for _ in range(30)}

    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    assert calls(message(9)) == {True, False}
    assert calls(message(9), {"role": "assistant", "content": None, "tool_calls": [call]}, result) == {False}


def test_the_seed_determines_the_outputs() -> None:
    def output(seed: int) -> list[str]:
        with (
            SimulatedEndpoint(seed=seed, latency=False) as endpoint,
            OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client,
        ):
            return [client.responses.create(model="gpt-5", input="hello").output_text for _ in range(2)]

    first = output(1)
    assert first[0] != first[1]
    assert output(1) == first
    assert output(2) != first


def test_an_output_ends_at_its_token_limit(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="gpt-5", messages=[message(9)], max_completion_tokens=20)
    assert (completion.choices[0].finish_reason, completion.usage.completion_tokens) == ("length", 20)
    response = client.responses.create(model="gpt-5", input="hello", max_output_tokens=20)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_the_service_tier_is_echoed(client: OpenAI) -> None:
    def tier(**options: Any) -> str:
        options.update(model="gpt-5", messages=[message(9)])
        return client.chat.completions.create(**options).service_tier

    assert [tier(), tier(service_tier="auto"), tier(service_tier="flex")] == ["default", "default", "flex"]


def test_legacy_completions_and_embeddings_are_served(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    options: Any = {"model": "gpt-3.5-turbo-instruct", "prompt": "12345678"}
    whole = client.completions.create(**options)
    assert (whole.usage.prompt_tokens, whole.usage.prompt_tokens_details) == (6, None)
    *_, last = client.completions.create(**options, stream=True, stream_options={"include_usage": True})
    assert last.usage.prompt_tokens == 6
    embedded = [client.embeddings.create(model="text-embedding-3-small", input=["12345", "a"]) for _ in range(2)]
    assert [len(item.embedding) for item in embedded[0].data] == [1536, 1536]
    assert embedded[0].data == embedded[1].data
    assert embedded[0].usage.prompt_tokens == 2 + 1
    assert [request.api for request in endpoint.requests] == ["completions"] * 2 + ["embeddings"] * 2


def test_azure_paths_are_served(endpoint: SimulatedEndpoint) -> None:
    root = endpoint.base_url.removesuffix("/v1")
    with AzureOpenAI(azure_endpoint=root, api_version="2025-03-01-preview", api_key="k", max_retries=0) as azure:
        assert azure.chat.completions.create(model="gpt-4o", messages=[message(9)]).model == "gpt-4o-2024-08-06"
        assert azure.responses.create(model="my-deployment", input="hello").model == "my-deployment"
    with OpenAI(base_url=f"{root}/openai/v1", api_key="k", max_retries=0) as client:
        assert client.responses.create(model="gpt-4o", input="hello").usage.input_tokens == 6


# --- Faults ---


def test_a_rate_limit_is_retried_when_the_endpoint_says(endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(status=429, retry_after_s=0.05))
    with OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=1) as client:
        began = time.monotonic()
        client.responses.create(model="gpt-5", input="hello")
    assert time.monotonic() - began >= 0.05
    assert [(request.status, request.retry) for request in endpoint.requests] == [(429, 0), (200, 1)]


@pytest.mark.parametrize(
    ("reply", "error", "param", "code"),
    [
        (Reply(status=429), openai.RateLimitError, None, "rate_limit_exceeded"),
        (Reply(status=500), openai.InternalServerError, None, None),
        (Reply(status=401), openai.AuthenticationError, None, "invalid_api_key"),
        (Reply(status=400, param="stream_options"), openai.BadRequestError, "stream_options", "unknown_parameter"),
    ],
)
def test_a_scripted_error_has_openais_format(
    client: OpenAI, endpoint: SimulatedEndpoint, reply: Reply, error: type[openai.APIStatusError], param: str, code: str
) -> None:
    endpoint.script(reply)
    with pytest.raises(error) as raised:
        client.chat.completions.create(model="gpt-5", messages=[message(2000)])
    assert (raised.value.param, raised.value.code) == (param, code)
    assert raised.value.request_id == endpoint.requests[0].request_id
    assert endpoint.requests[0].prompt_tokens == 0
    assert chat_cached(client, message(2000), model="gpt-5") == 0  # the failed call wrote nothing to the cache


def test_a_stream_may_be_cut(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(cut_after=3))
    chunks = []
    with pytest.raises(BROKEN_STREAM):
        chunks.extend(client.chat.completions.create(model="gpt-5", messages=[message(9)], stream=True))
    assert len(chunks) == 3
    assert len(list(client.chat.completions.create(model="gpt-5", messages=[message(9)], stream=True))) > 3


def test_a_plain_body_may_be_cut(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(cut_after=0))
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="gpt-5", messages=[message(9)])


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_error_may_occur_in_mid_stream(client: OpenAI, endpoint: SimulatedEndpoint, api: str) -> None:
    endpoint.script(Reply(error="it broke", error_after=2))
    ask: Callable[..., Any] = client.chat.completions.create if api == "chat" else client.responses.create
    prompt: Any = {"messages": [message(9)]} if api == "chat" else {"input": "hello"}
    chunks = []
    with pytest.raises(openai.APIError, match="it broke"):
        chunks.extend(ask(model="gpt-5", stream=True, **prompt))
    assert len(chunks) == 2
    assert endpoint.requests[0].status == 200


def test_an_error_body_may_have_status_200(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(status=200, error="filtered"))
    completion = client.chat.completions.create(model="gpt-5", messages=[message(9)])
    assert completion.choices is None
    assert completion.model_dump()["error"]["message"] == "filtered"


def test_usage_may_be_missing(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(usage=False), Reply(usage=False), Reply(usage=False))
    assert client.chat.completions.create(model="gpt-5", messages=[message(9)]).usage is None
    assert client.responses.create(model="gpt-5", input="hello").usage is None
    asked: Any = {"stream": True, "stream_options": {"include_usage": True}}
    assert all(c.usage is None for c in client.chat.completions.create(model="gpt-5", messages=[message(9)], **asked))


def test_tool_calls_a_cold_cache_and_a_delay_may_be_scripted(client: OpenAI, endpoint: SimulatedEndpoint) -> None:
    endpoint.script(Reply(), Reply(cold=True), Reply(tool_calls=("one", "two"), delay_s=0.05))
    assert [chat_cached(client, message(2000)) for _ in range(2)] == [0, 0]
    began = time.monotonic()
    completion = client.chat.completions.create(model="gpt-4.1", messages=[message(2000)])
    assert time.monotonic() - began >= 0.05
    assert [call.function.name for call in completion.choices[0].message.tool_calls] == ["one", "two"]
    assert completion.usage.prompt_tokens_details.cached_tokens == 1920  # another machine still has the prefix
    assert endpoint.requests[-1].tool_calls == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "key", "status"),
    [
        ("POST", "/v1/responses", b'{"model": "gpt-5", "input": "x"}', None, 401),
        ("POST", "/v1/nothing", b"{}", "k", 404),
        ("GET", "/v1/responses", None, "k", 404),
        ("POST", "/v1/responses", b"{not json", "k", 400),
        ("POST", "/v1/responses", b"[1]", "k", 400),
        ("POST", "/v1/responses", b'{"input": "x"}', "k", 400),
        ("POST", "/v1/responses", b'{"model": "gpt-5"}', "k", 400),
        ("POST", "/v1/chat/completions", b'{"model": "gpt-5", "messages": [1]}', "k", 400),
        ("POST", "/v1/chat/completions", b'{"model": "gpt-5", "messages": [{}], "n": "a"}', "k", 400),
        ("POST", "/v1/chat/completions", b'{"model": "m", "messages": [{}], "stream_options": {}}', "k", 400),
        ("POST", "/v1/responses", b'{"model": "m", "input": "x", "previous_response_id": "r"}', "k", 400),
        ("POST", "/v1/embeddings", b'{"model": "m"}', "k", 400),
    ],
)
def test_invalid_requests_get_openais_error_body(
    endpoint: SimulatedEndpoint, method: str, path: str, body: bytes, key: str | None, status: int
) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answered, document = send(endpoint, method, path, body, **headers)
    assert answered == status
    assert document["error"]["type"] == "invalid_request_error"
    assert document["error"]["message"]
    assert endpoint.requests[-1].status == status


# --- The server ---


def test_latency_grows_with_the_tokens_that_are_not_cached() -> None:
    with SimulatedEndpoint() as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client:

        def first_byte() -> tuple[str, float]:
            began = time.monotonic()
            create = client.chat.completions.with_raw_response.create
            raw = create(model="gpt-5", messages=[message(30_000)], stream=True)
            took = time.monotonic() - began
            for _ in raw.parse():
                pass
            return raw.headers["openai-processing-ms"], took

        cold, warm = first_byte(), first_byte()
    assert (cold[0], warm[0]) == ("320", "20")  # 20 + 0.01 * 30,000 and 20 + 0.01 * (30,000 - 29,952) ms
    assert cold[1] >= 0.32


async def test_concurrent_async_calls_each_get_a_response(endpoint: SimulatedEndpoint) -> None:
    async with AsyncOpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client:

        async def ask(number: int) -> tuple[int, int]:
            if number % 2:
                completion = await client.chat.completions.create(model="gpt-5", messages=[message(1000 + number)])
                return number, completion.usage.prompt_tokens
            stream = await client.responses.create(model="gpt-5", input="x" * 4 * (996 + number), stream=True)
            *_, last = [event async for event in stream]
            return number, last.response.usage.input_tokens

        answers = await asyncio.gather(*(ask(number) for number in range(60)))
    assert answers == [(number, 1000 + number) for number in range(60)]
    assert len({request.request_id for request in endpoint.requests}) == 60


def test_a_body_of_one_megabyte_is_accepted(client: OpenAI) -> None:
    assert chat_cached(client, {"role": "user", "content": "x" * (1 << 20)}) == 0
    assert chat_cached(client, {"role": "user", "content": "x" * (1 << 20)}) == 262_144  # of 262,148


def test_a_client_may_disconnect_in_mid_stream(capfd: pytest.CaptureFixture[str]) -> None:
    with SimulatedEndpoint() as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client:
        with client.chat.completions.create(model="gpt-5", messages=[message(9)], stream=True) as stream:
            next(iter(stream))
        assert client.responses.create(model="gpt-5", input="hello").output_text
    assert endpoint.errors == []
    assert capfd.readouterr() == ("", "")


def test_closing_aborts_open_requests_and_leaves_no_thread() -> None:
    arrived, failure = threading.Event(), []

    def clock() -> float:
        arrived.set()
        return 0.0

    def ask() -> None:
        try:
            client.responses.create(model="gpt-5", input="hello")
        except openai.APIConnectionError as exc:
            failure.append(exc)

    threads = set(threading.enumerate())
    endpoint = SimulatedEndpoint(clock=clock)
    endpoint.start()
    with OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client:
        endpoint.script(Reply(delay_s=200.0))
        asking = threading.Thread(target=ask)
        asking.start()
        assert arrived.wait(120)
        began = time.monotonic()
        endpoint.close()
        endpoint.close()
        asking.join(120)
        assert time.monotonic() - began < 60  # the reply would take 200 seconds
    assert len(failure) == 1
    assert set(threading.enumerate()) <= threads


def test_the_endpoint_restarts_and_has_no_address_while_closed() -> None:
    endpoint = SimulatedEndpoint()
    with pytest.raises(RuntimeError, match="not started"):
        _ = endpoint.base_url
    for _ in range(2):
        with endpoint:
            assert send(endpoint, "GET", "/v1/responses", None)[0] == 404


def test_a_port_in_use_is_an_error(endpoint: SimulatedEndpoint) -> None:
    port = int(endpoint.base_url.split(":")[2].split("/")[0])
    with pytest.raises(OSError, match="in use"):
        SimulatedEndpoint(port=port).start()
