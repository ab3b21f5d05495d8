"""Rows in PostgreSQL's binary COPY format.

Source: https://www.postgresql.org/docs/18/sql-copy.html#SQL-COPY-FILE-FORMATS-BINARY-FORMAT, read 2026-11-23; what
stands inside a field is what each type's ``recv`` function reads (``timestamptz``: microseconds since 2000; ``jsonb``:
a byte 1, then text).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rlm_cachetrack.records import COLUMNS, PackedRows

__all__ = [
    "COLUMN_TYPES",
    "EPOCH_MICROS",
    "HEADER",
    "NULL",
    "TRAILER",
    "datetime_of_micros",
    "micros_of_datetime",
    "pack_fields",
    "pack_row",
    "pack_rows",
]

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

_TYPES: dict[str, str] = {
    "time": "timestamptz",
    "interaction_id": "uuid",
    "run_id": "timestamptz",
    "start_time": "timestamptz",
    "end_time": "timestamptz",
    "has_tool_calls": "bool",
    "success": "bool",
    "fingerprint": "bytea",
    "metadata": "jsonb",
    "usage": "jsonb",
}
_FLOATS = ("price", "cost", "_ms")
_INTEGERS = ("tokens", "messages", "length", "count", "index", "depth", "iteration")


def _column_type(name: str) -> str:
    if name in _TYPES:
        return _TYPES[name]
    if name.endswith(_FLOATS):
        return "float8"
    return "int4" if name.endswith(_INTEGERS) else "text"


COLUMN_TYPES: dict[str, str] = {name: _column_type(name) for name in COLUMNS}
"""The PostgreSQL type of each column of ``llm_interactions``."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
EPOCH_MICROS = 946_684_800_000_000
"""From 1970, where the clocks begin, to 2000, where PostgreSQL does, in microseconds."""
_MICROSECOND = timedelta(microseconds=1)

_size = struct.Struct("!i").pack
_int4 = struct.Struct("!ii").pack
_int8 = struct.Struct("!iq").pack
_float8 = struct.Struct("!id").pack
_bool = struct.Struct("!i?").pack


def micros_of_datetime(moment: datetime) -> int:
    """Microseconds since 2000 in UTC, of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def datetime_of_micros(micros: int) -> datetime:
    """The datetime, in UTC, of microseconds since 2000."""
    return _EPOCH + timedelta(microseconds=micros)


def _text(value: str) -> bytes:
    data = value.encode()
    return _size(len(data)) + data


def _jsonb(value: str) -> bytes:
    data = value.encode()
    return _size(len(data) + 1) + b"\1" + data


def _bytea(value: bytes | str) -> bytes:
    data = bytes.fromhex(value) if isinstance(value, str) else value
    return _size(len(data)) + data


def _uuid(value: UUID) -> bytes:
    return b"\0\0\0\x10" + value.bytes


_FIELDS: dict[str, Callable[[Any], bytes]] = {
    "timestamptz": lambda value: _int8(8, micros_of_datetime(value)),
    "uuid": _uuid,
    "bool": lambda value: _bool(1, value),
    "float8": lambda value: _float8(8, value),
    "int4": lambda value: _int4(4, value),
    "text": _text,
    "jsonb": _jsonb,
    "bytea": _bytea,
}
_PACKERS: dict[str, Callable[[Any], bytes]] = {name: _FIELDS[kind] for name, kind in COLUMN_TYPES.items()}
_COLUMN_PACKERS = tuple(_PACKERS[name] for name in COLUMNS)
_QUERY_ID, _RUN_ID, _TIME = map(COLUMNS.index, ("query_id", "run_id", "time"))
_COUNT = struct.pack("!h", len(COLUMNS))


def pack_fields(names: Sequence[str], values: Sequence[Any]) -> bytes:
    """The fields of these columns, as :func:`pack_row` would write them."""
    return b"".join(
        [NULL if value is None else _PACKERS[name](value) for name, value in zip(names, values, strict=True)]
    )


def pack_row(row: Sequence[Any]) -> bytes:
    """One row, its values in the order of :data:`~.records.COLUMNS`.

    Raises:
        struct.error, ValueError, TypeError, AttributeError: A value is none of its column's type, or out of its range.
    """
    fields = [NULL if value is None else pack(value) for pack, value in zip(_COLUMN_PACKERS, row, strict=True)]
    return _COUNT + b"".join(fields)


def pack_rows(rows: Collection[Sequence[Any]]) -> PackedRows:
    """Rows in the order of :data:`~.records.COLUMNS`, packed; raises like :func:`pack_row`."""
    packed: list[bytes] = []
    runs: dict[tuple[str, datetime], tuple[datetime, datetime]] = {}
    for row in rows:
        packed.append(pack_row(row))
        run, time = (row[_QUERY_ID], row[_RUN_ID]), row[_TIME]
        first, last = runs.get(run, (time, time))
        runs[run] = (min(first, time), max(last, time))
    hours = {row[_TIME].astimezone(UTC).replace(minute=0, second=0, microsecond=0) for row in rows}
    return PackedRows(COLUMNS, packed, runs, hours)
