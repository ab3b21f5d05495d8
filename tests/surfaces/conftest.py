"""One scripted server for all, and a store in memory: what is looked at here is the call and its record."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer


@pytest.fixture(scope="session")
def _scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def server(_scripted: ScriptedServer) -> Iterator[ScriptedServer]:
    """A server that always says the same, at its beginning; ids of stored responses are this test's own."""
    _scripted.rewind()
    _scripted.salt = uuid.uuid4().hex
    yield _scripted
    _scripted.usage = _scripted.usage_at = None


@pytest.fixture
def sink() -> MemorySink:
    """Where the records go."""
    return MemorySink()
