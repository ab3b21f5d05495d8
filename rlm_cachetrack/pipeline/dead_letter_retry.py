"""Retry dead letters, and report the result."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from .runtime import FLUSH_TIMEOUT_S, Runtime


class RetriedDeadLetters(NamedTuple):
    """The result of retrying dead letters.

    Attributes:
        retried: How many were moved into the journal.
        rejected: How many of those the server rejected again; they are dead letters as before.
        kept: How many were not moved, because the journal is full.
        is_stored: False: the store failed, and records wait in the journal.
    """

    retried: int
    rejected: int
    kept: int
    is_stored: bool

    @property
    def stored(self) -> int:
        """The number of records that were stored, if ``is_stored``."""
        return self.retried - self.rejected


def retry_dead_letters(
    runtime: Runtime, ids: Collection[str], timeout_s: float = FLUSH_TIMEOUT_S
) -> RetriedDeadLetters:
    """Move dead letters into the journal and wait until they are stored or rejected. Blocks for ``timeout_s`` at most.

    Args:
        runtime: The pipeline of the store; its writer is started if it is not running.
        ids: The dead letters.
        timeout_s: How long to wait for the store.

    Raises:
        OSError: The dead-letter file cannot be rewritten; the records are then in both files, and are stored once.
    """
    retried = runtime.retry_dead_letters(ids)
    is_stored = runtime.flush(timeout_s)
    remaining = {letter.id for letter in runtime.dead_letters.read()}
    return RetriedDeadLetters(len(retried), len(remaining & retried), len((remaining & set(ids)) - retried), is_stored)
