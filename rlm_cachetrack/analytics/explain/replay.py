"""Rebuild the state of the providers' caches by replaying the calls in order of time. Pure.

The replay looks up the longest prefix of a call's prompt that an earlier call shared: in the same cache (provider,
model and cache key) within its lifetime, in the same cache but expired, under another key, or with another model.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rlm_cachetrack.fingerprint import Segment

from .cache_rules import CacheRule
from .chains import CacheLocation, Call

MatchKind = Literal["live", "concurrent", "expired", "key", "model", "model and key"]
"""Where a shared prefix was found: in the call's cache and readable, written by a call that was not finished yet,
expired, or in the cache of another key or model."""

_CLOCK_TOLERANCE_S = 0.005  # start and end of a call are read from two clocks
_RESPONSE_PREAMBLE_TOKENS = 16  # counted with a prompt, though the next prompt may continue differently
_ESTIMATE_ERROR = 0.03  # of an estimated number of tokens
_CANDIDATES = 12
_LARGEST_SEGMENTS = 8
_MOST_LIKELY = 3
_BREAKPOINTS_READ = 80
_BREAKPOINTS_WRITTEN = 4


@dataclass(slots=True)
class CacheEntry:
    """A prefix of a prompt in one cache.

    Attributes:
        used: When it was last used, in seconds since the epoch.
        ready: When the call that wrote it had its first token; later calls can read it.
        call: The call that used it last.
        writer: The call that wrote it.
    """

    used: float
    ready: float
    call: Call
    writer: Call


@dataclass(slots=True)
class Match:
    """The longest shared prefix of one kind.

    Attributes:
        index: The last segment of the prefix.
        tokens: Its tokens; ``estimated`` of these are an estimate.
        readable: How many of its tokens the provider's rules allow to be read.
        conversation_calls: Calls of the same conversation in the cache where it was found.
    """

    index: int
    tokens: float
    readable: int
    estimated: float
    entry: CacheEntry
    conversation_calls: int = 0


@dataclass(slots=True)
class Replay:
    """Replays calls that are given in order of time: :meth:`look_up` before a call is made, :meth:`record` after it."""

    _entries: dict[int, dict[CacheLocation, CacheEntry]] = field(default_factory=dict)
    _recent: dict[CacheLocation, deque[Call]] = field(default_factory=dict)
    _sent: dict[tuple[int, CacheLocation], float] = field(default_factory=dict)
    _conversations: Counter[tuple[int, CacheLocation]] = field(default_factory=Counter)
    _holders: dict[tuple[CacheLocation, bytes], Call] = field(default_factory=dict)

    def look_up(self, call: Call) -> dict[MatchKind, Match]:
        """Find the longest prefixes that earlier calls shared, by kind."""
        found: dict[MatchKind, Match] = {}
        for index in reversed(_readable_ends(call)):
            for location, entry in self._entries.get(call.chain[index], {}).items():
                kind = _kind(call, location, entry)
                if kind is not None and kind not in found:
                    tokens = call.ends[index]
                    found[kind] = Match(index, tokens, call.rule.readable(tokens), call.estimated(index), entry)
            if "live" in found:
                break
        if (live := found.get("live")) is not None:
            start = call.chain[min(_conversation_start(call), live.index)]
            for match in found.values():
                match.conversation_calls = self._conversations[start, match.entry.call.location]
        return found

    def unmarked(self, call: Call, readable: int) -> tuple[Segment, int] | None:
        """Find a prefix that was sent before but not cached, because no breakpoint ended there.

        Returns:
            Its last segment, and how many tokens beyond ``readable`` could have been read; None if there is none.
        """
        if call.rule.matching != "breakpoints":
            return None
        lifetime = call.lifetime_s
        for index in range(len(call.chain) - 1, -1, -1):
            if call.began - self._sent.get((call.chain[index], call.location), -lifetime) <= lifetime:
                if not reads_more(call.rule, call.ends[index], call.estimated(index), readable):
                    return None
                return call.segments[index], call.rule.readable(call.ends[index]) - readable
        return None

    def readable_ends(self, call: Call) -> set[int] | None:
        """Return the segments of an earlier call at whose end its prompt can be read; None: at the end of any."""
        if call.rule.matching == "prefix":
            return None
        ends = _readable_ends(call)
        return {index for index in ends if call.location in self._entries.get(call.chain[index], {})}

    def earlier_states(self, call: Call) -> list[Call]:
        """Return live calls of the same cache that may be earlier states of the conversation, the likeliest first."""
        location = call.location
        pool: dict[int, Call] = {}
        for segment in _largest_segments(call):
            holder = self._holders.get((location, segment.digest))
            if holder is not None:
                pool[id(holder)] = holder
        for recent in self._recent.get(location, ()):
            pool[id(recent)] = recent
        lifetime = call.lifetime_s
        live = [other for other in pool.values() if call.began - other.began <= lifetime]

        def shared(other: Call) -> int:
            return sum(segment.size + 1 for segment in other.segments if call.digests.get(segment.digest))

        return sorted(live, key=lambda other: (shared(other), other.own, other.began), reverse=True)[:_MOST_LIKELY]

    def record(self, call: Call, read: Match | None) -> None:
        """Record a call: update the last use of the entry that it read, and write its prompt to the cache."""
        rule, location = call.rule, call.location
        if not call.chain or not call.ends or rule.matching == "none":
            return
        if call.row["prompt_tokens"] < rule.minimum_tokens:
            return
        self._conversations[call.chain[_conversation_start(call)], location] += 1
        if rule.matching == "breakpoints":
            self._sent.update(((chain, location), call.began) for chain in call.chain)
        lifetime = call.lifetime_s
        for index in _written_ends(call):
            entries = self._entries.setdefault(call.chain[index], {})
            entry = entries.get(location)
            if entry is not None and entry.ready <= call.began and call.began - entry.used <= lifetime:
                entry.used, entry.call = call.began, call
            else:
                entries[location] = CacheEntry(call.began, call.first_token, call, call)
        if read is not None:
            read.entry.used = max(read.entry.used, call.began)
            read.entry.writer.is_read_later = True
        self._recent.setdefault(location, deque(maxlen=_CANDIDATES)).append(call)
        for segment in _largest_segments(call):
            self._holders[location, segment.digest] = call


def reads_more(rule: CacheRule, tokens: float, estimated: float, than: int) -> bool:
    """Return True if more than ``than`` tokens can certainly be read, even if the estimate is too high."""
    return rule.readable(tokens - _RESPONSE_PREAMBLE_TOKENS - _ESTIMATE_ERROR * estimated) > than


def _kind(call: Call, location: CacheLocation, entry: CacheEntry) -> MatchKind | None:
    live = call.began - entry.used <= call.lifetime_s
    ours = call.location
    if location == ours:
        if not live:
            return "expired"
        return "live" if entry.ready <= call.began + _CLOCK_TOLERANCE_S else "concurrent"
    if not live:
        return None
    if location[:2] == ours[:2]:
        return "key"
    return "model" if location[2] == ours[2] else "model and key"


def _largest_segments(call: Call) -> list[Segment]:
    return sorted(call.segments, key=lambda segment: -segment.size)[:_LARGEST_SEGMENTS]


# -- where a cache may be read, and what a call writes --------------------------------------------------------------


def _readable_ends(call: Call) -> Sequence[int]:
    """Return the segments after whose end a prefix may be found."""
    if call.rule.matching == "prefix":
        return range(len(call.chain))
    explicit = call.fingerprint is not None and call.fingerprint.explicit
    ends = set(_breakpoints(call)) | (set() if explicit else set(_turn_ends(call)))
    return sorted(ends)[-_BREAKPOINTS_READ:]


def _written_ends(call: Call) -> Sequence[int]:
    """Return the segments after whose end the call writes a prefix to the cache."""
    if call.rule.matching == "prefix":
        return range(len(call.chain))
    breakpoints = _breakpoints(call)
    if call.fingerprint is not None and call.fingerprint.explicit:
        return breakpoints[-_BREAKPOINTS_WRITTEN:]
    return sorted({*breakpoints[1 - _BREAKPOINTS_WRITTEN :], *_turn_ends(call)[-1:]})


def _conversation_start(call: Call) -> int:
    """Return the first user message; prompts that share it mostly belong to one conversation."""
    return next((index for index, segment in enumerate(call.segments) if segment.kind == "user"), 0)


def _breakpoints(call: Call) -> list[int]:
    return [index for index, segment in enumerate(call.segments) if segment.breakpoint]


def _turn_ends(call: Call) -> list[int]:
    """Return the segments that end a message of a user or tool."""
    segments = call.segments
    return [
        index
        for index, segment in enumerate(segments)
        if segment.kind in ("user", "tool")
        and (index + 1 == len(segments) or segments[index + 1].message != segment.message)
    ]
