"""Build the next batch while the server stores the previous one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rlm_cachetrack.journal import Batch

if TYPE_CHECKING:
    from .batches import Built

__all__ = ["Prefetch", "PreparedBatch"]


class PreparedBatch(NamedTuple):
    """Entries of the journal, and the batch built from them."""

    entries: Batch
    built: Built


class Prefetch:
    """Builds the next batch in advance, on a thread that runs only while there is a backlog.

    Args:
        prepare: Builds a batch; may raise.
    """

    def __init__(self, prepare: Callable[[Batch], PreparedBatch]) -> None:
        self._prepare = prepare
        self._entries: Batch | None = None
        self._thread: threading.Thread | None = None
        self._result: PreparedBatch | None = None

    def start(self, entries: Batch) -> None:
        """Start to build a batch. Does not block."""
        self._entries = entries
        if entries.entries:
            thread = threading.Thread(target=self._run, args=(entries,), name="rlm_cachetrack-rows", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is exiting: take() builds the batch
                thread.start()
                self._thread = thread

    def _run(self, entries: Batch) -> None:
        with contextlib.suppress(Exception):  # take() builds it again, where the error can be handled
            self._result = self._prepare(entries)

    def take(self) -> PreparedBatch | None:
        """Return the batch that was started; None if there is none. Blocks until it is built."""
        entries = self._entries
        if entries is None:
            return None
        result = self._finish()
        return self._prepare(entries) if result is None else result

    def discard(self) -> None:
        """Discard the batch that was started. Blocks until it is built."""
        self._finish()

    def _finish(self) -> PreparedBatch | None:
        if self._thread is not None:
            self._thread.join()
        result, self._entries, self._thread, self._result = self._result, None, None, None
        return result
