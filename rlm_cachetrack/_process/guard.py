"""Our own failures: logged once a place and kind, counted, never raised into the caller's program.

Use it around our code only, never around the user's call::

    try:
        call.finish(response)
    except Exception as exc:
        _guard.report("capture", exc)

A test suite sets :data:`on_failure` and fails the test that caused one.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

__all__ = ["count", "on_failure", "report"]

logger = logging.getLogger("rlm_cachetrack")

on_failure: Callable[[str, BaseException], None] | None = None
"""Called with place and error before anything else; for tests."""

_lock = threading.RLock()  # reentrant: a finalizer or a signal handler may fail in the midst of a report
_count = 0
_seen: set[tuple[str, type[BaseException]]] = set()


def report(where: str, exc: BaseException) -> None:
    """Take note of an error of our own. Does not raise and does not block.

    Args:
        where: What was being done, a few words.
        exc: The error. Its message is logged, so it must not hold prompt text: nothing in our code puts any there.
    """
    global _count
    if on_failure is not None:
        on_failure(where, exc)
    with _lock:
        _count += 1
        known = (where, type(exc)) in _seen
        _seen.add((where, type(exc)))
    if not known:
        logger.error(
            "internal error while doing: %s (the program goes on; counted in stats()['internal_errors'])",
            where,
            exc_info=exc,
        )


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def count() -> int:
    """How many errors of our own were swallowed so far in this process."""
    return _count
