"""The data that a store receives (starts, ends and outcomes of runs, batches), and the interface of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class RunKey:
    """The key of a run: ``query_id`` and the aware datetime at which it began."""

    query_id: str
    run_id: datetime


@dataclass(frozen=True, slots=True)
class RunStart:
    """A run began at ``time``."""

    query_id: str
    run_id: datetime
    time: datetime
    metadata: Mapping[str, Any] | None = None
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run ended at ``time`` with ``status``: completed, error, or the caller's own."""

    query_id: str
    run_id: datetime
    time: datetime
    status: str = "completed"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run, as the caller judged it. A value that is None leaves the stored one unchanged.

    Attributes:
        query_id: The query of the run.
        run_id: The start of the run.
        success: Whether the task was solved.
        score: A finite number, higher is better.
        label: A label chosen by the caller, such as ``timeout``.
    """

    query_id: str
    run_id: datetime
    success: bool | None = None
    score: float | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """The data that a sink stores in one transaction.

    Attributes:
        interactions: Rows in the order of :data:`COLUMNS`: aware datetimes, ``interaction_id`` as a UUID, ``metadata``
            and ``usage`` as JSON text, ``fingerprint`` as bytes.
        run_starts: Runs that began; runs that are already stored do not change.
        run_ends: Runs that ended; their optimization is stored after the interactions.
        optimizations: Runs whose optimization must be computed again.
        outcomes: Outcomes of runs, in the order in which they were recorded.
        possible_duplicate: Part of the batch may already be stored: the batch comes from the journal of a dead process,
            or an earlier attempt to store it failed.
    """

    interactions: Sequence[tuple[Any, ...]] = ()
    run_starts: Sequence[RunStart] = ()
    run_ends: Sequence[RunEnd] = ()
    optimizations: Sequence[RunKey] = ()
    possible_duplicate: bool = False
    outcomes: Sequence[RunOutcome] = ()

    def __len__(self) -> int:
        return sum(map(len, (self.interactions, self.run_starts, self.run_ends, self.optimizations, self.outcomes)))


@runtime_checkable
class RecordSink(Protocol):
    """The interface of a store. The default is PostgreSQL; pass your own with ``instrument(store=…)``.

    Both methods are called on the writer thread and may block. After an exception from :meth:`store` the batch stays
    in the journal and is retried, so storing must be idempotent by ``interaction_id``. After a
    :class:`~rlm_cachetrack.errors.RecordRejectedError` the writer bisects the batch, and the poison record becomes
    a dead letter.
    """

    def store(self, batch: RecordBatch) -> None:
        """Store the whole batch; return only when it is durable."""

    def close(self) -> None:
        """Release all resources; called once."""


@runtime_checkable
class ProbingSink(RecordSink, Protocol):
    """A sink that can test whether it accepts a valid record, after it rejected every record of a batch."""

    def probe(self) -> None:
        """Test whether a valid record would be accepted; raise the error if not. Stores nothing; may block."""
