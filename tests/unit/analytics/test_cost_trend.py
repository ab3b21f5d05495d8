"""The trend of a group's cost by day: whole days without gaps, with the period before."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rlm_cachetrack.analytics import QueryRow, cost_trend, time_ranges

NOW = datetime(2026, 3, 20, 15, 30, tzinfo=UTC)


def row(before: dict[int, float | None], now: dict[int, float | None], zone: str = "UTC") -> QueryRow:
    """Return a row with costs by day of March 2026."""

    def days(costs: dict[int, float | None]) -> list[Any]:
        at = {day: datetime(2026, 3, day, tzinfo=ZoneInfo(zone)).astimezone(UTC) for day in costs}
        return [{"day": at[day], "total_cost": cost, "cache_hit_rate": None} for day, cost in costs.items()]

    return {"by_day_before": days(before), "by_day": days(now)}  # type: ignore[typeddict-item]


def test_the_trend_has_the_period_before_but_no_part_of_a_day() -> None:
    # Seven days from 13 March, 15:00; before them those from 6 March, so 7 to 19 March are whole days.
    within = time_ranges.span("7d", now=NOW)
    given = row({6: 9.0, 7: 1.0, 12: 2.0, 13: 0.5}, {13: 0.25, 14: 3.0, 18: None, 19: 4.0, 20: 0.1})
    assert cost_trend(given, within, NOW) == (
        [1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.75, 3.0, 0.0, 0.0, 0.0, 0.0, 4.0],
        6,
    )


def test_the_trend_of_all_time_begins_with_the_first_day() -> None:
    within = time_ranges.span("all", now=NOW)
    assert cost_trend(row({}, {16: 1.0, 18: 2.0, 20: 0.1}), within, NOW) == ([1.0, 0.0, 2.0, 0.0], 0)
    assert cost_trend(row({}, {20: 0.1}), within, NOW) == ([], 0)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_the_trend_of_given_days_has_all_of_them(zone: str) -> None:
    begin = datetime(2026, 3, 10, tzinfo=ZoneInfo(zone))
    within = time_ranges.span(since=begin, until=begin + timedelta(days=3), now=NOW, zone=zone)
    found = cost_trend(row({7: 1.0, 8: 2.0, 9: 3.0}, {10: 4.0, 11: 5.0, 12: 6.0}, zone), within, NOW)
    assert found == ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3)


def test_a_day_in_another_zone_is_over_at_its_own_midnight() -> None:
    zone = "Asia/Tokyo"  # there it is 21 March, 00:30
    within = time_ranges.span("7d", now=NOW, zone=zone)
    found = cost_trend(row({}, {20: 5.0, 21: 0.1}, zone), within, NOW)
    assert found.costs[-1] == 5.0
    assert len(found.costs) == (date(2026, 3, 21) - date(2026, 3, 7)).days
