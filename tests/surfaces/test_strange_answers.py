"""Invalid responses, which the SDK does not check: the caller gets the same as without recording, and one record.

They come from an in-process transport, because the scripted server sends only valid responses.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import instrument
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.support.transport import httpx
from tests.surfaces.calls import BY_NAME, MODES, TOKENS, call, client_of, entering, run, with_and_without

USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
MESSAGE = {"role": "assistant", "content": "ok"}


def chat(**changed: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": MESSAGE}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE} | (
        changed
    )


def with_message(**changed: Any) -> dict[str, Any]:
    return chat(choices=[{"index": {"a": 1}, "finish_reason": 7, "message": {**MESSAGE, **changed}}])


ANSWERS = {
    "choices is a number": chat(choices=5),
    "choices is an object": chat(choices={"a": 1}),
    "a choice is a text": chat(choices=["ok"]),
    "model is a number": chat(model=7),
    "model is a list": chat(model=["m"]),
    "tier is an object": chat(service_tier={"name": "flex"}),
    "content is a number": with_message(content=7),
    "tool calls is a number": with_message(tool_calls=3),
    "a tool call's id is an object": with_message(tool_calls=[{"id": {"a": 1}, "type": "function"}]),
    "it is a list": [chat()],
    "it is a number": 7,
    "it is nothing": None,
}


async def ask(body: Any, mode: str, sink: MemorySink | None) -> tuple[str, str]:
    def answer(request: Any) -> Any:
        return httpx.Response(200, content=json.dumps(body), headers={"content-type": "application/json"})

    transport = httpx.MockTransport(answer)
    asynchronous = mode == "async"
    http = httpx.AsyncClient(transport=transport) if asynchronous else httpx.Client(transport=transport)
    kind: Any = AsyncOpenAI if asynchronous else OpenAI
    async with entering(kind(api_key="k", base_url="http://server/v1", max_retries=0, http_client=http)) as client:
        if sink is not None:
            instrument(client, store=sink)
        made = client.chat.completions.create(model="asked", messages=[{"role": "user", "content": "hi"}])
        answered = await made if asynchronous else made
        return type(answered).__name__, repr(answered)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
def test_an_unexpected_response_is_unchanged_and_one_record(body: Any, mode: str, sink: MemorySink) -> None:
    observed: list[tuple[str, str]] = []

    async def act() -> None:
        observed.append(await ask(body, mode, None))
        observed.append(await ask(body, mode, sink))

    run(mode, act())
    assert observed[0] == observed[1]
    row = sink.row
    assert row["model"] == ("m" if isinstance(body, dict) and body["model"] == "m" else "asked")
    if isinstance(body, dict):
        assert (row["prompt_tokens"], row["total_tokens"]) == (10, 12)
    else:
        assert (row["prompt_tokens"], row["metadata"]["usage"]) == (None, "unknown")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "raw", "streaming response"])
def test_a_response_rejected_by_a_validating_client_keeps_its_tokens(
    form: str, mode: str, server: ScriptedServer, sink: MemorySink
) -> None:
    """An example are the SDK's own embeddings, which it requests in base64."""
    surface = BY_NAME["embeddings.create"]
    with_us, without = with_and_without(
        server,
        mode,
        lambda: client_of(server, mode, _strict_response_validation=True),
        lambda client: instrument(client, store=sink),
        lambda client: call(client, surface, form),
    )
    assert with_us == without
    assert with_us[0] == "raised"
    assert (sink.row["success"], sink.row["error_type"]) == (False, "APIResponseValidationError")
    assert {column: sink.row[column] for column in TOKENS} == surface.tokens


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("usage", [{}, {"images": 3}, {"prompt_tokens": "ten"}], ids=["empty", "of images", "a text"])
def test_a_usage_without_any_number_of_tokens_is_unknown(usage: Any, mode: str, sink: MemorySink) -> None:
    run(mode, ask(chat(usage=usage), mode, sink))
    row = sink.row
    assert (row["success"], row["prompt_tokens"], row["total_tokens"]) == (True, None, None)
    assert row["metadata"]["usage"] == "unknown"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", ["prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens", "unknown"])
@pytest.mark.parametrize("number", [10**400, -(10**400), 2**31, 2**64, -1, 1e308, 1e400], ids=repr)
def test_a_number_that_no_column_can_hold_loses_only_itself(
    number: float, place: str, mode: str, sink: MemorySink
) -> None:
    usage: Any = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    if place == "cached_tokens":
        usage["prompt_tokens_details"] = {place: number}
    else:
        usage[place] = number
    run(mode, ask(chat(usage=usage), mode, sink))
    row = sink.row
    assert (row["success"], row["finish_reason"]) == (True, "stop")
    if place != "completion_tokens":
        assert row["completion_tokens"] == 5
    for column in TOKENS:
        assert row[column] is None or 0 <= row[column] < 2**31


@pytest.mark.parametrize("number", [10**400, 10**30, 2**31, -5, 1e308, 1.5e9], ids=repr)
@pytest.mark.parametrize("place", ["cost", "audio", "searches", "long writes"])
def test_an_absurd_number_of_a_component_makes_no_absurd_cost(number: float, place: str, sink: MemorySink) -> None:
    usage: Any = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    if place == "cost":
        usage["cost"] = number
    elif place == "audio":
        usage["prompt_tokens_details"] = {"audio_tokens": number}
    elif place == "searches":
        usage["num_search_queries"] = number
    else:
        usage["prompt_tokens_details"] = {
            "cache_write_tokens": 5, "cache_write_tokens_details": {"ttl_12h_tokens": number, "ttl_30m_tokens": number}
        }  # fmt: skip
    run("sync", ask(chat(model="gpt-6.1-terra", usage=usage), "sync", sink))
    row = sink.row
    assert (row["success"], row["prompt_tokens"]) == (True, 10)
    assert row["total_cost"] is None or 0 <= row["total_cost"] < 0.01


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([{"index": 0, "id": "", "function": {"name": "f", "arguments": "{}"}}] * 2, 2),
        ([{"index": n, "function": {"name": "f", "arguments": "{}"}} for n in range(3)], 3),
        ([{"function": {"name": "f"}}, {"function": {"arguments": "{"}}, {"function": {"arguments": "}"}}], 1),
        ([{"index": 0, "function": {"arguments": "{"}}, {"index": 0, "function": {"arguments": "}"}}], 1),
        ([{"index": 0, "id": "a", "function": {"name": "f"}}, {"index": 0, "function": {"name": "f"}}], 1),
        ([{"index": 0, "id": "a", "function": {"name": "f"}}, {"index": 0, "id": "b", "function": {"name": "f"}}], 2),
    ],
    ids=["whole, empty ids", "whole, an index each", "in pieces", "without a name", "named again", "one index"],
)
def test_tool_calls_are_counted_in_streams_without_ids(deltas: list[Any], calls: int, sink: MemorySink) -> None:
    chunks = [
        {"object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]}
        for delta in deltas
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body, headers=headers))
    with OpenAI(api_key="k", base_url="http://server/v1", http_client=httpx.Client(transport=transport)) as client:
        instrument(client, store=sink)
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        assert len(list(stream)) == len(chunks)

    assert (sink.row["tool_call_count"], sink.row["has_tool_calls"]) == (calls, True)


def test_a_stored_response_whose_status_is_not_text_is_one_record(sink: MemorySink) -> None:
    body = {"id": "r", "object": "response", "status": {"a": 1}, "model": "m", "output": 7, "background": True}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=body))
    with OpenAI(api_key="k", base_url="http://server/v1", http_client=httpx.Client(transport=transport)) as client:
        instrument(client, store=sink)
        client.responses.create(model="asked", input="hi")

    assert sink.row["model"] == "m"


def respond(sink: MemorySink, body: Any, act: Any) -> None:
    """Let an instrumented client act on a server that always returns one body."""
    content, headers = json.dumps(body), {"content-type": "application/json"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=content, headers=headers))
    with OpenAI(api_key="k", base_url="http://server/v1", http_client=httpx.Client(transport=transport)) as client:
        instrument(client, store=sink)
        act(client)


@pytest.mark.parametrize("kind", [["a"], {"a": 1}, 7, None, "x" * 300_000], ids=lambda kind: type(kind).__name__)
def test_an_output_item_of_an_unknown_type_hides_no_other(kind: Any, sink: MemorySink) -> None:
    search = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
    message = {"type": "message", "content": [{"type": "output_text", "text": "four"}]}
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    body = {"id": "r", "object": "response", "status": "completed", "model": "m", "usage": usage}
    body["output"] = [{"type": kind}, search, message]
    respond(sink, body, lambda client: client.responses.create(model="m", input="hi"))
    row = sink.row
    assert (row["prompt_tokens"], row["response_length"], row["tool_usage"]) == (10, 4, {"web_search": 1})


NO_TIMES = [float("inf"), float("nan"), 10**30, 1e18, -1, 253402300800, "yesterday", [1]]


@pytest.mark.parametrize("moment", NO_TIMES, ids=lambda moment: repr(moment)[:20])
@pytest.mark.parametrize("name", ["created_at", "completed_at"])
def test_a_retrieved_response_with_an_impossible_time_is_one_record(name: str, moment: Any, sink: MemorySink) -> None:
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    body = {"id": f"resp_{name}_{moment!r}"[:60], "object": "response", "status": "completed", "background": True}
    body |= {"model": "m", "output": [], "usage": usage, "created_at": 1_768_035_600, "completed_at": 1_768_035_601}
    began = time.time()
    respond(sink, {**body, name: moment}, lambda client: client.responses.retrieve("r"))
    row = sink.row
    assert (row["success"], row["prompt_tokens"]) == (True, 10)
    assert row["time"].timestamp() in (pytest.approx(1_768_035_600), pytest.approx(began, abs=600))
    assert row["duration_ms"] < 600_000


@pytest.mark.parametrize("moment", [*NO_TIMES, 10**400], ids=lambda moment: repr(moment)[:20])
def test_a_batch_with_an_impossible_time_is_one_record(moment: Any, sink: MemorySink) -> None:
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    body = {"id": f"batch_{moment!r}"[:60], "object": "batch", "status": "completed", "model": "m", "usage": usage}
    respond(sink, {**body, "created_at": moment}, lambda client: client.batches.retrieve("b"))
    row = sink.row
    assert (row["api"], row["prompt_tokens"]) == ("batches", 10)
    assert row["time"].timestamp() == pytest.approx(time.time(), abs=600)
