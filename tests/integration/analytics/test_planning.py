"""What-if, forecast, budgets and reconciling, on a real PostgreSQL, with expected values computed by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics.planning import budgets, forecast
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError, NotStoredError

T0 = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
PRICES = """\
version: 1
per: 1M
models:
  big: {prompt: 10, cached: 1, cache_write: 12.5, completion: 40, tiers: {flex: 0.5}}
  small: {prompt: 2, cached: 0.5, completion: 8, above: {100000: {prompt: 4, cached: 1, completion: 12}}}
  short: {prompt: 1, completion: 1}
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return path


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "140"})


def call(at: datetime, prompt: int, completion: int = 0, model: str = "big", **more: Any) -> LLMInteractionRecord:
    given = {"cached_tokens": 0, "start_time": at, "provider": "openai", **more}
    return LLMInteractionRecord("q", T0, model, prompt_tokens=prompt, completion_tokens=completion, **given)


# -- what if ----------------------------------------------------------------------------------------------------------


def fill(db: TimescaleDBClient) -> None:
    """Record five calls: two of the model big, a long one, an unpriced and a failed one."""
    db.record_llm_interaction(call(T0, 10_000, 500, cached_tokens=8_000))  # 2,000 x 10 + 8,000 x 1 + 500 x 40 = 0.048
    db.record_llm_interaction(call(T0, 200_000, 1_000))  # 200,000 x 10 + 1,000 x 40 = 2.04
    db.record_llm_interaction(call(T0, 1_000, 0, model="nobody"))
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "big", cached_tokens=None, success=False, start_time=T0))


def test_the_same_tokens_on_another_model(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        fill(db)
        found = db.what_if(to_model="small")
    # 2,000 x 2 + 8,000 x 0.5 + 500 x 8 = 0.012; long: 200,000 x 4 + 1,000 x 12 = 0.812
    assert found["actual_cost"] == pytest.approx(2.088, abs=1e-9)
    assert found["what_if_cost"] == pytest.approx(0.824, abs=1e-9)
    assert found["cost_difference"] == pytest.approx(-1.264, abs=1e-9)
    assert (found["total_interactions"], found["compared_interactions"]) == (3, 2)  # one call has no actual cost
    assert any("small would have used the same numbers of tokens" in assumption for assumption in found["assumptions"])


def test_the_same_calls_at_another_tier_and_by_another_list(db_url: str, prices: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(PRICES.replace("prompt: 10,", "prompt: 20,"))
    with TimescaleDBClient(db_url, pricing=prices) as db:
        fill(db)
        flex = db.what_if(tier="flex")
        dearer = db.what_if(pricing=other)
    assert flex["what_if_cost"] == pytest.approx(1.044, abs=1e-9)
    assert any("served at flex" in assumption for assumption in flex["assumptions"])
    # 2,000 x 20 + 8,000 x 1 + 500 x 40, and 200,000 x 20 + 1,000 x 40
    assert dearer["what_if_cost"] == pytest.approx(0.068 + 4.04, abs=1e-9)


def test_another_hit_rate_keeps_stored_prices_and_adjusts_returned_costs(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        db.record_llm_interaction(call(T0, 10_000, 500, cached_tokens=8_000))
        db.record_llm_interaction(call(T0, 10_000, 0, cached_tokens=0, cache_write_tokens=10_000))
        db.record_llm_interaction(call(T0, 10_000, 0, total_cost=1.0, price_source="provider"))
        found = db.what_if(hit_rate=0.9)
    # 1,000 x 10 + 9,000 x 1 + 500 x 40 = 0.039; 9,000 x 1 + 1,000 x 12.5 = 0.0215; 1 - 9,000 x (10 - 1) = 0.919
    assert found["what_if_cost"] == pytest.approx(0.039 + 0.0215 + 0.919, abs=1e-9)
    # 0.048, 10,000 x 12.5, 1
    assert found["actual_cost"] == pytest.approx(0.048 + 0.125 + 1.0, abs=1e-9)
    assert found["hit_rate"] == pytest.approx(8_000 / 30_000)
    assert found["what_if_hit_rate"] == pytest.approx(0.9)


# Calls with more components than text, of 1,000 input and 100 output tokens, and what each costs as the model "other".
DETAILED: dict[str, tuple[dict[str, Any], float, float]] = {
    # (fields, actual cost, cost as "other")
    "two searches": ({"tool_usage": {"web_search": 2}}, 0.034, 0.013),  # 0.014 + 2 x 0.01; 0.003 + 2 x 0.005
    "a tool that the other lacks": ({"tool_usage": {"teleport": 1}}, 3.014, 3.003),
    "audio that the other lacks": (  # 900 x 10 + 100 x 30 + 100 x 40; 900 x 2 + 100 x 30 + 100 x 10
        {"token_details": {"audio_prompt_tokens": 100}},
        0.016,
        0.0058,
    ),
    "long writes": (  # 500 x 10 + 500 x 25 + 100 x 40; 500 x 2 + 500 x 2.50 + 100 x 10
        {"cache_write_tokens": 500, "token_details": {"cache_write_12h_tokens": 500}},
        0.0215,
        0.00325,
    ),
    "audio in a region": (  # 1.1 x (9,000 + 3,000 + 4,000); 1.5 x (1,800 + 1,000) + 1.1 x 3,000
        {"token_details": {"audio_prompt_tokens": 100}, "request_options": {"region": "eu"}},
        0.0176,
        0.0075,
    ),
    "predictions": ({"token_details": {"rejected_prediction_tokens": 20}}, 0.014, 0.003),
    "usual": ({}, 0.014, 0.003),
}
RICH = """\
version: 1
per: 1M
models:
  rich:
    prompt: 10
    completion: 40
    cache_write_12h: 25
    audio: {prompt: 30}
    tools: {web_search: 0.01, teleport: 3}
    regions: {eu: 1.1}
  fee: {prompt: 10, completion: 40, per_request: 0.5}
  other: {prompt: 2, cached: 0.2, cache_write: 2.5, completion: 10, tools: {web_search: 0.005}, regions: {eu: 1.5}}
"""


@pytest.mark.parametrize("name", DETAILED)
def test_calls_with_more_components_are_compared_too(db_url: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / "rich.yaml"
    path.write_text(RICH)
    fields, actual, as_other = DETAILED[name]
    with TimescaleDBClient(db_url, pricing=path) as db:
        db.record_llm_interaction(call(T0, 1_000, 100, model="rich", **fields))
        db.record_llm_interaction(call(T0, 1_000, 100, model="rich"))
        found = db.what_if(to_model="other")
    assert found["total_interactions"] == found["compared_interactions"] == 2
    assert found["actual_cost"] == pytest.approx(actual + 0.014, abs=1e-9)
    assert found["what_if_cost"] == pytest.approx(as_other + 0.003, abs=1e-9)
    assert found["by_model"][0]["prompt_tokens"] == 2_000
    said = " ".join(found["assumptions"])
    assert ("1 call has more components than text" in said) == (name != "usual")
    assert ("keep the price they were stored with" in said) == ("lacks" in name or "region" in name)
    assert ("have the price of usual writes" in said) == (name == "long writes")


def test_the_fee_of_a_model_is_not_charged_for_another(db_url: str, tmp_path: Path) -> None:
    path = tmp_path / "rich.yaml"
    path.write_text(RICH)
    with TimescaleDBClient(db_url, pricing=path) as db:
        db.record_llm_interaction(call(T0, 1_000, 100, model="fee"))
        cheaper = db.what_if(to_model="other")
        dearer = db.what_if(tier="default", to_model="fee", hit_rate=0.5)
    assert (cheaper["actual_cost"], cheaper["what_if_cost"]) == pytest.approx((0.514, 0.003), abs=1e-9)
    assert dearer["what_if_cost"] == pytest.approx(0.514, abs=1e-9)  # cached input has the same price
    assert dearer["what_if_hit_rate"] == pytest.approx(0.5)


def test_what_if_without_a_difference_or_a_price_is_an_error(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        fill(db)
        with pytest.raises(ConfigError, match="give at least one of to_model, tier, hit_rate and pricing"):
            db.what_if()
        with pytest.raises(ConfigError, match="no price is known for no-such-model"):
            db.what_if(to_model="no-such-model")
        with pytest.raises(ConfigError, match="share from 0 to 1"):
            db.what_if(hit_rate=80)


def test_the_what_if_command_shows_its_assumptions(db_url: str, prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(prices))
    with TimescaleDBClient(db_url) as db:
        fill(db)
    shown = cli("what-if", "--to-model", "small", "--db-url", db_url)
    assert shown.exit_code == 0
    assert "$2.09" in shown.stdout
    assert "$0.8240" in shown.stdout
    assert "Left out: 1 call whose cost is not known on both sides." in shown.stdout
    assert "assumptions" in shown.stdout
    of_big = json.loads(cli("what-if", "--to-model", "small", "--model", "big", "--json", "--db-url", db_url).stdout)
    assert [row["model"] for row in of_big["by_model"]] == ["big"]
    facts = json.loads(cli("what-if", "--hit-rate", "90%", "--json", "--db-url", db_url).stdout)
    assert facts["what_if_hit_rate"] == pytest.approx(0.9)
    assert cli("what-if", "--hit-rate", "90", "--db-url", db_url).exit_code == 2
    nothing = cli("what-if", "--db-url", db_url)
    assert nothing.exit_code == 2
    assert "give at least one of --to-model, --tier, --hit-rate, --pricing" in nothing.stderr


# -- forecast ---------------------------------------------------------------------------------------------------------


def days(db: TimescaleDBClient, cost_of: Callable[[int], float], count: int, first: datetime = T0, **more: Any) -> None:
    """Record one call a day at noon with the given cost in USD; prompt tokens cost 10 USD per 1M."""
    for number in range(count):
        tokens = round(cost_of(number) * 100_000)
        if tokens:
            db.record_llm_interaction(call(first + timedelta(days=number, hours=12), tokens, **more))


def forecast_at(db: TimescaleDBClient, now: datetime, **more: Any) -> forecast.Forecast:
    return forecast.forecast_cost(db.reader(), now=now, **more)


def test_fewer_than_three_days_give_a_reason_and_no_forecast(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        assert forecast_at(db, T0)["reason"] == ("the history has 0 whole days before today; a forecast needs 3")
        days(db, lambda _: 1.0, 3)
        two = forecast_at(db, T0 + timedelta(days=2, hours=5))
        assert (two["history_days"], two["expected_cost"], two["by_day"]) == (2, None, [])
        assert two["reason"] is not None
        three = forecast_at(db, T0 + timedelta(days=3))
        assert three["reason"] is None
        assert three["expected_cost"] == pytest.approx(30.0)


def test_a_few_days_give_their_mean_with_an_interval_by_hand(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        days(db, lambda number: (1.0, 2.0, 3.0)[number], 3)
        found = forecast_at(db, T0 + timedelta(days=3), days=10, confidence=0.8)
    assert found["method"] == "mean of all days"
    assert found["expected_cost"] == pytest.approx(20.0)
    # The deviation is 1; for the sum of ten days and the mean of three: sqrt(10 + 100/3) = 6.583. t(0.9; 2) is 1.886.
    assert found["high"] == pytest.approx(20 + 1.8856 * 6.5828, abs=1e-3)
    assert found["low"] == pytest.approx(20 - 1.8856 * 6.5828, abs=1e-3)


def test_two_weeks_give_the_mean_of_each_weekday(db_url: str, prices: Path) -> None:
    def cost(number: int) -> float:
        return 0.5 if number % 7 >= 5 else 4.0

    with TimescaleDBClient(db_url, pricing=prices) as db:
        days(db, cost, 14)
        found = forecast_at(db, T0 + timedelta(days=14, hours=9), days=7)
    assert found["method"] == "mean of each weekday"
    assert [day["expected_cost"] for day in found["by_day"]] == [pytest.approx(c) for c in (4, 4, 4, 4, 4, 0.5, 0.5)]
    assert found["expected_cost"] == pytest.approx(21.0)
    assert found["low"] == found["high"] == pytest.approx(21.0)  # every week was the same


def test_days_without_calls_count_as_zero_and_today_does_not_count(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        days(db, lambda number: (3.0, 0.0, 0.0, 99.0)[number], 4)
        found = forecast_at(db, T0 + timedelta(days=3, hours=20), days=1)
    assert found["history_days"] == 3
    assert found["expected_cost"] == pytest.approx(1.0)


def test_the_interval_contains_the_cost_as_often_as_its_confidence() -> None:
    """Simulate, with a seed, 2,000 histories of ten days and the thirty days after each."""
    import random

    rng = random.Random(11)
    held = 0
    for _ in range(2_000):
        past = [forecast.Day(date(2026, 3, 2) + timedelta(days=n), cost=rng.gauss(10, 2)) for n in range(10)]
        expected = forecast.outlook(past)
        assert expected is not None
        total = sum(expected.of(date(2026, 3, 12) + timedelta(days=n)) for n in range(30))
        held += abs(sum(rng.gauss(10, 2) for _ in range(30)) - total) <= expected.half_width(30, 0.8)
    assert 0.77 <= held / 2_000 <= 0.83


def test_a_change_is_split_exactly_into_volume_hit_rate_and_price(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        days(db, lambda _: 1.0, 2)  # 100,000 tokens per day
        # Twice the tokens, half of them from the cache: 100,000 x 10 + 100,000 x 1 = 1.1, 2 without it
        days(db, lambda _: 2.0, 2, T0 + timedelta(days=2), cached_tokens=100_000)
        split = forecast_at(db, T0 + timedelta(days=4), days=1)["split"]
    assert split is not None
    assert split["cost_change"] == pytest.approx(0.1)
    weight = 0.1 / math.log(1.1)
    assert split["volume_effect"] == pytest.approx(weight * math.log(2))
    assert split["hit_rate_effect"] == pytest.approx(weight * math.log(0.55))
    assert split["price_effect"] == pytest.approx(0.0, abs=1e-12)
    assert split["prompt_tokens"] == 150_000
    assert split["hit_rate"] == pytest.approx(200_000 / 600_000)


def test_a_forecast_at_another_hit_rate(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        days(db, lambda _: 1.0, 5)
        found = forecast_at(db, T0 + timedelta(days=5), days=10, hit_rate=0.5)
    # Half of it at a tenth of the price
    assert found["expected_cost_at_hit_rate"] == pytest.approx(10 * 0.55)


def test_the_forecast_command(db_url: str, prices: Path, today: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(prices))
    nothing = cli("forecast", "--db-url", db_url)
    assert nothing.exit_code == 0
    assert "No forecast: the history has 0 whole days before today" in nothing.stdout
    with TimescaleDBClient(db_url) as db:
        days(db, lambda _: 2.0, 10, today - timedelta(days=10))
    shown = cli("forecast", "--days", "30", "--hit-rate", "0.5", "--db-url", db_url)
    assert "$60.00 in 30 days" in shown.stdout
    assert "80% interval: $60.00 to $60.00" in shown.stdout
    assert "$33.00 at a hit rate of 50.0%" in shown.stdout
    facts = json.loads(cli("forecast", "--json", "--db-url", db_url).stdout)
    assert facts["by_day"][0]["day"] == today.date().isoformat()


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_a_budget_is_checked_against_spent_and_expected_cost(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        days(db, lambda _: 10.0, 5)  # March 2nd to 6th
        noon = T0 + timedelta(days=5, hours=12)  # half of Saturday the 7th has passed without costs

        def check(amount: float, period: str = "month") -> budgets.BudgetCheck:
            db.set_budget(amount, period)
            return budgets.check_budget(db.reader(), now=noon)

        # 50 spent; expected 5 for the rest of the 7th, and 24 days of 10 up to the 31st
        fine = check(300)
        assert (fine["status"], fine["spent"], fine["left"], fine["runs_out"]) == ("within", 50.0, 250.0, None)
        assert fine["expected_cost"] == pytest.approx(295.0)
        assert (fine["period_from"], fine["period_to"]) == (date(2026, 3, 1), date(2026, 3, 31))
        tight = check(100)  # 55 after the 7th, 95 after the 11th, 105 after the 12th
        assert (tight["status"], tight["runs_out"]) == ("will be exceeded", date(2026, 3, 12))
        over = check(35)  # used up on the fourth day
        assert (over["status"], over["runs_out"], over["left"]) == ("exceeded", date(2026, 3, 5), 0.0)
        week = check(64, "week")  # until Sunday the 8th: 50 + 5 + 10
        assert (week["period_from"], week["period_to"]) == (date(2026, 3, 2), date(2026, 3, 8))
        assert (week["status"], week["runs_out"]) == ("will be exceeded", date(2026, 3, 8))
        day = check(4, "day")
        assert (day["spent"], day["status"], day["runs_out"]) == (0.0, "will be exceeded", date(2026, 3, 7))


@pytest.mark.usefixtures("today")
def test_a_budget_check_shows_unpriced_calls(db_url: str, prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(prices))
    now = datetime.now(UTC)
    with TimescaleDBClient(db_url) as db:
        db.set_budget(5, "day")
        db.record_llm_interaction(call(now, 100_000))
        assert db.check_budget()["unpriced_interactions"] == 0
        db.record_llm_interaction(call(now, 100_000, model="nobody lists it"))
        found = db.check_budget()
    assert (found["spent"], found["unpriced_interactions"]) == (1.0, 1)
    shown = cli("budget", "check", "--db-url", db_url)
    assert "not counted: 1 unpriced call" in " ".join(shown.stdout.split())


@pytest.mark.usefixtures("today")
def test_an_unpriced_history_gives_no_forecast(db_url: str, prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(prices))
    now = datetime.now(UTC)
    with TimescaleDBClient(db_url) as db:
        for day in range(1, 6):
            db.record_llm_interaction(call(now - timedelta(days=day), 1_000, model="nobody lists it"))
        found = db.forecast_cost(30)
        db.set_budget(5, "day")
        budget = db.check_budget()
    assert (found["expected_cost"], found["history_days"]) == (None, 5)
    assert found["reason"] == "all 5 calls of the last 5 whole days are unpriced"
    assert (budget["expected_cost"], budget["status"]) == (None, "within so far")
    assert budget["reason"] == found["reason"]
    assert "No forecast: all 5 calls" in cli("forecast", "--db-url", db_url).stdout


def test_a_budget_of_one_model_and_invalid_budgets(db_url: str, prices: Path) -> None:
    with TimescaleDBClient(db_url, pricing=prices) as db:
        db.record_llm_interaction(call(T0, 100_000))
        db.record_llm_interaction(call(T0, 500_000, model="short"))
        db.set_budget(0.4, "day", "short only", "short")
        found = budgets.check_budget(db.reader(), "short only", now=T0 + timedelta(hours=1))
        assert (found["spent"], found["status"]) == (0.5, "exceeded")
        assert found["reason"] == "the history has 0 whole days before today; a forecast needs 3"
        assert [budget["name"] for budget in db.list_budgets()] == ["short only"]
        db.remove_budget("short only")
        for wrong in (lambda: db.check_budget("short only"), lambda: db.remove_budget("short only")):
            with pytest.raises(NotStoredError, match="no budget 'short only'"):
                wrong()
        with pytest.raises(ConfigError, match="greater than 0"):
            db.set_budget(0)
        with pytest.raises(ConfigError, match="day, week, month"):
            db.set_budget(1, "year")


@pytest.mark.usefixtures("today")
def test_exit_codes_of_the_budget_commands(db_url: str, prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(prices))
    assert cli("budget", "check", "--db-url", db_url).exit_code == 1
    assert cli("budget", "set", "5", "--per", "day", "--db-url", db_url).exit_code == 0
    now = datetime.now(UTC)
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(call(now, 100_000))
    fine = cli("budget", "check", "--db-url", db_url)
    assert fine.exit_code == 0
    assert "within so far" in fine.stdout
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(call(now, 500_000))
    over = cli("budget", "check", "--db-url", db_url)
    assert over.exit_code == 1
    assert f"exceeded: used up on {now.date()}" in over.stdout
    assert json.loads(cli("budget", "list", "--json", "--db-url", db_url).stdout)[0]["amount_usd"] == 5.0
    assert cli("budget", "remove", "--db-url", db_url).exit_code == 0


# -- reconcile --------------------------------------------------------------------------------------------------------

DAY = int(T0.timestamp())
USAGE_CSV = f"""\
start_time,end_time,start_time_iso,end_time_iso,num_model_requests,model,batch,service_tier,input_tokens,output_tokens,input_cached_tokens
{DAY},{DAY + 86400},2026-03-02T00:00:00+00:00,2026-03-03T00:00:00+00:00,3,big,false,default,30000,500,8000
{DAY},{DAY + 86400},2026-03-02T00:00:00+00:00,2026-03-03T00:00:00+00:00,1,big,false,flex,1000,0,0
{DAY + 86400},{DAY + 172800},2026-03-03T00:00:00+00:00,2026-03-04T00:00:00+00:00,,,,,,,
"""
COSTS_CSV = f"""\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id
{DAY},{DAY + 86400},2026-03-02T00:00:00+00:00,2026-03-03T00:00:00+00:00,0.2200000,usd,"big, input",p
{DAY},{DAY + 86400},2026-03-02T00:00:00+00:00,2026-03-03T00:00:00+00:00,0.0080000,usd,"big, cached input",p
{DAY},{DAY + 86400},2026-03-02T00:00:00+00:00,2026-03-03T00:00:00+00:00,0.0200000,usd,"big, output",p
{DAY},{DAY + 86400},2026-03-02T00:00:00+00:00,2026-03-03T00:00:00+00:00,0.0500000,usd,Web search tool calls,p
{DAY + 86400},{DAY + 172800},2026-03-03T00:00:00+00:00,2026-03-04T00:00:00+00:00,,,,
"""


def usage_json() -> str:
    result = {"object": "organization.usage.completions.result", "project_id": None, "user_id": None}
    results = [
        {**result, "model": "big", "batch": False, "service_tier": "default", "num_model_requests": 3,
         "input_tokens": 30_000, "output_tokens": 500, "input_cached_tokens": 8_000},
        {**result, "model": "big", "batch": False, "service_tier": "flex", "num_model_requests": 1,
         "input_tokens": 1_000, "output_tokens": 0, "input_cached_tokens": 0},
    ]  # fmt: skip
    bucket = {"object": "bucket", "start_time": DAY, "end_time": DAY + 86_400, "results": results}
    empty = {"object": "bucket", "start_time": DAY + 86_400, "end_time": DAY + 172_800, "results": []}
    return json.dumps({"object": "page", "data": [bucket, empty], "has_more": False, "next_page": None})


def recorded(db: TimescaleDBClient) -> None:
    """Record two of the three calls, the one at flex, one of another provider and one of another day."""
    db.record_llm_interaction(call(T0, 10_000, 500, cached_tokens=8_000))  # 0.048
    db.record_llm_interaction(call(T0 + timedelta(hours=23), 10_000, service_tier="default"))  # 0.1
    db.record_llm_interaction(call(T0, 1_000, service_tier="flex"))  # 0.005
    db.record_llm_interaction(call(T0, 5_000, provider="azure"))
    db.record_llm_interaction(call(T0 + timedelta(days=1), 5_000))


@pytest.mark.parametrize(("name", "text"), [("usage.csv", USAGE_CSV), ("usage.json", usage_json())])
def test_usage_is_compared_by_day_model_and_tier(
    reused_db_url: str, prices: Path, tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with TimescaleDBClient(reused_db_url, pricing=prices) as db:
        recorded(db)
        found = db.reconcile(path)
    default, flex = found["rows"]
    assert (found["kind"], found["day_from"], found["day_to"]) == ("usage", T0.date(), T0.date())
    assert (default["day"], default["model"], default["service_tier"]) == (T0.date(), "big", "default")
    assert (default["exported_requests"], default["recorded_requests"]) == (3, 2)
    assert (default["exported_tokens"], default["recorded_tokens"]) == (30_500, 20_500)
    assert default["coverage_percentage"] == pytest.approx(100 * 20_500 / 30_500)
    # 22,000 x 10 + 8,000 x 1 + 500 x 40 = 0.248, of which 0.148 is recorded
    assert default["exported_cost"] == pytest.approx(0.248, abs=1e-9)
    assert default["unexplained_cost"] == pytest.approx(0.1, abs=1e-9)
    assert (flex["coverage_percentage"], flex["unexplained_cost"]) == (100.0, pytest.approx(0.0, abs=1e-12))
    assert found["coverage_percentage"] == pytest.approx(100 * 21_500 / 31_500)
    assert found["unexplained_cost"] == pytest.approx(0.1, abs=1e-9)


def test_pages_can_be_a_list_or_a_sequence_and_a_missing_page_is_noted(
    reused_db_url: str, prices: Path, tmp_path: Path
) -> None:
    bucket = {"start_time": DAY, "results": [{"model": "big", "num_model_requests": 1, "input_tokens": 6_000}]}
    later = {"start_time": DAY + 3_600, "results": [{"model": "big", "num_model_requests": 2, "input_tokens": 4_000}]}
    first, last = {"data": [bucket], "has_more": True}, {"data": [later], "has_more": False}
    path = tmp_path / "usage.json"
    with TimescaleDBClient(reused_db_url, pricing=prices) as db:
        db.record_llm_interaction(call(T0, 10_000))
        for text in (json.dumps([first, last]), f"{json.dumps(first)}\n{json.dumps(last)}\n"):
            path.write_text(text)
            found = db.reconcile(path)
            (row,) = found["rows"]
            assert (row["exported_requests"], row["exported_tokens"]) == (3, 10_000)
            assert (row["coverage_percentage"], row["unexplained_cost"]) == (100.0, pytest.approx(0.0, abs=1e-12))
            assert not any("has_more" in note for note in found["notes"])
        path.write_text(json.dumps(first))
        assert any("incomplete export: fetch the next page" in note for note in db.reconcile(path)["notes"])


def test_costs_are_compared_by_day_and_model(db_url: str, prices: Path, tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(COSTS_CSV)
    with TimescaleDBClient(db_url, pricing=prices) as db:
        recorded(db)
        found = db.reconcile(path)
    big, searches = found["rows"]
    assert (searches["model"], searches["coverage_percentage"], searches["unexplained_cost"]) == (
        "web_search",
        0.0,
        0.05,
    )
    assert big["exported_cost"] == pytest.approx(0.248, abs=1e-9)
    assert big["recorded_cost"] == pytest.approx(0.153, abs=1e-9)
    assert big["coverage_percentage"] == pytest.approx(100 * 0.153 / 0.248)
    assert found["unexplained_cost"] == pytest.approx(0.145, abs=1e-9)
    assert found["coverage_percentage"] == pytest.approx(100 * 0.153 / 0.298)


def test_costs_without_line_items_are_compared_by_day(db_url: str, prices: Path, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    result = {"object": "organization.costs.result", "amount": {"value": "0.306", "currency": "usd"}, "line_item": None}
    path.write_text(json.dumps({"object": "page", "data": [{"start_time": DAY, "results": [result]}]}))
    with TimescaleDBClient(db_url, pricing=prices) as db:
        recorded(db)
        found = db.reconcile(path)
    (row,) = found["rows"]
    assert (row["model"], row["service_tier"]) == (None, None)
    assert row["coverage_percentage"] == pytest.approx(50.0)
    assert "the export is not grouped by model: whole days are compared" in found["notes"]


def test_costs_whose_line_items_have_a_tier_are_compared_by_tier(db_url: str, prices: Path, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    items = {
        "big, input": 0.02,
        "big, cached input": 0.008,
        "big text, output": 0.02,
        "priority | big, input, long context": 0.3,
        "priority | big, cache writes": 0.1,
    }
    results = [{"amount": {"value": cost, "currency": "usd"}, "line_item": item} for item, cost in items.items()]
    path.write_text(json.dumps({"data": [{"start_time": DAY, "results": results}]}))
    with TimescaleDBClient(db_url, pricing=prices) as db:
        db.record_llm_interaction(call(T0, 10_000, 500, cached_tokens=8_000))  # 0.048
        db.record_llm_interaction(
            call(T0, 1_000, service_tier="flex")
        )  # 0.005, which the export does not list separately
        db.record_llm_interaction(call(T0, 1_000, service_tier="priority", total_cost=0.4))
        found = db.reconcile(path)
    default, priority = found["rows"]
    assert (default["model"], default["service_tier"]) == ("big", "default")
    assert default["unexplained_cost"] == pytest.approx(-0.005, abs=1e-9)  # 0.048 - (0.048 + 0.005)
    assert (priority["model"], priority["service_tier"]) == ("big", "priority")
    assert priority["exported_cost"] == pytest.approx(0.4, abs=1e-9)
    assert priority["unexplained_cost"] == pytest.approx(0.0, abs=1e-9)


def test_written_tokens_of_a_usage_export_have_the_write_price(db_url: str, prices: Path, tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    result = {"model": "big", "num_model_requests": 1, "input_tokens": 10_000, "output_tokens": 500}
    result |= {"input_cached_tokens": 2_000, "input_cache_write_tokens": 4_000}
    path.write_text(json.dumps({"data": [{"start_time": DAY, "results": [result]}]}))
    with TimescaleDBClient(db_url, pricing=prices) as db:
        db.record_llm_interaction(call(T0, 10_000, 500, cached_tokens=2_000, cache_write_tokens=4_000))
        (row,) = db.reconcile(path)["rows"]
    # 4,000 x 10 + 2,000 x 1 + 4,000 x 12.5 + 500 x 40
    assert row["exported_cost"] == pytest.approx(0.112, abs=1e-9)
    assert row["unexplained_cost"] == pytest.approx(0.0, abs=1e-9)


def test_a_snapshot_and_its_base_name_are_one_model_if_unambiguous(db_url: str, prices: Path, tmp_path: Path) -> None:
    def export(*models: str) -> Path:
        path = tmp_path / "costs.csv"
        lines = [f'{DAY},0.01,usd,"{model}, input"' for model in models]
        path.write_text("\n".join(["start_time,amount_value,amount_currency,line_item", *lines, ""]))
        return path

    def rows(*models: str) -> list[tuple[str | None, float | None, float]]:
        found = db.reconcile(export(*models))
        notes.append(" ".join(found["notes"]))
        return [(row["model"], row["exported_cost"], round(row["recorded_cost"], 9)) for row in found["rows"]]

    notes: list[str] = []
    with TimescaleDBClient(db_url, pricing=prices) as db:
        db.record_llm_interaction(call(T0, 1_000))  # big: 0.01
        assert rows("big-2026-01-31") == [("big-2026-01-31", 0.01, 0.01)]
        assert "recorded big is compared with big-2026-01-31" in notes[-1]
        assert rows("big") == [("big", 0.01, 0.01)]
        # With two snapshots the base name is ambiguous
        assert rows("big-2026-01-31", "big-2026-05-31")[0] == ("big", 0.0, 0.01)
        db.record_llm_interaction(call(T0, 2_000, model="big-2026-01-31"))
        assert rows("big") == [("big", 0.01, 0.03)]
        assert "recorded big-2026-01-31 is compared with big" in notes[-1]
        assert rows("big-2026-01-31", "big")[0] == ("big", 0.01, 0.01)
        assert "is compared with" not in notes[-1].replace("compared with default", "")


def test_a_mistake_in_the_pricing_file_stops_only_plans_that_need_prices(
    db_url: str, prices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = tmp_path / "costs.csv"
    costs.write_text(COSTS_CSV)
    now = datetime.now(UTC)
    with TimescaleDBClient(db_url, pricing=prices) as db:
        for days in range(1, 5):
            db.record_llm_interaction(call(now - timedelta(days=days), 10_000, cached_tokens=5_000))
        assert db.flush()
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nper: 1M\nmodels:\n  big: {prompt: x, completion: 1}\n")
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(bad))
    plans = (("forecast", "--hit-rate", "90%"), ("what-if", "--hit-rate", "90%"), ("reconcile", str(costs)))
    for arguments in plans:
        done = cli(*arguments, "--db-url", db_url)
        assert done.exit_code == 0, (arguments, done.output)
        assert "bad.yaml:4: models.big.prompt: is x" in done.stderr
    asks_for_prices = cli("what-if", "--tier", "flex", "--db-url", db_url)
    assert asks_for_prices.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "export.csv:1: has the columns a, b; expected start_time"),
        ("start_time,amount_value\nsoon,1\n", "export.csv:2: start_time is 'soon'"),
        ("start_time,amount_value,amount_currency\n1,1,eur\n", "export.csv:2: the amount is in eur; expected usd"),
        ("start_time,input_tokens,model\n1,many,m\n", "export.csv:2: 'many' is not a number"),
        ("start_time,amount_value\n1,\n", "contains no usage and no costs"),
        ('{"data": 5}', "expected a page of the Usage API"),
        ('{"data": [', "export.csv:1: is not valid JSON"),
    ],
)
def test_a_file_that_is_not_an_export_is_rejected(reused_db_url: str, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "export.csv"
    path.write_text(text)
    with TimescaleDBClient(reused_db_url) as db, pytest.raises(ConfigError, match=message.replace("(", "\\(")):
        db.reconcile(path)


def test_the_reconcile_command_fails_below_the_required_coverage(
    db_url: str, prices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(prices))
    path = tmp_path / "usage.csv"
    path.write_text(USAGE_CSV)
    with TimescaleDBClient(db_url) as db:
        recorded(db)
    shown = cli("reconcile", str(path), "--at-least", "60%", "--db-url", db_url)
    assert shown.exit_code == 0
    assert "68.3% by tokens" in shown.stdout
    assert "$0.1000" in shown.stdout
    assert cli("reconcile", str(path), "--at-least", "0.9", "--db-url", db_url).exit_code == 1
    assert (
        json.loads(cli("reconcile", str(path), "--json", "--db-url", db_url).stdout)["rows"][0]["day"] == "2026-03-02"
    )
