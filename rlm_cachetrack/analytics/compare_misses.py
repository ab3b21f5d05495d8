"""Compare two sides by cache miss reason: tokens lost per run, by verdict, over the iterations that all runs have."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, TypedDict

from rlm_cachetrack.analytics.explain import VERDICTS, CacheExplanation, CallVerdict, Verdict, explain_cache

from .intervals import welch

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = ["MOST_CALLS", "MOST_RUNS", "ComparisonAchievable", "ComparisonVerdict", "explanations", "misses"]

MOST_RUNS = 10
"""The limit of runs per group that are explained; the newest runs are taken."""
MOST_CALLS = 10_000
"""The limit of calls per run that are explained; the newest calls are taken."""
_WITHOUT_FINGERPRINTS = {"unknown", "not_reported", "below_minimum"}


class ComparisonVerdict(TypedDict):
    """A cache miss reason on both sides: means per run, over the iterations compared.

    ``difference`` is tokens lost per run, b - a. ``segment`` is the part of the prompt that changed in most calls of
    the side that lost more (``system prompt``, ``tools``, …), or the setting; None for other reasons. USD values
    are None if no call has a price.
    """

    verdict: Verdict
    segment: str | None
    calls_a: float
    calls_b: float
    tokens_lost_a: float
    tokens_lost_b: float
    difference: float
    usd_lost_a: float | None
    usd_lost_b: float | None


class ComparisonAchievable(TypedDict):
    """The achievable hit rate (0-1): without the avoidable misses. The mean of each side's runs.

    ``difference``, ``low`` and ``high`` are as in :class:`~.compare.ComparisonMetric`.
    """

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None


def explanations(store: PostgresStore, runs: Sequence[tuple[str, datetime]]) -> list[CacheExplanation]:
    """Explain the cache misses of the newest runs; skip those without fingerprints. Blocks for about 0.2 ms per call.

    Args:
        store: The store of the runs.
        runs: The runs, in any order. The newest ``MOST_RUNS`` of them are explained.
    """
    newest = sorted(runs, key=lambda run: run[1], reverse=True)[:MOST_RUNS]
    found = [explain_cache(store, *run, limit=MOST_CALLS) for run in newest]
    return [each for each in found if each is not None and _is_explained(each)]


def _is_explained(found: CacheExplanation) -> bool:
    return any(each["verdict"] not in _WITHOUT_FINGERPRINTS for each in found["verdicts"])


def misses(
    a: Sequence[CacheExplanation], b: Sequence[CacheExplanation], iterations: Iterable[int], confidence: float
) -> tuple[list[ComparisonVerdict], ComparisonAchievable]:
    """Compare the miss reasons of both sides. Pure.

    Args:
        a: The explanations of the runs of side A, one or more.
        b: The explanations of the runs of side B.
        iterations: The iterations to compare.
        confidence: The confidence level of the interval of the achievable hit rate, between 0 and 1.

    Returns:
        The verdicts that lost tokens or differ in calls, largest difference first, and the achievable hit rates.
    """
    common = set(iterations)
    sides = [[list(_within(run, common)) for run in side] for side in (a, b)]
    found = [made for verdict in VERDICTS if (made := _verdict(verdict, sides)) is not None]
    rates = [[rate for run in side if (rate := _achievable(run)) is not None] for side in sides]
    bounds = welch(rates[0], rates[1], confidence)
    first, second = (fmean(each) if each else None for each in rates)
    achievable: ComparisonAchievable = {
        "a": first,
        "b": second,
        "difference": None if first is None or second is None else second - first,
        "low": None if bounds is None else bounds[0],
        "high": None if bounds is None else bounds[1],
    }
    return sorted(found, key=lambda each: (-abs(each["difference"]), -each["tokens_lost_b"])), achievable


def _within(run: CacheExplanation, common: set[int]) -> Iterator[CallVerdict]:
    """Yield the calls of the iterations; calls without an iteration are numbered after the others, in order of time."""
    following = max((call["iteration"] or 0 for call in run["interactions"]), default=0)
    for call in run["interactions"]:
        number = call["iteration"]
        if number is None:
            number = following = following + 1
        if number in common:
            yield call


def _verdict(verdict: Verdict, sides: Sequence[Sequence[Sequence[CallVerdict]]]) -> ComparisonVerdict | None:
    calls: list[float] = []
    tokens: list[float] = []
    usd: list[float | None] = []
    of_sides: list[list[CallVerdict]] = []
    for runs in sides:
        given = [call for run in runs for call in run if call["verdict"] == verdict]
        costs = [call["usd_lost"] for call in given if call["usd_lost"] is not None]
        calls.append(len(given) / len(runs))
        tokens.append(sum(call["tokens_lost"] for call in given) / len(runs))
        usd.append(sum(costs) / len(runs) if costs else None)
        of_sides.append(given)
    if not any(tokens) and calls[0] == calls[1]:
        return None
    return {
        "verdict": verdict,
        "segment": _segment(of_sides[tokens[1] >= tokens[0]]),
        "calls_a": calls[0],
        "calls_b": calls[1],
        "tokens_lost_a": tokens[0],
        "tokens_lost_b": tokens[1],
        "difference": tokens[1] - tokens[0],
        "usd_lost_a": usd[0],
        "usd_lost_b": usd[1],
    }


def _segment(calls: Iterable[CallVerdict]) -> str | None:
    lost: dict[str, int] = defaultdict(int)
    for call in calls:
        if (part := call["segment"] or call["setting"]) is not None:
            lost[part] += call["tokens_lost"]
    return Counter(lost).most_common(1)[0][0] if lost else None


def _achievable(run: Sequence[CallVerdict]) -> float | None:
    reported = [call for call in run if call["cached_tokens"] is not None and call["prompt_tokens"] is not None]
    prompt = sum(call["prompt_tokens"] or 0 for call in reported)
    return sum((call["cached_tokens"] or 0) + call["tokens_lost"] for call in reported) / prompt if prompt else None
