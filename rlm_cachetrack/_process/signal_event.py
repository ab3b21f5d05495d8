"""An event that may be set anywhere, also by a signal handler or a finalizer that interrupts its own ``set``.

``threading.Event`` takes a lock that is not reentrant: a handler that records, or flushes, and comes in the midst of
``set`` on the same thread waits for itself for ever.

Source: https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put (on reentrancy), read 2026-11-28.
"""

from __future__ import annotations

import contextlib
import queue

__all__ = ["Event"]


class Event:
    """Like ``threading.Event``, for any number of threads that set it and one that waits for it and clears it."""

    __slots__ = ("_flag", "_tokens")

    def __init__(self) -> None:
        self._flag = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._flag

    def set(self) -> None:
        """Set it, and wake who waits. Does not block."""
        if not self._flag:
            self._flag = True
            self._tokens.put(None)

    def clear(self) -> None:
        """Take it back. A ``set`` at the same time is either after it, or makes the next :meth:`wait` return early."""
        self._flag = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._tokens.get_nowait()

    def wait(self, timeout_s: float) -> bool:
        """Block until it is set, at most so long; whether it is set. May return early: look at what it stands for."""
        if not self._flag:
            with contextlib.suppress(queue.Empty):
                self._tokens.get(timeout=timeout_s)
        return self._flag
