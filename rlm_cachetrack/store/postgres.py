"""The store: connections, writing of batches, named queries.

A batch is one transaction. The fast path copies the calls straight into the table; if one of them is stored already,
the table's key makes the transaction fail. Then the idempotent path copies into a temporary table and continues with
``INSERT … ON CONFLICT DO NOTHING``. Possible duplicates (the journal of a dead process, a batch that is retried) are
tried by the fast path, too: few of them are stored already, and the idempotent path costs the server twice the time.

No psycopg error reaches the caller: every error is a :class:`~.errors.StoreError` that names the server without its
password, with the driver's error as cause.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import ConnectionPool

from rlm_cachetrack.config import redact
from rlm_cachetrack.errors import ConfigError, StoreError, StoreUnreachableError
from rlm_cachetrack.records import RecordBatch, RunKey

from . import hourly, named_sql
from .batch_write import fast_path_fits, times_of, write_batch, write_probe
from .conflicts import retry_on_conflict
from .connect import POOL_NAME, SchemaError, connect, dict_rows, make_pool, translated_errors
from .hourly import Hourly
from .session import Session

READ_TIMEOUT_S = 30.0


class PostgresStore:
    """Store batches in PostgreSQL and run named queries; a :class:`~.records.RecordSink`.

    Args:
        resolve_url: Returns the address. Called at each reconnect; may block to start the embedded server.
        prepare: Brings the schema up to date. Called with a new connection at each reconnect.
        pool_size: Maximum number of connections for reads; the writer has its own connection.
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
        self._hourly: Hourly | None = None
        self._closed = False
        self._fast_path_works = True
        self.read_timeout_s = READ_TIMEOUT_S
        """How long a query waits for a connection, in seconds."""

    # -- opening and closing ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect and bring the schema up to date, unless already done. Blocks for a connection and for migrations.

        Raises:
            StoreUnreachableError: The server cannot be reached.
            MigrationError: This release cannot use the schema.
        """
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed")
            if self._url is not None:
                return
            url = self._resolve_url()
            with self._errors(url), connect(url) as connection:
                self._prepare(connection)
                self._hourly = hourly.find(connection)
                self._fast_path_works = fast_path_fits(connection)
            self._url = url

    @property
    def address(self) -> str:
        """Return the server's address without its password."""
        return redact(self._url) if self._url is not None else "(not connected yet)"

    def close(self, timeout_s: float = 2.0) -> None:
        """Close every connection, without waiting for statements of other threads.

        Blocks for at most ``timeout_s`` seconds if another thread is connecting; its connection then stays open.
        """
        self._closed = True
        if self._lock.acquire(timeout=timeout_s):
            try:
                self._drop_connections(timeout_s)
            finally:
                self._lock.release()

    def forget_after_fork(self) -> None:
        """Drop the parent's connections in a forked child, without closing them."""
        # Closing them would send a message over the parent's socket, so they must not be garbage-collected either.
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

    def _errors(self, url: str | None = None) -> AbstractContextManager[None]:
        return translated_errors(url or self._url or "", is_first_connection=self._url is None)

    # -- writing ------------------------------------------------------------------------------------------------------

    def store(self, batch: RecordBatch) -> None:
        """Store the batch in one transaction; calls that are stored already are skipped. Blocks.

        Raises:
            StoreUnreachableError: The server cannot be reached; the batch can be retried.
            RecordRejectedError: The server rejected a record of the batch; nothing was stored.
            QueryError: The server rejected the batch for another reason; nothing was stored.
        """
        was_connected = self._writer is not None
        try:
            self._store(batch)
        except StoreUnreachableError:
            if not was_connected:
                raise
            # A server, pooler or firewall may have closed the idle connection: reconnect once before giving up.
            self._store(batch)

    def _store(self, batch: RecordBatch) -> None:
        with self._writing() as connection:
            if not self._store_fast(connection, batch):
                with connection.transaction(), connection.cursor() as cursor:
                    write_batch(cursor, batch, self._hourly, idempotent=True)
            if self._hourly is not None:
                self._hourly.refresh_after_batch(connection, times_of(batch.interactions))

    def _store_fast(self, connection: psycopg.Connection[Any], batch: RecordBatch) -> bool:
        """Store the batch by the fast path; returns False if it needs the idempotent path."""
        if not self._fast_path_works or not batch.interactions:
            return False
        try:
            with connection.transaction(), connection.cursor() as cursor:
                write_batch(cursor, batch, self._hourly, idempotent=False)
        except (psycopg.errors.UniqueViolation, psycopg.errors.InternalError_):
            # A call of the batch is stored already. Citus reports errors of a worker's COPY as internal errors.
            return False
        except psycopg.errors.FeatureNotSupported:
            self._fast_path_works = False  # for example, COPY into a table with row-level security
            return False
        return True

    def probe(self) -> None:
        """Store a valid call, extend its run and roll back, to test whether the store accepts calls at all. Blocks.

        Raises:
            StoreError: The store accepts no call now.
        """
        with (
            self._writing() as connection,
            connection.transaction(force_rollback=True),
            connection.cursor() as cursor,
        ):
            write_probe(cursor, self._hourly)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield the writer's connection; it is dropped after an error that a new connection may resolve."""
        self.open()
        try:
            with self._errors():
                if self._writer is None or self._writer.closed:
                    self._writer = connect(self._open_url(), writes=True)
                yield self._writer
        except (StoreUnreachableError, SchemaError):
            # The next attempt resolves the address and checks the schema again. Therefore writing continues after a
            # failover, and after the database was replaced by an empty one.
            with self._lock:
                self._drop_connections()
            raise

    def finalize(self, query_id: str, run_id: datetime) -> None:
        """Compute and store the optimization and totals of one run. Blocks."""
        batch = RecordBatch(optimizations=[RunKey(query_id, run_id)])
        self.open()

        def write(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                write_batch(cursor, batch, self._hourly, idempotent=True)

        with self._errors(), self._read_pool().connection(READ_TIMEOUT_S) as connection:
            retry_on_conflict(write, connection)

    # -- reading ------------------------------------------------------------------------------------------------------

    def query(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Run ``schema/queries/<name>.sql`` and return its rows, timestamps in UTC. Blocks.

        Raises:
            StoreUnreachableError: The server cannot be reached, or every connection of the pool stayed in use.
            QueryError: The server rejected the statement.
        """
        self.open()
        try:
            with self._errors(), self._read_pool().connection(self.read_timeout_s) as connection:
                rows = connection.execute(named_sql.query(name), parameters).fetchall()
        except StoreUnreachableError:
            with self._lock:
                self._drop_connections()
            raise
        return rows

    def query_as_writer(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Run ``schema/queries/<name>.sql`` over the writer's connection, and return its rows. Blocks.

        For queries of the writer thread, which need no pool.

        Raises:
            StoreError: As for :meth:`query`.
        """
        with self._writing() as connection:
            return self.query_on(connection, name, **parameters)

    def stream(self, name: str, size: int, /, **parameters: Any) -> Iterator[list[dict[str, Any]]]:
        """Run ``schema/queries/<name>.sql`` and yield its rows in lists of ``size``. Blocks for each list.

        Uses a server-side cursor on a new connection, so that neither side holds all rows in memory.

        Raises:
            StoreUnreachableError: The server cannot be reached, or the connection was lost.
            QueryError: The server rejected the statement.
        """
        self.open()
        with (
            self._errors(),
            connect(self._open_url()) as connection,
            connection.transaction(),
            connection.cursor("rlm_cachetrack_stream", row_factory=dict_rows) as cursor,
        ):
            cursor.execute(named_sql.query(name), parameters)
            while rows := cursor.fetchmany(size):
                yield rows

    def delete(
        self, *, query_id: str | None = None, run_id: datetime | None = None, before: datetime | None = None
    ) -> dict[str, int]:
        """Delete calls and runs in one transaction; return the numbers of ``interactions`` and ``runs``. Blocks.

        Args:
            query_id: Only those of this query.
            run_id: Only those of this run.
            before: Only calls before this moment, and earlier runs that have no calls left.

        Raises:
            ConfigError: Neither ``query_id`` nor ``before`` is given.
        """
        if query_id is None and before is None:
            raise ConfigError("delete needs a query_id or a time before which to delete; it cannot empty the store")
        parameters = {"query_id": query_id, "run_id": run_id, "before": before}
        self.open()

        def write(connection: psycopg.Connection[dict[str, Any]]) -> tuple[dict[str, Any], int]:
            with connection.transaction(), connection.cursor() as cursor:
                if self._hourly is not None:
                    self._hourly.prepare(cursor)
                gone = cursor.execute(named_sql.query("delete_interactions"), parameters).fetchone() or {}
                cursor.execute(named_sql.query("delete_optimizations"), parameters)
                return gone, cursor.execute(named_sql.query("delete_runs"), parameters).rowcount

        with self._errors(), self._read_pool().connection(READ_TIMEOUT_S) as connection:
            gone, runs = retry_on_conflict(write, connection)
            if self._hourly is not None:
                self._hourly.refresh(connection, gone["hours"])
        return {"interactions": gone["interactions"], "runs": runs}

    def delete_call(self, *, query_id: str, run_id: datetime, time: datetime, interaction_id: UUID) -> None:
        """Delete one call. Blocks."""
        key = {"query_id": query_id, "run_id": run_id, "time": time, "interaction_id": interaction_id}
        self.open()

        def write(connection: psycopg.Connection[dict[str, Any]]) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                if self._hourly is not None:
                    self._hourly.prepare(cursor)
                cursor.execute(named_sql.query("delete_total"), key)

        with self._errors(), self._read_pool().connection(READ_TIMEOUT_S) as connection:
            retry_on_conflict(write, connection)
            if self._hourly is not None:
                self._hourly.refresh(connection, [time.replace(minute=0, second=0, microsecond=0)])

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a session on a new connection, after :meth:`open`. Blocks until it is connected."""
        self.open()
        url = self._open_url()
        with self._errors(url), connect(url, writes=True) as connection:
            connection.row_factory = dict_rows
            yield Session(connection)

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a new connection in autocommit mode, without checking the schema. Blocks until it is connected."""
        url = self._resolve_url()
        with self._errors(url), connect(url) as connection:
            yield connection

    def query_on(self, connection: psycopg.Connection[Any], name: str, **parameters: Any) -> list[dict[str, Any]]:
        """Run ``schema/queries/<name>.sql`` over a connection of :meth:`connection` and return its rows. Blocks."""
        with self._errors(), connection.cursor(row_factory=dict_rows) as cursor:
            cursor.execute(named_sql.query(name), parameters)
            return cursor.fetchall() if cursor.description else []

    def _open_url(self) -> str:
        if self._url is None:  # another thread lost its connection after our open()
            self.open()
        return self._url or ""

    def _read_pool(self) -> ConnectionPool[psycopg.Connection[dict[str, Any]]]:
        with self._lock:
            if self._pool is None:
                self._pool = make_pool(self._open_url(), self._pool_size)
            return self._pool


def _is_of_another_pool(record: logging.LogRecord) -> bool:
    return not (isinstance(record.args, tuple) and POOL_NAME in record.args)


# The pool logs each failed attempt to connect, several times per second. Readers get an error, and the writer logs it.
logging.getLogger("psycopg.pool").addFilter(_is_of_another_pool)

_inherited: list[object] = []
