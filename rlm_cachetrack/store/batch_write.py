"""Write a batch: run starts, calls by binary COPY, run ends, optimizations and totals, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from rlm_cachetrack.errors import RecordRefusedError
from rlm_cachetrack.records import COLUMNS, PackedRows, RecordBatch

from . import named_sql as _sql
from .binary_copy import COLUMN_TYPES, HEADER, TRAILER, pack_rows
from .hourly_aggregate import HourlyAggregate

__all__ = ["copy_into_table", "copy_through_staging", "pack_batch", "takes_our_types", "write_batch"]

_ROWS_A_WRITE = 200


_Copy = Callable[["psycopg.Cursor[Any]", Sequence[PackedRows]], None]


def _values(row: Any) -> Sequence[Any]:
    """A row's values, whatever the connection makes rows of."""
    return list(row.values()) if isinstance(row, dict) else list(row)


def write_batch(
    cursor: psycopg.Cursor[Any],
    batch: RecordBatch,
    calls: Sequence[PackedRows],
    copy: _Copy,
    hourly: HourlyAggregate | None,
) -> None:
    """Write the batch within the cursor's transaction; ``copy`` sends the calls."""
    if hourly is not None:
        hourly.prepare(cursor)
    for start in batch.run_starts:
        cursor.execute(
            _sql.query("store_run_start"),
            {
                "query_id": start.query_id,
                "run_id": start.run_id,
                "time": start.time,
                "metadata": None if start.metadata is None else Jsonb(start.metadata),
            },
        )
    finalized = {(end.query_id, end.run_id) for end in batch.run_ends}
    finalized.update((key.query_id, key.run_id) for key in batch.optimizations)
    if calls:
        copy(cursor, calls)
        bounds: dict[tuple[str, datetime], tuple[datetime, datetime]] = {}
        for some in calls:
            for run, (first, last) in some.runs.items():
                known = bounds.get(run)
                bounds[run] = (first, last) if known is None else (min(first, known[0]), max(last, known[1]))
        runs_of_calls = sorted(bounds)  # in one order everywhere, as below
        listed = {
            "query_ids": [run[0] for run in runs_of_calls],
            "run_ids": [run[1] for run in runs_of_calls],
            "first_calls": [bounds[run][0] for run in runs_of_calls],
            "last_calls": [bounds[run][1] for run in runs_of_calls],
        }
        cursor.execute(_sql.query("staging_runs"), listed)
        cursor.execute(_sql.query("staging_late_runs"), listed)
        finalized.update((row[0], row[1]) for row in cursor.fetchall())
    for end in batch.run_ends:
        cursor.execute(
            _sql.query("store_run_end"),
            {"query_id": end.query_id, "run_id": end.run_id, "time": end.time, "status": end.status},
        )
    if finalized:
        # In one order everywhere, so that two writers that finish the same runs wait for each other, never deadlock.
        keys = sorted(finalized)
        runs: dict[str, Any] = {"query_ids": [key[0] for key in keys], "run_ids": [key[1] for key in keys]}
        row = cursor.execute(_sql.query("runs_bounds"), runs).fetchone()
        runs["first_call"], runs["last_call"] = _values(row)
        cursor.execute(_sql.query("store_optimization"), runs)
        cursor.execute(_sql.query("store_run_totals"), runs)


def copy_into_table(cursor: psycopg.Cursor[Any], packed: Sequence[PackedRows]) -> None:
    """Into the table itself: two thirds of the server's work of the other way, and no catalog entries come and go.

    Fails as a whole where one of the calls is there already.
    """
    for some in packed:
        _send(cursor, "copy_interactions", some)


def copy_through_staging(cursor: psycopg.Cursor[Any], packed: Sequence[PackedRows]) -> None:
    """Into a table of this transaction, and from there what is not stored yet."""
    cursor.execute(_staging())
    for some in packed:
        _send(cursor, "staging_copy", some)
    cursor.execute(_named("staging_merge", COLUMNS))


def _send(cursor: psycopg.Cursor[Any], name: str, packed: PackedRows) -> None:
    with cursor.copy(_named(name, packed.columns)) as copy:
        copy.write(HEADER)
        for start in range(0, len(packed.rows), _ROWS_A_WRITE):  # not all at once: that would be a second copy
            copy.write(b"".join(packed.rows[start : start + _ROWS_A_WRITE]))
        copy.write(TRAILER)


def pack_batch(batch: RecordBatch) -> list[PackedRows]:
    """Encode the calls of the batch for COPY.

    Raises:
        RecordRefusedError: A value is not of its column's type, or is out of its range.
    """
    try:
        return [*batch.packed, *([pack_rows(batch.interactions)] if batch.interactions else [])]
    except Exception as exc:
        raise RecordRefusedError(f"a value is none of its column's type, or out of its range: {exc}") from exc


# As bytes: psycopg renders a composed statement anew each time that it is executed, which takes most of a millisecond.
@cache
def _named(name: str, columns: tuple[str, ...]) -> bytes:
    return sql.SQL(_sql.query(name)).format(columns=sql.SQL(", ").join(map(sql.Identifier, columns))).as_bytes(None)


@cache
def _staging() -> bytes:
    columns = (sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(COLUMN_TYPES[name])) for name in COLUMNS)
    return sql.SQL(_sql.query("staging_create")).format(definitions=sql.SQL(", ").join(columns)).as_bytes(None)


def takes_our_types(connection: psycopg.Connection[Any]) -> bool:
    """Whether the table takes calls as they are sent; one that was there before this library may have wider columns."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        found: dict[str, str] = dict(cursor.execute(_sql.query("calls_types")).fetchall())
    return all(
        found.get(name) == kind or (kind == "text" and found.get(name) == "varchar")
        for name, kind in COLUMN_TYPES.items()
    )
