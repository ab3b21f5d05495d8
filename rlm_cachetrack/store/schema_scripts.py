"""Select the schema scripts for an engine, and print them as one file for psql."""

from __future__ import annotations

from collections.abc import Iterable

from . import named_sql as _sql
from .engine import Engine

# Serializes migrating processes. The number is arbitrary, but must be the same in every release.
ADVISORY_LOCK = 0x726C6D63  # "rlmc"

# The oldest supported version of each engine.
_ENGINES: dict[str, tuple[Engine, str]] = {
    "postgresql": (Engine("15"), "PostgreSQL 15 or newer"),
    "timescaledb": (
        Engine("15", timescale="2.18", timescale_licence="timescale"),
        "TimescaleDB 2.18 or newer, community edition",
    ),
    "citus": (Engine("15", citus="12"), "the coordinator of a cluster with Citus 12 or newer"),
}
_HEADER = """\
-- The complete schema of rlm_cachetrack for an empty database: {requirement}.
-- Printed by `rlm-cachetrack migrate --print-sql --engine {engine}`. Run it as the future owner of the tables:
--   psql -v ON_ERROR_STOP=1 -f schema.sql DATABASE_URL
-- Each step is one transaction that also records that it was applied, so the library has nothing left to migrate.
-- For a database that already has tables, use `rlm-cachetrack migrate --dry-run --db-url DATABASE_URL` instead.

"""


def scripts_for(engine: Engine, *, upgrade: bool = False) -> list[_sql.Script]:
    """Return every script for a database that was never migrated, in order.

    Args:
        engine: The engine of the database.
        upgrade: The database has legacy tables, which the scripts of ``schema/upgrade`` prepare first.
    """
    scripts = list(_sql.scripts("core"))
    if engine.timescale:
        is_community = engine.timescale_licence == "timescale"
        scripts += [s for s in _sql.scripts("timescale") if is_community or not s.needs_community_licence]
    if engine.citus:
        scripts += _sql.scripts("citus")
    if not engine.timescale and not engine.citus:
        scripts += _sql.scripts("postgresql")
    scripts.sort(key=lambda script: (script.version, script.engine != "core"))
    return [*_sql.scripts("upgrade"), *scripts] if upgrade else scripts


def as_sql(scripts: Iterable[_sql.Script], *, create_extension: bool = False) -> str:
    """Return the exact SQL that applies these scripts, and records that they were applied.

    Args:
        scripts: In order.
        create_extension: Create TimescaleDB's extension first.
    """
    steps = [f"-- ==== extension\n{_sql.query('timescale_extension')}"] if create_extension else []
    for script in scripts:
        search_path = _sql.query("timescale_search_path") if needs_timescale_search_path(script) else ""
        steps.append(
            f"-- ==== {script.label}\nBEGIN;\n"
            + _sql.query("migrations_patience")
            + _sql.query("migrations_lock").replace("%(lock)s", str(ADVISORY_LOCK))
            + _sql.query("migrations_create")
            + search_path
            + f"\n{script.sql}\n"
            + _insert_statement(script)
            + "COMMIT;\n"
        )
    return "\n".join(steps)


def complete_sql(engine: str) -> str:
    """Return one SQL file that creates the complete schema in an empty database. Connects to no database.

    Args:
        engine: ``postgresql``, ``timescaledb`` (community edition) or ``citus``.
    """
    known, requirement = _ENGINES[engine]
    header = _HEADER.format(engine=engine, requirement=requirement)
    return header + as_sql(scripts_for(known), create_extension=engine == "timescaledb")


def needs_timescale_search_path(script: _sql.Script) -> bool:
    """Return True if the script calls functions of TimescaleDB, which may be in a schema that is not searched."""
    return script.engine in ("timescale", "upgrade")


def _insert_statement(script: _sql.Script) -> str:
    text = _sql.query("migrations_insert").replace("%(version)s", str(script.version))
    for name in ("engine", "name", "checksum"):
        text = text.replace(f"%({name})s", f"'{getattr(script, name)}'")
    return text
