"""The servers shared by all tests, and a store in memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.support.socket_server import SocketServer
from tests.surfaces.invoices import LoopbackServer


@pytest.fixture(scope="session")
def _scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def server(_scripted: ScriptedServer) -> Iterator[ScriptedServer]:
    """Return the scripted server in its initial state; ids of stored responses are unique to the test."""
    _scripted.rewind()
    _scripted.salt = uuid.uuid4().hex
    yield _scripted
    _scripted.usage = _scripted.usage_at = None
    _scripted.facts = {}


@pytest.fixture(scope="session")
def _sockets() -> Iterator[SocketServer]:
    with SocketServer() as server:
        yield server


@pytest.fixture
def socket_server(_sockets: SocketServer) -> SocketServer:
    """Return the websocket server, which has received nothing; its script sends nothing."""
    _sockets.rewind()
    _sockets.script = lambda peer: None
    return _sockets


@pytest.fixture(scope="session")
def loopback() -> Iterator[LoopbackServer]:
    """Return the server that stands in for the hosts of providers."""
    with LoopbackServer() as server:
        yield server


@pytest.fixture
def sink() -> MemorySink:
    """Return the store in memory that receives the records."""
    return MemorySink()
