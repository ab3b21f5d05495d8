"""Live: a session is one record with its seconds, and each call that it delegates is one, too."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted_media import DECISION_USAGE
from tests.support.socket_server import Json, Peer, SocketServer, completed
from tests.surfaces.calls import MODES, entering, settled
from tests.surfaces.sockets import compare, resource_of

SESSION: Json = {"model": "gpt-live-1.1", "expires_at": 1, "status": "active"}


def started(session_id: str) -> Json:
    return {"type": "session.started", "event_id": "e1", "session": {**SESSION, "id": session_id}}


def measured(seconds: int, **more: Any) -> Json:
    return {"type": "session.usage.updated", "event_id": "e2", "usage": {"seconds": seconds, **more}}


def closed(session_id: str, seconds: int, **more: Any) -> Json:
    usage, session = {"seconds": seconds, **more}, {**SESSION, "id": session_id}
    return {"type": "session.closed", "event_id": "e9", "reason": "close_requested", "session": session, "usage": usage}


DELEGATED: Json = {"type": "response.event", "event_id": "e3", "delegation_id": "d", "event": completed("resp_1")}
DECISION: Json = {"answers": [], "model": "gpt-6-luna", "usage": DECISION_USAGE}
DECIDED: Json = {
    "type": "decision.event", "event_id": "e4", "event": {"type": "decision.completed", "decision": DECISION},
}  # fmt: skip


def play(*events: Json) -> Any:
    """Return a script that sends events when the session starts."""

    def script(peer: Peer) -> None:
        peer.get()
        peer.send(*events)

    return script


def receive(count: int) -> Any:
    async def act(client: Any) -> Any:
        async with entering(resource_of(client, "live").connect()) as connection:
            await settled(connection.session.start(session={"model": "gpt-live-1.1"}))
            return [describe(await settled(connection.recv())) for _ in range(count)], sorted(vars(connection))

    return act


@pytest.mark.parametrize("mode", MODES)
def test_a_session_and_what_it_delegates_are_one_record_each(
    socket_server: SocketServer, sink: MemorySink, mode: str
) -> None:
    session_id = f"live_{uuid.uuid4().hex}"
    end = closed(session_id, 60, active_seconds=40, paused_seconds=20)
    events = [started(session_id), measured(5), DELEGATED, DECIDED, measured(30), end]
    socket_server.script = play(*events)
    compare(socket_server, sink, mode, receive(len(events)))
    rows = {row["api"]: row for row in sink.rows}
    assert len(sink.rows) == len(rows) == 3
    session = rows["live"]
    assert (session["model"], session["response_id"]) == ("gpt-live-1.1", session_id)
    assert session["token_details"] == {"seconds": 40, "paused_seconds": 20}
    # 0.05 USD per active and 0.02 USD per paused minute: developers.openai.com/api/docs/models/gpt-live-1.1, 2026-12-01
    assert session["total_cost"] == pytest.approx((40 * 0.05 + 20 * 0.02) / 60)
    assert (session["success"], session["finish_reason"]) == (True, "close_requested")
    assert (rows["responses"]["response_id"], rows["responses"]["success"]) == ("resp_1", True)
    assert rows["responses"]["prompt_tokens"] > 0
    assert (rows["decisions"]["model"], rows["decisions"]["cached_tokens"]) == ("gpt-6-luna", 2048)


@pytest.mark.parametrize("mode", MODES)
def test_a_session_that_is_not_closed_has_the_seconds_so_far(
    socket_server: SocketServer, sink: MemorySink, mode: str
) -> None:
    socket_server.script = play(started(f"live_{uuid.uuid4().hex}"), measured(5), measured(30))
    compare(socket_server, sink, mode, receive(3))
    row = sink.row
    assert (row["success"], row["token_details"]) == (False, {"seconds": 30})
    assert row["total_cost"] == pytest.approx(30 * 0.05 / 60)


@pytest.mark.parametrize("mode", MODES)
def test_two_connections_to_one_session_are_one_record(
    socket_server: SocketServer, sink: MemorySink, mode: str
) -> None:
    """A sideband connection gets the events of the session, too."""
    session_id = f"live_{uuid.uuid4().hex}"
    socket_server.script = play(started(session_id), DELEGATED, closed(session_id, 60))

    async def act(client: Any) -> Any:
        live = resource_of(client, "live")
        async with entering(live.connect()) as first, entering(live.connect()) as second:
            for connection in (first, second):
                await settled(connection.session.start(session={"model": "gpt-live-1.1"}))
            return [describe(await settled(each.recv())) for _ in range(3) for each in (first, second)]

    compare(socket_server, sink, mode, act)
    assert sorted(row["api"] for row in sink.rows) == ["live", "responses"]
