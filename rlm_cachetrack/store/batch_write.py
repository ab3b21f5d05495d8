"""Write a batch within one transaction: run starts, calls by binary COPY, run ends, optimizations and totals.

There are two paths for the calls, which differ in what they guarantee. The fast path copies them straight into the
table, whose key fails the transaction if one of them is stored already. The idempotent path goes through a temporary
table that the transaction drops at its end, and ``INSERT … ON CONFLICT DO NOTHING``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache
from time import time_ns
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from rlm_cachetrack._process import uuid7
from rlm_cachetrack.errors import RecordRejectedError
from rlm_cachetrack.records import COLUMNS, INTEGER_COLUMNS, JSON_COLUMNS, RecordBatch

from . import named_sql
from .connect import pin_settings
from .hourly import Hourly

_TYPES: dict[str, str] = {
    "time": "timestamptz",
    "interaction_id": "uuid",
    "run_id": "timestamptz",
    "start_time": "timestamptz",
    "end_time": "timestamptz",
    "has_tool_calls": "bool",
    "success": "bool",
    "fingerprint": "bytea",
    **dict.fromkeys(INTEGER_COLUMNS, "int4"),
    **dict.fromkeys(JSON_COLUMNS, "jsonb"),
}
COLUMN_TYPES: dict[str, str] = {
    name: _TYPES.get(name, "float8" if name.endswith(("price", "cost", "_ms")) else "text") for name in COLUMNS
}
"""The PostgreSQL type of each column of ``llm_interactions``."""

_QUERY_ID, _RUN_ID, _TIME, _INTERACTION_ID = map(COLUMNS.index, ("query_id", "run_id", "time", "interaction_id"))


def write_batch(cursor: psycopg.Cursor[Any], batch: RecordBatch, hourly: Hourly | None, *, idempotent: bool) -> None:
    """Write the batch within the cursor's transaction. Blocks.

    Args:
        cursor: Of a connection inside a transaction.
        batch: What to write.
        hourly: The hourly sums, None if ``cache_usage_hourly`` sums every call.
        idempotent: Take the idempotent path; the fast path fails if a call is stored already.

    Raises:
        RecordRejectedError: A value does not fit its column.
        psycopg.Error: The server rejected a statement, or the connection was lost.
    """
    pin_settings(cursor, is_local=True)
    if hourly is not None:
        hourly.prepare(cursor)
    for start in batch.run_starts:
        metadata, tags = (None if value is None else Jsonb(value) for value in (start.metadata, start.tags))
        run = {"query_id": start.query_id, "run_id": start.run_id, "time": start.time}
        _store_run(cursor, "store_run_start", {**run, "metadata": metadata, "tags": tags})
    finished = {(end.query_id, end.run_id) for end in batch.run_ends}
    finished.update((run.query_id, run.run_id) for run in batch.optimizations)
    if batch.interactions:
        if idempotent:
            cursor.execute(_staging())
            _copy(cursor, "staging_copy", batch.interactions)
            cursor.execute(_with_columns("staging_merge"))
            if cursor.rowcount < len(batch.interactions):
                _check_stored(cursor, batch.interactions)
        else:
            _copy(cursor, "copy_interactions", batch.interactions)
            if cursor.rowcount < len(batch.interactions):
                raise _dropped("llm_interactions", f"{len(batch.interactions) - cursor.rowcount} calls")
        finished |= _list_runs(cursor, batch.interactions)
    for end in batch.run_ends:
        run = {"query_id": end.query_id, "run_id": end.run_id, "time": end.time}
        _store_run(cursor, "store_run_end", {**run, "status": end.status})
    for outcome in batch.outcomes:
        _store_run(cursor, "store_run_outcome", asdict(outcome))
    if finished:
        _store_totals(cursor, finished)


def write_probe(cursor: psycopg.Cursor[Any], hourly: Hourly | None) -> None:
    """Write a valid call, and then a later time of its run, as the next batch does. Blocks; the caller rolls back.

    Args:
        cursor: Of a connection inside a transaction.
        hourly: As for :func:`write_batch`.

    Raises:
        RecordRejectedError: As for :func:`write_batch`.
        psycopg.Error: As for :func:`write_batch`.
    """
    now = datetime.now(UTC)
    values = {"time": now, "run_id": now, "interaction_id": uuid7(time_ns()), "success": True}
    values |= dict.fromkeys(("query_id", "model"), "rlm-cachetrack-probe")
    write_batch(cursor, RecordBatch([tuple(map(values.get, COLUMNS))]), hourly, idempotent=True)
    values["time"] = now + timedelta(seconds=1)
    _list_runs(cursor, [tuple(map(values.get, COLUMNS))])


def times_of(rows: Iterable[Sequence[Any]]) -> Iterator[datetime]:
    """Return when the calls began."""
    return (row[_TIME] for row in rows)


def fast_path_fits(connection: psycopg.Connection[Any]) -> bool:
    """Return True if the table has the types that COPY sends; a legacy table may have wider columns."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        found: dict[str, str] = dict(cursor.execute(named_sql.query("calls_types")).fetchall())
    return all(
        found.get(name) == type_name or (type_name == "text" and found.get(name) == "varchar")
        for name, type_name in COLUMN_TYPES.items()
    )


def _copy(cursor: psycopg.Cursor[Any], name: str, rows: Sequence[Sequence[Any]]) -> None:
    with cursor.copy(_with_columns(name)) as copy:
        copy.set_types(tuple(COLUMN_TYPES.values()))
        try:
            for row in rows:
                copy.write_row(row)
        except (psycopg.OperationalError, MemoryError):
            raise
        except Exception as exc:
            raise RecordRejectedError(f"a value does not fit its column: {exc}") from exc


def _check_stored(cursor: psycopg.Cursor[Any], rows: Sequence[Sequence[Any]]) -> None:
    """Check that the rows which were not inserted were in the table before.

    Raises:
        RecordRejectedError: Some are not in the table.
    """
    ids = {str(row[_INTERACTION_ID]) for row in rows}
    times = [row[_TIME] for row in rows]
    parameters = {
        "query_ids": list({row[_QUERY_ID] for row in rows}),
        "interaction_ids": list(ids),
        "first_call": min(times),
        "last_call": max(times),
    }
    found: Any = cursor.execute(named_sql.query("calls_stored"), parameters).fetchone()
    [count] = found.values() if isinstance(found, dict) else found
    if count < len(ids):
        raise _dropped("llm_interactions", f"{len(ids) - count} calls")


def _store_run(cursor: psycopg.Cursor[Any], name: str, parameters: Mapping[str, Any]) -> None:
    """Insert or update a run by one of the queries ``store_run_…``, which always write one row.

    Raises:
        RecordRejectedError: A trigger dropped the row.
    """
    cursor.execute(named_sql.query(name), parameters)
    if cursor.rowcount == 0:
        raise _dropped("query_run_summaries", f"run {parameters['query_id']!r}")


def _dropped(table: str, rows: str) -> RecordRejectedError:
    return RecordRejectedError(
        f"a trigger of {table} dropped {rows} instead of storing: disable it, or let it raise an exception for a row "
        "that it rejects"
    )


def _list_runs(cursor: psycopg.Cursor[Any], rows: Sequence[Sequence[Any]]) -> set[tuple[str, datetime]]:
    """List the runs of these calls; return those that had ended already, whose totals must be computed again.

    Raises:
        RecordRejectedError: A trigger dropped a run, or its times. The sums of the run would be without these calls.
    """
    bounds: dict[tuple[str, datetime], list[datetime]] = {}
    for row in rows:
        run, time = (row[_QUERY_ID], row[_RUN_ID]), row[_TIME]
        found = bounds.get(run)
        if found is None:
            bounds[run] = [time, time]
        elif time > found[1]:
            found[1] = time
        elif time < found[0]:
            found[0] = time
    runs = sorted(bounds)  # the same order in every process, as in _store_totals
    parameters = {
        "query_ids": [run[0] for run in runs],
        "run_ids": [run[1] for run in runs],
        "first_calls": [bounds[run][0] for run in runs],
        "last_calls": [bounds[run][1] for run in runs],
    }
    cursor.execute(named_sql.query("staging_runs"), parameters)
    if cursor.rowcount < len(runs):
        dropped = f"run {runs[0][0]!r}" if len(runs) == 1 else f"{len(runs) - cursor.rowcount} runs"
        raise _dropped("query_run_summaries", dropped)
    cursor.execute(named_sql.query("staging_late_runs"), parameters)
    return {(row[0], row[1]) for row in cursor.fetchall()}


def _store_totals(cursor: psycopg.Cursor[Any], runs: Collection[tuple[str, datetime]]) -> None:
    # The same order in every process, so that two processes that finish the same runs do not deadlock.
    keys = sorted(runs)
    parameters: dict[str, Any] = {"query_ids": [key[0] for key in keys], "run_ids": [key[1] for key in keys]}
    row: Any = cursor.execute(named_sql.query("runs_bounds"), parameters).fetchone()
    parameters["first_call"], parameters["last_call"] = row.values() if isinstance(row, dict) else row
    cursor.execute(named_sql.query("store_optimization"), parameters)
    cursor.execute(named_sql.query("store_run_totals"), parameters)


# Kept as bytes, because psycopg renders a composed statement at each execution, which takes almost a millisecond.
@cache
def _with_columns(name: str) -> bytes:
    return (
        sql.SQL(named_sql.query(name)).format(columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS))).as_bytes(None)
    )


@cache
def _staging() -> bytes:
    columns = (sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(COLUMN_TYPES[name])) for name in COLUMNS)
    return sql.SQL(named_sql.query("staging_create")).format(definitions=sql.SQL(", ").join(columns)).as_bytes(None)
