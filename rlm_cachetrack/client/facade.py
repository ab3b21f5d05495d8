"""``TimescaleDBClient``: the documented facade over recording and reading."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from rlm_cachetrack.capture import context
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.errors import CacheTrackError, ConfigError, PricingError, RecordError, StoreError
from rlm_cachetrack.pipeline import runtime as _runtime
from rlm_cachetrack.records import (
    LLMInteractionRecord,
    aware,
    checked_json,
    checked_query_id,
    clean_text,
    event_of_record,
    new_id,
)

from .comparing import Comparing
from .planning import Planning

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import summaries as analytics
    from rlm_cachetrack.formatting import tables
    from rlm_cachetrack.store import PostgresStore

__all__ = ["ReadingClient", "TimescaleDBClient", "runtime_for"]

_CONTEXT_NUMBERS = ("iteration", "current_depth", "max_depth", "model_index")


class TimescaleDBClient(Planning, Comparing):
    """Records by hand, and reads what was recorded. A context manager; safe for several threads.

    Opening it connects, brings the schema up to date, and adopts the journals of dead processes. Its methods block; in
    asyncio use ``asyncio.to_thread``. Reads see everything that was recorded before them in this process.

    Args:
        db_url: Address of a TimescaleDB or any PostgreSQL. None: ``RLM_CACHETRACK_DB_URL``, else ``TIMESCALE_DB_URL``,
            else the embedded PostgreSQL, which is started if need be.
        pool_size: The most connections that reads may hold at once.
        pricing: A pricing YAML laid over the built-in prices.

    Raises:
        ConfigError: An argument is unusable (:class:`~.errors.PricingError`: the pricing file).
        StoreUnreachableError: No connection could be had.
        MigrationError: The database's schema cannot be used by this release.
    """

    def __init__(
        self,
        db_url: str | None = None,
        pool_size: int = 10,
        pricing: str | os.PathLike[str] | None = None,
    ) -> None:
        settings = load_settings(db_url, pool_size=pool_size, pricing=pricing)
        self._runtime = _runtime.open_runtime(settings)
        if pricing is not None and self._runtime.settings.pricing != settings.pricing:
            raise ConfigError(
                f"this process already prices with {self._runtime.settings.pricing or 'the built-in table'}; "
                f"pricing={os.fspath(pricing)!r} would be a second price list for the same store"
            )
        self.pricing_error: PricingError | None = None
        try:
            self._check_pricing()
            self._runtime.store().open()
        except CacheTrackError:
            # The next attempt may name another password or price list for the same store.
            if not self._runtime.users and _runtime.peek_default() is not self._runtime:
                self._runtime.close(0)
            raise
        self._runtime.users += 1
        if self.pricing_error is None:
            self._runtime.start()
        self._context: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def runtime(self) -> _runtime.Runtime:
        """The pipeline behind this client; for ``instrument(store=client)``."""
        self._check_open()
        return self._runtime

    def reader(self) -> PostgresStore:
        """The store that reads go to, holding all that was recorded before. Blocks until it does.

        Raises:
            StoreUnreachableError: It could not be stored in time.
        """
        return self._reader()

    # -- recording -----------------------------------------------------------------------------------------------------

    def set_context(
        self,
        query_id: str | None = None,
        run_id: datetime | str | None = None,
        iteration: int | None = None,
        current_depth: int | None = None,
        max_depth: int | None = None,
        recursion_id: str | UUID | None = None,
        parent_recursion_id: str | UUID | None = None,
        model: str | None = None,
        model_index: int | None = None,
        model_type: str | None = None,
    ) -> None:
        """Say what following records belong to. Only what is passed changes.

        It fills what a record leaves out, and holds for the instrumented calls of this process too, where no
        ``query_run`` says otherwise.

        Raises:
            RecordError: ``query_id`` is empty, ``run_id`` is naive, or a number argument is not a number.
        """
        given: dict[str, Any] = {
            "query_id": None if query_id is None else checked_query_id(query_id),
            "run_id": None if run_id is None else aware(run_id, "run_id").isoformat(),
            "iteration": iteration,
            "current_depth": current_depth,
            "max_depth": max_depth,
            "recursion_id": None if recursion_id is None else str(recursion_id),
            "parent_recursion_id": None if parent_recursion_id is None else str(parent_recursion_id),
            "model": model,
            "model_index": model_index,
            "model_type": model_type,
        }
        for name in _CONTEXT_NUMBERS:
            value = given[name]
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise RecordError(f"{name}={value!r}: expected a whole number of at least 0")
        self._check_open()
        with self._lock:
            self._context.update({name: value for name, value in given.items() if value is not None})
        context.set_manual(self._context)

    def initialize_query_run(
        self, query_id: str, run_id: datetime | str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """A run begins. Doing it again changes nothing, but that a run without metadata gets it.

        Raises:
            RecordError: ``query_id`` is empty, ``run_id`` is naive, or JSON cannot hold ``metadata``.
        """
        query_id, moment = self._key(query_id, run_id)
        self._runtime.append_run("run_start", query_id, moment, metadata=checked_json(metadata, "metadata"))

    def record_llm_interaction(self, record: LLMInteractionRecord) -> str:
        """Take a record in: one write to the journal; it is stored in the background.

        Filled where the record is silent: uncached tokens, prices, costs, and the current context.

        Returns:
            Its ``interaction_id``, a UUIDv7.

        Raises:
            RecordError: The record contradicts itself; nothing was recorded.
        """
        self._check_open()
        if not isinstance(record, LLMInteractionRecord):
            raise RecordError(f"expected an LLMInteractionRecord, not {type(record).__name__}")
        interaction_id = str(record.interaction_id) if record.interaction_id is not None else new_id()
        try:
            interaction_id = str(UUID(interaction_id))
        except ValueError:
            raise RecordError(f"interaction_id={record.interaction_id!r}: expected a UUID") from None
        values = self._current()
        run_id = record.run_id if record.run_id is not None else values.get("run_id")
        record = replace(
            record,
            query_id=record.query_id or values.get("query_id", ""),
            run_id=aware(run_id, "run_id"),
            model=record.model or values.get("model", ""),
            interaction_id=interaction_id,
        )
        record.check()
        said = (values.get("query_id", record.query_id), values.get("run_id", record.run_id.isoformat()))
        if said != (record.query_id, record.run_id.isoformat()):
            values = {}  # what the context says of another run is not true of this record
        self._runtime.append(event_of_record(record, values))
        return interaction_id

    def complete_query_run(self, query_id: str, run_id: datetime | str, status: str = "completed") -> None:
        """A run ended; its optimization is stored after its last record.

        Raises:
            RecordError: ``run_id`` is naive.
        """
        query_id, moment = self._key(query_id, run_id)
        if not isinstance(status, str) or not status:
            raise RecordError(f"status={status!r}: expected a word such as 'completed' or 'error'")
        self._runtime.append_run("run_end", query_id, moment, status=status)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get_token_cache_summary(self, query_id: str, run_id: datetime | str) -> analytics.TokenCacheSummary | None:
        """The totals of one run; None for an unknown one. See ``TokenCacheSummary`` for keys and units."""
        from rlm_cachetrack.analytics import summaries as analytics

        return analytics.token_cache_summary(self._reader(), *self._key(query_id, run_id))

    def calculate_and_store_cache_optimization(
        self, query_id: str, run_id: datetime | str
    ) -> analytics.TokenCacheOptimization | None:
        """Compute what the cache saved in one run, store it, and return it; idempotent. None for an unknown run."""
        from rlm_cachetrack.analytics import summaries as analytics

        key = self._key(query_id, run_id)
        store = self._reader()
        store.finalize(*key)
        return analytics.optimization(store, *key)

    def get_token_cache_optimization(
        self, query_id: str, run_id: datetime | str
    ) -> analytics.TokenCacheOptimization | None:
        """What the cache saved in one run, as stored; None where none is. See ``TokenCacheOptimization``."""
        from rlm_cachetrack.analytics import summaries as analytics

        return analytics.optimization(self._reader(), *self._key(query_id, run_id))

    def get_top_cache_savings(self, limit: int = 10) -> tables.Table[analytics.TokenCacheOptimization]:
        """The runs in which the cache saved most, highest ``cost_savings`` (USD) first."""
        from rlm_cachetrack.analytics import summaries as analytics

        return analytics.top_cache_savings(self._reader(), _limit(limit))

    def get_cache_effectiveness_by_model(
        self, since: datetime | None = None, until: datetime | None = None
    ) -> tables.Table[analytics.ModelEffectiveness]:
        """How well the cache worked, by model.

        Args:
            since: Only calls from this moment on; None: from the first.
            until: Only calls before this moment; None: to the last.
        """
        from rlm_cachetrack.analytics import summaries as analytics

        first = None if since is None else aware(since, "since")
        last = None if until is None else aware(until, "until")
        return analytics.cache_effectiveness_by_model(self._reader(), first, last)

    def get_llm_interactions(self, query_id: str, run_id: datetime | str) -> tables.Table[dict[str, Any]]:
        """Every call of one run, in order of time, keyed by the columns of ``llm_interactions``."""
        from rlm_cachetrack.analytics import summaries as analytics

        return analytics.interactions(self._reader(), *self._key(query_id, run_id))

    def list_query_runs(self, limit: int = 100, query_id: str | None = None) -> tables.Table[analytics.RunListing]:
        """The newest runs first; of one query, or of all."""
        from rlm_cachetrack.analytics import summaries as analytics

        return analytics.list_runs(self._reader(), _limit(limit), _stored(query_id))

    def get_query_run_summary(self, query_id: str, run_id: datetime | str) -> dict[str, Any] | None:
        """When a run began and ended and how, its totals and latency percentiles; None for an unknown one."""
        from rlm_cachetrack.analytics import summaries as analytics

        return analytics.run_summary(self._reader(), *self._key(query_id, run_id))

    # -- keeping house -------------------------------------------------------------------------------------------------

    def count(
        self,
        *,
        query_id: str | None = None,
        run_id: datetime | str | None = None,
        before: datetime | str | None = None,
    ) -> dict[str, int]:
        """How many ``interactions`` and ``runs`` :meth:`delete` with the same arguments would delete."""
        moments = self._moments(run_id, before)
        return self._reader().query("query_counts", query_id=_stored(query_id), **moments)[0]

    def delete(
        self,
        *,
        query_id: str | None = None,
        run_id: datetime | str | None = None,
        before: datetime | str | None = None,
    ) -> dict[str, int]:
        """Delete calls and the runs they leave empty; returns how many ``interactions`` and ``runs`` went.

        Args:
            query_id: Only of this query.
            run_id: Only of this run.
            before: Only calls from before this moment.

        Raises:
            ConfigError: Neither a query nor a moment is named.
        """
        return self._reader().delete(query_id=_stored(query_id), **self._moments(run_id, before))

    def flush(self, timeout_s: float = _runtime.FLUSH_TIMEOUT_S) -> bool:
        """Wait until everything recorded is stored; whether it is."""
        return self._runtime.flush(timeout_s)

    def stats(self) -> dict[str, Any]:
        """See :func:`.stats`; of this client's store."""
        return self._runtime.stats()

    def close(self) -> None:
        """Store what is waiting (for at most ``shutdown_timeout_s``), and let go of the connections."""
        if self._closed:
            return
        self._closed = True
        if context.manual() is self._context:
            context.set_manual(None)
        runtime = self._runtime
        runtime.users -= 1
        if runtime.users or _runtime.peek_default() is runtime:
            runtime.flush(runtime.settings.shutdown_timeout_s)
        else:
            runtime.close(runtime.settings.shutdown_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- within --------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("this TimescaleDBClient is closed")

    def _check_pricing(self) -> None:
        self._runtime.check_pricing()

    def _reader(self) -> PostgresStore:
        self._check_open()
        if self.pricing_error is not None:  # what waits in journals cannot be priced, and so not be stored, for now
            return self._runtime.store()
        return self._runtime.reader()

    def _current(self) -> dict[str, Any]:
        values = context.current() if context.active() is not None else {}
        with self._lock:
            filling = _missing(self._context, values) if context.of_same_run(self._context, values) else {}
        return {**{k: v for k, v in values.items() if v is not None}, **filling}

    def _key(self, query_id: str, run_id: datetime | str) -> tuple[str, datetime]:
        self._check_open()
        return checked_query_id(query_id), aware(run_id, "run_id")

    def _moments(self, run_id: datetime | str | None, before: datetime | str | None) -> dict[str, Any]:
        return {
            "run_id": None if run_id is None else aware(run_id, "run_id"),
            "before": None if before is None else aware(before, "before"),
        }


class ReadingClient(TimescaleDBClient):
    """A client that a mistake in the pricing file does not stop: it reads what is stored, and stores nothing.

    Attributes:
        pricing_error: The mistake; None where there is none, and then it is like any client.
    """

    def _check_pricing(self) -> None:
        try:
            super()._check_pricing()
        except PricingError as exc:
            self.pricing_error = exc


def runtime_for(db_url: str | None = None) -> _runtime.Runtime:
    """Return the pipeline of a store without connecting to it or starting it. Does not block.

    ``doctor`` and ``migrate`` use it: they inspect the database, which opening a client would migrate.

    Raises:
        ConfigError: ``db_url`` or a setting of the environment is unusable.
    """
    return _runtime.open_runtime(load_settings(db_url))


def _missing(filling: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in filling.items() if values.get(name) is None}


def _stored(query_id: str | None) -> str | None:
    return None if query_id is None else clean_text(query_id)


def _limit(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"limit={limit!r}: expected a whole number of at least 1")
    return limit
