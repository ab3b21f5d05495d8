"""What a fork must not cut in two, and so waits for.

A forked child has no thread but the one that forked, so a lock that another held stays locked in the child for ever.
The lock of a module that was being imported is such a one: the child's own import of it would never return. So our
threads import under the :data:`gate`, which a fork takes first. Nothing that waits for a disk or a network is done
under it.

Source: https://docs.python.org/3/library/os.html#os.fork (on threads), read 2026-11-23.
"""

from __future__ import annotations

import os
import threading

__all__ = ["gate"]

_LONGEST_WAIT_S = 10.0

gate = threading.RLock()
"""Held while one of our threads imports. Use it as ``with _forking.gate:``: a child has a new one."""

_mine = threading.local()


def _before() -> None:
    # Not for ever: the thread that forks may hold what the importing one waits for.
    _mine.held = gate.acquire(timeout=_LONGEST_WAIT_S)


def _after_in_parent() -> None:
    if _mine.held:
        gate.release()


def _after_in_child() -> None:
    global gate
    gate = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
