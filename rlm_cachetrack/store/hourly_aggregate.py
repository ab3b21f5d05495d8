"""Keeps ``cache_usage_hourly`` right where it is a continuous aggregate: late calls are seen before ``flush`` returns.

TimescaleDB sums the hours of the present from the calls; older ones, below its watermark, it has materialized. A call
that arrives late, or goes, in such an hour is unseen until the hour is refreshed. The owner of the aggregate refreshes
it itself; a role that may only write asks a background job that runs as the owner, and waits for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from . import named_sql as _sql

__all__ = ["HourlyAggregate"]

logger = logging.getLogger("rlm_cachetrack")

_HOUR = timedelta(hours=1)
# A refresh costs some milliseconds even where there is little to do: scattered hours are refreshed in fewer pieces.
_MOST_RANGES = 24
# How long to wait for another refresh of the same hours, or for the background job. The scheduler looks for what it is
# to do at least every 5 s (TimescaleDB's src/bgw/timer.c, 2.28).
_PATIENCE_S = 20.0
_POLL_S = 0.1


@dataclass(slots=True)
class HourlyAggregate:
    """The continuous aggregate as one connection's role sees it.

    Attributes:
        functions: Schema of TimescaleDB's functions, which need not be on the search path.
        may_refresh: Whether the role has the rights of the aggregate's owner.
    """

    functions: str
    may_refresh: bool
    _warned: bool = False

    @classmethod
    def find(cls, connection: psycopg.Connection[Any]) -> HourlyAggregate | None:
        """The aggregate, None where ``cache_usage_hourly`` is an ordinary view. Blocks for one or two queries."""
        with connection.cursor(row_factory=tuple_row) as cursor:
            if not (cursor.execute(_sql.query("timescale_installed")).fetchone() or (False,))[0]:
                return None
            row = cursor.execute(_sql.query("hourly_aggregate")).fetchone()
        return None if row is None else cls(functions=row[0], may_refresh=row[1])

    def prepare(self, cursor: psycopg.Cursor[Any]) -> None:
        """At the beginning of a transaction that writes: late rows may go into the columnstore."""
        cursor.execute(_sql.query("timescale_unbounded_dml"))

    def refresh(self, connection: psycopg.Connection[Any], hours: Sequence[datetime]) -> None:
        """Make the aggregate right for hours in which calls were stored or deleted, after the commit.

        Blocks, as a rule for one query: only hours that are materialized already need more. Where it cannot be done
        within 20 s the refresh policy does it later, and that is said once.

        Args:
            connection: In autocommit mode, outside of a transaction.
            hours: The beginnings of the hours.
        """
        if not hours:
            return
        with connection.cursor(row_factory=tuple_row) as cursor:
            stale, undecided = self._stale(cursor, hours)
            if not stale and not undecided:
                return
            act = self._refresh if self.may_refresh else self._ask
            try:
                done = act(cursor, _ranges(stale)) and not undecided
                another = self.may_refresh or undecided
                reason = "another refresh of the same hours goes on" if another else "no background job ran"
            except psycopg.OperationalError:  # the connection: the batch is offered again, and so are its hours
                raise
            except psycopg.Error as exc:  # the calls are stored all the same: nothing to hold them back for
                done, reason = False, str(exc).partition("\n")[0]
        if not done and not self._warned:
            self._warned = True
            logger.warning(
                "late calls are stored, but %d hours of cache_usage_hourly lack them until its refresh policy runs: %s",
                len(stale) + len(undecided),
                reason,
            )

    def _stale(self, cursor: psycopg.Cursor[Any], hours: Sequence[datetime]) -> tuple[list[datetime], list[datetime]]:
        """Those to be refreshed, in order, and those of which that could not be known in time.

        An hour above the watermark that a refresh may just be at is waited for: it is then below the watermark and to
        be refreshed, or the refresh was at others, and whatever comes later sees the commit.
        """
        stale: list[datetime] = []
        first_seen: int | None = None
        waiting = list(hours)

        def known() -> bool:
            nonlocal waiting, first_seen
            rows = cursor.execute(_sql.query("hourly_stale"), {"hours": waiting}).fetchall()
            waiting = []
            for hour, kept, watermark, busy in rows:
                first_seen = watermark if first_seen is None else first_seen
                if kept:
                    stale.append(hour)
                elif busy and watermark == first_seen:
                    waiting.append(hour)
            return not waiting

        _patiently(known)
        return sorted(stale), waiting

    def _refresh(self, cursor: psycopg.Cursor[Any], ranges: Iterable[tuple[datetime, datetime]]) -> bool:
        statement = sql.SQL(_sql.query("hourly_refresh")).format(functions=sql.Identifier(self.functions))

        def refreshed(first: datetime, last: datetime) -> bool:
            try:
                cursor.execute(statement, {"first": first, "until": last + _HOUR})
            except psycopg.errors.LockNotAvailable:  # another refresh is at these hours; it may not see our calls
                return False
            return True

        done = [_patiently(partial(refreshed, first, last)) for first, last in ranges]
        return all(done)

    def _ask(self, cursor: psycopg.Cursor[Any], ranges: Iterable[tuple[datetime, datetime]]) -> bool:
        requests = []
        for first, last in ranges:
            row = cursor.execute(_sql.query("hourly_request"), {"first": first, "last": last}).fetchone()
            requests.append(row[0] if row else None)

        def done() -> bool:
            row = cursor.execute(_sql.query("hourly_requested"), {"requests": requests}).fetchone()
            return row is None or row[0] == 0

        return _patiently(done)


def _ranges(hours: Sequence[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Hours in order, put together to ranges (first and last hour); one range where there would be too many."""
    found: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if found and hour - found[-1][1] <= _HOUR:
            found[-1] = (found[-1][0], hour)
        else:
            found.append((hour, hour))
    if len(found) > _MOST_RANGES:
        found = [(found[0][0], found[-1][1])]
    yield from found


def _patiently(attempt: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while not attempt():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
