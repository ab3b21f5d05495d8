"""Represent prompts as chains of segments. Pure.

A hash over its segments identifies each prefix of a prompt, so finding the longest prefix that an earlier call shared
takes one look-up per segment, whatever the number of calls. :mod:`.token_counts` adds the tokens of each prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from operator import attrgetter
from typing import Any, NamedTuple

from rlm_cachetrack.fingerprint import CONTENT_BYTES, Fingerprint, Segment

from .cache_rules import CacheRule, Lifetime, cache_rule

CacheLocation = tuple[Any, ...]
"""Provider, model, the hash of ``prompt_cache_key``, and the settings that the provider's rules name."""

INSTRUCTIONS = frozenset(("system", "developer"))
LEADING = frozenset(("tool_definition", "response_format", *INSTRUCTIONS))
JSON_KINDS = frozenset(("tool_definition", "response_format"))
RESPONSE = "assistant"
IMAGES = "images"
"""The setting that is set if a prompt contains images. It is known from the fingerprint, not from the options."""
_CHARACTERS_PER_TOKEN = 4.0
_LARGEST_SEGMENTS = 8
_size = attrgetter("size")
_PREVIOUS_RESPONSE, _CONVERSATION = "previous_response", "conversation"
_USUAL_TIERS = frozenset(("auto", "default", "standard", "on_demand"))


class Part(NamedTuple):
    """One text or value of a prompt: a segment, or the segments into which a long text is cut.

    Attributes:
        kind, message: The kind and the message number of its segments.
        start, stop: Its first segment, and the one after its last.
        size: Characters.
        content: Equal for parts with equal content; the order of a tool's keys does not matter.
        sizes: The characters of each piece in ``content``.
    """

    kind: str
    message: int | None
    start: int
    stop: int
    size: int
    content: tuple[bytes, ...]
    sizes: tuple[int, ...]


@dataclass(slots=True)
class Call:
    """One call, and the chain of its prompt.

    Attributes:
        row: The columns of ``explain_calls``.
        began, first_token, ended: Seconds since the epoch.
        own: True for a call of the explained run, False for one of another run that may have filled the cache.
        options: The column ``request_options``, with the served tier.
        lifetime: How long the provider keeps the entries that this call writes.
        settings: The values of the settings that the provider's rules name.
        location: The cache that the call uses; entries are found only from the same location. Some settings do not
            affect where the beginning of the prompt is found: see :meth:`location_at`.
        message_start: The first segment whose location depends on all settings.
        segments: The segments of the prompt; empty without a fingerprint.
        chain: A hash for each prefix of ``segments``.
        ends: Tokens up to the end of each segment; an estimate, unless an earlier prompt ended there.
        low: The lower bounds of ``ends``.
        reads_newest: Whether it read an entry that no explicit breakpoint ended; set by the replay.
        is_compacted: Whether the provider has shortened the prompt: it has fewer tokens than an earlier part of it.
        is_continued_unseen: Whether it continues a response that is not among the calls.
    """

    row: Mapping[str, Any]
    began: float
    first_token: float
    ended: float
    own: bool
    rule: CacheRule
    options: Mapping[str, Any]
    fingerprint: Fingerprint | None = None
    lifetime: Lifetime = field(init=False)
    settings: tuple[Any, ...] = field(init=False)
    location: CacheLocation = field(init=False)
    message_start: int = 0
    segments: Sequence[Segment] = ()
    chain: list[int] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    reads_newest: bool = False
    is_compacted: bool = False
    is_continued_unseen: bool = False
    _parts: dict[int, list[Part]] = field(default_factory=dict)
    _largest: list[Segment] | None = None
    _digests: set[bytes] | None = None
    _instructions: Part | None = None
    _conversation_start: int = 0
    _system_start: int = 0
    _leading_locations: tuple[CacheLocation, CacheLocation] | None = None

    def __post_init__(self) -> None:
        self.lifetime = self.rule.lifetime(self.options)
        self._set_location(self.options)

    def _set_location(self, options: Mapping[str, Any]) -> None:
        rule = self.rule
        self.settings = tuple([options.get(name) for name in rule.all_settings])
        key = self.key if rule.needs_key else None
        self.location = (self.row["provider"], self.row["model"], key, self.settings)

    def set_segments(self, segments: Sequence[Segment]) -> None:
        """Set the segments, and what depends on them."""
        self.segments = segments
        self._conversation_start = next((index for index, segment in enumerate(segments) if segment.kind == "user"), 0)
        rule = self.rule
        if not rule.system_settings and not rule.message_settings:
            return
        self._set_location({**self.options, IMAGES: any(segment.kind == "media" for segment in segments) or None})
        before, whole = self.location[:3], len(rule.settings)
        of_system = self.settings[: whole + len(rule.system_settings)]
        self._leading_locations = ((*before, self.settings[:whole]), (*before, of_system))
        self._system_start = _leading(segments, JSON_KINDS)
        self.message_start = _leading(segments, LEADING)

    def setting(self, name: str) -> Any:
        """Return the value of a setting that the rule names; None if it is not set."""
        return dict(zip(self.rule.all_settings, self.settings, strict=True)).get(name)

    def location_at(self, index: int) -> CacheLocation:
        """Return the cache in which the prefix that ends with a segment is found."""
        if index >= self.message_start or self._leading_locations is None:
            return self.location
        return self._leading_locations[index >= self._system_start]

    @property
    def key(self) -> bytes | None:
        """Return the hash of ``prompt_cache_key``, None if the call has none."""
        return None if self.fingerprint is None else self.fingerprint.cache_key

    @property
    def run(self) -> tuple[Any, Any]:
        """Return the query and the run of the call."""
        return self.row["query_id"], self.row["run_id"]

    @property
    def conversation(self) -> int | None:
        """Return the hash of the prompt up to the first user message; None without a fingerprint.

        Prompts that share it mostly belong to one conversation.
        """
        return self.chain[self.conversation_start] if self.chain else None

    @property
    def conversation_start(self) -> int:
        """Return the number of the first user message's segment; 0 without one."""
        return self._conversation_start

    def parts_from(self, start: int) -> list[Part]:
        """Return the parts of the prompt that begin at a segment or after it."""
        found = self._parts.get(start)
        if found is None:
            found = self._parts[start] = _parts(self.segments, start)
        return found

    @property
    def instructions(self) -> Part | None:
        """Return the first system or developer prompt; None if the call has none."""
        if self._instructions is None:
            start = next((i for i, segment in enumerate(self.segments) if segment.kind in INSTRUCTIONS), None)
            if start is None:
                return None
            stop = next((i for i in range(start + 1, len(self.segments)) if not self.segments[i].continues), None)
            self._instructions = _part(self.segments, start, len(self.segments) if stop is None else stop)
        return self._instructions

    @property
    def tools(self) -> tuple[bytes, ...]:
        """Return the content of each tool definition; the order of a tool's keys does not matter."""
        leading = takewhile(lambda segment: segment.kind == "tool_definition", self.segments)
        return tuple([segment.digest[:CONTENT_BYTES] for segment in leading])

    @property
    def digests(self) -> set[bytes]:
        """Return the digests of the segments."""
        if self._digests is None:
            self._digests = {segment.digest for segment in self.segments}
        return self._digests

    @property
    def largest(self) -> list[Segment]:
        """Return the largest segments of the prompt, the largest first."""
        if self._largest is None:
            self._largest = sorted(self.segments, key=_size, reverse=True)[:_LARGEST_SEGMENTS]
        return self._largest

    @classmethod
    def of(cls, row: Mapping[str, Any], fingerprint: Fingerprint | None, *, own: bool) -> Call:
        """Create a call from a row of ``explain_calls``."""
        moment: datetime = row["start_time"] or row["time"]
        began = moment.timestamp()
        duration = (row["duration_ms"] or 0.0) / 1000
        first = row["time_to_first_token_ms"]
        options = dict(row.get("request_options") or {})
        tier = row["service_tier"] or options.get("service_tier")
        options["service_tier"] = None if tier in _USUAL_TIERS else tier
        return cls(
            row,
            began,
            began + (duration if first is None else first / 1000),
            began + duration,
            own,
            cache_rule(row["provider"], row["model"]),
            options,
            fingerprint,
        )


def chain_calls(calls: Iterable[Call]) -> list[Call]:
    """Return the calls in order of time, with their chains.

    The server keeps the earlier prompt and output of a continued response or conversation. They become a part of the
    prompt that continues it.
    """
    found = sorted(calls, key=lambda call: (call.began, str(call.row["interaction_id"])))
    kept: dict[tuple[str, bytes], Call] = {}
    for call in found:
        fingerprint = call.fingerprint
        if fingerprint is None:
            continue
        call.set_segments(_with_kept(call, fingerprint.segments, kept))
        if fingerprint.response is not None:
            kept[_PREVIOUS_RESPONSE, fingerprint.response] = call
        for segment in fingerprint.segments:
            if segment.kind == _CONVERSATION:
                kept[_CONVERSATION, segment.digest] = call
        chain = hash((fingerprint.installation,))
        add = call.chain.append
        for kind, _, _, digest, _, _ in call.segments:
            chain = hash((chain, kind, digest))
            add(chain)
    return found


def _leading(segments: Sequence[Segment], kinds: frozenset[str]) -> int:
    """Return the number of segments of these kinds with which a prompt begins."""
    return next((index for index, segment in enumerate(segments) if segment.kind not in kinds), len(segments))


def _with_kept(call: Call, segments: Sequence[Segment], kept: Mapping[tuple[str, bytes], Call]) -> Sequence[Segment]:
    """Replace the request's references to content on the server by that content."""
    for index, segment in enumerate(segments):
        if segment.kind not in (_PREVIOUS_RESPONSE, _CONVERSATION):
            continue
        before = kept.get((segment.kind, segment.digest))
        if before is None:
            call.is_continued_unseen = segment.kind == _PREVIOUS_RESPONSE
            return segments
        characters = int((before.row["completion_tokens"] or 0) * _CHARACTERS_PER_TOKEN)
        response_id = None if before.fingerprint is None else before.fingerprint.response
        response = Segment(RESPONSE, None, characters, response_id or segment.digest)
        history = [each for each in before.segments if each.kind not in LEADING or each.message is not None]
        if segment.kind == _CONVERSATION:
            history = history if history[:1] == [segment] else [segment, *history]
        return (*segments[:index], *history, response, *segments[index + 1 :])
    return segments


def _parts(segments: Sequence[Segment], start: int) -> list[Part]:
    found: list[Part] = []
    while start < len(segments) and segments[start].continues:
        start += 1
    for stop in range(start + 1, len(segments) + 1):
        if stop < len(segments) and segments[stop].continues:
            continue
        found.append(_part(segments, start, stop))
        start = stop
    return found


def _part(segments: Sequence[Segment], start: int, stop: int) -> Part:
    first = segments[start]
    if stop == start + 1:
        content = first.digest[:CONTENT_BYTES] if first.kind in JSON_KINDS else first.digest
        return Part(first.kind, first.message, start, stop, first.size, (content,), (first.size,))
    sizes = tuple([piece.size for piece in segments[start:stop]])
    digests = tuple([piece.digest for piece in segments[start:stop]])
    return Part(first.kind, first.message, start, stop, sum(sizes), digests, sizes)
