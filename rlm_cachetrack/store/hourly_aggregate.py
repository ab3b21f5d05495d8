"""Refresh ``cache_usage_hourly`` after late calls, so that they are in its sums before ``flush`` returns.

This is needed if the view is a continuous aggregate. TimescaleDB sums recent hours from the calls, but hours below its
watermark are materialized: a call that is stored or deleted there changes the sums only when its hour is refreshed. The
owner of the aggregate refreshes the hour itself. A role that may only write requests it from a background job, which
runs as the owner, and waits for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from . import named_sql
from .conflicts import retry_on_conflict

logger = logging.getLogger("rlm_cachetrack")

_HOUR_S = 3600
_HOUR = timedelta(seconds=_HOUR_S)
# A refresh takes a few milliseconds even if there is little to do, so many scattered hours are refreshed as one range.
_MAX_RANGES = 24
# How long to wait for another refresh of the same hours, or for the background job. The scheduler checks for jobs at
# least every 5 s (TimescaleDB's src/bgw/timer.c, 2.28).
_TIMEOUT_S = 20.0
_POLL_S = 0.1


@dataclass(slots=True)
class HourlyAggregate:
    """The continuous aggregate and the rights of the connection's role.

    Attributes:
        functions: Schema of TimescaleDB's functions, which may not be on the search path.
        may_refresh: Whether the role has the rights of the aggregate's owner.
    """

    functions: str
    may_refresh: bool
    _warned: bool = False
    _warned_of_dropped: bool = False

    @classmethod
    def find(cls, connection: psycopg.Connection[Any]) -> HourlyAggregate | None:
        """Find the aggregate; None if ``cache_usage_hourly`` is a plain view. Blocks for one or two queries."""
        with connection.cursor(row_factory=tuple_row) as cursor:
            if not (cursor.execute(named_sql.query("timescale_installed")).fetchone() or (False,))[0]:
                return None
            row = cursor.execute(named_sql.query("hourly_aggregate")).fetchone()
        return None if row is None else cls(functions=row[0], may_refresh=row[1])

    def prepare(self, cursor: psycopg.Cursor[Any]) -> None:
        """Let the transaction write late rows to the columnstore; call it at the beginning of a writing transaction."""
        cursor.execute(named_sql.query("timescale_unbounded_dml"))

    def refresh_after_batch(self, connection: psycopg.Connection[Any], times: Iterable[datetime]) -> None:
        """See :meth:`refresh`: late calls are in the sums before a flush returns."""
        hours = {int(moment.timestamp()) // _HOUR_S for moment in times}
        self.refresh(connection, [datetime.fromtimestamp(hour * _HOUR_S, UTC) for hour in sorted(hours)])

    def refresh(self, connection: psycopg.Connection[Any], hours: Sequence[datetime]) -> None:
        """Refresh hours in which calls were stored or deleted; call it after the commit.

        Blocks, usually for one query: only materialized hours need a refresh. If that takes longer than 20 s, the
        refresh policy does it later, and a warning is logged once.

        Args:
            connection: A connection in autocommit mode, outside of a transaction.
            hours: The beginnings of the hours.
        """
        if not hours:
            return
        with connection.cursor(row_factory=tuple_row) as cursor:
            stale, undecided, dropped = self._stale(cursor, hours)
            if dropped and not self._warned_of_dropped:
                self._warned_of_dropped = True
                logger.warning(
                    "calls of %d hours that retention deletes are stored until it runs again, but cache_usage_hourly "
                    "omits them: it keeps the sums of the deleted calls",
                    len(dropped),
                )
            if not stale and not undecided:
                return
            refresh = self._refresh if self.may_refresh else self._request
            try:
                done = refresh(cursor, _ranges(stale)) and not undecided
                is_blocked = self.may_refresh or undecided
                reason = "another refresh of the same hours is running" if is_blocked else "no background job ran"
            except psycopg.OperationalError:  # the connection was lost: the batch is retried with its hours
                raise
            except psycopg.Error as exc:  # the calls are stored nevertheless
                done, reason = False, str(exc).partition("\n")[0]
        if not done and not self._warned:
            self._warned = True
            logger.warning(
                "late calls are stored, but %d hours of cache_usage_hourly omit them until its refresh policy runs: %s",
                len(stale) + len(undecided),
                reason,
            )

    def materialize(self, connection: psycopg.Connection[Any]) -> bool:
        """Materialize all hours up to ten minutes ago, before a retention policy drops their calls, as their owner.

        Blocks for as long as that takes: a few seconds per million calls. Returns False if another refresh runs for
        longer than 20 s.
        """
        with connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(named_sql.query("policy_hourly_first")).fetchone()
            statement = self.statement("policy_hourly_materialize")
            return _wait_for(partial(_is_refreshed, cursor, statement, {"first": row and row[0]}))

    def _stale(
        self, cursor: psycopg.Cursor[Any], hours: Sequence[datetime]
    ) -> tuple[list[datetime], list[datetime], list[datetime]]:
        """Return the hours to refresh, those whose running refresh did not end in time, and those not to refresh.

        The hours not to refresh are those whose calls retention may have dropped.

        Waits for a running refresh that may cover an hour above the watermark. Afterwards either the hour is below the
        watermark and must be refreshed, or that refresh covered other hours; later ones see the commit.
        """
        stale: list[datetime] = []
        dropped: list[datetime] = []
        first_watermark: int | None = None
        waiting = list(hours)

        def is_decided() -> bool:
            nonlocal waiting, first_watermark
            rows = cursor.execute(named_sql.query("hourly_stale"), {"hours": waiting}).fetchall()
            waiting = []
            for hour, kept, watermark, busy, is_dropped in rows:
                first_watermark = watermark if first_watermark is None else first_watermark
                if is_dropped:
                    dropped.append(hour)
                elif kept:
                    stale.append(hour)
                elif busy and watermark == first_watermark:
                    waiting.append(hour)
            return not waiting

        _wait_for(is_decided)
        return sorted(stale), waiting, dropped

    def _refresh(self, cursor: psycopg.Cursor[Any], ranges: Iterable[tuple[datetime, datetime]]) -> bool:
        statement = self.statement("hourly_refresh")
        done = [
            _wait_for(partial(_is_refreshed, cursor, statement, {"first": first, "until": last + _HOUR}))
            for first, last in ranges
        ]
        return all(done)

    def statement(self, name: str) -> sql.Composed:
        """Return a named query that calls a function of TimescaleDB."""
        return sql.SQL(named_sql.query(name)).format(functions=sql.Identifier(self.functions))

    def _request(self, cursor: psycopg.Cursor[Any], ranges: Iterable[tuple[datetime, datetime]]) -> bool:
        requests = []
        for first, last in ranges:
            # The scheduler changes the same job when a run of it begins or ends.
            retry_on_conflict(cursor.execute, named_sql.query("hourly_request"), {"first": first, "last": last})
            row = cursor.fetchone()
            requests.append(row[0] if row else None)

        def is_done() -> bool:
            row = cursor.execute(named_sql.query("hourly_requested"), {"requests": requests}).fetchone()
            return row is None or row[0] == 0

        return _wait_for(is_done)


def _is_refreshed(cursor: psycopg.Cursor[Any], statement: sql.Composed, parameters: dict[str, Any]) -> bool:
    try:
        retry_on_conflict(cursor.execute, statement, parameters)
    except psycopg.errors.LockNotAvailable:  # another refresh of these hours may omit our calls
        return False
    return True


def _ranges(hours: Sequence[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Merge sorted hours into ranges (first and last hour); into a single one if there would be too many."""
    found: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if found and hour - found[-1][1] <= _HOUR:
            found[-1] = (found[-1][0], hour)
        else:
            found.append((hour, hour))
    if len(found) > _MAX_RANGES:
        found = [(found[0][0], found[-1][1])]
    yield from found


def _wait_for(attempt: Callable[[], bool]) -> bool:
    """Repeat the attempt until it succeeds; returns False after 20 s."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not attempt():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
