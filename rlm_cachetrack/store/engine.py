"""Detect the engine of a database: plain PostgreSQL, TimescaleDB or Citus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from . import named_sql as _sql


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine of one database.

    Attributes:
        server_version: PostgreSQL's version, such as ``18.6``.
        timescale: Version of the TimescaleDB extension in this database, None without it.
        timescale_licence: ``timescale`` (community) or ``apache``; None without the extension.
        citus: Version of the Citus extension, None without it. If the database has both extensions, only the one that
            our tables use, or will use, is set: a table cannot belong to both.
        timescale_missing: The server has loaded TimescaleDB, but this database lacks the extension, which migrating
            creates.
        unused: Name and version of the other extension, which is not used; None if there is none.
    """

    server_version: str
    timescale: str | None = None
    timescale_licence: str | None = None
    citus: str | None = None
    timescale_missing: bool = False
    unused: str | None = None

    @property
    def name(self) -> str:
        """Display name: ``TimescaleDB 2.28.0 on PostgreSQL 15.8`` or ``PostgreSQL 18.6``."""
        base = f"PostgreSQL {self.server_version}"
        if self.timescale:
            edition = ", Apache edition" if self.timescale_licence == "apache" else ""
            return f"TimescaleDB {self.timescale}{edition} on {base}"
        return f"Citus {self.citus} on {base}" if self.citus else base


def detect(connection: psycopg.Connection[Any]) -> Engine:
    """Return the engine of the connected database. Changes nothing; blocks for one or two queries."""
    version, timescale, citus, licence, loaded, available = fetch(connection, "engine")[0]
    unused = None
    if timescale and citus:
        if ("citus", 1) in applied(connection):
            timescale, unused = None, f"TimescaleDB {timescale}"
        else:
            citus, unused = None, f"Citus {citus}"
    return Engine(
        server_version=version,
        timescale=timescale,
        timescale_licence=licence if timescale else None,
        citus=citus,
        timescale_missing=bool(loaded and available and not (timescale or citus)),
        unused=unused,
    )


def applied(connection: psycopg.Connection[Any]) -> dict[tuple[str, int], tuple[str, str]]:
    """Return the scripts that were applied to this database: (engine, version) to (name, checksum)."""
    if not fetch(connection, "migrations_exist")[0][0]:
        return {}
    return {(row[0], row[1]): (row[2], row[3]) for row in fetch(connection, "migrations_applied")}


def fetch(connection: psycopg.Connection[Any], name: str) -> list[tuple[Any, ...]]:
    """Run a named query without parameters and return all rows as tuples."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(_sql.query(name)).fetchall()
