"""Times of day and days of the week at which prices apply, in UTC, and the days without peak prices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import NamedTuple

# Prices by day of the week have no dates, so the days on which they change are listed within these bounds.
_FIRST, _LAST = date(2020, 1, 1), date(2040, 1, 1)

# "Peak hours are 01:00-04:00 and 06:00-10:00 UTC, Monday through Friday, excluding Chinese public holidays". Sources:
# https://api-docs.deepseek.com/quick_start/pricing; weekends since 2026-08-23:
# https://github.com/xyzs996/llm-api-pricing/discussions/44; read on 2026-12-01.
_DEEPSEEK_WEEKENDS_SINCE = date(2026, 8, 23)
_DEEPSEEK_PEAKS_SINCE = date(2026, 8, 17)
# Mid-autumn and National Day, the holidays of 2026 since then.
_CHINESE_HOLIDAYS = frozenset((date(2026, 9, 25), *(date(2026, 10, day) for day in range(1, 8))))


class Hours(NamedTuple):
    """Recurring times in UTC.

    Attributes:
        ranges: Ranges of times of day, the end not included; a range that ends before it starts contains midnight.
            Empty: the whole day.
        weekdays: Days of the week, 0 is Monday. Empty: every day.
    """

    ranges: tuple[tuple[time, time], ...] = ()
    weekdays: frozenset[int] = frozenset()

    def holds(self, moment: datetime) -> bool:
        """Return True if a time (UTC) is within these times."""
        if self.weekdays and moment.weekday() not in self.weekdays:
            return False
        return not self.ranges or any(_is_in(moment.time(), *one) for one in self.ranges)

    def intersects(self, other: Hours) -> bool:
        """Return True if the two overlap."""
        if self.weekdays and other.weekdays and not self.weekdays & other.weekdays:
            return False
        return (
            not self.ranges
            or not other.ranges
            or any(_is_in(one[0], *two) or _is_in(two[0], *one) for one in self.ranges for two in other.ranges)
        )

    @property
    def times(self) -> list[time]:
        """Return the times of day at which a range starts or ends."""
        return [moment for one in self.ranges for moment in one]

    @property
    def days(self) -> list[int]:
        """Return the days (ordinals) on which the weekdays start or end."""
        if not self.weekdays:
            return []
        return _changes((day.weekday() in self.weekdays, day) for day in _all_days(_FIRST))


def _is_in(moment: time, start: time, end: time) -> bool:
    return start <= moment < end if start < end else moment >= start or moment < end


def _all_days(first: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((_LAST - first).days))


def _changes(days: Iterable[tuple[bool, date]]) -> list[int]:
    return [day.toordinal() for (before, _), (now, day) in pairwise(days) if before != now]


def has_peak(provider: str, model: str, day: date) -> bool:
    """Return True if the peak prices of a provider's model apply on a day (UTC), False if it is off-peak all day.

    Chinese public holidays after 2026 count as working days: they are announced a few weeks before each year.
    """
    if provider != "deepseek":
        return True
    if day < _DEEPSEEK_PEAKS_SINCE:  # the prices by hours before are those of the V3 models
        return model in ("deepseek-chat", "deepseek-reasoner")
    return day < _DEEPSEEK_WEEKENDS_SINCE or (day.weekday() < 5 and day not in _CHINESE_HOLIDAYS)


def peak_changes(provider: str, model: str) -> list[int]:
    """Return the days (ordinals) on which :func:`has_peak` changes."""
    if provider != "deepseek":
        return []
    first = _DEEPSEEK_PEAKS_SINCE - timedelta(days=1)
    return _changes((has_peak(provider, model, day), day) for day in _all_days(first))
