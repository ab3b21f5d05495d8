"""How long calls stay in rows, and how long at all: the policies of TimescaleDB's community edition."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from rlm_cachetrack.errors import ConfigError

from . import named_sql as _sql
from .engine import detect

__all__ = ["UNCHANGED", "change", "describe"]

_SHORTEST_RETENTION: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class _Unchanged:
    """What is not said stays as it is; None turns a policy off."""


UNCHANGED: Final = _Unchanged()


def describe(connection: psycopg.Connection[Any]) -> dict[str, Any] | None:
    """How calls are kept, None where they are in a plain table. Changes nothing, blocks for some queries.

    Returns:
        ``chunk_interval``, ``chunks``, ``columnstore_chunks``, ``columnstore`` (whether it is set up), ``segment_by``,
        ``order_by``, ``columnstore_after`` and ``retention_after`` (timedelta, None where off), ``hourly``
        (``continuous aggregate`` or ``view``), ``hourly_every``, and ``limits``: what this edition lacks, None where
        nothing is.
    """
    engine = detect(connection)
    if engine.timescale is None:
        return None
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_sql.query("timescale_policies")).fetchone()
    if found is None:
        return None
    limits = None
    if engine.timescale_licence != "timescale":
        limits = "the Apache edition has no columnstore, no continuous aggregates and no policies"
    return {**found, "limits": limits}


def change(
    connection: psycopg.Connection[Any],
    *,
    columnstore_after: timedelta | _Unchanged | None = UNCHANGED,
    retention_after: timedelta | _Unchanged | None = UNCHANGED,
) -> None:
    """Set the policies, all in one transaction. Blocks; what they do, background jobs do later.

    Args:
        connection: Of the tables' owner, in autocommit mode.
        columnstore_after: Calls of this age move to the columnstore; None: no more do.
        retention_after: Days of calls older than this are deleted; None: nothing is.

    Raises:
        ConfigError: This server has no policies, or an age is too short.
    """
    for age, least in ((columnstore_after, timedelta(hours=1)), (retention_after, _SHORTEST_RETENTION)):
        if isinstance(age, timedelta) and age < least:
            raise ConfigError(f"{_hours(age)} is too short an age: expected at least {_hours(least)}")
    engine = detect(connection)
    if engine.timescale is None or engine.timescale_licence != "timescale":
        raise ConfigError(
            f"{engine.name} has no policies, which come with TimescaleDB's community edition; "
            "to delete old calls run `rlm-cachetrack prune --before 90d` now and then"
        )
    with connection.transaction():
        connection.execute(_sql.query("timescale_search_path"))
        if not isinstance(columnstore_after, _Unchanged):
            connection.execute(_sql.query("policy_columnstore_remove"))
            if columnstore_after is not None:
                connection.execute(_sql.query("policy_columnstore_add"), {"after": columnstore_after})
        if not isinstance(retention_after, _Unchanged):
            connection.execute(_sql.query("policy_retention_remove"))
            if retention_after is not None:
                connection.execute(_sql.query("policy_retention_add"), {"after": retention_after})
            # A chunk is dropped when its last moment is of that age: a day less is on the safe side.
            start = None if retention_after is None else retention_after - timedelta(days=1)
            connection.execute(_sql.query("policy_hourly_remove"))
            connection.execute(_sql.query("policy_hourly_add"), {"start": start})
            connection.execute(_sql.query("policy_hourly_order"))


def _hours(span: timedelta) -> str:
    """As an age is written: ``48h``."""
    return f"{span / timedelta(hours=1):g}h"
