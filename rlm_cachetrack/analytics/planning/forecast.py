"""What coming days will cost, from the days that were: an expectation with an interval, and what it is made of.

The expectation of a day is the mean of the past days, and from two weeks of history on that of its weekday. Nothing
here needs a library: a mean, a standard deviation and a quantile. Days without calls count as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.analytics.intervals import t_quantile
from rlm_cachetrack.errors import ConfigError

from .repricing import scope
from .what_if import what_if

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = ["LEAST_DAYS", "DayForecast", "Forecast", "Split", "forecast_cost", "history", "no_ground", "outlook"]

LEAST_DAYS = 3
"""Whole days of history without which nothing is foretold."""
_WEEKDAYS_FROM = 14
_LONGEST = 56


class DayForecast(TypedDict):
    """One day to come (UTC)."""

    day: date
    expected_cost: float


class Split(TypedDict):
    """What the expected cost is made of, by day, and what changed it: the second half of the history to the first.

    ``interactions`` and ``prompt_tokens`` are the volume; ``hit_rate`` is 0-1; ``price`` is USD per 1M prompt tokens
    without the cache, completions included; ``savings_rate`` is the share (0-1) that the cache takes off. The
    ``*_effect`` are USD a day and add up to ``cost_change``; None where a half has no cost.
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
    """A forecast, or why there is none (``reason``; the figures are None then). Costs: USD."""

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
    """What a day was."""

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
    """The expectation of a day, and how far days lie from theirs."""

    by_weekday: tuple[float, ...]
    deviation: float
    freedom: int
    days: int
    method: str

    def of(self, day: date) -> float:
        """USD expected of a day."""
        return self.by_weekday[day.weekday()]

    def half_width(self, days: int, confidence: float) -> float:
        """Half of the interval of the sum of ``days`` days: their own scatter, and that of the means."""
        spread = self.deviation * math.sqrt(days + days * days / self.days)
        return t_quantile((1 + confidence) / 2, self.freedom) * spread


def history(store: PostgresStore, model: str | None, now: datetime) -> list[Day]:
    """The whole days before today that are of use, the oldest first, without a gap. Blocks for one query."""
    today = datetime.combine(now.astimezone(UTC).date(), time(0), UTC)
    rows = store.query("daily_costs", since=today - timedelta(days=_LONGEST), until=today, model=model)
    found = {row["day"].date(): row for row in rows}
    if not found:
        return []
    begin, days = min(found), []
    for number in range((today.date() - begin).days):
        day = begin + timedelta(days=number)
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


def no_ground(days: Sequence[Day]) -> str | None:
    """Why past days tell nothing of those to come; None where they do."""
    if len(days) < LEAST_DAYS:
        return (
            f"there {'is 1 whole day' if len(days) == 1 else f'are {len(days)} whole days'} of history before today: "
            f"it takes {LEAST_DAYS} to say more than a guess"
        )
    # Calls that failed without use, and calls of free models, cost nothing and are no reason.
    if (unpriced := sum(day.unpriced for day in days)) and not any(day.cost for day in days):
        calls, within = sum(day.interactions for day in days), f"calls of the last {len(days)} whole days"
        if unpriced == calls:
            return f"none of the {calls:,} {within} has a price"
        return f"of the {calls:,} {within} {unpriced:,} have no price, the others no cost"
    return None


def outlook(days: Sequence[Day]) -> Outlook | None:
    """What to expect of a day; None where :func:`no_ground` says why not."""
    if no_ground(days) is not None:
        return None
    means: tuple[float, ...]
    if len(days) < _WEEKDAYS_FROM:
        means, groups, method = (fmean(day.cost for day in days),) * 7, 1, "the mean of the days"
    else:
        by_weekday: list[list[float]] = [[] for _ in range(7)]
        for day in days:
            by_weekday[day.day.weekday()].append(day.cost)
        means, groups, method = tuple(map(fmean, by_weekday)), 7, "the mean of each weekday"
    freedom = len(days) - groups
    squares = math.fsum((day.cost - means[day.day.weekday()]) ** 2 for day in days)
    return Outlook(means, math.sqrt(squares / freedom), freedom, len(days), method)


def forecast_cost(
    store: PostgresStore,
    days: int = 30,
    *,
    model: str | None = None,
    hit_rate: float | None = None,
    confidence: float = 0.8,
    now: datetime | None = None,
) -> Forecast:
    """What the next days will cost, today included from its beginning. Blocks for a query, or three with a hit rate.

    Args:
        store: Where the calls are.
        days: How many days.
        model: Only calls of this model.
        hit_rate: Also: what it would be with this share (0-1) of the input from the cache.
        confidence: Of the interval: the share of times in which it is to hold the cost.
        now: Whose day is today; None: now.

    Raises:
        ConfigError: A number makes no sense.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 3660:
        raise ConfigError(f"days={days!r}: expected a whole number from 1 to 3660")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence!r}: expected a share between 0 and 1, such as 0.8")
    if hit_rate is not None and not 0 <= hit_rate <= 1:
        raise ConfigError(f"hit_rate={hit_rate!r}: expected a share from 0 to 1, such as 0.8 for 80 %")
    moment = now or datetime.now(UTC)
    past = history(store, model, moment)
    answer: Forecast = {
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
        answer["reason"] = no_ground(past)
        return answer
    today = moment.astimezone(UTC).date()
    coming = [today + timedelta(days=number) for number in range(days)]
    by_day: list[DayForecast] = [{"day": day, "expected_cost": expected.of(day)} for day in coming]
    total = math.fsum(day["expected_cost"] for day in by_day)
    half = expected.half_width(days, confidence)
    answer["method"] = expected.method
    answer["expected_cost"], answer["low"], answer["high"] = total, max(total - half, 0.0), total + half
    answer["split"] = _split(past)
    answer["by_day"] = by_day
    answer["assumptions"] = _assumptions(past, expected)
    if hit_rate is not None:
        which = scope(datetime.combine(past[0].day, time(0), UTC), datetime.combine(today, time(0), UTC), model)
        other = what_if(store, None, which, hit_rate=hit_rate)
        if other["actual_cost"]:
            answer["expected_cost_at_hit_rate"] = total * (other["what_if_cost"] or 0.0) / other["actual_cost"]
            answer["assumptions"] += other["assumptions"]
    return answer


def _assumptions(past: Sequence[Day], expected: Outlook) -> list[str]:
    said = [
        f"the days to come are like the last {len(past)}: no growth is foretold",
        "days vary independently of each other",
    ]
    if expected.freedom + 7 > len(past) and len(past) < _WEEKDAYS_FROM:
        said.append(f"every weekday is alike: it takes {_WEEKDAYS_FROM} days to tell them apart")
    if unpriced := sum(day.unpriced for day in past):
        said.append(f"{unpriced:,} calls without a price are left out")
    return said


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
    if first.cost > 0 and second.cost > 0 and all(one and other and min(one, other) > 0 for one, other in pairs):
        # The logarithmic mean shares a change among factors without a rest, whatever their order.
        # Source: B. W. Ang, "Decomposition analysis for policymaking in energy" (LMDI), Energy Policy 32 (2004).
        ratio = second.cost / first.cost
        weight = first.cost if ratio == 1 else (second.cost - first.cost) / math.log(ratio)
        effects = [weight * math.log((other or 1) / (one or 1)) for one, other in pairs]
        split["volume_effect"], split["hit_rate_effect"], split["price_effect"] = effects
    return split


@dataclass(frozen=True, slots=True)
class _Means:
    """Of some days, by day: cost = tokens x price x kept."""

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
