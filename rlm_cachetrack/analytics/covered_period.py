"""Find how much of the period before a range has data. A change against a partly covered period would mislead."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from .time_ranges import Span

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)


def partial_data(store: PostgresStore, period: Span) -> str | None:
    """Return the length of the data of a period if the data begins within it, such as ``5 days``; None otherwise.

    Only the first stored call matters, whatever its model or query. The length is in whole days, rounded up, or in
    hours for a period of less than two days. Blocks for one query.

    Args:
        store: The store to read.
        period: A range with both bounds.
    """
    if period.since is None or period.until is None:
        return None
    first = store.query("first_hour", until=period.until)[0]["first_hour"]
    if first is None or first <= period.since:
        return None
    length = period.until - period.since
    unit, name = (_HOUR, "hour") if length < 2 * _DAY else (_DAY, "day")
    count = math.ceil((period.until - first) / unit)
    if count >= length // unit:
        return None
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
