"""Two runs, or two groups of runs, beside each other at equal iteration: what differs, how surely, and why.

Runs of different lengths are compared over the iterations that all of them have, so that a longer run is not taken for
a worse one. Every figure of a side is the mean of its runs; with two runs or more on both sides each difference has an
interval (Welch's, a run being one observation).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict, cast

from rlm_cachetrack.errors import ConfigError, NotStoredError
from rlm_cachetrack.formatting import Sheet, Table

from .compare_misses import MOST_CALLS, MOST_RUNS, ComparisonCeiling, ComparisonVerdict, explanations, misses
from .intervals import welch

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import CacheExplanation
    from rlm_cachetrack.store import PostgresStore

__all__ = [
    "Comparison",
    "ComparisonCeiling",
    "ComparisonEffect",
    "ComparisonMetric",
    "ComparisonSide",
    "ComparisonStep",
    "ComparisonVerdict",
    "Run",
    "StepFigures",
    "compare",
    "compare_rows",
    "rows_of",
    "rows_of_calls",
]

Run = tuple[str, datetime]
"""``query_id`` and ``run_id``."""

_FACTORS = ("calls", "prompt length", "cache", "completion length", "prices")


class StepFigures(TypedDict):
    """One iteration, the mean of the runs of a side. Costs: USD, None where no call of it is priced; rate 0-1."""

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
    """One figure a run, over the iterations compared: the mean of either side's runs, and ``difference`` = b - a.

    ``low`` and ``high`` bound the difference with the confidence asked for; None with fewer than two runs on a side.
    ``clear`` says whether 0 is outside of them. ``relative`` is difference / a, None where that means nothing.
    """

    name: str
    a: float | None
    b: float | None
    difference: float | None
    relative: float | None
    low: float | None
    high: float | None
    clear: bool | None


class ComparisonEffect(TypedDict):
    """A part of the difference of the cost of a run, USD; the parts add up to the difference.

    ``factor``: ``calls`` (how many), ``prompt length``, ``cache`` (shares read and written), ``completion length``,
    ``prices``, ``other`` (costs that providers returned and no price explains). ``a`` and ``b``: the factor itself on
    either side (calls a run, tokens a call, hit rate 0-1, USD per 1M prompt tokens uncached), None for ``other``.
    """

    factor: str
    effect: float
    a: float | None
    b: float | None


class ComparisonSide(TypedDict):
    """One side: its runs, how far they go, and what they called."""

    runs: list[dict[str, Any]]
    iterations: int
    models: list[str]
    providers: list[str]
    service_tiers: list[str]


class Comparison(TypedDict):
    """Two sides beside each other.

    ``iterations`` holds those that every run has; ``metrics`` are over these. ``effects`` explain the difference of
    ``total_cost``, largest first; None where a side has no priced call. ``worst_iterations`` are those in which ``b``
    sent most uncached tokens more than ``a``. ``verdicts`` say by what tokens were lost, largest difference first, and
    ``ceiling`` what could have been read; None where a side has no fingerprints. ``notes`` are sentences about what to
    know before believing it.
    """

    a: ComparisonSide
    b: ComparisonSide
    confidence: float
    iterations: list[ComparisonStep]
    metrics: Table[ComparisonMetric]
    effects: Table[ComparisonEffect] | None
    worst_iterations: list[int]
    verdicts: Table[ComparisonVerdict] | None
    ceiling: ComparisonCeiling | None
    notes: list[str]


def compare(store: PostgresStore, a: Sequence[Run], b: Sequence[Run], confidence: float = 0.95) -> Comparison:
    """Compare runs that are stored. Blocks for two queries a side, and for explaining the runs, some 0.2 ms a call.

    Args:
        store: Where the runs are.
        a: One run, or a group of them.
        b: What is compared with it.
        confidence: Of the intervals, between 0 and 1.

    Raises:
        NotStoredError: A run has no calls.
        ConfigError: No run on a side, one on both, or a confidence that is none.
    """
    both = set(a) & set(b)
    if both:
        raise ConfigError(f"the run {_named(*min(both))} is on both sides")
    rows = rows_of(store, a), rows_of(store, b)
    found = compare_rows(*rows, confidence)
    if found["iterations"]:
        _add_misses(found, *(explanations(store, side) for side in (a, b)))
        if any(len(side) > MOST_RUNS for side in (a, b)):
            found["notes"].append(f"why calls missed was looked at in {MOST_RUNS} runs of a side")
        if any(
            sum(row["calls"] for row in run.values()) > MOST_CALLS for side in rows for run in _by_run(side).values()
        ):
            found["notes"].append(f"why calls missed was looked at in the newest {MOST_CALLS:,} calls of a run")
    return found


def _add_misses(found: Comparison, a: Sequence[CacheExplanation], b: Sequence[CacheExplanation]) -> None:
    if a and b:
        numbers = [step["iteration"] for step in found["iterations"]]
        verdicts, found["ceiling"] = misses(a, b, numbers, found["confidence"])
        found["verdicts"] = Table(verdicts, ComparisonVerdict.__annotations__)


def rows_of(store: PostgresStore, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What some runs did by iteration: rows of the query ``compare_iterations``. Blocks for two queries.

    Raises:
        NotStoredError: A run has no calls.
        ConfigError: No run is named.
    """
    if not runs:
        raise ConfigError("no run to compare")
    keys = {"query_ids": [query_id for query_id, _ in runs], "run_ids": [run_id for _, run_id in runs]}
    bounds = store.query("runs_bounds", **keys)[0]
    rows = store.query("compare_iterations", **keys, **bounds)
    known = {(row["query_id"], row["run_id"]) for row in rows}
    for run in runs:
        if run not in known:
            raise NotStoredError(f"the run {_named(*run)} has no calls that are stored")
    return rows


def rows_of_calls(calls: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows from calls in memory, keyed by the columns of ``llm_interactions``. Pure.

    Args:
        calls: In order of time.
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
    """One row of the query ``compare_iterations``, as it reckons."""
    told = [call for call in calls if call["prompt_tokens"] is not None and call["cached_tokens"] is not None]
    good = [call for call in calls if call["success"]]
    priced = [call for call in calls if call["total_cost"] is not None]

    def total(name: str, of: Sequence[Mapping[str, Any]] = calls) -> float:
        return math.fsum(call[name] or 0 for call in of)

    def known(name: str, of: Sequence[Mapping[str, Any]]) -> float | None:
        values = [call[name] for call in of if call[name] is not None]
        return math.fsum(values) if values else None

    def price(call: Mapping[str, Any], name: str) -> float:
        found = call[f"{name}_token_price"]
        if found is None and name in ("cached", "cache_write"):
            found = call["prompt_token_price"]
        return (found or 0.0) / 1000

    def cost(tokens: str, name: str) -> float:
        return math.fsum((call[tokens] or 0) * price(call, name) for call in priced)

    written, cached = "cache_write_tokens", "cached_tokens"
    uncached = cost("prompt_tokens", "prompt") - cost(cached, "prompt") - cost(written, "prompt")
    return {
        "numbered": any(call["iteration"] is not None for call in calls),
        "calls": len(calls),
        "failed": len(calls) - len(good),
        "unpriced": sum(call["total_cost"] is None and call["prompt_tokens"] is not None for call in calls),
        "prompt_tokens": int(total("prompt_tokens")),
        "completion_tokens": int(total("completion_tokens")),
        "cache_write_tokens": int(total(written)),
        "reported_prompt_tokens": known("prompt_tokens", told),
        "cached_tokens": known(cached, told),
        "total_cost": known("total_cost", calls),
        "original_cost": known("original_cost", priced),
        "ttft_ms": total("time_to_first_token_ms", good),
        "ttft_calls": sum(call["time_to_first_token_ms"] is not None for call in good),
        "duration_ms": total("duration_ms", good),
        "duration_calls": sum(call["duration_ms"] is not None for call in good),
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


def compare_rows(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], confidence: float = 0.95
) -> Comparison:
    """Compare what :func:`rows_of` gave, now or when a baseline was saved. Pure.

    Raises:
        ConfigError: A side is empty, or the confidence is none.
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
    effects = _effects(kept[0], kept[1]) if common else None
    made: Comparison = {
        "a": _side(sides[0]),
        "b": _side(sides[1]),
        "confidence": confidence,
        "iterations": steps,
        "metrics": Table(_metrics(kept[0], kept[1], confidence) if common else (), ComparisonMetric.__annotations__),
        "effects": None if effects is None else Table(effects, ComparisonEffect.__annotations__),
        "worst_iterations": _worst(steps),
        "verdicts": None,
        "ceiling": None,
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


def _named(query_id: str, run_id: object) -> str:
    return f"{query_id!r} of {run_id.isoformat() if isinstance(run_id, datetime) else run_id}"


# -- figures ----------------------------------------------------------------------------------------------------------


def _figures(rows: Sequence[Mapping[str, Any]]) -> StepFigures:
    """The mean of the runs; of a rate, or a time, over the runs that have one."""
    made = [_measures([row]) for row in rows]
    means = {name: _mean([measures[name] for measures in made]) for name in StepFigures.__annotations__}
    return cast("StepFigures", means)


def _measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The figures of one run over some of its iterations."""
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
    """NULL is not reported: the sum of nothing is None."""
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
        first, second = _mean(left), _mean(right)
        difference = None if first is None or second is None else second - first
        bounds = welch(left, right, confidence)
        found.append(
            {
                "name": name,
                "a": first,
                "b": second,
                "difference": difference,
                "relative": difference / first if difference is not None and first else None,
                "low": None if bounds is None else bounds[0],
                "high": None if bounds is None else bounds[1],
                "clear": None if bounds is None else not bounds[0] <= 0 <= bounds[1],
            }
        )
    return found


def _worst(steps: Sequence[ComparisonStep]) -> list[int]:
    more = []
    for step in steps:
        before, after = step["a"]["uncached_prompt_tokens"], step["b"]["uncached_prompt_tokens"]
        if before is not None and after is not None and after > before:
            more.append((after - before, step["iteration"]))
    return [number for _, number in sorted(more, key=lambda each: (-each[0], each[1]))[:3]]


# -- why the cost differs ------------------------------------------------------------------------------------------


def _effects(a: _Runs, b: _Runs) -> list[ComparisonEffect] | None:
    """The difference of the cost of a run, shared out over what it is made of (Shapley's value: no order is preferred).

    Source: L. S. Shapley, A value for n-person games, 1953; as used for index decomposition by Albrecht et al. 2002.
    """
    sides = [_Cost.of(run for rows in side for run in rows) for side in (a, b)]
    if not all(side.calls for side in sides):
        return None
    before, after = sides[0].a_run(len(a)), sides[1].a_run(len(b))
    before, after = before.with_prices_from(after), after.with_prices_from(before)
    factors = [(before.factor(name), after.factor(name)) for name in _FACTORS]
    effects = dict.fromkeys(_FACTORS, 0.0)
    count = len(_FACTORS)
    for changed in itertools.product((0, 1), repeat=count):
        if all(changed):
            continue
        weight = math.factorial(sum(changed)) * math.factorial(count - 1 - sum(changed)) / math.factorial(count)
        for index in range(count):
            if not changed[index]:
                then = (*changed[:index], 1, *changed[index + 1 :])
                step = _cost(factors, then) - _cost(factors, changed)
                effects[_FACTORS[index]] += weight * step
    found: list[ComparisonEffect] = [
        {"factor": name, "effect": effects[name], "a": before.said(name), "b": after.said(name)} for name in _FACTORS
    ]
    other = after.other - before.other
    if abs(other) > 1e-12:
        found.append({"factor": "other", "effect": other, "a": None, "b": None})
    return sorted(found, key=lambda effect: -abs(effect["effect"]))


def _cost(factors: Sequence[tuple[tuple[float, ...], tuple[float, ...]]], which: Sequence[int]) -> float:
    """What a run costs with each factor as it was before (0) or after (1)."""
    (calls,), (prompt,), (read, written), (completion,), (at_prompt, at_read, at_write, at_completion) = (
        pair[choice] for pair, choice in zip(factors, which, strict=True)
    )
    price = (1 - read - written) * at_prompt + read * at_read + written * at_write
    return calls * (prompt * price + completion * at_completion)


class _Cost:
    """The priced calls of a run: tokens, and the prices at which they were paid, USD a token."""

    def __init__(self, calls: float, tokens: Mapping[str, float], costs: Mapping[str, float], other: float) -> None:
        self.calls, self.tokens, self.costs, self.other = calls, tokens, costs, other
        prompt, completion = tokens["prompt"], tokens["completion"]
        uncached = prompt - tokens["cached"] - tokens["written"]
        # What was really paid a token; where none was bought of a kind, what it would have cost.
        self.prices: list[float | None] = [
            costs["uncached"] / uncached if uncached else _share(costs["at_prompt"], prompt),
            costs["cached"] / tokens["cached"] if tokens["cached"] else _share(costs["at_cached"], prompt),
            costs["written"] / tokens["written"] if tokens["written"] else _share(costs["at_write"], prompt),
            _share(costs["completion"], completion),
        ]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> _Cost:
        kept = [row for row in rows if row["priced_calls"]]

        def total(name: str) -> float:
            return math.fsum(float(row[name]) for row in kept)

        costs = {
            "uncached": total("cost_of_uncached"),
            "cached": total("cost_of_cached"),
            "written": total("cost_of_written"),
            "completion": total("cost_of_completion"),
        }
        other = total("total_cost") - math.fsum(costs.values())
        costs |= {name: total(f"prompt_at_{name[3:]}") for name in ("at_prompt", "at_cached", "at_write")}
        kinds = ("prompt", "cached", "written", "completion")
        return cls(total("priced_calls"), {kind: total(f"priced_{kind}") for kind in kinds}, costs, other)

    def a_run(self, runs: int) -> _Cost:
        def divided(values: Mapping[str, float]) -> dict[str, float]:
            return {name: value / runs for name, value in values.items()}

        return _Cost(self.calls / runs, divided(self.tokens), divided(self.costs), self.other / runs)

    def with_prices_from(self, another: _Cost) -> _Cost:
        """A kind of token that was never bought here is as dear as there: that is no difference of price."""
        made = _Cost(self.calls, self.tokens, self.costs, self.other)
        made.prices = [
            mine if mine is not None else theirs for mine, theirs in zip(self.prices, another.prices, strict=True)
        ]
        return made

    def factor(self, name: str) -> tuple[float, ...]:
        prompt = self.tokens["prompt"]
        if name == "calls":
            return (self.calls,)
        if name == "prompt length":
            return (prompt / self.calls,)
        if name == "cache":
            return (self.tokens["cached"] / prompt, self.tokens["written"] / prompt) if prompt else (0.0, 0.0)
        if name == "completion length":
            return (self.tokens["completion"] / self.calls,)
        return tuple(price or 0.0 for price in self.prices)

    def said(self, name: str) -> float:
        """The factor as one figure, in the unit that :class:`ComparisonEffect` says."""
        return self.factor(name)[0] * (1e6 if name == "prices" else 1)


def _share(cost: float, tokens: float) -> float | None:
    return cost / tokens if tokens else None


# -- what to know before believing it ------------------------------------------------------------------------------


def _notes(sides: tuple[_Side, _Side], common: set[int]) -> list[str]:
    said = []
    runs = [(f"{letter}", key, run) for letter, side in zip("AB", sides, strict=True) for key, run in side.items()]
    rows = [row for _, _, run in runs for row in run.values()]
    every = set().union(*(run for _, _, run in runs))
    if not common:
        said.append("no iteration is in all of the runs, so nothing can be compared")
    elif len(every) > len(common):
        letter, (query_id, _), shortest = min(runs, key=lambda each: len(each[2]))
        said.append(
            f"compared over the {len(common)} iterations that every run has, of {len(every)}: "
            f"{letter}'s run of {query_id!r} has {len(shortest)}"
        )
    numbered = {bool(row["numbered"]) for row in rows}
    if numbered == {False}:
        said.append("the calls carry no iteration: the first is compared with the first, the second with the second …")
    elif numbered == {True, False}:
        said.append("some calls carry no iteration; they come after the others, in order of time")
    for name, title in (("models", "models"), ("providers", "providers"), ("tiers", "service tiers")):
        called = [
            sorted({value or "none" for run in side.values() for row in run.values() for value in row[name]})
            for side in sides
        ]
        if called[0] != called[1]:
            said.append(f"the {title} differ: {', '.join(called[0])} against {', '.join(called[1])}")
    for letter, side in zip("AB", sides, strict=True):
        of_side = [row for run in side.values() for number, row in run.items() if number in common]
        for name, words in (("failed", "failed"), ("unpriced", "have no price, and are in no cost")):
            count = sum(row[name] for row in of_side)
            if count:
                said.append(f"{count} of {sum(row['calls'] for row in of_side)} calls of {letter} {words}")
    return said
