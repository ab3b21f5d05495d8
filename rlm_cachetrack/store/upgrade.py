"""Examine legacy tables before an upgrade: find problems that prevent it, and notes for the user.

Changes nothing. The upgrade itself consists of the scripts in ``schema/upgrade``, which :mod:`~.migrations` applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from . import named_sql as _sql
from .batch_write import COLUMN_TYPES

# A legacy table of calls has these columns. Without one of them, it is an unrelated table of the same name.
_SIGNATURE = frozenset({"time", "interaction_id", "query_id", "run_id", "model", "prompt_tokens", "completion_tokens"})
_CALLS, _RUNS, _SAVINGS = "llm_interactions", "query_run_summaries", "token_cache_optimization"

# Maps the type of our column to the types that a legacy column may have. The upgrade converts the column to our type,
# unless a view uses it; in that case the server casts the values that this library writes.
_ACCEPTED: dict[str, frozenset[str]] = {
    "text": frozenset({"text", "character varying", "character", "uuid"}),
    "int4": frozenset({"integer", "bigint", "smallint", "numeric"}),
    "int8": frozenset({"integer", "bigint", "smallint", "numeric"}),
    "float8": frozenset({"double precision", "numeric", "real"}),
    "timestamptz": frozenset({"timestamp with time zone"}),
    "uuid": frozenset({"uuid"}),
    "bool": frozenset({"boolean"}),
    "jsonb": frozenset({"jsonb", "json"}),
    "bytea": frozenset({"bytea"}),
}
_MILLISECONDS = frozenset({"double precision", "numeric", "real", "integer", "bigint"})
_KEY_TYPES = {"query_id": "text", "run_id": "timestamptz"}
# Columns of the two tables of runs. Our inserts always fill those in _FILLED, so they may be NOT NULL in a legacy
# table; the upgrade makes those in _NULLABLE nullable.
_FILLED: dict[str, dict[str, str]] = {
    _RUNS: {**_KEY_TYPES, "start_time": "timestamptz", "status": "text"},
    _SAVINGS: {
        **_KEY_TYPES,
        "time": "timestamptz",
        "total_prompt_tokens": "int8",
        "total_cached_tokens": "int8",
        "cache_savings_tokens": "int8",
        "cache_savings_percentage": "float8",
        "original_cost": "float8",
        "cached_cost": "float8",
        "cost_savings": "float8",
        "cost_savings_percentage": "float8",
        "total_interactions": "int8",
        "interactions_with_cache": "int8",
        "interactions_without_cache": "int8",
        "interactions_not_reported": "int8",
        "unpriced_interactions": "int8",
        "cache_evolution": "jsonb",
    },
}
_NULLABLE: dict[str, str] = {
    "end_time": "timestamptz",
    "metadata": "jsonb",
    "total_interactions": "int8",
    "failed_interactions": "int8",
    "total_prompt_tokens": "int8",
    "total_completion_tokens": "int8",
    "total_tokens": "int8",
    "total_cached_tokens": "int8",
    "total_cost": "float8",
    "avg_duration_ms": "float8",
    "p50_duration_ms": "float8",
    "p95_duration_ms": "float8",
    "p99_duration_ms": "float8",
}
_TYPES: dict[str, dict[str, str]] = {
    _CALLS: COLUMN_TYPES,
    _RUNS: {
        **_FILLED[_RUNS],
        **_NULLABLE,
        "first_call_time": "timestamptz",
        "last_call_time": "timestamptz",
        "reported_prompt_tokens": "int8",
        "rated_cached_tokens": "int8",
    },
    _SAVINGS: _FILLED[_SAVINGS],
}
_MAY_BE_REQUIRED = {
    _CALLS: frozenset(COLUMN_TYPES),
    _RUNS: frozenset(_FILLED[_RUNS]) | frozenset(_NULLABLE),
    _SAVINGS: frozenset(_FILLED[_SAVINGS]),
}
# Features of a table that TimescaleDB refuses on a hypertable, and the remedy.
_REFUSED_BY_TIMESCALE = {
    "trigger": "trigger {name} of {table} has a transition table, which hides late calls from TimescaleDB: drop it",
    "exclusion": "exclusion constraint {name} of {table} lacks the partitioning column of TimescaleDB: drop it",
    "rule": "TimescaleDB refuses rule {name} of {table}: drop it",
    "publication": "{table} is in publication {name}, which TimescaleDB refuses: remove it from the publication",
    "row security": "{table} has row security, which continuous aggregates refuse: disable it",
}


@dataclass(frozen=True, slots=True)
class Existing:
    """Existing tables that have the names of ours but were not created by this library.

    Attributes:
        columns: By table, its columns and their types, as PostgreSQL names them.
        kinds: By table, PostgreSQL's ``relkind``; ``r`` is a table.
        required: By table, columns that an insert must set (NOT NULL without a default).
        generated: By table, columns that an insert may not set.
    """

    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    required: dict[str, set[str]] = field(default_factory=dict)
    generated: dict[str, set[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the names of the tables, sorted."""
        return sorted(self.columns)

    @property
    def is_upgradable(self) -> bool:
        """Return True if there is a legacy table of calls; :func:`examine` may still find problems."""
        return self.kinds.get(_CALLS) in ("r", "p") and set(self.columns[_CALLS]) >= _SIGNATURE


def find_existing(connection: psycopg.Connection[Any]) -> Existing:
    """Return the existing tables that have the names of ours. Changes nothing; blocks for one query."""
    found = Existing()
    for name, relkind, column, column_type, is_required, is_generated in _rows(connection, "upgrade_columns"):
        found.kinds[name] = relkind
        found.columns.setdefault(name, {})[column] = column_type
        if is_required:
            found.required.setdefault(name, set()).add(column)
        if is_generated:
            found.generated.setdefault(name, set()).add(column)
    return found


def examine(
    connection: psycopg.Connection[Any],
    existing: Existing,
    *,
    timescale: bool,
    has_extension: bool,
    has_aggregates: bool,
) -> tuple[list[str], list[str]]:
    """Return the problems that prevent the upgrade, and notes about it, one sentence each. Only reads the tables.

    Args:
        connection: To the database.
        existing: Result of :func:`find_existing`.
        timescale: The tables become hypertables.
        has_extension: TimescaleDB's extension exists, so the tables may be hypertables already.
        has_aggregates: The sums per hour become a continuous aggregate.
    """
    problems = [*_table_problems(existing), *_column_problems(connection, existing), *_dependency_problems(connection)]
    if timescale:
        problems += _timescale_problems(connection, has_extension=has_extension, has_aggregates=has_aggregates)
    for table in (_RUNS, _SAVINGS):
        if {"query_id", "run_id"} <= set(existing.columns.get(table, ())):
            if duplicates := _count(connection, "upgrade_duplicate_runs", table):
                problems.append(f"{table} has more than one row for {duplicates:,} runs: keep one row of each")
            if keyless := _count(connection, "upgrade_keyless_runs", table):
                problems.append(f"{table} has {keyless:,} rows without query_id or run_id: fill or delete them")
    if not problems and (duplicates := _rows(connection, "upgrade_duplicate_calls")[0][0]):
        problems.append(
            f"{_CALLS} has {duplicates:,} duplicate calls, with the same query_id, run_id, time and interaction_id: "
            "keep one row of each"
        )
    return problems, [] if problems else _notes(connection, existing)


def _dependency_problems(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the problems on every engine: foreign keys, names that are in use, inheritance."""
    problems = [
        f"foreign key {name!r} of table {table} references {target}, whose key changes: drop it"
        for name, table, target in _rows(connection, "upgrade_incoming_keys")
    ]
    problems += [
        f"foreign key {name!r} of {table} references {target}, which would reject new calls and runs: drop it"
        for name, table, columns, target in _rows(connection, "upgrade_outgoing_keys")
        if set(columns) & set(_TYPES[table])
    ]
    problems += [
        f"the name {name} is in use" + (f" by an index of {table}" if table else "") + ": rename that object"
        for name, table in _rows(connection, "upgrade_names")
    ]
    problems += [
        f"table {name} inherits from {parent}, and no key can cover both: run ALTER TABLE … NO INHERIT"
        for name, parent, is_child in _rows(connection, "upgrade_inheritance")
        if not is_child
    ]
    return problems


def _timescale_problems(connection: psycopg.Connection[Any], *, has_extension: bool, has_aggregates: bool) -> list[str]:
    problems = [
        f"unique index {name} of {table} lacks the column {column}, which TimescaleDB requires in it: drop it"
        for name, table, column in _rows(connection, "upgrade_unique_indexes")
    ]
    problems += [
        f"view {view} depends on the primary key {key}, which TimescaleDB refuses and the upgrade replaces: drop the "
        "view, and create it again afterwards with all of its columns in GROUP BY"
        for view, key in _rows(connection, "upgrade_key_views")
    ]
    problems += [
        f"{name} inherits from {parent}, which TimescaleDB refuses: run ALTER TABLE … NO INHERIT"
        for name, parent, is_child in _rows(connection, "upgrade_inheritance")
        if is_child
    ]
    hypertables = _rows(connection, "upgrade_hypertables") if has_extension else []
    expected = {_CALLS: {"time"}, _RUNS: {"query_id", "run_id"}, _SAVINGS: {"query_id", "run_id"}}
    problems += [
        f"{name} is a hypertable over {column}, expected {' or '.join(sorted(expected[name]))}: rename the table"
        for name, column in hypertables
        if column not in expected[name]
    ]
    names = {name for name, _ in hypertables}
    problems += [
        _REFUSED_BY_TIMESCALE[feature].format(table=table, name=feature_name)
        for name, table, feature, feature_name in _rows(connection, "upgrade_refused_features")
        if (has_aggregates if feature == "row security" else name not in names)
    ]
    return problems


def _table_problems(existing: Existing) -> list[str]:
    problems = [f"{name} is not a table" for name in (_RUNS, _SAVINGS) if existing.kinds.get(name, "r") != "r"]
    if existing.kinds[_CALLS] == "p":
        problems.append(
            f"{_CALLS} is a partitioned table: rename it, create a plain table with its name and columns, and copy the "
            "rows"
        )
    if "cache_usage_hourly" in existing.kinds:
        problems.append("the name cache_usage_hourly is in use: rename that object")
    return problems


def _column_problems(connection: psycopg.Connection[Any], existing: Existing) -> list[str]:
    problems = []
    for table, ours in _TYPES.items():
        found = existing.columns.get(table, {})
        for column, found_type in found.items():
            our_type = ours.get(column)
            accepted = _MILLISECONDS if column.endswith("_ms") else _ACCEPTED.get(our_type or "")
            if our_type is not None and accepted is not None and found_type not in accepted:
                problems.append(_type_problem(connection, table, column, found_type, accepted, our_type))
        if found and table != _CALLS:
            problems += [
                f"{table} has no column {column}: rename the table" for column in _KEY_TYPES if column not in found
            ]
        problems += [
            f"{table}.{column} is a generated column, but this library sets it: make it an ordinary column "
            "(ALTER COLUMN … DROP EXPRESSION)"
            for column in sorted(existing.generated.get(table, set()) & set(ours))
        ]
    for table, required in existing.required.items():
        problems += [
            f"{table}.{column} is NOT NULL without a default, and this library does not set it: give it a default"
            for column in sorted(required - _MAY_BE_REQUIRED.get(table, frozenset()))
        ]
    return problems


def _type_problem(
    connection: psycopg.Connection[Any], table: str, column: str, found: str, accepted: frozenset[str], wanted: str
) -> str:
    problem = f"{table}.{column} has type {found}, expected {' or '.join(sorted(accepted))}"
    conversion = _rows(
        connection, "upgrade_conversion", {"table": table, "column": column, "found": found, "wanted": wanted}
    )
    if not conversion:
        return f"{problem}: change the type, or rename the column"
    return f"{problem}: if its values can be converted, run `{conversion[0][0]}`"


def _notes(connection: psycopg.Connection[Any], existing: Existing) -> list[str]:
    calls, without_run = _rows(connection, "upgrade_counts")[0]
    notes = [f"{calls:,} calls to upgrade"]
    if without_run:
        notes.append(f"{without_run:,} calls have no query_id or run_id: they get 'adhoc' and their own time")
    if "cached_tokens" in existing.columns[_CALLS]:
        zeros = _rows(connection, "upgrade_zeros")[0][0]
        notes.append(
            f"{zeros:,} calls have cached_tokens = 0, which is kept and means that nothing was cached; if it means "
            "'not reported', set it to NULL"
        )
    foreign = [name for name in existing.columns[_CALLS] if name not in COLUMN_TYPES]
    if foreign:
        notes.append(f"columns that do not change: {', '.join(foreign)}")
    notes += [
        f"{_CALLS} belongs to {owner}, but {role} would own the new tables: run this as {owner}, or grant the rights "
        "of schema/roles.sql"
        for owner, role in _rows(connection, "upgrade_owner")
    ]
    notes += [
        f"column {name} keeps type {column_type}, because {dependents} uses it: the server will reject calls "
        "with a value that does not fit"
        for name, column_type, dependents in _rows(connection, "upgrade_kept_types")
        if name in COLUMN_TYPES
    ]
    notes += [
        f"constraint {name} of {table} stays, and rejects calls or runs that violate it: {definition}"
        for name, table, definition in _rows(connection, "upgrade_checks")
    ]
    return notes


def _count(connection: psycopg.Connection[Any], name: str, table: str) -> int:
    return int(_fetch(connection, sql.SQL(_sql.query(name)).format(table=sql.Identifier(table)))[0][0])


def _rows(
    connection: psycopg.Connection[Any], name: str, parameters: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    return _fetch(connection, sql.SQL(_sql.query(name)), parameters)


def _fetch(
    connection: psycopg.Connection[Any], statement: sql.SQL | sql.Composed, parameters: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(statement, parameters).fetchall()
