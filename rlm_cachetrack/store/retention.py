"""Columnstore and retention policies of TimescaleDB's community edition."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import dict_row

from rlm_cachetrack.errors import ConfigError, StoreError

from . import named_sql
from .conflicts import retry_on_conflict
from .engine import detect
from .hourly_aggregate import HourlyAggregate

_MIN_COLUMNSTORE_AFTER: Final = timedelta(hours=1)
_MIN_RETENTION: Final = timedelta(days=2)

_Age = timedelta | Literal["unchanged"] | None


def describe(connection: psycopg.Connection[Any]) -> dict[str, Any] | None:
    """Return chunks and policies of the table of calls; None if it is a plain table. Blocks for three queries.

    Returns:
        ``chunk_interval``, ``chunks``, ``columnstore_chunks``, ``columnstore`` (whether it is set up), ``segment_by``,
        ``order_by``, ``columnstore_after`` and ``retention_after`` (timedelta, None if off), ``hourly``
        (``continuous aggregate`` or ``view``), ``hourly_every``, ``failed_jobs`` (the rows of
        ``timescale_failed_jobs``), and ``limits``: the features that this edition lacks, or None.
    """
    engine = detect(connection)
    if engine.timescale is None:
        return None
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(named_sql.query("timescale_policies")).fetchone()
        if found is None:
            return None
        jobs = cursor.execute(named_sql.query("timescale_failed_jobs")).fetchall()
    limits = None
    if engine.timescale_licence != "timescale":
        limits = "the Apache edition has no columnstore, continuous aggregates or policies"
    return {**found, "failed_jobs": jobs, "limits": limits}


def change(
    connection: psycopg.Connection[Any],
    *,
    columnstore_after: _Age = "unchanged",
    retention_after: _Age = "unchanged",
) -> None:
    """Set or remove policies in one transaction. Blocks; TimescaleDB's background jobs apply the policies later.

    Before calls are deleted for the first time, all hourly sums are materialized, which takes a few seconds per million
    calls. Sums of deleted calls are never computed again, whatever the policies are later.

    Args:
        connection: A connection of the tables' owner, in autocommit mode.
        columnstore_after: Age at which calls move to the columnstore; None: calls stay in the row store.
        retention_after: Age at which calls are deleted, by whole days; None: calls are never deleted.

    Raises:
        ConfigError: This server has no policies, or an age is too short.
        StoreError: The hourly sums cannot be materialized, because another refresh is running.
    """
    for age, least in ((columnstore_after, _MIN_COLUMNSTORE_AFTER), (retention_after, _MIN_RETENTION)):
        if isinstance(age, timedelta) and age < least:
            raise ConfigError(f"an age of {_hours(age)} is too short: expected at least {_hours(least)}")
    engine = detect(connection)
    if engine.timescale is None or engine.timescale_licence != "timescale":
        raise ConfigError(
            f"{engine.name} has no policies: they need TimescaleDB's community edition. "
            "To delete old calls, run `rlm-cachetrack prune --before 90d` regularly"
        )
    if retention_after not in ("unchanged", None):
        _materialize(connection)
    retry_on_conflict(_change, connection, columnstore_after, retention_after)  # the scheduler changes the same jobs


def _change(connection: psycopg.Connection[Any], columnstore_after: _Age, retention_after: _Age) -> None:
    with connection.transaction():
        connection.execute(named_sql.query("timescale_search_path"))
        if columnstore_after != "unchanged":
            connection.execute(named_sql.query("policy_columnstore_remove"))
            if columnstore_after is not None:
                connection.execute(named_sql.query("policy_columnstore_add"), {"after": columnstore_after})
        if retention_after != "unchanged":
            # The previous policy may have dropped calls up to now; the new one must not let their hours be refreshed.
            connection.execute(named_sql.query("policy_hourly_bound"), {"keep": True})
            connection.execute(named_sql.query("policy_retention_remove"))
            if retention_after is not None:
                connection.execute(named_sql.query("policy_retention_add"), {"after": retention_after})
            connection.execute(named_sql.query("policy_hourly_bound"), {"keep": False})


def _materialize(connection: psycopg.Connection[Any]) -> None:
    """Materialize the hourly sums, because hours whose calls are dropped before that would have no sums."""
    hourly = HourlyAggregate.find(connection)
    if hourly is not None and not hourly.materialize(connection):
        raise StoreError("another refresh of cache_usage_hourly is running; nothing was changed: try again later")


def _hours(span: timedelta) -> str:
    """Format an age as the command line accepts it: ``48h``."""
    return f"{span / timedelta(hours=1):g}h"
