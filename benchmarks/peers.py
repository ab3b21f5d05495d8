"""Measure the overhead of recording, compared with OpenTelemetry's instrumentation of the SDK (openai-v2).

The peer is installed in a virtual environment of its own, ``build/peers``, with the same SDK, and runs in its cheapest
configuration: spans without content in a batch processor, whose exporter discards them. Our records go to a sink that
discards them. Each tool has a process of its own. The two take turns of about a second, and in each of them every
recorded call alternates with a plain one; a figure is the median of the differences of such a pair. ``ROUNDS`` sets the
number of turns.

The last row is CPU time of the whole process, in blocks of calls: ours until everything is committed to a real
PostgreSQL (the embedded one, whose own process is not counted), the peer's until its exporter has everything.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
from openai import AsyncOpenAI, OpenAI
from sdk_calls import LARGE, SMALL, STREAMED, alternate, alternate_async, own_server, transport

PEER = (
    "opentelemetry-instrumentation-openai-v2==2.4b0",
    "opentelemetry-util-genai==1.1b0",
    "opentelemetry-sdk",
    "httpx",
)
FOLDER = Path(__file__).resolve().parents[1] / "build" / "peers"
CPU, CPU_CALLS = "process CPU per call", 200


class Tool(NamedTuple):
    """A client pair per kind of call: the same SDK method without and with the tool.

    Attributes:
        plain, recorded: Make a sync call; the second argument is the number of chunks of a stream.
        async_plain, async_recorded: Return the awaitable of a call.
        flush: Waits until everything recorded has arrived.
    """

    plain: Callable[..., Any]
    recorded: Callable[..., Any]
    async_plain: Callable[[], Any]
    async_recorded: Callable[[], Any]
    flush: Callable[[], Any]


# -- a process that measures one tool ---------------------------------------------------------------------------------


class Discard:
    """A sink that discards its batches."""

    def store(self, batch: Any) -> None:
        """Discard the batch."""

    def close(self) -> None:
        """Nothing to close."""


def _clients() -> tuple[dict[int, OpenAI], AsyncOpenAI]:
    each = {
        chunks: OpenAI(api_key="x", http_client=httpx2.Client(transport=transport(chunks))) for chunks in (0, 1, 50)
    }
    return each, AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=transport()))


def our_tool(*, discard: bool) -> Tool:
    """Return rlm_cachetrack as a tool, with a sink that discards or the embedded PostgreSQL."""
    import rlm_cachetrack

    (without, async_without), (with_us, async_with_us) = _clients(), _clients()
    for client in (*with_us.values(), async_with_us):
        rlm_cachetrack.instrument(client, store=Discard() if discard and client is with_us[0] else None)
    return Tool(
        lambda arguments, chunks=0: without[chunks].chat.completions.create(**arguments),
        lambda arguments, chunks=0: with_us[chunks].chat.completions.create(**arguments),
        lambda: async_without.chat.completions.create(**SMALL),
        lambda: async_with_us.chat.completions.create(**SMALL),
        lambda: rlm_cachetrack.flush(60),
    )


def peer_tool() -> Tool:
    """Return OpenTelemetry's instrumentation as a tool."""
    from openai.resources.chat.completions import AsyncCompletions, Completions

    create, async_create = Completions.create, AsyncCompletions.create  # before they are wrapped
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class DiscardSpans(SpanExporter):  # type: ignore[misc]
        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(DiscardSpans()))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    clients, async_client = _clients()
    return Tool(
        lambda arguments, chunks=0: create(clients[chunks].chat.completions, **arguments),
        lambda arguments, chunks=0: clients[chunks].chat.completions.create(**arguments),
        lambda: async_create(async_client.chat.completions, **SMALL),
        lambda: async_client.chat.completions.create(**SMALL),
        provider.force_flush,
    )


def _pairs(tool: Tool, calls: int, arguments: dict[str, Any], chunks: int = 0) -> tuple[list[float], list[float]]:
    if not chunks:
        return alternate(calls, lambda: tool.plain(arguments), lambda: tool.recorded(arguments))
    return alternate(calls, lambda: list(tool.plain(arguments, chunks)), lambda: list(tool.recorded(arguments, chunks)))


CASES: dict[str, Callable[[Tool], tuple[list[float], list[float]]]] = {
    "chat, 4 KB prompt": lambda tool: _pairs(tool, 60, SMALL),
    "chat, 200 KB prompt of 100 messages": lambda tool: _pairs(tool, 8, LARGE),
    "stream of 1 chunk": lambda tool: _pairs(tool, 40, STREAMED, 1),
    "stream of 50 chunks": lambda tool: _pairs(tool, 12, STREAMED, 50),
    "async chat, 4 KB prompt": lambda tool: alternate_async(40, tool.async_plain, tool.async_recorded, 1),
    "50 concurrent async calls, a call": lambda tool: alternate_async(3, tool.async_plain, tool.async_recorded, 50),
}


def _process_cpu(tool: Tool) -> tuple[list[float], list[float]]:
    """Return the CPU microseconds per call of one plain and one recorded block."""

    def block(call: Callable[[Any], Any]) -> float:
        began = time.process_time()
        for _ in range(CPU_CALLS):
            call(SMALL)
        tool.flush()
        return (time.process_time() - began) / CPU_CALLS * 1e6

    return [block(tool.plain)], [block(tool.recorded)]


def measure(name: str) -> None:
    """Measure one tool: read a line, take a turn, print its times as JSON; until the input ends."""
    tool = peer_tool() if name == "peer" else our_tool(discard=name == "ours")
    cases = {CPU: _process_cpu} if name.endswith("cpu") else CASES
    if name == "peer":
        cases = {**CASES, CPU: _process_cpu}
    for case in cases.values():
        case(tool)
    gc.collect()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps({case: run(tool) for case, run in cases.items()}), flush=True)
    tool.flush()


# -- the process that compares ----------------------------------------------------------------------------------------


def install_peer() -> Path:
    """Install the peer if necessary, and return its interpreter."""
    python = FOLDER / "bin" / "python"
    wanted = [*PEER, f"openai=={openai.__version__}", "httpx2"]
    installed = FOLDER / "installed.txt"
    if not installed.exists() or installed.read_text(encoding="utf-8").split("\n") != wanted:
        venv.create(FOLDER, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, stdout=sys.stderr)
        installed.write_text("\n".join(wanted), encoding="utf-8")
    return python


@contextmanager
def measuring(python: Path | str, name: str) -> Iterator[Callable[[], dict[str, tuple[list[float], list[float]]]]]:
    """Run a process that measures one tool; yield a function that lets it take a turn."""
    command = [python, __file__, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} does not run")

        def turn() -> dict[str, tuple[list[float], list[float]]]:
            process.stdin.write("go\n")
            process.stdin.flush()
            times: dict[str, tuple[list[float], list[float]]] = json.loads(process.stdout.readline())
            return times

        yield turn
        process.stdin.close()


def main() -> None:
    """Measure, and print the table."""
    rounds = int(os.environ.get("ROUNDS", "20"))
    differences: dict[str, dict[str, list[float]]] = {"ours": {}, "peer": {}}
    plain: dict[str, list[float]] = {}
    with ExitStack() as stack:
        ours, ours_cpu = (stack.enter_context(measuring(sys.executable, name)) for name in ("ours", "ours cpu"))
        peer = stack.enter_context(measuring(install_peer(), "peer"))
        turns = [("ours", ours), ("ours", ours_cpu), ("peer", peer)]
        for _ in range(rounds):
            turns.reverse()
            for name, turn in turns:
                for case, (without, with_tool) in turn().items():
                    plain.setdefault(case, []).extend(without)
                    pairs = zip(without, with_tool, strict=True)
                    differences[name].setdefault(case, []).extend(after - before for before, after in pairs)
    print("| added, µs, p50 | SDK alone | rlm_cachetrack | OpenTelemetry openai-v2 | ratio |")
    print("|---|---:|---:|---:|---:|")
    for case in (*CASES, CPU):
        added, theirs = statistics.median(differences["ours"][case]), statistics.median(differences["peer"][case])
        print(
            f"| {case} | {statistics.median(plain[case]):.0f} | {added:+.0f} | {theirs:+.0f} | 1/{theirs / added:.1f} |"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        with own_server():
            main()
