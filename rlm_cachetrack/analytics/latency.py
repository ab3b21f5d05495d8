"""The time that the cache saves: cached against uncached calls at matched prompt length.

Cached calls usually have long prompts, so averages over all calls would mislead. Only comparable calls are compared:
same provider and model, both streamed or both not, prompt lengths within a fifth of each other. A "typical" time is the
geometric mean, which a few very slow calls hardly change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import number

from .filters import CallFilters, check_range, query_parameters
from .intervals import t_quantile

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = ["LatencyDividend", "LatencyPair", "LatencyRow", "latency_dividend"]

_CACHED, _UNCACHED = 2, 0


class LatencyPair(TypedDict):
    """Typical times of cached and comparable uncached calls, in milliseconds.

    ``saved_ms`` is the difference per cached call, ``saved_percentage`` (0-100) the reduction, with the bounds of its
    interval; the bounds are None with a single call on each side.
    """

    cached_ms: float | None
    uncached_ms: float | None
    saved_ms: float | None
    saved_percentage: float | None
    low_percentage: float | None
    high_percentage: float | None


class LatencyRow(TypedDict):
    """Latency of one model for prompts of ``prompt_tokens_from`` to ``prompt_tokens_to`` tokens, twice the first."""

    provider: str
    model: str
    prompt_tokens_from: int
    prompt_tokens_to: int
    cached_calls: int
    uncached_calls: int
    time_to_first_token: LatencyPair
    duration: LatencyPair


class LatencyDividend(TypedDict):
    """The time that the cache saved.

    ``compared_calls`` have a comparable call of the other kind, ``unmatched_calls`` have none. ``partly_cached_calls``
    had less than half of their prompt cached and are left out. ``saved_total_ms`` is the duration saved by all cached
    calls together. ``notes`` are sentences on how far to trust the figures.
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


def latency_dividend(store: PostgresStore, confidence: float = 0.95, **filters: Unpack[CallFilters]) -> LatencyDividend:
    """Compute the time that the cache saved. Blocks for one query, about 0.5 s per million calls.

    Args:
        store: The store to read.
        confidence: The confidence level of the intervals, between 0 and 1.
        filters: See :class:`.CallFilters`.

    Raises:
        ConfigError: ``confidence`` is out of range, or ``since`` is not before ``until``.
    """
    check_range(filters)
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence!r}: expected a share between 0 and 1, such as 0.95")
    return of_strata(store.query("latency_strata", **query_parameters(filters)), confidence)


def of_strata(strata: Iterable[Mapping[str, Any]], confidence: float = 0.95) -> LatencyDividend:
    """Compute the result of :func:`latency_dividend` from rows of ``latency_strata``. Pure."""
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
    """One of the two times, summed over strata that are weighted by their cached calls."""

    calls: int = 0
    saved_ms: float = 0.0
    cached_ms: float = 0.0
    uncached_ms: float = 0.0
    ratio_log: float = 0.0
    squares: float = 0.0
    freedom: int = 0
    spread: float = 0.0

    def add(self, cached: tuple[int, float, float], uncached: tuple[int, float, float]) -> None:
        """Add a stratum: for each side the count, the sum and the sum of squares of the logarithms."""
        weight = cached[0]
        mean_cached, mean_uncached = cached[1] / cached[0], uncached[1] / uncached[0]
        typical = math.exp(mean_cached), math.exp(mean_uncached)
        self.calls += weight
        self.cached_ms += weight * typical[0]
        self.uncached_ms += weight * typical[1]
        self.saved_ms += weight * (typical[1] - typical[0])
        self.ratio_log += weight * (mean_cached - mean_uncached)
        # One variance for all strata, so that strata with a single call per side count, too.
        self.squares += sum(max(0.0, squared - total * total / count) for count, total, squared in (cached, uncached))
        self.freedom += cached[0] + uncached[0] - 2
        self.spread += weight**2 * (1 / cached[0] + 1 / uncached[0])

    def pair(self, confidence: float) -> LatencyPair:
        """Return the means and the interval."""
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
    """Strata that are shown as one row."""

    cached_calls: int = 0
    uncached_calls: int = 0
    ttft: _Matched = field(default_factory=_Matched)
    duration: _Matched = field(default_factory=_Matched)

    def add(self, cached: Mapping[str, Any], uncached: Mapping[str, Any], *, streamed: bool) -> None:
        """Add a stratum."""
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
        return ["no cached call has a comparable uncached call: same model, similar prompt length"]
    notes = [
        "only time to first token can improve: the duration includes generating the response, which caching does not "
        "speed up"
    ]
    if not whole.ttft.calls:
        notes.append("no call was streamed, so the time to first token is not known")
    if unmatched > whole.cached_calls + whole.uncached_calls:
        notes.append(f"{number(unmatched)} calls have no comparable call of the other kind, more than have one")
    return notes
