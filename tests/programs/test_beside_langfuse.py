"""Run together with ``langfuse.openai``, which wraps the SDK when it is imported and cannot be removed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import pytest

from tests.programs import beside
from tests.programs.beside import Clients

langfuse = pytest.importorskip("langfuse", reason="the package langfuse is not installed")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
trace = pytest.importorskip("opentelemetry.sdk.trace")

clients = beside.clients


class Langfuse:
    removable = False

    def __init__(self) -> None:
        self._exporter = in_memory.InMemorySpanExporter()
        # Nothing is sent: the spans stay in memory, and no server listens at the address.
        self.client = langfuse.Langfuse(
            public_key="pk-test",
            secret_key="sk-test",
            base_url="http://127.0.0.1:9",
            span_exporter=self._exporter,
            tracer_provider=trace.TracerProvider(),
        )

    def on(self, clients: Clients) -> None:
        importlib.import_module("langfuse.openai")

    def off(self) -> None:
        raise AssertionError("there is no such thing")

    def spans(self) -> int:
        self.client.flush()
        return len(self._exporter.get_finished_spans())


@pytest.fixture
def theirs() -> Iterator[Langfuse]:
    with beside.sdk_restored():
        sys.modules.pop("langfuse.openai", None)
        made = Langfuse()
        yield made
        made.client.shutdown()
        sys.modules.pop("langfuse.openai", None)


class TestBesideLangfuse(beside.BesideTests):
    pass
