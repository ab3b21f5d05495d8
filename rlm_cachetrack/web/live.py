"""Server-sent events that notify open pages of changes. One query, four times per second, serves all of them.

Events: ``hello`` with the current state, ``changed``, ``down`` with the reason, ``up``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from rlm_cachetrack.errors import CacheTrackError

from .cached_queries import CachedQueries

_INTERVAL_S = 0.25
_HEARTBEAT_S = 10.0
_RESPONSE_TIMEOUT_S = 5.0
"""A database that gives neither a response nor an error for this long is reported as down: its machine may hang."""


class Live:
    """Watches the marker while a page is open. Belongs to one event loop."""

    def __init__(self, queries: CachedQueries) -> None:
        self._queries = queries
        self._pages = 0
        self._task: asyncio.Task[None] | None = None
        self._query: asyncio.Task[str] | None = None
        self._condition = asyncio.Condition()
        self._version = 0
        self._marker: str | None = None
        self._changed = datetime.now(UTC)
        self._error: str | None = None

    async def events(self) -> AsyncIterator[str]:
        """Yield the events of one page."""
        self._pages += 1
        if self._task is None or self._task.done():
            await self._check()
            self._task = asyncio.create_task(self._watch())
        try:
            last_version, down = self._version, self._error is not None
            yield _event("hello", {"changed": self._changed.isoformat(), "error": self._error})
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT_S), self._condition:
                        await self._condition.wait_for(lambda: self._version != last_version)  # noqa: B023
                except TimeoutError:
                    yield ": heartbeat\n\n"
                    continue
                last_version = self._version
                if self._error is not None:
                    down = True
                    yield _event("down", {"error": self._error})
                elif down:
                    down = False
                    yield _event("up", {})
                else:
                    yield _event("changed", {"changed": self._changed.isoformat()})
        finally:
            self._pages -= 1

    async def _watch(self) -> None:
        while self._pages:
            await asyncio.sleep(_INTERVAL_S)
            await self._check()
        self._marker = None

    async def _check(self) -> None:
        marker, error = None, None
        query = self._query or asyncio.create_task(asyncio.to_thread(self._queries.refresh_marker))
        await asyncio.wait({query}, timeout=_RESPONSE_TIMEOUT_S)
        # Runs one query at a time, so that slow queries do not accumulate threads.
        self._query = None if query.done() else query
        try:
            if query.done():
                marker = query.result()
            else:
                error = f"no response for {_RESPONSE_TIMEOUT_S:.0f} seconds"
        except CacheTrackError as exc:
            error = str(exc)
        except Exception as exc:
            error = f"internal error: {type(exc).__name__}"
        if (marker, error is None) == (self._marker, self._error is None) and error == self._error:
            return
        self._marker, self._error = marker, error
        self._changed = datetime.now(UTC)
        self._version += 1
        async with self._condition:
            self._condition.notify_all()

    async def close(self) -> None:
        """Stop watching."""
        for task in (self._task, self._query):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, CacheTrackError):
                    await task


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
