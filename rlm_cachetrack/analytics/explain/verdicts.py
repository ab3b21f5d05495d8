"""Determine the verdict of each call, from a replay of all calls against the provider's cache rules. Pure.

The ceiling of a call is the number of tokens that the rules allowed it to read, given the earlier calls and their
times. If more could have been read under other conditions, the verdict is the condition that cost the most tokens. A
provider's own reason takes precedence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rlm_cachetrack.fingerprint import Segment

from .chains import Call
from .divergence import Divergence, PromptVariants, find_divergence
from .provider_reason import TOOLS_CHANGED, ProviderReason, provider_reason, says_hit
from .replay import LIVE, Match, Obstacles, Replay, Unmarked
from .sentences import cause_words

Verdict = Literal[
    "first_call",
    "below_minimum",
    "prefix_changed",
    "settings_changed",
    "context_compacted",
    "expired",
    "model_changed",
    "key_changed",
    "breakpoint_missing",
    "concurrent",
    "provider_miss",
    "hit",
    "partial_hit",
    "not_reported",
    "unknown",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_TEXT_FORMAT = "text_format"
_LARGE_LOSS = 0.5  # the share of the tokens in the cache of another model, key or setting
_NEARLY_EQUAL = 0.9
_MISSES = ("provider_miss", "partial_hit")


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
        divergence: Where the prompts differ; set only if a part of the prompt changed.
        setting: The setting that changed.
        unmarked: The last segment of a prefix that was sent before but not cached, because no breakpoint ended it.
        unmarked_tokens: Tokens that could have been read with a breakpoint there.
        is_continuation: Whether that prefix is a whole earlier prompt, which the call continues.
        reason: The reason that the provider returned; ``own_verdict`` is the verdict without it.
        agrees: Whether the provider's diagnosis and the verdict without it agree; None without a diagnosis.
        words: The verdict in a sentence.
        previous: The previous call whose prompt it continues or changes; None without one.
    """

    call: Call
    verdict: Verdict
    ceiling: int
    lost: int = 0
    confidence: float = 1.0
    compared: Call | None = None
    gap_s: float | None = None
    divergence: Divergence | None = None
    setting: str | None = None
    unmarked: Segment | None = None
    unmarked_tokens: int = 0
    is_continuation: bool = False
    reason: ProviderReason | None = None
    own_verdict: Verdict | None = None
    agrees: bool | None = None
    words: str = ""
    previous: Call | None = None


@dataclass(slots=True)
class Cause:
    """A condition under which more could have been read. ``gain`` is the number of tokens above the ceiling."""

    verdict: Verdict
    readable: int
    gain: int
    compared: Call
    is_certain: bool = True
    divergence: Divergence | None = None
    setting: str | None = None


def judge(calls: Sequence[Call]) -> list[JudgedCall]:
    """Determine the verdict of each call of the explained run.

    Args:
        calls: All calls in order of time, with their chains and tokens.
    """
    replay, variants, found = Replay(), PromptVariants(calls), []
    for call in calls:
        matches = replay.look_up(call) if _is_looked_up(call) else {}
        if call.own:
            judged = _judge(call, matches, replay, variants)
            longest = max(matches.values(), key=lambda match: match.index, default=None)
            judged.previous = judged.compared or (None if longest is None else longest.entry.call)
            found.append(_with_provider_reason(judged))
        replay.record(call, matches.get(LIVE) if call.row["cached_tokens"] else None)
    return found


def _is_looked_up(call: Call) -> bool:
    """Return True if the replay must compare the call with earlier ones."""
    if not call.chain or not call.ends:
        return False
    # Calls of other runs matter only if they read the entry of a breakpoint and thereby extend its lifetime.
    return bool(call.own or (call.rule.matching in ("breakpoints", "units") and call.row["cached_tokens"]))


def _judge(call: Call, matches: dict[Obstacles, Match], replay: Replay, variants: PromptVariants) -> JudgedCall:
    cached, tokens, rule = call.row["cached_tokens"], call.row["prompt_tokens"], call.rule
    if cached is None:
        words = "the call failed" if not call.row["success"] else "the server did not report its cache use"
        return JudgedCall(call, "not_reported", 0, words=words)
    has_chain = bool(call.chain and call.ends)
    if has_chain and rule.matching == "none":
        return JudgedCall(call, "below_minimum", cached, words="prompts of this model are not cached")
    if tokens is not None and not cached and tokens < rule.minimum_tokens:
        if call.is_compacted and call.options.get("context_management"):
            words = (
                f"the provider compacted the context to less than the {rule.minimum_tokens:,} tokens that are cached"
            )
            return JudgedCall(call, "context_compacted", 0, confidence=0.9, words=words)
        words = f"prompts of fewer than {rule.minimum_tokens:,} tokens are not cached"
        return JudgedCall(call, "below_minimum", 0, words=words)
    if not has_chain:
        reason = "the prompt has no fingerprint" if call.fingerprint is None else "its token count is not known"
        return JudgedCall(call, "unknown", cached, words=f"{reason}, so it cannot be compared")
    ceiling = _ceiling(call, matches.get(LIVE))
    causes = list(_causes(call, matches, replay, variants, ceiling))
    cause = _main_cause(causes)
    unmarked = replay.unmarked(call, ceiling)
    if unmarked is not None and not cached and (cause is None or unmarked.tokens > cause.gain):
        return _without_breakpoint(call, ceiling, unmarked)
    if cause is not None:
        return _judged(call, _compacted(call, cause), ceiling)
    judged = _without_cause(call, matches.values(), replay, ceiling)
    if unmarked is not None:
        judged.unmarked, judged.unmarked_tokens, judged.is_continuation = unmarked
    return judged


def _main_cause(causes: Sequence[Cause]) -> Cause | None:
    """Return the cause that cost the most; of nearly equal ones the one that is not based on a changed prompt."""
    most = max((cause.gain for cause in causes), default=0)
    nearly = [cause for cause in causes if cause.gain >= _NEARLY_EQUAL * most]
    return min(nearly, key=lambda cause: (cause.divergence is not None, -cause.gain), default=None)


def _ceiling(call: Call, live: Match | None) -> int:
    """Compute the readable tokens. A difference within a caching step or an estimate's error is not a miss."""
    cached: int = call.row["cached_tokens"]
    if live is None or not call.rule.surely_reads_more(live.low, cached):
        return cached
    prompt: int = call.row["prompt_tokens"]
    return max(cached, min(prompt, live.readable))


def _without_breakpoint(call: Call, ceiling: int, unmarked: Unmarked) -> JudgedCall:
    tokens = unmarked.tokens
    why = "no breakpoint ends there"
    if call.options.get("cache_mode") == "explicit" and not any(each.breakpoint for each in call.segments):
        why = "prompt_cache_options.mode is explicit and the request has no breakpoint"
    return JudgedCall(
        call,
        "breakpoint_missing",
        ceiling,
        lost=max(0, min(ceiling + tokens, call.row["prompt_tokens"]) - call.row["cached_tokens"]),
        confidence=0.9,
        unmarked=unmarked.segment,
        unmarked_tokens=tokens,
        is_continuation=unmarked.is_whole,
        words=f"the same beginning was sent before, but {why}",
    )


def _without_cause(call: Call, matches: Iterable[Match], replay: Replay, ceiling: int) -> JudgedCall:
    minimum = call.rule.minimum_tokens
    if call.row["cached_tokens"]:
        return JudgedCall(call, "hit", ceiling, words="everything that could be read from the cache was read")
    if (before := _before_compaction(call, replay)) is not None:
        readable = min(call.rule.readable(before.row["prompt_tokens"] or 0), call.row["prompt_tokens"])
        return _judged(call, Cause("context_compacted", readable, readable - ceiling, before), ceiling)
    if any(match.index == len(match.entry.call.chain) - 1 and match.tokens < minimum for match in matches):
        words = f"the part shared with earlier prompts is shorter than {minimum:,} tokens"
        return JudgedCall(call, "below_minimum", ceiling, confidence=0.9, words=words)
    if call.is_continued_unseen:
        words = "it continues a response that was not recorded, so it cannot be compared"
        return JudgedCall(call, "unknown", ceiling, words=words)
    return JudgedCall(call, "first_call", ceiling, words="no earlier prompt has the same beginning")


# -- causes --------------------------------------------------------------------------------------------------------


def _causes(
    call: Call, matches: dict[Obstacles, Match], replay: Replay, variants: PromptVariants, ceiling: int
) -> Iterator[Cause]:
    """Yield every condition under which more tokens could have been read, beyond the error of an estimate."""
    cached, live = call.row["cached_tokens"], matches.get(LIVE)
    if live is not None and ceiling > cached:
        verdict: Verdict = "partial_hit" if cached else "provider_miss"
        yield Cause(verdict, live.readable, live.readable - cached, live.entry.call, live.is_guaranteed)
    if (changed := _changed_prefix(call, live, replay, variants, ceiling)) is not None:
        yield changed
    yield from _elsewhere(call, matches, ceiling)


def _changed_prefix(
    call: Call, live: Match | None, replay: Replay, variants: PromptVariants, ceiling: int
) -> Cause | None:
    """Find the earlier state of the conversation whose difference from the prompt costs the most."""
    prefix = call.rule.matching != "breakpoints"
    if prefix and live is not None and live.index == len(live.entry.call.chain) - 1:
        return None  # the newest prompt with the same beginning is a prefix of this one
    best: Cause | None = None
    for other in replay.earlier_states(call):
        if not prefix and live is not None and call.chain[live.index] not in other.chain[live.index :][:1]:
            continue  # the call returns from a side branch to the prompt before the branch
        found = find_divergence(call, other, variants, replay.cached_ends(other))
        if found is None or not call.rule.surely_reads_more(found.low, ceiling):
            continue
        readable = call.rule.readable(found.tokens)
        if best is None or readable > best.readable:
            is_format = found.part.kind == "response_format"
            verdict: Verdict = "settings_changed" if is_format else "prefix_changed"
            setting = _TEXT_FORMAT if is_format else None
            best = Cause(verdict, readable, readable - ceiling, other, False, found, setting)
    return best


def _elsewhere(call: Call, matches: dict[Obstacles, Match], ceiling: int) -> Iterator[Cause]:
    """Yield the matches that cannot be read: expired, not finished, or of another model, key or setting."""
    live = matches.get(LIVE)
    # Matches with the fewest obstacles come first, because the first of equal gains is used.
    for obstacles, match in sorted(matches.items(), key=lambda each: len(each[0])):
        if not obstacles or not call.rule.surely_reads_more(match.low, ceiling):
            continue
        gain = match.readable - ceiling
        moved = live is None or live.index < call.message_start or match.conversation_calls > live.conversation_calls
        is_elsewhere = not obstacles & {"expired", "concurrent"}
        # A conversation that returns to this cache finds most of its earlier entries, so the return itself costs
        # little.
        if is_elsewhere and not moved and gain <= _LARGE_LOSS * match.readable:
            continue
        compared = match.entry.call
        yield Cause(*_verdict_of(call, compared, obstacles, match.readable, gain))


def _verdict_of(
    call: Call, compared: Call, obstacles: Obstacles, readable: int, gain: int
) -> tuple[Verdict, int, int, Call, bool, None, str | None]:
    setting = None
    if "expired" in obstacles:
        verdict: Verdict = "expired"
    elif "concurrent" in obstacles:
        verdict = "concurrent"
    elif "model" in obstacles:
        verdict = "model_changed"
    elif "key" in obstacles:
        verdict = "key_changed"
    else:
        verdict, setting = "settings_changed", changed_setting(call, compared)
    return verdict, readable, gain, compared, True, None, setting


def changed_setting(call: Call, compared: Call) -> str | None:
    """Return the first setting that differs, in the order in which the provider's rules name them."""
    for name, one, other in zip(call.rule.all_settings, call.settings, compared.settings, strict=False):
        if one != other:
            return name
    return None


# -- compaction -------------------------------------------------------------------------------------------------------


def _compacted(call: Call, cause: Cause) -> Cause:
    """Return the cause, or a compaction of the context if that is the reason for it."""
    if cause.verdict not in (*_MISSES, "prefix_changed"):
        return cause
    asked = any(each.options.get("context_management") for each in (call, cause.compared))
    item = bool(_compactions(call) - _compactions(cause.compared))
    if not item and not (asked and (call.is_compacted or cause.verdict in _MISSES)):
        return cause
    return Cause("context_compacted", cause.readable, cause.gain, cause.compared, item or call.is_compacted)


def _before_compaction(call: Call, replay: Replay) -> Call | None:
    """Return the previous call if the call contains a compaction result that the previous one did not contain."""
    found = _compactions(call)
    before = replay.previous(call) if found else None
    return before if before is not None and found - _compactions(before) else None


def _compactions(call: Call) -> set[bytes]:
    return {segment.digest for segment in call.segments if segment.kind == "compaction"}


# -- the verdict ------------------------------------------------------------------------------------------------------


def _judged(call: Call, cause: Cause, ceiling: int) -> JudgedCall:
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
        setting=cause.setting,
        words=cause_words(call, cause, gap),
    )


def _confidence(call: Call, cause: Cause, gap: float) -> float:
    confidence = 0.85 if cause.divergence is not None else 0.95
    if not call.rule.published:
        confidence *= 0.7
    if not cause.compared.own:
        confidence *= 0.9
    if cause.verdict == "expired" and gap <= call.lifetime.longest_s:
        confidence *= 0.7  # it may have been kept for longer
    if cause.verdict in _MISSES:
        confidence *= 0.9 if cause.is_certain else 0.5
    if cause.verdict == "context_compacted" and not cause.is_certain:
        confidence *= 0.6
    return round(confidence, 2)


def _with_provider_reason(judged: JudgedCall) -> JudgedCall:
    """Replace the verdict with the reason that the provider returned, if it returned one."""
    row = judged.call.row
    diagnostics = row.get("cache_diagnostics")
    reason = provider_reason(diagnostics)
    if row["cached_tokens"] is None:
        return judged
    if reason is None:
        judged.agrees = judged.verdict == "hit" if says_hit(diagnostics) else None
        return judged
    judged.agrees = _agrees(judged, reason)
    judged.reason, judged.own_verdict = reason, judged.verdict
    if judged.verdict != reason.verdict:
        judged.verdict, judged.words = reason.verdict, f"the provider's reason: {reason.words}"
        left = max(0, (row["prompt_tokens"] or 0) - row["cached_tokens"])
        judged.lost = judged.lost or min(left, reason.missed_tokens)
        judged.divergence, judged.unmarked, judged.unmarked_tokens = None, None, 0
    judged.setting, judged.confidence = reason.setting or judged.setting, 1.0
    return judged


def _agrees(judged: JudgedCall, reason: ProviderReason) -> bool:
    """Return True if the verdict names the same cause as the provider."""
    if judged.verdict != reason.verdict or reason.setting not in (None, judged.setting):
        return False
    if judged.divergence is None:
        return True
    return (judged.divergence.part.kind == "tool_definition") == (reason.name == TOOLS_CHANGED)
