"""A connection for work in several steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from . import hourly, named_sql
from .conflicts import retry_on_conflict
from .hourly_aggregate import HourlyAggregate

ResultT = TypeVar("ResultT")

# The columnstore policy works on the same chunk, so it does the same or will do it.
_USED_BY_A_JOB = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InternalError_,
)


class Session:
    """Run named queries over one connection, one by one or in a transaction. Not thread-safe."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def rows(self, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
        """Run ``schema/queries/<name>.sql`` and return its rows, timestamps in UTC. Blocks."""
        found: list[dict[str, Any]] = self._connection.execute(named_sql.query(name), parameters).fetchall()
        return found

    def run(self, name: str, /, **parameters: Any) -> int:
        """Run ``schema/queries/<name>.sql`` and return the number of rows that it changed. Blocks."""
        return self._connection.execute(named_sql.query(name), parameters).rowcount

    def refresh_hours(self, first: datetime, last: datetime) -> None:
        """Refresh the hourly sums between two times, both included. Blocks; see :class:`.hourly.Hourly`."""
        sums = hourly.find(self._connection)
        if sums is not None:
            hour = first.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            count = (last - hour) // timedelta(hours=1) + 1
            sums.refresh(self._connection, [hour + timedelta(hours=number) for number in range(count)])

    def recompress(self, first: datetime, last: datetime) -> None:
        """Move changed calls back to the columnstore, for days between two times that were in it. Blocks.

        An update takes calls out of the columnstore, where they need ten times the space. The policy moves them back
        later, but does not return all of the space. Does nothing if there is no columnstore.
        """
        aggregate = HourlyAggregate.find(self._connection)
        if aggregate is None or not aggregate.may_refresh:
            return
        for row in self.rows("columnstore_changed", first=first, last=last):
            chunk, packed = ((row[f"{part}schema"], row[f"{part}name"]) for part in ("", "packed_"))
            with contextlib.suppress(*_USED_BY_A_JOB):
                name = sql.Identifier(*chunk).as_string(self._connection)
                self._connection.execute(aggregate.statement("columnstore_merge"), {"chunk": name})
                for relation in (chunk, packed):
                    vacuum = sql.SQL(named_sql.query("columnstore_vacuum")).format(relation=sql.Identifier(*relation))
                    self._connection.execute(vacuum)

    def in_transaction(self, step: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Call ``step(session, *arguments)`` in one transaction and return its result; an exception rolls it back.

        After a deadlock or a serialization failure the step is repeated, so it must change nothing but the database.
        """

        def attempt() -> ResultT:
            with self._connection.transaction():
                return step(self, *arguments)

        return retry_on_conflict(attempt)
