"""Run together with ``logfire.instrument_openai``, which wraps the same method, of the classes or of one client."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from openai import OpenAI

from rlm_cachetrack import instrument, uninstrument
from tests.programs import beside
from tests.programs.beside import Clients, chat_async, chat_async_stream, chat_plain, chat_stream
from tests.programs.conftest import Recorder

logfire = pytest.importorskip("logfire", reason="the package logfire is not installed")
testing = pytest.importorskip("logfire.testing")
export = pytest.importorskip("opentelemetry.sdk.trace.export")

clients = beside.clients


class Logfire:
    removable = True

    def __init__(self, *, each_client: bool) -> None:
        self._each_client = each_client
        self._exporter = testing.TestExporter()
        processor = export.SimpleSpanProcessor(self._exporter)
        logfire.configure(send_to_logfire=False, console=False, metrics=False, additional_span_processors=[processor])
        self._off: list[AbstractContextManager[None]] = []

    def on(self, clients: Clients) -> None:
        whom: list[Any] = [clients.sync, clients.asynchronous] if self._each_client else [None]
        self._off += [logfire.instrument_openai(client) for client in whom]

    def off(self) -> None:
        while self._off:
            with self._off.pop():  # its exit removes the instrumentation
                pass

    def spans(self) -> int:
        logfire.force_flush()
        return len(self._exporter.exported_spans)


@pytest.fixture(params=["the classes", "each client"])
def theirs(request: pytest.FixtureRequest) -> Iterator[Logfire]:
    with beside.sdk_restored():
        made = Logfire(each_client=request.param == "each client")
        yield made
        made.off()


class TestBesideLogfire(beside.BesideTests):
    @pytest.mark.parametrize("installed_first", ["ours", "theirs"])
    async def test_a_client_passed_to_instrument_is_recorded_too(
        self, idle_recorder: Recorder, theirs: Logfire, clients: Clients, installed_first: str
    ) -> None:
        if installed_first == "theirs":
            theirs.on(clients)
        for client in (clients.sync, clients.asynchronous):
            instrument(client, store=idle_recorder.db)
        if installed_first == "ours":
            theirs.on(clients)
        for surface in (chat_plain, chat_stream, chat_async, chat_async_stream):
            await surface(clients)
        idle_recorder.check(calls=4)
        assert theirs.spans() >= 4
        for client in (clients.sync, clients.asynchronous):
            uninstrument(client)
        for surface in (chat_plain, chat_async):
            await surface(clients)
        assert len(idle_recorder.rows()) == 4
        assert theirs.spans() >= 6


async def test_uninstrument_restores_their_client_and_keeps_no_reference_to_it(
    idle_recorder: Recorder, clients: Clients
) -> None:
    theirs = Logfire(each_client=True)
    theirs.on(clients)
    before = dict(vars(clients.sync))
    idle_recorder.instrument()
    assert vars(clients.sync)["request"] is not before["request"]
    uninstrument()
    assert dict(vars(clients.sync)) == before
    theirs.off()

    with OpenAI() as dropped:
        logfire.instrument_openai(dropped)
        idle_recorder.instrument()
        instrument(dropped)
    gone = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert gone() is None
