"""Schedules: the prices of one model over time and by prompt size. Several schedules can be combined."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, time
from typing import NamedTuple

from .hours import Hours
from .rates import Period


class Span(NamedTuple):
    """A period of time: ``start`` is included, ``end`` is not; None means unlimited.

    ``hours`` are the times of day and days of the week in it; None means all.
    """

    start: datetime | None
    end: datetime | None
    hours: Hours | None = None

    def holds(self, moment: datetime) -> bool:
        """Return True if ``moment`` is in the span."""
        return (
            (self.start is None or moment >= self.start)
            and (self.end is None or moment < self.end)
            and (self.hours is None or self.hours.holds(moment))
        )


ALWAYS = Span(None, None)


def intersect(one: Span, other: Span) -> bool:
    """Return True if two spans overlap and neither is more specific: one with hours precedes one without."""
    if (one.hours is None) != (other.hours is None):
        return False
    if one.hours is not None and other.hours is not None and not one.hours.intersects(other.hours):
        return False
    return (one.end is None or other.start is None or other.start < one.end) and (
        other.end is None or one.start is None or one.start < other.end
    )


class DatedFactor(NamedTuple):
    """A factor on all prices of a provider during a span."""

    factor: float
    span: Span = ALWAYS


class Schedule:
    """The prices of one model at one provider and tier over time.

    Args:
        always: The prices if they never change, else None.
        resolve: Returns the prices at a time (UTC), if they change.
        days: The days (ordinals) on which prices can change.
        times: The times of day (UTC) at which prices can change. None: at any moment, so results are not cached.
    """

    __slots__ = ("_days", "_periods", "_resolve", "_times", "always")

    def __init__(
        self,
        always: Period | None,
        resolve: Callable[[datetime], Period | None] | None = None,
        days: Iterable[int] = (),
        times: Iterable[time] | None = (),
    ) -> None:
        self.always = always
        self._resolve = resolve
        self._days = sorted(set(days))
        self._times = None if times is None else sorted(set(times))
        self._periods: dict[tuple[int, int], Period | None] = {}

    def mapped(self, change: Callable[[datetime], Period | None], *others: Schedule) -> Schedule:
        """Return a schedule with the prices that ``change`` returns; they change when this or ``others`` change."""
        schedules = (self, *others)
        if all(schedule.always is not None for schedule in schedules):
            return Schedule(change(datetime.now(UTC)))
        return Schedule(None, change, *_changes((), schedules))

    @property
    def changes(self) -> tuple[list[int], list[time] | None]:
        """Return the days (ordinals) and times of day (UTC; None: any) at which prices can change."""
        return self._days, self._times

    def at(self, moment: datetime | None) -> Period | None:
        """Return the prices at a time (None: now); None if the model has no prices then."""
        if self._resolve is None:
            return self.always
        if moment is None:
            moment = datetime.now(UTC)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if self._times is None:
            return self._resolve(moment)
        key = (bisect_right(self._days, moment.toordinal()), bisect_right(self._times, moment.time()))
        if key not in self._periods:
            self._periods[key] = self._resolve(moment)
        return self._periods[key]


class Layer(NamedTuple):
    """A schedule and the span in which it applies; a schedule of None means that there is no price."""

    span: Span
    schedule: Schedule | None


def combine(layers: Sequence[Layer]) -> Schedule | None:
    """Combine schedules: at any time, the first layer whose span contains it applies."""
    if layers[0].span == ALWAYS:
        return layers[0].schedule

    def resolve(moment: datetime) -> Period | None:
        for span, schedule in layers:
            if span.holds(moment):
                return None if schedule is None else schedule.at(moment)
        return None

    return Schedule(None, resolve, *_changes([span for span, _ in layers], [schedule for _, schedule in layers]))


def apply_discounts(schedule: Schedule | None, rules: Sequence[DatedFactor], source: str) -> Schedule | None:
    """Apply a provider's discounts to a schedule.

    Args:
        schedule: The prices without discounts.
        rules: The discounts; their spans do not overlap.
        source: The price source of the discounts, added to the source of the discounted prices.
    """
    if schedule is None or not rules:
        return schedule

    def reduced(period: Period | None, moment: datetime) -> Period | None:
        factor = next((rule.factor for rule in rules if rule.span.holds(moment)), 1.0)
        if period is None or factor == 1.0:
            return period
        rates = tuple(
            rate.times(
                factor,
                of_tokens_only=False,
                source=rate.source if rate.source.split("+")[0] == source else f"{source}+{rate.source}",
            )
            for rate in period.rates
        )
        return Period(period.starts, rates)

    if schedule.always is not None and all(rule.span == ALWAYS for rule in rules):
        return Schedule(reduced(schedule.always, datetime.now(UTC)))
    inner = schedule

    def resolve(moment: datetime) -> Period | None:
        return reduced(inner.at(moment), moment)

    return Schedule(None, resolve, *_changes([rule.span for rule in rules], [schedule]))


def _changes(spans: Iterable[Span], schedules: Iterable[Schedule | None]) -> tuple[list[int], list[time] | None]:
    """Return the days and times at which any of the spans and schedules can change, as :class:`Schedule` expects."""
    days: list[int] = []
    times: list[time] | None = []
    for schedule in schedules:
        if schedule is not None:
            more_days, more_times = schedule.changes
            days += more_days
            times = None if times is None or more_times is None else times + more_times
    for span in spans:
        if span.hours is not None:
            days += span.hours.days
            times = None if times is None else times + span.hours.times
        for moment in (span.start, span.end):
            if moment is None:
                continue
            days.append(moment.toordinal())
            if moment.time() != time(0):  # prices change within the day, so the next day begins with other prices
                days.append(moment.toordinal() + 1)
                times = None if times is None else [*times, moment.time()]
    return days, times
