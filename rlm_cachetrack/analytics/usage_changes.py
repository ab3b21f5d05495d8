"""Compare the cost of two ranges of time: the effects of volume, hit rate and prices, by model and query. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar

from .cost_effects import log_mean_effects
from .usage_views import Usage

Name = TypeVar("Name", bound=Hashable)


class CostEffects(TypedDict):
    """The causes of a change in cost, USD; they add up to it.

    They are the effects of the number of prompt tokens, of the share read from the cache, and of prices; the last
    includes the mix of models and the length of completions. They are None if a range has no priced call.
    """

    volume_effect: float | None
    hit_rate_effect: float | None
    price_effect: float | None


class GroupChange(CostEffects):
    """The cost (USD) and hit rate (0-1) of a group in both ranges; None: no call, or not known."""

    cost_before: float | None
    cost_after: float | None
    cost_change: float
    hit_rate_before: float | None
    hit_rate_after: float | None


class ModelChange(GroupChange):
    """The change of one model."""

    provider: str | None
    model: str | None


class QueryChange(GroupChange):
    """The change of one query."""

    query_id: str


class UsageChanges(CostEffects):
    """The change in cost between two ranges. Costs: USD. ``models``: the largest change first."""

    cost_before: float | None
    cost_after: float | None
    cost_change: float | None
    hit_rate_before: float | None
    hit_rate_after: float | None
    calls_before: int
    calls_after: int
    models: list[ModelChange]


class _Factors(NamedTuple):
    """Factors of a cost: prompt tokens, the share that the cache leaves, and the cost per token without the cache."""

    tokens: float | None
    kept: float | None
    price: float | None


def usage_changes(before: Usage, after: Usage) -> UsageChanges:
    """Compare the usage of two ranges."""
    one, other = before["total"], after["total"]
    first, second = one["total_cost"], other["total_cost"]
    models = _changes(*({(row["provider"], row["model"]): row for row in usage["models"]} for usage in (before, after)))
    return {
        "cost_before": first,
        "cost_after": second,
        "cost_change": None if first is None or second is None else second - first,
        **effects_on_cost(one, other),
        "hit_rate_before": one["cache_hit_rate"],
        "hit_rate_after": other["cache_hit_rate"],
        "calls_before": one["total_interactions"],
        "calls_after": other["total_interactions"],
        "models": [{"provider": provider, "model": model, **change} for (provider, model), change in models],
    }


def query_changes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[QueryChange]:
    """Compare the queries of two ranges; the largest change in cost first.

    Args:
        before: The usage of the earlier range by ``query``, as of :func:`.usage_groups`.
        after: That of the later range.
    """
    found = _changes(*({row["query"]: row for row in rows} for rows in (before, after)))
    return [{"query_id": query_id, **change} for query_id, change in found]


def effects_on_cost(before: Mapping[str, Any], after: Mapping[str, Any]) -> CostEffects:
    """Split the change in cost of a group of calls between two ranges among its causes.

    Args:
        before: ``total_cost``, ``original_cost``, ``cost_savings`` and ``total_prompt_tokens`` in the earlier range.
        after: The same of the later range.
    """
    first, second = before["total_cost"], after["total_cost"]
    pairs = list(zip(_factors(before), _factors(after), strict=True))
    known = None if first is None or second is None else log_mean_effects(first, second, pairs)
    volume, hit_rate, price = known or (None, None, None)
    return {"volume_effect": volume, "hit_rate_effect": hit_rate, "price_effect": price}


def _factors(row: Mapping[str, Any]) -> _Factors:
    cost, tokens, original, saved = (
        row[name] for name in ("total_cost", "total_prompt_tokens", "original_cost", "cost_savings")
    )
    kept = (original - saved) / original if original and saved is not None else None
    return _Factors(tokens, kept, cost / kept / tokens if cost is not None and kept and tokens else None)


_NOTHING = dict.fromkeys(
    ("total_cost", "original_cost", "cost_savings", "total_prompt_tokens", "cache_hit_rate"),
)


def _changes(
    before: Mapping[Name, Mapping[str, Any]], after: Mapping[Name, Mapping[str, Any]]
) -> list[tuple[Name, GroupChange]]:
    """Return the change of each group that has a known cost, the largest first."""
    found: list[tuple[Name, GroupChange]] = []
    for name in {**before, **after}:
        one, other = before.get(name, _NOTHING), after.get(name, _NOTHING)
        first, second = one["total_cost"], other["total_cost"]
        if first is None and second is None:
            continue
        change: GroupChange = {
            "cost_before": first,
            "cost_after": second,
            "cost_change": (second or 0.0) - (first or 0.0),
            "hit_rate_before": one["cache_hit_rate"],
            "hit_rate_after": other["cache_hit_rate"],
            **effects_on_cost(one, other),
        }
        found.append((name, change))
    return sorted(found, key=lambda group: -abs(group[1]["cost_change"]))
