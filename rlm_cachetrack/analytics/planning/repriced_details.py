"""New prices of calls that have more components than the four prices: tools, audio, long retention, fees.

SQL prices all other calls. These are computed here, by the same code that priced them when they were recorded, from the
prices that a re-pricing has stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.pricing import MODEL_TOOLS, Cost, Facts, Rates, cost_of, image_model
from rlm_cachetrack.usage import TokenUsage

if TYPE_CHECKING:
    from .repricing import ModelDifference

IMAGES = "image generation"
"""The label that the prices of image models have instead of a service tier."""

_NEW = {
    "new_prompt_price": "prompt_token_price",
    "new_cached_price": "cached_token_price",
    "new_cache_write_price": "cache_write_token_price",
    "new_completion_price": "completion_token_price",
    "new_total": "total_cost",
    "new_original": "original_cost",
    "new_source": "price_source",
    "new_charges": "charges",
    "new_reason": "unpriced_reason",
    "new_excludes": "cost_excludes",
}


def image_rates(rates: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of ``rates`` with the prices of image models."""
    return [row for row in rates if row["service_tier"] == IMAGES and row["source"] is not None]


def new_values(row: Mapping[str, Any], images: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the new values of a call, with its id, as ``reprice_stage_details`` expects them.

    Args:
        row: The call, with the columns of ``fragments/repriced.sql``.
        images: The prices of image models, from :func:`image_rates`.
    """
    cost = _cost(row, images)._asdict()
    return {
        "interaction_id": str(row["interaction_id"]),
        **{column: cost[name] for column, name in _NEW.items()},
    }


def usage_of(row: Mapping[str, Any]) -> TokenUsage:
    """Return the usage of a stored call, without a cost that the provider returned."""
    return TokenUsage(
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cached_tokens=row["cached_tokens"],
        cache_write_tokens=row["cache_write_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        details=row["token_details"],
    )


def listed_rates(row: Mapping[str, Any]) -> Rates:
    """Return the new prices of a row with the columns of ``fragments/repriced.sql``."""
    return _rates({name.removeprefix("listed_"): value for name, value in row.items() if name.startswith("listed_")})


def _cost(row: Mapping[str, Any], images: Iterable[Mapping[str, Any]]) -> Cost:
    usage = usage_of(row)
    if row["price_source"] == "provider":
        usage = usage._replace(provider_cost_usd=row["total_cost"])
    facts = Facts(row["tool_usage"], row["request_options"], *(_image_rates(row, images, tool) for tool in MODEL_TOOLS))
    cost = cost_of(usage, listed_rates(row), facts, row["model"])
    return cost if row["success"] or row["prompt_tokens"] is not None else cost._replace(unpriced_reason=None)


def _rates(row: Mapping[str, Any]) -> Rates:
    if row["prompt"] is None:
        return Rates.of_units(row["extras"] or {}, row["source"])
    return Rates(
        row["prompt"],
        row["cached"],
        row["cache_write"],
        row["completion"],
        row["source"],
        row["extras"] or {},
        row["regions"] or {},
        row["windows"] or {},
        row["speeds"] or {},
    )


def _image_rates(row: Mapping[str, Any], images: Iterable[Mapping[str, Any]], tool: str) -> Rates | None:
    model, provider = image_model(row["tool_usage"], tool), row["provider"] or ""
    for listed in images:
        is_valid = (
            datetime.fromisoformat(listed["valid_from"]) <= row["time"] <= datetime.fromisoformat(listed["valid_to"])
        )
        if is_valid and (listed["model"], listed["provider"], listed["above"]) == (model, provider, -1):
            return _rates(listed)
    return None


def add_details(
    by_model: dict[str, ModelDifference], rows: Iterable[Mapping[str, Any]], images: Iterable[Mapping[str, Any]]
) -> None:
    """Add the effect of re-pricing these calls to the differences by model.

    Args:
        by_model: The differences, which are changed.
        rows: The calls, with the columns of ``fragments/repriced.sql``.
        images: The prices of image models, from :func:`image_rates`.
    """
    images = list(images)
    for row in rows:
        new = new_values(row, images)
        found = by_model.setdefault(
            row["model"],
            {
                "model": row["model"],
                "total_interactions": 0,
                "changed_interactions": 0,
                "unpriced_before": 0,
                "unpriced_after": 0,
                "cost_before": None,
                "cost_after": None,
            },
        )
        before, after = row["total_cost"], new["new_total"]
        is_used = row["success"] or row["prompt_tokens"] is not None
        changed = any(row[name] != new[column] for column, name in _NEW.items() if name != "price_source")
        found["total_interactions"] += 1
        found["changed_interactions"] += changed
        found["unpriced_before"] += is_used and before is None
        found["unpriced_after"] += is_used and after is None
        found["cost_before"] = _sum(found["cost_before"], before)
        found["cost_after"] = _sum(found["cost_after"], after)


def _sum(total: float | None, more: float | None) -> float | None:
    return total if more is None else (total or 0.0) + more
