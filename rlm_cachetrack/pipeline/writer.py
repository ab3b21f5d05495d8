"""The writer thread: it stores the events of a journal in a :class:`~.records.RecordSink`.

It reads a batch, turns events into rows (dialect, price), stores them, and acknowledges them to the journal only after
the sink has returned. If the sink fails, the batch stays in the journal and is retried, with growing backoff.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack._process import SignalSafeEvent, guard, no_fork
from rlm_cachetrack.errors import CacheTrackError, QueryError, StoreUnreachableError
from rlm_cachetrack.journal import Batch, DeadLetters, Journal
from rlm_cachetrack.records import RecordBatch, RecordSink

from .prefetch import Prefetch, PreparedBatch
from .storing import Stopped, store_batch

if TYPE_CHECKING:
    from tenacity import Retrying

    from rlm_cachetrack.fingerprint import Fingerprints

    from .batches import BatchBuilder

logger = logging.getLogger("rlm_cachetrack")

_RECOVER_EVERY_S = 30.0
_MIN_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 30.0
_MAX_BACKOFF_IN_FLUSH_S = 0.5
# Prompts do not stay in memory for long, even if their calls cannot be stored; and a deleted journal is noticed.
_HASH_EVERY_S = 0.5
_MIN_BATCH_RECORDS = 100
_MIN_JOIN_S = 0.1


class Writer:
    """A daemon thread between a journal and a sink. A batch is stored as soon as one of its limits is reached.

    Args:
        journal: The journal.
        open_sink: Returns the sink. Called on the writer thread, again after each failure; may block (an embedded
            server starts in seconds) and raise.
        batch_builder: Returns the batch builder.
        dead_letters: The file of records that can never be stored.
        max_records: Limit of events per batch.
        max_bytes: Limit of bytes of journal per batch.
        max_age_s: Limit of seconds since the first event of a batch.
        fingerprints: Prompts to hash, also while nothing can be stored.
        observers: Called on the writer thread with each batch that was stored; not with those of dead processes.
        on_wake: Called on the writer thread each time it wakes up, at least every 30 seconds. It must not raise.

    Attributes:
        started: Whether the thread ran at the last check; :attr:`running` checks the thread itself.
        last_error: The reason why storing fails; None if it works.
        failing_since: When storing began to fail, an aware datetime; None if it works.
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
        observers: Sequence[Callable[[RecordBatch], None]] = (),
        on_wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.started = False
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
        self._observers = observers
        self._on_wake = on_wake
        self._thread: threading.Thread | None = None
        # Reentrant: a signal handler or a finalizer may record while a thread is being started.
        self._start_lock = threading.RLock()
        self._starting = False
        self._store_now = SignalSafeEvent()
        self._stop = SignalSafeEvent()
        self._progress = threading.Condition()
        self._prefetch = Prefetch(self._prepare)
        self._flushing = 0
        self._failures = 0  # each failure halves the batch size
        self._warned = False
        # Recoveries are numbered, so that flush() can wait for one that began after it.
        self._wanted_recovery = 0
        self._last_recovery = 0
        self._next_recovery = 0.0

    def start(self) -> None:
        """Start the thread if it is not running. Does not block.

        If the system allows no more threads, or the interpreter ends, records stay in the journal.
        """
        with self._start_lock:
            # No call between the check and the assignment, so that no signal handler runs between them.
            if self._stop.is_set() or self._starting:
                return
            self._starting = True
            try:
                if not self.running:
                    # Assigned first: a Ctrl-C during start() may come after the thread has started.
                    self._thread = threading.Thread(target=self._run, name="rlm_cachetrack-writer", daemon=True)
                    self._thread.start()
            except RuntimeError:
                self._thread = None
            finally:
                self._starting = False
            self.started = self.running

    def suppress_warning(self) -> None:
        """Suppress the warning that records wait; the user already got the reason."""
        self._warned = True

    @property
    def running(self) -> bool:
        """Return True if the thread is running."""
        return self._thread is not None and self._thread.is_alive()

    def flush(self, timeout_s: float) -> bool:
        """Wait until every event appended before is stored or a dead letter.

        This includes the journals of processes that are dead by now, such as workers that the caller has just waited
        for. A writer in backoff retries at once, and then every half second until the time is up.

        Args:
            timeout_s: How long to wait at most, in seconds; 0 only checks.

        Returns:
            True if none of these events waits any more.
        """
        recovery = 0
        if timeout_s > 0:
            with self._progress:
                self._wanted_recovery += 1
                recovery = self._wanted_recovery
        return self._wait_until_stored(timeout_s, recovery)

    def _wait_until_stored(self, timeout_s: float, recovery: int) -> bool:
        deadline = time.monotonic() + timeout_s
        appended = self._journal.appended
        self.start()
        with self._progress:
            self._flushing += 1
            try:
                while not self._is_stored(appended, recovery):
                    self._store_now.set()
                    self._journal.wake.set()
                    self._progress.notify_all()
                    remaining_s = deadline - time.monotonic()
                    if remaining_s <= 0 or not self.running:
                        return self._is_stored(appended, recovery)
                    self._progress.wait(min(remaining_s, 0.5))
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

    def stop(self, timeout_s: float, *, reserved_s: float = 0.0) -> bool:
        """Flush, then end the thread. Blocks for up to ``timeout_s`` seconds, and a tenth of a second for the thread.

        Args:
            timeout_s: How long the caller may wait, in seconds.
            reserved_s: The part of it that is for the caller's steps after this one.

        Returns:
            True if everything is stored; otherwise the records stay in the journal.
        """
        deadline = time.monotonic() + timeout_s - reserved_s
        stored = self._wait_until_stored(timeout_s - reserved_s, 0) if self._journal.pending else True
        self._stop.set()
        self._store_now.set()
        self._journal.wake.set()
        with self._progress:
            self._progress.notify_all()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(max(_MIN_JOIN_S, min(1.0, deadline - time.monotonic())))
        if not stored and not self._warned:  # the thread was waiting for the store, and has not warned
            self._warned = True
            logger.warning(
                "records wait in the journal %s because they were not stored in time; the next use stores them",
                self._journal.directory,
            )
        return stored

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        retrying = self._retrying()
        try:
            while not self._stop.is_set():
                try:
                    retrying(self._cycle)
                except Stopped:
                    return
                except Exception as exc:  # every error of the store is retried, so this is a defect
                    guard.report("running the writer", exc)
                    self._back_off(_MIN_BACKOFF_S)
                with self._progress:
                    self._progress.notify_all()
        finally:
            self.started = False
            self._journal.writer_waits = True

    def _retrying(self) -> Retrying:
        # Imported here: it takes 30 ms, which neither a program that records nothing nor the calling thread pays.
        with no_fork():
            from tenacity import Retrying, retry_if_not_exception_type, wait_random_exponential

        # Jitter prevents the processes of a cluster from retrying at the same time once the server is back.
        backoff = wait_random_exponential(multiplier=_MIN_BACKOFF_S * 2, max=_MAX_BACKOFF_S, min=_MIN_BACKOFF_S / 2)
        return Retrying(retry=retry_if_not_exception_type(Stopped), wait=backoff, sleep=self._back_off)

    def _back_off(self, seconds: float) -> None:
        """Back off after a failure: shorter during a flush, not at all if the writer stops. Hash prompts meanwhile."""
        began = time.monotonic()
        with self._progress:
            flushing = self._flushing
        while True:
            if self._fingerprints is not None:
                self._fingerprints.hash_waiting()
            self._journal.rewrite_removed()
            with self._progress:
                if self._stop.is_set() or self._flushing > flushing:
                    return
                allowed_s = min(seconds, _MAX_BACKOFF_IN_FLUSH_S) if self._flushing else seconds
                remaining_s = began + allowed_s - time.monotonic()
                if remaining_s <= 0:
                    return
                flushing = min(flushing, self._flushing)
                self._progress.wait(min(remaining_s, _HASH_EVERY_S))

    def _cycle(self) -> None:
        """Wait for a batch, and store it."""
        journal = self._journal
        self._check_stop()
        journal.rewrite_removed()
        self._recover()
        if not journal.pending:
            self._wait_for_events()
        self._on_wake()
        if not journal.pending:
            return  # woken without an event; the store need not be opened
        if journal.pending < self._max_records and not self._store_now.is_set():
            self._store_now.wait(self._max_age_s)
        self._check_stop()
        try:
            entries = self._store_next()
        except Stopped:
            raise
        except Exception as exc:
            self._keep(exc)
            if not isinstance(exc, CacheTrackError):
                guard.report("storing records", exc)
            raise
        journal.ack(entries)
        if entries.entries:
            if self._fingerprints is not None:
                self._fingerprints.discard_stored()
            self._note_success()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _store_next(self) -> Batch:
        """Store the next batch, and start building the one after it if there is a backlog."""
        sink = self._open_sink()  # first, so that no rows are built if the store cannot be opened
        prepared = self._prefetch.take() or self._prepare(self._next_batch())
        entries = prepared.entries
        if not entries.entries:
            return entries  # the pending events are in no journal any more
        # The queue in memory is read from its beginning each time. Fewer events are not a backlog: their batch would
        # not be full, and starting a thread takes longer than building it.
        if self._journal.pending >= len(entries.entries) + self._max_records and not entries.from_memory:
            self._prefetch.start(self._next_batch())
        store_batch(
            prepared,
            sink,
            self._batch_builder,
            self._dead_letters,
            self._check_stop,
            possible_duplicate=bool(entries.recovered) or self.failing_since is not None,
        )
        if not entries.recovered:
            self._observe(prepared.built.batch)
        return entries

    def _observe(self, batch: RecordBatch) -> None:
        for observe in self._observers:
            try:
                observe(batch)
            except Exception as exc:
                guard.report("observing a batch", exc)

    def _next_batch(self) -> Batch:
        limit = max(self._max_records >> self._failures, _MIN_BATCH_RECORDS)
        return self._journal.read(limit, self._max_bytes)

    def _prepare(self, entries: Batch) -> PreparedBatch:
        return PreparedBatch(entries, self._batch_builder().build(entries.decode()))

    def _recover(self) -> None:
        wanted = self._wanted_recovery
        due = time.monotonic() >= self._next_recovery
        if due or self._last_recovery < wanted or self._journal.more_to_recover:
            self._journal.recover()
            self._last_recovery = wanted
            self._next_recovery = time.monotonic() + _RECOVER_EVERY_S

    def _wait_for_events(self) -> None:
        journal = self._journal
        self._store_now.clear()
        journal.wake.clear()
        journal.writer_waits = True  # set before the check, so that a later event wakes the writer
        if not journal.pending:
            with self._progress:
                self._progress.notify_all()
            if self._stop.is_set():
                return  # stop() had set the event before it was cleared above
            journal.wake.wait(_RECOVER_EVERY_S)
        journal.writer_waits = False

    def _note_success(self) -> None:
        if not self._flushing:
            self._store_now.clear()
        if not self._journal.pending:
            self._failures = 0  # reset only now: before, the next large batch would fail like the last one
        self.last_error = None
        since, self.failing_since = self.failing_since, None
        if self._warned:
            self._warned = False
            duration = "" if since is None else f" after {(datetime.now(UTC) - since).total_seconds():.0f} s"
            logger.info("the store is available again%s; records are being stored", duration)

    def _keep(self, exc: Exception) -> None:
        """Keep the batch in the journal after a failure, and report it once."""
        self._prefetch.discard()
        self._journal.nack()
        if isinstance(exc, QueryError) and not isinstance(exc, StoreUnreachableError):
            # The batch may exceed a statement timeout or a memory limit; a smaller one may succeed.
            self._failures = min(self._failures + 1, 16)
        # Kept as text, because the error's traceback references the whole batch.
        self.last_error = str(exc) or type(exc).__name__
        self.failing_since = self.failing_since or datetime.now(UTC)
        if not self._warned and not self._stop.is_set():  # the error comes from stop(), which closes the connection
            self._warned = True
            logger.warning(
                "records wait in the journal %s because they cannot be stored: %s", self._journal.directory, exc
            )
        with self._progress:
            self._progress.notify_all()

    def stats(self) -> dict[str, Any]:
        """Return the writer's part of ``stats()``."""
        return {
            "dead_letters": self._dead_letters.written,
            "last_error": self.last_error,
            "failing_since": self.failing_since,
        }
