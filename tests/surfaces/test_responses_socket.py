"""Responses over a websocket: one record per response, and the caller sees the same as without recording."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import openai
import pytest

from rlm_cachetrack import instrument, query_run, uninstrument
from rlm_cachetrack.fingerprint import decode_run
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.support.socket_server import (
    TEXT,
    Json,
    Peer,
    SocketServer,
    answer_all,
    completed,
    created,
    delta,
    ended,
    error,
    whole,
)
from tests.surfaces.calls import MODES, TOKENS, entering, settled
from tests.surfaces.sockets import (
    RESPONSES,
    accepts,
    client_of,
    compare,
    each_reading,
    in_run,
    picked,
    read,
    resource_of,
)

NUMBERS = dict(zip(TOKENS, (2300, 45, 2345, 2048, 252, 128, 40), strict=True))
REQUEST: dict[str, Any] = {"type": "response.create", "model": "gpt-5", "input": "the prompt that nobody may read"}


@pytest.fixture
def server(socket_server: SocketServer) -> SocketServer:
    """Return the websocket server, which answers every request with a complete response."""
    socket_server.script = answer_all
    return socket_server


def connect(client: Any, name: str = "responses", **options: Any) -> Any:
    return resource_of(client, name).connect(**options)


# -- one response -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize(("mode", "reading"), each_reading())
def test_a_response_is_one_record_however_it_is_read(
    server: SocketServer, sink: MemorySink, mode: str, reading: str, name: str
) -> None:
    async def act(client: Any) -> Any:
        async with entering(connect(client, name)) as connection:
            await settled(connection.response.create(model="gpt-5", input="the prompt that nobody may read"))
            return await read(connection, reading), describe(connection), sorted(vars(connection))

    compare(server, sink, mode, act)
    row = sink.row
    assert picked(row, *TOKENS) == NUMBERS
    assert picked(row, "api", "model", "service_tier", "finish_reason", "success", "error_type", "response_id") == {
        "api": "responses",
        "model": "gpt-5-2025-08-07",
        "service_tier": "priority",
        "finish_reason": "completed",
        "success": True,
        "error_type": None,
        "response_id": "resp_1",
    }
    assert picked(row, "tool_call_count", "response_length", "context_messages") == {
        "tool_call_count": 1,
        "response_length": len(TEXT),
        "context_messages": 1,
    }
    assert row["metadata"] == {
        "stream": True,
        "transport": "websocket",
        "requested_model": "gpt-5",
        "host": server.address,
    }
    assert row["fingerprint"] is not None
    assert 0 < row["time_to_first_token_ms"] <= row["duration_ms"]
    assert "nobody may read" not in str(row)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["dict", "object", "send_raw", "bytes"])
def test_a_request_is_recorded_however_it_is_sent(server: SocketServer, sink: MemorySink, how: str, mode: str) -> None:
    text = '{"input":"hello","nested":{"type":"x"},"model":"gpt-5", "type" : "response.create"}'

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            if how == "dict":
                await settled(connection.send(REQUEST))
            elif how == "object":
                from openai.types.responses import responses_client_event as module

                event_class = getattr(module, "ResponseCreate", module.ResponsesClientEvent)
                await settled(connection.send(event_class(**REQUEST)))
            elif not hasattr(connection, "send_raw"):
                pytest.skip(f"openai {openai.__version__} has no send_raw")
            else:
                await settled(connection.send_raw(text if how == "send_raw" else text.encode()))
            return await read(connection, "recv")

    compare(server, sink, mode, act)
    assert picked(sink.row, *TOKENS) == NUMBERS
    assert sink.row["metadata"]["requested_model"] == "gpt-5"


@pytest.mark.parametrize("mode", MODES)
def test_events_with_unusual_spelling_are_read(server: SocketServer, sink: MemorySink, mode: str) -> None:
    import json

    def script(peer: Peer) -> None:
        peer.get()
        first = created("resp_1")
        peer.send(
            json.dumps({"response": first["response"], "sequence_number": 0, "type": "response.created"}, indent=2)
        )
        peer.send('{"type":"response.of.the.future","response":{"type":"response.completed"}}', "[1, 2]")
        peer.send(
            '{"delta":"\\"type\\":\\"error\\"","sequence_number":-1.5e3,"flag":null,"type":"response.output_text.delta"}'
        )
        last = completed("resp_1")
        peer.send(json.dumps({**last, "type": "X"}).replace('"X"', '"response\\u002ecompleted"').encode())

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            return [await settled(connection.recv_bytes()) for _ in range(5)]

    compare(server, sink, mode, act)
    assert picked(sink.row, *TOKENS) == NUMBERS
    assert sink.row["time_to_first_token_ms"] is not None


@pytest.mark.parametrize("mode", MODES)
def test_output_that_only_the_items_contain_is_counted(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.send(*whole("resp_1", output=None))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            return await read(connection, "recv_bytes")

    compare(server, sink, mode, act)
    assert picked(sink.row, "tool_call_count", "response_length") == {
        "tool_call_count": 1,
        "response_length": len(TEXT),
    }


# -- several responses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_response_has_the_run_context_of_its_sender(server: SocketServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        found = []
        async with entering(connect(client)) as connection:
            for query in ("first", "second"):
                with in_run(query) as run:
                    for _ in range(2) if run is None else run.iterations(range(2)):
                        await settled(connection.send(REQUEST))
                        found += await read(connection, "recv")
            await settled(connection.send(REQUEST))
            return found + await read(connection, "iteration")

    compare(server, sink, mode, act)
    assert [(row["query_id"], row["iteration"], row["response_id"]) for row in sink.rows] == [
        ("first", 1, "resp_1"),
        ("first", 2, "resp_2"),
        ("second", 1, "resp_3"),
        ("second", 2, "resp_4"),
        ("adhoc", None, "resp_5"),
    ]


@pytest.mark.parametrize("lanes", [True, False], ids=["lanes", "ids"])
@pytest.mark.parametrize("mode", MODES)
def test_responses_that_run_at_once_are_told_apart(
    server: SocketServer, sink: MemorySink, mode: str, lanes: bool
) -> None:
    names = ("a", "b") if lanes else (None, None)

    def script(peer: Peer) -> None:
        for _ in names:
            peer.get()
        for number in (1, 2) if not lanes else (2, 1):
            peer.send(created(f"resp_{number}", names[number - 1]))
        peer.send(delta("x", names[1]), delta("x", names[0]))
        peer.send(completed("resp_2", names[1], usage={"input_tokens": 2, "output_tokens": 2, "total_tokens": 4}))
        peer.send(completed("resp_1", names[0], usage={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            for number, name in enumerate(names, 1):
                with in_run(f"query {number}"):
                    lane = {} if name is None else {"stream_id": name}
                    await settled(connection.send({**REQUEST, **lane}))
            return await read(connection, "recv", endings=2)

    compare(server, sink, mode, act)
    found = {row["query_id"]: (row["response_id"], row["prompt_tokens"]) for row in sink.rows}
    assert found == {"query 1": ("resp_1", 1), "query 2": ("resp_2", 2)}


def test_one_thread_may_send_what_another_receives(server: SocketServer, sink: MemorySink) -> None:
    client = instrument(client_of(server, "sync"), store=sink)
    with connect(client) as connection:
        reader = threading.Thread(target=lambda: asyncio.run(read(connection, "recv", endings=20)))
        reader.start()
        for number in range(20):
            with query_run(f"query {number}"):
                connection.send(REQUEST)
        reader.join(120)
    assert not reader.is_alive()
    assert [(row["query_id"], row["response_id"]) for row in sink.rows] == [
        (f"query {number}", f"resp_{number + 1}") for number in range(20)
    ]
    client.close()


@pytest.mark.parametrize("mode", MODES)
def test_lanes_of_a_session_are_recorded(server: SocketServer, sink: MemorySink, mode: str) -> None:
    sessions = pytest.importorskip("openai.lib.responses_websocket", reason=f"openai {openai.__version__}: no sessions")
    session_class = sessions.ResponsesWebSocketSession if mode == "sync" else sessions.AsyncResponsesWebSocketSession
    limits = sessions.ResponsesWebSocketLimits(
        max_lanes=4, max_events_per_lane=99, max_events=99, max_bytes_per_lane=10**6, max_bytes=10**6
    )

    async def act(client: Any) -> Any:
        found = []
        async with (
            entering(connect(client)) as connection,
            entering(session_class(connection, limits=limits)) as session,
        ):
            for name in ("left", "right"):
                lane = session.lane(name)
                with in_run(name):
                    await settled(lane.send(REQUEST))
                found.append(describe(await settled(lane.get_final_response())))
        return found

    compare(server, sink, mode, act)
    assert [(row["query_id"], row["prompt_tokens"]) for row in sink.rows] == [("left", 2300), ("right", 2300)]


def test_tags_and_the_calling_function_are_stored(server: SocketServer, sink: MemorySink) -> None:
    client = instrument(client_of(server, "sync"), store=sink, tags={"team": "blue", "user": "nobody"}, call_site=True)
    manager = connect(client)
    with query_run("query", tags={"user": "u-17"}):
        if hasattr(manager, "send"):
            manager.send(REQUEST)
        with manager as connection:
            if not hasattr(manager, "send"):
                connection.send(REQUEST)
            asyncio.run(read(connection, "recv"))
            connection.send(REQUEST)
            asyncio.run(read(connection, "recv"))
    client.close()
    queued, sent = sink.rows
    for row in (queued, sent):
        assert picked(row, "query_id", "tags") == {"query_id": "query", "tags": {"team": "blue", "user": "u-17"}}
    assert sent["call_site"] == f"{__name__}:test_tags_and_the_calling_function_are_stored"


@pytest.mark.parametrize("mode", MODES)
def test_the_diagnosis_that_the_caller_requests_is_stored(server: SocketServer, sink: MemorySink, mode: str) -> None:
    """Nothing is added to the message: the server's rejection of a field could not be hidden from the caller."""
    diagnosis = {"type": "cache_miss", "reason": "tools_changed", "cache_missed_tokens": 512}
    options = {"prompt_cache_options": {"comparison_response_id": "resp_0"}}
    received: list[Json] = []

    def script(peer: Peer) -> None:
        for name, given in (("resp_1", {}), ("resp_2", {"prompt_cache_diagnostics": diagnosis})):
            received.append(peer.get())
            peer.send(created(name), completed(name, **given))

    server.script = script
    client = instrument(client_of(server, mode), store=sink, cache_diagnostics=True)
    sent = [{**REQUEST, "model": "gpt-5.6-sol"}, {**REQUEST, "model": "gpt-5.6-sol", **options}]

    async def act(client: Any) -> None:
        with query_run("query"):
            async with entering(connect(client)) as connection:
                for request in sent:
                    await settled(connection.send(request))
                    await read(connection, "recv")

    asyncio.run(act(client))
    assert received == sent
    assert [row["cache_diagnostics"] for row in sink.rows] == [None, diagnosis]


def test_the_host_of_the_websocket_decides_provider_and_region(server: SocketServer, sink: MemorySink) -> None:
    """The client connects to the loopback server although its configured address is another one."""
    client = instrument(client_of(server, "sync"), store=sink)
    manager = connect(client)
    loopback = manager._prepare_url()
    client.websocket_base_url = "wss://eu.api.openai.com/v1"
    manager._prepare_url = lambda: loopback
    with manager as connection:
        connection.send(REQUEST)
        asyncio.run(read(connection, "recv"))
    client.close()
    assert picked(sink.row, "provider", "request_options") == {
        "provider": "openai",
        "request_options": {"region": "eu"},
    }


@pytest.mark.skipif(
    int(openai.__version__.partition(".")[0]) < 3, reason=f"openai {openai.__version__} does not know these arguments"
)
def test_a_prompt_has_the_same_segments_as_over_http(server: SocketServer, sink: MemorySink) -> None:
    def fingerprint(row: Json) -> Any:
        (found,) = decode_run([(row["interaction_id"], row["fingerprint"])]).values()
        return found

    body: Json = {
        "model": "gpt-5",
        "instructions": "be brief",
        "input": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "function", "name": "look", "parameters": {}, "strict": True}],
        "previous_response_id": "resp_0",
        "prompt_cache_key": "key",
    }
    with ScriptedServer() as http:
        client = instrument(client_of(server, "sync", base_url=http.url), store=sink)
        with query_run("http"):
            http_id = client.responses.create(**body).id
        server.script = lambda peer: (peer.get(), peer.send(*whole(http_id)))[1]
        with query_run("websocket"), connect(client) as connection:
            connection.response.create(**body)
            asyncio.run(read(connection, "recv"))
        client.close()
    over_http, over_socket = sink.rows
    assert fingerprint(over_socket) == fingerprint(over_http)
    assert fingerprint(over_socket).response is not None


# -- steering ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_successor_of_a_steered_response_is_a_record(server: SocketServer, sink: MemorySink, mode: str) -> None:
    steered = {"usage": None, "incomplete_details": {"reason": "steered"}}

    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"), delta())
        assert peer.get()["type"] == "response.steer"
        peer.send({"type": "response.steer.accepted", "steer": {"id": "s", "previous_response_id": "resp_1"}})
        peer.send(ended("resp_1", "incomplete", **steered))
        peer.send(*whole("resp_2", previous_response_id="resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            with in_run("asks"):
                await settled(connection.send(REQUEST))
            found = [describe(await settled(connection.recv())), describe(await settled(connection.recv()))]
            with in_run("steers"):
                await settled(
                    connection.send({"type": "response.steer", "input": "rather", "previous_response_id": "resp_1"})
                )
            return found + await read(connection, "recv", endings=2)

    compare(server, sink, mode, act)
    first, second = sink.rows
    assert picked(first, "query_id", "finish_reason", "success", "prompt_tokens") == {
        "query_id": "asks",
        "finish_reason": "steered",
        "success": True,
        "prompt_tokens": None,
    }
    assert picked(second, "query_id", "response_id", "success", *TOKENS) == {
        "query_id": "steers",
        "response_id": "resp_2",
        "success": True,
        **NUMBERS,
    }
    assert second["metadata"]["requested_model"] == "gpt-5"


@pytest.mark.parametrize("outcome", ["pending", "failed"])
def test_a_request_after_steering_keeps_its_own_run(server: SocketServer, sink: MemorySink, outcome: str) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"))
        peer.get()
        steer = {"id": "s", "previous_response_id": "resp_1"}
        peer.send(completed("resp_1"), {"type": f"response.steer.{outcome}", "steer": steer})
        peer.get()
        peer.send(*whole("resp_2", previous_response_id="resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            found = [describe(await settled(connection.recv()))]
            with in_run("steers"):
                await settled(
                    connection.send({"type": "response.steer", "input": "rather", "previous_response_id": "resp_1"})
                )
            found += [describe(await settled(connection.recv())) for _ in range(2)]
            with in_run("continues"):
                await settled(connection.send({**REQUEST, "previous_response_id": "resp_1"}))
            return found + await read(connection, "recv")

    compare(server, sink, "sync", act)
    assert [(row["query_id"], row["response_id"]) for row in sink.rows] == [
        ("adhoc", "resp_1"),
        ("continues", "resp_2"),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_a_connection_lost_while_steering_is_one_failure(server: SocketServer, sink: MemorySink, mode: str) -> None:
    """The successor never begins, so it is not recorded."""

    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"), delta())
        peer.get()
        peer.drop()

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            found = [await settled(connection.recv_bytes()) for _ in range(2)]
            await settled(
                connection.send({"type": "response.steer", "input": "rather", "previous_response_id": "resp_1"})
            )
            return found + await read(connection, "recv")

    compare(server, sink, mode, act, raises=True)
    assert picked(sink.row, "response_id", "success", "error_type", "prompt_tokens") == {
        "response_id": "resp_1",
        "success": False,
        "error_type": "ConnectionClosedError",
        "prompt_tokens": None,
    }
    assert sink.row["metadata"]["usage"] == "unknown"


# -- requests without output ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "given",
    [{"generate": False}, {"prompt_cache_options": {"prewarm": True, "ttl": "12h"}}],
    ids=["generate", "prewarm"],
)
def test_preparing_the_cache_is_a_successful_call(
    server: SocketServer, sink: MemorySink, given: dict[str, Any], mode: str
) -> None:
    usage = {
        "input_tokens": 4000,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 3968},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 4000,
    }

    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"), completed("resp_1", output=[], usage=usage))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send({**REQUEST, **given}))
            return await read(connection, "recv")

    compare(server, sink, mode, act)
    row = sink.row
    assert picked(row, "api", "success", "error_type", "completion_tokens", "cache_write_tokens") == {
        "api": "responses",
        "success": True,
        "error_type": None,
        "completion_tokens": 0,
        "cache_write_tokens": 3968,
    }
    assert row["request_options"]["prewarm"] is True
    assert "usage" not in row["metadata"]


@pytest.mark.parametrize("mode", MODES)
def test_a_request_after_one_without_output_is_a_call_of_its_own(
    server: SocketServer, sink: MemorySink, mode: str
) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"), completed("resp_1", output=[]))
        peer.get()
        peer.send(*whole("resp_2", previous_response_id="resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        found = []
        async with entering(connect(client)) as connection:
            for more in ({"generate": False}, {"previous_response_id": "resp_1"}):
                await settled(connection.send({**REQUEST, **more}))
                found += await read(connection, "recv")
        return found

    compare(server, sink, mode, act)
    prepared, answered = sink.rows
    assert (prepared["response_id"], prepared["request_options"]) == ("resp_1", {"prewarm": True})
    assert (answered["response_id"], answered["request_options"]) == ("resp_2", None)
    assert prepared["success"] is answered["success"] is True


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_refused_request_is_a_failed_record(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.send(error("previous_response_not_found", "no response for: the prompt that nobody may read"))
        peer.get()
        peer.send(*whole("resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        found = []
        async with entering(connect(client)) as connection:
            for _ in range(2):
                await settled(connection.send(REQUEST))
                found += await read(connection, "recv")
        return found

    compare(server, sink, mode, act)
    failed, succeeded = sink.rows
    assert picked(failed, "success", "error_type", "prompt_tokens", "total_cost") == {
        "success": False,
        "error_type": "previous_response_not_found",
        "prompt_tokens": None,
        "total_cost": None,
    }
    assert failed["metadata"]["status_code"] == 400
    assert "usage" not in failed["metadata"]  # a request that was refused is not billed
    assert "nobody may read" not in str(failed)
    assert picked(succeeded, "success", "prompt_tokens") == {"success": True, "prompt_tokens": 2300}


@pytest.mark.parametrize("lane", [None, "a"])
def test_an_error_fails_the_response_of_its_lane(server: SocketServer, sink: MemorySink, lane: str | None) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.get()
        peer.send(created("resp_1"), created("resp_2", "a"))
        peer.send(error("server_error", lane=lane, status=500))
        peer.send(completed("resp_2" if lane is None else "resp_1", "a" if lane is None else None))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            await settled(connection.send({**REQUEST, "stream_id": "a"}))
            return await read(connection, "recv", endings=2)

    compare(server, sink, "sync", act)
    by_success = {row["success"]: row for row in sink.rows}
    assert len(sink.rows) == 2
    assert by_success[True]["response_id"] == ("resp_2" if lane is None else "resp_1")
    assert by_success[False]["error_type"] == "server_error"
    assert by_success[False]["metadata"]["usage"] == "unknown"  # it had begun, so it may have been billed


@pytest.mark.parametrize("waits", [True, False], ids=["another request waits", "no request waits"])
def test_a_rejected_message_does_not_end_a_running_response(
    server: SocketServer, sink: MemorySink, waits: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.get()
        peer.send(created("resp_1"), error("invalid_value"), completed("resp_1"))

    server.script = script
    other = REQUEST if waits else {"type": "response.steer", "input": [], "previous_response_id": "resp_9"}

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            await settled(connection.send(other))
            return await read(connection, "recv", endings=2)

    compare(server, sink, "sync", act)
    found = {row["success"]: row for row in sink.rows}
    assert picked(found[True], "response_id", *TOKENS) == {"response_id": "resp_1", **NUMBERS}
    assert len(sink.rows) == (2 if waits else 1)
    if waits:
        assert found[False]["error_type"] == "invalid_value"
        assert "usage" not in found[False]["metadata"]


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_response_is_one_failed_record(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        failure = {"code": "server_error", "message": "try again"}
        peer.send(created("resp_1"), ended("resp_1", "failed", error=failure), error("server_error"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            return await read(connection, "recv", endings=2)

    compare(server, sink, mode, act)
    assert picked(sink.row, "success", "error_type", "error_message", "response_id") == {
        "success": False,
        "error_type": "server_error",
        "error_message": "try again",
        "response_id": "resp_1",
    }


@pytest.mark.parametrize("how", ["server error", "closed by the server", "lost"])
@pytest.mark.parametrize(("mode", "reading"), each_reading())
def test_a_lost_connection_fails_the_open_responses(
    server: SocketServer, sink: MemorySink, mode: str, reading: str, how: str
) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.get()
        peer.send(created("resp_1"), delta())
        peer.get()  # the client has read both: websockets 14 drops what is not read when the connection closes
        if how == "lost":
            peer.drop()
        else:
            peer.socket.close(1011 if how == "server error" else 1000, "bye")

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            await settled(connection.send(REQUEST))
            found = [await settled(connection.recv_bytes()) for _ in range(2)]
            await settled(connection.send({"type": "continue"}))
            return found + await read(connection, reading)

    reads_to_end = how == "closed by the server" and reading in ("iteration", "handlers")
    compare(server, sink, mode, act, raises=not reads_to_end)
    assert len(sink.rows) == 2  # one response had begun, the other was waiting
    for row in sink.rows:
        ok = how == "closed by the server"
        assert picked(row, "success", "error_type", "prompt_tokens") == {
            "success": False,
            "error_type": "ConnectionClosedOK" if ok else "ConnectionClosedError",
            "prompt_tokens": None,
        }
        assert row["metadata"]["usage"] == "unknown"


@pytest.mark.parametrize("mode", MODES)
def test_a_connection_closed_early_fails_the_open_response(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"), delta())

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            return [describe(await settled(connection.recv())) for _ in range(2)]

    compare(server, sink, mode, act)
    assert picked(sink.row, "success", "error_type") == {"success": False, "error_type": "ConnectionClosed"}
    assert sink.row["metadata"]["ended"] == "closed_early"
    assert sink.row["metadata"]["usage"] == "unknown"
    assert sink.row["time_to_first_token_ms"] is not None


def test_a_connection_that_is_collected_fails_the_open_response(server: SocketServer, sink: MemorySink) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"))

    server.script = script
    client = instrument(client_of(server, "sync"), store=sink)
    connection = connect(client).enter()
    connection.send(REQUEST)
    connection.recv()
    assert sink.rows == []
    socket = connection._connection
    del connection
    gc.collect()
    assert sink.row["metadata"]["ended"] == "abandoned"
    socket.close()
    client.close()
    assert len(sink.rows) == 1


@pytest.mark.parametrize("mode", MODES)
def test_sending_on_a_closed_connection_is_a_failed_record(server: SocketServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await settled(connection.close())
            await settled(connection.send(REQUEST))

    compare(server, sink, mode, act, raises=True)
    assert picked(sink.row, "success", "error_type") == {"success": False, "error_type": "ConnectionClosedOK"}
    assert "usage" not in sink.row["metadata"]  # the request never reached the server


def test_a_canceled_wait_does_not_end_the_response(server: SocketServer, sink: MemorySink) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.get()
        peer.send(*whole("resp_1"))

    server.script = script

    async def act(client: Any) -> Any:
        async with entering(connect(client)) as connection:
            await connection.send(REQUEST)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.05)
            await connection.send({"type": "session.unknown"})
            return await read(connection, "recv")

    compare(server, sink, "async", act)
    assert picked(sink.row, *TOKENS) == NUMBERS


# -- queued messages and reconnects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_message_queued_before_connecting_has_its_run(server: SocketServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        manager = connect(client)
        if not hasattr(manager, "send"):
            pytest.skip(f"openai {openai.__version__} queues no messages")
        with in_run("queues"):
            manager.send(REQUEST)
        with in_run("connects"):
            async with entering(manager) as connection:
                return await read(connection, "recv")

    compare(server, sink, mode, act)
    assert picked(sink.row, "query_id", *TOKENS) == {"query_id": "queues", **NUMBERS}


@pytest.mark.parametrize("mode", MODES)
def test_messages_queued_by_several_runs_keep_their_runs(server: SocketServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        manager = connect(client)
        if not hasattr(manager, "send"):
            pytest.skip(f"openai {openai.__version__} queues no messages")
        for name in ("first", "second"):
            with in_run(name):
                manager.send(REQUEST)
        async with entering(manager) as connection:
            return await read(connection, "recv", endings=2)

    compare(server, sink, mode, act)
    assert [(row["query_id"], row["response_id"], row["prompt_tokens"]) for row in sink.rows] == [
        ("first", "resp_1", 2300),
        ("second", "resp_2", 2300),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_a_queued_message_that_is_never_sent_is_no_call(server: SocketServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        client.websocket_base_url = "ws://127.0.0.1:9"  # no server listens there
        manager = connect(client, **({"max_retries": 0} if accepts(client, "responses", "max_retries") else {}))
        if not hasattr(manager, "send"):
            pytest.skip(f"openai {openai.__version__} queues no messages")
        manager.send(REQUEST)
        async with entering(manager) as connection:
            return await read(connection, "recv")

    compare(server, sink, mode, act, raises=True)
    assert sink.rows == []


@pytest.mark.parametrize("mode", MODES)
def test_calls_before_and_after_a_reconnect_are_records(server: SocketServer, sink: MemorySink, mode: str) -> None:
    def breaks(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"))
        peer.get()
        peer.socket.close(1012, "restarting")

    server.script = [breaks, answer_all]
    if not accepts(client_of(server, "sync"), "responses", "on_reconnecting"):
        pytest.skip(f"openai {openai.__version__} does not reconnect")

    async def act(client: Any) -> Any:
        queued: list[Any] = []

        def reconnecting(event: Any) -> None:
            with in_run("queued while reconnecting"):
                result = connection.send(REQUEST)
                queued.append(result if mode == "sync" else asyncio.ensure_future(result))

        options = {"on_reconnecting": reconnecting, "initial_delay": 0.01}
        async with entering(connect(client, **options)) as connection:
            with in_run("lost"):
                await settled(connection.send(REQUEST))
            await settled(connection.recv_bytes())
            await settled(connection.send({"type": "continue"}))
            return await read(connection, "iteration")

    compare(server, sink, mode, act)
    found = [(row["query_id"], row["success"], row["prompt_tokens"]) for row in sink.rows]
    assert found == [("lost", False, None), ("queued while reconnecting", True, 2300)]


# -- clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_only_recorded_clients_are_recorded(server: SocketServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        other = client_of(server, mode)
        for each in (other, client, client.with_options(timeout=5)):
            async with entering(connect(each)) as connection:
                await settled(connection.send(REQUEST))
                found = await read(connection, "recv")
        await settled(other.close())
        return found

    compare(server, sink, mode, act)
    assert len(sink.rows) == 2


@pytest.mark.parametrize("mode", MODES)
def test_every_client_is_recorded_after_instrument_without_client(
    server: SocketServer, sink: MemorySink, mode: str
) -> None:
    instrument(store=sink)

    async def ask() -> None:
        client = client_of(server, mode)
        async with entering(connect(client)) as connection:
            await settled(connection.send(REQUEST))
            await read(connection, "iteration")
        await settled(client.close())

    if mode == "async":
        asyncio.run(ask())
    else:
        with pytest.raises(StopIteration):
            ask().send(None)
    assert picked(sink.row, *TOKENS) == NUMBERS


def test_nothing_is_recorded_after_uninstrument(server: SocketServer, sink: MemorySink) -> None:
    from openai.resources.responses import responses as module

    client = client_of(server, "sync")
    resource_of(client, "responses")
    before = dict(vars(module.ResponsesConnectionManager))
    instrument(client, store=sink)
    with connect(client) as connection:
        connection.send(REQUEST)
        asyncio.run(read(connection, "recv"))
        assert len(sink.rows) == 1
        uninstrument()
        connection.send(REQUEST)
        asyncio.run(read(connection, "recv"))
    with connect(client) as connection:
        assert "recv" not in vars(connection._connection)
        connection.send(REQUEST)
        asyncio.run(read(connection, "recv"))
    assert len(sink.rows) == 1
    assert dict(vars(module.ResponsesConnectionManager)) == before
    client.close()


def test_disabled_recording_leaves_the_connection_alone(
    server: SocketServer, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "1")
    client = instrument(client_of(server, "sync"), store=sink)
    with connect(client) as connection:
        assert "recv" not in vars(connection._connection)
        connection.send(REQUEST)
        asyncio.run(read(connection, "recv"))
    client.close()
    assert sink.rows == []
