"""Find where a prompt differs from an earlier one, and what changed. Pure.

An edited prompt and an unrelated prompt both differ from the earlier prompt, but no cache could have read an unrelated
prompt. Two long texts that share no piece are different prompts, unless the history of a conversation follows both. Two
similar texts that a run uses in turns are variants, not edits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_cachetrack.fingerprint import Segment

from .chains import INSTRUCTIONS, LEADING, RESPONSE, Call, Part

_HALF = 0.5
_SIMILAR = 0.2  # the smallest share of a long text that is unchanged after an edit
_SIMILAR_CHARACTERS = 4
_CUT_CHARACTERS = 512  # a text of this size is cut into pieces
_MOST_VARIANTS = 3  # with more system prompts, a run has one prompt with a changing part

Content = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The position where a prompt differs from an earlier one, although later parts are equal again.

    Attributes:
        index: The number of the part in the later prompt, from 0.
        change: ``added``, ``edited``, ``reordered`` or ``shortened``.
        part: The changed part: of the later prompt, or of the earlier one if it is missing in the later.
        tokens: Tokens of the later prompt that the earlier one also had, up to the last part that both share.
        low: The lower bound of ``tokens``.
    """

    index: int
    change: str
    part: Part
    tokens: float
    low: float


class PromptVariants:
    """Detects system prompts, and sets of tools, that a run uses alternately: neither is an edit of the other.

    Args:
        calls: All calls, in order of time.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self._last_use: dict[tuple[Any, str, Content], float] = {}
        self._counts: Counter[tuple[Any, str]] = Counter()
        for call in calls:
            for kind, content in (("system", _system(call)), ("tools", call.tools)):
                use = (call.run, kind, content)
                self._counts[call.run, kind] += use not in self._last_use
                self._last_use[use] = call.began

    def are_used_in_turns(self, later: Call, earlier: Call) -> bool:
        """Return True if the run uses the system prompts, or the tools, of both calls again after the later one.

        Sets of tools that have a tool in common, or the same question, are one set that changes.
        """
        if later.run != earlier.run:
            return False
        kind, one, other = "system", _system(later), _system(earlier)
        if one == other:
            kind, one, other = "tools", later.tools, earlier.tools
            if one == other or set(one) & set(other) or _question(later) == _question(earlier):
                return False
        elif not one or not other:
            return False
        last_uses = [self._last_use[later.run, kind, content] for content in (one, other)]
        return min(last_uses) > later.began and self._counts[later.run, kind] <= _MOST_VARIANTS


def _question(call: Call) -> bytes | None:
    return next((segment.digest for segment in call.segments if segment.kind not in LEADING), None)


def _system(call: Call) -> Content:
    return () if call.instructions is None else call.instructions.content


def find_divergence(
    later: Call, earlier: Call, variants: PromptVariants, cached_ends: Collection[int] | None = None
) -> Divergence | None:
    """Find where ``later`` differs from ``earlier``.

    Args:
        later: The prompt that missed.
        earlier: A prompt that was sent before.
        variants: Distinguishes variants from edits.
        cached_ends: The segments that end the readable prefixes of ``earlier``; None: any segment.

    Returns:
        None if ``later`` continues ``earlier`` or is another prompt.
    """
    shared = _shared_segments(later, earlier)
    if shared in (len(later.segments), len(earlier.segments)):
        return None  # one is a prefix of the other
    start = shared
    while later.segments[start].continues:  # the difference is inside a text
        start -= 1
    rest, before = later.parts_from(start), earlier.parts_from(start)
    if not before:
        return None
    first = sum([not segment.continues for segment in later.segments[:start]])
    common = Counter([part.content for part in rest]) & Counter([part.content for part in before])
    relation = "another prompt"
    if not variants.are_used_in_turns(later, earlier):
        relation = _relation(later, earlier, rest, before, common)
    if relation == "another prompt":
        return None
    if relation == "edited beginning":
        return _edited_beginning(later, first, rest[0], before[0], cached_ends)
    last, last_before = _last_shared(rest, common), _last_shared(before, common)
    if cached_ends is not None:
        last_before = max((n for n in range(last_before + 1) if before[n].stop - 1 in cached_ends), default=-1)
        last = _last_index(rest, before[last_before], common) if last_before >= 0 else -1
    if last < 0:
        return None  # the shared part could not be read in any case
    return _changed(later, first, rest, before, common, last, last_before)


def _changed(
    later: Call,
    first: int,
    rest: Sequence[Part],
    before: Sequence[Part],
    common: Counter[Content],
    last: int,
    last_before: int,
) -> Divergence:
    added = _unshared(rest[: last + 1], common)
    removed = _unshared(before[: last_before + 1], common)
    inserted = _insertions(added, removed)
    new = sum([_tokens(later, rest[number]) for number in inserted if number < last])
    end = rest[last].stop - 1
    tokens, low = later.ends[end] - new, later.low[end] - new
    if not added and not removed:
        return Divergence(first, "reordered", rest[0], tokens, low)
    if len(added) > len(inserted):
        number = next(each for each in sorted(added) if each not in inserted)
        return Divergence(first + number, "edited", rest[number], tokens, low)
    if inserted:
        return Divergence(first, "added", rest[min(inserted)], tokens, low)
    return Divergence(first, "shortened", before[min(removed)], tokens, low)


def _edited_beginning(
    later: Call, first: int, part: Part, other: Part, cached_ends: Collection[int] | None
) -> Divergence | None:
    """Return the edit of a long text if nothing after it is shared; the text itself counts as readable."""
    if cached_ends is not None and other.stop - 1 not in cached_ends:
        return None
    end = part.stop - 1
    return Divergence(first, "edited", part, later.ends[end], later.low[end])


# -- whether two prompts belong together ------------------------------------------------------------------------------


def _relation(
    later: Call, earlier: Call, rest: Sequence[Part], before: Sequence[Part], common: Counter[Content]
) -> str:
    """Return ``same conversation``, ``edited beginning`` or ``another prompt``."""
    ours, theirs = later.instructions, earlier.instructions
    is_same = _is_mostly_shared(before, common)
    if ours is not None and theirs is not None and ours.content != theirs.content:
        similar = similarity(ours, theirs)
        alike = similar >= _SIMILAR or (_is_short(ours, theirs) and abs(ours.size - theirs.size) <= _SIMILAR_CHARACTERS)
        if not alike and not (is_same and _shares_history(before, common)):
            return "another prompt"
    if is_same:
        return "same conversation"
    one, other = rest[0], before[0]
    if one.kind == other.kind and one.content != other.content and similarity(one, other) >= _SIMILAR:
        return "edited beginning"
    return "another prompt"


def similarity(one: Part, other: Part) -> float:
    """Return the share (0-1) of the shorter text's characters in pieces that both texts have."""
    common = set(one.content) & set(other.content)
    least = min(one.size, other.size)
    if not common or not least:
        return float(one.content == other.content)
    return sum([size for piece, size in zip(one.content, one.sizes, strict=True) if piece in common]) / least


def _is_short(*parts: Part) -> bool:
    return all(part.size < _CUT_CHARACTERS for part in parts)


def _shares_history(before: Sequence[Part], common: Counter[Content]) -> bool:
    """Return True if both prompts contain outputs of the model or of tools, so that they are one conversation."""
    return any(common[part.content] for part in before if part.kind in (RESPONSE, "tool"))


def _is_mostly_shared(before: Sequence[Part], common: Counter[Content]) -> bool:
    """Return True if the later prompt contains at least half of the earlier one, by parts or by size."""
    left = common.copy()
    count = size = 0
    for part in before:
        if left[part.content] > 0:
            left[part.content] -= 1
            count, size = count + 1, size + part.size
    whole = sum([part.size for part in before])
    return count > 0 and (count >= _HALF * len(before) or (whole > 0 and size >= _HALF * whole))


# -- which parts are shared -------------------------------------------------------------------------------------------


def _shared_segments(later: Call, earlier: Call) -> int:
    count = 0
    for one, other in zip(later.segments, earlier.segments, strict=False):
        if one.digest != other.digest or one.continues != other.continues:
            break
        count += 1
    return count


def _tokens(call: Call, part: Part) -> float:
    return call.ends[part.stop - 1] - (call.ends[part.start - 1] if part.start else 0.0)


def _last_shared(parts: Sequence[Part], common: Counter[Content]) -> int:
    """Return the last part that is in both prompts, -1 if none is."""
    unshared = _unshared(parts, common)
    return max((number for number in range(len(parts)) if number not in unshared), default=-1)


def _last_index(parts: Sequence[Part], wanted: Part, common: Counter[Content]) -> int:
    """Return the last occurrence of a part that both prompts have, -1 if only one has it."""
    if not common[wanted.content]:
        return -1
    return max(number for number, part in enumerate(parts) if part.content == wanted.content)


def _unshared(parts: Sequence[Part], common: Counter[Content]) -> dict[int, Part]:
    """Return the parts that only this prompt has, and further occurrences of parts that occur more often here."""
    left, found = common.copy(), {}
    for number, part in enumerate(parts):
        if left[part.content] > 0:
            left[part.content] -= 1
        else:
            found[number] = part
    return found


def _insertions(added: Mapping[int, Part], removed: Mapping[int, Part]) -> list[int]:
    """Return the new parts that replace none of the same kind; a replacement counts as an edit."""
    left = Counter([part.kind for part in removed.values()])
    found = []
    for number, part in added.items():
        if left[part.kind] > 0:
            left[part.kind] -= 1
        else:
            found.append(number)
    return found


def segment_words(part: Part | Segment) -> str:
    """Name a part of a prompt: ``tools``, ``response format``, ``system prompt``, ``message 3 (user)``."""
    if part.kind == "tool_definition":
        return "tools"
    if part.kind in INSTRUCTIONS:
        return f"{part.kind} prompt"
    if part.message is None:
        return part.kind.replace("_", " ")
    return f"message {part.message} ({part.kind})"
