"""Compare groups of runs by what they achieved and what that cost: success rate, cost per success, Pareto front."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import Table

from .filters import CallFilters, query_parameters
from .run_figures import complete_figures

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

GROUPINGS = ("query", "model", "label", "metadata.KEY", "tag:NAME")
"""What runs can be grouped by."""

_RESAMPLES = 1_000
_MOST_DRAWS = 2_000_000  # for the intervals of one kind, of all groups: about half a second
_Interval = tuple[float | None, float | None]


class Experiment(TypedDict):
    """A group of finished runs. Costs: USD; tokens: prompt and completion; intervals: 95%, by bootstrap over runs.

    ``success_rate`` (0-1), ``*_per_success`` and their intervals cover the judged runs alone, those whose outcome says
    whether they succeeded; the cost of failed runs is part of the cost per success. None: no run is judged, none
    succeeded, or none is priced. ``avg_original_cost`` is the cost per run with nothing cached, which does not depend
    on the order of the runs. ``is_pareto`` is True if no other group is cheaper per run and at least as good, by score
    or, without scores, by success rate.
    """

    group: str | None
    runs: int
    judged_runs: int
    successful_runs: int
    success_rate: float | None
    success_rate_low: float | None
    success_rate_high: float | None
    avg_score: float | None
    total_cost: float | None
    avg_cost: float | None
    avg_cost_low: float | None
    avg_cost_high: float | None
    avg_original_cost: float | None
    cost_savings: float | None
    cost_per_success: float | None
    cost_per_success_low: float | None
    cost_per_success_high: float | None
    tokens_per_success: float | None
    ms_per_success: float | None
    total_interactions: int
    unpriced_interactions: int
    cache_hit_rate: float | None
    is_pareto: bool


def experiments(
    store: PostgresStore, by: str = "query", *, has_intervals: bool = True, **filters: Unpack[CallFilters]
) -> Table[Experiment]:
    """Return the groups of finished runs, the lowest cost per success first. Blocks for one query or two.

    Args:
        store: The store of the runs.
        by: One of :data:`GROUPINGS`, such as ``metadata.agent`` or ``tag:user``.
        has_intervals: False: all intervals are None, which saves their time.
        filters: See :class:`.CallFilters`.

    Raises:
        ConfigError: ``by`` is none of the groupings.
    """
    grouping, key = parse_grouping(by)
    rows = store.query("experiment_runs", grouping=grouping, key=key, **query_parameters(filters))
    complete_figures(store, rows)
    groups = [(group, list(runs)) for group, runs in groupby(rows, key=lambda row: row["group"])]
    draws = _MOST_DRAWS // max(len(groups), 1) if has_intervals else 0
    found = [_experiment(group, runs, draws) for group, runs in groups]
    _mark_pareto(found)
    return Table(sorted(found, key=lambda group: _last_if_none(group["cost_per_success"] or group["avg_cost"])))


def parse_grouping(by: str) -> tuple[str, str | None]:
    """Return the grouping and the key that ``by`` names.

    Raises:
        ConfigError: It is none of :data:`GROUPINGS`.
    """
    for prefix, grouping in (("metadata.", "metadata"), ("tag:", "tag")):
        if by.startswith(prefix) and len(by) > len(prefix):
            return grouping, by.removeprefix(prefix)
    if by not in ("query", "model", "label"):
        raise ConfigError(f"by={by!r}: expected {', '.join(GROUPINGS[:-1])} or {GROUPINGS[-1]}")
    return by, None


def _experiment(group: str | None, runs: Sequence[dict[str, Any]], draws: int) -> Experiment:
    judged = [run for run in runs if run["success"] is not None]
    solved = sum(run["success"] for run in judged)
    scores = [run["score"] for run in runs if run["score"] is not None]
    priced = [run for run in runs if run["total_cost"] is not None]
    costs = [run["total_cost"] for run in priced]
    total = math.fsum(costs) if costs else None
    original = math.fsum(run["total_cost"] + (run["cost_savings"] or 0.0) for run in priced) if priced else None
    reported = sum(_reported_prompt_tokens(run) for run in runs)
    success_low, success_high = _interval(judged, _success_rate, draws)
    cost_low, cost_high = _interval(priced, lambda sample: fmean(run["total_cost"] for run in sample), draws)
    per_success = _per_success(judged, "total_cost")
    per_low, per_high = (None, None) if per_success is None else _interval(judged, _cost_per_success, draws)
    for run in judged:
        run["tokens"] = run["total_prompt_tokens"] + run["total_completion_tokens"]
    return {
        "group": group,
        "runs": len(runs),
        "judged_runs": len(judged),
        "successful_runs": solved,
        "success_rate": _success_rate(judged) if judged else None,
        "success_rate_low": success_low,
        "success_rate_high": success_high,
        "avg_score": fmean(scores) if scores else None,
        "total_cost": total,
        "avg_cost": None if total is None else total / len(costs),
        "avg_cost_low": cost_low,
        "avg_cost_high": cost_high,
        "avg_original_cost": None if original is None else original / len(priced),
        "cost_savings": None if total is None or original is None else original - total,
        "cost_per_success": per_success,
        "cost_per_success_low": per_low,
        "cost_per_success_high": per_high,
        "tokens_per_success": _per_success(judged, "tokens"),
        "ms_per_success": _per_success(judged, "duration_ms"),
        "total_interactions": sum(run["total_interactions"] for run in runs),
        "unpriced_interactions": sum(run["unpriced_interactions"] for run in runs),
        "cache_hit_rate": sum(run["total_cached_tokens"] for run in runs) / reported if reported else None,
        "is_pareto": False,
    }


def _reported_prompt_tokens(run: dict[str, Any]) -> int:
    """Return the prompt tokens of the calls that reported their cache use; all, if they are not stored apart."""
    reported: int | None = run["reported_prompt_tokens"]
    return int(run["total_prompt_tokens"]) if reported is None else reported


def _success_rate(runs: Sequence[dict[str, Any]]) -> float:
    return len([run for run in runs if run["success"]]) / len(runs)


def _per_success(runs: Sequence[dict[str, Any]], name: str) -> float | None:
    """Return the sum of a value over all judged runs, per successful run; None if none succeeded or has a value."""
    solved = sum(run["success"] for run in runs)
    values = [run[name] for run in runs if run[name] is not None]
    return math.fsum(values) / solved if solved and values else None


def _cost_per_success(runs: Sequence[dict[str, Any]]) -> float:
    cost = _per_success(runs, "total_cost")
    return math.inf if cost is None else cost


def _interval(
    runs: Sequence[dict[str, Any]], value: Callable[[Sequence[dict[str, Any]]], float], draws: int
) -> _Interval:
    """Return the 95% percentile bootstrap interval of a value over runs; a bound that is not finite is None.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. The seed is fixed, so the
    same runs give the same interval.
    """
    if len(runs) < 2 or not draws:
        return None, None
    chance = random.Random(0)  # noqa: S311 - no secret is made of it
    resamples = max(200, min(_RESAMPLES, draws // len(runs)))
    values = sorted(value(chance.choices(runs, k=len(runs))) for _ in range(resamples))
    bounds = values[int(0.025 * resamples)], values[math.ceil(0.975 * resamples) - 1]
    low, high = (bound if math.isfinite(bound) else None for bound in bounds)
    return low, high


def _mark_pareto(groups: Sequence[Experiment]) -> None:
    """Mark the groups that no other group beats in both cost per run and quality."""
    by_score = any(group["avg_score"] is not None for group in groups)
    points = [(group["avg_cost"], group["avg_score"] if by_score else group["success_rate"]) for group in groups]
    for group, (cost, quality) in zip(groups, points, strict=True):
        if cost is None or quality is None:
            continue
        group["is_pareto"] = not any(
            other_cost is not None
            and other_quality is not None
            and other_cost <= cost
            and other_quality >= quality
            and (other_cost, other_quality) != (cost, quality)
            for other_cost, other_quality in points
        )


def _last_if_none(value: float | None) -> float:
    return math.inf if value is None else value
