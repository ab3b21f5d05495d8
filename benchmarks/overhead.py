"""Measure the overhead that recording adds to a call on the calling thread, in microseconds.

The same SDK call over an in-process transport, with and without recording, alternated call by call; the difference of
the percentiles is what recording adds. openai's own work on the arguments is on both sides. "idle": the writer waits
for its sink, the journal grows. "draining": the writer reads, prices and discards at the same time, and both threads
compete for the interpreter lock. A stream is timed twice: from its request to its end, and each of its chunks from the
``next()`` that asks for it. A raw response is timed with the caller's ``.parse()`` and without it.

Only the public API is imported, so another checkout can be measured: ``PYTHONPATH=CHECKOUT python overhead.py``.
``CALLS`` sets the number of calls; ``CLOCK=cpu`` measures the CPU time of the calling thread, for a busy machine.
"""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAI
from sdk_calls import (
    CHUNKS,
    CLOCK,
    LARGE,
    SMALL,
    STREAMED,
    alternate,
    alternate_async,
    microseconds_since,
    transport,
)

import rlm_cachetrack
from rlm_cachetrack import RecordBatch, instrument


class Discard:
    """A sink that discards its batches, and can be blocked."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def store(self, batch: RecordBatch) -> None:
        """Wait until the sink is unblocked, then discard the batch."""
        self.open.wait()

    def close(self) -> None:
        """Nothing to close."""


def alternate_chunks(streams: int, one: Callable[[], Any], other: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """Return the microseconds of each chunk but the first and the last two, which also begin and end the call."""
    first: list[float] = []
    second: list[float] = []
    both = [(one, first), (other, second)]
    for _ in range(streams):
        both.reverse()
        for open_stream, times in both:
            chunks, of_stream = iter(open_stream()), []
            while True:
                began = CLOCK()
                if next(chunks, None) is None:
                    break
                of_stream.append(microseconds_since(began))
            times += of_stream[1:-2]
    return first, second


def row(name: str, without: list[float], with_us: list[float], per: int = 1) -> str:
    def percentile(times: list[float], rank: int) -> float:
        return statistics.quantiles(times, n=100)[rank - 1]

    p50 = percentile(with_us, 50) - percentile(without, 50)
    p99 = percentile(with_us, 99) - percentile(without, 99)
    each = f" ({p50 / per:.2f} a chunk)" if per > 1 else ""
    base = percentile(without, 50)
    return f"| {name} | {base:.0f} | {p50:+.1f}{each} | {p99:+.1f} | {(base + p50) / base:.3f} |"


def main() -> None:
    without = OpenAI(api_key="x", http_client=httpx2.Client(transport=transport()))
    with_us = OpenAI(api_key="x", http_client=httpx2.Client(transport=transport()))
    async_without = AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=transport()))
    async_with_us = AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=transport()))
    sink = Discard()
    instrument(with_us, store=sink)
    instrument(async_with_us)

    def chat(client: OpenAI, arguments: dict[str, Any]) -> Callable[[], Any]:
        return lambda: client.chat.completions.create(**arguments)

    def raw(client: OpenAI) -> Callable[[], Any]:
        return lambda: client.chat.completions.with_raw_response.create(**SMALL)

    def parsed(client: OpenAI) -> Callable[[], Any]:
        return lambda: client.chat.completions.with_raw_response.create(**SMALL).parse()

    def stream(client: OpenAI) -> Callable[[], Any]:
        return lambda: list(client.chat.completions.create(**STREAMED))

    def opened(client: OpenAI) -> Callable[[], Any]:
        return lambda: client.chat.completions.create(**STREAMED)

    def chat_async(client: AsyncOpenAI) -> Callable[[], Any]:
        return lambda: client.chat.completions.create(**SMALL)

    calls = int(os.environ.get("CALLS", "3000"))
    alternate(min(200, calls), chat(without, SMALL), chat(with_us, SMALL))
    print("| µs on the calling thread | SDK alone, p50 | added, p50 | added, p99 | ratio |")
    print("|---|---:|---:|---:|---:|")
    for state in ("idle", "draining"):
        if state == "draining":
            sink.open.set()
            rlm_cachetrack.flush(60)
        gc.collect()
        print(row(f"{state}: chat, 4 KB prompt", *alternate(calls, chat(without, SMALL), chat(with_us, SMALL))))
        both = alternate(calls // 4, chat(without, LARGE), chat(with_us, LARGE))
        print(row(f"{state}: chat, 200 KB prompt of 100 messages", *both))
        print(
            row(
                f"{state}: raw response, parsed by the caller", *alternate(calls // 4, parsed(without), parsed(with_us))
            )
        )
        print(row(f"{state}: raw response, not parsed", *alternate(calls // 4, raw(without), raw(with_us))))
        both = alternate(calls // 4, stream(without), stream(with_us))
        print(row(f"{state}: stream of {CHUNKS} chunks", *both, per=CHUNKS))
        print(row(f"{state}: a chunk of it", *alternate_chunks(calls // 10, opened(without), opened(with_us))))
        both = alternate_async(calls // 2, chat_async(async_without), chat_async(async_with_us), 1)
        print(row(f"{state}: async chat, 4 KB prompt", *both))
        both = alternate_async(calls // 30, chat_async(async_without), chat_async(async_with_us), 50)
        print(row(f"{state}: 50 concurrent async calls, a call", *both))
    rlm_cachetrack.uninstrument()
    rlm_cachetrack.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = folder
        main()
