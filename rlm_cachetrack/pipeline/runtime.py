"""The composition root: which store this process records into, and when it starts, flushes, forks and ends.

A :class:`Runtime` is one pipeline, journal to sink. There is one a store; the default one serves ``instrument``,
``query_run`` and the module's ``flush``, ``shutdown`` and ``stats``.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rlm_cachetrack._process import guard as _guard
from rlm_cachetrack._process import import_httpx2, no_fork
from rlm_cachetrack.config import ENV_FINGERPRINT_KEY, Settings, load_settings, redact
from rlm_cachetrack.errors import (
    CacheTrackError,
    ConfigError,
    EmbeddedError,
    PricingError,
    RecordRefusedError,
    StoreUnreachableError,
)
from rlm_cachetrack.fingerprint import Fingerprints, key_facts
from rlm_cachetrack.journal import DeadLetters, Journal, journal_files
from rlm_cachetrack.records import RecordSink

from .writer import Writer

if TYPE_CHECKING:
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.store import PostgresStore

    from .batches import BatchBuilder

__all__ = [
    "Runtime",
    "default",
    "flush",
    "open_runtime",
    "release_default",
    "shutdown",
    "stats",
    "use_as_default",
]

logger = logging.getLogger("rlm_cachetrack")

FLUSH_TIMEOUT_S = 30.0


class Runtime:
    """One pipeline from the journal to a sink. Made by :func:`open_runtime`.

    Attributes:
        store_id: What tells one store from another: the address without its password, the embedded server's folder, or
            the sink's class.
        users: How many clients hold it; the last one that closes ends it, unless it is the default.
    """

    def __init__(self, settings: Settings, sink: RecordSink | None = None) -> None:
        self.settings = settings
        self.store_id = _store_id(settings, sink)
        self.users = 0
        self.closed = False
        self._sink = sink
        self._lock = threading.RLock()
        self._store: PostgresStore | None = None
        self._batch_builder: BatchBuilder | None = None
        self._book: PriceBook | None = None
        self._pid = os.getpid()
        self._make_pipeline()
        _runtimes.add(self)

    def _make_pipeline(self) -> None:
        settings = self.settings
        self._batch_builder = None  # it knows the pipeline's fingerprints
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
        )

    # -- parts, made when they are needed ------------------------------------------------------------------------------

    def batch_builder(self) -> BatchBuilder:
        """Return what turns events into batches, with the current prices. May block to read the pricing file."""
        with self._lock:
            book = self.price_book()
            if self._batch_builder is None or book is not self._batch_builder.prices:
                with no_fork():
                    from .batches import BatchBuilder

                fingerprint_of = None if self.fingerprints is None else self.fingerprints.get
                self._batch_builder = BatchBuilder(book, fingerprint_of)
            return self._batch_builder

    def price_book(self) -> PriceBook:
        """What tokens cost now. A pricing file that was changed and has a mistake is told of; the old prices stay.

        Raises:
            PricingError: The file cannot be used, and none was read before.
        """
        with self._lock:
            if self._book is None:
                with no_fork():
                    from rlm_cachetrack.pricing import PriceBook

                self._book = PriceBook.load(self.settings.pricing)
                return self._book
            try:
                self._book = self._book.refreshed()
            except PricingError as exc:
                logger.warning("the changed pricing file is not used, the prices read before stay:\n%s", exc)
            return self._book

    def priced_by(self, pricing: str | os.PathLike[str] | None) -> PriceBook:
        """The prices of a file over the built-in ones, None: those that this store records with.

        Raises:
            PricingError: The file cannot be used.
        """
        if pricing is None:
            return self.price_book()
        from rlm_cachetrack.pricing import PriceBook

        return PriceBook.load(pricing)

    def check_pricing(self) -> None:
        """Read the pricing file now, where the user can act, and import what must not be imported on the writer thread.

        Raises:
            PricingError: The file cannot be used.
        """
        import_httpx2()
        if self.settings.pricing is not None:
            self.price_book()

    def store(self) -> PostgresStore:
        """The PostgreSQL store, not necessarily connected.

        Raises:
            ConfigError: The store is a sink of the user's, which cannot be read.
        """
        with self._lock:
            if self._sink is not None:
                raise ConfigError(f"the store is a {type(self._sink).__name__}: it takes records but cannot be read")
            if self._store is None:
                with no_fork():
                    from rlm_cachetrack.store import PostgresStore, migrations

                self._store = PostgresStore(self._resolve_url, migrations.migrate, pool_size=self.settings.pool_size)
            return self._store

    def reader(self, timeout_s: float = FLUSH_TIMEOUT_S) -> PostgresStore:
        """The store, holding all that was recorded before in this process. Blocks until it does.

        Raises:
            StoreUnreachableError: It could not be stored in time.
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

    def _resolve_url(self) -> str:
        if self.settings.db_url is not None:
            return self.settings.db_url
        with no_fork():
            from rlm_cachetrack.store import embedded

        return embedded.ensure_running(self.settings.data_dir)

    def _open_sink(self) -> RecordSink:
        if self._sink is not None:
            return self._sink
        store = self.store()
        store.open()
        return store

    @property
    def in_use(self) -> bool:
        """Whether somebody records into it or reads from it."""
        return bool(self is current or self.users or self.writer.running or self.journal.pending)

    # -- what others call ---------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start the writer, which also recovers the journals of dead processes. Does not block.

        Returns whether it runs.
        """
        if not _ended and not self.writer.started:
            self.writer.start()
            _flush_at_the_end_of_a_worker()
        return self.writer.started

    def append(self, event: Mapping[str, Any] | bytes) -> None:
        """Take an event, or the line of one, in: one copy into the journal. Never raises for a disk that refuses."""
        if self.closed and not _ended:  # the call was in flight while the store was closed
            open_runtime(self.settings, self._sink).append(event)
            return
        self.journal.append(event)

    def append_run(self, kind: str, query_id: str, run_id: datetime, **more: Any) -> None:
        """Take an event of a run in. A run begins when its ``run_id`` says, also one that is recorded afterwards."""
        now = datetime.now(UTC)
        moment = min(run_id, now) if kind == "run_start" else now
        self.append(
            {"kind": kind, "query_id": query_id, "run_id": run_id.isoformat(), "time": moment.isoformat(), **more}
        )

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until all that was recorded is stored; whether it is."""
        _append_what_waits()
        return self.writer.flush(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Flush, stop and let go. What is not stored in time stays in the journal; returns whether all is stored."""
        with self._lock:
            if self.closed:
                return True
            self.closed = True
        deadline = time.monotonic() + timeout_s
        stored = self.writer.stop(timeout_s)
        self.dead_letters.close()
        self.journal.close()
        if self._store is not None:
            self._store.close(min(2.0, max(0.1, deadline - time.monotonic())))
        if self._sink is not None:
            try:
                self._sink.close()
            except Exception as exc:
                _guard.report("closing the sink", exc)
        _runtimes.discard(self)
        return stored

    def import_events(self, events: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Store events now, past the journal: for what is in a file and can be offered again. Blocks.

        Returns:
            By their index the events that cannot be stored, and why.

        Raises:
            StoreError: The store failed; nothing, or a first part, was stored.
        """
        built = self.batch_builder().build(events)
        unreadable = {id(event) for event, _ in built.unreadable}
        refused = {index: "it cannot be read" for index, event in enumerate(events) if id(event) in unreadable}
        try:
            self.store().store(replace(built.batch, possible_duplicate=True))
            return refused
        except RecordRefusedError as exc:
            if len(events) == 1:
                return {0: str(exc)}
        half = len(events) // 2
        refused = self.import_events(events[:half])
        return refused | {half + index: reason for index, reason in self.import_events(events[half:]).items()}

    # -- for doctor and migrate ---------------------------------------------------------------------------------------

    def migrate_store(self, progress: Callable[[str, int, int], None] | None = None) -> list[str]:
        """Apply pending migrations, upgrade legacy tables, and return the labels of the scripts. Blocks.

        Args:
            progress: Called before each step with its label, its number, and the number of steps.
        """
        from rlm_cachetrack.store import migrations

        with self.store().connection() as connection:
            return migrations.migrate(connection, upgrade=True, progress=progress)

    def migration_plan(self) -> tuple[str, list[str], list[str]]:
        """Return the SQL that :meth:`migrate_store` would run, problems that prevent it, and notes.

        Changes nothing; blocks.
        """
        from rlm_cachetrack.store import migrations

        with self.store().connection() as connection:
            plan = migrations.plan(connection)
            return plan.sql, plan.problems, plan.notes

    def describe_store(self) -> dict[str, Any]:
        """What is connected: ``address`` (redacted), engine, extensions, migrations, policies, and more.

        Blocks; never migrates. ``cluster``: ``nodes`` and ``tables`` as ``citus_nodes`` and ``citus_tables`` give them,
        None where it is not Citus. ``unpriced_models`` are the models of calls without a cost: each ``model``,
        ``provider``, ``service_tier``, ``interactions``, ``last_time``.
        """
        from rlm_cachetrack.store import migrations
        from rlm_cachetrack.store import retention as policies

        store = self.store()
        with store.connection() as connection:
            facts = {"address": redact(self._resolve_url()), **migrations.describe(connection)}
            facts["policies"] = policies.describe(connection)
            parts = {"nodes": "citus_nodes", "tables": "citus_tables"}
            cluster = (
                {part: store.query_on(connection, name) for part, name in parts.items()} if facts["citus"] else None
            )
            facts["cluster"] = cluster
            known = facts["migrations_applied"] and not facts["schema_error"]
            facts["unpriced_models"] = store.query_on(connection, "unpriced_models") if known else []
            return facts

    def change_policies(self, **ages: timedelta | None) -> dict[str, Any] | None:
        """Set ``columnstore_after`` and ``retention_after``, those that are given; how calls are kept then. Blocks.

        Raises:
            ConfigError: The server has no policies, or an age is too short.
        """
        from rlm_cachetrack.store import migrations
        from rlm_cachetrack.store import retention as policies

        with self.store().connection() as connection:
            if ages:
                migrations.migrate(connection)
                policies.change(connection, **ages)
            return policies.describe(connection)

    def local_facts(self) -> dict[str, Any]:
        """What can be said without the database: prices, and what waits in journals. Reads files, blocks for that.

        Returns:
            ``pricing`` (where prices come from, None with ``pricing_error`` saying why not), ``journal`` (the folder),
            ``journal_writable``, ``waiting`` and ``waiting_for_other_stores`` (each ``files``, ``events`` and ``bytes``
            of journals; those of processes that are alive are among them), ``dead_letters`` (how many), and
            ``fingerprints`` (``on``, and where their secret is: ``key``, ``key_made``, ``key_error``).
        """
        from rlm_cachetrack.pricing import PriceBook

        try:
            pricing, mistake = PriceBook.load(self.settings.pricing).describe(), None
        except ConfigError as exc:
            pricing, mistake = None, str(exc)
        folder = self.journal.directory
        own, others = ({"files": 0, "events": 0, "bytes": 0} for _ in range(2))
        for store in folder.parent.glob("*"):
            counts = own if store == folder else others
            for file in journal_files(store):
                counts["files"] += 1
                counts["events"] += file.events
                counts["bytes"] += file.bytes
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        return {
            "pricing": pricing,
            "pricing_error": mistake,
            "journal": str(folder),
            "journal_writable": os.access(existing, os.W_OK | os.X_OK),
            "waiting": own,
            "waiting_for_other_stores": others,
            "dead_letters": len(self.dead_letters.read()),
            "fingerprints": {
                "on": self.settings.fingerprints,
                **(
                    {"key": ENV_FINGERPRINT_KEY, "key_made": True, "key_error": None}
                    if self.settings.fingerprint_key
                    else key_facts(self.settings.state_dir)
                ),
            },
        }

    def waiting(self) -> dict[str, Any]:
        """What waits in journals, of every process. Reads the files, blocks for that; starts and changes nothing.

        Returns:
            ``journal`` (the folder), ``journals`` (each ``file``, ``pid``, ``live``, ``events``, ``bytes``, ``oldest``:
            an aware datetime or None), ``events``, ``bytes``, ``recoverable_events`` (of dead processes),
            ``dead_letters`` (how many), and ``for_other_stores`` (``files``, ``events`` and ``bytes``).
        """
        found = journal_files(self.journal.directory)
        return {
            "journal": str(self.journal.directory),
            "journals": [
                {
                    "file": journal.path.name,
                    "pid": journal.pid,
                    "live": journal.live,
                    "events": journal.events,
                    "bytes": journal.bytes,
                    "oldest": _moment(journal.oldest),
                }
                for journal in found
            ],
            "events": sum(journal.events for journal in found),
            "bytes": sum(journal.bytes for journal in found),
            "recoverable_events": sum(journal.events for journal in found if not journal.live),
            "dead_letters": len(self.dead_letters.read()),
            "for_other_stores": self.local_facts()["waiting_for_other_stores"],
        }

    def retry_dead_letters(self, ids: Collection[str]) -> set[str]:
        """Move dead letters back into the journal, to be stored like new records.

        Returns:
            The ids of those that the journal had room for.

        Raises:
            OSError: The dead-letter file cannot be rewritten; they are in both files, and stored once.
        """
        self.start()
        return self.dead_letters.retry(ids, self.journal.append)

    def stats(self) -> dict[str, Any]:
        """Counts since the start of the process; see :func:`stats`."""
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
            "internal_errors": _guard.count(),
            **self.writer.stats(),
            "fingerprints_dropped": 0 if self.fingerprints is None else self.fingerprints.dropped,
            "store": redact(self.store_id),
        }

    def after_fork_in_child(self) -> None:
        """The child records through a pipeline of its own; the parent's journal and connections stay the parent's."""
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self.journal.abandon_after_fork()
        if self._store is not None:
            self._store.forget_after_fork()
        self._make_pipeline()


# -- the process's runtimes --------------------------------------------------------------------------------

_lock = threading.RLock()
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
_opened: list[Runtime] = []
current: Runtime | None = None
"""The runtime in use, None where nothing was recorded yet; it may be closed. What every call looks at."""
_released: Runtime | None = None
_again: tuple[Settings, RecordSink | None] | None = None  # what was in use before shutdown()
_ended = False
_worker = 0
_warned_embedded = False
before_flush: list[Callable[[], None]] = []
"""Called before a store is flushed: what waits for something else than the writer is appended to the journal."""


def open_runtime(settings: Settings, sink: RecordSink | None = None) -> Runtime:
    """The runtime of this store: the one that is open already, or a new one. Starts nothing, does not block."""
    with _lock:
        if (runtime := _find_open(settings, sink)) is not None:
            return runtime
        made = Runtime(settings, sink)  # without a thread or a file yet
        # The lock keeps other threads out, not a signal handler that records in the midst of this.
        if (runtime := _find_open(settings, sink)) is not None:
            return runtime
        _opened.append(made)
        return made


def _find_open(settings: Settings, sink: RecordSink | None) -> Runtime | None:
    identity = _store_id(settings, sink)
    for runtime in list(_opened):
        if not runtime.closed and runtime.store_id == identity and runtime._sink is sink:
            if runtime.settings == settings or runtime.in_use:
                return runtime
            runtime.close(0)  # left by an attempt that failed, with another password or price list
            _opened.remove(runtime)
    return None


def use_as_default(runtime: Runtime) -> None:
    """Make ``runtime`` the one that instrumented calls and ``query_run`` go to.

    Raises:
        ConfigError: Another one is in use.
    """
    global current
    with _lock:
        if current is not None and not current.closed and current is not runtime:
            raise ConfigError(
                f"this process already records into {redact(current.store_id)}; {redact(runtime.store_id)} would be a "
                "second store. Call uninstrument() and shutdown() first, or run it in a process of its own"
            )
        current = runtime


def default() -> Runtime:
    """The runtime to use when none is named.

    It is the one in use; else the environment's address; else the one that was in use before ``uninstrument``; else
    that of the client that was opened first; else the embedded PostgreSQL.
    """
    with _lock:
        if current is not None and not current.closed:
            return current
        runtime = open_runtime(*_again) if _again is not None else choose(load_settings())
        use_as_default(runtime)
        return runtime


def choose(settings: Settings) -> Runtime:
    """The runtime that :func:`default` would use, given these settings; it is not made the one in use."""
    with _lock:
        if current is not None and not current.closed:
            return current
        if settings.db_url is None:
            if _released is not None and not _released.closed:
                return _released
            for runtime in _opened:
                if not runtime.closed and runtime.users:
                    return runtime
        return open_runtime(settings)


def peek_default() -> Runtime | None:
    """The runtime in use, None when nothing was recorded yet."""
    return None if current is None or current.closed else current


def release_default() -> None:
    """Nothing is instrumented any more: another store may be chosen. The writer goes on storing what is recorded."""
    global current, _released, _again
    with _lock:
        current, _released = None, current or _released
        _again = None


def warn_if_embedded_is_missing(runtime: Runtime) -> None:
    """Say once what to do when no database is named and none is installed; records are journalled meanwhile."""
    global _warned_embedded
    if runtime.settings.db_url is not None or runtime._sink is not None or _warned_embedded:
        return
    from rlm_cachetrack.store import embedded

    try:
        embedded.require()
    except EmbeddedError as exc:
        _warned_embedded = True
        runtime.writer.told()
        logger.warning("records wait in the journal %s: %s", runtime.journal.directory, exc)


def flush(timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
    """Wait until everything recorded by this process, and every journal it recovered, is stored.

    Args:
        timeout_s: The longest to wait, in seconds, for all stores together.

    Returns:
        True when nothing waits any more: all is stored, but for records that the store refuses for what is in them
        (``stats()["dead_letters"]``). False when the time ran out. Nothing is lost then: it stays in the journal.
    """
    _append_what_waits()
    with _lock:
        runtimes = [runtime for runtime in _opened if not runtime.closed]
    deadline = time.monotonic() + timeout_s
    done = [
        runtime.flush(max(0.0, deadline - time.monotonic()))
        for runtime in runtimes
        if runtime.journal.pending or runtime.writer.running
    ]
    return all(done)


def shutdown(timeout_s: float | None = None) -> bool:
    """Flush, and close every store of this process. Recording again opens the one in use again.

    Args:
        timeout_s: The longest to wait, in seconds, for all stores together: their writers work side by side. By default
            the settings' ``shutdown_timeout_s`` (5).

    Returns:
        Whether all is stored; what is not stays in the journal for the next process.
    """
    global current, _released, _again
    _append_what_waits()
    with _lock:
        if current is not None:
            _again = (current.settings, current._sink)
        runtimes, _opened[:] = list(_opened), []
        current = _released = None
    began = time.monotonic()
    done = []
    for runtime in runtimes:
        allowed = runtime.settings.shutdown_timeout_s if timeout_s is None else timeout_s
        done.append(runtime.close(max(0.0, began + allowed - time.monotonic())))
    return all(done)


def stats() -> dict[str, Any]:
    """Counts of this process. Does not block.

    Returns:
        ``recorded`` (events taken in), ``recovered`` (found in journals of dead processes), ``stored`` and ``pending``
        (in the journal) of both, ``dropped`` (by reason; empty when nothing was lost),
        ``internal_errors``, ``dead_letters`` (records that can never be stored, set aside by this process),
        ``last_error`` (why storing fails, None when it works), ``failing_since`` (an aware datetime, None likewise),
        ``fingerprints_dropped`` (calls that got none because too much waited) and ``store``.
    """
    runtime = peek_default()
    if runtime is None:
        with _lock:
            runtime = next((runtime for runtime in _opened if not runtime.closed), None)
    if runtime is None:
        return {
            "recorded": 0,
            "stored": 0,
            "pending": 0,
            "recovered": 0,
            "dropped": {},
            "internal_errors": _guard.count(),
            "dead_letters": 0,
            "last_error": None,
            "failing_since": None,
            "fingerprints_dropped": 0,
            "store": None,
        }
    return runtime.stats()


def _store_id(settings: Settings, sink: RecordSink | None) -> str:
    if sink is not None:
        return str(getattr(sink, "store_id", f"sink:{type(sink).__module__}.{type(sink).__qualname__}"))
    if settings.db_url is None:
        return f"embedded:{settings.data_dir}"
    return redact(settings.db_url)


def _moment(value: str | float | None) -> datetime | None:
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return None if value is None else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _append_what_waits() -> None:
    for hook in before_flush:
        try:
            hook()
        except Exception as exc:
            _guard.report("finishing what waits", exc)


def _at_exit() -> None:
    global _ended
    _ended = True  # what daemon threads record from now on may be left to the next process
    try:
        shutdown()
    except CacheTrackError as exc:
        logger.warning("at exit: %s", exc)
    except KeyboardInterrupt:
        logger.info("at exit: interrupted; what is not stored stays in the journal")
    except Exception as exc:
        _guard.report("shutting down", exc)


def _flush_at_the_end_of_a_worker() -> None:
    """The children of ``multiprocessing`` that are forked leave without ``atexit``, but call finalizers of its own."""
    global _worker
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _worker == os.getpid():
        return
    _worker = os.getpid()
    from multiprocessing import util

    util.Finalize(None, _at_exit, exitpriority=0)


_fork = threading.local()


def _before_fork() -> None:
    # In one order, so that two threads that fork do not wait for each other.
    _fork.held = sorted((runtime.journal for runtime in list(_runtimes)), key=id)
    for journal in _fork.held:
        journal.lock_for_fork()


def _after_fork_in_parent() -> None:
    while _fork.held:
        _fork.held.pop().release_after_fork()


def _after_fork_in_child() -> None:
    global _lock, _ended
    _lock = threading.RLock()
    _ended = False  # forked by a thread while the interpreter left
    _after_fork_in_parent()
    for runtime in list(_runtimes):
        runtime.after_fork_in_child()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
