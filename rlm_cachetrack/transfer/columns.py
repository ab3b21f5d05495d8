"""The types of the columns of ``llm_interactions``, for file formats that need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from rlm_cachetrack.records import COLUMNS

__all__ = ["COLUMN_TYPES", "JSON_COLUMNS", "ColumnType"]

ColumnType = Literal["text", "integer", "number", "boolean", "time", "json"]

JSON_COLUMNS = frozenset({"metadata", "usage"})
_TIMES = frozenset({"time", "run_id", "start_time", "end_time"})
_BOOLEANS = frozenset({"has_tool_calls", "success"})
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


def _type_of(column: str) -> ColumnType:
    if column in _TIMES:
        return "time"
    if column in _BOOLEANS:
        return "boolean"
    if column in JSON_COLUMNS:
        return "json"
    if column in _INTEGERS or column.endswith("_tokens"):
        return "integer"
    if column.endswith(("_price", "_cost", "_ms")):
        return "number"
    return "text"


COLUMN_TYPES: Mapping[str, ColumnType] = {column: _type_of(column) for column in COLUMNS}
"""The type of each column, in the order of :data:`~rlm_cachetrack.records.COLUMNS`."""
