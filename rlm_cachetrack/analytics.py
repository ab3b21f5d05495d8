"""Named queries to typed rows: what the cache saved, where. Reads only; every function blocks for one query."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast

from .storage import PostgresStore

__all__ = [
    "CacheEvolutionStep",
    "ModelEffectiveness",
    "RunListing",
    "TokenCacheOptimization",
    "TokenCacheSummary",
    "cache_effectiveness_by_model",
    "empty_optimization",
    "empty_summary",
    "interactions",
    "list_runs",
    "optimization",
    "run_summary",
    "token_cache_summary",
    "top_cache_savings",
]


RowT = TypeVar("RowT")


class TokenCacheSummary(TypedDict):
    """Totals of one run. Costs: USD over the priced calls, None when none is; rates 0-1, percentages 0-100."""

    query_id: str
    run_id: datetime
    total_prompt_tokens: int
    total_completion_tokens: int
    total_tokens: int
    total_cached_tokens: int
    total_uncached_tokens: int
    total_cache_write_tokens: int
    total_reasoning_tokens: int
    cache_hit_rate: float | None
    total_cost: float | None
    original_cost: float | None
    cost_savings: float | None
    avg_cost_per_interaction: float | None
    total_interactions: int
    interactions_with_cache: int
    interactions_without_cache: int
    interactions_not_reported: int
    failed_interactions: int
    unpriced_interactions: int
    cache_savings_tokens: int
    cache_savings_percentage: float | None
    avg_duration_ms: float | None
    avg_time_to_first_token_ms: float | None
    first_call_time: datetime | None
    last_call_time: datetime | None
    models: list[str]


class CacheEvolutionStep(TypedDict):
    """One iteration of a run; None where no call of it reported its cache use."""

    iteration: int
    prompt_tokens: int
    cached_tokens: int | None
    cache_hit_rate: float | None


class TokenCacheOptimization(TypedDict):
    """What the cache saved in one run, as stored. Costs: USD over the calls whose both costs are known."""

    query_id: str
    run_id: datetime
    total_prompt_tokens: int
    total_cached_tokens: int
    cache_savings_tokens: int
    cache_savings_percentage: float | None
    original_cost: float | None
    cached_cost: float | None
    cost_savings: float | None
    cost_savings_percentage: float | None
    total_interactions: int
    interactions_with_cache: int
    interactions_without_cache: int
    interactions_not_reported: int
    unpriced_interactions: int
    cache_evolution: list[CacheEvolutionStep]
    time: datetime


class ModelEffectiveness(TypedDict):
    """How well the cache worked for one model; ``avg_cache_hit_rate`` is weighted by tokens."""

    model: str
    total_interactions: int
    interactions_with_cache: int
    interactions_without_cache: int
    interactions_not_reported: int
    failed_interactions: int
    unpriced_interactions: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_cached_tokens: int
    total_uncached_tokens: int
    avg_cache_hit_rate: float | None
    total_cost: float | None
    original_cost: float | None
    cost_savings: float | None
    avg_cost_per_interaction: float | None
    avg_duration_ms: float | None
    avg_time_to_first_token_ms: float | None


class RunListing(TypedDict):
    """One line of the list of runs."""

    query_id: str
    run_id: datetime
    start_time: datetime
    end_time: datetime | None
    status: str
    total_interactions: int
    failed_interactions: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_cached_tokens: int
    cache_hit_rate: float | None
    total_cost: float | None
    cost_savings: float | None
    metadata: Any


def token_cache_summary(store: PostgresStore, query_id: str, run_id: datetime) -> TokenCacheSummary | None:
    """The totals of one run; None for an unknown one."""
    return _first(store.query("run_summary", query_id=query_id, run_id=run_id), TokenCacheSummary)


def empty_summary(query_id: str, run_id: datetime) -> TokenCacheSummary:
    """The totals of a run without calls."""
    summary: dict[str, Any] = dict.fromkeys(TokenCacheSummary.__annotations__)
    for name in summary:
        if name.startswith(("total_", "interactions_")) or name.endswith(("_interactions", "_savings_tokens")):
            summary[name] = 0
    summary.update(query_id=query_id, run_id=run_id, total_cost=None, models=[])
    return cast("TokenCacheSummary", summary)


def empty_optimization(query_id: str, run_id: datetime) -> TokenCacheOptimization:
    """What the cache saved in a run without calls."""
    found: dict[str, Any] = dict.fromkeys(TokenCacheOptimization.__annotations__)
    for name in found:
        if name.startswith(("total_", "interactions_")) or name.endswith(("_interactions", "_savings_tokens")):
            found[name] = 0
    found.update(query_id=query_id, run_id=run_id, cache_evolution=[], time=run_id)
    return cast("TokenCacheOptimization", found)


def optimization(store: PostgresStore, query_id: str, run_id: datetime) -> TokenCacheOptimization | None:
    """What the cache saved in one run, as stored; None where none is."""
    rows = store.query("optimization", query_id=query_id, run_id=run_id)
    return _first([_optimization(row) for row in rows], TokenCacheOptimization)


def top_cache_savings(store: PostgresStore, limit: int) -> list[TokenCacheOptimization]:
    """The runs in which the cache saved most, by cost."""
    return _all([_optimization(row) for row in store.query("top_cache_savings", limit=limit)], TokenCacheOptimization)


def cache_effectiveness_by_model(
    store: PostgresStore, since: datetime | None, until: datetime | None
) -> list[ModelEffectiveness]:
    """How well the cache worked, by model, for calls with ``since <= time < until``."""
    rows = store.query("cache_effectiveness_by_model", since=since, until=until)
    return _all(rows, ModelEffectiveness)


def interactions(store: PostgresStore, query_id: str, run_id: datetime) -> list[dict[str, Any]]:
    """Every call of one run, in order of time, keyed by column."""
    rows = store.query("interactions_of_run", query_id=query_id, run_id=run_id)
    # Text, as record_llm_interaction returns it.
    return [{**row, "interaction_id": str(row["interaction_id"])} for row in rows]


def list_runs(store: PostgresStore, limit: int, query_id: str | None = None) -> list[RunListing]:
    """The newest runs, of one query or of all."""
    return _all(store.query("runs_list", limit=limit, query_id=query_id), RunListing)


def run_summary(store: PostgresStore, query_id: str, run_id: datetime) -> dict[str, Any] | None:
    """When a run began and ended and how, its totals and latencies; None for an unknown one."""
    rows = store.query("query_run_summary", query_id=query_id, run_id=run_id)
    return rows[0] if rows else None


def _optimization(row: dict[str, Any]) -> dict[str, Any]:
    """JSONB keeps neither the order of keys nor the difference between 0 and 0.0."""
    steps = []
    for step in row["cache_evolution"]:
        rate = step["cache_hit_rate"]
        steps.append(
            {
                "iteration": step["iteration"],
                "prompt_tokens": step["prompt_tokens"],
                "cached_tokens": step["cached_tokens"],
                "cache_hit_rate": None if rate is None else float(rate),
            }
        )
    return {**row, "cache_evolution": steps}


def _first(rows: list[dict[str, Any]], kind: type[RowT]) -> RowT | None:
    return cast("RowT", rows[0]) if rows else None


def _all(rows: list[dict[str, Any]], kind: type[RowT]) -> list[RowT]:
    return cast("list[RowT]", rows)
