"""Taking over tables that were there before this library: what stops it, what it will find, which steps it takes.

Looks only; the steps are the scripts of ``schema/adopt``, and :mod:`~rlm_cachetrack.migrations` applies them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from . import _sql
from ._binary import COLUMN_TYPES

__all__ = ["Existing", "examine", "look", "steps"]

# A table of calls as people have it, from before; without one of these it is something else of the same name.
_SIGNATURE = frozenset({"time", "interaction_id", "query_id", "run_id", "model", "prompt_tokens", "completion_tokens"})
_CALLS, _RUNS, _SAVINGS = "llm_interactions", "query_run_summaries", "token_cache_optimization"

# What a column may be for the library to write to it and read from it: by the type that it has where we make it. A type
# beyond the first is changed where that can be, and else written to with the server's assignment casts.
_ACCEPTED: dict[str, frozenset[str]] = {
    "text": frozenset({"text", "character varying", "character", "uuid"}),
    "int4": frozenset({"integer", "bigint", "smallint", "numeric"}),
    "float8": frozenset({"double precision", "numeric", "real"}),
    "timestamptz": frozenset({"timestamp with time zone"}),
    "uuid": frozenset({"uuid"}),
    "bool": frozenset({"boolean"}),
    "jsonb": frozenset({"jsonb", "json"}),
}
_MILLISECONDS = frozenset({"double precision", "numeric", "real", "integer", "bigint"})
_KEY_TYPES = {"query_id": _ACCEPTED["text"], "run_id": _ACCEPTED["timestamptz"]}
# Columns that every release of ours fills; what others a table requires is not known to us.
_OURS = {
    _CALLS: frozenset(COLUMN_TYPES),
    _RUNS: frozenset({"query_id", "run_id", "start_time", "status"}),
    _SAVINGS: frozenset(
        {
            "query_id",
            "run_id",
            "time",
            "total_prompt_tokens",
            "total_cached_tokens",
            "cache_savings_tokens",
            "cache_savings_percentage",
            "original_cost",
            "cached_cost",
            "cost_savings",
            "cost_savings_percentage",
            "total_interactions",
            "interactions_with_cache",
            "interactions_without_cache",
            "interactions_not_reported",
            "unpriced_interactions",
            "cache_evolution",
        }
    ),
}
# Those are made nullable by the adoption.
_LOOSENED = {
    _CALLS: _OURS[_CALLS],
    _SAVINGS: _OURS[_SAVINGS],
    _RUNS: _OURS[_RUNS]
    | {
        "end_time",
        "metadata",
        "total_interactions",
        "failed_interactions",
        "total_prompt_tokens",
        "total_completion_tokens",
        "total_tokens",
        "total_cached_tokens",
        "total_cost",
        "avg_duration_ms",
        "p50_duration_ms",
        "p95_duration_ms",
        "p99_duration_ms",
    },
}


@dataclass(frozen=True, slots=True)
class Existing:
    """The tables that stand where ours would go, none of them ours.

    Attributes:
        columns: By table, its columns and their types, as PostgreSQL names them.
        kinds: By table, PostgreSQL's letter for what it is; ``r`` is a table.
        required: By table, the columns that an insert must give.
    """

    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    required: dict[str, set[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names that are taken, in order."""
        return sorted(self.columns)

    @property
    def adoptable(self) -> bool:
        """Whether it is a table of calls, which this library can take over if nothing stops it."""
        return self.kinds.get(_CALLS) in ("r", "p") and set(self.columns[_CALLS]) >= _SIGNATURE


def look(connection: psycopg.Connection[Any]) -> Existing:
    """What stands where our tables would go. Changes nothing, blocks for one query."""
    found = Existing()
    for name, kind, column, kind_of_value, required in _rows(connection, "adopt_columns"):
        found.kinds[name] = kind
        found.columns.setdefault(name, {})[column] = kind_of_value
        if required:
            found.required.setdefault(name, set()).add(column)
    return found


def steps(timescale: bool) -> list[_sql.Script]:
    """The scripts that take over existing tables, in order."""
    return [script for script in _sql.scripts("adopt") if timescale or not script.for_timescale]


def examine(
    connection: psycopg.Connection[Any], existing: Existing, *, timescale: bool, hypertables: bool, citus: bool = False
) -> tuple[list[str], list[str]]:
    """What stops the adoption, and what is to be known of it; each a sentence. Changes nothing; reads the table.

    Args:
        connection: To the database.
        existing: What :func:`look` found.
        timescale: The tables become hypertables.
        hypertables: They may be already: the extension is there.
        citus: The tables are distributed by query_id.
    """
    stops = _wrong_tables(existing) + _wrong_columns(connection, existing)
    stops += [
        f"foreign key {name!r} of table {table} points at {target}, whose key changes: drop it"
        for name, table, target in _rows(connection, "adopt_incoming")
    ]
    if timescale:
        stops += [
            f"unique index {name} lacks the column time, without which TimescaleDB refuses it: drop it"
            for (name,) in _rows(connection, "adopt_unique")
        ]
        stops += [
            f"view {view} leans on the primary key {key}, which TimescaleDB refuses: it makes way. Drop the view, "
            "make it again afterwards with all that it shows in its GROUP BY"
            for view, key in _rows(connection, "adopt_leaning")
        ]
    if hypertables:
        wanted = {_CALLS: {"time"}, _RUNS: {"query_id", "run_id"}, _SAVINGS: {"query_id", "run_id"}}
        stops += [
            f"{name} is a hypertable over {column}, expected {' or '.join(sorted(wanted[name]))}: rename it"
            for name, column in _rows(connection, "adopt_partitions")
            if column not in wanted[name]
        ]
    if citus:
        stops += [
            f"{table} is distributed already: undo that (undistribute_table), it is done again by query_id"
            if name is None
            else f"unique index {name} of {table} lacks the column query_id, without which Citus refuses it: drop it"
            for name, table in _rows(connection, "adopt_undistributable")
        ]
    for table in (_RUNS, _SAVINGS):
        if {"query_id", "run_id"} <= set(existing.columns.get(table, ())):
            statement = sql.SQL(_sql.query("adopt_twice")).format(table=sql.Identifier(table))
            if twice := _fetch(connection, statement)[0][0]:
                stops.append(f"{table} has more than one row for {twice:,} runs: leave one of each")
    return stops, [] if stops else _notes(connection, existing)


def _wrong_tables(existing: Existing) -> list[str]:
    stops = [f"{name} is not a table" for name in (_RUNS, _SAVINGS) if existing.kinds.get(name, "r") != "r"]
    if existing.kinds[_CALLS] == "p":
        stops.append(
            f"{_CALLS} is a partitioned table: rename it, make a plain table of its name and columns, and copy its rows"
        )
    if "cache_usage_hourly" in existing.kinds:
        stops.append("the name cache_usage_hourly is taken: rename what has it")
    return stops


def _wrong_columns(connection: psycopg.Connection[Any], existing: Existing) -> list[str]:
    stops = []
    for column, found in existing.columns[_CALLS].items():
        wanted = COLUMN_TYPES.get(column)
        accepted = _MILLISECONDS if column.endswith("_ms") else _ACCEPTED.get(wanted or "")
        if wanted is not None and accepted is not None and found not in accepted:
            stops.append(_of_type(connection, _CALLS, column, found, accepted, wanted))
    for table in (_RUNS, _SAVINGS):
        for column, accepted in _KEY_TYPES.items():
            kind = existing.columns.get(table, {}).get(column)
            if table in existing.columns and kind is None:
                stops.append(f"{table} has no column {column}: rename the table")
            elif kind is not None and kind not in accepted:
                stops.append(_of_type(connection, table, column, kind, accepted, COLUMN_TYPES[column]))
    for table, required in existing.required.items():
        stops += [
            f"{table}.{column} is NOT NULL without a default, and nothing of ours fills it: give it one"
            for column in sorted(required - _LOOSENED.get(table, frozenset()))
        ]
    return stops


def _of_type(
    connection: psycopg.Connection[Any], table: str, column: str, found: str, accepted: frozenset[str], wanted: str
) -> str:
    said = f"{table}.{column} is of type {found}, expected {' or '.join(sorted(accepted))}"
    values = {"table": table, "column": column, "found": found, "wanted": wanted}
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_sql.query("adopt_conversion"), values).fetchone()
    if row is None:
        return f"{said}: change it, or rename the column"
    return f"{said}: where its values are such, run `{row[0]}`"


def _notes(connection: psycopg.Connection[Any], existing: Existing) -> list[str]:
    calls, without_run = _rows(connection, "adopt_rows")[0]
    notes = [f"{calls:,} calls are taken over"]
    if without_run:
        notes.append(f"{without_run:,} of them have no query_id or run_id: they get 'adhoc' and their time")
    if "cached_tokens" in existing.columns[_CALLS]:
        zeros = _rows(connection, "adopt_zeros")[0][0]
        notes.append(
            f"{zeros:,} of them have cached_tokens = 0, which is kept and counts as 'none was cached'; where it means "
            "'not reported', set it to NULL"
        )
    foreign = [name for name in existing.columns[_CALLS] if name not in COLUMN_TYPES]
    if foreign:
        notes.append(f"columns of yours that stay: {', '.join(foreign)}")
    return notes


def _rows(connection: psycopg.Connection[Any], name: str) -> list[tuple[Any, ...]]:
    return _fetch(connection, sql.SQL(_sql.query(name)))


def _fetch(connection: psycopg.Connection[Any], statement: sql.SQL | sql.Composed) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(statement).fetchall()
