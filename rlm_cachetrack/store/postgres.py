"""The PostgreSQL store: the only connections, binary COPY that stores each call once, driver errors translated.

A batch is one transaction. What was never offered before is copied straight into the table, whose key makes that
transaction fail if a call is there already. Then, and from the start for whatever may have been stored before (the
journal of a dead process, a batch whose attempt failed), the way is through a temporary table that the transaction
drops at its end, and ``INSERT … ON CONFLICT DO NOTHING``.

Nothing above this module knows the driver. Every error that leaves it is a
:class:`~.errors.StoreError` that names the server without its password, with the driver's error as cause.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import conninfo
from psycopg.rows import RowMaker, dict_row
from psycopg.types.json import set_json_dumps
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from rlm_cachetrack.config import redact
from rlm_cachetrack.errors import ConfigError, QueryError, RecordRefusedError, StoreError, StoreUnreachableError
from rlm_cachetrack.records import COLUMNS, PackedRows, RecordBatch, RunKey, new_id

from . import named_sql as _sql
from .batch_write import copy_into_table, copy_through_staging, pack_batch, takes_our_types, write_batch
from .hourly_aggregate import HourlyAggregate
from .sqlstates import Meaning, meaning_of

__all__ = ["PostgresStore", "Session"]

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30.0
_POOL = "rlm_cachetrack"
# A server whose machine is gone says no goodbye: without these a statement waits for it for two hours (keepalive) or a
# quarter of an hour (unacknowledged data), and the records behind it too.
# Source: https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-KEEPALIVES, read 2026-11-23.
_CONNECTION_DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "rlm_cachetrack",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class _SchemaError(QueryError):
    """A table or column is not as this release made it: worth another look, and a migration."""


class PostgresStore:
    """The :class:`~.records.RecordSink` over PostgreSQL, with or without TimescaleDB; reads go to it too.

    Args:
        resolve_url: Gives the address; called at each (re)connection, may block (it may start the embedded server).
        prepare: Brings the schema up to date; called with the first connection of each (re)connection.
        pool_size: The most connections that reads may hold at once; the writer has one of its own.
    """

    def __init__(
        self,
        resolve_url: Callable[[], str],
        prepare: Callable[[psycopg.Connection[Any]], object],
        *,
        pool_size: int = 10,
    ) -> None:
        self._resolve_url = resolve_url
        self._prepare = prepare
        self._pool_size = pool_size
        self._lock = threading.RLock()
        self._url: str | None = None
        self._pool: ConnectionPool[psycopg.Connection[dict[str, Any]]] | None = None
        self._writer: psycopg.Connection[Any] | None = None
        self._hourly: HourlyAggregate | None = None
        self._closed = False
        self._straight = True
        self.read_timeout_s = READ_TIMEOUT_S
        """The longest that a query waits for a connection."""

    # -- life ---------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and bring the schema up to date. Blocks for a connection and pending migrations; idempotent.

        Raises:
            StoreUnreachableError: No connection could be had.
            MigrationError: The schema cannot be used by this release.
        """
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed")
            if self._url is not None:
                return
            url = self._resolve_url()
            with self._errors(url), self._connect(url) as connection:
                self._prepare(connection)
                self._hourly = HourlyAggregate.find(connection)
                self._straight = takes_our_types(connection)
            self._url = url

    @property
    def address(self) -> str:
        """The server's address without its password, or where it will come from while it is not known."""
        return redact(self._url) if self._url is not None else "(not connected yet)"

    def close(self, timeout_s: float = 2.0) -> None:
        """Close every connection. Does not wait for statements of other threads, nor longer than it is told.

        A connection that another thread is just making, to a server that does not answer, is left to it.
        """
        self._closed = True
        if self._lock.acquire(timeout=timeout_s):
            try:
                self._drop_connections(timeout_s)
            finally:
                self._lock.release()

    def forget_after_fork(self) -> None:
        """In a forked child: let go of the parent's connections without a word to the server."""
        # Closing them would send a goodbye over the parent's socket. They are kept unreachable but alive instead.
        _inherited.append((self._writer, self._pool))
        self._writer = self._pool = self._url = None
        self._lock = threading.RLock()

    def _drop_connections(self, timeout_s: float = 2.0) -> None:
        if self._writer is not None:
            with contextlib.suppress(psycopg.Error):
                self._writer.close()
            self._writer = None
        if self._pool is not None:
            self._pool.close(timeout=timeout_s)
            self._pool = None
        self._url = None

    def _connect(self, url: str, *, writes: bool = False) -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            url,
            autocommit=True,
            prepare_threshold=None,  # a statement prepared on one server connection is unknown on the next of a pooler
            **_connect_arguments(url, writes=writes),
        )
        set_json_dumps(_dumps, connection)
        return connection

    @contextlib.contextmanager
    def _errors(self, url: str | None = None) -> Iterator[None]:
        """Translate what the driver raises; callers never learn psycopg."""
        address = redact(url or self._url or "")
        try:
            yield
        except (psycopg.Error, PoolTimeout, PoolClosed) as exc:
            state = getattr(exc, "sqlstate", None)
            if isinstance(exc, psycopg.ProgrammingError) and state is None and self._url is None:
                # libpq could not make sense of the address
                raise ConfigError(f"the database address is not usable: {_first_line(exc)}") from _clean(exc)
            raise _translated(exc, address, state) from _clean(exc)

    # -- writing ------------------------------------------------------------------------------------------------------

    def store(self, batch: RecordBatch) -> None:
        """Store the batch in one transaction, each call once however often it is offered. Blocks.

        Raises:
            StoreUnreachableError: Nothing was stored; offer the batch again.
            RecordRefusedError: The server refused a record of the batch; nothing was stored.
            QueryError: The server refused the batch for a reason that does not lie in it; nothing was stored.
        """
        connected = self._writer is not None
        try:
            self._store(batch)
        except StoreUnreachableError:
            if not connected:
                raise
            # A connection that was idle may be gone for no more than that: a server, a pooler or a firewall let go of
            # it. Only a server that cannot be connected to anew is unreachable. The batch may be stored already.
            self._store(replace(batch, possible_duplicate=True))

    def _store(self, batch: RecordBatch) -> None:
        with self._writing() as connection:
            calls = pack_batch(batch)
            if not self._store_straight(connection, batch, calls):
                with connection.transaction(), connection.cursor() as cursor:
                    write_batch(cursor, batch, calls, copy_through_staging, self._hourly)
            if self._hourly is not None:
                self._hourly.refresh(connection, sorted({hour for some in calls for hour in some.hours}))

    def _store_straight(
        self, connection: psycopg.Connection[Any], batch: RecordBatch, calls: Sequence[PackedRows]
    ) -> bool:
        """Store a batch of calls that were never offered before the fast way, where that does; whether it did."""
        if not self._straight or not calls or batch.possible_duplicate:
            return False
        try:
            with connection.transaction(), connection.cursor() as cursor:
                write_batch(cursor, batch, calls, copy_into_table, self._hourly)
        except (psycopg.errors.UniqueViolation, psycopg.errors.InternalError_):
            # Some of it is stored already, who knows why; the careful way stores the rest. Citus passes on what a
            # worker says of a COPY as an internal error, and only of other statements with its SQLSTATE.
            return False
        except psycopg.errors.FeatureNotSupported:
            self._straight = False  # such as COPY into a table with row-level security
            return False
        return True

    def probe(self) -> None:
        """Store one harmless call and take it back, to tell a store that refuses a record from one that refuses all.

        Blocks. Leaves nothing behind.

        Raises:
            StoreError: The store takes no call at all now.
        """
        now = datetime.now(UTC)
        known = {"time": now, "run_id": now, "interaction_id": UUID(new_id()), "success": True}
        row = tuple(
            known.get(name, "rlm-cachetrack-probe" if name in ("query_id", "model") else None) for name in COLUMNS
        )
        with (
            self._writing() as connection,
            connection.transaction(force_rollback=True),
            connection.cursor() as cursor,
        ):
            batch = RecordBatch([row])
            write_batch(cursor, batch, pack_batch(batch), copy_through_staging, self._hourly)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[psycopg.Connection[Any]]:
        """The writer's connection; after an error that a new connection may mend, the next call makes one."""
        self.open()
        try:
            with self._errors():
                if self._writer is None or self._writer.closed:
                    self._writer = self._connect(self._open_url(), writes=True)
                yield self._writer
        except (StoreUnreachableError, _SchemaError):
            # The next attempt resolves the address anew, looks at the schema anew, and so survives a failover, and a
            # database that was replaced by an empty one.
            with self._lock:
                self._drop_connections()
            raise

    def finalize(self, query_id: str, run_id: datetime) -> None:
        """Compute and store the optimization of one run now. Blocks."""
        batch = RecordBatch(optimizations=[RunKey(query_id, run_id)])
        self.open()
        with (
            self._errors(),
            self._read_pool().connection(READ_TIMEOUT_S) as connection,
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            write_batch(cursor, batch, pack_batch(batch), copy_through_staging, self._hourly)

    # -- reading ------------------------------------------------------------------------------------------------------

    def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Run ``schema/queries/<name>.sql``; rows as dicts, moments in UTC. Blocks.

        Raises:
            StoreUnreachableError: No connection could be had.
            QueryError: The server refused the statement.
        """
        self.open()
        try:
            with self._errors(), self._read_pool().connection(self.read_timeout_s) as connection:
                rows = connection.execute(_sql.query(name), parameters).fetchall()
        except StoreUnreachableError:
            with self._lock:
                self._drop_connections()
            raise
        return rows

    def stream(self, name: str, size: int, /, **parameters: Any) -> Iterator[list[dict[str, Any]]]:
        """Run ``schema/queries/<name>.sql`` and yield its rows, ``size`` at a time, over a connection of its own.

        Neither side ever holds all of them. Blocks for each part.

        Raises:
            StoreUnreachableError: No connection could be had, or it was lost.
            QueryError: The server refused the statement.
        """
        self.open()
        with (
            self._errors(),
            self._connect(self._open_url()) as connection,
            connection.transaction(),
            connection.cursor("rlm_cachetrack_stream", row_factory=_plain_row) as cursor,
        ):
            cursor.execute(_sql.query(name), parameters)
            while rows := cursor.fetchmany(size):
                yield rows

    def delete(
        self, *, query_id: str | None = None, run_id: datetime | None = None, before: datetime | None = None
    ) -> dict[str, int]:
        """Delete calls and their runs; returns how many of each. Blocks.

        Args:
            query_id: Only of this query.
            run_id: Only of this run.
            before: Only calls from before this moment, and runs of which no call is left.
        """
        if query_id is None and before is None:
            raise ConfigError("delete needs a query_id or a moment: it never empties the store")
        parameters = {"query_id": query_id, "run_id": run_id, "before": before}
        self.open()
        with self._errors(), self._read_pool().connection(READ_TIMEOUT_S) as connection:
            with connection.transaction(), connection.cursor() as cursor:
                if self._hourly is not None:
                    self._hourly.prepare(cursor)
                gone = cursor.execute(_sql.query("delete_interactions"), parameters).fetchone() or {}
                cursor.execute(_sql.query("delete_optimizations"), parameters)
                runs = cursor.execute(_sql.query("delete_runs"), parameters).rowcount
            if self._hourly is not None:
                self._hourly.refresh(connection, gone["hours"])
        return {"interactions": gone["interactions"], "runs": runs}

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A connection of its own for work of several steps; the schema is up to date. Blocks to connect."""
        self.open()
        url = self._open_url()
        with self._errors(url), self._connect(url, writes=True) as connection:
            connection.row_factory = _plain_row
            yield Session(connection)

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of its own, in autocommit mode, without a look at the schema first. Blocks to connect."""
        url = self._resolve_url()
        with self._errors(url), self._connect(url) as connection:
            yield connection

    def look(self, connection: psycopg.Connection[Any], name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Like :meth:`query`, over a connection of :meth:`connection`, and so without a look at the schema first."""
        with self._errors(), connection.cursor(row_factory=_plain_row) as cursor:
            return cursor.execute(_sql.query(name), parameters).fetchall()

    def _open_url(self) -> str:
        if self._url is None:  # dropped by another thread that lost the connection, between our open() and now
            self.open()
        return self._url or ""

    def _read_pool(self) -> ConnectionPool[psycopg.Connection[dict[str, Any]]]:
        with self._lock:
            if self._pool is None:
                url = self._open_url()
                self._pool = ConnectionPool(
                    url,
                    min_size=0,
                    max_size=self._pool_size,
                    kwargs={
                        "autocommit": True,
                        "prepare_threshold": None,
                        "row_factory": _plain_row,
                        **_connect_arguments(url),
                    },
                    configure=_configure,
                    check=ConnectionPool.check_connection,
                    name=_POOL,
                    open=True,
                )
            return self._pool


class Session:
    """A connection that runs named queries, each on its own or several in a transaction. Not for several threads."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def rows(self, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
        """Run ``schema/queries/<name>.sql``; rows as dicts, moments in UTC. Blocks."""
        found: list[dict[str, Any]] = self._connection.execute(_sql.query(name), parameters).fetchall()
        return found

    def run(self, name: str, /, **parameters: Any) -> int:
        """Run one without a result; the count of rows that it touched. Blocks."""
        return self._connection.execute(_sql.query(name), parameters).rowcount

    def refresh_hours(self, first: datetime, last: datetime) -> None:
        """Make the hourly sums right from one moment to another, Blocks; see :mod:`.hourly_aggregate`."""
        hourly = HourlyAggregate.find(self._connection)
        if hourly is not None:
            hour = first.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            count = (last - hour) // timedelta(hours=1) + 1
            hourly.refresh(self._connection, [hour + timedelta(hours=number) for number in range(count)])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is run within is done whole or not at all."""
        with self._connection.transaction():
            yield


def _is_others(record: logging.LogRecord) -> bool:
    return not (isinstance(record.args, tuple) and _POOL in record.args)


# The pool logs each failed attempt to connect, several a second. Who reads is told by the error, who records by us.
logging.getLogger("psycopg.pool").addFilter(_is_others)

_inherited: list[object] = []


def _dumps(value: Any) -> str:
    # Rows from the writer hold JSON that is encoded already; a mapping comes from a run's metadata.
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _oid(name: str) -> int:
    return psycopg.adapters.types[name].oid


_MOMENTS, _NUMERIC = frozenset({_oid("timestamptz"), _oid("timestamp")}), _oid("numeric")


def _plain_row(cursor: Any) -> RowMaker[dict[str, Any]]:
    """Rows as dicts, moments in UTC, numbers as floats: NUMERIC is of a table that was there before this library."""
    make = dict_row(cursor)
    columns = [(column.name, column.type_code) for column in cursor.description or ()]
    moments = [name for name, kind in columns if kind in _MOMENTS]
    numbers = [name for name, kind in columns if kind == _NUMERIC]
    if not moments and not numbers:
        return make

    def plain(values: Sequence[Any]) -> dict[str, Any]:
        row = make(values)
        for name in moments:
            if (moment := row[name]) is not None:
                row[name] = moment.astimezone(UTC)
        for name in numbers:
            if (number := row[name]) is not None:
                row[name] = float(number)
        return row

    return plain


def _translated(exc: Exception, address: str, state: str | None) -> StoreError:
    said = _first_line(exc)
    if not isinstance(exc, psycopg.Error):
        return StoreUnreachableError(f"cannot reach {address}: {said}")
    meaning = meaning_of(exc, state)
    if meaning is Meaning.UNREACHABLE:
        return StoreUnreachableError(f"cannot reach {address}: {said}")
    if meaning is Meaning.READ_ONLY:
        return StoreUnreachableError(f"{address} is read-only now: {said}")
    if state is not None and state.startswith("23"):
        said = redact(exc.diag.message_primary or said)  # the detail is the whole row, which is no matter for a log
    refused = f"{address} refused a statement: {said}" + (f" (SQLSTATE {state})" if state else "")
    if meaning is Meaning.BAD_RECORD:
        return RecordRefusedError(refused)
    return _SchemaError(refused) if meaning is Meaning.SCHEMA else QueryError(refused)


def _configure(connection: psycopg.Connection[Any]) -> None:
    connection.execute(_sql.query("session"))


def _connect_arguments(url: str, *, writes: bool = False) -> Mapping[str, Any]:
    given = conninfo.conninfo_to_dict(url)
    arguments = {name: value for name, value in _CONNECTION_DEFAULTS.items() if name not in given}
    # What COPY sends is UTF-8, whatever PGCLIENTENCODING says; of a database in SQL_ASCII the driver would give bytes.
    arguments["client_encoding"] = "UTF8"
    chosen = "target_session_attrs" in given or "PGTARGETSESSIONATTRS" in os.environ
    if not chosen and (writes or "," in str(given.get("host", ""))):
        # Of several servers, or of one that was demoted, it is the primary that we need: reads are to see what was
        # written, and to look at the schema may mean to change it.
        arguments["target_session_attrs"] = "read-write"
    return arguments


def _first_line(exc: BaseException) -> str:
    text = redact(str(exc)).strip()
    said = "; ".join(line.strip() for line in text.splitlines()[:3]) or type(exc).__name__
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        said += (
            " (by schema/roles.sql a reader reads, and a writer records; deleting, re-pricing, budgets and policies"
            " are the owner's)"
        )
    return said


def _clean(exc: Exception) -> Exception:
    """The cause, unless its text would show a password."""
    return exc if redact(str(exc)) == str(exc) else type(exc)(redact(str(exc)))
