"""Forecast the cost of the coming days from the past days, with an interval and its components.

The expected cost of a day is the mean of the past days; with two weeks of history or more, the mean of its weekday.
If the last seven days differ from the same weekdays before by more than chance, the forecast follows their level.
Days without calls count as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from rlm_cachetrack.analytics.cost_effects import log_mean_effects
from rlm_cachetrack.analytics.filters import CallFilters, needs_calls, query_parameters
from rlm_cachetrack.analytics.intervals import t_quantile
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import usd

from .what_if import what_if

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

MIN_DAYS = 3
"""The whole days of history that a forecast needs."""
_MIN_DAYS_FOR_WEEKDAYS = 14
_MAX_DAYS = 56
_WEEK = 7
_LEVEL_CONFIDENCE = 0.95
_SMALLEST_CHANGE = 0.01
"""The forecast follows the last week only if its mean cost differs by at least this share."""


class DayForecast(TypedDict):
    """One coming day (UTC)."""

    day: date
    expected_cost: float


class Split(TypedDict):
    """The components of the expected cost of a day, and their changes between the halves of the history.

    ``interactions`` and ``prompt_tokens`` are the volume; ``hit_rate`` is 0-1; ``price`` is USD per 1M prompt tokens
    without the cache, completions included; ``savings_rate`` is the share (0-1) that the cache saves. The
    ``*_effect`` are USD per day and add up to ``cost_change``; None if a half has no cost.
    """

    interactions: float
    prompt_tokens: float
    hit_rate: float | None
    price: float | None
    savings_rate: float | None
    cost_change: float | None
    volume_effect: float | None
    hit_rate_effect: float | None
    price_effect: float | None


class Forecast(TypedDict):
    """A forecast, or the ``reason`` why there is none; its figures are then None. Costs: USD."""

    days: int
    history_days: int
    history_from: date | None
    history_to: date | None
    reason: str | None
    method: str | None
    confidence: float
    expected_cost: float | None
    low: float | None
    high: float | None
    at_hit_rate: float | None
    expected_cost_at_hit_rate: float | None
    split: Split | None
    by_day: list[DayForecast]
    assumptions: list[str]


@dataclass(frozen=True, slots=True)
class Day:
    """The calls, tokens and cost (USD) of one day."""

    day: date
    interactions: int = 0
    unpriced: int = 0
    prompt_tokens: int = 0
    reported: int = 0
    cached: int = 0
    cost: float = 0.0
    original: float = 0.0
    compared: float = 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """The expected cost of each weekday, and the deviation of days from it.

    ``days`` is the number of days that determine the level. ``recent`` and ``earlier`` are the mean costs of a day of
    the last week and of the days before it; None with less than two weeks of history. ``other_level`` is the
    difference, in USD per day, between the level that is not used (last week or whole history) and the one that is.
    """

    by_weekday: tuple[float, ...]
    deviation: float
    freedom: int
    days: int
    method: str
    recent: float | None = None
    earlier: float | None = None
    other_level: float = 0.0
    follows_last_week: bool = False

    def of(self, day: date) -> float:
        """Return the expected cost of a day in USD."""
        return self.by_weekday[day.weekday()]

    def half_width(self, days: int, confidence: float) -> float:
        """Return half the width of the interval for the total of ``days`` days, by the variances of days and means."""
        spread = self.deviation * math.sqrt(days + days * days / self.days)
        return t_quantile((1 + confidence) / 2, self.freedom) * spread

    def interval(self, total: float, days: int, confidence: float) -> tuple[float, float]:
        """Return the interval around the ``total`` of ``days`` days, which contains both levels."""
        half, other = self.half_width(days, confidence), days * self.other_level
        return total - max(half, -other), total + max(half, other)


def history(store: PostgresStore, now: datetime, **filters: Unpack[CallFilters]) -> list[Day]:
    """Return up to 56 whole days before today, the oldest first, without gaps. Blocks for one query.

    Raises:
        ConfigError: The filters have ``until``.
    """
    if filters.get("until") is not None:
        raise ConfigError("a forecast has no filter until: its history ends yesterday")
    today = _midnight(now)
    begin = today - timedelta(days=_MAX_DAYS)
    since = filters.get("since")
    if since is not None and since > begin:
        begin = _midnight(since)
        begin = begin if begin == since else begin + timedelta(days=1)
    which = query_parameters({**filters, "since": begin}) | {"until": today}
    name = "daily_costs_of_calls" if needs_calls(filters) else "daily_costs"
    return days_of(store.query(name, **which), today.date())


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.astimezone(UTC).date(), time(0), UTC)


def days_of(rows: Sequence[dict[str, Any]], today: date) -> list[Day]:
    """Return the days before today that rows of ``daily_costs`` describe, at most 56, without gaps. Pure."""
    earliest = today - timedelta(days=_MAX_DAYS)
    rows = [row for row in rows if earliest <= row["day"].date() < today]
    found = {row["day"].date(): row for row in rows}
    if not found:
        return []
    first, days = min(found), []
    for number in range((today - first).days):
        day = first + timedelta(days=number)
        row = found.get(day)
        days.append(Day(day) if row is None else _day(day, row))
    return days


def _day(day: date, row: dict[str, Any]) -> Day:
    return Day(
        day,
        row["interactions"],
        row["unpriced_interactions"],
        row["prompt_tokens"],
        row["reported_prompt_tokens"],
        row["cached_tokens"],
        row["total_cost"],
        row["original_cost"],
        row["compared_cost"],
    )


def no_forecast_reason(days: Sequence[Day]) -> str | None:
    """Return the reason why the past days allow no forecast; None if they allow one."""
    if len(days) < MIN_DAYS:
        whole_days = "1 whole day" if len(days) == 1 else f"{len(days)} whole days"
        return f"the history has {whole_days} before today; a forecast needs {MIN_DAYS}"
    # Calls that failed without usage and calls of free models cost nothing, which allows a forecast of $0.
    if (unpriced := sum(day.unpriced for day in days)) and not any(day.cost for day in days):
        calls, within = sum(day.interactions for day in days), f"calls of the last {len(days)} whole days"
        if unpriced == calls:
            return f"all {calls:,} {within} are unpriced"
        return f"of the {calls:,} {within} {unpriced:,} are unpriced, and the others cost nothing"
    return None


def outlook(days: Sequence[Day]) -> Outlook | None:
    """Return the expected cost of days, None if :func:`no_forecast_reason` gives a reason."""
    if no_forecast_reason(days) is not None:
        return None
    if len(days) < _MIN_DAYS_FOR_WEEKDAYS:
        mean = fmean(day.cost for day in days)
        deviation = math.sqrt(_squares(days, (mean,) * 7) / (len(days) - 1))
        return Outlook((mean,) * 7, deviation, len(days) - 1, len(days), "mean of all days")
    return _outlook_by_weekday(days)


def _outlook_by_weekday(days: Sequence[Day]) -> Outlook:
    """Return the outlook of two weeks of history or more.

    The last week is compared with the mean of the same weekdays before by a paired t test, two-sided at 5%. If
    they differ, the outlook has the level of the last week. One odd day is not followed: its t value is about 1.
    """
    last_week, before = days[-_WEEK:], days[:-_WEEK]
    means, earlier = _weekday_means(days), _weekday_means(before)
    differences = [day.cost - earlier[day.day.weekday()] for day in last_week]
    recent_level, earlier_level = fmean(day.cost for day in last_week), fmean(earlier)
    error = stdev(differences) / math.sqrt(_WEEK)
    least = max(
        t_quantile((1 + _LEVEL_CONFIDENCE) / 2, _WEEK - 1) * error,
        _SMALLEST_CHANGE * max(recent_level, earlier_level),
    )
    if abs(fmean(differences)) <= least:
        freedom = len(days) - 7
        deviation = math.sqrt(_squares(days, means) / freedom)
        method, other = "mean of each weekday", recent_level - fmean(means)
        return Outlook(means, deviation, freedom, len(days), method, recent_level, earlier_level, other)
    flat = (recent_level,) * 7
    level = tuple(recent_level * mean / earlier_level for mean in earlier) if earlier_level else flat
    freedom = len(days) - 8
    deviation = math.sqrt((_squares(before, earlier) + _squares(last_week, level)) / freedom)
    method, other = "level of the last 7 days, by weekday", fmean(day.cost for day in days) - recent_level
    return Outlook(level, deviation, freedom, _WEEK, method, recent_level, earlier_level, other, follows_last_week=True)


def _weekday_means(days: Sequence[Day]) -> tuple[float, ...]:
    by_weekday: list[list[float]] = [[] for _ in range(7)]
    for day in days:
        by_weekday[day.day.weekday()].append(day.cost)
    return tuple(map(fmean, by_weekday))


def _squares(days: Sequence[Day], expected: Sequence[float]) -> float:
    return math.fsum((day.cost - expected[day.day.weekday()]) ** 2 for day in days)


def forecast_cost(
    store: PostgresStore,
    days: int = 30,
    *,
    hit_rate: float | None = None,
    confidence: float = 0.8,
    now: datetime | None = None,
    **filters: Unpack[CallFilters],
) -> Forecast:
    """Forecast the cost of the next days, including all of today. Blocks for one query, or three with a hit rate.

    Args:
        store: The store of the calls.
        days: The number of days.
        hit_rate: Also forecast the cost at this hit rate (0-1).
        confidence: The confidence level of the interval, between 0 and 1.
        now: The current time; None: now.
        filters: See :class:`.CallFilters`; from ``since``, the history begins with the first whole day (UTC).

    Raises:
        ConfigError: A number is out of range, or the filters have ``until``.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 3660:
        raise ConfigError(f"days={days!r}: expected a whole number from 1 to 3660")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence!r}: expected a share between 0 and 1, such as 0.8")
    if hit_rate is not None and not 0 <= hit_rate <= 1:
        raise ConfigError(f"hit_rate={hit_rate!r}: expected a share from 0 to 1, such as 0.8 for 80%")
    moment = now or datetime.now(UTC)
    past = history(store, moment, **filters)
    result: Forecast = {
        "days": days,
        "history_days": len(past),
        "history_from": past[0].day if past else None,
        "history_to": past[-1].day if past else None,
        "reason": None,
        "method": None,
        "confidence": confidence,
        "expected_cost": None,
        "low": None,
        "high": None,
        "at_hit_rate": hit_rate,
        "expected_cost_at_hit_rate": None,
        "split": None,
        "by_day": [],
        "assumptions": [],
    }
    expected = outlook(past)
    if expected is None:
        result["reason"] = no_forecast_reason(past)
        return result
    today = moment.astimezone(UTC).date()
    coming = [today + timedelta(days=number) for number in range(days)]
    by_day: list[DayForecast] = [{"day": day, "expected_cost": expected.of(day)} for day in coming]
    total = math.fsum(day["expected_cost"] for day in by_day)
    low, high = expected.interval(total, days, confidence)
    result["method"] = expected.method
    result["expected_cost"], result["low"], result["high"] = total, max(low, 0.0), high
    result["split"] = _split(past)
    result["by_day"] = by_day
    result["assumptions"] = _assumptions(past, expected)
    if hit_rate is not None:
        since = datetime.combine(past[0].day, time(0), UTC)
        which: CallFilters = {**filters, "since": since, "until": _midnight(moment)}
        other = what_if(store, None, hit_rate=hit_rate, **which)
        if other["actual_cost"]:
            result["expected_cost_at_hit_rate"] = total * (other["what_if_cost"] or 0.0) / other["actual_cost"]
            result["assumptions"] += other["assumptions"]
    return result


def _assumptions(past: Sequence[Day], expected: Outlook) -> list[str]:
    if expected.follows_last_week:
        means = f"they cost {usd(expected.recent)} per day on average, the days before {usd(expected.earlier)}"
        lines = [f"the coming days are like the last 7: {means}, which is more than a chance difference"]
    else:
        lines = [f"the coming days are like the last {len(past)}: no growth is assumed"]
    if expected.recent is not None:
        lines.append("the interval includes the mean of the last 7 days and the mean of the whole history")
    lines.append("days vary independently of each other")
    if len(past) < _MIN_DAYS_FOR_WEEKDAYS:
        lines.append(f"weekdays are not distinguished: that needs {_MIN_DAYS_FOR_WEEKDAYS} days of history")
    if unpriced := sum(day.unpriced for day in past):
        lines.append(f"{unpriced:,} unpriced calls are left out" if unpriced > 1 else "1 unpriced call is left out")
    return lines


def _split(past: Sequence[Day]) -> Split:
    whole, middle = _means(past), len(past) // 2
    first, second = _means(past[:middle]), _means(past[-middle:])
    split: Split = {
        "interactions": fmean(day.interactions for day in past),
        "prompt_tokens": whole.tokens,
        "hit_rate": whole.hit_rate,
        "price": whole.price,
        "savings_rate": None if whole.kept is None else 1 - whole.kept,
        "cost_change": second.cost - first.cost,
        "volume_effect": None,
        "hit_rate_effect": None,
        "price_effect": None,
    }
    pairs = [(first.tokens, second.tokens), (first.kept, second.kept), (first.price, second.price)]
    effects = log_mean_effects(first.cost, second.cost, pairs)
    if effects is not None:
        split["volume_effect"], split["hit_rate_effect"], split["price_effect"] = effects
    return split


@dataclass(frozen=True, slots=True)
class _Means:
    """Daily means of some days, where cost = tokens x price x kept (the share that the cache leaves)."""

    cost: float
    tokens: float
    price: float | None
    kept: float | None
    hit_rate: float | None


def _means(days: Sequence[Day]) -> _Means:
    cost, tokens = fmean(day.cost for day in days), fmean(day.prompt_tokens for day in days)
    original, compared = sum(day.original for day in days), sum(day.compared for day in days)
    reported, cached = sum(day.reported for day in days), sum(day.cached for day in days)
    kept = compared / original if original else None
    price = cost / kept / tokens * 1e6 if kept and tokens else None
    return _Means(cost, tokens, price, kept, cached / reported if reported else None)
