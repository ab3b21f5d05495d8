"""Represent prompts as chains of segments, and estimate the tokens of each prefix of a prompt. Pure.

A hash over its segments identifies each prefix of a prompt, so finding the longest prefix that an earlier call shared
takes one look-up per segment, whatever the number of calls.

**Tokens of a prefix** are not stored. They are known if an earlier prompt ended there: that call's
``prompt_tokens``. Between such points they are interpolated by the segments' characters, at the rate (tokens per
character, and tokens per segment for its role) at which prompts of this model grew from call to call. The count of a
prefix that was once a whole prompt is therefore exact, and all others are estimates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from rlm_cachetrack.fingerprint import Fingerprint, Segment

from .cache_rules import CacheRule, cache_rule

CacheLocation = tuple[Any, ...]
"""Provider, model, and the hash of ``prompt_cache_key`` if the provider's rules use it."""

LEADING_SEGMENTS = ("tool_definition", "response_format", "system", "developer")
_CHARACTERS_PER_TOKEN = 4.0
_PREVIOUS_RESPONSE = "previous_response"


@dataclass(slots=True)
class Call:
    """One call, and the chain of its prompt.

    Attributes:
        row: The columns of ``explain_calls``.
        began, first_token, ended: Seconds since the epoch.
        own: True for a call of the explained run, False for one of another run that may have filled the cache.
        segments: The segments of the prompt; empty without a fingerprint.
        chain: A hash for each prefix of ``segments``.
        ends: Tokens up to the end of each segment; an estimate unless ``exact``.
        is_read_later: Whether a later call read the entry that this call wrote to the cache; set by the replay.
    """

    row: Mapping[str, Any]
    began: float
    first_token: float
    ended: float
    own: bool
    rule: CacheRule
    fingerprint: Fingerprint | None = None
    segments: Sequence[Segment] = ()
    chain: list[int] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)
    digests: Counter[bytes] = field(default_factory=Counter)
    is_read_later: bool = False

    @property
    def location(self) -> CacheLocation:
        """Return the cache that the call uses; entries are found only from the same location."""
        fingerprint = self.fingerprint
        key = fingerprint.cache_key if fingerprint is not None and self.rule.needs_key else None
        return self.row["provider"], self.row["model"], key

    @property
    def key(self) -> bytes | None:
        """Return the hash of ``prompt_cache_key``, None if the call has none."""
        return None if self.fingerprint is None else self.fingerprint.cache_key

    @property
    def lifetime_s(self) -> float:
        """Return how long the provider keeps an entry that this call uses, in seconds."""
        return self.rule.lifetime_s(None if self.fingerprint is None else self.fingerprint.retention)

    def estimated(self, index: int) -> float:
        """Return how many of the tokens up to a segment's end are estimated: the distance to the nearest exact end."""
        below = next((self.ends[each] for each in range(index, -1, -1) if self.exact[each]), 0.0)
        above = next((self.ends[each] for each in range(index, len(self.ends)) if self.exact[each]), self.ends[-1])
        return min(self.ends[index] - below, above - self.ends[index])

    @classmethod
    def of(cls, row: Mapping[str, Any], fingerprint: Fingerprint | None, *, own: bool) -> Call:
        """Create a call from a row of ``explain_calls``."""
        moment: datetime = row["start_time"] or row["time"]
        began = moment.timestamp()
        duration = (row["duration_ms"] or 0.0) / 1000
        first = row["time_to_first_token_ms"]
        return cls(
            row,
            began,
            began + (duration if first is None else first / 1000),
            began + duration,
            own,
            cache_rule(row["provider"], row["model"]),
            fingerprint,
        )


class Chains:
    """All calls in order of time, with their chains and the tokens of their prefixes."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self.calls = sorted(calls, key=lambda call: (call.began, str(call.row["interaction_id"])))
        self._chain_segments()
        self._count_tokens()

    def _chain_segments(self) -> None:
        """Chain the segments of each call; a continued response contributes its prompt and output as the prefix."""
        by_response: dict[bytes, Call] = {}
        for call in self.calls:
            fingerprint = call.fingerprint
            if fingerprint is None:
                continue
            call.segments = _with_previous_response(fingerprint.segments, by_response)
            if fingerprint.response is not None:
                by_response[fingerprint.response] = call
            chain = hash((fingerprint.installation,))
            for segment in call.segments:
                chain = hash((chain, segment.kind, segment.digest))
                call.chain.append(chain)
            call.digests = Counter(segment.digest for segment in call.segments)

    def _count_tokens(self) -> None:
        known: dict[tuple[str, int], int] = {}
        for call in self.calls:
            tokens = call.row["prompt_tokens"]
            if call.chain and tokens is not None:
                whole = (call.row["model"], call.chain[-1])
                known[whole] = min(tokens, known.get(whole, tokens))
        rates = _rates(self.calls, known)
        for call in self.calls:
            if call.chain and call.row["prompt_tokens"] is not None:
                _interpolate(call, known, rates[call.row["model"]])


def _with_previous_response(segments: Sequence[Segment], by_response: Mapping[bytes, Call]) -> Sequence[Segment]:
    for index, segment in enumerate(segments):
        if segment.kind == _PREVIOUS_RESPONSE and (before := by_response.get(segment.digest)) is not None:
            characters = int((before.row["completion_tokens"] or 0) * _CHARACTERS_PER_TOKEN)
            response = Segment("assistant", None, characters, segment.digest)
            kept = [each for each in before.segments if each.kind not in LEADING_SEGMENTS or each.message is not None]
            return (*segments[:index], *kept, response, *segments[index + 1 :])
    return segments


def _rates(calls: Sequence[Call], known: Mapping[tuple[str, int], int]) -> dict[str, tuple[float, float]]:
    """Estimate tokens per character and per segment, by model: least squares over the growth of prompts."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 5)
    whole: dict[str, list[float]] = defaultdict(lambda: [0.0] * 2)
    for call in calls:
        tokens, model = call.row["prompt_tokens"], call.row["model"]
        if not call.chain or tokens is None:
            continue
        whole[model][0] += tokens
        whole[model][1] += sum(segment.size for segment in call.segments)
        begin = next((i for i in range(len(call.chain) - 2, -1, -1) if (model, call.chain[i]) in known), -1)
        before = known[model, call.chain[begin]] if begin >= 0 else 0
        new = call.segments[begin + 1 :]
        grown, count, size = float(tokens - before), len(new), sum(segment.size for segment in new)
        if grown > 0 and size:
            for index, part in enumerate((size * size, size * count, count * count, size * grown, count * grown)):
                sums[model][index] += float(part)
    found = {}
    for model, (all_tokens, characters) in whole.items():
        plain = (all_tokens / characters if characters else 1 / _CHARACTERS_PER_TOKEN, 0.0)
        xx, xy, yy, xz, yz = sums[model]
        determinant = xx * yy - xy * xy
        if xx and determinant > 1e-6 * xx * yy:
            a, b = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
            found[model] = (a, b) if a > 0 and b >= 0 else ((xz / xx, 0.0) if xz > 0 else plain)
        else:
            found[model] = plain
    return found


def _interpolate(call: Call, known: Mapping[tuple[str, int], int], rate: tuple[float, float]) -> None:
    """Interpolate the tokens up to each segment's end between the known points."""
    model, count = call.row["model"], len(call.chain)
    points = [(-1, 0.0)]
    for index, chain in enumerate(call.chain):
        tokens = call.row["prompt_tokens"] if index == count - 1 else known.get((model, chain))
        if tokens is not None and tokens >= points[-1][1]:
            points.append((index, float(tokens)))
    if points[-1][0] < count - 1:  # the provider counted more tokens for a prefix than for the whole prompt
        points = [(-1, 0.0), (count - 1, float(call.row["prompt_tokens"]))]
    ends, exact = [0.0] * count, [False] * count
    for (begin, low), (end, high) in pairwise(points):
        weights = [rate[0] * segment.size + rate[1] or 1e-9 for segment in call.segments[begin + 1 : end + 1]]
        total, passed = sum(weights), 0.0
        for offset, weight in enumerate(weights):
            passed += weight
            ends[begin + 1 + offset] = low + (high - low) * passed / total
        ends[end], exact[end] = high, True
    call.ends, call.exact = ends, exact
