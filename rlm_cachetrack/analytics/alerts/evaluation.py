"""Compute the value of each alert rule, and whether the rule fires. Read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from rlm_cachetrack.analytics.planning.budgets import check_budget
from rlm_cachetrack.analytics.usage_groups import usage_groups
from rlm_cachetrack.formatting import percentage, rate, usd, verdict

from .rules import BudgetUse, CacheBusts, Failures, HitRate, JournalBacklog, Rule, Silence, Spend, Unpriced

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import BustSearch, CallVerdict
    from rlm_cachetrack.analytics.filters import ContentFilters
    from rlm_cachetrack.store import PostgresStore

_WEEKS = 4
_RECOVERY = 0.9  # the share of the limit below which a rule recovers, unless it states another value
_WEEK = timedelta(days=7)


class Reading(NamedTuple):
    """The value of a rule.

    Attributes:
        value: The value to compare, in the unit of the rule; None: not known now, so the state does not change.
        above: The rule fires above this value.
        below: A firing rule recovers at or below this value.
        reason: A sentence about the value.
    """

    value: float | None
    above: float
    below: float
    reason: str


class _Sources(NamedTuple):
    """What a rule reads besides the store."""

    backlog: Callable[[], int]
    searches: dict[str, BustSearch]


def evaluate(
    store: PostgresStore,
    rule: Rule,
    now: datetime,
    backlog: Callable[[], int],
    searches: dict[str, BustSearch] | None = None,
) -> Reading:
    """Return the value of a rule. Blocks for one query; five for hit rates; those of `BustSearch` for cache busts.

    Args:
        store: The store of the calls.
        rule: The rule.
        now: The end of its window.
        backlog: Returns how many records wait in the journals of this machine.
        searches: The searches for cache busts by the names of their rules, which the next evaluation continues; a new
            one is added.
    """
    return _EVALUATE[type(rule)](store, rule, now, _Sources(backlog, {} if searches is None else searches))


def _sums(store: PostgresStore, rule: Any, since: datetime, until: datetime | None = None) -> dict[str, float]:
    rows = usage_groups(store, ("provider",), since=since, until=until, **_filters(rule))
    names = ("total_interactions", "failed_interactions", "unpriced_interactions", "total_cost", "total_prompt_tokens")
    found: dict[str, float] = {name: sum(row[name] or 0 for row in rows) for name in names}
    rated = [(row["cache_hit_rate"], row["total_prompt_tokens"]) for row in rows if row["cache_hit_rate"] is not None]
    found["rated_tokens"] = sum(tokens for _, tokens in rated)
    found["hits"] = sum(share * tokens for share, tokens in rated)
    return found


def _filters(rule: Any) -> ContentFilters:
    return {"model": rule.model, "provider": rule.provider, "query_id": rule.query, "tags": rule.tags}


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _limits(rule: Any, above: float) -> tuple[float, float]:
    below = above * _RECOVERY if rule.recover_below is None else min(rule.recover_below, above)
    return above, below


def _spend(store: PostgresStore, rule: Spend, now: datetime, _: Any) -> Reading:
    cost = _sums(store, rule, now - rule.window)["total_cost"]
    return Reading(cost, *_limits(rule, rule.above), f"{usd(cost)} in {_words(rule.window)}, limit {usd(rule.above)}")


def _budget(store: PostgresStore, rule: BudgetUse, now: datetime, _: Any) -> Reading:
    found = check_budget(store, rule.budget, now)
    spent = found["expected_cost"] if rule.expected else found["spent"]
    limits = _limits(rule, rule.above_percentage)
    if spent is None:
        return Reading(None, *limits, found["reason"] or "there is no forecast")
    share = 100 * spent / found["amount_usd"]
    what = "expected" if rule.expected else "spent"
    reason = f"{usd(spent)} {what} of {usd(found['amount_usd'])} this {found['period']} ({percentage(share)})"
    return Reading(share, *limits, reason)


def _hit_rate(store: PostgresStore, rule: HitRate, now: datetime, _: Any) -> Reading:
    limits = _limits(rule, rule.drop)
    current = _sums(store, rule, now - rule.window)
    if current["rated_tokens"] < rule.min_prompt_tokens:
        return Reading(None, *limits, f"fewer than {rule.min_prompt_tokens:,} prompt tokens in {_words(rule.window)}")
    # Whole hours, because partial hours are summed from the calls, and a columnstore reads a whole day for them.
    first, last = _hour(now - rule.window), _hour(now + timedelta(minutes=59, seconds=59))
    past = [
        found
        for week in range(1, _WEEKS + 1)
        if (found := _sums(store, rule, first - week * _WEEK, last - week * _WEEK))["rated_tokens"]
        >= rule.min_prompt_tokens
    ]
    if not past:
        return Reading(None, *limits, "none of the past four weeks has enough calls in the same hours")
    usual = sum(one["hits"] for one in past) / sum(one["rated_tokens"] for one in past)
    share = current["hits"] / current["rated_tokens"]
    return Reading(100 * (usual - share), *limits, f"hit rate {rate(share)}, usually {rate(usual)} in these hours")


def _cache_busts(store: PostgresStore, rule: CacheBusts, now: datetime, sources: _Sources) -> Reading:
    from rlm_cachetrack.analytics.explain import BustSearch

    search = sources.searches.setdefault(rule.name, BustSearch())
    busts, runs, compared = search.since(store, now - rule.window, rule.max_calls, **_filters(rule))
    lost = sum(call["tokens_lost"] for call in busts)
    reason = f"{len(busts)} calls broke a cached prefix in {_words(rule.window)}: {lost:,} tokens lost"
    if busts:
        ((cause, _),) = Counter(map(_cause, busts)).most_common(1)
        reason += f", most often because of: {cause}"
    if compared < runs:
        reason += f" (compared so far: {compared:,} of {runs:,} runs)"
    return Reading(float(len(busts)), *_limits(rule, rule.above), reason)


def _cause(bust: CallVerdict) -> str:
    part = bust["segment"] or bust["setting"]
    return f"{verdict(bust['verdict'])} ({part})" if part else verdict(bust["verdict"])


def _unpriced(store: PostgresStore, rule: Unpriced, now: datetime, _: Any) -> Reading:
    count = _sums(store, rule, now - rule.window)["unpriced_interactions"]
    return Reading(count, *_limits(rule, rule.above), f"{count:,.0f} unpriced calls in {_words(rule.window)}")


def _failures(store: PostgresStore, rule: Failures, now: datetime, _: Any) -> Reading:
    found = _sums(store, rule, now - rule.window)
    limits = _limits(rule, rule.above_percentage)
    calls = found["total_interactions"]
    if calls < rule.min_calls:
        return Reading(None, *limits, f"fewer than {rule.min_calls} calls in {_words(rule.window)}")
    share = 100 * found["failed_interactions"] / calls
    return Reading(share, *limits, f"{percentage(share)} of {calls:,.0f} calls failed in {_words(rule.window)}")


def _silence(store: PostgresStore, rule: Silence, now: datetime, _: Any) -> Reading:
    calls = _sums(store, rule, now - rule.window)["total_interactions"]
    return Reading(float(not calls), 0.0, 0.0, f"{calls:,.0f} calls in {_words(rule.window)}")


def _journal(_: PostgresStore, rule: JournalBacklog, __: datetime, sources: _Sources) -> Reading:
    return backlog_reading(rule, sources.backlog())


def backlog_reading(rule: JournalBacklog, waiting: int) -> Reading:
    """Return the value of a rule about journals, which needs no store."""
    return Reading(float(waiting), *_limits(rule, rule.above), f"{waiting:,} records wait in journals")


_EVALUATE: dict[type, Callable[[PostgresStore, Any, datetime, _Sources], Reading]] = {
    Spend: _spend,
    BudgetUse: _budget,
    HitRate: _hit_rate,
    CacheBusts: _cache_busts,
    Unpriced: _unpriced,
    Failures: _failures,
    Silence: _silence,
    JournalBacklog: _journal,
}


def _words(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    for size, unit in ((1440, "d"), (60, "h")):
        if not minutes % size:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"
