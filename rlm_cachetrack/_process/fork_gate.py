"""Sections that ``os.fork`` waits for.

A forked child has only the thread that forked, so a lock that another thread held stays locked in the child forever.
The lock of a module that is being imported is such a lock: the child's own import of the module would never return. Our
threads therefore import inside :func:`no_fork`, and do no disk or network I/O inside it.

Source: https://docs.python.org/3/library/os.html#os.fork (on threads), read 2026-11-23.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_MAX_WAIT_S = 10.0

_lock = threading.RLock()
_forking = threading.local()


@contextmanager
def no_fork() -> Iterator[None]:
    """Make forks of other threads wait, for up to ten seconds. Blocks while another thread is inside."""
    with _lock:
        yield


def _before() -> None:
    # The wait is limited: the forking thread may hold a lock that the importing thread waits for.
    _forking.holds_lock = _lock.acquire(timeout=_MAX_WAIT_S)


def _after_in_parent() -> None:
    if _forking.holds_lock:
        _lock.release()


def _after_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
