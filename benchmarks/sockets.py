"""Measure the overhead that recording adds to a websocket message on the calling thread, in microseconds.

The SDK's own connection over a socket in memory, with and without recording, alternated response by response. A
response has one request, 50 pieces of text and five other events. Each message is timed on its own. "event" is any
message that is received; target: at most 5 added at the median.

``RESPONSES`` sets the number of responses.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import openai.lib._websocket
import websockets.sync.client
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import RecordBatch, instrument, stats

PIECES = 50
LARGE, SMALL = 200_000, 4_000


class Discard:
    """A sink that discards its batches."""

    def store(self, batch: RecordBatch) -> None:
        """Discard the batch."""

    def close(self) -> None:
        """Nothing to close."""


class Socket:
    """A socket that answers each request at once, from memory."""

    def __init__(self) -> None:
        self.answers: deque[bytes] = deque()

    def send(self, message: str) -> None:
        """Take a request."""
        self.answers.extend(EVENTS)

    def recv(self, decode: bool | None = None) -> bytes:
        """Return the next event."""
        return self.answers.popleft()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Nothing to close."""


class AsyncSocket:
    """The same for the async client."""

    def __init__(self) -> None:
        self.answers: deque[bytes] = deque()

    async def send(self, message: str) -> None:
        """Take a request."""
        self.answers.extend(EVENTS)

    async def recv(self, decode: bool | None = None) -> bytes:
        """Return the next event."""
        return self.answers.popleft()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Nothing to close."""


def events() -> Iterator[dict[str, Any]]:
    """Yield the events of one response."""
    text = "word " * PIECES
    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    response = {"id": "resp_%", "object": "response", "model": "gpt-5-2025-08-07", "status": "in_progress"}
    usage = {"input_tokens": 2000, "output_tokens": 100, "total_tokens": 2100}
    yield {"type": "response.created", "sequence_number": 0, "response": {**response, "output": []}}
    yield {"type": "response.in_progress", "sequence_number": 1, "response": {**response, "output": []}}
    yield {"type": "response.output_item.added", "sequence_number": 2, "output_index": 0, "item": item}
    piece = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "word ", "logprobs": []}
    for number in range(PIECES):
        yield {"type": "response.output_text.delta", "sequence_number": number, **piece, "obfuscation": "abcdef"}
    yield {"type": "response.output_item.done", "sequence_number": 98, "output_index": 0, "item": item}
    last = {**response, "status": "completed", "output": [item], "usage": usage}
    yield {"type": "response.completed", "sequence_number": 99, "response": last}


EVENTS = [json.dumps(event, separators=(",", ":")).encode() for event in events()]
_ids = iter(range(10**9))

Times = dict[str, list[int]]


def request(size: int) -> dict[str, Any]:
    """Return a request of about ``size`` characters."""
    messages = [{"role": "user", "content": "word " * 400} for _ in range(max(1, size // 2_000))]
    return {"type": "response.create", "model": "gpt-5", "input": messages}


def renew_ids() -> None:
    """Give the next response an id of its own."""
    fresh = b"resp_%d" % next(_ids)
    EVENTS[:] = [json.dumps(event, separators=(",", ":")).encode().replace(b"resp_%", fresh) for event in events()]


def note(times: Times, kind: bytes, nanoseconds: int) -> None:
    """Add a measured time to each case that it belongs to."""
    times["event"].append(nanoseconds)
    times["piece of text" if b'delta"' in kind[:40] else "other event"].append(nanoseconds)


def respond(connection: Any, body: dict[str, Any], name: str, times: Times) -> None:
    """Send one request and receive its events."""
    clock = time.perf_counter_ns
    began = clock()
    connection.send(body)
    times[name].append(clock() - began)
    for _ in EVENTS:
        began = clock()
        message = connection.recv_bytes()
        note(times, message, clock() - began)


async def respond_async(connection: Any, body: dict[str, Any], name: str, times: Times) -> None:
    """Send one request and receive its events."""
    clock = time.perf_counter_ns
    began = clock()
    await connection.send(body)
    times[name].append(clock() - began)
    for _ in EVENTS:
        began = clock()
        message = await connection.recv_bytes()
        note(times, message, clock() - began)


def empty() -> Times:
    """Return a list of times for each case."""
    return {name: [] for name in ("event", "piece of text", "other event", "request of 4 KB", "request of 200 KB")}


def run_sync(responses: int) -> tuple[Times, Times]:
    """Measure the sync client; returns the times without and with recording."""
    plain, recorded = OpenAI(api_key="k"), instrument(OpenAI(api_key="k"), store=Discard())
    without, with_us = empty(), empty()
    with plain.responses.connect() as one, recorded.responses.connect() as other:
        for number in range(responses):
            name, body = _body(number)
            renew_ids()
            for connection, times in ((one, without), (other, with_us)):
                respond(connection, body, name, times)
    return without, with_us


async def run_async(responses: int) -> tuple[Times, Times]:
    """Measure the async client; returns the times without and with recording."""
    plain, recorded = AsyncOpenAI(api_key="k"), instrument(AsyncOpenAI(api_key="k"))
    without, with_us = empty(), empty()
    async with plain.responses.connect() as one, recorded.responses.connect() as other:
        for number in range(responses):
            name, body = _body(number)
            renew_ids()
            for connection, times in ((one, without), (other, with_us)):
                await respond_async(connection, body, name, times)
    return without, with_us


def _body(number: int) -> tuple[str, dict[str, Any]]:
    return ("request of 200 KB", request(LARGE)) if number % 10 == 9 else ("request of 4 KB", request(SMALL))


def main() -> None:
    """Print the table."""
    responses = int(os.environ.get("RESPONSES", "2000"))
    os.environ["RLM_CACHETRACK_STATE_DIR"] = tempfile.mkdtemp(prefix="rlmct-bench-")
    websockets.sync.client.connect = lambda *_, **__: Socket()  # type: ignore[assignment]

    async def connect(*_: Any, **__: Any) -> AsyncSocket:
        return AsyncSocket()

    openai.lib._websocket._WebSocketConnect = connect  # type: ignore[assignment, misc]
    gc.disable()
    print("| µs on the calling thread | SDK alone, p50 | added, p50 | added, p90 |")
    print("|---|---:|---:|---:|")
    for mode, (without, with_us) in (("sync", run_sync(responses)), ("async", asyncio.run(run_async(responses)))):
        for name in without:
            if len(without[name]) < 2:
                continue
            low, high = (statistics.quantiles(times[name], n=100) for times in (without, with_us))
            added, tail = (high[at] - low[at] for at in (49, 89))
            print(f"| {mode}: {name} | {low[49] / 1000:.1f} | {added / 1000:+.1f} | {tail / 1000:+.1f} |")
    recorded = stats()["recorded"]
    assert recorded == 2 * responses, f"{recorded} responses were recorded"


if __name__ == "__main__":
    main()
