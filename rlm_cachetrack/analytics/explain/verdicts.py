"""Determine the verdict of each call, from a replay of all calls against the provider's cache rules. Pure.

The ceiling of a call is the number of tokens that the rules allowed it to read, given the earlier calls and their
times. If more could have been read under other conditions, the verdict is the condition that cost the most tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from rlm_cachetrack.fingerprint import Segment

from .chains import Call, Chains
from .divergence import Divergence, find_divergence, segment_words
from .replay import Match, MatchKind, Replay, reads_more

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

_ELSEWHERE: tuple[tuple[MatchKind, Verdict], ...] = (
    ("expired", "expired"),
    ("key", "key_changed"),
    ("model", "model_changed"),
    ("model and key", "model_changed"),
)
_LARGE_LOSS = 0.5  # the share of the tokens in the cache of another model or key


@dataclass(slots=True)
class JudgedCall:
    """A call and its verdict.

    Attributes:
        call: The call.
        verdict: The cache miss reason, or ``hit``.
        ceiling: Tokens that the rules allowed to be read, given the earlier calls and their times.
        lost: Further tokens that could have been read without the cause.
        confidence: The confidence of the verdict, 0-1.
        compared: The earlier call that it was compared with.
        gap_s: Seconds since that call.
        divergence: Where the prompts differ; set only for ``prefix_changed``.
        concurrent: Whether the earlier call was still in progress.
        unmarked: The last segment of a prefix that was sent before but not cached, because no breakpoint ended it.
        unmarked_tokens: Tokens that could have been read with a breakpoint there.
        words: The verdict in a sentence.
    """

    call: Call
    verdict: Verdict
    ceiling: int
    lost: int = 0
    confidence: float = 1.0
    compared: Call | None = None
    gap_s: float | None = None
    divergence: Divergence | None = None
    concurrent: bool = False
    unmarked: Segment | None = None
    unmarked_tokens: int = 0
    words: str = ""


@dataclass(slots=True)
class _Cause:
    """A condition under which more could have been read. ``gain`` is the number of tokens above the ceiling."""

    verdict: Verdict
    readable: int
    gain: int
    exact: bool
    compared: Call
    divergence: Divergence | None = None
    concurrent: bool = False


def judge(chains: Chains) -> list[JudgedCall]:
    """Determine the verdict of each call of the explained run, in order of time."""
    replay, found = Replay(), []
    for call in chains.calls:
        matches = replay.look_up(call) if _is_looked_up(call) else {}
        if call.own:
            judged = _judge(call, matches, replay)
            if judged.verdict in ("hit", "first_call") and (more := replay.unmarked(call, judged.ceiling)) is not None:
                judged.unmarked, judged.unmarked_tokens = more
            found.append(judged)
        replay.record(call, matches.get("live") if call.row["cached_tokens"] else None)
    return found


def _is_looked_up(call: Call) -> bool:
    """Return True if the replay needs to know what the call shares with earlier ones."""
    if not call.chain or not call.ends:
        return False
    # Calls of other runs matter only if they read the entry of a breakpoint and thereby extend its lifetime.
    return bool(call.own or (call.rule.matching == "breakpoints" and call.row["cached_tokens"]))


def _judge(call: Call, matches: dict[MatchKind, Match], replay: Replay) -> JudgedCall:
    cached, tokens, rule = call.row["cached_tokens"], call.row["prompt_tokens"], call.rule
    if cached is None:
        words = "the call failed" if not call.row["success"] else "the server did not report its cache use"
        return JudgedCall(call, "not_reported", 0, words=words)
    has_chain = bool(call.chain and call.ends)
    if has_chain and rule.matching == "none":
        return JudgedCall(call, "below_minimum", cached, words="prompts of this model are not cached")
    if tokens is not None and not cached and tokens < rule.minimum_tokens:
        words = f"prompts of less than {rule.minimum_tokens:,} tokens are not cached"
        return JudgedCall(call, "below_minimum", 0, words=words)
    if not has_chain:
        reason = "the prompt has no fingerprint" if call.fingerprint is None else "its token count is not known"
        return JudgedCall(call, "not_fingerprinted", cached, words=f"{reason}, so it cannot be compared")
    ceiling = _ceiling(call, matches.get("live"))
    cause = max(_causes(call, matches, replay, ceiling), key=lambda cause: cause.gain, default=None)
    if cause is not None:
        return _judged(call, cause, ceiling)
    if cached:
        return JudgedCall(call, "hit", ceiling, words="everything that could be read was read")
    return _without_cause(call, matches.values(), ceiling)


def _ceiling(call: Call, live: Match | None) -> int:
    """Compute the readable tokens. A difference within a caching step or an estimate's error is not a miss."""
    cached: int = call.row["cached_tokens"]
    if live is None or not reads_more(call.rule, live.tokens, live.estimated, cached):
        return cached
    prompt: int = call.row["prompt_tokens"]
    return max(cached, min(prompt, live.readable))


def _without_cause(call: Call, matches: Iterable[Match], ceiling: int) -> JudgedCall:
    minimum = call.rule.minimum_tokens
    if any(match.index == len(match.entry.call.chain) - 1 and match.tokens < minimum for match in matches):
        words = f"the part shared with earlier prompts is shorter than {minimum:,} tokens"
        return JudgedCall(call, "below_minimum", ceiling, confidence=0.9, words=words)
    return JudgedCall(call, "first_call", ceiling, words="no earlier prompt has the same beginning")


# -- causes --------------------------------------------------------------------------------------------------------


def _causes(call: Call, matches: dict[MatchKind, Match], replay: Replay, ceiling: int) -> Iterator[_Cause]:
    """Yield every condition under which more tokens could have been read, beyond the error of an estimate."""
    cached, live = call.row["cached_tokens"], matches.get("live")
    if live is not None and ceiling > cached:
        verdict: Verdict = "partial_hit" if cached else "provider_miss"
        yield _Cause(verdict, live.readable, live.readable - cached, not live.estimated, live.entry.call)
    if (changed := _changed_prefix(call, live, replay, ceiling)) is not None:
        yield changed
    yield from _elsewhere(call, matches, ceiling)
    concurrent = matches.get("concurrent")
    if concurrent is not None and reads_more(call.rule, concurrent.tokens, concurrent.estimated, ceiling):
        gain, exact = concurrent.readable - ceiling, not concurrent.estimated
        yield _Cause("provider_miss", concurrent.readable, gain, exact, concurrent.entry.call, concurrent=True)


def _changed_prefix(call: Call, live: Match | None, replay: Replay, ceiling: int) -> _Cause | None:
    """Find the earlier state of the conversation from which the prompt differs at the greatest cost."""
    prefix = call.rule.matching == "prefix"
    if prefix and live is not None and live.index == len(live.entry.call.chain) - 1:
        return None  # the newest prompt with the same beginning is a prefix of this one
    best: _Cause | None = None
    for other in replay.earlier_states(call):
        if not prefix and live is not None and call.chain[live.index] not in other.chain[live.index :][:1]:
            continue  # the call returns from a side branch to the prompt before the branch
        found = find_divergence(call, other, replay.readable_ends(other))
        if found is None or not reads_more(call.rule, found.tokens, found.estimated, ceiling):
            continue
        readable = call.rule.readable(found.tokens)
        if best is None or readable > best.readable:
            best = _Cause("prefix_changed", readable, readable - ceiling, False, other, found)
    return best


def _elsewhere(call: Call, matches: dict[MatchKind, Match], ceiling: int) -> Iterator[_Cause]:
    """Yield the matches in the cache of another key or model, and the expired ones."""
    live = matches.get("live")
    for kind, verdict in _ELSEWHERE:
        match = matches.get(kind)
        if match is None or (kind == "model and key" and ("model" in matches or "key" in matches)):
            continue
        if not reads_more(call.rule, match.tokens, match.estimated, ceiling):
            continue
        gain = match.readable - ceiling
        # A conversation that returns to this cache finds most of its earlier entries, so the return itself costs
        # little.
        moved = live is None or match.conversation_calls > live.conversation_calls
        if kind == "expired" or moved or gain > _LARGE_LOSS * match.readable:
            yield _Cause(verdict, match.readable, gain, not match.estimated, match.entry.call)


def _judged(call: Call, cause: _Cause, ceiling: int) -> JudgedCall:
    gap = max(0.0, call.began - cause.compared.began)
    return JudgedCall(
        call,
        cause.verdict,
        ceiling,
        lost=max(0, min(cause.readable, call.row["prompt_tokens"]) - call.row["cached_tokens"]),
        confidence=_confidence(call, cause, gap),
        compared=cause.compared,
        gap_s=gap,
        divergence=cause.divergence,
        concurrent=cause.concurrent,
        words=_words(call, cause, gap),
    )


def _confidence(call: Call, cause: _Cause, gap: float) -> float:
    confidence = 0.95 if cause.exact else 0.85
    if not call.rule.published:
        confidence *= 0.7
    if not cause.compared.own:
        confidence *= 0.9
    if cause.verdict == "expired" and gap <= call.rule.ttl_max_s:
        confidence *= 0.9
    if cause.verdict in ("provider_miss", "partial_hit"):
        confidence *= 0.4 if cause.concurrent else 0.9
    return round(confidence, 2)


def _words(call: Call, cause: _Cause, gap: float) -> str:
    if cause.divergence is not None:
        part, change = segment_words(cause.divergence.segment), cause.divergence.change
        verb = "were" if part == "tools" else "was"
        return f"{part} {verb} {change}; nothing after this point could be read"
    if cause.verdict == "expired":
        kept = _span(call.lifetime_s)
        return f"{_span(gap)} passed since the last call with the same beginning; entries are kept for {kept}"
    if cause.verdict == "model_changed":
        return f"the same beginning was sent to {cause.compared.row['model']}; each model has its own cache"
    if cause.verdict == "key_changed":
        return "the same beginning was sent with another prompt_cache_key"
    if cause.concurrent:
        return "the earlier call was still in progress, so there was nothing to read yet"
    read = "only a part of it was read" if cause.verdict == "partial_hit" else "nothing was read"
    return f"a call {_span(gap)} earlier has the same beginning, but {read}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
