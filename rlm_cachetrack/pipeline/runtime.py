"""One pipeline, from a journal to a sink, and its parts.

:mod:`.registry` has the pipelines of the process, one per store.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from rlm_cachetrack._process import guard, import_httpx2, no_fork
from rlm_cachetrack.addresses import without_secrets
from rlm_cachetrack.config import Settings, redact
from rlm_cachetrack.errors import ConfigError, PricingError, RecordRejectedError, StoreUnreachableError
from rlm_cachetrack.fingerprint import Fingerprints
from rlm_cachetrack.journal import DeadLetters, Journal
from rlm_cachetrack.records import RecordBatch, RecordSink

from .price_updates import PriceListWatch
from .writer import Writer

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.store import PostgresStore

    from .batches import BatchBuilder

logger = logging.getLogger("rlm_cachetrack")

_CLOSING_S = 0.5
FLUSH_TIMEOUT_S = 30.0


class RuntimeOwner(Protocol):
    """The interface through which a runtime uses the registry of its process."""

    is_ending: bool
    """The interpreter is exiting: no thread is started any more."""

    def open(self, settings: Settings, sink: RecordSink | None) -> Runtime:
        """Return the open runtime of a store."""

    def is_default(self, runtime: Runtime) -> bool:
        """Return True if instrumented calls go to this runtime."""

    def writer_started(self) -> None:
        """Called after a writer thread was started."""

    def writer_woke(self) -> None:
        """Called on a writer thread each time it wakes up."""

    def append_unfinished(self) -> None:
        """Append events that wait for something other than the writer."""

    def closed(self, runtime: Runtime) -> None:
        """Called after a runtime was closed."""


class Runtime:
    """One pipeline from the journal to a sink. :meth:`.registry.Registry.open` creates it.

    Attributes:
        store_id: Identifies the store: the address without its password, the folder of the embedded server, or the
            sink's class.
        users: The number of clients that use the runtime. When the last one closes, the runtime closes, too, unless it
            is the default.
        observers: Called on the writer thread with each batch that was stored.
        closed: The runtime was closed; the registry opens a new one for its store.
        restarts_server: False in programs that only watch: they start the embedded server for their first connection,
            but not again after `rlm-cachetrack db stop`.
    """

    def __init__(self, settings: Settings, sink: RecordSink | None, owner: RuntimeOwner) -> None:
        self.settings = settings
        self.store_id = store_id_of(settings, sink)
        self.sink = sink
        self.users = 0
        self.closed = False
        self.restarts_server = True
        self._server_was_up = False
        self._owner = owner
        self._lock = threading.RLock()
        self._store: PostgresStore | None = None
        self._batch_builder: BatchBuilder | None = None
        self._book: PriceBook | None = None
        self._price_lists = PriceListWatch(settings)
        self.observers: list[Callable[[RecordBatch], None]] = []
        self._make_pipeline()

    def _make_pipeline(self) -> None:
        settings = self.settings
        self._batch_builder = None  # the previous builder refers to the previous fingerprints
        folder = settings.state_dir / "journal" / hashlib.sha256(self.store_id.encode()).hexdigest()[:16]
        self.journal = Journal(folder, max_bytes=settings.journal_max_bytes, start_writer=self.start)
        self.dead_letters = DeadLetters(folder)
        self.fingerprints = (
            Fingerprints(settings.state_dir, settings.fingerprint_key) if settings.fingerprints else None
        )
        self.writer = Writer(
            self.journal,
            self._open_sink,
            self.batch_builder,
            self.dead_letters,
            max_records=settings.batch_max_records,
            max_bytes=settings.batch_max_bytes,
            max_age_s=settings.batch_max_age_s,
            fingerprints=self.fingerprints,
            observers=self.observers,
            on_wake=self._owner.writer_woke,
        )

    # -- parts, made on first use --------------------------------------------------------------------------------------

    def batch_builder(self) -> BatchBuilder:
        """Return the batch builder, with the current prices. May block to read the pricing file."""
        with self._lock:
            book = self.price_book()
            if self._batch_builder is None or book is not self._batch_builder.prices:
                with no_fork():
                    from .batches import BatchBuilder

                hashed_request_of = None if self.fingerprints is None else self.fingerprints.get
                self._batch_builder = BatchBuilder(book, hashed_request_of)
            return self._batch_builder

    def price_book(self) -> PriceBook:
        """Return the current prices. May block to read the pricing file.

        If the file was changed and has an error, the error is logged and the previous prices stay in use.

        Raises:
            PricingError: The file cannot be used, and there are no previous prices.
        """
        with self._lock:
            if self._book is None:
                with no_fork():
                    from rlm_cachetrack.pricing import PriceBook

                self._book = PriceBook.load(self.settings.pricing, self._price_lists.prices)
                return self._book
            try:
                self._book = self._book.over(self._price_lists.prices).refreshed()
            except PricingError as exc:
                logger.warning("the changed pricing file has errors; the previous prices stay in use:\n%s", exc)
            return self._book

    def priced_by(self, pricing: str | os.PathLike[str] | None) -> PriceBook:
        """Return the prices of a file over the list in use; None: the prices that this store records with. Blocks.

        Raises:
            PricingError: The file cannot be used.
        """
        self.use_newest_price_list()
        if pricing is None:
            return self.price_book()
        from rlm_cachetrack.pricing import PriceBook

        return PriceBook.load(pricing, self._price_lists.prices)

    def use_newest_price_list(self) -> None:
        """Use the price list that ``prices update`` stored last. Blocks for one query."""
        if self.sink is None:
            self._price_lists.poll(self.store())

    def check_pricing(self) -> None:
        """Read the pricing file early to report its errors, and import modules that the writer thread must not import.

        Raises:
            PricingError: The file cannot be used.
        """
        import_httpx2()
        if self.settings.pricing is not None:
            self.price_book()

    def store(self) -> PostgresStore:
        """Return the PostgreSQL store, which may not be connected yet. Does not block.

        Raises:
            ConfigError: The store is a sink of the user, which cannot be read.
        """
        with self._lock:
            if self.sink is not None:
                raise ConfigError(f"the store is a {type(self.sink).__name__}: it takes records but cannot be read")
            if self._store is None:
                with no_fork():
                    from rlm_cachetrack.store import PostgresStore, migrations

                self._store = PostgresStore(self.resolve_url, migrations.migrate, pool_size=self.settings.pool_size)
            return self._store

    def reader(self, timeout_s: float = FLUSH_TIMEOUT_S) -> PostgresStore:
        """Return the store, once everything that this process recorded is stored. Blocks until then.

        Raises:
            StoreUnreachableError: The records could not be stored in time.
            StoreError: The store cannot be used.
        """
        store = self.store()
        store.open()
        if not self.flush(timeout_s):
            raise StoreUnreachableError(
                f"{self.journal.pending} records could not be stored within {timeout_s:g} s"
                + (f": {self.writer.last_error}" if self.writer.last_error else "")
                + f"; they are kept in {self.journal.directory}"
            )
        return store

    def resolve_url(self) -> str:
        """Return the address of the database. May block to start the embedded server."""
        if self.settings.db_url is not None:
            return self.settings.db_url
        with no_fork():
            from rlm_cachetrack.store import embedded

        if self._server_was_up and not self.restarts_server:
            return embedded.running_url(self.settings.data_dir)
        url = embedded.ensure_running(self.settings.data_dir)
        self._server_was_up = True
        return url

    def _open_sink(self) -> RecordSink:
        if self.sink is not None:
            return self.sink
        store = self.store()
        store.open()
        self._price_lists.poll_as_writer(store)
        return store

    @property
    def in_use(self) -> bool:
        """Return True if anything records into the runtime or reads from it."""
        return bool(self._owner.is_default(self) or self.users or self.writer.running or self.journal.pending)

    # -- recording -----------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start the writer, which also recovers the journals of dead processes. Does not block.

        Returns:
            True if the writer runs.
        """
        if not self._owner.is_ending and not self.writer.started:
            self.writer.start()
            self._owner.writer_started()
        return self.writer.started

    def append(self, event: Mapping[str, Any] | bytes) -> None:
        """Append an event, or an encoded one, to the journal. Does not block or raise, even if the disk is full."""
        if self.closed and not self._owner.is_ending:  # the call was in flight while the store was closed
            self._owner.open(self.settings, self.sink).append(event)
            return
        self.journal.append(event)

    def append_run(self, kind: str, query_id: str, run_id: datetime, **more: Any) -> None:
        """Append an event of a run. A run begins at its ``run_id``, even if it is recorded later."""
        now = datetime.now(UTC)
        moment = min(run_id, now) if kind == "run_start" else now
        self.append(
            {"kind": kind, "query_id": query_id, "run_id": run_id.isoformat(), "time": moment.isoformat(), **more}
        )

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait for at most ``timeout_s`` seconds until everything recorded is stored; return True if it is."""
        self._owner.append_unfinished()
        return self.writer.flush(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Flush, stop the writer and close the connections. Blocks for ``timeout_s`` seconds at most.

        Returns:
            True if everything is stored; otherwise the records stay in the journal.
        """
        with self._lock:
            if self.closed:
                return True
            self.closed = True
        deadline = time.monotonic() + timeout_s
        # Part of the time is reserved for the steps after the flush, which also block if the database hangs.
        stored = self.writer.stop(timeout_s, reserved_s=min(_CLOSING_S, timeout_s / 4))
        self.dead_letters.close()
        self.journal.close()
        if self._store is not None:
            self._store.close(min(2.0, max(0.02, (deadline - time.monotonic()) / 2)))  # close() waits up to two times
        if self.sink is not None:
            try:
                self.sink.close()
            except Exception as exc:
                guard.report("closing the sink", exc)
        self._owner.closed(self)
        return stored

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Store events directly, without the journal: they are in a file and can be imported again. Blocks.

        Returns:
            The reason for each event that cannot be stored, by its index.

        Raises:
            StoreError: The store failed; nothing, or a first part, was stored.
        """
        built = self.batch_builder().build(events)
        unreadable = {id(event) for event, _ in built.unreadable}
        try:
            self.store().store(replace(built.batch, possible_duplicate=True))
            return {index: "it cannot be read" for index, event in enumerate(events) if id(event) in unreadable}
        except RecordRejectedError as exc:
            if len(events) == 1:
                return {0: str(exc)}
        half = len(events) // 2
        rejected = self.import_events(events[:half])
        return rejected | {half + index: reason for index, reason in self.import_events(events[half:]).items()}

    def retry_dead_letters(self, ids: Collection[str]) -> set[str]:
        """Move dead letters back into the journal, to be stored like new records.

        Returns:
            The ids of the records that were appended to the journal.

        Raises:
            OSError: The dead-letter file cannot be rewritten; the records are then in both files, and are stored once.
        """
        self.start()
        return self.dead_letters.retry(ids, self.journal.append)

    def stats(self) -> dict[str, Any]:
        """Return the counts since the start of the process; see :func:`.registry.stats`."""
        journal = self.journal
        dropped = dict(journal.dropped)
        unreadable = sum(journal.dropped[reason] for reason in ("torn", "corrupt", "truncated"))
        if self.dead_letters.dropped:
            dropped["dead_letters_full"] = self.dead_letters.dropped
        return {
            "recorded": journal.appended,
            "stored": journal.acked + journal.recovered_acked - self.dead_letters.written - unreadable,
            "pending": journal.pending,
            "recovered": journal.recovered,
            "dropped": dropped,
            "journals_rewritten": journal.rewritten,
            "internal_errors": guard.count(),
            **self.writer.stats(),
            "fingerprints_dropped": 0 if self.fingerprints is None else self.fingerprints.dropped,
            "store": redact(self.store_id),
        }

    def after_fork_in_child(self) -> None:
        """Give the child its own pipeline; the journal and the connections stay with the parent."""
        self._lock = threading.RLock()
        self.journal.abandon_after_fork()
        if self._store is not None:
            self._store.forget_after_fork()
        self._make_pipeline()


def store_id_of(settings: Settings, sink: RecordSink | None) -> str:
    """Return the identifier of a store, without its password."""
    if sink is not None:
        return str(getattr(sink, "store_id", f"sink:{type(sink).__module__}.{type(sink).__qualname__}"))
    if settings.db_url is None:
        return f"embedded:{settings.data_dir}"
    return without_secrets(settings.db_url)
