"""The current activity: spend, calls per minute, hit rate and the newest calls. Read-only; blocks for its queries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from .filters import ContentFilters, query_parameters
from .usage_groups import usage_groups

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_MINUTES = 60
_NEWEST = 100


class NewestCall(TypedDict):
    """One of the newest calls. ``total_cost``: USD; ``duration_ms``: milliseconds."""

    time: datetime
    query_id: str
    run_id: datetime
    interaction_id: Any
    iteration: int | None
    provider: str | None
    model: str
    prompt_tokens: int | None
    cached_tokens: int | None
    total_cost: float | None
    duration_ms: float | None
    success: bool
    error_type: str | None


class LiveView(TypedDict):
    """The current activity.

    ``spent_today`` is in USD since midnight UTC, None if no call is priced. ``hit_rates`` has one entry per minute of
    the last hour, the oldest first, None for a minute without reported cache use. ``calls_per_minute`` is the mean of
    the last five minutes. ``last_miss`` is the newest of these calls that read nothing from the cache.
    """

    spent_today: float | None
    calls_today: int
    hit_rate_today: float | None
    calls_per_minute: float
    hit_rates: list[float | None]
    newest: list[NewestCall]
    last_miss: NewestCall | None


def live_view(store: PostgresStore, which: ContentFilters, limit: int = 10, now: datetime | None = None) -> LiveView:
    """Return the current activity. Blocks for three queries.

    Args:
        store: The store of the calls.
        which: The calls.
        limit: The number of newest calls.
        now: The current time; None: now.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    today = usage_groups(store, ("day",), since=midnight, **which)
    last_hour = query_parameters({**which, "since": moment - timedelta(minutes=_MINUTES), "until": None})
    minutes = store.query("calls_by_minute", **last_hour)
    by_minute = {row["minute"]: row for row in minutes}
    current = moment.replace(second=0, microsecond=0)
    slots = [by_minute.get(current - timedelta(minutes=ago)) for ago in range(_MINUTES - 1, -1, -1)]
    two_days = query_parameters({**which, "since": midnight - timedelta(days=1), "until": None})
    newest: Any = store.query("newest_calls", limit=max(limit, _NEWEST), **two_days)
    total = today[-1] if today else None
    return {
        "spent_today": total["total_cost"] if total else None,
        "calls_today": total["total_interactions"] if total else 0,
        "hit_rate_today": total["cache_hit_rate"] if total else None,
        "calls_per_minute": sum(row["calls"] for row in slots[-6:-1] if row) / 5,
        "hit_rates": [row["cache_hit_rate"] if row else None for row in slots],
        "newest": newest[:limit],
        "last_miss": next((call for call in newest if call["success"] and call["cached_tokens"] == 0), None),
    }
