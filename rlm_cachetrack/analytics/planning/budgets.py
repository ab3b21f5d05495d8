"""Budgets: spending limits per day, week or month, the amount spent, and the day on which a budget runs out."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from rlm_cachetrack.errors import ConfigError, NotStoredError

from .forecast import history, no_forecast_reason, outlook

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

PERIODS = ("day", "week", "month")


class Budget(TypedDict):
    """A limit in USD per period (UTC; weeks start on Monday), for one model or all (None)."""

    name: str
    amount_usd: float
    period: str
    model: str | None
    changed_at: datetime


class BudgetCheck(TypedDict):
    """The state of a budget. Costs: USD, without the ``unpriced_interactions`` of the period.

    ``status``: ``exceeded``, ``will be exceeded`` (by the forecast), ``within``, or ``within so far`` if there is no
    forecast (``reason``). ``runs_out``: the day (UTC) on which the budget was or will be used up, None if it lasts.
    """

    name: str
    amount_usd: float
    period: str
    model: str | None
    period_from: date
    period_to: date
    spent: float
    left: float
    unpriced_interactions: int
    expected_cost: float | None
    runs_out: date | None
    status: Literal["within", "within so far", "will be exceeded", "exceeded"]
    reason: str | None


def set_budget(
    store: PostgresStore, amount_usd: float, period: str = "month", name: str = "default", model: str | None = None
) -> None:
    """Set the budget of this name. Blocks for one statement.

    Raises:
        ConfigError: The amount is not a positive number, or the period is unknown.
    """
    is_amount = isinstance(amount_usd, (int, float)) and not isinstance(amount_usd, bool) and 0 < amount_usd < math.inf
    if not is_amount:
        raise ConfigError(f"amount_usd={amount_usd!r}: expected USD, a number greater than 0")
    if period not in PERIODS:
        raise ConfigError(f"period={period!r}: expected one of {', '.join(PERIODS)}")
    if not name:
        raise ConfigError("name='': expected a name for the budget")
    with store.session() as session:
        session.run("budget_store", name=name, amount_usd=float(amount_usd), period=period, model=model)


def remove_budget(store: PostgresStore, name: str = "default") -> None:
    """Remove a budget. Blocks for one statement.

    Raises:
        NotStoredError: There is no budget of this name.
    """
    with store.session() as session:
        if not session.run("budget_delete", name=name):
            raise NotStoredError(f"there is no budget {name!r}")


def budgets(store: PostgresStore) -> list[Budget]:
    """Return the budgets by name. Blocks for one query."""
    return cast("list[Budget]", store.query("budgets"))


def check_budget(store: PostgresStore, name: str = "default", now: datetime | None = None) -> BudgetCheck:
    """Return the state of a budget. Blocks for three queries.

    Raises:
        NotStoredError: There is no budget of this name.
    """
    found = next((one for one in budgets(store) if one["name"] == name), None)
    if found is None:
        raise NotStoredError(f"there is no budget {name!r}; `rlm-cachetrack budget set` sets one")
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    begin, end = _period(found["period"], moment.date())
    rows = store.query("daily_costs", since=_midnight(begin), until=_midnight(end), model=found["model"], provider=None)
    spent_by_day = [(row["day"].date(), row["total_cost"]) for row in rows]
    spent = math.fsum(cost for _, cost in spent_by_day)
    amount = found["amount_usd"]
    check: BudgetCheck = {
        "name": name,
        "amount_usd": amount,
        "period": found["period"],
        "model": found["model"],
        "period_from": begin,
        "period_to": end - timedelta(days=1),
        "spent": spent,
        "left": max(amount - spent, 0.0),
        "unpriced_interactions": sum(row["unpriced_interactions"] for row in rows),
        "expected_cost": None,
        "runs_out": None,
        "status": "within",
        "reason": None,
    }
    if spent > amount:
        check["status"], check["runs_out"] = "exceeded", _used_up(spent_by_day, 0.0, amount)
    past = history(store, moment, model=found["model"])
    expected = outlook(past)
    if expected is None:
        check["reason"] = no_forecast_reason(past)
        if check["status"] == "within":
            check["status"] = "within so far"
        return check
    elapsed = (moment - _midnight(moment.date())) / timedelta(days=1)
    coming = [(moment.date(), expected.of(moment.date()) * (1 - elapsed))]
    day = moment.date() + timedelta(days=1)
    while day < end:
        coming.append((day, expected.of(day)))
        day += timedelta(days=1)
    total = check["expected_cost"] = spent + math.fsum(cost for _, cost in coming)
    if check["status"] != "exceeded" and total > amount:
        check["status"], check["runs_out"] = "will be exceeded", _used_up(coming, spent, amount)
    return check


def _used_up(costs: list[tuple[date, float]], before: float, amount: float) -> date | None:
    for day, cost in costs:
        before += cost
        if before > amount:
            return day
    return costs[-1][0] if costs else None


def _period(period: str, day: date) -> tuple[date, date]:
    """Return the first day of the period that contains a day, and the first day of the next period."""
    if period == "day":
        return day, day + timedelta(days=1)
    if period == "week":
        begin = day - timedelta(days=day.weekday())
        return begin, begin + timedelta(days=7)
    begin = day.replace(day=1)
    return begin, (begin + timedelta(days=32)).replace(day=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(0), UTC)
