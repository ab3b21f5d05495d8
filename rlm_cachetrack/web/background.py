"""Values that take seconds to load: pages show the last known value, and a thread loads the next one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_MAX_VALUES = 32
_KEPT_S = 15.0
_KEPT_FACTOR = 20.0
"""A value is kept for this multiple of the time that it took, so that loading it occupies the database little."""


class _Value(Generic[T]):
    """A value being loaded, and the last one that was loaded."""

    def __init__(self, loading: Future[T], last: Future[T] | None) -> None:
        self.loading = loading
        self.last = last
        self.began = time.monotonic()
        self.expires_at = float("inf")
        loading.add_done_callback(self._set_expiry)

    def _set_expiry(self, _loaded: Future[T]) -> None:
        now = time.monotonic()
        self.expires_at = now + max(_KEPT_S, _KEPT_FACTOR * (now - self.began))

    def latest(self) -> Future[T] | None:
        return self.loading if self.loading.done() else self.last


class BackgroundValues:
    """Loads values on one thread, and keeps the newest used ones. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, _Value[Any]] = OrderedDict()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rlm-cachetrack-sums")

    def get(self, key: Hashable, load: Callable[[], T], wait_s: float) -> T | None:
        """Return the newest value that is loaded; None if there is none yet. Blocks for at most ``wait_s`` then.

        Args:
            key: Names the value.
            load: Loads the value. What it raises is raised here, and the next call loads again.
            wait_s: Seconds to wait for the first value.
        """
        with self._lock:
            kept = self._values.get(key)
            if kept is None or time.monotonic() >= kept.expires_at:
                kept = _Value(self._executor.submit(load), kept.latest() if kept else None)
                self._values[key] = kept
            self._values.move_to_end(key)
            while len(self._values) > _MAX_VALUES:
                self._values.popitem(last=False)
        if kept.latest() is None:
            wait([kept.loading], wait_s)
        found = kept.latest()
        if found is None:
            return None
        if found.exception() is not None:
            with self._lock:
                if self._values.get(key) is kept:
                    del self._values[key]
        value: T = found.result()
        return value

    def close(self) -> None:
        """Cancel the loads that are waiting."""
        self._executor.shutdown(wait=False, cancel_futures=True)
