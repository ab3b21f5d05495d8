"""An event that a signal handler or a finalizer may set, even if it interrupts ``set`` on the same thread.

The lock of ``threading.Event`` is not reentrant: a handler that records or flushes, and interrupts ``set`` on the same
thread, would deadlock.

Source: https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put (on reentrancy), read 2026-11-28.
"""

from __future__ import annotations

import contextlib
import queue


class SignalSafeEvent:
    """Like ``threading.Event``; any number of threads may set it, and one thread waits for it and clears it."""

    __slots__ = ("_is_set", "_tokens")

    def __init__(self) -> None:
        self._is_set = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def is_set(self) -> bool:
        """Return True if the event is set."""
        return self._is_set

    def set(self) -> None:
        """Set the event and wake the thread that waits. Does not block."""
        if not self._is_set:
            self._is_set = True
            self._tokens.put(None)

    def clear(self) -> None:
        """Clear the event. A simultaneous ``set`` either follows, or makes the next :meth:`wait` return early."""
        self._is_set = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._tokens.get_nowait()

    def wait(self, timeout_s: float) -> bool:
        """Block until the event is set, for up to ``timeout_s`` seconds. May return early.

        Returns:
            True if the event is set.
        """
        if not self._is_set:
            with contextlib.suppress(queue.Empty):
                self._tokens.get(timeout=timeout_s)
        return self._is_set
