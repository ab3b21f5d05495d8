"""Facts in a response about cache and tools are recorded on every surface of the Responses API, in every form."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_cachetrack import instrument
from rlm_cachetrack.capture.billed_facts import svg_usage_of, tool_usage_of
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import CHAT, ScriptedServer
from tests.support.socket_server import Peer, SocketServer, whole
from tests.surfaces import sockets
from tests.surfaces.calls import (
    MODES,
    Json,
    Surface,
    assert_recording_changes_nothing,
    call,
    cells,
    client_of,
    entering,
    require,
    settled,
    with_and_without,
)

STATED: Json = {
    "prompt_cache_options": {"mode": "explicit", "ttl": "12h"},
    "prompt_cache_retention": "24h",
    "prompt_cache_diagnostics": {"type": "cache_miss", "reason": "tools_changed", "cache_missed_tokens": 512},
    "tool_usage": {"web_search": {"num_requests": 2}, "image_gen": {"total_tokens": 0}},
}
RESPONSES = [cell for cell in cells() if cell.values[0].api == "responses"]


def check(row: Json) -> None:
    assert row["cache_diagnostics"] == STATED["prompt_cache_diagnostics"]
    options = {name: row["request_options"].get(name) for name in ("cache_mode", "cache_ttl", "cache_retention")}
    assert options == {"cache_mode": "explicit", "cache_ttl": "12h", "cache_retention": "24h"}
    assert row["tool_usage"] == {"web_search": 2}


@pytest.mark.parametrize(("surface", "mode", "form"), RESPONSES)
def test_stated_facts_are_recorded_in_every_form(
    server: ScriptedServer, sink: MemorySink, surface: Surface, mode: str, form: str
) -> None:
    require(surface, form, mode)
    server.facts = STATED
    assert_recording_changes_nothing(server, sink, mode, lambda client: call(client, surface, form))
    check(sink.row)
    assert sink.row["response_id"] == f"resp_{server.salt}"


@pytest.mark.parametrize("mode", MODES)
def test_stated_facts_are_recorded_over_a_websocket(socket_server: SocketServer, sink: MemorySink, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.get()
        peer.send(*whole("resp_1", **STATED))

    async def act(client: Any) -> Any:
        async with entering(sockets.resource_of(client, "responses").connect()) as connection:
            await settled(connection.send({"type": "response.create", "model": "gpt-5", "input": "hello"}))
            return await sockets.read(connection, "recv")

    socket_server.script = script
    sockets.compare(socket_server, sink, mode, act)
    check(sink.row)


@pytest.mark.parametrize("mode", MODES)
def test_facts_that_a_retrieved_response_states_are_recorded(
    server: ScriptedServer, sink: MemorySink, mode: str
) -> None:
    server.facts = STATED

    async def act(client: Any) -> Any:
        made = await settled(client.responses.create(model="gpt-5", input="hello", extra_body={"background": True}))
        return [describe(await settled(client.responses.retrieve(made.id))) for _ in range(2)]

    assert_recording_changes_nothing(server, sink, mode, act)
    check(sink.row)


@pytest.mark.parametrize(("surface", "mode", "form"), [cell for cell in cells() if cell.values[0].usage is CHAT])
def test_the_id_of_a_chat_completion_is_recorded(
    server: ScriptedServer, sink: MemorySink, surface: Surface, mode: str, form: str
) -> None:
    require(surface, form, mode)
    with_and_without(
        server,
        mode,
        lambda: client_of(server, mode),
        lambda client: instrument(client, store=sink),
        lambda client: call(client, surface, form),
    )
    assert sink.row["response_id"] == "chatcmpl-1"


@pytest.mark.parametrize("number", [10**400, 10**30, 2**31, -5, 1.5, "3", True], ids=repr)
def test_an_absurd_number_of_tool_uses_is_not_charged(number: Any) -> None:
    tokens = {"total_tokens": number, "input_tokens": number, "output_tokens": number}
    searched = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
    stated = {"tool_usage": {"web_search": {"num_requests": number}, "image_gen": tokens}}
    assert tool_usage_of(stated, [], {}) is None
    assert tool_usage_of(stated, [searched], {}) == {"web_search": 1}
    assert svg_usage_of(tokens) == {"calls": 1, "model": None}
