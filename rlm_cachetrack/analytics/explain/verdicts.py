"""Why each call read what it read: the calls played again, in order of time, against the provider's rules. Pure.

For each call the longest beginning is looked up that an earlier call had, too: at the same place (provider, model,
cache key) within its lifetime, at the same place but longer ago, under another key, with another model. What the first
of these allowed is the call's ceiling. Where more could have been read had something been otherwise, that is the
verdict; of several the one that cost most.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rlm_cachetrack.fingerprint import Segment

from .cache_rules import CacheRule
from .chains import Call, Chains, Divergence, divergence, segment_words

__all__ = ["VERDICTS", "Judged", "Verdict", "judge"]

Verdict = Literal[
    "first_call",
    "below_minimum",
    "prefix_changed",
    "expired",
    "model_changed",
    "key_changed",
    "provider_miss",
    "hit",
    "partial_hit",
    "not_reported",
    "not_fingerprinted",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_ELSEWHERE: tuple[tuple[str, Verdict], ...] = (
    ("expired", "expired"),
    ("key", "key_changed"),
    ("model", "model_changed"),
    ("model and key", "model_changed"),
)
_CLOCKS_S = 0.005  # start and end of a call are read from two clocks
_ANSWER_BEGINS = 16  # tokens that are counted with a prompt, though the next one may go on otherwise
_UNSURE = 0.03  # of an estimated number of tokens
_MOST = 0.5  # of what another model or key had, that is lost
_CANDIDATES = 12
_LARGEST = 8
_BREAKPOINTS_READ = 80
_WRITTEN = 4


@dataclass(slots=True)
class Judged:
    """A call and what became of it. Tokens; ``sureness`` 0-1.

    Attributes:
        ceiling: What the rules allowed to be read, given what was sent before and when.
        lost: What could have been read and was not, had the verdict's cause not been.
        compared: The earlier call it was compared with.
        gap_s: Seconds since that call.
        divergence: Where the prompts part; of ``prefix_changed`` only.
        concurrent: The earlier call was still on its way.
        shared: The last segment of the beginning that an earlier call had, too, where no breakpoint ended it; or None.
        shared_tokens: What more could have been read had there been one.
    """

    call: Call
    verdict: Verdict
    ceiling: int
    lost: int = 0
    sureness: float = 1.0
    compared: Call | None = None
    gap_s: float | None = None
    divergence: Divergence | None = None
    concurrent: bool = False
    written: int = 0
    read_later: bool = False
    shared: Segment | None = None
    shared_tokens: int = 0
    words: str = ""


@dataclass(slots=True)
class _Entry:
    """A beginning in the cache of one place."""

    used: float
    ready: float
    call: Call
    writer: Judged | None = None


@dataclass(slots=True)
class _Found:
    """The longest beginning of a kind that was found."""

    at: int
    tokens: float
    readable: int
    estimated: float
    entry: _Entry
    uses: int = 0


@dataclass(slots=True)
class _Cause:
    verdict: Verdict
    readable: int
    gain: int
    exact: bool
    compared: Call
    divergence: Divergence | None = None
    concurrent: bool = False


class _Replay:
    """The caches as they must have been, call after call."""

    def __init__(self) -> None:
        self._entries: dict[int, dict[tuple[Any, ...], _Entry]] = {}
        self._recent: dict[tuple[Any, ...], deque[Call]] = {}
        self._sent: dict[tuple[int, tuple[Any, ...]], float] = {}
        self._homes: Counter[tuple[int, tuple[Any, ...]]] = Counter()
        self._holders: dict[tuple[tuple[Any, ...], bytes], Call] = {}

    def look_up(self, call: Call) -> dict[str, _Found]:
        """The longest beginnings there were, by kind: ``live``, ``concurrent``, ``expired``, ``key``, ``model``."""
        found: dict[str, _Found] = {}
        place, rule = call.place, call.rule
        lifetime = rule.lifetime_s(call.fingerprint.retention if call.fingerprint else None)
        for at in reversed(_readable_places(call)):
            for other, entry in self._entries.get(call.chain[at], {}).items():
                live = call.began - entry.used <= lifetime
                if other == place:
                    ready = entry.ready <= call.began + _CLOCKS_S
                    kind = ("live" if ready else "concurrent") if live else "expired"
                elif not live:
                    continue
                elif other[:2] == place[:2]:
                    kind = "key"
                else:
                    kind = "model" if other[2] == place[2] else "model and key"
                if kind not in found:
                    tokens = call.ends[at]
                    found[kind] = _Found(at, tokens, rule.readable(tokens), call.estimated(at), entry)
            if "live" in found:
                break
        if (nearest := found.get("live")) is not None:  # how at home the conversation is here, and elsewhere
            begun = call.chain[min(_begun(call), nearest.at)]
            for each in found.values():
                each.uses = self._homes[begun, each.entry.call.place]
        return found

    def unmarked(self, call: Call, have: int) -> tuple[Segment, int] | None:
        """Where a breakpoint would have let more be read: the last segment, and how many tokens more."""
        if call.rule.matching != "breakpoints":
            return None
        lifetime = call.rule.lifetime_s(call.fingerprint.retention if call.fingerprint else None)
        for at in range(len(call.chain) - 1, -1, -1):
            if call.began - self._sent.get((call.chain[at], call.place), -lifetime) <= lifetime:
                if not _is_more(call.rule, call.ends[at], call.estimated(at), have):
                    return None
                return call.segments[at], call.rule.readable(call.ends[at]) - have
        return None

    def marks(self, call: Call) -> set[int] | None:
        """The segments of an earlier call at whose end its prompt can be read; None: at the end of any."""
        if call.rule.matching == "prefix":
            return None
        return {at for at in _readable_places(call) if call.place in self._entries.get(call.chain[at], {})}

    def earlier(self, call: Call) -> Iterable[Call]:
        """Calls of the same place that may be an earlier state of the same conversation, those likeliest first."""
        place = call.place
        lifetime = call.rule.lifetime_s(call.fingerprint.retention if call.fingerprint else None)
        pool: dict[int, Call] = {}
        for segment in sorted(call.segments, key=lambda each: -each.size)[:_LARGEST]:
            holder = self._holders.get((place, segment.digest))
            if holder is not None:
                pool[id(holder)] = holder
        for recent in list(self._recent.get(place, ()))[-_CANDIDATES:]:
            pool[id(recent)] = recent
        live = [other for other in pool.values() if call.began - other.began <= lifetime]

        def shared(other: Call) -> int:
            return sum(segment.size + 1 for segment in other.segments if call.digests.get(segment.digest))

        return sorted(live, key=lambda other: (shared(other), other.own, other.began), reverse=True)[:3]

    def note(self, judged: Judged, read: _Found | None) -> None:
        """The call was made: what it read is used again, what it wrote is there."""
        call = judged.call
        if not call.chain or not call.ends or call.row["prompt_tokens"] < call.rule.minimum_tokens:
            return
        if call.rule.matching == "none":
            return
        place = call.place
        self._homes[call.chain[_begun(call)], place] += 1
        if call.rule.matching == "breakpoints":
            self._sent.update(((chain, place), call.began) for chain in call.chain)
        lifetime = call.rule.lifetime_s(call.fingerprint.retention if call.fingerprint else None)
        for at in _written_places(call):
            entries = self._entries.setdefault(call.chain[at], {})
            entry = entries.get(place)
            if entry is not None and entry.ready <= call.began and call.began - entry.used <= lifetime:
                entry.used, entry.call = call.began, call
            else:
                entries[place] = _Entry(call.began, call.first_token, call, judged)
        if read is not None:
            read.entry.used = max(read.entry.used, call.began)
            if read.entry.writer is not None:
                read.entry.writer.read_later = True
        self._recent.setdefault(place, deque(maxlen=_CANDIDATES)).append(call)
        for segment in sorted(call.segments, key=lambda each: -each.size)[:_LARGEST]:
            self._holders[place, segment.digest] = call


def judge(chains: Chains) -> list[Judged]:
    """A verdict for each call of the run that is explained, in order of time."""
    replay, found = _Replay(), []
    for call in chains.calls:
        if not call.own:
            judged = Judged(call, "not_reported", 0)
            wanted = call.chain and call.ends and call.rule.matching == "breakpoints" and call.row["cached_tokens"]
            read = replay.look_up(call).get("live") if wanted else None
        elif not call.chain or not call.ends:
            judged, read = _without_chain(call), None
        else:
            there = replay.look_up(call)
            judged, read = _verdict(call, there, replay), there.get("live")
            if judged.verdict in ("hit", "first_call") and (more := replay.unmarked(call, judged.ceiling)) is not None:
                judged.shared, judged.shared_tokens = more
        replay.note(judged, read if judged.call.row["cached_tokens"] else None)
        if call.own:
            found.append(judged)
    return found


def _without_chain(call: Call) -> Judged:
    cached, tokens = call.row["cached_tokens"], call.row["prompt_tokens"]
    if cached is None:
        return Judged(call, "not_reported", 0, words=_not_reported(call))
    if tokens is not None and not cached and tokens < call.rule.minimum_tokens:
        return _too_short(call)
    why = "the prompt has no fingerprint" if call.fingerprint is None else "its number of tokens is not known"
    return Judged(call, "not_fingerprinted", cached, words=f"{why}, so it cannot be compared with earlier ones")


def _not_reported(call: Call) -> str:
    return "the call failed" if not call.row["success"] else "the server did not say what it read from the cache"


def _too_short(call: Call) -> Judged:
    least = f"{call.rule.minimum_tokens:,}"
    return Judged(call, "below_minimum", 0, words=f"prompts of less than {least} tokens are not cached")


def _verdict(call: Call, there: dict[str, _Found], replay: _Replay) -> Judged:
    row, rule = call.row, call.rule
    cached, tokens = row["cached_tokens"], row["prompt_tokens"]
    if cached is None:
        return Judged(call, "not_reported", 0, words=_not_reported(call))
    if rule.matching == "none":
        return Judged(call, "below_minimum", cached, words="prompts of this model are not cached")
    if not cached and tokens < rule.minimum_tokens:
        return _too_short(call)
    live = there.get("live")
    # Within a step, or what an estimate may err by, nothing was missed: what was read is what could be.
    missed = live is not None and _is_more(rule, live.tokens, live.estimated, cached)
    ceiling = min(tokens, live.readable) if live is not None and missed else cached
    ceiling = max(cached, ceiling)
    causes = list(_causes(call, there, replay, cached, ceiling))
    worst = max(causes, key=lambda cause: cause.gain, default=None)
    if worst is None:
        if cached:
            return Judged(call, "hit", ceiling, words="all that could be read was read")
        whole_but_short = (
            each.at == len(each.entry.call.chain) - 1 and each.tokens < rule.minimum_tokens for each in there.values()
        )
        if any(whole_but_short):
            least = f"{rule.minimum_tokens:,}"
            words = f"what it has in common with earlier prompts is shorter than {least} tokens"
            return Judged(call, "below_minimum", ceiling, sureness=0.9, words=words)
        return Judged(call, "first_call", ceiling, words="no earlier prompt begins like it")
    return _judged(call, worst, cached, ceiling)


def _is_more(rule: CacheRule, tokens: float, estimated: float, than: int) -> bool:
    """Whether more than was read can be read of so many tokens, also where the estimate is too high."""
    return rule.readable(tokens - _ANSWER_BEGINS - _UNSURE * estimated) > than


def _causes(
    call: Call,
    there: dict[str, _Found],
    replay: _Replay,
    cached: int,
    ceiling: int,
) -> Iterable[_Cause]:
    """What may be at fault: whatever would have let more be read, by more than an estimate may err."""
    rule, live, have = call.rule, there.get("live"), ceiling
    if live is not None and ceiling > cached:
        verdict: Verdict = "partial_hit" if cached else "provider_miss"
        yield _Cause(verdict, live.readable, live.readable - cached, not live.estimated, live.entry.call)
    # The newest prompt that begins like it is a beginning of it; of breakpoints only those who wrote one are known.
    whole = rule.matching == "prefix" and live is not None and live.at == len(live.entry.call.chain) - 1
    if not whole:
        best: _Cause | None = None
        for other in replay.earlier(call):
            if rule.matching != "prefix" and live is not None and call.chain[live.at] not in other.chain[live.at :][:1]:
                continue  # back from a side branch, to what was sent before it
            parted = divergence(call, other, replay.marks(other))
            if parted is None:
                continue
            readable = rule.readable(parted.tokens)
            if _is_more(rule, parted.tokens, parted.estimated, have) and (best is None or readable > best.readable):
                best = _Cause("prefix_changed", readable, readable - have, False, other, parted)
        if best is not None:
            yield best
    for kind, verdict in _ELSEWHERE:
        elsewhere = there.get(kind)
        if kind == "model and key" and ("model" in there or "key" in there):
            continue
        if elsewhere is None or not _is_more(rule, elsewhere.tokens, elsewhere.estimated, have):
            continue
        gain = elsewhere.readable - have
        # Back from there, a conversation finds most of what it had here before: that is no fault of this call.
        away = live is None or elsewhere.uses > live.uses
        if kind == "expired" or away or gain > _MOST * elsewhere.readable:
            yield _Cause(verdict, elsewhere.readable, gain, not elsewhere.estimated, elsewhere.entry.call)
    under_way = there.get("concurrent")
    if under_way is not None and _is_more(rule, under_way.tokens, under_way.estimated, have):
        gain, compared = under_way.readable - have, under_way.entry.call
        yield _Cause("provider_miss", under_way.readable, gain, not under_way.estimated, compared, concurrent=True)


def _judged(call: Call, cause: _Cause, cached: int, ceiling: int) -> Judged:
    gap = max(0.0, call.began - cause.compared.began)
    sure = 0.95 if cause.exact else 0.85
    if not call.rule.published:
        sure *= 0.7
    if not cause.compared.own:
        sure *= 0.9
    if cause.verdict == "expired" and gap <= call.rule.ttl_max_s:
        sure *= 0.9
    if cause.verdict in ("provider_miss", "partial_hit"):
        sure *= 0.4 if cause.concurrent else 0.9
    return Judged(
        call,
        cause.verdict,
        ceiling,
        lost=max(0, min(cause.readable, call.row["prompt_tokens"]) - cached),
        sureness=round(sure, 2),
        compared=cause.compared,
        gap_s=gap,
        divergence=cause.divergence,
        concurrent=cause.concurrent,
        words=_words(call, cause, gap),
    )


def _words(call: Call, cause: _Cause, gap: float) -> str:
    if cause.divergence is not None:
        where, change = segment_words(cause.divergence.segment), cause.divergence.change
        plural = "were" if where == "tools" else "was"
        return f"{where} {plural} {change}; what comes after it could not be read"
    if cause.verdict == "expired":
        lifetime = call.rule.lifetime_s(call.fingerprint.retention if call.fingerprint else None)
        return f"{_span(gap)} since the last call that began like it; an entry can be counted on for {_span(lifetime)}"
    if cause.verdict == "model_changed":
        return f"the same beginning was sent to {cause.compared.row['model']}; each model has a cache of its own"
    if cause.verdict == "key_changed":
        return "the same beginning was sent under another prompt_cache_key"
    if cause.concurrent:
        return "the earlier call was still being answered, so there was nothing to read yet"
    read = "only a part of it was read" if cause.verdict == "partial_hit" else "nothing was read"
    return f"an earlier call {_span(gap)} before began alike, and {read}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


# -- where a cache may be read, and what a call writes --------------------------------------------------------------


def _readable_places(call: Call) -> Sequence[int]:
    """The segments after whose end a beginning may be found."""
    if call.rule.matching == "prefix":
        return range(len(call.chain))
    explicit = call.fingerprint is not None and call.fingerprint.explicit
    ends = set(_marks(call)) | (set() if explicit else set(_turns(call)))
    return sorted(ends)[-_BREAKPOINTS_READ:]


def _written_places(call: Call) -> Sequence[int]:
    """The segments after whose end the call leaves a beginning."""
    if call.rule.matching == "prefix":
        return range(len(call.chain))
    marks = _marks(call)
    if call.fingerprint is not None and call.fingerprint.explicit:
        return marks[-_WRITTEN:]
    return sorted({*marks[1 - _WRITTEN :], *_turns(call)[-1:]})


def _begun(call: Call) -> int:
    """Where the first message of a user ends: what begins like it is the same conversation, mostly."""
    return next((place for place, segment in enumerate(call.segments) if segment.kind == "user"), 0)


def _marks(call: Call) -> list[int]:
    return [place for place, segment in enumerate(call.segments) if segment.breakpoint]


def _turns(call: Call) -> list[int]:
    """Where messages of users and tools end."""
    segments: Sequence[Segment] = call.segments
    return [
        place
        for place, segment in enumerate(segments)
        if segment.kind in ("user", "tool")
        and (place + 1 == len(segments) or segments[place + 1].message != segment.message)
    ]
