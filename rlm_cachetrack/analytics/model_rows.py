"""Usage by model with the share of the cost and the effective price, sorted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .sorting import sorted_by
from .usage_views import Usage

_KEYS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "model": lambda row: (row["model"] or "", row["provider"] or ""),
    "calls": lambda row: row["total_interactions"],
    "failed": lambda row: row["failed_interactions"],
    "prompt": lambda row: row["total_prompt_tokens"],
    "cached": lambda row: row["total_cached_tokens"],
    "written": lambda row: row["total_cache_write_tokens"],
    "hit_rate": lambda row: row["cache_hit_rate"],
    "cost": lambda row: row["total_cost"],
    "share": lambda row: row["cost_share"],
    "saved": lambda row: row["cost_savings"],
    "price": lambda row: row["usd_per_1m"],
    "unpriced": lambda row: row["unpriced_interactions"],
    "latency": lambda row: row["avg_duration_ms"],
    "first_token": lambda row: row["avg_time_to_first_token_ms"],
}


def sorted_models(usage: Usage, sort: str, *, is_ascending: bool) -> list[dict[str, Any]]:
    """Return the models of a usage; unknown values come last.

    Each row also has ``cost_share`` (0-1 of the cost of all models) and ``usd_per_1m``, the cost per million prompt
    and completion tokens; both are None without a cost, ``usd_per_1m`` also if calls are unpriced.

    Raises:
        ConfigError: ``sort`` is unknown.
    """
    total = usage["total"]["total_cost"]
    rows = []
    for row in usage["models"]:
        cost, tokens = row["total_cost"], row["total_prompt_tokens"] + row["total_completion_tokens"]
        share = cost / total if cost is not None and total else None
        is_complete = cost is not None and tokens and not row["unpriced_interactions"]
        rows.append({**row, "cost_share": share, "usd_per_1m": (cost or 0.0) / tokens * 1e6 if is_complete else None})
    return sorted_by(rows, _KEYS, sort, is_ascending=is_ascending)
