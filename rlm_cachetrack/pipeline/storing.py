"""Store a batch, and find the poison records in a batch that the sink rejects.

A poison record, which fails in every attempt, would block all other records. It is found by halving the batch and
becomes a dead letter; the others are stored. A store that rejects everything is broken, so its rejections do not count.
Therefore the first record of a batch becomes a dead letter only if another part of the batch was stored, or if the
sink's ``probe`` passed and the record failed again after it.

A record is poison if the sink raises ``RecordRejectedError`` for it, or an unexpected exception, which is a
defect: see :func:`_is_poison`. All other exceptions mean that the store does not work at present.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rlm_cachetrack._process import guard
from rlm_cachetrack.errors import CacheTrackError, RecordRejectedError
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
        builder: Returns the batch builder.
        dead_letters: The file of records that can never be stored.
        check_stop: Called before each part; raises :class:`Stopped`.
        possible_duplicate: Some of the batch may be stored already.

    Raises:
        Exception: The sink failed; the batch must stay in the journal.
    """
    letters = _unreadable_letters(prepared.built.unreadable)
    try:
        batch = builder().completed(prepared.built, prepared.entries.decode, sink).batch
        if possible_duplicate:
            batch = replace(batch, possible_duplicate=True)
        if len(batch):
            sink.store(batch)
    except Exception as exc:
        if not _is_poison(exc, sink):
            raise
        letters = _store_in_parts(list(prepared.entries.decode()), sink, builder(), check_stop)
    dead_letters.write(letters)


def _store_in_parts(
    events: list[dict[str, Any]], sink: RecordSink, builder: BatchBuilder, check_stop: Callable[[], None]
) -> list[DeadLetter]:
    """Store a rejected batch by halving it; return the records that are rejected even on their own.

    Each part is a transaction. If the process dies here, some parts are stored and the whole batch is still in the
    journal; as a possible duplicate each of its calls is stored once.
    """
    letters: list[DeadLetter] = []
    failed: list[tuple[dict[str, Any], Exception]] = []  # records rejected on their own, before another part was stored
    sink_works = False
    parts = [events]
    while parts:
        check_stop()
        part = parts.pop()
        built = builder.build(part)
        try:
            batch = builder.completed(built, partial(iter, part), sink).batch
            if len(batch):
                sink.store(replace(batch, possible_duplicate=True))
        except Exception as exc:
            if not _is_poison(exc, sink):
                raise
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            elif sink_works or (isinstance(exc, RecordRejectedError) and not isinstance(sink, ProbingSink)):
                sink_works = True
                letters.append(_letter(part[0], exc))
            elif isinstance(sink, ProbingSink):
                sink.probe()
                sink_works = True
                parts.append(part)  # the rejection may date from a time when the store rejected everything
            else:
                failed.append((part[0], exc))
        else:
            letters += _unreadable_letters(built.unreadable)
            if batch.interactions and not sink_works:
                sink_works = True
                parts += [[event] for event, _ in failed]
                failed.clear()
    if failed:
        raise failed[0][1]
    return letters


# Exceptions of a user's sink that the content of a record can cause. Others, such as those of an HTTP client, may mean
# that its server cannot be reached.
_CAUSED_BY_CONTENT = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _is_poison(exc: Exception, sink: RecordSink) -> bool:
    """Return True if parts of the batch can perhaps be stored although the whole batch was rejected."""
    if isinstance(exc, CacheTrackError):
        return isinstance(exc, RecordRejectedError)
    if isinstance(exc, (ImportError, MemoryError, OSError)):
        return False  # the machine lacks a resource temporarily
    return isinstance(sink, ProbingSink) or isinstance(exc, _CAUSED_BY_CONTENT)


def _letter(event: Mapping[str, Any], exc: Exception) -> DeadLetter:
    with contextlib.suppress(Exception):  # on an error the event stays as it was journaled
        event = expand_event(event)
    if isinstance(exc, RecordRejectedError):
        return DeadLetter.from_event(event, exc)
    guard.report("storing a record", exc)
    return DeadLetter.from_event(event, f"it cannot be stored: {_last_line(exc)}")


def _last_line(exc: Exception) -> str:
    """Return the last line of the exception's traceback."""
    return traceback.format_exception_only(exc)[-1].strip()


def _unreadable_letters(unreadable: Sequence[tuple[Mapping[str, Any], Exception]]) -> list[DeadLetter]:
    letters = []
    for event, exc in unreadable:
        with contextlib.suppress(Exception):  # on an error the event stays as it was journaled
            event = expand_event(event)
        letters.append(DeadLetter.from_event(event, f"it cannot be read: {_last_line(exc)}"))
    return letters
