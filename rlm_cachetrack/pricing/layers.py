"""Schedules put together: one above the other by time, and with a provider's discount."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, NamedTuple

from rlm_cachetrack.pricing.file import Span

from .builtin_table import Period, Schedule

if TYPE_CHECKING:
    from rlm_cachetrack.pricing.file import DiscountRule

__all__ = ["ALWAYS", "Layer", "discounted", "layered"]

ALWAYS = Span(None, None)


class Layer(NamedTuple):
    """A schedule while it holds; None: it is known that there is no price."""

    span: Span
    schedule: Schedule | None


def layered(layers: Sequence[Layer]) -> Schedule | None:
    """One schedule of several: at any moment the first that holds then."""
    if layers[0].span == ALWAYS:
        return layers[0].schedule

    def resolve(moment: datetime) -> Period | None:
        for span, schedule in layers:
            if span.holds(moment):
                return None if schedule is None else schedule.always or schedule.at(moment)
        return None

    return Schedule(None, resolve, *_changes([span for span, _ in layers], [schedule for _, schedule in layers]))


def discounted(schedule: Schedule | None, rules: Sequence[DiscountRule], source: str) -> Schedule | None:
    """A schedule with a provider's discounts.

    Args:
        schedule: The prices before them.
        rules: The discounts; at any moment at most one holds.
        source: Where they come from, for the prices that they change.
    """
    if schedule is None or not rules:
        return schedule

    def reduced(period: Period | None, moment: datetime) -> Period | None:
        factor = next((rule.factor for rule in rules if rule.span.holds(moment)), 1.0)
        if period is None or factor == 1.0:
            return period
        rates = tuple(
            replace(
                rate,
                prompt=rate.prompt * factor,
                cached=rate.cached * factor,
                cache_write=rate.cache_write * factor,
                completion=rate.completion * factor,
                source=source if rate.source == source else f"{source}+{rate.source}",
            )
            for rate in period.rates
        )
        return Period(period.starts, rates)

    if schedule.always is not None and all(rule.span == ALWAYS for rule in rules):
        return Schedule(reduced(schedule.always, datetime.now(UTC)))
    inner = schedule

    def resolve(moment: datetime) -> Period | None:
        return reduced(inner.always or inner.at(moment), moment)

    return Schedule(None, resolve, *_changes([rule.span for rule in rules], [schedule]))


def _changes(spans: Iterable[Span], schedules: Iterable[Schedule | None]) -> tuple[list[int], list[time] | None]:
    """The days and times at which any of them may change, as :class:`Schedule` takes them."""
    days: list[int] = []
    times: list[time] | None = []
    for schedule in schedules:
        if schedule is not None:
            more_days, more_times = schedule.changes
            days += more_days
            times = None if times is None or more_times is None else times + more_times
    for moment in (moment for span in spans for moment in span if moment is not None):
        days.append(moment.toordinal())
        if moment.time() != time(0):  # the day has two parts, and what holds after it holds from its next day's first
            days.append(moment.toordinal() + 1)
            times = None if times is None else [*times, moment.time()]
    return days, times
