"""Bring the schema of a database up to date, and report what is applied and pending.

Each script runs in its own transaction, together with the row that records it, under an advisory lock that ends with
the transaction. Several processes may migrate at once, also through a PgBouncer in transaction mode, and a script that
fails changes nothing. There are no down migrations. A script that was edited after it was applied is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from rlm_cachetrack.errors import MigrationError, SchemaTooNewError

from . import named_sql as _sql
from . import upgrade as _upgrade
from .conflicts import retry_on_conflict
from .engine import Engine, applied, detect, fetch
from .schema_scripts import ADVISORY_LOCK, as_sql, needs_timescale_search_path, scripts_for

Progress = Callable[[str, int, int], None]
"""Called before each step with its label, its number (from 1), and the number of steps."""

_FOLDERS = ("core", "postgresql", "timescale", "citus", "upgrade")
_OTHER_SCHEMA = "use another database or schema (…?options=-csearch_path%3Dcachetrack)"


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that :func:`migrate` would take.

    Attributes:
        scripts: Scripts that would be applied, in order.
        create_extension: TimescaleDB's extension would be created first.
        problems: Why the legacy tables cannot be upgraded, one sentence each.
        notes: What the user should know about their upgrade, one sentence each.
    """

    scripts: list[_sql.Script]
    create_extension: bool
    problems: list[str]
    notes: list[str]

    @property
    def sql(self) -> str:
        """The exact SQL of the scripts; empty if nothing is pending."""
        return as_sql(self.scripts, create_extension=self.create_extension)


def migrate(
    connection: psycopg.Connection[Any], *, upgrade: bool = False, progress: Progress | None = None
) -> list[str]:
    """Apply the pending scripts and return their labels. Blocks until other migrating processes are done.

    Args:
        connection: In autocommit mode.
        upgrade: Upgrade legacy tables in place. An interrupted step is rolled back; the next call continues with it.
        progress: Called before each step.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited, or existing tables were not created by rlm_cachetrack and cannot
            or may not be upgraded. Nothing was changed.
    """
    try:
        return _migrate(connection, upgrade, progress)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MigrationError(_privilege_message(connection, exc)) from exc


def plan(connection: psycopg.Connection[Any]) -> Plan:
    """Return the steps that :func:`migrate` would take. Changes nothing; blocks while legacy tables are read.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited, existing tables were not created by rlm_cachetrack, or this role
            may not read them.
    """
    try:
        return _plan(connection)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MigrationError(_privilege_message(connection, exc)) from exc


def pending(connection: psycopg.Connection[Any], engine: Engine | None = None) -> list[_sql.Script]:
    """Return the scripts still to be applied to this database, in order. Changes nothing.

    Args:
        connection: To the database.
        engine: Its engine. By default it is detected, as if the extension that a migration creates existed.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited.
    """
    done = applied(connection)
    _check_applied(done)
    engine = engine or _future_engine(connection)
    is_upgrade = ("core", 1) not in done and (
        any(folder == "upgrade" for folder, _ in done)
        # Checked again here: another process may have created the tables meanwhile.
        or (_upgrade.find_existing(connection).is_upgradable and ("core", 1) not in applied(connection))
    )
    scripts = scripts_for(engine, upgrade=is_upgrade)
    return [script for script in scripts if (script.engine, script.version) not in done]


def describe(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return engine, applied and pending migrations, for ``doctor``. Changes nothing."""
    engine = detect(connection)
    try:
        scripts = pending(connection)
        error = _upgrade_message(connection) if _has_upgrade(scripts) else None
    except MigrationError as exc:
        scripts, error = [], str(exc)
    done = sorted(applied(connection).items())
    return {
        "engine": engine.name,
        "server_version": engine.server_version,
        "timescaledb": engine.timescale,
        "timescaledb_licence": engine.timescale_licence,
        "citus": engine.citus,
        "unused_extension": engine.unused,
        "migrations_applied": [f"{folder}/{version:04d}_{name}" for (folder, version), (name, _) in done],
        "migrations_pending": [script.label for script in scripts],
        "schema_error": error,
    }


# -- planning and applying --------------------------------------------------------------------------------------------


def _plan(connection: psycopg.Connection[Any]) -> Plan:
    scripts, create_extension = pending(connection), _creates_extension(connection)
    if not _has_upgrade(scripts):
        if any((script.engine, script.version) == ("core", 1) for script in scripts):
            _refuse_foreign_tables(connection)
        return Plan(scripts, create_extension, [], [])
    engine = detect(connection)
    if engine.citus:
        return Plan(scripts, create_extension, [_upgrade_message(connection)], [])
    with connection.transaction():
        connection.execute(_sql.query("migrations_patience"))
        problems, notes = _upgrade.examine(
            connection,
            _upgrade.find_existing(connection),
            timescale=engine.timescale is not None or create_extension,
            has_extension=engine.timescale is not None,
            has_aggregates=any(script.needs_community_licence for script in scripts),
        )
    return Plan(scripts, create_extension, problems, notes)


def _migrate(connection: psycopg.Connection[Any], upgrade: bool, progress: Progress | None) -> list[str]:
    labels: list[str] = []
    if _has_upgrade(pending(connection)):
        _check_upgrade(connection, upgrade)  # before anything is changed
    if _creates_extension(connection):
        _create_extension(connection)
    while scripts := pending(connection, detect(connection)):
        script = scripts[0]
        if script.engine == "upgrade" and not upgrade:  # legacy tables that another program created meanwhile
            _check_upgrade(connection, upgrade)
        if progress is not None:
            progress(script.label, len(labels) + 1, len(labels) + len(scripts))
        if retry_on_conflict(_apply, connection, script):
            labels.append(script.label)
    return labels


def _apply(connection: psycopg.Connection[Any], script: _sql.Script) -> bool:
    """Apply the script in one transaction. Returns False if another process applied it first."""
    with connection.transaction():
        connection.execute(_sql.query("migrations_patience"))
        connection.execute(_sql.query("migrations_lock"), {"lock": ADVISORY_LOCK})
        connection.execute(_sql.query("migrations_create"))
        done = applied(connection)
        if (script.engine, script.version) in done:
            return False
        if (script.engine, script.version) == ("core", 1) and not any(folder == "upgrade" for folder, _ in done):
            _refuse_foreign_tables(connection)
        if needs_timescale_search_path(script):
            connection.execute(_sql.query("timescale_search_path"))
        for statement in script.statements:
            connection.execute(statement)
        values = {name: getattr(script, name) for name in ("engine", "version", "name", "checksum")}
        connection.execute(_sql.query("migrations_insert"), values)
    return True


def _check_applied(done: dict[tuple[str, int], tuple[str, str]]) -> None:
    known = {(script.engine, script.version): script for folder in _FOLDERS for script in _sql.scripts(folder)}
    for (folder, version), (name, checksum) in sorted(done.items()):
        script = known.get((folder, version))
        if script is None:
            raise SchemaTooNewError(
                f"The database was migrated by a newer release: it has {folder}/{version:04d}_{name}, which this "
                "release does not know. Upgrade this library: `pip install -U rlm_cachetrack`. Nothing was changed."
            )
        if script.checksum != checksum:
            raise MigrationError(
                f"{script.label} was edited after it was applied to this database. Install the released file again. "
                "Nothing was changed."
            )


# -- TimescaleDB's extension ------------------------------------------------------------------------------------------


def _creates_extension(connection: psycopg.Connection[Any]) -> bool:
    """Return True if the server has loaded TimescaleDB, and this new database only lacks the extension."""
    return not applied(connection) and detect(connection).timescale_missing


def _create_extension(connection: psycopg.Connection[Any]) -> None:
    with contextlib.suppress(
        psycopg.errors.InsufficientPrivilege,  # plain tables then
        psycopg.errors.UniqueViolation,  # another process was faster
        psycopg.errors.DuplicateObject,
    ):
        connection.execute(_sql.query("timescale_extension"))


def _future_engine(connection: psycopg.Connection[Any]) -> Engine:
    engine = detect(connection)
    if not _creates_extension(connection):
        return engine
    licence = fetch(connection, "engine")[0][3] or "timescale"
    return replace(engine, timescale="to be created", timescale_licence=licence)


# -- tables of other software -----------------------------------------------------------------------------------------


def _has_upgrade(scripts: list[_sql.Script]) -> bool:
    return any(script.engine == "upgrade" for script in scripts)


def _check_upgrade(connection: psycopg.Connection[Any], upgrade: bool) -> None:
    if not upgrade or detect(connection).citus:
        raise MigrationError(_upgrade_message(connection))
    if problems := plan(connection).problems:
        raise MigrationError(f"The existing tables cannot be upgraded: {'; '.join(problems)}. Nothing was changed.")


def _upgrade_message(connection: psycopg.Connection[Any]) -> str:
    """Return the message that explains how to upgrade the existing tables."""
    names = ", ".join(_upgrade.find_existing(connection).names)
    found = f"The database has existing tables not created by rlm_cachetrack: {names}."
    if detect(connection).citus:
        return (
            f"{found} On Citus they cannot be upgraded. Two steps work: (1) run `rlm-cachetrack migrate` while the "
            "database is a plain PostgreSQL, before `CREATE EXTENSION citus`; (2) create the extension, add the nodes, "
            "and run `rlm-cachetrack migrate` again, which distributes the tables. Nothing was changed."
        )
    return (
        f"{found} `rlm-cachetrack migrate` upgrades them in place and keeps every row (`--dry-run` shows how). Or "
        f"{_OTHER_SCHEMA}. Nothing was changed."
    )


def _refuse_foreign_tables(connection: psycopg.Connection[Any]) -> None:
    if rows := fetch(connection, "existing_tables"):
        names = ", ".join(row[0] for row in rows)
        raise MigrationError(
            f"The database has existing tables not created by rlm_cachetrack: {names}. Rename them, or "
            f"{_OTHER_SCHEMA}. Nothing was changed."
        )


def _privilege_message(connection: psycopg.Connection[Any], exc: psycopg.Error) -> str:
    role, cause = connection.info.user, exc.diag.message_primary or exc
    try:
        labels = ", ".join(script.label for script in pending(connection))
    except psycopg.errors.InsufficientPrivilege:
        return (
            f"Role {role!r} may not read the tables: {cause}. Run schema/roles.sql as their owner, and make the role a "
            "member of rlm_cachetrack_writer or rlm_cachetrack_reader. Nothing was changed."
        )
    return (
        f"Role {role!r} may not migrate the database: {cause}. Pending: {labels}. "
        "Run `rlm-cachetrack migrate` as the owner of the tables. Nothing was changed."
    )
