"""Refresh the stored sums of ``cache_usage_hourly`` on plain PostgreSQL.

The sums are exact without a refresh, because hours that changed are summed from their calls
(``schema/postgresql/0001_hourly_sums.sql``). A refresh only makes reads cheaper. Therefore the writer, never a reader,
refreshes a few hours after a batch, and an error of a refresh fails no batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from . import named_sql
from .connect import pin_settings

logger = logging.getLogger("rlm_cachetrack")

# Serializes refreshes, so that two of them do not sum the same hours. The number is arbitrary.
_ADVISORY_LOCK = 0x726C6D68  # "rlmh"
_EVERY_S = 30.0
# An hour that changed a moment ago will probably change again.
_REST_S = 60.0
# How long the refresh after a batch may take.
_TIME_PER_BATCH_S = 0.25
_QUICK_S = 0.1
_MOST_HOURS = 256


@dataclass(slots=True)
class HourlySums:
    """The stored sums of hours."""

    _next: float = 0.0
    _hours_at_once: int = 1
    _warned: bool = False

    def prepare(self, cursor: psycopg.Cursor[Any]) -> None:
        """Do nothing; a transaction needs no preparation."""

    def refresh_after_batch(self, connection: psycopg.Connection[Any], times: Iterable[datetime]) -> None:
        """Refresh hours that have not changed for a minute, for at most about 0.25 s, every 30 s. Blocks.

        Args:
            connection: A connection in autocommit mode, outside of a transaction.
            times: Not used: the database has a list of the hours that changed.
        """
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._refresh(connection, rest_s=_REST_S, deadline=now + _TIME_PER_BATCH_S)

    def refresh(self, connection: psycopg.Connection[Any], hours: Sequence[datetime]) -> None:
        """Refresh those of the given hours that changed. Blocks for about 2 s per million calls in these hours.

        Args:
            connection: A connection in autocommit mode, outside of a transaction.
            hours: The beginnings of the hours.
        """
        if hours:
            self._refresh(connection, min(hours), max(hours))

    def _refresh(
        self,
        connection: psycopg.Connection[Any],
        first: datetime | None = None,
        last: datetime | None = None,
        *,
        rest_s: float = 0.0,
        deadline: float | None = None,
    ) -> None:
        try:
            while True:
                began = time.monotonic()
                with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
                    count = refresh_some(cursor, first=first, last=last, rest_s=rest_s, limit=self._hours_at_once)
                if count < self._hours_at_once:
                    return
                now = time.monotonic()
                if now - began < _QUICK_S:
                    self._hours_at_once = min(self._hours_at_once * 2, _MOST_HOURS)
                elif self._hours_at_once > 1:
                    self._hours_at_once //= 2
                if deadline is not None and now >= deadline:
                    return
        except psycopg.errors.SerializationFailure:
            return  # another process refreshed these hours
        except psycopg.Error as exc:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "calls are stored and all sums are correct, but the stored hourly sums cannot be refreshed, so "
                    "reads take longer: %s",
                    str(exc).partition("\n")[0],
                )


def refresh_some(
    cursor: psycopg.Cursor[Any], *, first: datetime | None, last: datetime | None, rest_s: float, limit: int
) -> int:
    """Refresh the newest hours that changed, in the cursor's transaction, which must not have begun a query. Blocks.

    Args:
        cursor: Its rows are tuples.
        first: Only from this hour on; None for no bound.
        last: Only up to this hour, included; None for no bound.
        rest_s: Only hours that have not changed for this number of seconds.
        limit: The maximum number of hours to refresh.

    Returns:
        The number of refreshed hours; 0 if another process is refreshing.

    Raises:
        psycopg.errors.SerializationFailure: Another process refreshed these hours meanwhile.
    """
    cursor.execute(named_sql.query("hourly_sums_begin"))
    pin_settings(cursor, is_local=True)
    if not (cursor.execute(named_sql.query("hourly_sums_lock"), {"lock": _ADVISORY_LOCK}).fetchone() or (False,))[0]:
        return 0
    chosen = {"first": first, "last": last, "rest_s": rest_s, "limit": limit}
    hours = [row[0] for row in cursor.execute(named_sql.query("hourly_sums_due"), chosen).fetchall()]
    if hours:
        for name in ("hourly_sums_delete", "hourly_sums_insert", "hourly_sums_done"):
            cursor.execute(named_sql.query(name), {"hours": hours})
    return len(hours)
