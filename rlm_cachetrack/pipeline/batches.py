"""Turn journal events into a batch for a :class:`~.records.RecordSink`, on the writer's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rlm_cachetrack.fingerprint import HashedRequest
from rlm_cachetrack.pricing import PriceBook
from rlm_cachetrack.records import RecordBatch, RecordSink, RunEnd, RunKey, RunOutcome, RunStart, clean_text

from .background_calls import completed_events
from .known_totals import without_known_totals
from .rows import RowBuilder, parse_time
from .stored_values import clean_json

# A thread that computes keeps the interpreter's lock for 5 ms at a time while other threads wait for it: the program's,
# and the one that sends the previous batch. Therefore the builder sleeps briefly after this number of events. A sleep
# of 0 seconds is not enough: the builder would take the lock again before another thread wakes up.
_EVENTS_BETWEEN_SLEEPS = 32
_SLEEP_S = 1e-5


class Built(NamedTuple):
    """The result of building a batch.

    Attributes:
        batch: For a sink.
        unreadable: The events that are not in the batch, each with the reason.
    """

    batch: RecordBatch
    unreadable: Sequence[tuple[Mapping[str, Any], Exception]]


class BatchBuilder:
    """Builds batches; keeps the prices of models between calls.

    Args:
        prices: The prices of tokens.
        hashed_request_of: Returns the hashed request of a call by its number; None if requests are not hashed.
    """

    def __init__(
        self, prices: PriceBook, hashed_request_of: Callable[[int], HashedRequest | None] | None = None
    ) -> None:
        self.prices = prices
        self._rows = RowBuilder(prices, hashed_request_of)

    def build(self, events: Iterable[Mapping[str, Any]]) -> Built:
        """Turn events into a batch; an event that cannot be read is left out and reported.

        Args:
            events: As :meth:`~.journal.Batch.decode` yields them.

        Raises:
            ImportError, MemoryError, OSError: The machine lacks something; the events are not at fault.
        """
        interactions: list[tuple[Any, ...]] = []
        starts: list[RunStart] = []
        ends: list[RunEnd] = []
        optimizations: list[RunKey] = []
        outcomes: list[RunOutcome] = []
        unreadable: list[tuple[Mapping[str, Any], Exception]] = []
        for number, event in enumerate(events, 1):
            if not number % _EVENTS_BETWEEN_SLEEPS:
                time.sleep(_SLEEP_S)
            try:
                kind = "call" if "call" in event else event["kind"]
                if kind in ("call", "record", "stored"):
                    interactions.append(self._rows.row(event))
                elif kind == "run_start":
                    metadata, tags = clean_json(event.get("metadata")), clean_json(event.get("tags"))
                    starts.append(RunStart(*_run(event), parse_time(event["time"]), metadata, tags))
                elif kind == "run_end":
                    ends.append(RunEnd(*_run(event), parse_time(event["time"]), clean_text(event["status"])))
                elif kind == "optimization":
                    optimizations.append(RunKey(*_run(event)))
                elif kind == "run_outcome":
                    outcomes.append(RunOutcome(*_run(event), event["success"], event["score"], event["label"]))
                else:
                    raise ValueError(f"an event of the unknown kind {kind!r}")
            except (ImportError, MemoryError, OSError):
                raise  # the machine is short of something (memory, open files), which passes
            except Exception as exc:  # an event that cannot be read must not hold back the others
                unreadable.append((event, exc))
        return Built(RecordBatch(interactions, starts, ends, optimizations, outcomes=outcomes), unreadable)

    def completed(self, built: Built, events: Callable[[], Iterable[dict[str, Any]]], sink: RecordSink) -> Built:
        """Complete the batch with stored data about its calls, and leave out usage that is already counted.

        Blocks for a query if the batch has background responses, and for one if it has totals.

        Args:
            built: The batch.
            events: Returns the events that the batch was built from.
            sink: The store.

        Raises:
            StoreError: The store failed.
        """
        changed = completed_events(built.batch, events, sink)
        found = built if changed is None else self.build(changed)
        return found._replace(batch=without_known_totals(found.batch, sink))


def _run(event: Mapping[str, Any]) -> tuple[str, datetime]:
    return clean_text(event["query_id"]), parse_time(event["run_id"])
