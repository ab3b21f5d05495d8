"""The background thread that ships the outbox to a :class:`~rlm_cachetrack.records.RecordSink`.

It reads a batch, turns events into rows (dialect, price), hands them to the sink, and acknowledges to the outbox only
when the sink has returned. A sink that fails keeps the batch in the outbox; it is offered again, with growing pauses.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _guard
from .errors import CacheTrackError
from .outbox import Batch, Outbox
from .records import RecordBatch, RecordSink

if TYPE_CHECKING:
    from ._rows import Rows

__all__ = ["Writer"]

logger = logging.getLogger("rlm_cachetrack")

_ADOPT_EVERY_S = 30.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0


class Writer:
    """One daemon thread between an outbox and a sink.

    Args:
        outbox: Where events wait.
        open_sink: Gives the sink; called on the writer's thread, may block (an embedded server starts in seconds) and
            raise. It is called again after a failure.
        rows: Turns events into rows.
        max_records: A batch is stored when it holds so many events, …
        max_bytes: … or so many bytes of journal, …
        max_age_s: … or when so many seconds have passed since the first of them.
    """

    def __init__(
        self,
        outbox: Outbox,
        open_sink: Callable[[], RecordSink],
        rows: Callable[[], Rows],
        *,
        max_records: int = 5_000,
        max_bytes: int = 8 << 20,
        max_age_s: float = 0.2,
    ) -> None:
        self.stored = 0
        self.started = False  # what every call looks at; `running` asks the thread
        self.last_error: BaseException | None = None
        self._outbox = outbox
        self._open_sink = open_sink
        self._make_rows = rows
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._hurry = threading.Event()
        self._stop = threading.Event()
        self._turn = threading.Condition()
        self._failures = 0
        self._warned = False
        self._adopted_once = False
        self._next_adoption = 0.0

    def start(self) -> None:
        """Start the thread if it does not run. Does not block."""
        with self._start_lock:
            if (self._thread is None or not self._thread.is_alive()) and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="rlm_cachetrack-writer", daemon=True)
                self._thread.start()
                self.started = True

    def told(self) -> None:
        """The user was told already that records wait, and why; a second warning would say it again."""
        self._warned = True

    @property
    def running(self) -> bool:
        """Whether the thread is there to make progress."""
        return self._thread is not None and self._thread.is_alive()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was appended before, and all that was adopted, is stored.

        Args:
            timeout_s: The longest to wait, in seconds.

        Returns:
            Whether it is stored.
        """
        deadline = time.monotonic() + timeout_s
        appended = self._outbox.appended
        self.start()
        with self._turn:
            self._hurry.set()
            self._outbox.wake.set()
            while not self._is_stored(appended):
                left = deadline - time.monotonic()
                if left <= 0 or not self.running:
                    return self._is_stored(appended)
                self._hurry.set()
                self._outbox.wake.set()
                self._turn.wait(min(left, 0.5))
        return True

    def _is_stored(self, appended: int) -> bool:
        outbox = self._outbox
        return outbox.acked >= appended and self._adopted_once and outbox.adopted_acked >= outbox.adopted

    def stop(self, timeout_s: float) -> bool:
        """Flush, then end the thread. What is not stored in time stays in the outbox. Returns whether all is stored."""
        stored = True
        if self._outbox.pending or self.running:
            stored = self.flush(timeout_s) if self._outbox.pending else True
        self._stop.set()
        self._hurry.set()
        self._outbox.wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)
        return stored

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._cycle()
                except Exception as exc:
                    _guard.report("storing records", exc)
                    self._pause()
                with self._turn:
                    self._turn.notify_all()
        finally:
            self.started = False

    def _cycle(self) -> None:
        outbox = self._outbox
        if time.monotonic() >= self._next_adoption:
            outbox.adopt()
            self._adopted_once = True
            self._next_adoption = time.monotonic() + _ADOPT_EVERY_S
        if not outbox.pending:
            self._hurry.clear()
            outbox.wake.clear()
            if not outbox.pending:
                with self._turn:
                    self._turn.notify_all()
                if self._stop.is_set():
                    return  # stop() set the event before it was cleared here
                outbox.wake.wait(_ADOPT_EVERY_S)
            if not self._hurry.is_set():
                self._hurry.wait(self._max_age_s)  # let a batch gather
        batch = outbox.read(self._max_records, self._max_bytes)
        if not (batch.own or batch.adopted):
            return
        try:
            rows = self._make_rows().build(batch.events)
            self._open_sink().store(rows)
        except CacheTrackError as exc:
            self._keep(batch, exc)
        except Exception as exc:
            self._keep(batch, exc)
            raise
        else:
            self._stored(batch, rows)

    def _stored(self, batch: Batch, rows: RecordBatch) -> None:
        self._outbox.ack(batch)
        self.stored += len(rows.interactions)
        self._failures = 0
        self.last_error = None
        if self._warned:
            self._warned = False
            logger.info("the store is back; records are being stored again")

    def _keep(self, batch: Batch, exc: BaseException) -> None:
        self._outbox.rewind(batch)
        self.last_error = exc
        self._failures += 1
        if not self._warned:
            self._warned = True
            logger.warning(
                "records wait in the outbox %s because they cannot be stored: %s", self._outbox.directory, exc
            )
        with self._turn:
            self._turn.notify_all()
        self._pause()

    def _pause(self) -> None:
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        # Jitter, so that the processes of a cluster do not all knock on a recovering server at once.
        self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311

    def stats(self) -> dict[str, Any]:
        """Counts for ``stats()``: stored, and the last error as text, None when the store works."""
        return {
            "stored": self.stored,
            "last_error": None if self.last_error is None else str(self.last_error),
        }
