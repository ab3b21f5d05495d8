"""Taking over tables that were there before this library: what stops it, what it will find, which steps it takes.

Looks only; the steps are the scripts of ``schema/adopt``, and :mod:`~.migrations` applies them.
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

__all__ = ["Existing", "examine", "look", "steps"]

# A table of calls as people have it, from before; without one of these it is something else of the same name.
_SIGNATURE = frozenset({"time", "interaction_id", "query_id", "run_id", "model", "prompt_tokens", "completion_tokens"})
_CALLS, _RUNS, _SAVINGS = "llm_interactions", "query_run_summaries", "token_cache_optimization"

# What a column may be for the library to write to it and read from it: by the type that it has where we make it. A type
# beyond the first is changed where that can be, and else written to with the server's assignment casts.
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
# Of the two tables of runs: those that an insert of ours always fills, which may so be NOT NULL, and the others.
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
_LATER: dict[str, str] = {
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
        **_LATER,
        "first_call_time": "timestamptz",
        "last_call_time": "timestamptz",
        "reported_prompt_tokens": "int8",
        "rated_cached_tokens": "int8",
    },
    _SAVINGS: _FILLED[_SAVINGS],
}
# Those that may be NOT NULL: what we fill, or what the adoption makes nullable.
_LOOSENED = {
    _CALLS: frozenset(COLUMN_TYPES),
    _RUNS: frozenset(_FILLED[_RUNS]) | frozenset(_LATER),
    _SAVINGS: frozenset(_FILLED[_SAVINGS]),
}
# What TimescaleDB refuses of a table that becomes a hypertable, and what helps.
_UNFIT = {
    "trigger": "trigger {name} of {table} has a transition table, by which TimescaleDB misses late calls: drop it",
    "exclusion": "exclusion constraint {name} of {table} lacks the column by which TimescaleDB divides it: drop it",
    "rule": "rule {name} of {table} is refused by TimescaleDB: drop it",
    "publication": "{table} is in publication {name}, which TimescaleDB refuses: take it out of it",
    "row security": "row security of {table} is refused by continuous aggregates: disable it",
}
_UNDISTRIBUTABLE = {
    "unique": "unique index {name} of {table} lacks the column query_id, without which Citus refuses it: drop it",
    "trigger": "trigger {name} of {table} is refused by Citus: drop it",
    "rule": "rule {name} of {table} is refused by Citus: drop it",
    "foreign key": "foreign key {name} of {table} is refused by Citus where the other table is on one node: drop it",
    "distributed": "{table} is distributed already: undo that (undistribute_table), it is done again by query_id",
}


@dataclass(frozen=True, slots=True)
class Existing:
    """The tables that stand where ours would go, none of them ours.

    Attributes:
        columns: By table, its columns and their types, as PostgreSQL names them.
        kinds: By table, PostgreSQL's letter for what it is; ``r`` is a table.
        required: By table, the columns that an insert must give.
        generated: By table, the columns that no insert may give.
    """

    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    required: dict[str, set[str]] = field(default_factory=dict)
    generated: dict[str, set[str]] = field(default_factory=dict)

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
    for name, kind, column, kind_of_value, required, generated in _rows(connection, "adopt_columns"):
        found.kinds[name] = kind
        found.columns.setdefault(name, {})[column] = kind_of_value
        if required:
            found.required.setdefault(name, set()).add(column)
        if generated:
            found.generated.setdefault(name, set()).add(column)
    return found


def steps(timescale: bool) -> list[_sql.Script]:
    """The scripts that take over existing tables, in order."""
    return [script for script in _sql.scripts("adopt") if timescale or not script.for_timescale]


def examine(
    connection: psycopg.Connection[Any],
    existing: Existing,
    *,
    timescale: bool,
    hypertables: bool,
    aggregates: bool = False,
    citus: bool = False,
) -> tuple[list[str], list[str]]:
    """What stops the adoption, and what is to be known of it; each a sentence. Changes nothing; reads the table.

    Args:
        connection: To the database.
        existing: What :func:`look` found.
        timescale: The tables become hypertables.
        hypertables: They may be already: the extension is there.
        aggregates: Sums by hour become a continuous aggregate.
        citus: The tables are distributed by query_id.
    """
    stops = [*_wrong_tables(existing), *_wrong_columns(connection, existing), *_in_the_way(connection)]
    if timescale:
        stops += _for_timescale(connection, hypertables=hypertables, aggregates=aggregates)
    if citus:
        stops += _for_citus(connection)
    for table in (_RUNS, _SAVINGS):
        if {"query_id", "run_id"} <= set(existing.columns.get(table, ())):
            if twice := _of_table(connection, "adopt_twice", table):
                stops.append(f"{table} has more than one row for {twice:,} runs: leave one of each")
            if keyless := _of_table(connection, "adopt_keyless", table):
                stops.append(f"{table} has {keyless:,} rows without query_id or run_id: fill them in, or delete them")
    if not stops and (doubled := _rows(connection, "adopt_doubled")[0][0]):
        stops.append(
            f"{doubled:,} calls are in {_CALLS} more than once, with the same query_id, run_id, time and "
            "interaction_id: leave one of each"
        )
    return stops, [] if stops else _notes(connection, existing)


def _in_the_way(connection: psycopg.Connection[Any]) -> list[str]:
    """What stands in the way on every engine: keys to and from other tables, names that are taken, heirs."""
    stops = [
        f"foreign key {name!r} of table {table} points at {target}, whose key changes: drop it"
        for name, table, target in _rows(connection, "adopt_incoming")
    ]
    stops += [
        f"foreign key {name!r} of {table} points at {target}, which new calls and runs are not listed in, and would be "
        "refused: drop it"
        for name, table, columns, target in _rows(connection, "adopt_outgoing")
        if set(columns) & set(_TYPES[table])
    ]
    stops += [
        f"the name {name} is taken" + (f" by an index of {table}" if table else "") + ": rename what has it"
        for name, table in _rows(connection, "adopt_names")
    ]
    stops += [
        f"table {name} inherits from {parent}, which has no key over both: undo that (ALTER TABLE … NO INHERIT)"
        for name, parent, is_child in _rows(connection, "adopt_heirs")
        if not is_child
    ]
    return stops


def _for_timescale(connection: psycopg.Connection[Any], *, hypertables: bool, aggregates: bool) -> list[str]:
    stops = [
        f"unique index {name} of {table} lacks the column {column}, without which TimescaleDB refuses it: drop it"
        for name, table, column in _rows(connection, "adopt_unique")
    ]
    stops += _leaning(connection, "TimescaleDB", citus=False)
    stops += _inheriting(connection, "TimescaleDB")
    divided = _rows(connection, "adopt_partitions") if hypertables else []
    wanted = {_CALLS: {"time"}, _RUNS: {"query_id", "run_id"}, _SAVINGS: {"query_id", "run_id"}}
    stops += [
        f"{name} is a hypertable over {column}, expected {' or '.join(sorted(wanted[name]))}: rename it"
        for name, column in divided
        if column not in wanted[name]
    ]
    already = {name for name, _ in divided}
    stops += [
        _UNFIT[what].format(table=table, name=unfit)
        for name, table, what, unfit in _rows(connection, "adopt_unfit")
        if (aggregates if what == "row security" else name not in already)
    ]
    return stops


def _for_citus(connection: psycopg.Connection[Any]) -> list[str]:
    stops = [
        _UNDISTRIBUTABLE[what].format(table=table, name=name)
        for table, what, name in _rows(connection, "adopt_undistributable")
    ]
    return [*stops, *_inheriting(connection, "Citus"), *_leaning(connection, "Citus", citus=True)]


def _inheriting(connection: psycopg.Connection[Any], engine: str) -> list[str]:
    return [
        f"{name} inherits from {parent}, which {engine} refuses: undo that (ALTER TABLE … NO INHERIT)"
        for name, parent, is_child in _rows(connection, "adopt_heirs")
        if is_child
    ]


def _leaning(connection: psycopg.Connection[Any], engine: str, *, citus: bool) -> list[str]:
    return [
        f"view {view} leans on the primary key {key}, which {engine} refuses: it makes way. Drop the view, "
        "make it again afterwards with all that it shows in its GROUP BY"
        for view, key in _rows(connection, "adopt_leaning", citus=citus)
    ]


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
    for table, ours in _TYPES.items():
        found = existing.columns.get(table, {})
        for column, kind in found.items():
            wanted = ours.get(column)
            accepted = _MILLISECONDS if column.endswith("_ms") else _ACCEPTED.get(wanted or "")
            if wanted is not None and accepted is not None and kind not in accepted:
                stops.append(_of_type(connection, table, column, kind, accepted, wanted))
        if found and table != _CALLS:
            stops += [
                f"{table} has no column {column}: rename the table" for column in _KEY_TYPES if column not in found
            ]
        stops += [
            f"{table}.{column} is computed by the database, where this library fills it: make it an ordinary "
            "column (ALTER COLUMN … DROP EXPRESSION)"
            for column in sorted(existing.generated.get(table, set()) & set(ours))
        ]
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
    notes += [
        f"{_CALLS} belongs to {owner}, and what is made beside it would be {role}'s: better run this as {owner}, or "
        "grant what schema/roles.sql does"
        for owner, role in _rows(connection, "adopt_owner")
    ]
    notes += [
        f"column {name} stays {kind}, as {leaning} leans on it: a call whose value does not fit is refused then"
        for name, kind, leaning in _rows(connection, "adopt_kept")
        if name in COLUMN_TYPES
    ]
    notes += [
        f"constraint {name} of {table} stays: a call or run that it does not allow is refused. It says {says}"
        for name, table, says in _rows(connection, "adopt_checks")
    ]
    return notes


def _of_table(connection: psycopg.Connection[Any], name: str, table: str) -> int:
    return int(_fetch(connection, sql.SQL(_sql.query(name)).format(table=sql.Identifier(table)))[0][0])


def _rows(connection: psycopg.Connection[Any], name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    return _fetch(connection, sql.SQL(_sql.query(name)), parameters)


def _fetch(
    connection: psycopg.Connection[Any], statement: sql.SQL | sql.Composed, parameters: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(statement, parameters or None).fetchall()
