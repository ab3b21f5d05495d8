"""The files that an export writes: CSV, JSON lines and Parquet, each a few rows at a time.

The columns are those of ``llm_interactions``, in the order of :data:`~.records.COLUMNS`, and their names
say the unit; bytes are in hexadecimal digits. What is NULL is an empty field in CSV, ``null`` in JSON lines and null in
Parquet.
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
from rlm_cachetrack.records import COLUMNS

__all__ = ["FORMATS", "JSON_COLUMNS", "KINDS", "Format", "RowWriter", "open_writer"]

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "jsonl", "parquet")

Kind = Literal["text", "integer", "number", "flag", "moment", "json"]
_MOMENTS = frozenset({"time", "run_id", "start_time", "end_time"})
_FLAGS = frozenset({"has_tool_calls", "success"})
JSON_COLUMNS = frozenset({"metadata", "usage"})
_INTEGERS = frozenset(
    {
        "model_index",
        "context_messages",
        "context_tokens",
        "response_length",
        "iteration",
        "current_depth",
        "max_depth",
        "tool_call_count",
    }
)


def _kind(column: str) -> Kind:
    if column in _MOMENTS:
        return "moment"
    if column in _FLAGS:
        return "flag"
    if column in JSON_COLUMNS:
        return "json"
    if column in _INTEGERS or column.endswith("_tokens"):
        return "integer"
    if column.endswith(("_price", "_cost", "_ms")):
        return "number"
    return "text"


_ROW_GROUP = 16_384
_ROW_GROUP_BYTES = 4_000_000

KINDS: Mapping[str, Kind] = {column: _kind(column) for column in COLUMNS}
"""What each column holds."""


class RowWriter(Protocol):
    """Writes rows to a file that is open already."""

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write some more rows, keyed by column."""

    def close(self) -> None:
        """Write what belongs at the end; the file stays open."""


def open_writer(form: Format, file: BinaryIO) -> RowWriter:
    """A writer of one format.

    Raises:
        ConfigError: The format is unknown, or Parquet is wanted and pyarrow is not installed.
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
        _let_go(self._file)


class _JsonLines:
    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._file.write(json.dumps({column: _plain(row.get(column)) for column in COLUMNS}, default=str) + "\n")

    def close(self) -> None:
        _let_go(self._file)


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as exc:
            raise ConfigError(
                "Parquet needs pyarrow: pip install 'rlm_cachetrack[parquet]', or choose csv or jsonl"
            ) from exc
        types: dict[Kind, Any] = {
            "text": pa.string(),
            "json": pa.string(),
            "integer": pa.int64(),
            "number": pa.float64(),
            "flag": pa.bool_(),
            "moment": pa.timestamp("us", tz="UTC"),
        }
        self._arrow = pa
        self._schema = pa.schema([pa.field(column, types[KINDS[column]]) for column in COLUMNS])
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
        # The file's end tells of every column of every row group, and waits in memory: few groups, not one a batch.
        if self._waiting:
            self._file.write_table(self._arrow.Table.from_batches(self._waiting, schema=self._schema))
            self._waiting.clear()

    def close(self) -> None:
        self._write_row_group()
        self._file.close()


def _let_go(file: io.TextIOWrapper) -> None:
    file.flush()
    file.detach()


def _csv_field(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _arrow_value(column: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if value is None or KINDS[column] != "json":
        return value
    return json.dumps(value)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
