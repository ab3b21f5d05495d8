"""What the cache saves in time: time to first token and duration, cached against uncached, at matched prompt length.

A cached call is usually a long one, so averages over all calls say nothing. Calls are therefore compared only with
their like: same provider, model and way of answering (streamed or not), prompts within a fifth of each other in length.
A "typical" time is the geometric mean, which one slow call in a hundred does not move.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.errors import ConfigError

from .intervals import t_quantile

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = ["LatencyDividend", "LatencyPair", "LatencyRow", "latency_dividend"]

_CACHED, _UNCACHED = 2, 0


class LatencyPair(TypedDict):
    """Typical times of cached calls and of uncached ones that are alike, milliseconds.

    ``saved_ms`` is their difference a cached call, ``saved_percentage`` (0-100) what is taken off, with its interval;
    None where there are too few calls to tell: one a side.
    """

    cached_ms: float | None
    uncached_ms: float | None
    saved_ms: float | None
    saved_percentage: float | None
    low_percentage: float | None
    high_percentage: float | None


class LatencyRow(TypedDict):
    """One model at one length of prompt: ``prompt_tokens_from`` to ``prompt_tokens_to``, an octave."""

    provider: str
    model: str
    prompt_tokens_from: int
    prompt_tokens_to: int
    cached_calls: int
    uncached_calls: int
    time_to_first_token: LatencyPair
    duration: LatencyPair


class LatencyDividend(TypedDict):
    """What the cache saved in time.

    ``compared_calls`` found a like on the other side; ``unmatched_calls`` did not; of ``partly_cached_calls`` less than
    half of the prompt was cached, and they are left out. ``saved_total_ms`` sums what the cached calls saved of their
    duration. ``notes`` are sentences.
    """

    confidence: float
    compared_calls: int
    unmatched_calls: int
    partly_cached_calls: int
    saved_total_ms: float | None
    time_to_first_token: LatencyPair
    duration: LatencyPair
    rows: list[LatencyRow]
    notes: list[str]


def latency_dividend(store: PostgresStore, which: Mapping[str, Any], confidence: float = 0.95) -> LatencyDividend:
    """What the cache saved in time. Blocks for one query over the calls; some 0.5 s a million of them.

    Args:
        store: Where the calls are.
        which: The calls, as :func:`.scope` gives it.
        confidence: Of the intervals, between 0 and 1.

    Raises:
        ConfigError: The confidence is none.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence!r}: expected a share between 0 and 1, such as 0.95")
    return of_strata(store.query("latency_strata", **which), confidence)


def of_strata(strata: Iterable[Mapping[str, Any]], confidence: float = 0.95) -> LatencyDividend:
    """The same from rows of the query. Pure."""
    sides: dict[tuple[str, str, bool, int], dict[int, Mapping[str, Any]]] = {}
    partly = 0
    for row in strata:
        if row["hit"] in (_CACHED, _UNCACHED):
            sides.setdefault((row["provider"], row["model"], row["streamed"], row["band"]), {})[row["hit"]] = row
        else:
            partly += row["calls"]
    matched = {key: both for key, both in sides.items() if len(both) == 2}
    unmatched = sum(row["calls"] for key, both in sides.items() if key not in matched for row in both.values())
    whole = _Sums()
    octaves: dict[tuple[str, str, int], _Sums] = {}
    for (provider, model, streamed, band), both in matched.items():
        for sums in (whole, octaves.setdefault((provider, model, band // 4), _Sums())):
            sums.add(both[_CACHED], both[_UNCACHED], streamed=streamed)
    return {
        "confidence": confidence,
        "compared_calls": whole.cached_calls + whole.uncached_calls,
        "unmatched_calls": unmatched,
        "partly_cached_calls": partly,
        "saved_total_ms": whole.duration.saved_ms if whole.duration.calls else None,
        "time_to_first_token": whole.ttft.pair(confidence),
        "duration": whole.duration.pair(confidence),
        "rows": [
            {
                "provider": provider,
                "model": model,
                "prompt_tokens_from": 2**octave,
                "prompt_tokens_to": 2 ** (octave + 1) - 1,
                "cached_calls": sums.cached_calls,
                "uncached_calls": sums.uncached_calls,
                "time_to_first_token": sums.ttft.pair(confidence),
                "duration": sums.duration.pair(confidence),
            }
            for (provider, model, octave), sums in sorted(octaves.items())
        ],
        "notes": _notes(whole, unmatched),
    }


@dataclass(slots=True)
class _Matched:
    """One of the two times, over strata: each weighs as many cached calls as it has."""

    calls: int = 0
    saved_ms: float = 0.0
    cached_ms: float = 0.0
    uncached_ms: float = 0.0
    ratio_log: float = 0.0
    squares: float = 0.0
    freedom: int = 0
    spread: float = 0.0

    def add(self, cached: tuple[int, float, float], uncached: tuple[int, float, float]) -> None:
        """Take a stratum in: count, sum and sum of squares of the logarithms, of either side."""
        weight = cached[0]
        mean_cached, mean_uncached = cached[1] / cached[0], uncached[1] / uncached[0]
        typical = math.exp(mean_cached), math.exp(mean_uncached)
        self.calls += weight
        self.cached_ms += weight * typical[0]
        self.uncached_ms += weight * typical[1]
        self.saved_ms += weight * (typical[1] - typical[0])
        self.ratio_log += weight * (mean_cached - mean_uncached)
        # One scatter for all strata, so that those with a single call a side count, too.
        self.squares += sum(max(0.0, squared - total * total / count) for count, total, squared in (cached, uncached))
        self.freedom += cached[0] + uncached[0] - 2
        self.spread += weight**2 * (1 / cached[0] + 1 / uncached[0])

    def pair(self, confidence: float) -> LatencyPair:
        """As :class:`LatencyPair`."""
        if not self.calls:
            return dict.fromkeys(LatencyPair.__annotations__)  # type: ignore[return-value]
        log = self.ratio_log / self.calls
        half = None
        if self.freedom:
            error = math.sqrt(self.squares / self.freedom * self.spread) / self.calls
            half = t_quantile((1 + confidence) / 2, self.freedom) * error
        return {
            "cached_ms": self.cached_ms / self.calls,
            "uncached_ms": self.uncached_ms / self.calls,
            "saved_ms": self.saved_ms / self.calls,
            "saved_percentage": 100 * (1 - math.exp(log)),
            "low_percentage": None if half is None else 100 * (1 - math.exp(log + half)),
            "high_percentage": None if half is None else 100 * (1 - math.exp(log - half)),
        }


@dataclass(slots=True)
class _Sums:
    """Strata that are shown as one."""

    cached_calls: int = 0
    uncached_calls: int = 0
    ttft: _Matched = field(default_factory=_Matched)
    duration: _Matched = field(default_factory=_Matched)

    def add(self, cached: Mapping[str, Any], uncached: Mapping[str, Any], *, streamed: bool) -> None:
        """Take a stratum in."""
        self.cached_calls += cached["calls"]
        self.uncached_calls += uncached["calls"]
        for name, times in (("ttft", self.ttft), ("duration", self.duration)):
            if name == "ttft" and not streamed:
                continue
            one, other = (
                (side["calls"], float(side[f"{name}_log"]), float(side[f"{name}_log2"])) for side in (cached, uncached)
            )
            times.add(one, other)


def _notes(whole: _Sums, unmatched: int) -> list[str]:
    if not whole.duration.calls:
        return ["no cached call has an uncached one of the same model and length of prompt beside it"]
    said = [
        "the duration holds the writing of the answer, which the cache does not speed up; the first token is its due"
    ]
    if not whole.ttft.calls:
        said.append("no call was streamed, so the time to first token is not known")
    if unmatched > whole.cached_calls + whole.uncached_calls:
        said.append("more calls found no like than did: the figures speak for a part of what was called")
    return said
