"""Report errors of our own code: log them once per activity and type, count them, never raise them to the caller.

Use it around our code only, never around the user's call::

    try:
        call.finish(response)
    except Exception as exc:
        guard.report("finishing a call", exc)

The test suite sets :data:`on_error`, which fails the test that caused an error.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

logger = logging.getLogger("rlm_cachetrack")

on_error: Callable[[str, BaseException], None] | None = None
"""Called with the activity and the error before anything else; for tests."""

_lock = threading.RLock()  # reentrant: a finalizer or a signal handler may fail during a report
_count = 0
_logged: set[tuple[str, type[BaseException]]] = set()


def report(activity: str, exc: BaseException) -> None:
    """Log and count an error of our own code. Does not raise and does not block.

    Args:
        activity: What the code was doing, in a few words.
        exc: The error. Its message is logged, so it must not contain prompt text; our code puts none there.
    """
    global _count
    if on_error is not None:
        on_error(activity, exc)
    with _lock:
        _count += 1
        is_new = (activity, type(exc)) not in _logged
        _logged.add((activity, type(exc)))
    if is_new:
        logger.error(
            "internal error while %s (the program continues; counted in stats()['internal_errors'])",
            activity,
            exc_info=exc,
        )


def count() -> int:
    """Return the number of our own errors that this process has reported."""
    return _count


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
