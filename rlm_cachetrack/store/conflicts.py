"""Retry a transaction that was rolled back because another one used the same rows or objects."""

from __future__ import annotations

from typing import Final

import psycopg
import tenacity


def _is_conflict(exc: BaseException) -> bool:
    """Return True if the same transaction can succeed now: a deadlock (40P01) or a serialization failure (40001).

    TimescaleDB's background jobs cause both; PostgreSQL has no separate code for a catalog row that a job changed.
    """
    return isinstance(exc, (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)) or (
        isinstance(exc, psycopg.errors.InternalError_) and "concurrently" in str(exc)
    )


retry_on_conflict: Final = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_is_conflict),
    wait=tenacity.wait_random_exponential(0.2, max=5),
    stop=tenacity.stop_after_attempt(8),
    reraise=True,
)
"""Call a function that runs one transaction, up to eight times over about 15 s: ``retry_on_conflict(function, …)``."""
