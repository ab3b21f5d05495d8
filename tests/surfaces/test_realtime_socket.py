"""Realtime: one record per response and per transcription, and the caller sees the same as without recording."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import realtime_events as events
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.socket_server import Json, Peer, SocketServer
from tests.surfaces.calls import MODES, TOKENS, entering, settled
from tests.surfaces.sockets import REALTIME, compare, each_reading, in_run, picked, read, resource_of

# The SDK warns that beta.realtime is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tests.surfaces")

NUMBERS = dict(zip(TOKENS, (132, 121, 253, 64, 68, None, None), strict=True))
DETAILS = {
    "audio_prompt_tokens": 13,
    "image_prompt_tokens": 30,
    "audio_cached_tokens": 4,
    "audio_completion_tokens": 91,
}
SECRET = "the prompt that nobody may read"


@pytest.fixture
def server(socket_server: SocketServer) -> SocketServer:
    """Return the websocket server, which answers every request with a complete response."""
    socket_server.script = events.answer_all
    return socket_server


def connect(client: Any, name: str = "realtime") -> Any:
    return resource_of(client, name).connect(model="gpt-realtime")


@pytest.mark.parametrize("name", REALTIME)
@pytest.mark.parametrize(("mode", "reading"), each_reading())
def test_a_response_is_one_record_with_its_modalities(
    server: SocketServer, sink: MemorySink, mode: str, reading: str, name: str
) -> None:
    async def act(client: Any) -> Any:
        async with entering(connect(client, name)) as connection:
            await settled(connection.response.create(response={"instructions": SECRET}))
            return await read(connection, reading), describe(connection), sorted(vars(connection))

    compare(server, sink, mode, act)
    row = sink.row
    assert picked(row, *TOKENS) == NUMBERS
    assert row["token_details"] == DETAILS
    assert picked(row, "api", "model", "finish_reason", "success", "response_id", "tool_call_count") == {
        "api": "realtime",
        "model": events.MODEL,
        "finish_reason": "completed",
        "success": True,
        "response_id": "resp_1",
        "tool_call_count": 1,
    }
    assert row["response_length"] == len("good day")
    assert row["metadata"]["requested_model"] == "gpt-realtime"
    assert row["fingerprint"] is None  # the server has the conversation
    assert 0 < row["time_to_first_token_ms"] <= row["duration_ms"]
    assert "nobody may read" not in str(row)


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_the_run_of_its_calls_unless_one_is_active(
    server: SocketServer, sink: MemorySink, mode: str
) -> None:
    async def act(client: Any) -> Any:
        found = []
        for _ in range(2):
            async with entering(connect(client)) as connection:
                for query in (None, "query", None):
                    if query is None:
                        await settled(connection.response.create())
                    else:
                        with in_run(query):
                            await settled(connection.response.create())
                    found += await read(connection, "recv")
        return found

    compare(server, sink, mode, act)
    rows = sink.rows
    assert [row["query_id"] for row in rows] == ["adhoc", "query", "adhoc"] * 2
    first, second = {rows[0]["run_id"], rows[2]["run_id"]}, {rows[3]["run_id"], rows[5]["run_id"]}
    assert (len(first), len(second)) == (1, 1)
    assert first != second


@pytest.mark.parametrize("mode", MODES)
def test_a_response_that_the_server_begins_is_a_record(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.send(events.session(), events.committed("item_0"), *events.whole("resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            with in_run("listens"):
                return await read(connection, "iteration")

    compare(server, sink, mode, act)
    assert picked(sink.row, "query_id", *TOKENS) == {"query_id": "listens", **NUMBERS}


@pytest.mark.parametrize("mode", MODES)
def test_responses_that_run_at_once_are_told_apart(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.send(events.session())
        for _ in range(2):
            peer.get()
        small = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        peer.send(events.created("resp_1"), events.created("resp_2"), events.delta("resp_2"))
        peer.send(events.done("resp_2"), events.done("resp_1", usage=small))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            for number in (1, 2):
                with in_run(f"query {number}"):
                    await settled(connection.response.create(response={"conversation": "none"}))
            return await read(connection, "recv", endings=2)

    compare(server, sink, mode, act)
    found = {row["query_id"]: (row["prompt_tokens"], row["time_to_first_token_ms"] is None) for row in sink.rows}
    assert found == {"query 1": (1, True), "query 2": (132, False)}


# -- endings ----------------------------------------------------------------------------------------------------------

_ENDINGS: dict[str, tuple[str, Json | None, Json]] = {
    "cancelled": (
        "cancelled",
        {"type": "cancelled", "reason": "turn_detected"},
        {"success": True, "error_type": None, "finish_reason": "turn_detected", "prompt_tokens": 132},
    ),
    "incomplete": (
        "incomplete",
        {"type": "incomplete", "reason": "max_output_tokens"},
        {"success": True, "error_type": None, "finish_reason": "max_output_tokens", "prompt_tokens": 132},
    ),
    "failed": (
        "failed",
        {"type": "failed", "error": {"type": "server_error", "code": "overloaded", "message": "try again"}},
        {"success": False, "error_type": "server_error", "error_message": "try again", "prompt_tokens": 132},
    ),
}


@pytest.mark.parametrize("ending", _ENDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_a_response_that_does_not_complete_is_recorded(
    server: SocketServer, sink: MemorySink, mode: str, ending: str
) -> None:
    status, details, expected = _ENDINGS[ending]

    def script(peer: Peer) -> None:
        peer.send(events.session())
        peer.get()
        peer.send(events.created("resp_1"), events.done("resp_1", status, status_details=details))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.response.create())
            return await read(connection, "recv")

    compare(server, sink, mode, act)
    assert picked(sink.row, *expected) == expected


@pytest.mark.parametrize("mode", MODES)
def test_an_error_fails_the_request_that_it_names(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.send(events.session())
        peer.get()
        peer.get()
        peer.send(events.error("unknown_parameter", "other"))  # an error of an event that requests no response
        peer.send(events.error("invalid_value", "mine", SECRET), *events.whole("resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            body = {"instructions": SECRET}
            await settled(connection.send({"type": "response.create", "event_id": "mine", "response": body}))
            await settled(connection.send({"type": "response.create", "event_id": "second"}))
            return await read(connection, "recv", endings=3)

    compare(server, sink, mode, act)
    failed, succeeded = sink.rows
    assert picked(failed, "success", "error_type", "prompt_tokens") == {
        "success": False,
        "error_type": "invalid_value",
        "prompt_tokens": None,
    }
    assert "nobody may read" not in str(failed)
    assert picked(succeeded, "success", *TOKENS) == {"success": True, **NUMBERS}


@pytest.mark.parametrize("how", ["closed by the caller", "lost"])
@pytest.mark.parametrize("name", REALTIME)
@pytest.mark.parametrize("mode", MODES)
def test_a_response_without_its_end_is_one_failed_record(
    server: SocketServer, sink: MemorySink, mode: str, name: str, how: str
) -> None:
    def script(peer: Peer) -> None:
        peer.send(events.session())
        peer.get()
        peer.send(events.created("resp_1"))
        if how == "lost":
            peer.get()
            peer.drop()

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client, name)) as connection:
            await settled(connection.response.create())
            found = [describe(await settled(connection.recv())) for _ in range(2)]
            if how != "lost":
                return found
            await settled(connection.send({"type": "input_audio_buffer.clear"}))
            return await read(connection, "recv")

    compare(server, sink, mode, act, raises=how == "lost")
    assert picked(sink.row, "success", "prompt_tokens", "model") == {
        "success": False,
        "prompt_tokens": None,
        "model": "gpt-realtime",
    }
    assert sink.row["metadata"]["usage"] == "unknown"


# -- transcriptions of the input --------------------------------------------------------------------------------------

_TOKENS = {"type": "tokens", "total_tokens": 26, "input_tokens": 17, "output_tokens": 9}
_TRANSCRIPTIONS: dict[str, tuple[Json, Json, Json | None]] = {
    "tokens": (
        {**_TOKENS, "input_token_details": {"text_tokens": 0, "audio_tokens": 17}},
        {"prompt_tokens": 17, "completion_tokens": 9, "total_tokens": 26},
        {"audio_prompt_tokens": 17},
    ),
    "seconds": (
        {"type": "duration", "seconds": 3.5},
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        {"seconds": 3.5},
    ),
}


@pytest.mark.parametrize("unit", _TRANSCRIPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_transcription_of_the_input_is_a_record(server: SocketServer, sink: MemorySink, mode: str, unit: str) -> None:
    usage, tokens, details = _TRANSCRIPTIONS[unit]

    def script(peer: Peer) -> None:
        peer.send(events.session(), events.committed("item_0"), *events.whole("resp_1"))
        peer.send(events.transcribed("item_0", usage), events.done("resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            return await read(connection, "recv", endings=2)

    compare(server, sink, mode, act)
    answer, transcription = sink.rows
    assert picked(answer, *TOKENS) == NUMBERS
    assert picked(transcription, "api", "model", "success", "finish_reason", *tokens) == {
        "api": "realtime",
        "model": "gpt-4o-transcribe",
        "success": True,
        "finish_reason": "completed",
        **tokens,
    }
    assert transcription["token_details"] == details
    assert transcription["run_id"] == answer["run_id"]
    assert transcription["metadata"]["transcription"] is True
    assert "usage" not in transcription["metadata"]
    assert transcription["response_length"] == len(events.TRANSCRIPT)
    assert transcription["duration_ms"] > 0
    assert "nobody may read" not in str(transcription)


def test_a_failed_transcription_is_a_failed_record(server: SocketServer, sink: MemorySink) -> None:
    def script(peer: Peer) -> None:
        failure = {"type": "transcription_error", "code": "audio_unintelligible", "message": "no words"}
        event = {"type": "conversation.item.input_audio_transcription.failed", "item_id": "item_0", "error": failure}
        peer.send(events.beta_session(), event, *events.whole("resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            return await read(connection, "recv")

    compare(server, sink, "sync", act)
    failed, answer = sink.rows
    assert picked(failed, "model", "success", "error_type") == {
        "model": "whisper-1",
        "success": False,
        "error_type": "transcription_error",
    }
    assert picked(answer, "model", *TOKENS) == {"model": events.MODEL, **NUMBERS}
