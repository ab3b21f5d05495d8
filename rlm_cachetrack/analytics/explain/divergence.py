"""Find where a prompt differs from an earlier one, and what changed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rlm_cachetrack.fingerprint import Segment

from .chains import LEADING_SEGMENTS, Call

_SIMILAR_CHARACTERS = 4
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Divergence:
    """The position where a prompt differs from an earlier one, although later parts are equal again.

    Attributes:
        index: The number of the segment in the later prompt, from 0.
        change: ``added``, ``edited``, ``reordered`` or ``shortened``.
        segment: The changed segment: of the later prompt, or of the earlier one if it is missing in the later.
        tokens: Tokens of the later prompt that the earlier one also had, up to the last segment that both share.
        estimated: How many of these tokens are an estimate.
    """

    index: int
    change: str
    segment: Segment
    tokens: float
    estimated: float


def find_divergence(later: Call, earlier: Call, readable_ends: Collection[int] | None = None) -> Divergence | None:
    """Find where ``later`` differs from ``earlier``.

    Args:
        later: The prompt that missed.
        earlier: A prompt that was sent before.
        readable_ends: The segments of ``earlier`` at whose end the cache can be read; None: at the end of any.

    Returns:
        None if ``later`` continues ``earlier`` or belongs to another conversation.
    """
    ours, theirs = later.segments, earlier.segments
    start = 0
    for one, other in zip(ours, theirs, strict=False):
        if one.digest != other.digest:
            break
        start += 1
    rest, before = ours[start:], theirs[start:]
    if not rest or not before:
        return None  # one is a prefix of the other
    common = Counter(segment.digest for segment in rest) & Counter(segment.digest for segment in before)
    last, last_before = _last_shared(rest, common), _last_shared(before, common)
    if not _is_same_conversation(before, common):
        readable = readable_ends is None or start in readable_ends
        return _leading_edit(later, start, before) if readable else None
    if readable_ends is not None:
        last_before = max((index for index in range(last_before + 1) if start + index in readable_ends), default=-1)
        last = _last_index(rest, before[last_before], common) if last_before >= 0 else -1
        if last < 0:
            return None  # the shared part could not be read in any case
    added = _unshared(rest[: last + 1], common)
    removed = _unshared(before[: last_before + 1], common)
    inserted = _insertions(added, removed)
    new = sum(_tokens(later, start + index) for index in inserted if index < last)
    tokens, estimated = later.ends[start + last] - new, later.estimated(start + last) + new
    if not added and not removed:
        change, segment = "reordered", rest[0]
    elif len(added) > len(inserted):
        first = next(index for index in sorted(added) if index not in inserted)
        change, segment = "edited", rest[first]
        return Divergence(start + first, change, segment, tokens, estimated)
    elif inserted:
        change, segment = "added", rest[min(inserted)]
    else:
        change, segment = "shortened", before[min(removed)]
    return Divergence(start, change, segment, tokens, estimated)


def _tokens(call: Call, index: int) -> float:
    return call.ends[index] - (call.ends[index - 1] if index else 0.0)


def _last_shared(segments: Sequence[Segment], common: Counter[bytes]) -> int:
    """Return the last segment that is in both prompts, -1 if none is."""
    unshared = _unshared(segments, common)
    return max((index for index in range(len(segments)) if index not in unshared), default=-1)


def _last_index(segments: Sequence[Segment], wanted: Segment, common: Counter[bytes]) -> int:
    """Return the last occurrence of a segment that both prompts have, -1 if only one has it."""
    if not common[wanted.digest]:
        return -1
    return max(index for index, segment in enumerate(segments) if segment.digest == wanted.digest)


def _is_same_conversation(before: Sequence[Segment], common: Counter[bytes]) -> bool:
    """Return True if the later prompt contains at least half of the earlier one, by segments or by size."""
    left = common.copy()
    count = size = 0
    for segment in before:
        if left[segment.digest] > 0:
            left[segment.digest] -= 1
            count, size = count + 1, size + segment.size
    whole = sum(segment.size for segment in before)
    return count > 0 and (count >= _HALF * len(before) or (whole > 0 and size >= _HALF * whole))


def _unshared(segments: Sequence[Segment], common: Counter[bytes]) -> dict[int, Segment]:
    """Return the segments that only this prompt has; of equal segments, those in excess of the other prompt's."""
    left, found = common.copy(), {}
    for index, segment in enumerate(segments):
        if left[segment.digest] > 0:
            left[segment.digest] -= 1
        else:
            found[index] = segment
    return found


def _insertions(added: Mapping[int, Segment], removed: Mapping[int, Segment]) -> list[int]:
    """Return the new segments that replace none of the same kind; a replacement counts as an edit."""
    left = Counter(segment.kind for segment in removed.values())
    found = []
    for index, segment in added.items():
        if left[segment.kind] > 0:
            left[segment.kind] -= 1
        else:
            found.append(index)
    return found


def _leading_edit(later: Call, start: int, before: Sequence[Segment]) -> Divergence | None:
    """Detect edited instructions: different instructions are unlikely to have almost the same size."""
    one, other = later.segments[start], before[0]
    alike = abs(one.size - other.size) <= _SIMILAR_CHARACTERS
    if one.kind in LEADING_SEGMENTS and one.kind == other.kind and alike:
        return Divergence(start, "edited", one, later.ends[start], later.estimated(start))
    return None


def segment_words(segment: Segment) -> str:
    """Name a segment: ``tools``, ``response format``, ``system prompt``, ``message 3 (user)``."""
    if segment.kind == "tool_definition":
        return "tools"
    if segment.kind in ("system", "developer"):
        return f"{segment.kind} prompt"
    if segment.message is None:
        return segment.kind.replace("_", " ")
    return f"message {segment.message} ({segment.kind})"
