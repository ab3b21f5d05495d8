"""Writes ``schema/manual/`` anew from the migrations: ``python -m tests.support.manual_sql``."""

from __future__ import annotations

from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.migrations import Engine

PLAIN = Engine("18", None, None, None)
TIMESCALE = Engine("18", "2.28", "timescale", None)
CITUS = Engine("17", None, None, "13")
FILES = {
    "postgresql.sql": (PLAIN, False, "An empty database, PostgreSQL 15 or newer."),
    "timescaledb.sql": (TIMESCALE, False, "An empty database with TimescaleDB 2.18 or newer, community edition."),
    "citus.sql": (CITUS, False, "An empty database of a coordinator with Citus 12 or newer."),
    "adopt_postgresql.sql": (
        PLAIN,
        True,
        "A database with a table llm_interactions from before, PostgreSQL 15 or newer.",
    ),
    "adopt_timescaledb.sql": (
        TIMESCALE,
        True,
        "A database with a table llm_interactions from before, with TimescaleDB 2.18 or newer, community edition.",
    ),
    "adopt_citus.sql": (
        CITUS,
        True,
        "A database of a coordinator with a table llm_interactions from before, with Citus 12 or newer.",
    ),
}
HEAD = """-- For people who run their own migrations: what `rlm-cachetrack migrate` does, as one file of plain SQL.
--
-- {what}
-- Run it as the owner of the tables, such as: psql -v ON_ERROR_STOP=1 -f {name} DATABASE_URL
-- Each step is a transaction that also says that it ran; the library then finds nothing left to do.
-- `rlm-cachetrack migrate --dry-run` prints the same for a database as it is, and what is to be known before.
-- Made from the other folders of schema/; do not edit.

"""


def text_of(name: str) -> str:
    """What the file is to hold."""
    engine, existing, what = FILES[name]
    return HEAD.format(what=what, name=name) + migrations.as_sql(migrations.scripts_for(engine, existing=existing))


if __name__ == "__main__":
    for file in FILES:
        path = _sql.schema_dir() / "manual" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text_of(file), encoding="utf-8")
        print(path)
