"""The usage and cost of each iteration of a run, read from the store or computed from calls in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.errors import ConfigError, NotStoredError

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

Run = tuple[str, datetime]
"""``query_id`` and ``run_id``."""


class IterationRow(TypedDict):
    """One iteration of one run; ``compare_iterations.sql`` documents the columns. Costs in USD, times in ms."""

    query_id: str
    run_id: datetime
    iteration: int
    numbered: bool
    calls: int
    failed: int
    unpriced: int
    prompt_tokens: int
    completion_tokens: int
    cache_write_tokens: int
    reported_prompt_tokens: int | None
    cached_tokens: int | None
    total_cost: float | None
    original_cost: float | None
    ttft_ms: float
    ttft_calls: int
    duration_ms: float
    duration_calls: int
    models: list[str]
    providers: list[str]
    tiers: list[str]
    priced_calls: int
    priced_prompt: float
    priced_cached: float
    priced_written: float
    priced_completion: float
    prompt_at_prompt: float
    prompt_at_cached: float
    prompt_at_write: float
    cost_of_uncached: float
    cost_of_cached: float
    cost_of_written: float
    cost_of_completion: float


def rows_of_runs(store: PostgresStore, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Read the iterations of runs as :class:`IterationRow`. Blocks for two queries.

    Raises:
        NotStoredError: A run has no calls.
        ConfigError: ``runs`` is empty.
    """
    if not runs:
        raise ConfigError("no run to compare")
    keys = {"query_ids": [query_id for query_id, _ in runs], "run_ids": [run_id for _, run_id in runs]}
    bounds = store.query("runs_bounds", **keys)[0]
    rows = store.query("compare_iterations", **keys, **bounds)
    known = {(row["query_id"], row["run_id"]) for row in rows}
    for run in runs:
        if run not in known:
            raise NotStoredError(f"no calls of the run {run_name(*run)} are stored")
    return rows


def rows_of_calls(calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compute the same rows from calls in memory. Pure.

    Args:
        calls: Keyed by the columns of ``llm_interactions``, in order of time.
    """
    by_run: dict[Run, list[Mapping[str, Any]]] = {}
    for call in calls:
        by_run.setdefault((call["query_id"], call["run_id"]), []).append(call)
    rows = []
    for (query_id, run_id), of_run in by_run.items():
        steps: dict[int, list[Mapping[str, Any]]] = {}
        following = max((call["iteration"] or 0 for call in of_run), default=0)
        for call in of_run:
            number = call["iteration"]
            if number is None:
                number = following = following + 1
            steps.setdefault(number, []).append(call)
        rows += [
            {"query_id": query_id, "run_id": run_id, "iteration": number, **_row_of_calls(steps[number])}
            for number in sorted(steps)
        ]
    return rows


def _row_of_calls(calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up calls as ``compare_iterations.sql`` does."""
    reported = [call for call in calls if call["prompt_tokens"] is not None and call["cached_tokens"] is not None]
    succeeded = [call for call in calls if call["success"]]
    priced = [call for call in calls if call["total_cost"] is not None]

    def total(name: str, among: Sequence[Mapping[str, Any]] = calls) -> float:
        return math.fsum(call[name] or 0 for call in among)

    def known(name: str, among: Sequence[Mapping[str, Any]]) -> float | None:
        values = [call[name] for call in among if call[name] is not None]
        return math.fsum(values) if values else None

    def price(call: Mapping[str, Any], name: str) -> float:
        usd_per_1k = call[f"{name}_token_price"]
        if usd_per_1k is None and name in ("cached", "cache_write"):
            usd_per_1k = call["prompt_token_price"]
        return (usd_per_1k or 0.0) / 1000

    def cost(tokens: str, name: str) -> float:
        return math.fsum((call[tokens] or 0) * price(call, name) for call in priced)

    written, cached = "cache_write_tokens", "cached_tokens"
    uncached = cost("prompt_tokens", "prompt") - cost(cached, "prompt") - cost(written, "prompt")
    return {
        "numbered": any(call["iteration"] is not None for call in calls),
        "calls": len(calls),
        "failed": len(calls) - len(succeeded),
        "unpriced": sum(call["total_cost"] is None and call["prompt_tokens"] is not None for call in calls),
        "prompt_tokens": int(total("prompt_tokens")),
        "completion_tokens": int(total("completion_tokens")),
        "cache_write_tokens": int(total(written)),
        "reported_prompt_tokens": known("prompt_tokens", reported),
        "cached_tokens": known(cached, reported),
        "total_cost": known("total_cost", calls),
        "original_cost": known("original_cost", priced),
        "ttft_ms": total("time_to_first_token_ms", succeeded),
        "ttft_calls": sum(call["time_to_first_token_ms"] is not None for call in succeeded),
        "duration_ms": total("duration_ms", succeeded),
        "duration_calls": sum(call["duration_ms"] is not None for call in succeeded),
        "models": sorted({call["model"] for call in calls}),
        "providers": sorted({call["provider"] or "" for call in calls}),
        "tiers": sorted({call["service_tier"] or "" for call in calls}),
        "priced_calls": len(priced),
        "priced_prompt": total("prompt_tokens", priced),
        "priced_cached": total(cached, priced),
        "priced_written": total(written, priced),
        "priced_completion": total("completion_tokens", priced),
        "prompt_at_prompt": cost("prompt_tokens", "prompt"),
        "prompt_at_cached": cost("prompt_tokens", "cached"),
        "prompt_at_write": cost("prompt_tokens", "cache_write"),
        "cost_of_uncached": uncached,
        "cost_of_cached": cost(cached, "cached"),
        "cost_of_written": cost(written, "cache_write"),
        "cost_of_completion": cost("completion_tokens", "completion"),
    }


def run_name(query_id: str, run_id: object) -> str:
    """Name a run in a message."""
    return f"{query_id!r} of {run_id.isoformat() if isinstance(run_id, datetime) else run_id}"
