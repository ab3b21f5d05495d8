"""Compute the data of the Overview page: the month, the range compared with the period before, possible savings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.analytics import Span, time_ranges, usage_changes
from rlm_cachetrack.analytics.planning import same_days_before

from . import charts

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import QueryChange

    from .cached_queries import CachedQueries
    from .view import View

_NEWEST_RUNS = 8
_CHANGES = 6
_CHANGES_WAIT_S = 0.15
_AT_ONCE = 4
_LOSSES_WAIT_S = 0.15
"""The page does not wait longer for losses: it fetches itself again while runs are being explained."""
_PERIODS = {
    "1h": "the hour before",
    "24h": "the 24 hours before",
    "7d": "the 7 days before",
    "30d": "the 30 days before",
    "90d": "the 90 days before",
}


def period_before(view: View) -> str:
    """Return words for the period that a range is compared with; empty for all time."""
    return "the period before" if view.since or view.until else _PERIODS.get(view.range or "7d", "")


def overview(queries: CachedQueries, view: View) -> dict[str, Any]:
    """Return the variables of the overview. Blocks for its queries."""
    span, filters = view.span(), view.filters
    earlier = span.before()
    # At the same time: together they would take three times as long as the slowest of them.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        counted = pool.submit(queries.usage, span, filters)
        before = pool.submit(queries.usage, earlier, filters) if earlier else None
        month = pool.submit(queries.month, filters)
        percentiles = pool.submit(queries.percentiles, span, filters)
        newest = queries.runs(span, filters, limit=_NEWEST_RUNS)["runs"]
    usage, spent = counted.result(), month.result()
    same_days = Span(*same_days_before(time_ranges.floor(datetime.now(UTC), "hour")), "hour")
    found: dict[str, Any] = {
        "usage": usage,
        "figures": charts.of_usage(usage, view),
        "month": spent,
        "month_partial": queries.partial_data(same_days),
        "newest": newest,
        "percentiles": percentiles.result(),
        "losses": None,
        "before": None,
        "losses_before": None,
        "changes": None,
        "query_changes": (),
        "period": period_before(view),
        "partial": queries.partial_data(earlier),
        "firing": [alert for alert in queries.alerts() if alert["firing"]],
        "is_empty": False,
    }
    if not usage["total"]["total_interactions"]:
        found["is_empty"] = not queries.runs(time_ranges.span("all"), {}, limit=1)["runs"]
        return found
    found["losses"] = queries.losses(span, filters, _LOSSES_WAIT_S)
    if earlier is not None and before is not None and found["partial"] is None:
        found["before"] = before.result()
        found["losses_before"] = queries.losses(earlier, filters)
        if found["before"]["total"]["total_interactions"]:
            changes = usage_changes(found["before"], usage)
            found["changes"] = {**changes, "models": changes["models"][:_CHANGES]}
            if not view.query:
                found["query_changes"] = _largest(queries.query_changes(span, filters, _CHANGES_WAIT_S))
    return found


def _largest(changes: list[QueryChange] | None) -> list[QueryChange] | None:
    return None if changes is None else changes[:_CHANGES]
