"""Named queries to typed rows: what the cache saved, where. Reads only; every function blocks for one query."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import Facts, Table

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = [
    "CacheEvolutionStep",
    "ModelEffectiveness",
    "RunListing",
    "TokenCacheOptimization",
    "TokenCacheSummary",
    "UsageBucket",
    "cache_effectiveness_by_model",
    "cache_evolution",
    "empty_optimization",
    "empty_summary",
    "interactions",
    "interactions_page",
    "list_runs",
    "of_run",
    "optimization",
    "run_summary",
    "token_cache_summary",
    "top_cache_savings",
    "usage_over_time",
]


RowT = TypeVar("RowT")

_HOUR = timedelta(hours=1)
_UNITS = ("hour", "day", "week", "month")


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


class UsageBucket(TypedDict):
    """One hour, day, week or month. Costs: USD over the priced calls; ``cache_hit_rate`` is weighted by tokens."""

    bucket: datetime
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
    cache_hit_rate: float | None
    total_cost: float | None
    original_cost: float | None
    cost_savings: float | None
    avg_cost_per_interaction: float | None
    avg_duration_ms: float | None
    avg_time_to_first_token_ms: float | None


class RunListing(TypedDict):
    """One line of the list of runs.

    ``state`` is the status, but ``no end`` for a run whose end is not stored and that no call came to for an hour: its
    process was killed or waits, or its calls were made outside any run.
    """

    query_id: str
    run_id: datetime
    start_time: datetime
    end_time: datetime | None
    status: str
    state: str
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
    return _first(store.query("run_summary", **of_run(store, query_id, run_id)), TokenCacheSummary)


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


def top_cache_savings(store: PostgresStore, limit: int) -> Table[TokenCacheOptimization]:
    """The runs in which the cache saved most, by cost."""
    return _all([_optimization(row) for row in store.query("top_cache_savings", limit=limit)], TokenCacheOptimization)


def cache_effectiveness_by_model(
    store: PostgresStore, since: datetime | None, until: datetime | None
) -> Table[ModelEffectiveness]:
    """How well the cache worked, by model, for calls with ``since <= time < until``."""
    rows = store.query("cache_effectiveness_by_model", **_whole_hours(since, until))
    return _all(rows, ModelEffectiveness)


def interactions(store: PostgresStore, query_id: str, run_id: datetime) -> Table[dict[str, Any]]:
    """Every call of one run, in order of time, keyed by column."""
    rows = store.query("interactions_of_run", **of_run(store, query_id, run_id))
    return Table(map(_call, rows))


def interactions_page(
    store: PostgresStore,
    limit: int,
    before: tuple[datetime, str] | None = None,
    model: str | None = None,
) -> Table[dict[str, Any]]:
    """Calls of all runs, newest first, keyed by column.

    Args:
        store: Where to look.
        limit: The most to return.
        before: ``time`` and ``interaction_id`` of the last call of the page before; None for the first page.
        model: Only calls of this model.
    """
    moment, interaction_id = before or (None, None)
    rows = store.query("interactions_page", before_time=moment, before_id=interaction_id, model=model, limit=limit)
    return Table(map(_call, rows))


def cache_evolution(store: PostgresStore, query_id: str, run_id: datetime) -> Table[CacheEvolutionStep]:
    """How the hit rate went over the iterations of a run, from its calls; also while it goes on."""
    return _all(store.query("evolution", **of_run(store, query_id, run_id)), CacheEvolutionStep)


def usage_over_time(
    store: PostgresStore,
    unit: Literal["hour", "day", "week", "month"] = "hour",
    since: datetime | None = None,
    until: datetime | None = None,
    model: str | None = None,
) -> Table[UsageBucket]:
    """Calls, tokens, cost and hit rate by hour, day, week or month of UTC, for calls with ``since <= time < until``."""
    if unit not in _UNITS:
        raise ConfigError(f"unit={unit!r}: expected one of {', '.join(_UNITS)}")
    return _all(store.query("usage_over_time", unit=unit, model=model, **_whole_hours(since, until)), UsageBucket)


def list_runs(store: PostgresStore, limit: int, query_id: str | None = None) -> Table[RunListing]:
    """The newest runs, of one query or of all."""
    return _all(store.query("runs_list", limit=limit, query_id=query_id), RunListing)


def run_summary(store: PostgresStore, query_id: str, run_id: datetime) -> dict[str, Any] | None:
    """When a run began and ended and how, its totals and latencies; None for an unknown one."""
    rows = store.query("query_run_summary", **of_run(store, query_id, run_id))
    return Facts(rows[0]) if rows else None


def _call(row: dict[str, Any]) -> dict[str, Any]:
    """A row as people write it: the id as record_llm_interaction returns it, bytes in hexadecimal digits."""
    fingerprint = row.get("fingerprint")
    return {
        **row,
        "interaction_id": str(row["interaction_id"]),
        "fingerprint": None if fingerprint is None else bytes(fingerprint).hex(),
    }


def of_run(store: PostgresStore, query_id: str, run_id: datetime) -> dict[str, Any]:
    """The parameters of a query about one run: its key, and the time its calls lie in.

    They are asked for first, because a query whose plan knows the time does not even look at other days' chunks.
    """
    rows = store.query("run_bounds", query_id=query_id, run_id=run_id)
    bounds = rows[0] if rows else {"first_call": None, "last_call": None}
    return {"query_id": query_id, "run_id": run_id, **bounds}


def _whole_hours(since: datetime | None, until: datetime | None) -> dict[str, datetime | None]:
    """The parameters of a query over time: its bounds, and the whole hours between them."""
    first, last = since, until
    if since is not None:
        first = _hour(since)
        first = first if first == since else first + _HOUR
    if until is not None:
        last = _hour(until)
        if first is not None and first > last:
            first = last = max(until, since or until)
    return {"since": since, "until": until, "first_hour": first, "last_hour": last}


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


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
    return cast("RowT", Facts(rows[0])) if rows else None


def _all(rows: list[dict[str, Any]], kind: type[RowT]) -> Table[RowT]:
    return Table(cast("list[RowT]", rows), columns=tuple(kind.__annotations__))
