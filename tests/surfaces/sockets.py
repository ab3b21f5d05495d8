"""Websocket connections of every SDK version, read in each way, with and without recording."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import instrument, query_run
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.socket_server import Json, SocketServer
from tests.surfaces.calls import MODES, outcome, settled

READINGS = ("iteration", "recv", "recv_bytes", "recv_bytes and parse_event", "handlers")
ENDINGS = ("response.completed", "response.failed", "response.incomplete", "response.done", "error")
RESPONSES = ("responses", "beta.responses")
REALTIME = ("realtime", "beta.realtime")


def resource_of(client: Any, name: str) -> Any:
    """Return a resource by its dotted name; the test is skipped if this SDK cannot connect to it."""
    resource = client
    for part in name.split("."):
        resource = getattr(resource, part, None)
    if not hasattr(resource, "connect"):
        pytest.skip(f"openai {openai.__version__} has no {name}.connect")
    return resource


def accepts(client: Any, name: str, argument: str) -> bool:
    """Return whether ``connect`` of a resource has an argument."""
    return argument in inspect.signature(resource_of(client, name).connect).parameters


def client_of(server: SocketServer, mode: str, **options: Any) -> Any:
    """Return a client of the websocket server."""
    http = (openai.DefaultHttpxClient if mode == "sync" else openai.DefaultAsyncHttpxClient)(verify=False)
    given = {
        "base_url": f"http://{server.address}/v1",
        "websocket_base_url": f"ws://{server.address}/v1",
        "api_key": "k",
        "http_client": http,
        **options,
    }
    return (OpenAI if mode == "sync" else AsyncOpenAI)(**given)


async def read(connection: Any, reading: str, endings: int = 1) -> list[Any]:
    """Read a connection in one of :data:`READINGS` until that many responses have ended; return the messages."""
    if reading == "iteration":
        return await _iterate(connection, endings)
    if reading == "handlers":
        return await _handle(connection, endings)
    found: list[Any] = []
    while endings:
        if reading == "recv":
            event = await settled(connection.recv())
            found.append(describe(event))
        else:
            data = await settled(connection.recv_bytes())
            event = connection.parse_event(data)
            found.append(data if reading == "recv_bytes" else describe(event))
        endings -= event.type in ENDINGS
    return found


async def _iterate(connection: Any, endings: int) -> list[Any]:
    found: list[Any] = []
    if hasattr(connection, "__aiter__"):
        async for event in connection:
            found.append(describe(event))
            endings -= event.type in ENDINGS
            if not endings:
                break
        return found
    for event in connection:
        found.append(describe(event))
        endings -= event.type in ENDINGS
        if not endings:
            break
    return found


class _StopReading(Exception):  # noqa: N818 - not an error
    pass


async def _handle(connection: Any, endings: int) -> list[Any]:
    if not hasattr(connection, "on"):
        pytest.skip(f"openai {openai.__version__} has no event handlers")
    found: list[Any] = []

    def handler(event: Any) -> None:
        nonlocal endings
        found.append(describe(event))
        endings -= event.type in ENDINGS
        if not endings:
            raise _StopReading

    connection.on("event", handler)
    try:
        await settled(connection.dispatch_events())
    except _StopReading:
        return found
    finally:
        connection.off("event", handler)
    return found


_is_recording = False


def in_run(query: str) -> Any:
    """Open a run in the recorded pass of :func:`compare`; do nothing in its first pass, which has no store."""
    return query_run(query) if _is_recording else contextlib.nullcontext()


def compare(
    server: SocketServer,
    sink: MemorySink,
    mode: str,
    act: Callable[[Any], Awaitable[Any]],
    *,
    raises: bool = False,
    **options: Any,
) -> None:
    """Act with and without recording: what the caller gets, and what the server gets, must be the same.

    Args:
        raises: Whether the SDK raises an error.
    """
    global _is_recording
    without = outcome(mode, lambda: client_of(server, mode, **options), lambda client: None, act)
    sent = server.messages
    server.rewind()
    _is_recording = True
    try:
        with_us = outcome(
            mode, lambda: client_of(server, mode, **options), lambda client: instrument(client, store=sink), act
        )
    finally:
        _is_recording = False
    assert with_us == without
    assert with_us[0] == ("raised" if raises else "returned"), with_us
    assert server.messages == sent
    assert not server.failures


def each_reading() -> list[Any]:
    """Return the parameters ``mode, reading``."""
    return [
        pytest.param(mode, reading, id=f"{mode}-{reading.replace(' ', '_')}") for mode in MODES for reading in READINGS
    ]


def picked(row: Json, *names: str) -> Json:
    """Return some columns of a row."""
    return {name: row[name] for name in names}
