"""Usage by query, tag or metadata key: trend by day, change against the period before, cost of a solved task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack
from zoneinfo import ZoneInfo

from rlm_cachetrack.errors import ConfigError

from .experiments import Experiment, experiments, parse_grouping
from .filters import ContentFilters
from .sorting import sorted_by
from .time_ranges import Span, floor, span
from .usage_changes import CostEffects, effects_on_cost
from .usage_groups import usage_groups

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_FALL = 0.05  # hit rates vary by less from week to week
_FACTORS = ("total_cost", "original_cost", "cost_savings", "total_prompt_tokens")


class DayOfGroup(TypedDict):
    """One day of a group: its cost (USD) and hit rate (0-1)."""

    day: datetime
    total_cost: float | None
    cache_hit_rate: float | None


class QueryRow(CostEffects):
    """A group of calls. ``cache_hit_rate``: 0-1 over the calls that reported; costs: USD over the priced calls.

    ``hit_rate_before``, ``cost_before`` and ``by_day_before`` are those of the period of the same length before; None
    or empty without one. A day in which the range begins is in both lists, each with its part. The rate, the cost
    and the effects are also None if the data begins within the period before.
    ``runs`` (finished or judged), ``success_rate`` and ``cost_per_success`` are None where calls are filtered by model,
    provider or tag, because they are figures of whole runs.
    """

    group: str | None
    total_interactions: int
    failed_interactions: int
    unpriced_interactions: int
    total_prompt_tokens: int
    cache_hit_rate: float | None
    hit_rate_before: float | None
    hit_rate_change: float | None
    total_cost: float | None
    cost_before: float | None
    cost_change: float | None
    cost_savings: float | None
    runs: int | None
    success_rate: float | None
    cost_per_success: float | None
    by_day: list[DayOfGroup]
    by_day_before: list[DayOfGroup]


class CostTrend(NamedTuple):
    """The cost (USD) of each whole day, without gaps; the first ``earlier`` days are of the period before."""

    costs: list[float]
    earlier: int


_KEYS: Mapping[str, Callable[[QueryRow], Any]] = {
    "group": lambda row: row["group"],
    "cost": lambda row: row["total_cost"],
    "cost_change": lambda row: row["cost_change"],
    "hit_rate": lambda row: row["cache_hit_rate"],
    "hit_rate_change": lambda row: row["hit_rate_change"],
    "saved": lambda row: row["cost_savings"],
    "runs": lambda row: row["runs"],
    "success": lambda row: row["success_rate"],
    "cost_per_success": lambda row: row["cost_per_success"],
    "calls": lambda row: row["total_interactions"],
    "failed": lambda row: row["failed_interactions"],
}


def query_rows(
    store: PostgresStore,
    by: str = "query",
    within: Span | None = None,
    *,
    is_partial: bool = False,
    **filters: Unpack[ContentFilters],
) -> list[QueryRow]:
    """Return the groups, the most expensive first. Blocks for up to three queries, which read the calls of the range.

    Args:
        store: The store to read.
        by: ``query``, ``tag:NAME`` or ``metadata.KEY``.
        within: Only calls of this range; None: all.
        is_partial: The data begins within the period before; see :func:`.partial_data`.
        filters: See :class:`.ContentFilters`.

    Raises:
        ConfigError: ``by`` is not one of these.
    """
    if parse_grouping(by)[0] not in ("query", "tag", "metadata"):
        raise ConfigError(f"by={by!r}: expected query, tag:NAME or metadata.KEY")
    within = within or span("all")
    earlier = within.before()
    days = _by_group(by, _groups(store, [by, "day"], within, filters))
    before = _by_group(by, _groups(store, [by, "day"], earlier, filters)) if earlier else {}
    judged: dict[str | None, Experiment] = {}
    if not (filters.get("model") or filters.get("provider") or filters.get("tags")):
        runs = experiments(
            store, by, since=within.since, until=within.until, query_id=filters.get("query_id"), has_intervals=False
        )
        judged = {row["group"]: row for row in runs}
    found = [_row(group, rows, before.get(group, []), is_partial, judged.get(group)) for group, rows in days.items()]
    return sorted(found, key=lambda row: (-(row["total_cost"] or 0.0), -row["total_interactions"]))


def sorted_query_rows(rows: Sequence[QueryRow], sort: str, *, is_ascending: bool) -> list[QueryRow]:
    """Return the rows sorted by one of their figures; unknown values come last. Pure.

    Raises:
        ConfigError: ``sort`` is unknown.
    """
    return sorted_by(rows, _KEYS, sort, is_ascending=is_ascending)


def worse_queries(rows: Sequence[QueryRow]) -> list[QueryRow]:
    """Return the groups whose hit rate fell by more than five percentage points, most affected tokens first. Pure."""

    def tokens(row: QueryRow) -> float:
        return (row["hit_rate_change"] or 0.0) * row["total_prompt_tokens"]

    fallen = [row for row in rows if row["hit_rate_change"] is not None and row["hit_rate_change"] < -_FALL]
    return sorted(fallen, key=tokens)


def cost_trend(row: QueryRow, within: Span, now: datetime | None = None) -> CostTrend:
    """Return the cost of a group by day, with the period before. Pure.

    Only days that are over and lie completely within the two periods are counted: the cost of a partial day would look
    like a drop.

    Args:
        row: The group.
        within: The range that it was read for.
        now: The current time; None: the system's.
    """
    zone, now = ZoneInfo(within.zone), now or datetime.now(UTC)
    costs: dict[date, float] = {}
    for day in [*row["by_day_before"], *row["by_day"]]:
        which = day["day"].astimezone(zone).date()
        costs[which] = costs.get(which, 0.0) + (day["total_cost"] or 0.0)
    before = within.before(now)
    if before is None or before.since is None or within.since is None:
        first, change = min(costs, default=date.max), date.min
    else:
        begin = before.since.astimezone(zone)
        first, change = begin.date(), within.since.astimezone(zone).date()
        if begin != floor(begin, "day", within.zone):
            first += timedelta(days=1)
    end = min(within.until or now, now).astimezone(zone).date()
    shown = [first + timedelta(days=number) for number in range((end - first).days)]
    return CostTrend([costs.get(day, 0.0) for day in shown], sum(day < change for day in shown))


def _groups(
    store: PostgresStore, group_by: Sequence[str], within: Span, filters: ContentFilters
) -> Sequence[dict[str, Any]]:
    return usage_groups(store, group_by, time_zone=within.zone, **filters, since=within.since, until=within.until)


def _by_group(by: str, rows: Sequence[dict[str, Any]]) -> dict[str | None, list[dict[str, Any]]]:
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    return groups


def _row(
    group: str | None,
    days: Sequence[dict[str, Any]],
    before: Sequence[dict[str, Any]],
    is_partial: bool,
    judged: Experiment | None,
) -> QueryRow:
    rate, cost = _hit_rate(days), _sum(day["total_cost"] for day in days)
    compared = () if is_partial else before
    totals = [{name: _sum(day[name] for day in rows) for name in _FACTORS} for rows in (compared, days)]
    rate_before, cost_before = _hit_rate(compared), _sum(day["total_cost"] for day in compared)
    return {
        "group": group,
        "total_interactions": sum(day["total_interactions"] for day in days),
        "failed_interactions": sum(day["failed_interactions"] for day in days),
        "unpriced_interactions": sum(day["unpriced_interactions"] for day in days),
        "total_prompt_tokens": sum(day["total_prompt_tokens"] for day in days),
        "cache_hit_rate": rate,
        "hit_rate_before": rate_before,
        "hit_rate_change": None if rate is None or rate_before is None else rate - rate_before,
        "total_cost": cost,
        "cost_before": cost_before,
        "cost_change": None if cost is None or cost_before is None else cost - cost_before,
        "cost_savings": _sum(day["cost_savings"] for day in days),
        **effects_on_cost(*totals),
        "runs": judged["runs"] if judged else None,
        "success_rate": judged["success_rate"] if judged else None,
        "cost_per_success": judged["cost_per_success"] if judged else None,
        "by_day": _days(days),
        "by_day_before": _days(before),
    }


def _days(rows: Sequence[dict[str, Any]]) -> list[DayOfGroup]:
    return [
        {"day": row["day"], "total_cost": row["total_cost"], "cache_hit_rate": row["cache_hit_rate"]} for row in rows
    ]


def _hit_rate(days: Sequence[dict[str, Any]]) -> float | None:
    """Return the hit rate over days; only calls that reported their cache use have uncached tokens."""
    reported = [day for day in days if day["cache_hit_rate"] is not None]
    cached = sum(day["total_cached_tokens"] or 0 for day in reported)
    prompt = cached + sum(day["total_uncached_tokens"] or 0 for day in reported)
    return cached / prompt if prompt else None


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
