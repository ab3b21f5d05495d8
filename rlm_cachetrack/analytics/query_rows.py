"""Usage by query, tag or metadata key, with a trend by day and what a solved task cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.errors import ConfigError

from .experiments import Experiment, experiments, parse_grouping
from .usage_groups import usage_groups

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore


class DayOfGroup(TypedDict):
    """One day of a group: its cost (USD) and hit rate (0-1)."""

    day: datetime
    total_cost: float | None
    cache_hit_rate: float | None


class QueryRow(TypedDict):
    """A group of calls. ``cache_hit_rate``: 0-1 over the calls that reported; costs: USD over the priced calls.

    ``hit_rate_change`` is the hit rate of the second half of the days minus that of the first. ``runs`` (finished or
    judged), ``success_rate`` and ``cost_per_success`` are None where calls are filtered by model or provider, because
    they are figures of whole runs.
    """

    group: str | None
    total_interactions: int
    failed_interactions: int
    unpriced_interactions: int
    total_prompt_tokens: int
    cache_hit_rate: float | None
    hit_rate_change: float | None
    total_cost: float | None
    cost_savings: float | None
    runs: int | None
    success_rate: float | None
    cost_per_success: float | None
    by_day: list[DayOfGroup]


def query_rows(
    store: PostgresStore,
    by: str = "query",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    model: str | None = None,
    provider: str | None = None,
    time_zone: str = "UTC",
) -> list[QueryRow]:
    """Return the groups, the most expensive first. Blocks for two queries, which read the calls of the range.

    Args:
        store: The store to read.
        by: ``query``, ``tag:NAME`` or ``metadata.KEY``.
        since: Only calls from this moment on.
        until: Only calls before this moment.
        model: Only calls of this model.
        provider: Only calls of this provider.
        time_zone: The time zone of the days.

    Raises:
        ConfigError: ``by`` is none of these.
    """
    if parse_grouping(by)[0] not in ("query", "tag", "metadata"):
        raise ConfigError(f"by={by!r}: expected query, tag:NAME or metadata.KEY")
    more: dict[str, Any] = {"since": since, "until": until}
    days = usage_groups(store, [by, "day"], model=model, provider=provider, time_zone=time_zone, **more)
    judged: dict[str | None, Experiment] = {}
    if model is None and provider is None:
        judged = {row["group"]: row for row in experiments(store, by, **more)}
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for row in days:
        groups.setdefault(row[by], []).append(row)
    found = [_row(group, rows, judged.get(group)) for group, rows in groups.items()]
    return sorted(found, key=lambda row: (-(row["total_cost"] or 0.0), -row["total_interactions"]))


def _row(group: str | None, days: Sequence[dict[str, Any]], judged: Experiment | None) -> QueryRow:
    middle = len(days) // 2
    halves = [_hit_rate(days[:middle]), _hit_rate(days[middle:])]
    return {
        "group": group,
        "total_interactions": sum(day["total_interactions"] for day in days),
        "failed_interactions": sum(day["failed_interactions"] for day in days),
        "unpriced_interactions": sum(day["unpriced_interactions"] for day in days),
        "total_prompt_tokens": sum(day["total_prompt_tokens"] for day in days),
        "cache_hit_rate": _hit_rate(days),
        "hit_rate_change": None if halves[0] is None or halves[1] is None else halves[1] - halves[0],
        "total_cost": _sum(day["total_cost"] for day in days),
        "cost_savings": _sum(day["cost_savings"] for day in days),
        "runs": judged["runs"] if judged else None,
        "success_rate": judged["success_rate"] if judged else None,
        "cost_per_success": judged["cost_per_success"] if judged else None,
        "by_day": [
            {"day": day["day"], "total_cost": day["total_cost"], "cache_hit_rate": day["cache_hit_rate"]}
            for day in days
        ],
    }


def _hit_rate(days: Sequence[dict[str, Any]]) -> float | None:
    """Return the rate over days: the uncached tokens are those of the calls that reported."""
    reported = [day for day in days if day["cache_hit_rate"] is not None]
    cached = sum(day["total_cached_tokens"] or 0 for day in reported)
    prompt = cached + sum(day["total_uncached_tokens"] or 0 for day in reported)
    return cached / prompt if prompt else None


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
