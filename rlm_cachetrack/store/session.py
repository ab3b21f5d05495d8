"""A connection for work in several steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from . import named_sql
from .hourly_aggregate import HourlyAggregate


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
        """Refresh the hourly sums between two moments, both included. Blocks; see :mod:`.hourly_aggregate`."""
        hourly = HourlyAggregate.find(self._connection)
        if hourly is not None:
            hour = first.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            count = (last - hour) // timedelta(hours=1) + 1
            hourly.refresh(self._connection, [hour + timedelta(hours=number) for number in range(count)])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in one transaction; an exception rolls it back."""
        with self._connection.transaction():
            yield
