"""Raw responses (``with_raw_response``): recorded when the call returns, from what the server sent.

Only the caller runs the SDK's parser, and it returns and raises the same as without recording.
"""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion

from rlm_cachetrack import instrument, stats
from tests.support.deep import describe, describe_error
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.support.transport import httpx
from tests.surfaces.calls import (
    BY_NAME,
    MODES,
    TOKENS,
    client_of,
    entering,
    require,
    run,
    settled,
    with_and_without,
)
from tests.surfaces.test_strange_answers import ANSWERS, chat, with_message

NAMES = ("chat.completions.create", "responses.create", "completions.create", "embeddings.create")
TYPES: dict[str, Any] = {"dict": dict, "ChatCompletion": ChatCompletion, "str": str, "int": int}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_raw_response_is_recorded_before_it_is_parsed(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    surface = BY_NAME[name]

    async def act(client: Any) -> Any:
        method = getattr(surface.resource(client).with_raw_response, surface.method)
        raw = await settled(method(**surface.arguments))
        return sorted(vars(raw)), raw._parsed_by_type == {}

    (outcome, (attributes, unparsed)), without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert (outcome, (attributes, unparsed)) == without
    assert unparsed
    assert stats()["recorded"] == 1
    assert {column: sink.row[column] for column in TOKENS} == surface.tokens
    assert sink.row["model"] == "gpt-5-2025-08-07"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("to", ["dict", "ChatCompletion", "str", "int"])
def test_a_caller_can_parse_a_raw_response_to_another_type(
    server: ScriptedServer, sink: MemorySink, to: str, mode: str
) -> None:
    """If the SDK cannot parse to that type, the caller gets the error; the call was still a success."""
    surface = BY_NAME["chat.completions.create"]

    async def act(client: Any) -> Any:
        raw = await settled(client.chat.completions.with_raw_response.create(**surface.arguments))
        try:
            return describe(raw.parse(to=TYPES[to]))
        except Exception as error:
            return describe_error(error)

    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert with_us == without
    assert sink.row["success"] is True
    assert {column: sink.row[column] for column in TOKENS} == surface.tokens


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["chat.completions.parse", "beta.chat.completions.parse", "responses.parse"])
def test_a_response_rejected_by_a_helper_is_one_failure(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    """Only the parser of the helper detects the error; the SDK caches the parsed result, so it does not run twice."""
    surface = BY_NAME[name]
    require(surface, "raw", mode)

    class Other(openai.BaseModel):
        nothing_of_it: int

    given = {"text_format": Other} if name == "responses.parse" else {"response_format": Other}

    async def act(client: Any) -> Any:
        method = getattr(surface.resource(client).with_raw_response, surface.method)
        raw = await settled(method(**{**surface.arguments, **given}))
        return describe(raw.parse())

    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert with_us == without
    assert with_us[0] == "raised"
    assert (sink.row["success"], sink.row["error_type"]) == (False, "ValidationError")


# -- over an in-process transport: a raw response has the same record as the plain call ------------------------------


EMBEDDED = {"object": "list", "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
LONG = [{"object": "embedding", "index": n, "embedding": [0.25, -1e-9] * 50} for n in range(200)]
JSON = {"content-type": "application/json; charset=utf-8"}


def bodies() -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Return the API, body and headers of each example by its name."""
    answers = {
        **ANSWERS,
        "usual": chat(),
        "usual of a tier": chat(service_tier="flex"),
        "with tool calls": with_message(tool_calls=[{"id": "a", "type": "function"}, {"id": "b"}], content=None),
        "two choices": chat(choices=chat()["choices"] * 2),
        "no usage": chat(usage=None),
        "details": chat(usage={**chat()["usage"], "prompt_tokens_details": {"cached_tokens": 8}, "cost": 0.25}),
        "null details": chat(usage={**chat()["usage"], "prompt_tokens_details": None}),
        "counts that are texts": chat(usage={"prompt_tokens": "10", "total_tokens": 12}),
        "error": {"error": {"message": "no", "type": "wrong"}},
        "error beside an answer": chat(error={"message": "late", "code": "wrong"}),
        "no error": chat(error=None),
        "half a surrogate pair": with_message(content="\ud83d"),
        "a text": "hello",
        "an empty object": {},
    }
    found = {name: ("chat", json.dumps(body).encode(), JSON) for name, body in answers.items()}
    found |= {
        "no content type": ("chat", json.dumps(chat()).encode(), {}),
        "JSON that is called text": ("chat", json.dumps(chat()).encode(), {"content-type": "text/plain"}),
        "text": ("chat", b"hello", {"content-type": "text/plain"}),
        "text that is called JSON": ("chat", b"hello", JSON),
        "nothing": ("chat", b"", JSON),
        "UTF-16": ("chat", json.dumps(chat()).encode("utf-16"), JSON),
        "a byte order mark": ("chat", b"\xef\xbb\xbf" + json.dumps(chat()).encode(), JSON),
        "no UTF-8": ("chat", json.dumps(with_message(content="\xe9"), ensure_ascii=False).encode("latin-1"), JSON),
        "not a number": ("chat", json.dumps(chat(usage={"prompt_tokens": float("nan")})).encode(), JSON),
        "nested deeply": ("chat", b'{"usage": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}", JSON),
        "a request id": ("chat", json.dumps(chat()).encode(), {**JSON, "X-Request-ID": "req_1"}),
        "Azure's request id": ("chat", json.dumps(chat()).encode(), {**JSON, "apim-request-id": "req_2"}),
    }
    embedded = {
        "embeddings": {**EMBEDDED, "data": LONG[:1]},
        "many embeddings": {**EMBEDDED, "data": LONG},
        "many embeddings behind their usage": {**EMBEDDED, "data": LONG, "more": [1]},
        "no embeddings": {**EMBEDDED, "data": []},
        "an error for embeddings": {"error": {"message": "no", "type": "wrong"}},
    }
    return found | {name: ("embeddings", json.dumps(body).encode(), JSON) for name, body in embedded.items()}


BODIES = bodies()


async def ask(mode: str, form: str, api: str, body: bytes, headers: dict[str, str], sink: MemorySink | None) -> Any:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body, headers=headers))
    asynchronous = mode == "async"
    http = httpx.AsyncClient(transport=transport) if asynchronous else httpx.Client(transport=transport)
    kind: Any = AsyncOpenAI if asynchronous else OpenAI
    async with entering(kind(api_key="k", base_url="http://server/v1", max_retries=0, http_client=http)) as client:
        if sink is not None:
            instrument(client, store=sink)
        resource = client.chat.completions if api == "chat" else client.embeddings
        arguments: Any = {"messages": [{"role": "user", "content": "hi"}]} if api == "chat" else {"input": "hi"}
        method = (resource.with_raw_response if form == "raw" else resource).create
        try:
            answered = await settled(method(model="asked", **arguments))
            return describe(await settled(answered.parse()) if form == "raw" else answered)
        except Exception as error:
            return describe_error(error)


UNTOLD = ("interaction_id", "time", "start_time", "end_time", "duration_ms", "run_id", "fingerprint")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("body", BODIES)
def test_a_raw_response_has_the_same_record_as_the_plain_call(body: str, mode: str, sink: MemorySink) -> None:
    observed: list[Any] = []

    async def act() -> None:
        observed.append(await ask(mode, "raw", *BODIES[body], None))
        observed.append(await ask(mode, "raw", *BODIES[body], sink))
        await ask(mode, "plain", *BODIES[body], sink)

    run(mode, act())
    assert observed[0] == observed[1]
    raw, plain = ({name: value for name, value in row.items() if name not in UNTOLD} for row in sink.rows)
    if body == "Azure's request id":  # for a plain response the SDK keeps only OpenAI's header
        assert (raw.pop("request_id"), plain.pop("request_id")) == ("req_2", None)
    assert raw == plain


@pytest.mark.parametrize("mode", MODES)
def test_a_response_rejected_by_a_validating_client_is_a_failure(sink: MemorySink, mode: str) -> None:
    body = json.dumps(chat(choices=5)).encode()
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body, headers=JSON))
    raised: list[str] = []

    async def act() -> None:
        asynchronous = mode == "async"
        http = httpx.AsyncClient(transport=transport) if asynchronous else httpx.Client(transport=transport)
        kind: Any = AsyncOpenAI if asynchronous else OpenAI
        made = kind(api_key="k", base_url="http://server/v1", http_client=http, _strict_response_validation=True)
        async with entering(made) as client:
            instrument(client, store=sink)
            raw = await settled(client.chat.completions.with_raw_response.create(model="asked", messages=[]))
            try:
                raw.parse()
            except openai.APIResponseValidationError as error:
                raised.append(type(error).__name__)

    run(mode, act())
    assert raised == ["APIResponseValidationError"]
    assert (sink.row["success"], sink.row["error_type"]) == (False, "APIResponseValidationError")
