"""Store a batch, and find the poison records in a batch that the sink rejects.

A poison record, which the sink rejects in every attempt, would hold back all others for ever. It is found by halving
the batch and becomes a dead letter; the others are stored. Before the first record of a batch is given up, either
another part of the batch was stored, or the sink's ``probe`` passed and the sink rejected the record once more after
that: a store that rejects everything is broken, and no record is given up for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.errors import RecordRejectedError
from rlm_cachetrack.journal import DeadLetter, DeadLetters, expand_event
from rlm_cachetrack.records import ProbingSink, RecordSink

if TYPE_CHECKING:
    from .batches import BatchBuilder
    from .prefetch import PreparedBatch

__all__ = ["Stopped", "store_batch"]


class Stopped(Exception):  # noqa: N818 - not an error
    """The writer ends; the batch that it was storing stays in the journal."""


def store_batch(
    prepared: PreparedBatch,
    sink: RecordSink,
    builder: Callable[[], BatchBuilder],
    dead_letters: DeadLetters,
    check_stop: Callable[[], None],
    *,
    possible_duplicate: bool,
) -> None:
    """Store a batch, except for its poison records, which are written as dead letters. Blocks.

    Args:
        prepared: The batch.
        sink: The store.
        builder: Returns the batch builder, which is needed if the batch must be built again in parts.
        dead_letters: The file of records that can never be stored.
        check_stop: Called before each part; raises :class:`Stopped`.
        possible_duplicate: Some of the batch may be stored already.

    Raises:
        Exception: The sink failed; the batch must stay in the journal.
    """
    batch, unreadable = prepared.built
    if possible_duplicate:
        batch = replace(batch, possible_duplicate=True)
    letters = _unreadable_letters(unreadable)
    try:
        if len(batch):
            sink.store(batch)
    except RecordRejectedError:
        letters = _store_in_parts(list(prepared.entries.decode()), sink, builder(), check_stop)
    dead_letters.write(letters)


def _store_in_parts(
    events: list[dict[str, Any]], sink: RecordSink, builder: BatchBuilder, check_stop: Callable[[], None]
) -> list[DeadLetter]:
    """Store a batch that was rejected, by halving it; return the records that are rejected alone.

    Each part is a transaction. If the process dies here, some parts are stored and the whole batch is still in the
    journal; as a possible duplicate each of its calls is stored once.
    """
    letters: list[DeadLetter] = []
    sink_works = False
    parts = [events]
    while parts:
        check_stop()
        part = parts.pop()
        batch, unreadable = builder.build(part)
        try:
            if len(batch):
                sink.store(replace(batch, possible_duplicate=True))
        except RecordRejectedError as exc:
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            elif not sink_works and isinstance(sink, ProbingSink):
                sink.probe()
                sink_works = True
                parts.append(part)  # the rejection may date from a time when the store rejected everything
            else:
                sink_works = True
                letters.append(DeadLetter.from_event(expand_event(part[0]), exc))
        else:
            sink_works = sink_works or bool(batch.interactions)
            letters += _unreadable_letters(unreadable)
    return letters


def _unreadable_letters(unreadable: Sequence[tuple[Mapping[str, Any], Exception]]) -> list[DeadLetter]:
    letters = []
    for event, exc in unreadable:
        with contextlib.suppress(LookupError, TypeError, ValueError):  # on an error the event stays as it was journaled
            event = expand_event(event)
        letters.append(DeadLetter.from_event(event, f"it cannot be read: {type(exc).__name__}: {exc}"))
    return letters
