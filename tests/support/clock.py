"""The current day, for tests whose results change at midnight."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def today(lasting: timedelta = timedelta(minutes=2)) -> datetime:
    """Return the beginning of the current UTC day; wait for the next one if the rest is shorter than ``lasting``.

    Args:
        lasting: The time that the caller needs.
    """
    now = datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    next_day = day + timedelta(days=1)
    if next_day - now > lasting:
        return day
    time.sleep((next_day - now).total_seconds() + 0.1)
    return next_day
