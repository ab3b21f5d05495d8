"""Prompts as chains of segments: what they have in common, and how many tokens a beginning has. Pure.

Each beginning of a prompt is named by a hash over its segments, so the longest one that an earlier call had, too, is
found with a look-up a segment, however many calls there are.

**Tokens of a beginning** are not stored. They are known where an earlier prompt ended there: that call's
``prompt_tokens``. Between such points they are shared out by the segments' characters, at the rate (tokens a character,
and tokens a segment for its role) at which the prompts of this model grew from call to call. So a beginning that was
once a whole prompt is exact, and others are estimates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from rlm_cachetrack.fingerprint import Fingerprint, Segment

from .cache_rules import CacheRule, cache_rule

__all__ = ["Call", "Chains", "Divergence", "divergence", "segment_words"]

_CHARACTERS_A_TOKEN = 4.0
_LEADING = ("tool_definition", "response_format", "system", "developer")
_AT_THE_SERVER = "previous_response"
_SIMILAR_CHARACTERS = 4
_HALF = 0.5


@dataclass(slots=True)
class Call:
    """What is known of one call, and the chain of its prompt.

    Attributes:
        row: The columns that the query gives.
        began, first_token, ended: Seconds since the epoch.
        own: It is of the run that is explained, not of another that may have filled the cache.
        segments: Empty where there is no fingerprint.
        chain: A hash for each beginning of ``segments``.
        ends: Tokens up to the end of each segment, estimated; ``exact`` says which are known.
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

    @property
    def place(self) -> tuple[Any, ...]:
        """Where its cache lies: entries are found from the same place only."""
        fingerprint = self.fingerprint
        key = fingerprint.cache_key if fingerprint is not None and self.rule.needs_key else None
        return self.row["provider"], self.row["model"], key

    @property
    def key(self) -> bytes | None:
        """Return the hash of ``prompt_cache_key``, None if the call has none."""
        return None if self.fingerprint is None else self.fingerprint.cache_key

    def estimated(self, at: int) -> float:
        """How many of the tokens up to the end of a segment are estimated: those to the nearest end that is known."""
        below = next((self.ends[place] for place in range(at, -1, -1) if self.exact[place]), 0.0)
        above = next((self.ends[place] for place in range(at, len(self.ends)) if self.exact[place]), self.ends[-1])
        return min(self.ends[at] - below, above - self.ends[at])

    @classmethod
    def of(cls, row: Mapping[str, Any], fingerprint: Fingerprint | None, *, own: bool) -> Call:
        """Read a row of the query ``explain_calls``."""
        began = _seconds(row["start_time"] or row["time"])
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


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


class Chains:
    """All calls that are looked at, in order of time, their chains and the tokens of their beginnings."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self.calls = sorted(calls, key=lambda call: (call.began, str(call.row["interaction_id"])))
        self._join()
        self._measure()

    def _join(self) -> None:
        """Chain up the segments; a response that continues another begins with that one's prompt and answer."""
        by_response: dict[bytes, Call] = {}
        for call in self.calls:
            fingerprint = call.fingerprint
            if fingerprint is None:
                continue
            call.segments = _with_what_is_at_the_server(fingerprint.segments, by_response)
            if fingerprint.response is not None:
                by_response[fingerprint.response] = call
            chain = hash((fingerprint.installation,))
            for segment in call.segments:
                chain = hash((chain, segment.kind, segment.digest))
                call.chain.append(chain)
            call.digests = Counter(segment.digest for segment in call.segments)

    def _measure(self) -> None:
        known: dict[tuple[str, int], int] = {}
        for call in self.calls:
            tokens = call.row["prompt_tokens"]
            if call.chain and tokens is not None:
                place = (call.row["model"], call.chain[-1])
                known[place] = min(tokens, known.get(place, tokens))
        rates = _rates(self.calls, known)
        for call in self.calls:
            if call.chain and call.row["prompt_tokens"] is not None:
                _fill_in(call, known, rates[call.row["model"]])


def _with_what_is_at_the_server(segments: Sequence[Segment], by_response: Mapping[bytes, Call]) -> Sequence[Segment]:
    for place, segment in enumerate(segments):
        if segment.kind == _AT_THE_SERVER and (before := by_response.get(segment.digest)) is not None:
            said = int((before.row["completion_tokens"] or 0) * _CHARACTERS_A_TOKEN)
            answer = Segment("assistant", None, said, segment.digest)
            kept = [each for each in before.segments if each.kind not in _LEADING or each.message is not None]
            return (*segments[:place], *kept, answer, *segments[place + 1 :])
    return segments


def _rates(calls: Sequence[Call], known: Mapping[tuple[str, int], int]) -> dict[str, tuple[float, float]]:
    """Tokens a character and a segment, by model: least squares over how prompts grew."""
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
        plain = (all_tokens / characters if characters else 1 / _CHARACTERS_A_TOKEN, 0.0)
        xx, xy, yy, xz, yz = sums[model]
        determinant = xx * yy - xy * xy
        if xx and determinant > 1e-6 * xx * yy:
            a, b = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
            found[model] = (a, b) if a > 0 and b >= 0 else ((xz / xx, 0.0) if xz > 0 else plain)
        else:
            found[model] = plain
    return found


def _fill_in(call: Call, known: Mapping[tuple[str, int], int], rate: tuple[float, float]) -> None:
    """Tokens up to each segment's end, between the points that are known."""
    model, count = call.row["model"], len(call.chain)
    points = [(-1, 0.0)]
    for index, chain in enumerate(call.chain):
        tokens = call.row["prompt_tokens"] if index == count - 1 else known.get((model, chain))
        if tokens is not None and tokens >= points[-1][1]:
            points.append((index, float(tokens)))
    if points[-1][0] < count - 1:  # an earlier prompt, counted otherwise, was longer
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


# -- where two prompts part --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a prompt parts from an earlier one, though later parts are the same again.

    Attributes:
        at: The number of the segment, in the later prompt, from 0.
        change: ``added``, ``edited``, ``reordered`` or ``shortened``.
        segment: What is at fault: of the later prompt, or of the earlier where something is missing.
        tokens: Of the later prompt, that the earlier one had, too, as far as the last part they share.
        estimated: How many of these are estimated.
    """

    at: int
    change: str
    segment: Segment
    tokens: float
    estimated: float


def divergence(later: Call, earlier: Call, marks: Collection[int] | None = None) -> Divergence | None:
    """Where ``later`` parts from ``earlier``; None where it goes on from it, or is simply about something else.

    Args:
        later: The prompt that missed.
        earlier: One that was sent before.
        marks: The segments of ``earlier`` at whose end the cache can be read; None: anywhere.
    """
    ours, theirs = later.segments, earlier.segments
    start = 0
    for one, other in zip(ours, theirs, strict=False):
        if one.digest != other.digest:
            break
        start += 1
    rest, before = ours[start:], theirs[start:]
    if not rest or not before:
        return None  # it goes on from it, or is a beginning of it
    common = Counter(segment.digest for segment in rest) & Counter(segment.digest for segment in before)
    last, last_before = _last(rest, common), _last(before, common)
    if not _is_much(before, common):
        return _leading_edit(later, start, before) if marks is None or start in marks else None
    if marks is not None:
        last_before = max((place for place in range(last_before + 1) if start + place in marks), default=-1)
        last = _same(rest, before[last_before], common) if last_before >= 0 else -1
        if last < 0:
            return None  # what they have in common could not be read in any case
    added = _without(rest[: last + 1], common)
    gone = _without(before[: last_before + 1], common)
    inserted = _unpaired(added, gone)
    ends = later.ends
    new = sum(_tokens(later, start + place) for place in inserted if place < last)
    tokens, estimated = ends[start + last] - new, later.estimated(start + last) + new
    if not added and not gone:
        change, segment = "reordered", rest[0]
    elif len(added) > len(inserted):
        first = next(place for place in sorted(added) if place not in inserted)
        change, segment = "edited", rest[first]
        return Divergence(start + first, change, segment, tokens, estimated)
    elif inserted:
        change, segment = "added", rest[min(inserted)]
    else:
        change, segment = "shortened", before[min(gone)]
    return Divergence(start, change, segment, tokens, estimated)


def _tokens(call: Call, place: int) -> float:
    return call.ends[place] - (call.ends[place - 1] if place else 0.0)


def _last(segments: Sequence[Segment], common: Counter[bytes]) -> int:
    """The last place that is in both; of equal segments only as many as both have."""
    unmatched = _without(segments, common)
    return max((place for place in range(len(segments)) if place not in unmatched), default=-1)


def _same(segments: Sequence[Segment], wanted: Segment, common: Counter[bytes]) -> int:
    """The last place of a segment that both have; -1 where it is in one only."""
    if not common[wanted.digest]:
        return -1
    return max(place for place, segment in enumerate(segments) if segment.digest == wanted.digest)


def _is_much(before: Sequence[Segment], common: Counter[bytes]) -> bool:
    """Whether what comes again is so much of the earlier prompt that it is the same conversation."""
    left = common.copy()
    count = size = 0
    for segment in before:
        if left[segment.digest] > 0:
            left[segment.digest] -= 1
            count, size = count + 1, size + segment.size
    whole = sum(segment.size for segment in before)
    return count > 0 and (count >= _HALF * len(before) or (whole > 0 and size >= _HALF * whole))


def _without(segments: Sequence[Segment], common: Counter[bytes]) -> dict[int, Segment]:
    left, found = common.copy(), {}
    for place, segment in enumerate(segments):
        if left[segment.digest] > 0:
            left[segment.digest] -= 1
        else:
            found[place] = segment
    return found


def _unpaired(added: Mapping[int, Segment], gone: Mapping[int, Segment]) -> list[int]:
    """Which of the new segments stand in the place of none that is gone: an edit has the same kind."""
    left = Counter(segment.kind for segment in gone.values())
    found = []
    for place, segment in added.items():
        if left[segment.kind] > 0:
            left[segment.kind] -= 1
        else:
            found.append(place)
    return found


def _leading_edit(later: Call, start: int, before: Sequence[Segment]) -> Divergence | None:
    """Instructions seldom become others of the same size by chance: but for a few characters, they were edited."""
    one, other = later.segments[start], before[0]
    alike = abs(one.size - other.size) <= _SIMILAR_CHARACTERS
    if one.kind in _LEADING and one.kind == other.kind and alike:
        return Divergence(start, "edited", one, later.ends[start], later.estimated(start))
    return None


def segment_words(segment: Segment) -> str:
    """A segment in words: ``tools``, ``response format``, ``system prompt``, ``message 3 (user)``."""
    if segment.kind == "tool_definition":
        return "tools"
    if segment.kind in ("system", "developer"):
        return f"{segment.kind} prompt"
    if segment.message is None:
        return segment.kind.replace("_", " ")
    return f"message {segment.message} ({segment.kind})"
