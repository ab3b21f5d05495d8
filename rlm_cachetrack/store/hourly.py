"""Detect how the sums of ``cache_usage_hourly`` are stored: by this library, by TimescaleDB, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

import psycopg
from psycopg.rows import tuple_row

from . import named_sql
from .hourly_aggregate import HourlyAggregate
from .hourly_sums import HourlySums


class Hourly(Protocol):
    """The stored sums of ``cache_usage_hourly``, which must be refreshed after calls change."""

    def prepare(self, cursor: psycopg.Cursor[Any]) -> None:
        """Prepare a transaction that writes calls; call it at its beginning."""

    def refresh_after_batch(self, connection: psycopg.Connection[Any], times: Iterable[datetime]) -> None:
        """Refresh the hours that are due after a batch with calls at these times was committed. Blocks."""

    def refresh(self, connection: psycopg.Connection[Any], hours: Sequence[datetime]) -> None:
        """Refresh some hours after calls in them were changed or deleted, and committed. Blocks."""


def find(connection: psycopg.Connection[Any]) -> Hourly | None:
    """Return the sums of this database; None if ``cache_usage_hourly`` sums every call. Blocks for a query or two."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(named_sql.query("hourly_sums_exist")).fetchone()
    return HourlySums() if row and row[0] else HourlyAggregate.find(connection)
