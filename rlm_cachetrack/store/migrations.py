"""Brings the schema up to date: lock, checksum, apply, and find out which engine it is.

Every script runs in a transaction of its own, together with the row that says it ran, under an advisory lock that ends
with the transaction: several processes may migrate at once, also through a transaction-pooling PgBouncer, and a script
that fails leaves nothing behind. Scripts go forward only; an edited one is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import tenacity
from psycopg.rows import tuple_row

from rlm_cachetrack.errors import MigrationError, SchemaTooNewError

from . import named_sql as _sql
from . import upgrade as adoption

__all__ = ["Engine", "Plan", "Progress", "as_sql", "describe", "detect", "migrate", "pending", "plan", "scripts_for"]

Progress = Callable[[str, int, int], None]
"""Called before a step with its label, its number from 1, and how many there are."""

# Any fixed number will do, as long as every release uses the same one.
_ADVISORY_LOCK = 0x726C6D63  # "rlmc"


@dataclass(frozen=True, slots=True)
class Engine:
    """What a server is.

    Attributes:
        server_version: PostgreSQL's version, as ``18.6``.
        timescale: Version of the TimescaleDB extension in this database, None without it.
        timescale_licence: ``timescale`` (community) or ``apache``; None without the extension.
        citus: Version of the Citus extension, None without it. Of both extensions in one database the one that has our
            tables, or will: no table can be of both.
        timescale_missing: The server has loaded TimescaleDB, but this database lacks the extension, which migrating
            creates.
        beside: The other extension in this database, which is left alone; None where there is none.
    """

    server_version: str
    timescale: str | None
    timescale_licence: str | None
    citus: str | None
    timescale_missing: bool = False
    beside: str | None = None

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
    version, timescale, citus, licence, loaded, offered = _fetch(connection, "engine")[0]
    beside = None
    if timescale and citus:
        if ("citus", 1) in _applied(connection):
            timescale, beside = None, f"TimescaleDB {timescale}"
        else:
            citus, beside = None, f"Citus {citus}"
    return Engine(
        server_version=version,
        timescale=timescale,
        timescale_licence=licence if timescale else None,
        citus=citus,
        timescale_missing=bool(loaded and offered and not (timescale or citus)),
        beside=beside,
    )


def migrate(connection: psycopg.Connection[Any], *, adopt: bool = False, progress: Progress | None = None) -> list[str]:
    """Apply what is pending and return its labels. Blocks until other processes that migrate are done.

    Args:
        connection: In autocommit mode.
        adopt: Whether to take over a table of calls that was there before this library. A step that is interrupted is
            rolled back; migrating again goes on with it.
        progress: Told before every step.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited, tables of the same name are not ours, or something stops their
            adoption; nothing was changed then.
    """
    try:
        return _migrate(connection, adopt, progress)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MigrationError(_not_allowed(connection, exc)) from exc


@dataclass(frozen=True, slots=True)
class Plan:
    """What migrating would do.

    Attributes:
        scripts: What would be applied, in order.
        extension: Whether TimescaleDB's extension would be created before.
        stops: Why a table of calls that was there before cannot be taken over; a sentence each.
        notes: What is to be known of taking it over; a sentence each.
    """

    scripts: list[_sql.Script]
    extension: bool
    stops: list[str]
    notes: list[str]


def plan(connection: psycopg.Connection[Any]) -> Plan:
    """What :func:`migrate` would do. Changes nothing; reads a table that is to be taken over, and blocks for that.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited, tables of the same name are not ours, or this role may not look.
    """
    try:
        return _plan(connection)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MigrationError(_not_allowed(connection, exc)) from exc


def _plan(connection: psycopg.Connection[Any]) -> Plan:
    todo, extension = pending(connection), _creates_extension(connection)
    if not any(script.engine == "adopt" for script in todo):
        if any((script.engine, script.version) == ("core", 1) for script in todo):
            _refuse_foreign_tables(connection)
        return Plan(todo, extension, [], [])
    engine = detect(connection)
    here = engine.timescale is not None
    with connection.transaction():
        connection.execute(_sql.query("migrations_patience"))
        stops, notes = adoption.examine(
            connection,
            adoption.look(connection),
            timescale=here or extension,
            hypertables=here,
            aggregates=any(script.needs_community_licence for script in todo),
            citus=engine.citus is not None,
        )
    return Plan(todo, extension, stops, notes)


def as_sql(scripts: Iterable[_sql.Script], *, extension: bool = False) -> str:
    """The very SQL by which scripts are applied, with the rows that say so; for people who run it themselves.

    Args:
        scripts: In order.
        extension: Whether TimescaleDB's extension is created before.
    """
    todo = list(scripts)
    steps = [f"-- ==== extension\n{_sql.query('timescale_extension')}"] if extension else []
    for number, script in enumerate(todo):
        said = [(script.engine, script.version, script.name, script.checksum), *_made_by_adoption(todo[number:])]
        rows = "".join(_inserted(*one) for one in said)
        path = _sql.query("timescale_search_path") if script.engine in _ON_TIMESCALE else ""
        steps.append(
            f"-- ==== {script.label}\nBEGIN;\n"
            + _sql.query("migrations_patience")
            + _sql.query("migrations_lock").replace("%(lock)s", str(_ADVISORY_LOCK))
            + _sql.query("migrations_create")
            + path
            + f"\n{script.sql}\n"
            + f"{rows}COMMIT;\n"
        )
    return "\n".join(steps)


_ON_TIMESCALE = ("timescale", "adopt")


def _inserted(engine: str, version: int, name: str, checksum: str) -> str:
    text = _sql.query("migrations_insert").replace("%(version)s", str(version))
    for key, value in (("engine", engine), ("name", name), ("checksum", checksum)):
        text = text.replace(f"%({key})s", f"'{value}'")
    return text


def _made_by_adoption(todo: Sequence[_sql.Script]) -> list[tuple[str, int, str, str]]:
    """With the last step of an adoption: the scripts that would have made the tables, which are not to be applied."""
    if todo[0].engine != "adopt" or any(script.engine == "adopt" for script in todo[1:]):
        return []
    made = [_sql.scripts("core")[0]]
    if todo[0].for_timescale:
        made.append(_sql.scripts("timescale")[0])
    return [(one.engine, one.version, one.name, one.checksum) for one in made]


def _apply(connection: psycopg.Connection[Any], todo: Sequence[_sql.Script]) -> bool:
    """Apply the first of these, in one transaction; whether it was not applied by another process before."""
    script = todo[0]
    with connection.transaction():
        connection.execute(_sql.query("migrations_patience"))
        connection.execute(_sql.query("migrations_lock"), {"lock": _ADVISORY_LOCK})
        connection.execute(_sql.query("migrations_create"))
        if (script.engine, script.version) in _applied(connection):
            return False
        if script.engine == "core" and script.version == 1:
            _refuse_foreign_tables(connection)
        if script.engine in _ON_TIMESCALE:
            connection.execute(_sql.query("timescale_search_path"))
        for statement in script.statements:
            connection.execute(statement)
        said = [(script.engine, script.version, script.name, script.checksum), *_made_by_adoption(todo)]
        for engine, version, name, checksum in said:
            values = {"engine": engine, "version": version, "name": name, "checksum": checksum}
            connection.execute(_sql.query("migrations_insert"), values)
    return True


def _is_in_the_way(exc: BaseException) -> bool:
    """Whether a background job of TimescaleDB was at the same object; the step is rolled back, and tried again."""
    return isinstance(exc, (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)) or (
        isinstance(exc, psycopg.errors.InternalError_) and "concurrently" in str(exc)
    )


_again_where_in_the_way = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_is_in_the_way),
    wait=tenacity.wait_random_exponential(0.2, max=5),
    stop=tenacity.stop_after_attempt(6),
    reraise=True,
)


def _migrate(connection: psycopg.Connection[Any], adopt: bool, progress: Progress | None) -> list[str]:
    applied: list[str] = []
    if any(script.engine == "adopt" for script in pending(connection)):
        _allow_adoption(connection, adopt)  # before any change
    if _creates_extension(connection):
        _create_extension(connection)
    while todo := pending(connection, detect(connection)):
        script = todo[0]
        if script.engine == "adopt" and not adopt:  # the table came meanwhile
            _allow_adoption(connection, adopt)
        if progress is not None:
            progress(script.label, len(applied) + 1, len(applied) + len(todo))
        if _again_where_in_the_way(_apply, connection, todo):
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


def pending(connection: psycopg.Connection[Any], engine: Engine | None = None) -> list[_sql.Script]:
    """The scripts still to be applied to this database, in order. Changes nothing.

    Args:
        connection: To the database.
        engine: What it is; by default as it is once migrating has created the extension that it lacks.

    Raises:
        SchemaTooNewError: The database was migrated by a newer release.
        MigrationError: A released script was edited.
    """
    applied = _applied(connection)
    if engine is None:
        engine = detect(connection)
        if _creates_extension(connection):
            licence = _fetch(connection, "engine")[0][3] or "timescale"
            engine = replace(engine, timescale="to be created", timescale_licence=licence)
    known = {(s.engine, s.version): s for one in _ENGINES for s in _sql.scripts(one)}
    for (one, version), (name, checksum) in sorted(applied.items()):
        script = known.get((one, version))
        if script is None:
            raise SchemaTooNewError(
                f"the database was migrated by a newer release (it has {one}/{version:04d}_{name}, unknown here): "
                "upgrade this library with `pip install -U rlm_cachetrack`; nothing was changed"
            )
        if script.checksum != checksum:
            raise MigrationError(
                f"{script.label} was edited after it was applied to this database: install the released file again; "
                "nothing was changed"
            )
    existing = ("core", 1) not in applied and (
        any(one == "adopt" for one, _ in applied)
        # Looked at again afterwards: another process may have made the tables meanwhile.
        or (adoption.look(connection).adoptable and ("core", 1) not in _applied(connection))
    )
    wanted = scripts_for(engine, existing=existing)
    return [script for script in wanted if (script.engine, script.version) not in applied]


_ENGINES = ("core", "timescale", "citus", "adopt")


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
        "extension_beside": engine.beside,
        "migrations_applied": [f"{e}/{v:04d}_{name}" for (e, v), (name, _) in sorted(applied.items())],
        **_outlook(connection),
    }


def _outlook(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    try:
        todo = pending(connection)
        refused = _not_taken_over(connection) if any(script.engine == "adopt" for script in todo) else None
        return {"migrations_pending": [script.label for script in todo], "schema_error": refused}
    except MigrationError as exc:
        return {"migrations_pending": [], "schema_error": str(exc)}


def scripts_for(engine: Engine, *, existing: bool = False) -> list[_sql.Script]:
    """Every script for a database that was never migrated, in order.

    Args:
        engine: What its server is.
        existing: It has a table of calls from before, which is taken over.
    """
    wanted = _wanted(engine)
    if not existing:
        return wanted
    made = {("core", 1), ("timescale", 1)}  # by the adoption
    taken = adoption.steps(timescale=engine.timescale is not None)
    return [*taken, *(script for script in wanted if (script.engine, script.version) not in made)]


def _wanted(engine: Engine) -> list[_sql.Script]:
    scripts = list(_sql.scripts("core"))
    if engine.timescale:
        community = engine.timescale_licence == "timescale"
        scripts += [s for s in _sql.scripts("timescale") if community or not s.needs_community_licence]
    if engine.citus:
        scripts += _sql.scripts("citus")
    return sorted(scripts, key=lambda s: (s.version, s.engine != "core"))


def _applied(connection: psycopg.Connection[Any]) -> dict[tuple[str, int], tuple[str, str]]:
    if not _fetch(connection, "migrations_exist")[0][0]:
        return {}
    return {(row[0], row[1]): (row[2], row[3]) for row in _fetch(connection, "migrations_applied")}


def _creates_extension(connection: psycopg.Connection[Any]) -> bool:
    """A server that has loaded TimescaleDB was set up for it; a database that was never migrated may only lack it."""
    return not _applied(connection) and detect(connection).timescale_missing


def _create_extension(connection: psycopg.Connection[Any]) -> None:
    with contextlib.suppress(
        psycopg.errors.InsufficientPrivilege,  # not ours to create: plain tables then
        psycopg.errors.UniqueViolation,  # another process was faster
        psycopg.errors.DuplicateObject,
    ):
        connection.execute(_sql.query("timescale_extension"))


def _allow_adoption(connection: psycopg.Connection[Any], adopt: bool) -> None:
    if not adopt:
        raise MigrationError(_not_taken_over(connection))
    stops = plan(connection).stops
    if stops:
        said = "; ".join(stops)
        raise MigrationError(f"the tables that are there cannot be taken over: {said}. Nothing was changed")


def _not_taken_over(connection: psycopg.Connection[Any]) -> str:
    names = ", ".join(adoption.look(connection).names)
    return (
        f"the database has tables of these names that this library did not make: {names}. `rlm-cachetrack migrate` "
        "takes them over in place and keeps every row (`--dry-run` shows how); or name another database or schema "
        "(…?options=-csearch_path%3Dcachetrack); nothing was changed"
    )


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
