"""Run together with ``opentelemetry-instrumentation-openai-v2``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.programs import beside
from tests.programs.beside import Clients

openai_v2 = pytest.importorskip(
    "opentelemetry.instrumentation.openai_v2", reason="opentelemetry-instrumentation-openai-v2 is not installed"
)
trace = pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

clients = beside.clients


class OpenTelemetry:
    removable = True

    def __init__(self) -> None:
        self._exporter = in_memory.InMemorySpanExporter()
        self._provider = trace.TracerProvider()
        self._provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))
        self._instrumentor = openai_v2.OpenAIInstrumentor()

    def on(self, clients: Clients) -> None:
        if not self._instrumentor.is_instrumented_by_opentelemetry:
            self._instrumentor.instrument(tracer_provider=self._provider)

    def off(self) -> None:
        if self._instrumentor.is_instrumented_by_opentelemetry:
            self._instrumentor.uninstrument()

    def spans(self) -> int:
        return len(self._exporter.get_finished_spans())


@pytest.fixture
def theirs() -> Iterator[OpenTelemetry]:
    made = OpenTelemetry()
    yield made
    made.off()


class TestBesideOpenTelemetry(beside.BesideTests):
    # The package instruments only chat completions and embeddings.
    without_spans = (beside.chat_raw, *beside.RESPONSES)
