"""Rebuild the state of the providers' caches by replaying the calls in order of time. Pure.

The replay looks up the longest prefix of a call's prompt that an earlier call shared: in the same cache within its
lifetime, in the same cache but expired, or in the cache of another model, key or setting.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rlm_cachetrack.fingerprint import Segment

from .chains import CacheLocation, Call

Obstacle = Literal["concurrent", "expired", "model", "key", "settings"]
"""Why an earlier prefix cannot be read: its call was not finished yet, it has expired, or it is in the cache of another
model, key or setting."""
Obstacles = frozenset[Obstacle]

LIVE: Obstacles = frozenset()
_CLOCK_TOLERANCE_S = 0.005  # start and end of a call are read from two clocks
_CANDIDATES = 12
_MOST_LIKELY = 3
_BREAKPOINTS_READ = 80
"""The number of breakpoints that OpenAI looks at, according to the API reference.

The guide names fewer: the first 2 and the newest 50 explicit breakpoints, and 20 earlier ends of messages. Sources,
read 2026-12-01: https://developers.openai.com/api/reference/resources/responses/methods/create and
https://developers.openai.com/api/docs/guides/prompt-caching.
"""
_BREAKPOINTS_WRITTEN = 4
_NOT_MARKED = frozenset(("assistant", "other", "tool_definition", "response_format"))


@dataclass(slots=True)
class CacheEntry:
    """A prefix of a prompt in one cache, or several prefixes that one call wrote.

    Attributes:
        location: The cache.
        used: When it was last used, in seconds since the epoch.
        ready: When the call that wrote it had its first token; later calls can read it.
        guaranteed_s, expected_s: How long it is kept after its last use, at least and usually.
        call: The call that used it last.
        writer: The call that wrote it.
    """

    location: CacheLocation
    used: float
    ready: float
    guaranteed_s: float
    expected_s: float
    call: Call
    writer: Call


@dataclass(slots=True)
class Match:
    """The longest shared prefix with the same obstacles.

    Attributes:
        index: The last segment of the prefix.
        tokens: An estimate of its tokens; ``low`` is the lower bound.
        readable: How many of its tokens the provider's rules allow to be read.
        entry: The entry.
        is_guaranteed: Whether the provider guarantees that an entry is kept for so long.
        conversation_calls: Calls of the same conversation in the cache where it was found.
    """

    index: int
    tokens: float
    low: float
    readable: int
    entry: CacheEntry
    is_guaranteed: bool
    conversation_calls: int = 0


class Unmarked(NamedTuple):
    """A prefix that was sent before but does not end at a breakpoint.

    Attributes:
        segment: Its last segment.
        tokens: How many more tokens could have been read with a breakpoint there.
        is_whole: Whether it is a whole earlier prompt, which the call continues.
    """

    segment: Segment
    tokens: int
    is_whole: bool


class _Sent(NamedTuple):
    """A prefix that was sent, and the time range in which later calls could have read it, had it been cached."""

    ready: float
    until: float
    is_whole: bool


@dataclass(slots=True)
class Replay:
    """Replays calls that are given in order of time: :meth:`look_up` before a call is made, :meth:`record` after it."""

    _entries: dict[int, CacheEntry] = field(default_factory=dict)
    _further: dict[int, dict[CacheLocation, CacheEntry]] = field(
        default_factory=dict
    )  # entries of the same prefix in other caches
    _recent: dict[CacheLocation, deque[Call]] = field(default_factory=dict)
    _sent: dict[tuple[int, CacheLocation], _Sent] = field(default_factory=dict)
    _conversations: Counter[tuple[int, CacheLocation]] = field(default_factory=Counter)
    _holders: dict[tuple[CacheLocation, bytes], Call] = field(default_factory=dict)

    def look_up(self, call: Call) -> dict[Obstacles, Match]:
        """Find the longest prefixes that earlier calls shared, by the obstacles to reading them."""
        found: dict[Obstacles, Match] = {}
        entries, further, before = self._entries, self._further, None
        for index in reversed(readable_ends(call)):
            chain = call.chain[index]
            first = entries.get(chain)
            if first is None or (first is before and chain not in further):
                continue  # the obstacles to reading this entry are known from a longer prefix
            before = None if index < call.message_start else first
            location = call.location_at(index)
            for entry in self._entries_of(chain):
                obstacles = _obstacles(call, location, entry)
                if obstacles is not None and obstacles not in found:
                    tokens = call.ends[index]
                    is_guaranteed = call.began - entry.used <= entry.guaranteed_s
                    found[obstacles] = Match(
                        index, tokens, call.low[index], call.rule.readable(tokens), entry, is_guaranteed
                    )
            if LIVE in found:
                break
        if (live := found.get(LIVE)) is not None:
            start = call.chain[min(call.conversation_start, live.index)]
            for match in found.values():
                match.conversation_calls = self._conversations[start, match.entry.call.location]
        return found

    def _entries_of(self, chain: int) -> Iterator[CacheEntry]:
        """Yield the entries of a prefix that has any, in every cache."""
        yield self._entries[chain]
        if (further := self._further.get(chain)) is not None:
            yield from further.values()

    def _entry(self, chain: int, location: CacheLocation) -> CacheEntry | None:
        first = self._entries.get(chain)
        if first is None or first.location == location:
            return first
        return self._further.get(chain, {}).get(location)

    def unmarked(self, call: Call, readable: int) -> Unmarked | None:
        """Find a prefix that was sent before but not cached, because no breakpoint ended there; None without one.

        Args:
            call: The call.
            readable: The tokens that it could read anyway.
        """
        if call.rule.matching != "breakpoints":
            return None
        for index in range(len(call.chain) - 1, -1, -1):
            sent = self._sent.get((call.chain[index], call.location_at(index)))
            if sent is not None and sent.ready <= call.began <= sent.until:
                if not call.rule.surely_reads_more(call.low[index], readable):
                    return None
                tokens = call.rule.readable(call.ends[index]) - readable
                return Unmarked(call.segments[index], tokens, sent.is_whole)
        return None

    def _note_sent(self, prefix: tuple[int, CacheLocation], call: Call, is_whole: bool) -> None:
        before = self._sent.get(prefix)
        is_live = before is not None and call.began <= before.until
        ready = min(before.ready, call.first_token) if before is not None and is_live else call.first_token
        self._sent[prefix] = _Sent(ready, call.began + call.lifetime.expected_s, is_whole)

    def _written_ends(self, call: Call) -> Sequence[int]:
        """Return the segments that end the prefixes which the call writes to the cache."""
        if call.rule.matching == "prefix":
            return range(len(call.chain))
        if call.rule.matching == "units":  # the whole prompt, and the beginning that an earlier prompt had, too
            last = len(call.chain) - 1
            shared = (index for index in range(last, -1, -1) if (call.chain[index], call.location) in self._sent)
            return sorted({next(shared, last), last})
        breakpoints = _breakpoints(call)
        if not _is_implicit(call):
            return breakpoints[-_BREAKPOINTS_WRITTEN:]
        return sorted({*breakpoints[1 - _BREAKPOINTS_WRITTEN :], *_message_ends(call)[-1:]})

    def cached_ends(self, call: Call) -> set[int] | None:
        """Return the segments that end the readable prefixes of an earlier call; None: any segment."""
        if call.rule.matching != "breakpoints":
            return None
        ends = readable_ends(call)
        return {index for index in ends if self._entry(call.chain[index], call.location_at(index)) is not None}

    def earlier_states(self, call: Call) -> list[Call]:
        """Return live calls of the same cache that may be earlier states of the conversation, the likeliest first."""
        place = call.location[:3]
        pool: dict[int, Call] = {}
        for segment in call.largest:
            holder = self._holders.get((place, segment.digest))
            if holder is not None:
                pool[id(holder)] = holder
        for recent in self._recent.get(place, ()):
            pool[id(recent)] = recent
        live = [other for other in pool.values() if call.began - other.began <= other.lifetime.expected_s]

        digests = call.digests

        def shared(other: Call) -> int:
            return sum([segment.size + 1 for segment in other.segments if segment.digest in digests])

        return sorted(live, key=lambda other: (shared(other), other.own, other.began), reverse=True)[:_MOST_LIKELY]

    def previous(self, call: Call) -> Call | None:
        """Return the newest earlier call of the same run and cache."""
        recent = self._recent.get(call.location[:3], ())
        return next((other for other in reversed(recent) if other.run == call.run), None)

    def record(self, call: Call, read: Match | None) -> None:
        """Record a call: update the last use of the entry that it read, and write its prompt to the cache."""
        rule, location = call.rule, call.location
        if not call.chain or not call.ends or rule.matching == "none":
            return
        if call.row["prompt_tokens"] < rule.minimum_tokens:
            return
        self._conversations[call.chain[call.conversation_start], location] += 1
        written = self._written_ends(call)
        if rule.matching in ("breakpoints", "units"):
            for index, chain in enumerate(call.chain):
                self._note_sent((chain, call.location_at(index)), call, chain == call.chain[-1])
        self._write(call, written)
        if read is not None:
            read.entry.used = max(read.entry.used, call.began)
            call.reads_newest = not call.segments[read.index].breakpoint
        place = location[:3]
        self._recent.setdefault(place, deque(maxlen=_CANDIDATES)).append(call)
        for segment in call.largest:
            self._holders[place, segment.digest] = call

    def _write(self, call: Call, written: Sequence[int]) -> None:
        """Write prefixes to the cache of a call, or note that it used them again."""
        entries, shares_entries = self._entries, call.rule.matching == "prefix"
        made: dict[int, tuple[CacheEntry | None, CacheEntry]] = {}  # keeps the entries, so that their ids stay unique
        before: CacheEntry | None = None
        used: CacheEntry | None = None
        for index in written:
            chain = call.chain[index]
            first = entries.get(chain)
            if used is not None and first is before:  # as the prefix that is one segment shorter
                entries[chain] = used
                continue
            location = call.location_at(index)
            is_first = first is None or first.location == location
            entry = first if is_first else self._further.get(chain, {}).get(location)
            if entry is not None and not (entry.ready <= call.began and call.began - entry.used <= entry.expected_s):
                entry = None
            # Prefixes that this call found in one entry, or wrote, share one new entry; each breakpoint gets its own.
            same = id(entry) if shares_entries else index
            if same not in made:
                made[same] = entry, _used_again(entry, call, location)
            if is_first:
                entries[chain] = made[same][1]
                before, used = first, made[same][1] if shares_entries else None
            else:
                self._further.setdefault(chain, {})[location] = made[same][1]
                used = None


def _used_again(entry: CacheEntry | None, call: Call, location: CacheLocation) -> CacheEntry:
    """Return the entry after a call used it; a new entry if there was none."""
    lifetime = call.lifetime
    if entry is None:
        return CacheEntry(
            location, call.began, call.first_token, lifetime.guaranteed_s, lifetime.expected_s, call, call
        )
    return CacheEntry(
        location,
        call.began,
        entry.ready,
        max(entry.guaranteed_s, lifetime.guaranteed_s),
        max(entry.expected_s, lifetime.expected_s),
        call,
        entry.writer,
    )


def readable_ends(call: Call) -> Sequence[int]:
    """Return the segments that end the prefixes which the call looks up in the cache."""
    rule = call.rule
    if rule.matching != "breakpoints":
        return range(len(call.chain))
    breakpoints = _breakpoints(call)
    if rule.lookback_blocks:
        return _looked_back(call, breakpoints)
    ends = set(breakpoints) | (set(_message_ends(call)) if _is_implicit(call) else set())
    return sorted(ends)[-_BREAKPOINTS_READ:]


def _obstacles(call: Call, ours: CacheLocation, entry: CacheEntry) -> Obstacles | None:
    """Return why a call cannot read an entry; None if it has expired in another cache.

    Args:
        call: The call.
        ours: The cache in which the call looks for the prefix.
        entry: An entry of the prefix.
    """
    is_live = call.began - entry.used <= entry.expected_s
    location = entry.location
    if location == ours:
        if not is_live:
            return frozenset(("expired",))
        tolerance = min(_CLOCK_TOLERANCE_S, (entry.ready - entry.writer.began) / 2)
        return LIVE if entry.ready - tolerance <= call.began else frozenset(("concurrent",))
    if not is_live:
        return None
    found: list[Obstacle] = []
    if location[:2] != ours[:2]:
        found.append("model")
    if location[2] != ours[2]:
        found.append("key")
    if location[3] != ours[3] and location[:2] == ours[:2]:  # another model may have other settings
        found.append("settings")
    return frozenset(found)


# -- where a cache may be read, and what a call writes --------------------------------------------------------------


def _is_implicit(call: Call) -> bool:
    """Return True if the provider sets a breakpoint at the end of the newest message."""
    return call.rule.implicit_breakpoint and call.options.get("cache_mode") != "explicit"


def _looked_back(call: Call, breakpoints: Sequence[int]) -> Sequence[int]:
    """Return the ends of the blocks that a breakpoint reads: its own, and those of the blocks before it."""
    ends = [index for index in range(len(call.segments)) if _ends_part(call, index)]
    positions = {end: position for position, end in enumerate(ends)}
    found: set[int] = set()
    for breakpoint_end in breakpoints:
        position = positions[breakpoint_end]
        found.update(ends[max(0, position - call.rule.lookback_blocks) : position + 1])
    return sorted(found)


def _breakpoints(call: Call) -> list[int]:
    return [index for index, segment in enumerate(call.segments) if segment.breakpoint]


def _ends_part(call: Call, index: int) -> bool:
    return index + 1 == len(call.segments) or not call.segments[index + 1].continues


def _message_ends(call: Call) -> list[int]:
    """Return the segments that end a message which is not an output of the model."""
    segments = call.segments
    return [
        index
        for index, segment in enumerate(segments)
        if segment.kind not in _NOT_MARKED
        and (index + 1 == len(segments) or segments[index + 1].message != segment.message)
    ]
