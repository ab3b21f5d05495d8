"""The forecast follows a lasting change in the daily cost, but not one odd day, in every place that shows it."""

from __future__ import annotations

import random
import urllib.request
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics.planning import budgets, forecast, month_outlook
from rlm_cachetrack.cli import app
from tests.support.web import served

NOW = datetime(2026, 12, 2, 6, tzinfo=UTC)
PERIOD = 28  # whole weeks, whose cost does not depend on the weekdays that come more often


def outlook_of(costs: list[float]) -> forecast.Outlook:
    first = NOW.date() - timedelta(days=len(costs))
    found = forecast.outlook([forecast.Day(first + timedelta(days=n), cost=cost) for n, cost in enumerate(costs)])
    assert found is not None
    return found


def expected(costs: list[float]) -> tuple[float, float, float]:
    """Return the expected cost of the coming 28 days and its interval."""
    found = outlook_of(costs)
    total = sum(found.of(NOW.date() + timedelta(days=number)) for number in range(PERIOD))
    return (total, *found.interval(total, PERIOD, 0.8))


def noisy(mean: float, days: int, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [mean * rng.uniform(0.85, 1.15) for _ in range(days)]


@pytest.mark.parametrize("days", [14, 20, 35, 56])
def test_a_constant_cost_is_forecast_without_doubt(days: int) -> None:
    assert expected([0.7] * days) == pytest.approx((19.6, 19.6, 19.6))


@pytest.mark.parametrize("factor", [0.2, 1.3, 2.0, 10.0])
@pytest.mark.parametrize("days", [14, 35, 50])
def test_a_step_a_week_ago_is_followed(days: int, factor: float) -> None:
    for seed in range(5):
        before, after = noisy(0.7, days - 7, seed), noisy(0.7 * factor, 7, seed + 100)
        rate = PERIOD * sum(after) / 7
        total, low, high = expected(before + after)
        assert total == pytest.approx(rate, rel=0.1)
        assert low <= rate <= high
        old = PERIOD * sum(before + after) / days
        assert low - 1e-9 <= old <= high + 1e-9  # one week does not prove that the change lasts


def test_a_step_keeps_the_pattern_of_the_weekdays() -> None:
    first = NOW.date() - timedelta(days=35)
    weekend = [(first + timedelta(days=number)).weekday() >= 5 for number in range(35)]
    costs = [(0.0 if is_weekend else 2.0) * (2 if n >= 28 else 1) for n, is_weekend in enumerate(weekend)]
    found = outlook_of(costs)
    assert found.of(date(2026, 12, 4)) == pytest.approx(4.0)  # a Friday
    assert found.of(date(2026, 12, 5)) == 0.0


@pytest.mark.parametrize("days", [14, 35, 56])
@pytest.mark.parametrize("ago", [1, 4, 7])
def test_one_odd_day_changes_the_forecast_by_its_share_of_the_history_only(days: int, ago: int) -> None:
    costs = noisy(1.0, days, 3)
    plain, _, _ = expected(costs)
    costs[-ago] += 20.0
    total, low, high = expected(costs)
    # The history has days / 7 days of the same weekday, and the next 28 days have four.
    assert total - plain <= 4 * 20.0 / (days // 7) + 1e-9
    assert low <= PERIOD * sum(costs[-7:]) / 7 <= high


def test_the_interval_reaches_a_recent_rate_that_is_not_followed() -> None:
    before = [1.0] * 28
    total, low, high = expected([*before, 1, 1, 1, 3, 3, 1, 3])
    assert total < 28 * 1.5
    assert low <= total
    assert high >= PERIOD * 13 / 7


def test_chance_differences_are_rarely_followed() -> None:
    followed = sum(outlook_of(noisy(1.0, 35, seed)).follows_last_week for seed in range(1_000))
    assert followed < 80  # the test's level is 5%


def store_costs(db: TimescaleDBClient, cost_of: Callable[[int], float], now: datetime) -> None:
    """Record one call a day for 35 days, at noon; the argument of ``cost_of`` is the number of days ago."""
    for ago in range(1, 36):
        at = now.replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=ago)
        db.record_llm_interaction(
            LLMInteractionRecord(
                "q", at, "m", prompt_tokens=1000, cached_tokens=0, total_cost=cost_of(ago), start_time=at
            )
        )
    assert db.flush()


def risen(ago: int) -> float:
    return (0.876 if ago <= 7 else 0.70) + 0.01 * (ago % 3)


def test_a_budget_that_the_recent_rate_exceeds_is_not_within(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        store_costs(db, risen, NOW)
        db.set_budget(25, "month")
        check = budgets.check_budget(db.reader(), now=NOW)
        month = month_outlook(db.reader(), now=NOW)
        found = forecast.forecast_cost(db.reader(), now=NOW)
    rate = sum(risen(ago) for ago in range(1, 8)) / 7
    whole_month = risen(1) + 29.75 * rate  # December 1st, then 30 days of which six hours have passed
    assert check["status"] == "will be exceeded"
    assert check["expected_cost"] == pytest.approx(whole_month, rel=0.02)
    assert month["expected_cost"] == pytest.approx(check["expected_cost"])
    assert month["low"] is not None
    assert month["high"] is not None
    assert month["low"] < whole_month < month["high"]
    assert found["expected_cost"] == pytest.approx(30 * rate, rel=0.02)
    assert found["method"] == "level of the last 7 days, by weekday"


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_the_commands_and_the_pages_show_the_changed_level(db_url: str, today: datetime) -> None:
    with TimescaleDBClient(db_url) as db:
        store_costs(db, lambda ago: 2.0 if ago <= 7 else 1.0, today)
    shown = " ".join(cli("forecast", "--days", "30", "--db-url", db_url).stdout.split())
    assert "$60.00 in 30 days" in shown
    sentence = "the coming days are like the last 7: they cost $2.00 per day on average, the days before $1.00"
    assert sentence in shown
    assert "interval: $36.00 to $60.00" in shown  # the mean of the whole history is 1.2 per day
    pytest.importorskip("fastapi", reason="the dashboard needs its extra")
    with served(db_url) as address, urllib.request.urlopen(f"{address}/forecast", timeout=180) as page:
        assert sentence in page.read().decode()


@pytest.mark.usefixtures("today")
def test_strict_fails_when_the_recent_rate_exceeds_the_budget(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        store_costs(db, lambda ago: 2.0 if ago <= 7 else 1.0, datetime.now(UTC))
        db.set_budget(10_000, "month")
        found = db.check_budget()
        assert found["expected_cost"] is not None
        # The recent rate is 2 per day, the mean of the history 1.2; the rest of the month may cost 1.6 per day.
        db.set_budget(found["spent"] + 0.8 * (found["expected_cost"] - found["spent"]), "month")
    assert cli("budget", "check", "--db-url", db_url).exit_code == 0
    strict = cli("budget", "check", "--strict", "--db-url", db_url)
    assert strict.exit_code == 1
    assert "will be exceeded" in strict.stdout
