"""SDK calls over an in-process transport, timed alternately with and without recording, for several benchmarks."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

SMALL: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "x" * 4096}]}
LARGE: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "x" * 2048}] * 100}
STREAMED: dict[str, Any] = {**SMALL, "stream": True, "stream_options": {"include_usage": True}}
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


def events(chunks: int) -> bytes:
    """Return the body of a chat stream of this many pieces of text, and the usage."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-2025-08-07"}
    items: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}], "usage": None}
        for _ in range(chunks)
    ]
    items.append({**head, "choices": [], "usage": BODY["usage"]})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in items) + b"data: [DONE]\n\n"


PLAIN = json.dumps(BODY).encode()


def transport(chunks: int = CHUNKS) -> httpx2.MockTransport:
    """Return a transport that answers chat requests, streamed ones with this many pieces of text."""
    stream = events(chunks)

    def answer(request: httpx2.Request) -> httpx2.Response:
        if b'"stream":true' in request.content:
            return httpx2.Response(200, content=stream, headers={"content-type": "text/event-stream"})
        headers = {"content-type": "application/json", "x-request-id": "req_1"}
        return httpx2.Response(200, content=PLAIN, headers=headers)

    return httpx2.MockTransport(answer)


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


def alternate_async(
    rounds: int, one: Callable[[], Awaitable[Any]], other: Callable[[], Awaitable[Any]], concurrent: int
) -> tuple[list[float], list[float]]:
    """Return the microseconds of a call, made alone or with others at the same time."""

    async def run() -> tuple[list[float], list[float]]:
        first: list[float] = []
        second: list[float] = []
        both = [(one, first), (other, second)]
        for _ in range(rounds):
            both.reverse()
            for call, times in both:
                began = CLOCK()
                await asyncio.gather(*(call() for _ in range(concurrent)))
                times.append(microseconds_since(began) / concurrent)
        return first, second

    return asyncio.run(run())


@contextmanager
def own_server() -> Iterator[None]:
    """Let this process and its children record into a separate embedded server, in a temporary folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # for root, the server runs as another user, who must be able to enter the folder
        os.environ["RLM_CACHETRACK_STATE_DIR"] = folder
        os.environ["RLM_CACHETRACK_DATA_DIR"] = f"{folder}/data"
        try:
            yield
        finally:
            from rlm_cachetrack.store import embedded

            embedded.stop(Path(folder, "data"))
