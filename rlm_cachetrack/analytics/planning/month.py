"""The calendar month: the spend so far, the expected cost of the whole month, and its budget. Days are UTC."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypedDict, Unpack

from rlm_cachetrack.analytics.filters import CallFilters, ContentFilters, needs_calls, query_parameters

from .budgets import budgets
from .forecast import days_of, no_forecast_reason, outlook

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_HISTORY_DAYS = 56
CONFIDENCE = 0.8
"""The confidence level of the interval of a month's expected cost."""


class MonthDay(TypedDict):
    """One day: its cost (None until the day is over), and the cost of the month up to its end, spent or expected.

    ``low`` and ``high`` are the interval of the expected sum; None for days that are over.
    """

    day: date
    cost: float | None
    sum_cost: float
    low: float | None
    high: float | None


class MonthOutlook(TypedDict):
    """The current calendar month. Costs: USD, without unpriced calls.

    ``spent`` is None if no call of the month is priced although there are calls. ``spent_before`` is the cost of the
    previous month up to the same day and time of day. ``expected_cost`` of the whole month has the interval from
    ``low`` to ``high``; they are None for the ``reason`` given. ``budget`` is the smallest monthly budget with the same
    model, None without one. ``recent_costs`` are the costs of the last 30 days, today included.
    """

    month_from: date
    month_to: date
    spent: float | None
    unpriced_interactions: int
    spent_before: float
    expected_cost: float | None
    low: float | None
    high: float | None
    confidence: float
    reason: str | None
    budget_name: str | None
    budget: float | None
    by_day: list[MonthDay]
    recent_costs: list[float]


class SameDays(NamedTuple):
    """The time from ``begin`` to ``end``."""

    begin: datetime
    end: datetime


def month_outlook(store: PostgresStore, now: datetime | None = None, **filters: Unpack[ContentFilters]) -> MonthOutlook:
    """Return the costs of the current month. Blocks for two queries.

    Args:
        store: The store of the calls.
        now: The current time; None: now.
        filters: Only these calls. Budgets are per model at most, so with any other filter ``budget`` is None.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    today = moment.date()
    begin = today.replace(day=1)
    end = (begin + timedelta(days=32)).replace(day=1)
    same_days = same_days_before(moment)
    first = min(same_days.begin.date(), today - timedelta(days=_HISTORY_DAYS))
    chosen: CallFilters = {**filters, "since": _midnight(first), "until": _midnight(end)}
    name = "daily_costs_of_calls" if needs_calls(chosen) else "daily_costs"
    rows = store.query(name, **query_parameters(chosen))
    costs = {row["day"].date(): row["total_cost"] for row in rows}
    of_month = [row for row in rows if row["day"].date() >= begin]
    calls, unpriced = (sum(row[name] for row in of_month) for name in ("interactions", "unpriced_interactions"))
    spent = math.fsum(row["total_cost"] for row in of_month)
    elapsed = (moment - _midnight(today)) / timedelta(days=1)
    past = days_of(rows, today)
    expected = outlook(past)
    found: MonthOutlook = {
        "month_from": begin,
        "month_to": end - timedelta(days=1),
        "spent": None if calls and calls == unpriced else spent,
        "unpriced_interactions": unpriced,
        "spent_before": _cost_within(costs, same_days),
        "expected_cost": None,
        "low": None,
        "high": None,
        "confidence": CONFIDENCE,
        "reason": no_forecast_reason(past),
        "budget_name": None,
        "budget": None,
        "by_day": [],
        "recent_costs": [costs.get(today - timedelta(days=number), 0.0) for number in range(29, -1, -1)],
    }
    if not (filters.get("provider") or needs_calls(chosen)):
        of_budget = [one for one in budgets(store) if one["period"] == "month" and one["model"] == filters.get("model")]
        if of_budget:
            smallest = min(of_budget, key=lambda one: one["amount_usd"])
            found["budget_name"], found["budget"] = smallest["name"], smallest["amount_usd"]
    total = 0.0
    for number in range((today - begin).days + 1):
        day = begin + timedelta(days=number)
        total += costs.get(day, 0.0)
        found["by_day"].append({"day": day, "cost": costs.get(day, 0.0), "sum_cost": total, "low": None, "high": None})
    if expected is None:
        return found
    left = 1 - elapsed
    total += expected.of(today) * left
    day = today + timedelta(days=1)
    while day < end:
        left += 1
        total += expected.of(day)
        low, high = expected.interval(total, math.ceil(left), CONFIDENCE)
        found["by_day"].append({"day": day, "cost": None, "sum_cost": total, "low": max(low, spent), "high": high})
        day += timedelta(days=1)
    low, high = expected.interval(total, math.ceil(left), CONFIDENCE)
    found["expected_cost"], found["low"], found["high"] = total, max(low, spent), high
    return found


def same_days_before(now: datetime) -> SameDays:
    """Return the part of the previous month that the current month up to ``now`` is compared with. Pure."""
    begin = _midnight(now.astimezone(UTC).date().replace(day=1))
    previous = (begin - timedelta(days=1)).replace(day=1)
    return SameDays(previous, min(previous + (now - begin), begin))


def _cost_within(costs: dict[date, float], part: SameDays) -> float:
    """Return the cost within a part of time: of the day in which it ends, the share of its cost up to the end."""
    last = part.end.date()
    whole = math.fsum(cost for day, cost in costs.items() if part.begin.date() <= day < last)
    return whole + costs.get(last, 0.0) * ((part.end - _midnight(last)) / timedelta(days=1))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(0), UTC)
