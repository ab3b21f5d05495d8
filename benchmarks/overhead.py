"""What recording adds to a call on the calling thread, in microseconds.

The same SDK call over an in-process transport, with and without recording, alternated call by call; the difference of
the percentiles is what recording adds. openai's own work on the arguments is on both sides. "idle": the writer waits
for its sink, the journal grows. "draining": the writer reads, prices and discards at the same time, and both threads
compete for the interpreter lock. A stream is timed twice: from its request to its end, and each of its chunks from the
``next()`` that asks for it. A raw response is timed with the caller's ``.parse()`` and without it.

Only the public API is imported, so another checkout can be measured: ``PYTHONPATH=CHECKOUT python overhead.py``.
``CALLS`` sets the number of calls; ``CLOCK=cpu`` measures the CPU time of the calling thread, for a busy machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAI

import rlm_cachetrack
from rlm_cachetrack import RecordBatch, instrument

BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-5-2025-08-07",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 100}}],
    "usage": {
        "prompt_tokens": 2000,
        "completion_tokens": 100,
        "total_tokens": 2100,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
}
CHUNKS = 50
CLOCK = time.thread_time if os.environ.get("CLOCK") == "cpu" else time.perf_counter


class Discard:
    """A sink that discards its batches, and can be blocked."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def store(self, batch: RecordBatch) -> None:
        """Wait until the sink is unblocked, then discard the batch."""
        self.open.wait()

    def close(self) -> None:
        """Nothing to close."""


def events() -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-2025-08-07"}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}], "usage": None}
        for _ in range(CHUNKS)
    ]
    chunks.append({**head, "choices": [], "usage": BODY["usage"]})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


PLAIN, STREAM = json.dumps(BODY).encode(), events()


def answer(request: httpx2.Request) -> httpx2.Response:
    if b'"stream":true' in request.content:
        return httpx2.Response(200, content=STREAM, headers={"content-type": "text/event-stream"})
    headers = {"content-type": "application/json", "x-request-id": "req_1"}
    return httpx2.Response(200, content=PLAIN, headers=headers)


def microseconds_since(began: float) -> float:
    return (CLOCK() - began) * 1e6


def alternate(calls: int, one: Callable[[], Any], other: Callable[[], Any]) -> tuple[list[float], list[float]]:
    """Return the microseconds of each call. The order changes every time: the second finds warmer caches."""
    first, second = [], []
    both = [(one, first), (other, second)]
    for _ in range(calls):
        both.reverse()
        for call, times in both:
            began = CLOCK()
            call()
            times.append(microseconds_since(began))
    return first, second


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


def alternate_async(
    rounds: int, one: AsyncOpenAI, other: AsyncOpenAI, arguments: dict[str, Any], concurrent: int
) -> tuple[list[float], list[float]]:
    """Return the microseconds of a call, made alone or with others at the same time."""

    async def run() -> tuple[list[float], list[float]]:
        first: list[float] = []
        second: list[float] = []
        both = [(one, first), (other, second)]
        for _ in range(rounds):
            both.reverse()
            for client, times in both:
                began = CLOCK()
                await asyncio.gather(*(client.chat.completions.create(**arguments) for _ in range(concurrent)))
                times.append(microseconds_since(began) / concurrent)
        return first, second

    return asyncio.run(run())


def main() -> None:
    transport = httpx2.MockTransport(answer)
    without = OpenAI(api_key="x", http_client=httpx2.Client(transport=transport))
    with_us = OpenAI(api_key="x", http_client=httpx2.Client(transport=transport))
    async_without = AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=transport))
    async_with_us = AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=transport))
    sink = Discard()
    instrument(with_us, store=sink)
    instrument(async_with_us)

    small: Any = {"model": "gpt-5", "messages": [{"role": "user", "content": "x" * 4096}]}
    large: Any = {"model": "gpt-5", "messages": [{"role": "user", "content": "x" * 2048}] * 100}
    asked = {**small, "stream": True, "stream_options": {"include_usage": True}}

    def chat(client: OpenAI, arguments: dict[str, Any]) -> Callable[[], Any]:
        return lambda: client.chat.completions.create(**arguments)

    def raw(client: OpenAI) -> Callable[[], Any]:
        return lambda: client.chat.completions.with_raw_response.create(**small)

    def parsed(client: OpenAI) -> Callable[[], Any]:
        return lambda: client.chat.completions.with_raw_response.create(**small).parse()

    def stream(client: OpenAI) -> Callable[[], Any]:
        return lambda: list(client.chat.completions.create(**asked))

    def opened(client: OpenAI) -> Callable[[], Any]:
        return lambda: client.chat.completions.create(**asked)

    calls = int(os.environ.get("CALLS", "3000"))
    alternate(min(200, calls), chat(without, small), chat(with_us, small))
    print("| µs on the calling thread | SDK alone, p50 | added, p50 | added, p99 | ratio |")
    print("|---|---:|---:|---:|---:|")
    for state in ("idle", "draining"):
        if state == "draining":
            sink.open.set()
            rlm_cachetrack.flush(60)
        gc.collect()
        print(row(f"{state}: chat, 4 KB prompt", *alternate(calls, chat(without, small), chat(with_us, small))))
        both = alternate(calls // 4, chat(without, large), chat(with_us, large))
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
        both = alternate_async(calls // 2, async_without, async_with_us, small, 1)
        print(row(f"{state}: async chat, 4 KB prompt", *both))
        both = alternate_async(calls // 30, async_without, async_with_us, small, 50)
        print(row(f"{state}: 50 concurrent async calls, a call", *both))
    rlm_cachetrack.uninstrument()
    rlm_cachetrack.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = folder
        main()
