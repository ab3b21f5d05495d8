"""Writers for the files of an export: CSV, JSON lines and Parquet, a few rows at a time.

The columns are those of ``llm_interactions``, in the order of :data:`~rlm_cachetrack.records.COLUMNS`; bytes are
hexadecimal digits. NULL is an empty field in CSV, and ``null`` in JSON lines and Parquet.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, BinaryIO, Literal, Protocol

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.records import COLUMNS, INTEGER_COLUMNS, JSON_COLUMNS

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "jsonl", "parquet")

ColumnType = Literal["text", "integer", "number", "boolean", "time", "json"]
_TYPES: dict[str, ColumnType] = {
    **dict.fromkeys(INTEGER_COLUMNS, "integer"),
    **dict.fromkeys(("time", "run_id", "start_time", "end_time"), "time"),
    **dict.fromkeys(("has_tool_calls", "success"), "boolean"),
    **dict.fromkeys(JSON_COLUMNS, "json"),
}
COLUMN_TYPES: Mapping[str, ColumnType] = {
    name: _TYPES.get(name, "number" if name.endswith(("_price", "_cost", "_ms")) else "text") for name in COLUMNS
}
"""The type of each column in a file, in the order of :data:`~rlm_cachetrack.records.COLUMNS`."""

_ROW_GROUP = 16_384
_ROW_GROUP_BYTES = 4_000_000


class RowWriter(Protocol):
    """Writes rows to an open file."""

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, keyed by column."""

    def close(self) -> None:
        """Write the end of the format; the file stays open."""


def open_writer(form: Format, file: BinaryIO) -> RowWriter:
    """Return a writer of one format.

    Raises:
        ConfigError: The format is unknown, or it is Parquet and pyarrow is not installed.
    """
    if form == "parquet":
        return _Parquet(file)
    if form not in FORMATS:
        raise ConfigError(f"format={form!r}: expected one of {', '.join(FORMATS)}")
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
    return _Csv(text) if form == "csv" else _JsonLines(text)


class _Csv:
    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._csv = csv.writer(file, lineterminator="\n")
        self._csv.writerow(COLUMNS)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._csv.writerows([_csv_field(row.get(column)) for column in COLUMNS] for row in rows)

    def close(self) -> None:
        self._file.detach()  # flushes


class _JsonLines:
    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            values = {column: _json_value(row.get(column)) for column in COLUMNS}
            self._file.write(json.dumps(values, default=str) + "\n")

    def close(self) -> None:
        self._file.detach()  # flushes


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as exc:
            raise ConfigError(
                "Parquet needs pyarrow: pip install 'rlm_cachetrack[parquet]', or choose csv or jsonl"
            ) from exc
        types: dict[ColumnType, Any] = {
            "text": pa.string(),
            "json": pa.string(),
            "integer": pa.int64(),
            "number": pa.float64(),
            "boolean": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
        }
        self._arrow = pa
        self._schema = pa.schema([pa.field(column, types[form]) for column, form in COLUMN_TYPES.items()])
        self._file = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[Any] = []

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        table = [{column: _arrow_value(column, row.get(column)) for column in COLUMNS} for row in rows]
        if table:
            self._waiting.append(self._arrow.RecordBatch.from_pylist(table, schema=self._schema))
        rows_waiting = sum(batch.num_rows for batch in self._waiting)
        if rows_waiting >= _ROW_GROUP or sum(batch.nbytes for batch in self._waiting) >= _ROW_GROUP_BYTES:
            self._write_row_group()

    def _write_row_group(self) -> None:
        # Large groups: the footer describes every column of every row group, and stays in memory until the end.
        if self._waiting:
            self._file.write_table(self._arrow.Table.from_batches(self._waiting, schema=self._schema))
            self._waiting.clear()

    def close(self) -> None:
        self._write_row_group()
        self._file.close()


def _csv_field(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, (dict, list)) else _text_for_time_and_bytes(value)


def _arrow_value(column: str, value: Any) -> Any:
    if value is not None and COLUMN_TYPES[column] == "json":
        return json.dumps(value)
    return value.hex() if isinstance(value, bytes) else value


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _text_for_time_and_bytes(value)


def _text_for_time_and_bytes(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else value
