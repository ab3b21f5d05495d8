"""Errors reach the caller as they do without recording, and each failed call has one record with its error."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pydantic
import pytest

from rlm_cachetrack import instrument, stats
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import MODEL, ScriptedServer
from tests.surfaces.calls import (
    BY_NAME,
    MODES,
    TOKENS,
    call,
    client_of,
    entering,
    items,
    require,
    settled,
    with_and_without,
)

STATUSES = {
    "400": "BadRequestError",
    "401": "AuthenticationError",
    "403": "PermissionDeniedError",
    "404": "NotFoundError",
    "409": "ConflictError",
    "422": "UnprocessableEntityError",
    "429": "RateLimitError",
    "500": "InternalServerError",
    "html": "InternalServerError",
}
RAISED = {
    **STATUSES,
    "broken json": "JSONDecodeError",
    "empty": "JSONDecodeError",
    "cut body": "APIConnectionError",
    "drop": "APIConnectionError",
}
IN_A_STREAM = {
    "error chunk": "APIError",
    "broken chunk": "JSONDecodeError",
    # Since 2.x the SDK raises APIConnectionError; before, it raised the error of the HTTP library.
    "cut stream": ("APIConnectionError", "RemoteProtocolError"),
}
WAYS = [
    *((name, form) for name in ("chat.completions.create", "responses.create") for form in BY_NAME[name].forms),
    *((name, "plain") for name in ("beta.chat.completions.parse", "responses.parse", "responses.compact")),
    *((name, "events") for name in ("chat.completions.stream", "beta.chat.completions.stream", "responses.stream")),
    *((name, "plain") for name in ("completions.create", "embeddings.create", "post")),
    ("completions.create", "stream"),
]


def ids(ways: list[Any]) -> list[Any]:
    return [pytest.param(*way, id="-".join(way).replace(" ", "_")) for way in ways]


def compare(
    server: ScriptedServer, sink: MemorySink, name: str, form: str, mode: str, fault: str, **options: Any
) -> Any:
    """Assert that a call has the same outcome with and without recording, and one record. Returns both."""
    surface = BY_NAME[name]
    require(surface, form, mode)
    with_us, without = with_and_without(
        server,
        mode,
        lambda: client_of(server, mode, **options),
        lambda client: instrument(client, store=sink),
        lambda client: call(client, surface, form, {"x-fault": fault}),
    )
    assert with_us == without
    assert stats()["recorded"] == 1
    return with_us, sink.row


def check_failure(row: dict[str, Any], raised: dict[str, Any]) -> None:
    """Check the record of a call that raised."""
    assert (row["success"], row["error_type"]) == (False, raised["type"].rpartition(".")[2])
    assert row["error_message"] is not None  # a timeout of old versions has no message
    assert row["duration_ms"] > 0
    assert all(row[name] is None for name in TOKENS)
    assert (row["total_cost"], row["original_cost"]) == (None, None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "form"), ids(WAYS))
@pytest.mark.parametrize("fault", ["400", "429", "500"])
def test_a_rejected_call_raises_the_same_and_is_one_failure(
    server: ScriptedServer, sink: MemorySink, name: str, form: str, mode: str, fault: str
) -> None:
    (outcome, raised), row = compare(server, sink, name, form, mode, fault)
    assert outcome == "raised"
    assert raised["type"] == f"openai.{STATUSES[fault]}"
    check_failure(row, raised)
    assert (row["model"], row["error_message"]) == ("gpt-5", "something is wrong")
    assert row["metadata"]["status_code"] == int(fault)
    assert row["request_id"] == "req_scripted"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", RAISED)
def test_every_error_of_a_plain_call_is_one_failure(
    server: ScriptedServer, sink: MemorySink, mode: str, fault: str
) -> None:
    (outcome, raised), row = compare(server, sink, "chat.completions.create", "plain", mode, fault)
    assert (outcome, raised["type"].rpartition(".")[2]) == ("raised", RAISED[fault])
    check_failure(row, raised)
    assert row["model"] == "gpt-5"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["raw", "streaming response"])
@pytest.mark.parametrize("fault", ["broken json", "empty", "cut body", "drop"])
def test_a_raw_response_that_cannot_be_parsed_is_one_failure(
    server: ScriptedServer, sink: MemorySink, mode: str, form: str, fault: str
) -> None:
    (outcome, raised), row = compare(server, sink, "chat.completions.create", form, mode, fault)
    assert outcome == "raised"
    check_failure(row, raised)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "form"), ids([way for way in WAYS if way[1] in ("plain", "raw", "streaming response")])
)
def test_a_response_with_status_200_and_an_error_is_a_failure(
    server: ScriptedServer, sink: MemorySink, name: str, form: str, mode: str
) -> None:
    (_, result), row = compare(server, sink, name, form, mode, "error body")
    assert row["success"] is False
    assert row["model"] == "gpt-5"
    assert all(row[column] is None for column in TOKENS)
    if isinstance(result, list):  # the call returned an object without its fields
        assert (row["error_type"], row["error_message"]) == ("invalid_request_error", "something is wrong")
    else:  # some helpers and some versions of the SDK raise
        check_failure(row, result)


class Unmet(pydantic.BaseModel):
    """A type that no response of the scripted server satisfies."""

    never_there: int


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "raw", "streaming response"])
@pytest.mark.parametrize("name", ["chat.completions.parse", "beta.chat.completions.parse", "responses.parse"])
def test_a_response_rejected_by_a_helper_is_a_failure_with_the_billed_tokens(
    server: ScriptedServer, sink: MemorySink, name: str, form: str, mode: str
) -> None:
    surface = BY_NAME[name]
    require(surface, form, mode)
    wanted = "text_format" if name == "responses.parse" else "response_format"
    surface = replace(surface, arguments={**surface.arguments, wanted: Unmet})
    (outcome, raised), without = with_and_without(
        server,
        mode,
        lambda: client_of(server, mode),
        lambda client: instrument(client, store=sink),
        lambda client: call(client, surface, form),
    )
    assert (outcome, raised) == without
    assert outcome == "raised"
    row = sink.row
    assert (row["success"], row["error_type"]) == (False, "ValidationError")
    assert {column: row[column] for column in TOKENS} == surface.tokens
    assert row["model"] == MODEL


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["broken json", "empty", "html 200"])
@pytest.mark.parametrize("how", ["json", "text", "iter_lines"])
def test_an_invalid_body_that_is_read_without_the_parser_is_a_failure(
    server: ScriptedServer, sink: MemorySink, how: str, fault: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        arguments = {**BY_NAME["chat.completions.create"].arguments, "extra_headers": {"x-fault": fault}}
        async with entering(client.chat.completions.with_streaming_response.create(**arguments)) as response:
            read = getattr(response, how)()
            return await items(read) if how == "iter_lines" else await settled(read)

    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert with_us == without
    assert (sink.row["success"], sink.row["error_type"]) == (False, "UnexpectedResponse")


@pytest.mark.parametrize("mode", MODES)
def test_an_error_body_of_plain_text_is_the_message(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    _, row = compare(server, sink, "chat.completions.create", "plain", mode, "error text")
    assert (row["success"], row["error_type"], row["error_message"]) == (False, "error", "overloaded")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "raw", "streaming response"])
def test_a_web_page_instead_of_a_response_is_a_failure(
    server: ScriptedServer, sink: MemorySink, mode: str, form: str
) -> None:
    (outcome, _), row = compare(server, sink, "chat.completions.create", form, mode, "html 200")
    assert outcome == "returned"
    assert (row["success"], row["error_type"], row["model"]) == (False, "UnexpectedResponse", "gpt-5")
    assert "hello" not in row["error_message"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["stream", "raw stream", "streaming response stream"])
@pytest.mark.parametrize("name", ["chat.completions.create", "responses.create"])
@pytest.mark.parametrize("fault", IN_A_STREAM)
def test_a_stream_that_breaks_raises_the_same_and_is_one_failure(
    server: ScriptedServer, sink: MemorySink, name: str, form: str, mode: str, fault: str
) -> None:
    (outcome, raised), row = compare(server, sink, name, form, mode, fault)
    assert outcome == "raised"
    assert raised["type"].rpartition(".")[2] in IN_A_STREAM[fault]
    check_failure(row, raised)
    assert row["model"] == MODEL  # the first chunk contains it
    assert row["metadata"]["usage"] == "unknown"  # the call ran and may be billed
    assert row["metadata"]["stream"] is True


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["chat.completions.stream", "beta.chat.completions.stream", "responses.stream"])
@pytest.mark.parametrize("fault", IN_A_STREAM)
def test_a_helper_whose_stream_breaks_raises_the_same_and_is_one_failure(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str, fault: str
) -> None:
    (outcome, raised), row = compare(server, sink, name, "events", mode, fault)
    assert outcome == "raised"
    check_failure(row, raised)
    assert row["metadata"]["usage"] == "unknown"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["stream", "raw stream"])
def test_a_usage_after_an_error_event_is_not_recorded(
    server: ScriptedServer, sink: MemorySink, form: str, mode: str
) -> None:
    """A known limit: the SDK stops reading at the error."""
    (outcome, raised), row = compare(server, sink, "chat.completions.create", form, mode, "usage behind an error")
    assert (outcome, raised["type"]) == ("raised", "openai.APIError")
    check_failure(row, raised)
    assert row["metadata"]["usage"] == "unknown"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["stream", "raw stream", "streaming response stream"])
def test_a_usage_in_an_error_event_is_recorded_with_the_failure(
    server: ScriptedServer, sink: MemorySink, form: str, mode: str
) -> None:
    (outcome, raised), row = compare(server, sink, "chat.completions.create", form, mode, "usage in an error")
    assert (outcome, raised["type"]) == ("raised", "openai.APIError")
    assert (row["success"], row["error_type"], row["error_message"]) == (False, "APIError", "something is wrong")
    assert {name: row[name] for name in TOKENS} == BY_NAME["chat.completions.create"].tokens


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["chat.completions.create", "responses.create"])
def test_an_error_event_that_the_sdk_passes_on_makes_the_call_a_failure(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    (outcome, result), row = compare(server, sink, name, "stream", mode, "error event")
    assert (row["success"], row["metadata"]["usage"]) == (False, "unknown")
    assert "something is wrong" in row["error_message"]
    if outcome == "raised":
        check_failure(row, result)
    else:
        assert row["error_type"] == "wrong"


@pytest.fixture
def unused_address() -> Iterator[str]:
    """Return an address at which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "stream", "raw", "streaming response"])
def test_a_refused_connection_is_one_failure(
    server: ScriptedServer, sink: MemorySink, mode: str, form: str, unused_address: str
) -> None:
    (_, raised), row = compare(server, sink, "chat.completions.create", form, mode, "", base_url=unused_address)
    assert raised["type"] == "openai.APIConnectionError"
    check_failure(row, raised)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "stream", "raw", "streaming response"])
def test_a_call_that_times_out_is_one_failure(server: ScriptedServer, sink: MemorySink, mode: str, form: str) -> None:
    (_, raised), row = compare(server, sink, "chat.completions.create", form, mode, "hold", timeout=0.1)
    assert raised["type"] == "openai.APITimeoutError"
    check_failure(row, raised)
    assert row["duration_ms"] >= 100


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_that_times_out_is_one_failure(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    (_, raised), row = compare(server, sink, "chat.completions.create", "stream", mode, "hold stream", timeout=2)
    assert raised["type"].rpartition(".")[2] in ("APITimeoutError", "ReadTimeout")
    check_failure(row, raised)
    assert row["metadata"]["usage"] == "unknown"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "stream", "raw", "raw stream", "streaming response"])
def test_retries_of_the_sdk_are_one_record_with_their_count(
    server: ScriptedServer, sink: MemorySink, mode: str, form: str
) -> None:
    (outcome, _), row = compare(server, sink, "chat.completions.create", form, mode, "retry:2", max_retries=3)
    assert outcome == "returned"
    assert len(server.requests) == 3
    assert row["metadata"]["attempts"] == 3
    assert (row["success"], row["prompt_tokens"]) == (True, 1200)


@pytest.mark.parametrize("mode", MODES)
def test_retries_are_counted_if_the_caller_adds_extra_body(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        arguments = BY_NAME["chat.completions.create"].arguments
        added: Any = {"extra_body": {"top_k": 5}, "extra_headers": {"x-fault": "retry:1"}}
        return describe(await settled(client.chat.completions.create(**arguments, **added)))

    with_us, without = with_and_without(
        server,
        mode,
        lambda: client_of(server, mode, max_retries=2),
        lambda client: instrument(client, store=sink),
        act,
    )
    assert with_us == without
    assert server.requests[-1].body["top_k"] == 5
    assert sink.row["metadata"]["attempts"] == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["retry:9", "drop"])
def test_failed_retries_are_one_failure_with_their_count(
    server: ScriptedServer, sink: MemorySink, mode: str, fault: str
) -> None:
    (outcome, raised), row = compare(server, sink, "chat.completions.create", "plain", mode, fault, max_retries=1)
    assert outcome == "raised"
    check_failure(row, raised)
    assert len(server.requests) == 2
    assert row["metadata"]["attempts"] == 2


def test_an_error_message_is_trimmed_and_contains_no_key(server: ScriptedServer, sink: MemorySink) -> None:
    """An error message that quotes the whole request contains the prompt and the key."""
    surface = BY_NAME["chat.completions.create"]
    key = "sk-proj-0123456789abcdefghij"
    arguments = {**surface.arguments, "user": key + " " + "x" * 5000}
    with client_of(server, "sync") as client:
        instrument(client, store=sink)
        with pytest.raises(openai.BadRequestError, match="cannot read"):
            client.chat.completions.create(**arguments, extra_headers={"x-fault": "quotes the request"})
    message = sink.row["error_message"]
    assert message.startswith("cannot read ")
    assert len(message) <= 500
    assert key not in message
    assert "unused_address may read" not in message
