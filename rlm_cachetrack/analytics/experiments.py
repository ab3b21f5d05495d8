"""Compare groups of runs by outcome and cost: success rate, cost per success, Pareto front."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, TypeVar, Unpack

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import Table

from .filters import CallFilters, query_parameters
from .run_figures import complete_figures

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

GROUPINGS = ("query", "model", "label", "metadata.KEY", "tag:NAME")
"""The groupings of runs."""

_RESAMPLES = 1_000
_MOST_DRAWS = 2_000_000  # for the intervals of one kind, of all groups: about half a second
_Interval = tuple[float | None, float | None]
T = TypeVar("T")


class Experiment(TypedDict):
    """A group of finished runs. Costs: USD; tokens: prompt and completion; intervals: 95%, by bootstrap over runs.

    ``success_rate`` (0-1), ``*_per_success`` and their intervals cover the judged runs alone, those whose outcome says
    whether they succeeded; the cost of failed runs is part of the cost per success. None: no run is judged, none
    succeeded, or none is priced. ``avg_original_cost`` is the cost per run with nothing cached, which does not depend
    on the order of the runs. ``avg_cost`` covers all runs; ``avg_judged_*`` cover the judged runs and ``avg_scored_*``
    the runs with a score, so they can be compared with the success rate and the score. ``is_pareto`` is True if no
    other group is cheaper per run and at least as good: by score and the cost of the runs with a score or, without
    scores, by success rate and the cost of the judged runs.
    """

    group: str | None
    query_id: str | None
    runs: int
    judged_runs: int
    successful_runs: int
    success_rate: float | None
    success_rate_low: float | None
    success_rate_high: float | None
    scored_runs: int
    avg_score: float | None
    total_cost: float | None
    avg_cost: float | None
    avg_cost_low: float | None
    avg_cost_high: float | None
    avg_original_cost: float | None
    avg_judged_cost: float | None
    avg_judged_cost_low: float | None
    avg_judged_cost_high: float | None
    avg_judged_original_cost: float | None
    avg_scored_cost: float | None
    avg_scored_cost_low: float | None
    avg_scored_cost_high: float | None
    avg_scored_original_cost: float | None
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


class RunCosts(NamedTuple):
    """The costs of a set of runs, USD per priced run: mean, its 95% interval, and the mean with nothing cached."""

    mean: float | None
    low: float | None
    high: float | None
    original: float | None


def experiments(
    store: PostgresStore, by: str = "query", *, has_intervals: bool = True, **filters: Unpack[CallFilters]
) -> Table[Experiment]:
    """Return the groups of finished runs, the lowest cost per success first. Blocks for one query or two.

    Groups without a cost per success come last, the lowest cost per run first.

    Args:
        store: The store of the runs.
        by: One of :data:`GROUPINGS`, such as ``metadata.agent`` or ``tag:user``.
        has_intervals: False: all intervals are None, which saves their time.
        filters: See :class:`.CallFilters`.

    Raises:
        ConfigError: ``by`` is not one of the groupings.
    """
    grouping, key = parse_grouping(by)
    rows = store.query("experiment_runs", grouping=grouping, key=key, **query_parameters(filters))
    complete_figures(store, rows)
    groups = [(group, list(runs)) for group, runs in groupby(rows, key=lambda row: row["group"])]
    draws = _MOST_DRAWS // max(len(groups), 1) if has_intervals else 0
    found = [_experiment(group, runs, draws) for group, runs in groups]
    _mark_pareto(found)
    return Table(sorted(found, key=_order))


def parse_grouping(by: str) -> tuple[str, str | None]:
    """Return the grouping and the key that ``by`` names.

    Raises:
        ConfigError: It is not one of :data:`GROUPINGS`.
    """
    for prefix, grouping in (("metadata.", "metadata"), ("tag:", "tag")):
        if by.startswith(prefix) and len(by) > len(prefix):
            return grouping, by.removeprefix(prefix)
    if by not in ("query", "model", "label"):
        raise ConfigError(f"by={by!r}: expected {', '.join(GROUPINGS[:-1])} or {GROUPINGS[-1]}")
    return by, None


def costs_of_outcome(group: Experiment) -> RunCosts:
    """Return the costs of the runs that the outcome of a group covers: the judged runs, else those with a score. Pure.

    For a group without an outcome, return the costs of all runs.
    """
    return _costs_of(group, "judged_" if group["judged_runs"] else "scored_" if group["scored_runs"] else "")


def quality_and_costs(groups: Sequence[Experiment]) -> tuple[str, list[tuple[float | None, RunCosts]]]:
    """Return the name of the compared figure, ``avg_score`` or ``success_rate``, and cost and quality per group. Pure.

    The cost of a group covers the same runs as its quality.
    """
    if any(group["avg_score"] is not None for group in groups):
        return "avg_score", [(group["avg_score"], _costs_of(group, "scored_")) for group in groups]
    return "success_rate", [(group["success_rate"], _costs_of(group, "judged_")) for group in groups]


def mixed_queries(groups: Sequence[Experiment], by: str) -> bool:
    """Return True if groups by something else than the query contain runs of several queries. Pure."""
    queries = {group["query_id"] for group in groups}
    return by != "query" and (None in queries or len(queries) > 1)


def _costs_of(group: Mapping[str, Any], runs: Literal["", "judged_", "scored_"]) -> RunCosts:
    """Return the costs of a group's runs: all runs, the judged ones, or those with a score."""
    return RunCosts(*(group[f"avg_{runs}{name}"] for name in ("cost", "cost_low", "cost_high", "original_cost")))


def _experiment(group: str | None, runs: Sequence[dict[str, Any]], draws: int) -> Experiment:
    judged = [run for run in runs if run["success"] is not None]
    scored = [run for run in runs if run["score"] is not None]
    queries = {run["query_id"] for run in runs}
    costs = _costs(runs, draws)
    judged_costs = costs if len(judged) == len(runs) else _costs(judged, draws)
    scored_costs = judged_costs if scored == judged else _costs(scored, draws)
    total, saved = _sums(runs)
    reported = sum(_reported_prompt_tokens(run) for run in runs)
    success_low, success_high = _interval([run["success"] for run in judged], fmean, draws)
    per_success = _per_success(judged, "total_cost")
    per_low, per_high = (None, None) if per_success is None else _interval(judged, _cost_per_success, draws)
    for run in judged:
        run["tokens"] = run["total_prompt_tokens"] + run["total_completion_tokens"]
    return {
        "group": group,
        "query_id": queries.pop() if len(queries) == 1 else None,
        "runs": len(runs),
        "judged_runs": len(judged),
        "successful_runs": sum(run["success"] for run in judged),
        "success_rate": _success_rate(judged) if judged else None,
        "success_rate_low": success_low,
        "success_rate_high": success_high,
        "scored_runs": len(scored),
        "avg_score": fmean(run["score"] for run in scored) if scored else None,
        "total_cost": total,
        "avg_cost": costs.mean,
        "avg_cost_low": costs.low,
        "avg_cost_high": costs.high,
        "avg_original_cost": costs.original,
        "avg_judged_cost": judged_costs.mean,
        "avg_judged_cost_low": judged_costs.low,
        "avg_judged_cost_high": judged_costs.high,
        "avg_judged_original_cost": judged_costs.original,
        "avg_scored_cost": scored_costs.mean,
        "avg_scored_cost_low": scored_costs.low,
        "avg_scored_cost_high": scored_costs.high,
        "avg_scored_original_cost": scored_costs.original,
        "cost_savings": saved,
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


def _sums(runs: Sequence[dict[str, Any]]) -> tuple[float | None, float | None]:
    """Return cost and savings of the priced runs; None if there are none."""
    priced = [run for run in runs if run["total_cost"] is not None]
    if not priced:
        return None, None
    return math.fsum(run["total_cost"] for run in priced), math.fsum(run["cost_savings"] or 0.0 for run in priced)


def _costs(runs: Sequence[dict[str, Any]], draws: int) -> RunCosts:
    priced = [run for run in runs if run["total_cost"] is not None]
    total, saved = _sums(priced)
    if total is None or saved is None:
        return RunCosts(None, None, None, None)
    low, high = _interval([run["total_cost"] for run in priced], fmean, draws)
    return RunCosts(total / len(priced), low, high, (total + saved) / len(priced))


def _reported_prompt_tokens(run: dict[str, Any]) -> int:
    """Return the prompt tokens of the calls that reported their cache use; of all calls, if that is not stored."""
    reported: int | None = run["reported_prompt_tokens"]
    return int(run["total_prompt_tokens"]) if reported is None else reported


def _success_rate(runs: Sequence[dict[str, Any]]) -> float:
    return len([run for run in runs if run["success"]]) / len(runs)


def _per_success(runs: Sequence[dict[str, Any]], name: str) -> float | None:
    """Return the sum of a value over the judged runs that have it, divided by their successes, if any."""
    known = [run for run in runs if run[name] is not None]
    solved = sum(run["success"] for run in known)
    return math.fsum(run[name] for run in known) / solved if solved else None


def _cost_per_success(runs: Sequence[dict[str, Any]]) -> float:
    cost = _per_success(runs, "total_cost")
    return math.inf if cost is None else cost


def _interval(runs: Sequence[T], value: Callable[[Sequence[T]], float], draws: int) -> _Interval:
    """Return the 95% percentile bootstrap interval of a value over runs; a bound that is not finite is None.

    ``runs`` has one element per run: the run, or the one figure of it that ``value`` needs, which is faster.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. The seed is fixed, so the
    same runs give the same interval.
    """
    if len(runs) < 2 or not draws:
        return None, None
    chance = random.Random(0)  # noqa: S311 - not used for secrets
    resamples = max(200, min(_RESAMPLES, draws // len(runs)))
    values = sorted(value(chance.choices(runs, k=len(runs))) for _ in range(resamples))
    bounds = values[int(0.025 * resamples)], values[math.ceil(0.975 * resamples) - 1]
    low, high = (bound if math.isfinite(bound) else None for bound in bounds)
    return low, high


def _mark_pareto(groups: Sequence[Experiment]) -> None:
    """Mark the groups that no other group beats in both cost per run and quality."""
    points = [(costs.mean, quality) for quality, costs in quality_and_costs(groups)[1]]
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


def _order(group: Experiment) -> tuple[bool, float]:
    cost = group["cost_per_success"]
    if cost is not None:
        return False, cost
    per_run = costs_of_outcome(group).mean
    return True, math.inf if per_run is None else per_run
