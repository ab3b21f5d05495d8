"""Report on one run: its record, totals, cache savings and iterations. Read-only.

``rlm-cachetrack show``, the page of a run, ``/api/run`` and the written report use :func:`run_report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from rlm_cachetrack.formatting import Facts, Table

from .figures import CallCounts, RunKey, UsageFigures

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = [
    "CacheEvolutionStep",
    "Iteration",
    "RunRecord",
    "RunReport",
    "TokenCacheOptimization",
    "TokenCacheSummary",
    "empty_optimization",
    "empty_summary",
    "is_cache_use_reported",
    "iterations_of_run",
    "run_bounds",
    "run_records",
    "run_report",
    "run_summary",
    "stored_optimization",
    "token_cache_summary",
    "with_evolution",
]

RowT = TypeVar("RowT")


class TokenCacheSummary(RunKey, UsageFigures):
    """Totals of one run. Costs: USD over the priced calls, None when none is; rates 0-1, percentages 0-100.

    ``dropped_interactions`` are calls that were counted at the run's end and deleted since, by retention or ``prune``.
    If there are any, the totals are those stored at the end, values not stored then are None, and ``models`` covers the
    remaining calls.
    """

    total_tokens: int
    total_cached_tokens: int
    total_uncached_tokens: int
    total_cache_write_tokens: int | None
    total_reasoning_tokens: int | None
    cache_hit_rate: float | None
    avg_cost_per_interaction: float | None
    cache_savings_tokens: int
    cache_savings_percentage: float | None
    first_call_time: datetime | None
    last_call_time: datetime | None
    models: list[str]
    dropped_interactions: int


class CacheEvolutionStep(TypedDict):
    """Token counts and hit rate (0-1) of one iteration; None if none of its calls reported cache use."""

    iteration: int
    prompt_tokens: int
    cached_tokens: int | None
    cache_hit_rate: float | None


class TokenCacheOptimization(RunKey, CallCounts):
    """The cache savings of one run. Costs: USD over the calls whose cost and original cost are both known.

    Percentages are 0-100. ``time`` is the time of the newest call.
    """

    total_prompt_tokens: int
    total_cached_tokens: int
    cache_savings_tokens: int
    cache_savings_percentage: float | None
    original_cost: float | None
    cached_cost: float | None
    cost_savings: float | None
    cost_savings_percentage: float | None
    cache_evolution: list[CacheEvolutionStep]
    time: datetime


class Iteration(TypedDict):
    """One iteration. Costs: USD over the priced calls; rate 0-1.

    ``prompt_tokens`` = cached + written + uncached + unreported (of calls that did not report their cache use).
    """

    iteration: int
    total_interactions: int
    failed_interactions: int
    prompt_tokens: int
    cached_tokens: int | None
    cache_write_tokens: int
    uncached_tokens: int
    unreported_tokens: int
    completion_tokens: int
    cache_hit_rate: float | None
    total_cost: float | None
    original_cost: float | None
    cost_savings: float | None


class RunRecord(TypedDict):
    """The record of a run, without its calls.

    ``state`` is the status, but ``never completed`` for a run whose end is not stored and that made no call for an
    hour. ``first_call`` and ``last_call`` are the times of its first and last call, None if not known.
    ``stored_interactions`` is the number of calls at the run's end, None before. ``success``, ``score`` and
    ``outcome_label`` are the outcome of the run, None if not recorded.
    """

    query_id: str
    run_id: datetime
    start_time: datetime
    end_time: datetime | None
    status: str
    metadata: Any
    state: str
    duration_ms: float | None
    first_call: datetime | None
    last_call: datetime | None
    stored_interactions: int | None
    success: bool | None
    score: float | None
    outcome_label: str | None
    tags: dict[str, str] | None


class RunReport(TypedDict):
    """One run, for the command line, the dashboard and reports.

    ``run`` is as ``get_query_run_summary`` returns it, None for a run that has calls but is not listed (yet).
    ``optimization`` is computed from the calls, so a run in progress has one. If retention dropped calls of the run,
    only ``iterations`` is computed from the remaining calls.
    """

    run: dict[str, Any] | None
    summary: TokenCacheSummary
    optimization: TokenCacheOptimization
    iterations: list[Iteration]


_RUN_FIELDS = (
    "query_id",
    "run_id",
    "start_time",
    "end_time",
    "status",
    "metadata",
    "state",
    "duration_ms",
    "success",
    "score",
    "outcome_label",
    "tags",
)
_RUN_TOTALS = (
    "total_interactions",
    "failed_interactions",
    "total_prompt_tokens",
    "total_completion_tokens",
    "total_tokens",
    "total_cached_tokens",
    "cache_hit_rate",
    "total_cost",
    "cost_savings",
    "avg_duration_ms",
    "p50_duration_ms",
    "p95_duration_ms",
    "p99_duration_ms",
    "dropped_interactions",
)
_NOT_STORED = (
    "total_cache_write_tokens",
    "total_reasoning_tokens",
    "avg_cost_per_interaction",
    "avg_time_to_first_token_ms",
)


def run_records(
    store: PostgresStore, query_id: str, run_id: datetime | None = None, *, limit: int = 1
) -> list[RunRecord]:
    """Return the newest runs of a query, or one of its runs, without reading their calls. Blocks for one query."""
    return cast("list[RunRecord]", store.query("run_records", query_id=query_id, run_id=run_id, limit=limit))


def run_bounds(store: PostgresStore, query_id: str, run_id: datetime) -> dict[str, Any]:
    """Return the parameters of a query about one run: its key, and when its calls were made. Blocks for one query.

    The bounds come from a separate query, because a plan that knows them skips the chunks of other days.
    """
    return _bounds(query_id, run_id, next(iter(run_records(store, query_id, run_id)), None))


def run_report(
    store: PostgresStore, query_id: str, run_id: datetime, *, record: RunRecord | None = None
) -> RunReport | None:
    """Return the report on one run. Blocks for three queries, or two with ``record``; never writes.

    Args:
        store: The store to read.
        query_id: The query.
        run_id: The run of the query.
        record: The run's record, if the caller has read it.

    Returns:
        None for an unknown run.
    """
    record, totals = _record_and_totals(store, query_id, run_id, record)
    if totals is None:
        return None
    bounds = _bounds(query_id, run_id, record)
    iterations = cast("list[Iteration]", store.query("run_iterations", **bounds))
    return {
        "run": None if record is None else _run(record, totals),
        "summary": _summary(query_id, run_id, totals),
        "optimization": _optimization(query_id, run_id, record, totals, iterations),
        "iterations": iterations,
    }


def token_cache_summary(store: PostgresStore, query_id: str, run_id: datetime) -> TokenCacheSummary | None:
    """Return the totals of one run; None for an unknown run. Blocks for two queries."""
    _, totals = _record_and_totals(store, query_id, run_id, None)
    return None if totals is None else _summary(query_id, run_id, totals)


def run_summary(store: PostgresStore, query_id: str, run_id: datetime) -> dict[str, Any] | None:
    """Return the start, end and status of a run, its totals and latency percentiles; None for an unknown run."""
    record, totals = _record_and_totals(store, query_id, run_id, None)
    return None if record is None or totals is None else _run(record, totals)


def iterations_of_run(store: PostgresStore, query_id: str, run_id: datetime) -> Table[Iteration]:
    """Return the usage and cost of each iteration of a run, from its calls. Blocks for two queries."""
    rows = store.query("run_iterations", **run_bounds(store, query_id, run_id))
    return Table(cast("list[Iteration]", rows), columns=tuple(Iteration.__annotations__))


def stored_optimization(store: PostgresStore, query_id: str, run_id: datetime) -> TokenCacheOptimization | None:
    """Return the cache savings of one run as stored at its end; None if nothing is stored."""
    rows = store.query("optimization", query_id=query_id, run_id=run_id)
    return cast("TokenCacheOptimization", Facts(with_evolution(rows[0]))) if rows else None


def is_cache_use_reported(sums: Mapping[str, Any]) -> bool:
    """Return True if a call of the sums reported its cache use; otherwise their cached tokens are 0 but unknown."""
    return bool(sums["interactions_with_cache"] or sums["interactions_without_cache"])


def empty_summary(query_id: str, run_id: datetime) -> TokenCacheSummary:
    """Return the totals of a run without calls."""
    more = {"query_id": query_id, "run_id": run_id, "total_cost": None, "models": []}
    return cast("TokenCacheSummary", {**_zeros(TokenCacheSummary), **more})


def empty_optimization(query_id: str, run_id: datetime) -> TokenCacheOptimization:
    """Return the cache savings of a run without calls."""
    more = {"query_id": query_id, "run_id": run_id, "time": run_id, "cache_evolution": []}
    return cast("TokenCacheOptimization", {**_zeros(TokenCacheOptimization), **more})


def with_evolution(row: dict[str, Any]) -> dict[str, Any]:
    """Restore the order of the keys, and the floats of ``cache_evolution``, which JSONB does not keep."""
    steps = [{name: step[name] for name in CacheEvolutionStep.__annotations__} for step in row["cache_evolution"]]
    for step in steps:
        step["cache_hit_rate"] = None if step["cache_hit_rate"] is None else float(step["cache_hit_rate"])
    return {name: row[name] for name in TokenCacheOptimization.__annotations__} | {"cache_evolution": steps}


def _bounds(query_id: str, run_id: datetime, record: RunRecord | None) -> dict[str, Any]:
    first, last = (None, None) if record is None else (record["first_call"], record["last_call"])
    return {"query_id": query_id, "run_id": run_id, "first_call": first, "last_call": last}


def _record_and_totals(
    store: PostgresStore, query_id: str, run_id: datetime, record: RunRecord | None
) -> tuple[RunRecord | None, dict[str, Any] | None]:
    """Read the run's record, unless it is given, and its totals; None for an unknown run.

    Retention may have dropped calls of the run since its end. Then the totals are those that were stored at the end.
    """
    record = record or next(iter(run_records(store, query_id, run_id)), None)
    totals: dict[str, Any] = {
        **store.query("run_totals", **_bounds(query_id, run_id, record))[0],
        "dropped_interactions": 0,
        "cache_evolution": None,
    }
    dropped = ((record and record["stored_interactions"]) or 0) - totals["total_interactions"]
    if dropped > 0:
        for stored in store.query("run_stored_totals", query_id=query_id, run_id=run_id):
            totals |= {**dict.fromkeys(_NOT_STORED), **stored, "dropped_interactions": dropped}
    return record, totals if record is not None or totals["total_interactions"] else None


def _run(record: RunRecord, totals: dict[str, Any]) -> dict[str, Any]:
    listed = cast("dict[str, Any]", record)
    return Facts({**{name: listed[name] for name in _RUN_FIELDS}, **{name: totals[name] for name in _RUN_TOTALS}})


def _summary(query_id: str, run_id: datetime, totals: dict[str, Any]) -> TokenCacheSummary:
    return cast("TokenCacheSummary", Facts(_filled(TokenCacheSummary, query_id, run_id, totals)))


def _optimization(
    query_id: str, run_id: datetime, record: RunRecord | None, totals: dict[str, Any], iterations: list[Iteration]
) -> TokenCacheOptimization:
    """Compute the values that ``store_optimization.sql`` stores when a run ends."""
    steps = totals["cache_evolution"] or iterations
    original, saved = totals["original_cost"], totals["cost_savings"]
    more = {
        "time": totals["time"] or (run_id if record is None else record["start_time"]),
        "cost_savings_percentage": 100 * saved / original if original and saved is not None else None,
        "cache_evolution": steps,
    }
    found = with_evolution(_filled(TokenCacheOptimization, query_id, run_id, {**totals, **more}))
    return cast("TokenCacheOptimization", Facts(found))


def _filled(kind: type, query_id: str, run_id: datetime, totals: dict[str, Any]) -> dict[str, Any]:
    rate = totals["cache_hit_rate"]
    values = {
        **totals,
        "query_id": query_id,
        "run_id": run_id,
        "cache_savings_tokens": totals["total_cached_tokens"],
        "cache_savings_percentage": None if rate is None else 100 * rate,
    }
    return {name: values[name] for name in kind.__annotations__}


def _zeros(kind: type) -> dict[str, Any]:
    counts = [
        name
        for name in kind.__annotations__
        if name.startswith(("total_", "interactions_")) or name.endswith(("_interactions", "_savings_tokens"))
    ]
    return {**dict.fromkeys(kind.__annotations__), **dict.fromkeys(counts, 0)}
