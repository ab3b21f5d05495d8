"""Brings the schema up to date: lock, checksum, apply, and find out which engine it is.

Every script runs in a transaction of its own, together with the row that says it ran, under an advisory lock that ends
with the transaction: several processes may migrate at once, also through a transaction-pooling PgBouncer, and a script
that fails leaves nothing behind. Scripts go forward only; an edited one is an error.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from . import _sql
from .errors import MigrationError, SchemaTooNewError

__all__ = ["Engine", "describe", "detect", "migrate", "pending"]

# Any fixed number will do, as long as every release uses the same one.
_ADVISORY_LOCK = 0x726C6D63  # "rlmc"


@dataclass(frozen=True, slots=True)
class Engine:
    """What a server is.

    Attributes:
        server_version: PostgreSQL's version, as ``18.6``.
        timescale: Version of the TimescaleDB extension in this database, None without it.
        timescale_licence: ``timescale`` (community) or ``apache``; None without the extension.
        citus: Version of the Citus extension, None without it.
        timescale_missing: The server has loaded TimescaleDB, but this database lacks the extension.
    """

    server_version: str
    timescale: str | None
    timescale_licence: str | None
    citus: str | None
    timescale_missing: bool = False

    @property
    def name(self) -> str:
        """For people: ``TimescaleDB 2.28.0 on PostgreSQL 15.8`` or ``PostgreSQL 18.6``."""
        base = f"PostgreSQL {self.server_version}"
        if self.timescale:
            edition = "" if self.timescale_licence == "timescale" else ", Apache edition"
            return f"TimescaleDB {self.timescale}{edition} on {base}"
        return f"Citus {self.citus} on {base}" if self.citus else base


def detect(connection: psycopg.Connection[Any]) -> Engine:
    """Ask the server what it is. Changes nothing."""
    row = _fetch(connection, "engine")[0]
    return Engine(
        server_version=row[0],
        timescale=row[1],
        timescale_licence=row[3] if row[1] else None,
        citus=row[2],
        timescale_missing=bool(row[4] and row[5] and not row[1]),
    )


def migrate(connection: psycopg.Connection[Any]) -> list[str]:
    """Apply what is pending and return its labels. Blocks until other processes that migrate are done.

    Args:
        connection: In autocommit mode.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited, or tables of the same name are not ours.
    """
    try:
        return _migrate(connection)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MigrationError(_not_allowed(connection, exc)) from exc


def _migrate(connection: psycopg.Connection[Any]) -> list[str]:
    applied: list[str] = []
    if not _applied(connection):
        _create_extension_if_missing(connection)
    while todo := pending(connection):
        script = todo[0]
        with connection.transaction():
            connection.execute(_sql.query("migrations_lock"), {"lock": _ADVISORY_LOCK})
            connection.execute(_sql.query("migrations_create"))
            if (script.engine, script.version) in _applied(connection):
                continue  # another process was faster
            if script.engine == "core" and script.version == 1:
                _refuse_foreign_tables(connection)
            if script.engine == "timescale":
                connection.execute(_sql.query("timescale_search_path"))
            connection.execute(script.sql)
            connection.execute(
                _sql.query("migrations_insert"),
                {
                    "engine": script.engine,
                    "version": script.version,
                    "name": script.name,
                    "checksum": script.checksum,
                },
            )
        applied.append(script.label)
    return applied


def _not_allowed(connection: psycopg.Connection[Any], exc: psycopg.Error) -> str:
    role = connection.info.user
    said = f"{exc.diag.message_primary or exc}"
    try:
        labels = ", ".join(script.label for script in pending(connection))
    except psycopg.errors.InsufficientPrivilege:
        return (
            f"role {role!r} may not look at the tables: {said}. Run schema/roles.sql as their owner and make the role "
            "a member of rlm_cachetrack_writer or rlm_cachetrack_reader; nothing was changed"
        )
    return (
        f"role {role!r} may not bring the schema up to date: {said}. Pending: {labels}. "
        "Run `rlm-cachetrack migrate` as the owner of the tables; nothing was changed"
    )


def pending(connection: psycopg.Connection[Any]) -> list[_sql.Script]:
    """The scripts still to be applied to this database, in order. Changes nothing.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited.
    """
    applied = _applied(connection)
    wanted = _wanted(detect(connection))
    known = {(s.engine, s.version): s for engine in ("core", "timescale", "citus") for s in _sql.scripts(engine)}
    for (engine, version), (name, checksum) in sorted(applied.items()):
        script = known.get((engine, version))
        if script is None:
            raise SchemaTooNewError(
                f"the database was migrated by a newer release (it has {engine}/{version:04d}_{name}, unknown here): "
                "upgrade this library with `pip install -U rlm_cachetrack`; nothing was changed"
            )
        if script.checksum != checksum:
            raise MigrationError(
                f"{script.label} was edited after it was applied to this database: install the released file again; "
                "nothing was changed"
            )
    return [script for script in wanted if (script.engine, script.version) not in applied]


def describe(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Engine, applied and pending migrations; for ``doctor``. Changes nothing."""
    engine = detect(connection)
    applied = _applied(connection)
    return {
        "engine": engine.name,
        "server_version": engine.server_version,
        "timescaledb": engine.timescale,
        "timescaledb_licence": engine.timescale_licence,
        "citus": engine.citus,
        "migrations_applied": [f"{e}/{v:04d}_{name}" for (e, v), (name, _) in sorted(applied.items())],
        **_outlook(connection),
    }


def _outlook(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    try:
        return {"migrations_pending": [script.label for script in pending(connection)], "schema_error": None}
    except MigrationError as exc:
        return {"migrations_pending": [], "schema_error": str(exc)}


def _wanted(engine: Engine) -> list[_sql.Script]:
    scripts = list(_sql.scripts("core"))
    if engine.timescale:
        community = engine.timescale_licence == "timescale"
        scripts += [s for s in _sql.scripts("timescale") if community or not s.needs_community_licence]
    return sorted(scripts, key=lambda s: (s.version, s.engine != "core"))


def _applied(connection: psycopg.Connection[Any]) -> dict[tuple[str, int], tuple[str, str]]:
    if not _fetch(connection, "migrations_exist")[0][0]:
        return {}
    return {(row[0], row[1]): (row[2], row[3]) for row in _fetch(connection, "migrations_applied")}


def _create_extension_if_missing(connection: psycopg.Connection[Any]) -> None:
    """A server that has loaded TimescaleDB was set up for it; the database may only lack the extension."""
    if not detect(connection).timescale_missing:
        return
    with contextlib.suppress(
        psycopg.errors.InsufficientPrivilege,  # not ours to create: plain tables then
        psycopg.errors.UniqueViolation,  # another process was faster
        psycopg.errors.DuplicateObject,
    ):
        connection.execute(_sql.query("timescale_extension"))


def _refuse_foreign_tables(connection: psycopg.Connection[Any]) -> None:
    if rows := _fetch(connection, "foreign_tables"):
        names = ", ".join(row[0] for row in rows)
        raise MigrationError(
            f"the database has tables of these names that this library did not make: {names}. "
            "Name another database or schema (…?options=-csearch_path%3Dcachetrack); nothing was changed"
        )


def _fetch(connection: psycopg.Connection[Any], name: str) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(_sql.query(name)).fetchall()
