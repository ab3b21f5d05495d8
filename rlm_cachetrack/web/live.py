"""What tells open pages that something changed: server-sent events, from one query for all, four times a second.

Events: ``hello`` with the state at the beginning, ``changed``, ``down`` with the reason, ``up``.
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

__all__ = ["Live"]

_EVERY_S = 0.25
_HEARTBEAT_S = 10.0
_SILENT_S = 5.0
"""A database that says nothing for so long, neither an answer nor an error, does not answer: its machine may hang."""


class Live:
    """Asks for the marker while a page is open. For one event loop."""

    def __init__(self, queries: CachedQueries) -> None:
        self._queries = queries
        self._pages = 0
        self._task: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[str] | None = None
        self._news = asyncio.Condition()
        self._version = 0
        self._marker: str | None = None
        self._changed = datetime.now(UTC)
        self._error: str | None = None

    async def events(self) -> AsyncIterator[str]:
        """The stream of one page."""
        self._pages += 1
        if self._task is None or self._task.done():
            await self._look()
            self._task = asyncio.create_task(self._watch())
        try:
            seen, down = self._version, self._error is not None
            yield _event("hello", {"changed": self._changed.isoformat(), "error": self._error})
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT_S), self._news:
                        await self._news.wait_for(lambda: self._version != seen)  # noqa: B023
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                seen = self._version
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
            await asyncio.sleep(_EVERY_S)
            await self._look()
        self._marker = None

    async def _look(self) -> None:
        marker, error = None, None
        asking = self._asking or asyncio.create_task(asyncio.to_thread(self._queries.refresh_marker))
        await asyncio.wait({asking}, timeout=_SILENT_S)
        self._asking = None if asking.done() else asking  # asked once, however long it takes: threads do not pile up
        try:
            if asking.done():
                marker = asking.result()
            else:
                error = f"no response for {_SILENT_S:.0f} seconds"
        except CacheTrackError as exc:
            error = str(exc)
        except Exception as exc:
            error = f"internal error: {type(exc).__name__}"
        if (marker, error is None) == (self._marker, self._error is None) and error == self._error:
            return
        self._marker, self._error = marker, error
        self._changed = datetime.now(UTC)
        self._version += 1
        async with self._news:
            self._news.notify_all()

    async def close(self) -> None:
        """Stop asking."""
        for task in (self._task, self._asking):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, CacheTrackError):
                    await task


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
