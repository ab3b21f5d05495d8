"""Compare two runs, or two groups of runs, iteration by iteration: differences, their intervals, and their causes.

Runs of different lengths are compared over the iterations that all of them have, so the length of a run does not affect
the result. Every figure of a side is the mean of its runs; with two runs or more on both sides each difference has an
interval (Welch's, one observation per run).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict, cast

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import Sheet, Table

from .compare_misses import MOST_CALLS, MOST_RUNS, ComparisonAchievable, ComparisonVerdict, explanations, misses
from .cost_effects import ComparisonEffect, cost_effects
from .intervals import welch
from .iteration_rows import Run, rows_of_runs, run_name

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import CacheExplanation
    from rlm_cachetrack.store import PostgresStore

__all__ = [
    "Comparison",
    "ComparisonAchievable",
    "ComparisonEffect",
    "ComparisonMetric",
    "ComparisonSide",
    "ComparisonStep",
    "ComparisonVerdict",
    "StepFigures",
    "compare_rows",
    "compare_runs",
]


class StepFigures(TypedDict):
    """One iteration, the mean of the runs of a side. Tokens; rate 0-1; costs in USD, None if no call is priced."""

    calls: float
    prompt_tokens: float
    cached_tokens: float | None
    uncached_prompt_tokens: float | None
    completion_tokens: float
    cache_hit_rate: float | None
    total_cost: float | None
    time_to_first_token_ms: float | None
    duration_ms: float | None


class ComparisonStep(TypedDict):
    """One iteration on both sides."""

    iteration: int
    a: StepFigures
    b: StepFigures


class ComparisonMetric(TypedDict):
    """One figure over the compared iterations: the mean of each side's runs, and ``difference`` = b - a.

    ``success_rate`` and ``score`` cover whole runs that were judged; they are left out if no run was judged.

    ``low`` and ``high`` bound the difference at the given confidence; None with fewer than two runs on a side.
    ``clear`` is True if 0 is outside of them. ``relative`` is difference / a, None if ``a`` is 0 or not known. The
    unit is that of the figure: rates 0-1, tokens, USD, milliseconds.
    """

    name: str
    a: float | None
    b: float | None
    difference: float | None
    relative: float | None
    low: float | None
    high: float | None
    clear: bool | None


class ComparisonSide(TypedDict):
    """One side: its runs, the iterations of the longest one, and the models, providers and tiers they called."""

    runs: list[dict[str, Any]]
    iterations: int
    models: list[str]
    providers: list[str]
    service_tiers: list[str]


class Comparison(TypedDict):
    """Two sides compared.

    ``iterations`` holds the iterations that every run has; ``metrics`` cover these. ``effects`` explain the difference
    in ``total_cost``, largest first; None if a side has no priced call. ``worst_iterations`` are up to three iterations
    in which ``b`` sent more uncached tokens than ``a``, largest excess first. ``verdicts`` are the cache miss reasons,
    largest difference first, and ``achievable`` is the achievable hit rate; None if a side has no fingerprints.
    ``notes`` are sentences on how far to trust the comparison.
    """

    a: ComparisonSide
    b: ComparisonSide
    confidence: float
    iterations: list[ComparisonStep]
    metrics: Table[ComparisonMetric]
    effects: Table[ComparisonEffect] | None
    worst_iterations: list[int]
    verdicts: Table[ComparisonVerdict] | None
    achievable: ComparisonAchievable | None
    notes: list[str]


def compare_runs(store: PostgresStore, a: Sequence[Run], b: Sequence[Run], confidence: float = 0.95) -> Comparison:
    """Compare stored runs. Blocks for two queries per side, and about 0.2 ms per call to explain the runs.

    Args:
        store: The store to read.
        a: One run, or a group of runs.
        b: The run or group to compare with ``a``.
        confidence: The confidence level of the intervals, between 0 and 1.

    Raises:
        NotStoredError: A run has no calls.
        ConfigError: A side is empty, a run is on both sides, or ``confidence`` is out of range.
    """
    both = set(a) & set(b)
    if both:
        raise ConfigError(f"the run {run_name(*min(both))} is on both sides")
    rows = rows_of_runs(store, a), rows_of_runs(store, b)
    found = compare_rows(*rows, confidence)
    if found["iterations"]:
        found["metrics"] += _outcomes(store, a, b, confidence)
        _add_misses(found, *(explanations(store, side) for side in (a, b)))
        if any(len(side) > MOST_RUNS for side in (a, b)):
            found["notes"].append(f"cache misses were explained in the newest {MOST_RUNS} runs of each side only")
        if any(
            sum(row["calls"] for row in run.values()) > MOST_CALLS for side in rows for run in _by_run(side).values()
        ):
            found["notes"].append(f"cache misses were explained in the newest {MOST_CALLS:,} calls of each run only")
    return found


def _add_misses(found: Comparison, a: Sequence[CacheExplanation], b: Sequence[CacheExplanation]) -> None:
    if a and b:
        numbers = [step["iteration"] for step in found["iterations"]]
        verdicts, found["achievable"] = misses(a, b, numbers, found["confidence"])
        found["verdicts"] = Table(verdicts, ComparisonVerdict.__annotations__)


def compare_rows(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], confidence: float = 0.95
) -> Comparison:
    """Compare the rows of two sides, as :func:`.rows_of_runs` returns them or a baseline file holds them. Pure.

    Raises:
        ConfigError: A side is empty, or ``confidence`` is out of range.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence!r}: expected a share between 0 and 1, such as 0.95")
    if not a or not b:
        raise ConfigError("no run to compare")
    sides = _by_run(a), _by_run(b)
    common = set.intersection(*(set(run) for side in sides for run in side.values()))
    kept = tuple([[run[number] for number in sorted(common)] for run in side.values()] for side in sides)
    steps = [
        ComparisonStep(
            iteration=number,
            a=_figures([run[number] for run in sides[0].values()]),
            b=_figures([run[number] for run in sides[1].values()]),
        )
        for number in sorted(common)
    ]
    effects = cost_effects(kept[0], kept[1]) if common else None
    made: Comparison = {
        "a": _side(sides[0]),
        "b": _side(sides[1]),
        "confidence": confidence,
        "iterations": steps,
        "metrics": Table(_metrics(kept[0], kept[1], confidence) if common else (), ComparisonMetric.__annotations__),
        "effects": None if effects is None else Table(effects, ComparisonEffect.__annotations__),
        "worst_iterations": _worst(steps),
        "verdicts": None,
        "achievable": None,
        "notes": _notes(sides, common),
    }
    return cast("Comparison", Sheet(made))


# -- sides ----------------------------------------------------------------------------------------------------------

_Side = dict[tuple[str, Any], dict[int, Mapping[str, Any]]]


def _by_run(rows: Iterable[Mapping[str, Any]]) -> _Side:
    found: _Side = {}
    for row in rows:
        found.setdefault((row["query_id"], row["run_id"]), {})[row["iteration"]] = row
    return found


def _side(side: _Side) -> ComparisonSide:
    rows = [row for run in side.values() for row in run.values()]

    def all_of(name: str) -> list[str]:
        return sorted({value for row in rows for value in row[name] if value})

    return {
        "runs": [
            {"query_id": query_id, "run_id": run_id, "iterations": len(run)} for (query_id, run_id), run in side.items()
        ],
        "iterations": max(len(run) for run in side.values()),
        "models": all_of("models"),
        "providers": all_of("providers"),
        "service_tiers": all_of("tiers"),
    }


# -- figures ----------------------------------------------------------------------------------------------------------


def _figures(rows: Sequence[Mapping[str, Any]]) -> StepFigures:
    """Compute the mean of the runs; for rates and times, of the runs that have one."""
    made = [_measures([row]) for row in rows]
    means = {name: _mean([measures[name] for measures in made]) for name in StepFigures.__annotations__}
    return cast("StepFigures", means)


def _measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Compute the figures of one run over some of its iterations."""
    reported = _sum(rows, "reported_prompt_tokens")
    cached = _sum(rows, "cached_tokens")
    ttft, duration = _sum(rows, "ttft_calls") or 0, _sum(rows, "duration_calls") or 0
    return {
        "cache_hit_rate": cached / reported if reported and cached is not None else None,
        "uncached_prompt_tokens": reported - cached if reported is not None and cached is not None else None,
        "cached_tokens": cached,
        "total_cost": _sum(rows, "total_cost"),
        "original_cost": _sum(rows, "original_cost"),
        "time_to_first_token_ms": (_sum(rows, "ttft_ms") or 0) / ttft if ttft else None,
        "duration_ms": (_sum(rows, "duration_ms") or 0) / duration if duration else None,
        "calls": _sum(rows, "calls"),
        "failed": _sum(rows, "failed"),
        "prompt_tokens": _sum(rows, "prompt_tokens"),
        "completion_tokens": _sum(rows, "completion_tokens"),
    }


def _sum(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return the sum of the values that were reported; None if no value was."""
    values = [float(row[name]) for row in rows if row[name] is not None]
    return math.fsum(values) if values else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


_Runs = Sequence[Sequence[Mapping[str, Any]]]


def _metrics(a: _Runs, b: _Runs, confidence: float) -> list[ComparisonMetric]:
    of_a, of_b = [_measures(run) for run in a], [_measures(run) for run in b]
    found: list[ComparisonMetric] = []
    for name in of_a[0]:
        left = [value for measures in of_a if (value := measures[name]) is not None]
        right = [value for measures in of_b if (value := measures[name]) is not None]
        found.append(_metric(name, left, right, confidence))
    return found


def _metric(name: str, left: Sequence[float], right: Sequence[float], confidence: float) -> ComparisonMetric:
    first, second = _mean(left), _mean(right)
    difference = None if first is None or second is None else second - first
    bounds = welch(left, right, confidence)
    return {
        "name": name,
        "a": first,
        "b": second,
        "difference": difference,
        "relative": difference / first if difference is not None and first else None,
        "low": None if bounds is None else bounds[0],
        "high": None if bounds is None else bounds[1],
        "clear": None if bounds is None else not bounds[0] <= 0 <= bounds[1],
    }


def _outcomes(store: PostgresStore, a: Sequence[Run], b: Sequence[Run], confidence: float) -> list[ComparisonMetric]:
    """Compare the outcomes of the judged runs. Blocks for one query."""
    both = [*a, *b]
    rows = store.query("runs_outcomes", query_ids=[run[0] for run in both], run_ids=[run[1] for run in both])
    of_run = {(row["query_id"], row["run_id"]): row for row in rows}
    found = []
    for name, column in (("success_rate", "success"), ("score", "score")):
        left, right = (
            [float(row[column]) for run in side if (row := of_run.get((run[0], run[1]))) and row[column] is not None]
            for side in (a, b)
        )
        if left or right:
            found.append(_metric(name, left, right, confidence))
    return found


def _worst(steps: Sequence[ComparisonStep]) -> list[int]:
    more = []
    for step in steps:
        before, after = step["a"]["uncached_prompt_tokens"], step["b"]["uncached_prompt_tokens"]
        if before is not None and after is not None and after > before:
            more.append((after - before, step["iteration"]))
    return [iteration for _, iteration in sorted(more, key=lambda each: (-each[0], each[1]))[:3]]


# -- notes ------------------------------------------------------------------------------


def _notes(sides: tuple[_Side, _Side], common: set[int]) -> list[str]:
    notes = []
    runs = [(letter, key, run) for letter, side in zip("AB", sides, strict=True) for key, run in side.items()]
    rows = [row for _, _, run in runs for row in run.values()]
    every = set().union(*(run for _, _, run in runs))
    if not common:
        notes.append("no iteration occurs in all runs, so nothing can be compared")
    elif len(every) > len(common):
        letter, (query_id, _), shortest = min(runs, key=lambda each: len(each[2]))
        notes.append(
            f"compared over the {len(common)} of {len(every)} iterations that every run has: "
            f"{letter}'s run of {query_id!r} has {len(shortest)}"
        )
    numbered = {bool(row["numbered"]) for row in rows}
    if numbered == {False}:
        notes.append("the calls have no iteration: they are matched in order of time")
    elif numbered == {True, False}:
        notes.append("some calls have no iteration: they are numbered after the others, in order of time")
    for name, title in (("models", "models"), ("providers", "providers"), ("tiers", "service tiers")):
        called = [
            sorted({value or "none" for run in side.values() for row in run.values() for value in row[name]})
            for side in sides
        ]
        if called[0] != called[1]:
            notes.append(f"the {title} differ: {', '.join(called[0])} in A, {', '.join(called[1])} in B")
    for letter, side in zip("AB", sides, strict=True):
        of_side = [row for run in side.values() for number, row in run.items() if number in common]
        for name, words in (("failed", "failed"), ("unpriced", "are unpriced and left out of the cost")):
            count = sum(row[name] for row in of_side)
            if count:
                notes.append(f"{count} of {sum(row['calls'] for row in of_side)} calls of {letter} {words}")
    return notes
