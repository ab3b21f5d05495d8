"""The background thread that ships the journal to a :class:`~.records.RecordSink`.

It reads a batch, turns events into rows (dialect, price), hands them to the sink, and acknowledges to the journal only
when the sink has returned. A sink that fails keeps the batch in the journal; it is offered again, with growing pauses.

A record that the sink refuses whenever it is offered would hold back all others for ever. It is found by halving the
batch, set aside as a dead letter, and the others are stored. Before the first one of a batch is given up, something of
that batch must have been stored, or the sink's ``probe`` must have passed and the record been refused after that: a
store that refuses everything is broken, and no record is given up for that.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from rlm_cachetrack._process import SignalSafeEvent, no_fork
from rlm_cachetrack._process import guard as _guard
from rlm_cachetrack.errors import CacheTrackError, QueryError, RecordRefusedError, StoreUnreachableError
from rlm_cachetrack.journal import Batch, DeadLetter, DeadLetters, Journal, expand_event
from rlm_cachetrack.records import ProbingSink, RecordSink

if TYPE_CHECKING:
    from tenacity import Retrying

    from rlm_cachetrack.fingerprint import Fingerprints

    from .batches import BatchBuilder, Built

logger = logging.getLogger("rlm_cachetrack")

_RECOVER_EVERY_S = 30.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0
# What was sent is not kept in memory for long, whether it can be stored or not.
_HASH_EVERY_S = 0.5
# While somebody waits in flush(), who has little time: so often.
_FLUSH_PAUSE_S = 0.5
_SMALLEST_BATCH = 100
_LAST_MOMENT_S = 0.1


class _Stopped(Exception):  # noqa: N818 - not an error
    """The writer is to end; what it was at stays in the journal."""


class _Prepared(NamedTuple):
    """A batch, and the rows made of it."""

    batch: Batch
    built: Built


class _Ahead:
    """Makes the rows of the next batch on a thread of its own, while the server is at work on the one before.

    The thread runs only while there is a backlog, so that it costs a program that records now and then nothing.
    """

    def __init__(self, prepare: Callable[[Batch], _Prepared]) -> None:
        self._prepare = prepare
        self._batch: Batch | None = None
        self._thread: threading.Thread | None = None
        self._result: _Prepared | None = None

    def begin(self, batch: Batch) -> None:
        """Start on ``batch``. Does not block."""
        self._batch = batch
        if batch.entries:
            thread = threading.Thread(target=self._run, args=(batch,), name="rlm_cachetrack-rows", daemon=True)
            with contextlib.suppress(RuntimeError):  # no new threads once the interpreter ends: take() does it then
                thread.start()
                self._thread = thread

    def _run(self, batch: Batch) -> None:
        with contextlib.suppress(Exception):  # take() then does it over, where an error has somebody to go to
            self._result = self._prepare(batch)

    def take(self) -> _Prepared | None:
        """What :meth:`begin` began, None where nothing was. Blocks until it is done."""
        batch = self._batch
        if batch is None:
            return None
        result = self._finished()
        return self._prepare(batch) if result is None else result

    def drop(self) -> None:
        """Give it up. Blocks until it is done."""
        self._finished()

    def _finished(self) -> _Prepared | None:
        if self._thread is not None:
            self._thread.join()
        result, self._batch, self._thread, self._result = self._result, None, None, None
        return result


def _unreadable(event: Mapping[str, Any], exc: Exception) -> DeadLetter:
    with contextlib.suppress(LookupError, TypeError, ValueError):  # as it was journaled, if it is damaged so far
        event = expand_event(event)
    return DeadLetter.from_event(event, f"it cannot be read: {type(exc).__name__}: {exc}")


class Writer:
    """One daemon thread between a journal and a sink.

    Args:
        journal: Where events wait.
        open_sink: Gives the sink; called on the writer's thread, may block (an embedded server starts in seconds) and
            raise. It is called again after a failure.
        batch_builder: Returns what turns events into batches.
        dead_letters: Where records go that can never be stored.
        max_records: A batch is stored when it holds so many events, …
        max_bytes: … or so many bytes of journal, …
        max_age_s: … or when so many seconds have passed since the first of them.
        fingerprints: What was sent and is to be hashed, also while nothing can be stored.
    """

    def __init__(
        self,
        journal: Journal,
        open_sink: Callable[[], RecordSink],
        batch_builder: Callable[[], BatchBuilder],
        dead_letters: DeadLetters,
        *,
        max_records: int = 2_500,
        max_bytes: int = 8 << 20,
        max_age_s: float = 0.75,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self.stored = 0
        self.started = False  # as it was seen last; `running` asks the thread
        self.last_error: str | None = None
        self.failing_since: datetime | None = None
        self._journal = journal
        self._open_sink = open_sink
        self._batch_builder = batch_builder
        self._dead_letters = dead_letters
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._fingerprints = fingerprints
        self._thread: threading.Thread | None = None
        # Reentrant: a signal handler or a finalizer may record while a thread is being started.
        self._start_lock = threading.RLock()
        self._starting = False
        self._hurry = SignalSafeEvent()
        self._stop = SignalSafeEvent()
        self._turn = threading.Condition()
        self._ahead = _Ahead(self._prepare)
        self._flushing = 0
        self._refusals = 0
        self._warned = False
        # Recoveries are numbered, so that flush() can wait for one that began after it.
        self._wanted_recovery = 0
        self._last_recovery = 0
        self._next_recovery = 0.0

    def start(self) -> None:
        """Start the thread if it does not run. Does not block.

        Where the system allows no more threads (or the interpreter ends), what is recorded stays in the journal.
        """
        with self._start_lock:
            # Looked at and noted without a call in between, so that no signal handler comes in between either.
            if self._stop.is_set() or self._starting:
                return
            self._starting = True
            try:
                if not self.running:
                    # Noted first: a Control-C in the midst of it may come when the thread runs already.
                    self._thread = threading.Thread(target=self._run, name="rlm_cachetrack-writer", daemon=True)
                    self._thread.start()
            except RuntimeError:
                self._thread = None
            finally:
                self._starting = False
            self.started = self.running

    def suppress_warning(self) -> None:
        """Do not warn that records wait; the user was told the reason."""
        self._warned = True

    @property
    def running(self) -> bool:
        """Whether the thread is there to make progress."""
        return self._thread is not None and self._thread.is_alive()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was appended before is stored or set aside as a dead letter.

        So is what processes have left that are dead by now, such as workers that the caller has just waited for.
        A writer that pauses after a failure tries again at once, and every half second until the time is up.

        Args:
            timeout_s: The longest to wait, in seconds.

        Returns:
            Whether nothing of it waits any more.
        """
        recovery = 0
        if timeout_s > 0:  # else it is only asked whether
            with self._turn:
                self._wanted_recovery += 1
                recovery = self._wanted_recovery
        return self._wait_until_stored(timeout_s, recovery)

    def _wait_until_stored(self, timeout_s: float, recovery: int) -> bool:
        deadline = time.monotonic() + timeout_s
        appended = self._journal.appended
        self.start()
        with self._turn:
            self._flushing += 1
            try:
                while not self._is_stored(appended, recovery):
                    self._hurry.set()
                    self._journal.wake.set()
                    self._turn.notify_all()
                    left = deadline - time.monotonic()
                    if left <= 0 or not self.running:
                        return self._is_stored(appended, recovery)
                    self._turn.wait(min(left, 0.5))
            finally:
                self._flushing -= 1
        return True

    def _is_stored(self, appended: int, recovery: int) -> bool:
        journal = self._journal
        return (
            journal.acked >= appended
            and self._last_recovery >= recovery
            and not journal.more_to_recover
            and journal.recovered_acked >= journal.recovered
        )

    def stop(self, timeout_s: float) -> bool:
        """Flush, then end the thread. What is not stored in time stays in the journal. Returns whether all is stored.

        Blocks for ``timeout_s``, and up to a tenth of a second for the thread to end.
        """
        deadline = time.monotonic() + timeout_s
        stored = self._wait_until_stored(timeout_s, 0) if self._journal.pending else True
        self._stop.set()
        self._hurry.set()
        self._journal.wake.set()
        with self._turn:
            self._turn.notify_all()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(max(_LAST_MOMENT_S, min(1.0, deadline - time.monotonic())))
        if not stored and not self._warned:  # it waited for something, and so could not say what is wrong
            self._warned = True
            logger.warning(
                "records wait in the journal %s because they were not stored within %.3g s; the next use stores them",
                self._journal.directory,
                timeout_s,
            )
        return stored

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        retrying = self._retrying()
        try:
            while not self._stop.is_set():
                try:
                    retrying(self._cycle)
                except _Stopped:
                    return
                except Exception as exc:  # it retries everything, so this is a defect
                    _guard.report("running the writer", exc)
                    self._nap(_FIRST_PAUSE_S)
                with self._turn:
                    self._turn.notify_all()
        finally:
            self.started = False
            self._journal.writer_waits = True

    def _retrying(self) -> Retrying:
        # Imported here: 30 ms that a program which records nothing does not pay, nor the thread that records.
        with no_fork():
            from tenacity import Retrying, retry_if_not_exception_type, wait_random_exponential

        # Random, so that the processes of a cluster do not all knock on a recovering server at once.
        pauses = wait_random_exponential(multiplier=_FIRST_PAUSE_S * 2, max=_LONGEST_PAUSE_S, min=_FIRST_PAUSE_S / 2)
        return Retrying(retry=retry_if_not_exception_type(_Stopped), wait=pauses, sleep=self._nap)

    def _nap(self, seconds: float) -> None:
        """Pause after a failure: shorter when somebody flushes, over at once when the writer is to stop."""
        began = time.monotonic()
        with self._turn:
            flushing = self._flushing
        while True:
            if self._fingerprints is not None:
                self._fingerprints.hash_waiting()
            with self._turn:
                if self._stop.is_set() or self._flushing > flushing:
                    return
                allowed = min(seconds, _FLUSH_PAUSE_S) if self._flushing else seconds
                left = began + allowed - time.monotonic()
                if left <= 0:
                    return
                flushing = min(flushing, self._flushing)
                self._turn.wait(left if self._fingerprints is None else min(left, _HASH_EVERY_S))

    def _cycle(self) -> None:
        journal = self._journal
        if self._stop.is_set():
            raise _Stopped
        self._recover()
        if not journal.pending:
            self._wait_for_events()
            if not journal.pending:
                return  # woken for something else; no reason to ask for the store
        if journal.pending < self._max_records and not self._hurry.is_set():
            self._hurry.wait(self._max_age_s)  # let a batch gather
        if self._stop.is_set():
            raise _Stopped
        try:
            self._open_sink()  # before the work of building rows that nobody would take
            prepared = self._ahead.take() or self._prepare(self._next_batch())
            batch = prepared.batch
            if not batch.entries:
                journal.ack(batch)  # for what is in no journal any more
                return
            # Memory is read from its beginning each time; what has come in meanwhile is no backlog: to take it would
            # split what is to gather, and to start a thread for it costs more than to make its rows.
            if journal.pending >= len(batch.entries) + self._max_records and not batch.from_memory:
                self._ahead.begin(self._next_batch())
            stored = self._ship(prepared)
        except _Stopped:
            raise
        except Exception as exc:
            self._keep(exc)
            if not isinstance(exc, CacheTrackError):
                _guard.report("storing records", exc)
            raise
        journal.ack(batch)
        if self._fingerprints is not None:
            self._fingerprints.discard_stored()
        self._note_success(stored)

    def _next_batch(self) -> Batch:
        limit = max(self._max_records >> self._refusals, _SMALLEST_BATCH)
        return self._journal.read(limit, self._max_bytes)

    def _prepare(self, batch: Batch) -> _Prepared:
        return _Prepared(batch, self._batch_builder().build(batch.decode()))

    def _recover(self) -> None:
        wanted = self._wanted_recovery
        due = time.monotonic() >= self._next_recovery
        if due or self._last_recovery < wanted or self._journal.more_to_recover:
            self._journal.recover()
            self._last_recovery = wanted
            self._next_recovery = time.monotonic() + _RECOVER_EVERY_S

    def _wait_for_events(self) -> None:
        journal = self._journal
        self._hurry.clear()
        journal.wake.clear()
        journal.writer_waits = True  # before the look: an event that comes behind it wakes us
        if not journal.pending:
            with self._turn:
                self._turn.notify_all()
            if self._stop.is_set():
                return  # stop() set the event before it was cleared here
            journal.wake.wait(_RECOVER_EVERY_S)
        journal.writer_waits = False

    # -- storing -----------------------------------------------------------------------------------------------------

    def _ship(self, prepared: _Prepared) -> int:
        """Store these events, all but the dead letters; returns how many calls were stored."""
        batch, unreadable = prepared.built
        if prepared.batch.recovered or self.failing_since is not None:
            batch = replace(batch, possible_duplicate=True)
        letters = [_unreadable(*event) for event in unreadable]
        try:
            if len(batch):
                self._open_sink().store(batch)
            stored = len(batch.interactions)
        except RecordRefusedError:
            letters = []
            stored = self._ship_halves(list(prepared.batch.decode()), letters)
        self._dead_letters.write(letters)
        return stored

    def _ship_halves(self, events: list[dict[str, Any]], letters: list[DeadLetter]) -> int:
        """The same for a batch that was refused: what is refused alone goes to ``letters``.

        Every part is a transaction of its own. A process that dies here has stored some of them; the batch was not
        acknowledged, so all of it is offered again, and what is stored already is stored once.
        """
        sink, builder = self._open_sink(), self._batch_builder()
        stored, works = 0, False
        todo = [events]
        while todo:
            if self._stop.is_set():
                raise _Stopped
            part = todo.pop()
            batch, unreadable = builder.build(part)
            try:
                if len(batch):
                    sink.store(replace(batch, possible_duplicate=True))
            except RecordRefusedError as exc:
                if len(part) > 1:
                    middle = len(part) // 2
                    todo += [part[middle:], part[:middle]]
                    continue
                if not works and isinstance(sink, ProbingSink):
                    sink.probe()
                    works = True
                    todo.append(part)  # once more: it may have been refused when the store still took nothing
                    continue
                works = True
                letters.append(DeadLetter.from_event(expand_event(part[0]), exc))
            else:
                works = works or bool(batch.interactions)
                stored += len(batch.interactions)
                letters += [_unreadable(*event) for event in unreadable]
        return stored

    def _note_success(self, stored: int) -> None:
        self.stored += stored
        if not self._flushing:
            self._hurry.clear()
        if not self._journal.pending:
            self._refusals = 0  # not before: the next large batch would only fail as the last one did
        self.last_error = None
        since, self.failing_since = self.failing_since, None
        if self._warned:
            self._warned = False
            away = "" if since is None else f" after {(datetime.now(UTC) - since).total_seconds():.0f} s"
            logger.info("the store is back%s; records are being stored again", away)

    def _keep(self, exc: Exception) -> None:
        self._ahead.drop()
        self._journal.nack()
        if isinstance(exc, QueryError) and not isinstance(exc, StoreUnreachableError):
            # It may be the size: a limit of time a statement, or of memory. A smaller one may pass.
            self._refusals = min(self._refusals + 1, 16)
        # As text: the error itself holds the whole batch by its traceback.
        self.last_error = str(exc) or type(exc).__name__
        self.failing_since = self.failing_since or datetime.now(UTC)
        if not self._warned and not self._stop.is_set():  # else its connection was taken away from it, no wonder
            self._warned = True
            logger.warning(
                "records wait in the journal %s because they cannot be stored: %s", self._journal.directory, exc
            )
        with self._turn:
            self._turn.notify_all()

    def stats(self) -> dict[str, Any]:
        """Counts for ``stats()``: dead letters, the last error as text and since when, None when the store works."""
        return {
            "dead_letters": self._dead_letters.written,
            "last_error": self.last_error,
            "failing_since": self.failing_since,
        }
