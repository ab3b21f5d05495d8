"""The pipelines of this process, one per store: the default one, and how they flush, fork and shut down.

:data:`runtimes` is the only instance. ``instrument``, ``query_run`` and the module's ``flush``, ``shutdown`` and
``stats`` use it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from rlm_cachetrack._process import exit_time_s, guard
from rlm_cachetrack.config import Settings, load_settings, redact
from rlm_cachetrack.errors import CacheTrackError, ConfigError, EmbeddedError
from rlm_cachetrack.records import RecordSink

from .runtime import FLUSH_TIMEOUT_S, Runtime, store_id_of

logger = logging.getLogger("rlm_cachetrack")

_AT_ONCE_S = 0.5
_MOST_RESERVED = 0.4
_WORKING = 0.03
"""The share of a CPU that a process uses while its writer works, even on a busy machine."""


class Registry:
    """Opens, finds and closes the pipelines of a process. Safe for several threads.

    Attributes:
        is_ending: The interpreter is exiting: records of daemon threads may stay in the journal for the next process.
        before_flush: Hooks called before a store is flushed. They append events that wait for something other than
            the writer.
        on_wake: Hooks called on the writer thread of a store each time it wakes up.
    """

    def __init__(self) -> None:
        self.is_ending = False
        self.before_flush: list[Callable[[], None]] = []
        self.on_wake: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._alive: weakref.WeakSet[Runtime] = weakref.WeakSet()
        self._opened: list[Runtime] = []
        self._default: Runtime | None = None
        self._released: Runtime | None = None
        self._default_before_shutdown: tuple[Settings, RecordSink | None] | None = None
        self._worker_pid = 0
        self._warned_embedded = False
        self._warned_eventlet = False
        self._locked_for_fork = threading.local()

    # -- finding a runtime --------------------------------------------------------------------------------------------

    def open(self, settings: Settings, sink: RecordSink | None = None) -> Runtime:
        """Return the open runtime of this store, or a new one. Starts nothing, does not block."""
        with self._lock:
            if (runtime := self._find_open(settings, sink)) is not None:
                return runtime
            made = Runtime(settings, sink, self)  # without a thread or a file yet
            # The lock keeps other threads out, but not a signal handler that records at this moment.
            if (runtime := self._find_open(settings, sink)) is not None:
                return runtime
            self._alive.add(made)
            self._opened.append(made)
            return made

    def _find_open(self, settings: Settings, sink: RecordSink | None) -> Runtime | None:
        store_id = store_id_of(settings, sink)
        for runtime in list(self._opened):
            if not runtime.closed and runtime.store_id == store_id and runtime.sink is sink:
                if runtime.settings == settings or runtime.in_use:
                    return runtime
                runtime.close(0)  # it was left by a failed attempt, with another password or price list
                self._opened.remove(runtime)
        return None

    def use_as_default(self, runtime: Runtime) -> None:
        """Let instrumented calls and ``query_run`` record into ``runtime``.

        Raises:
            ConfigError: They record into another one.
        """
        with self._lock:
            current = self.peek_default()
            if current is not None and current is not runtime:
                raise ConfigError(
                    f"this process already records into {redact(current.store_id)}; {redact(runtime.store_id)} would "
                    "be a second store. Call uninstrument() and shutdown() first, or use another process"
                )
            self._default = runtime

    def default(self) -> Runtime:
        """Return the runtime to use if no store is named, and make it the default.

        Uses the first of these that exists: the current default, the store of the environment's address, the default
        before ``uninstrument``, the store of the first open client, the embedded PostgreSQL.
        """
        with self._lock:
            if (runtime := self.peek_default()) is not None:
                return runtime
            if self._default_before_shutdown is not None:
                runtime = self.open(*self._default_before_shutdown)
            else:
                runtime = self.choose(load_settings())
            self.use_as_default(runtime)
            return runtime

    def choose(self, settings: Settings) -> Runtime:
        """Return the runtime that :meth:`default` would use with these settings, without making it the default."""
        with self._lock:
            if (runtime := self.peek_default()) is not None:
                return runtime
            if settings.db_url is None:
                if self._released is not None and not self._released.closed:
                    return self._released
                for runtime in self._opened:
                    if not runtime.closed and runtime.users:
                        return runtime
            return self.open(settings)

    def peek_default(self) -> Runtime | None:
        """Return the default runtime; None if nothing was recorded yet. Does not block."""
        runtime = self._default
        return None if runtime is None or runtime.closed else runtime

    def is_default(self, runtime: Runtime) -> bool:
        """Return True if instrumented calls go to this runtime."""
        return self._default is runtime

    def release_default(self) -> None:
        """Allow another store to be chosen, because nothing is instrumented any more. The writer continues to store."""
        with self._lock:
            self._default, self._released = None, self._default or self._released
            self._default_before_shutdown = None

    def warn_if_embedded_is_missing(self, runtime: Runtime) -> None:
        """Warn once if no database is configured and the embedded one is missing, so that records only wait."""
        if runtime.settings.db_url is not None or runtime.sink is not None or self._warned_embedded:
            return
        from rlm_cachetrack.store import embedded

        try:
            embedded.require()
        except EmbeddedError as exc:
            self._warned_embedded = True
            runtime.writer.suppress_warning()
            logger.warning("records wait in the journal %s: %s", runtime.journal.directory, exc)

    # -- flushing and closing -----------------------------------------------------------------------------------------

    def append_unfinished(self) -> None:
        """Append events that wait for something other than the writer."""
        _run_hooks(self.before_flush, "appending unfinished events")

    def writer_woke(self) -> None:
        """Call the hooks of a writer thread that woke up."""
        _run_hooks(self.on_wake, "running a hook of the writer")

    def flush(self, timeout_s: float) -> bool:
        """Flush every store; see :func:`flush`."""
        self.append_unfinished()
        with self._lock:
            opened = [runtime for runtime in self._opened if not runtime.closed]
        deadline = time.monotonic() + timeout_s
        done = [
            runtime.flush(max(0.0, deadline - time.monotonic()))
            for runtime in opened
            if runtime.journal.pending or runtime.writer.running
        ]
        return all(done)

    def shutdown(self, timeout_s: float | None, *, began: float | None = None, reserved_s: float = 0.0) -> bool:
        """Flush and close every store; see :func:`shutdown`.

        Args:
            timeout_s: As in :func:`shutdown`.
            began: When ``timeout_s`` began (``time.monotonic()``); None: now.
            reserved_s: The part of the time that is for steps after this one; at most 40% of it.
        """
        self.append_unfinished()
        with self._lock:
            if self._default is not None:
                self._default_before_shutdown = (self._default.settings, self._default.sink)
            opened, self._opened = self._opened, []
            self._default = self._released = None
        if began is None:
            began = time.monotonic()
        done = []
        for runtime in opened:
            allowed_s = runtime.settings.shutdown_timeout_s if timeout_s is None else timeout_s
            allowed_s -= min(reserved_s, _MOST_RESERVED * allowed_s)
            done.append(runtime.close(max(0.0, began + allowed_s - time.monotonic())))
        return all(done)

    def closed(self, runtime: Runtime) -> None:
        """Remove a closed runtime; forks no longer wait for its journal."""
        self._alive.discard(runtime)

    def stats(self) -> dict[str, Any] | None:
        """Return the counts of the default runtime, or of the first open one; None if there is none."""
        runtime = self.peek_default()
        if runtime is None:
            with self._lock:
                runtime = next((runtime for runtime in self._opened if not runtime.closed), None)
        return None if runtime is None else runtime.stats()

    # -- the end of a process -----------------------------------------------------------------------------------------

    def at_exit(self) -> None:
        """Shut down at the end of the interpreter; never raises."""
        self.is_ending = True
        began = time.monotonic()
        try:
            self.shutdown(None, began=began, reserved_s=self._time_for_exit_s(began))
        except CacheTrackError as exc:
            logger.warning("at exit: %s", exc)
        except KeyboardInterrupt:
            logger.info("the exit was interrupted; records that are not stored yet stay in the journal")
        except Exception as exc:
            guard.report("shutting down", exc)

    def _time_for_exit_s(self, began: float) -> float:
        """Return the time to reserve for the interpreter: none, unless the database hangs. Blocks while it hangs.

        Args:
            began: When the exit began (``time.monotonic()``).
        """
        with self._lock:
            shortest_s = min((runtime.settings.shutdown_timeout_s for runtime in self._opened), default=0.0)
        if self.flush(min(_AT_ONCE_S, shortest_s / 4)):
            return 0.0
        reserved_s = min(exit_time_s(), _MOST_RESERVED * shortest_s)
        since, cpu = time.monotonic(), time.process_time()
        if self.flush(max(0.0, began + shortest_s - reserved_s - _AT_ONCE_S - since)):
            return 0.0
        # A writer that uses the CPU, for example because it has just started, is making progress: reserve no time.
        is_working = time.process_time() - cpu > _WORKING * (time.monotonic() - since)
        return 0.0 if is_working else reserved_s

    def writer_started(self) -> None:
        """Arrange a shutdown at the end of a forked ``multiprocessing`` worker: it skips ``atexit``."""
        self._warn_about_eventlet()
        process: Any = sys.modules.get("multiprocessing.process")
        if process is None or process.parent_process() is None or self._worker_pid == os.getpid():
            return
        self._worker_pid = os.getpid()
        from multiprocessing import util

        util.Finalize(None, self.at_exit, exitpriority=0)

    def _warn_about_eventlet(self) -> None:
        """Warn once if eventlet replaced threads by green ones, on which the driver blocks the whole program."""
        patcher: Any = sys.modules.get("eventlet.patcher")
        if self._warned_eventlet or patcher is None or not patcher.is_monkey_patched("thread"):
            return
        self._warned_eventlet = True
        logger.warning(
            "eventlet has patched threads: the writer shares the program's only thread, so a slow or locked database "
            "stops the whole program while a batch is stored. Use eventlet.monkey_patch(thread=False), or asyncio"
        )

    # -- forks --------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Lock every journal, so that the child does not get a copy of one in the middle of a change."""
        # In the same order in every thread, so that two forking threads cannot deadlock.
        journals = sorted((runtime.journal for runtime in list(self._alive)), key=id)
        self._locked_for_fork.journals = journals
        for journal in journals:
            journal.lock_for_fork()

    def after_fork_in_parent(self) -> None:
        """Release the journals."""
        journals = self._locked_for_fork.journals
        while journals:
            journals.pop().release_after_fork()

    def after_fork_in_child(self) -> None:
        """Give the child its own pipelines."""
        self._lock = threading.RLock()
        self.is_ending = False  # forked by a thread while the interpreter was ending
        self.after_fork_in_parent()
        for runtime in list(self._alive):
            runtime.after_fork_in_child()


def _run_hooks(hooks: list[Callable[[], None]], doing: str) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception as exc:
            guard.report(doing, exc)


runtimes = Registry()
"""The pipelines of this process."""

atexit.register(runtimes.at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=runtimes.before_fork,
        after_in_parent=runtimes.after_fork_in_parent,
        after_in_child=runtimes.after_fork_in_child,
    )


def flush(timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
    """Wait until everything recorded by this process, and every journal it recovered, is stored.

    Args:
        timeout_s: How long to wait at most, in seconds, for all stores together.

    Returns:
        True if nothing waits any more: everything is stored, except for records that the server rejects for their
        content (``stats()["dead_letters"]``). False if the time ran out; the records stay in the journal.
    """
    return runtimes.flush(timeout_s)


def shutdown(timeout_s: float | None = None) -> bool:
    """Flush, and close every store of this process. Recording again reopens the default one.

    Args:
        timeout_s: How long to wait at most, in seconds, for all stores together: their writers work in parallel. By
            default the settings' ``shutdown_timeout_s`` (5).

    Returns:
        True if everything is stored. Otherwise the records stay in the journal for the next process.
    """
    return runtimes.shutdown(timeout_s)


def stats() -> dict[str, Any]:
    """Return the counts of this process. Does not block.

    Returns:
        ``recorded`` (events that were journaled), ``recovered`` (events found in journals of dead processes),
        ``stored`` and ``pending`` (in the journal) of both, ``dropped`` (by reason; empty if nothing was lost),
        ``journals_rewritten`` (files that another program deleted), ``internal_errors``, ``dead_letters`` (records of
        this process that can never be stored), ``last_error`` (why storing fails, None if it works),
        ``failing_since`` (an aware datetime, or None), ``fingerprints_dropped`` (calls without a fingerprint because
        too many waited) and ``store``.
    """
    found = runtimes.stats()
    if found is not None:
        return found
    return {
        "recorded": 0,
        "stored": 0,
        "pending": 0,
        "recovered": 0,
        "dropped": {},
        "journals_rewritten": 0,
        "internal_errors": guard.count(),
        "dead_letters": 0,
        "last_error": None,
        "failing_since": None,
        "fingerprints_dropped": 0,
        "store": None,
    }
