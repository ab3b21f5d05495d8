"""What changed between two ranges of time, in USD: volume, hit rate, prices, and each model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from .cost_effects import log_mean_effects
from .usage_views import Usage


class ModelChange(TypedDict):
    """The cost and hit rate (0-1) of one model in both ranges; None: no call, or not known."""

    provider: str | None
    model: str | None
    cost_before: float | None
    cost_after: float | None
    cost_change: float
    hit_rate_before: float | None
    hit_rate_after: float | None


class UsageChanges(TypedDict):
    """The change in cost between two ranges. Costs: USD.

    The effects add up to ``cost_change``. They are those of the number of prompt tokens, of the share read from the
    cache, and of prices; the last includes the mix of models and the length of completions. They are None if a range
    has no priced call. ``models``: the largest change first.
    """

    cost_before: float | None
    cost_after: float | None
    cost_change: float | None
    volume_effect: float | None
    hit_rate_effect: float | None
    price_effect: float | None
    hit_rate_before: float | None
    hit_rate_after: float | None
    calls_before: int
    calls_after: int
    models: list[ModelChange]


def usage_changes(before: Usage, after: Usage) -> UsageChanges:
    """Compare the usage of two ranges."""
    one, other = before["total"], after["total"]
    first, second = one["total_cost"], other["total_cost"]
    effects = None
    if first is not None and second is not None:
        pairs = list(zip(_factors(one), _factors(other), strict=True))
        effects = log_mean_effects(first, second, pairs)
    volume, cache, price = effects or (None, None, None)
    return {
        "cost_before": first,
        "cost_after": second,
        "cost_change": None if first is None or second is None else second - first,
        "volume_effect": volume,
        "hit_rate_effect": cache,
        "price_effect": price,
        "hit_rate_before": one["cache_hit_rate"],
        "hit_rate_after": other["cache_hit_rate"],
        "calls_before": one["total_interactions"],
        "calls_after": other["total_interactions"],
        "models": _models(before, after),
    }


def _factors(row: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Return the prompt tokens, the share of the cost that the cache leaves, and the cost per token without it."""
    cost, tokens, original, saved = (
        row[name] for name in ("total_cost", "total_prompt_tokens", "original_cost", "cost_savings")
    )
    kept = (original - saved) / original if original and saved is not None else None
    return tokens, kept, cost / kept / tokens if kept and tokens else None


def _models(before: Usage, after: Usage) -> list[ModelChange]:
    sides = [{(row["provider"], row["model"]): row for row in usage["models"]} for usage in (before, after)]
    found: list[ModelChange] = []
    for provider, model in {**sides[0], **sides[1]}:
        one, other = (side.get((provider, model)) for side in sides)
        costs = [row["total_cost"] if row else None for row in (one, other)]
        if costs == [None, None]:
            continue
        found.append(
            {
                "provider": provider,
                "model": model,
                "cost_before": costs[0],
                "cost_after": costs[1],
                "cost_change": (costs[1] or 0.0) - (costs[0] or 0.0),
                "hit_rate_before": one["cache_hit_rate"] if one else None,
                "hit_rate_after": other["cache_hit_rate"] if other else None,
            }
        )
    return sorted(found, key=lambda change: -abs(change["cost_change"]))
