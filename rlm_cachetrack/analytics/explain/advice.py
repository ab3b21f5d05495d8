"""Advice against cache misses: rules over the verdicts of a run, each with the money at stake. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict

from .chains import CacheLocation
from .divergence import segment_words
from .verdicts import JudgedCall

_CALLS_PER_MINUTE = 15
"""Calls per minute with one cache key that one OpenAI machine serves.

Source: the page that ``cache_rules.yaml`` names for OpenAI.
"""
_LEAST_CALLS = 2
_LEAST_USD = 1e-9


class CacheAdvice(TypedDict):
    """One recommendation.

    ``rule`` is the name of the advice, ``segment`` the part of the prompt it concerns (``system prompt``, ``tools``,
    ``message 3 (user)``) or None. ``tokens_at_stake`` and ``usd_at_stake`` are what its ``calls`` lost; USD is None if
    no call has a price. ``interaction_ids`` names up to ten of the calls.
    """

    rule: str
    words: str
    segment: str | None
    calls: int
    tokens_at_stake: int
    usd_at_stake: float | None
    interaction_ids: list[str]


def usd_lost(judged: JudgedCall, tokens: int | None = None) -> float | None:
    """Compute the extra cost of lost tokens compared with reading them from the cache, in USD; None if unpriced."""
    row = judged.call.row
    lost = judged.lost if tokens is None else tokens
    prompt, cached = row["prompt_token_price"], row["cached_token_price"]
    if prompt is None:
        return None
    read = prompt if cached is None else cached
    written = min(lost, row["cache_write_tokens"] or 0)
    write = row["cache_write_token_price"]
    premium = 0.0 if write is None else write - prompt
    return float(lost * (prompt - read) + written * premium) / 1000


def advise(judged: Sequence[JudgedCall]) -> list[CacheAdvice]:
    """Return the recommendations, the one with most at stake first."""
    found = [advice for rule in _RULES for advice in rule(judged) if advice["tokens_at_stake"] > 0]
    return sorted(found, key=lambda each: (-(each["usd_at_stake"] or 0.0), -each["tokens_at_stake"], each["rule"]))


def _advice(
    rule: str, words: str, about: Sequence[JudgedCall], segment: str | None = None, usd: float | None = None
) -> CacheAdvice:
    costs = [cost for each in about if (cost := usd_lost(each)) is not None]
    return {
        "rule": rule,
        "words": words,
        "segment": segment,
        "calls": len(about),
        "tokens_at_stake": sum(each.lost for each in about),
        "usd_at_stake": usd if usd is not None else (math.fsum(costs) if costs else None),
        "interaction_ids": [str(each.call.row["interaction_id"]) for each in about[:10]],
    }


def _changed(judged: Iterable[JudgedCall], *changes: str) -> dict[str, list[JudgedCall]]:
    found: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        if each.divergence is not None and each.divergence.change in changes:
            found[segment_words(each.divergence.segment)].append(each)
    return found


def _move_behind(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    for segment, about in _changed(judged, "edited", "added").items():
        verb = "change" if segment == "tools" else "changes"
        words = (
            f"{segment} {verb} from call to call, so everything after it is billed in full: keep the fixed part "
            "unchanged and move variable parts (a date, a counter, retrieved text) behind it, ideally into the last "
            "message"
        )
        yield _advice("move_changing_part", words, about, segment)


def _order_of_tools(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    for segment, about in _changed(judged, "reordered").items():
        what = "the tools" if segment == "tools" else "the messages"
        words = f"{what} are in a different order from call to call: sort them once and keep the order"
        yield _advice("stop_reordering", words, about, segment)


def _history(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for group in _changed(judged, "shortened").values() for each in group]
    if about:
        words = (
            "messages are dropped from the middle of the history, so everything after them is billed in full: drop "
            "many at once and rarely, rather than one at every call"
        )
        yield _advice("drop_history_seldom", words, about)


def _keys(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.verdict == "key_changed"]
    if about:
        words = "the same beginning is sent with several prompt_cache_keys: use one key for all of these prompts"
        yield _advice("share_prompt_cache_key", words, about)
    missed = [each for each in judged if each.verdict in ("provider_miss", "partial_hit") and not each.concurrent]
    without = [each for each in missed if each.call.key is None and each.call.rule.needs_key]
    if without:
        words = "prompts with the same beginning went to different machines: set one prompt_cache_key for all of them"
        yield _advice("set_prompt_cache_key", words, without)
    busy = _busy(judged)
    crowded = [each for each in missed if each.call.key is not None and each.call.location in busy]
    if crowded:
        most = max(busy[each.call.location] for each in crowded)
        words = (
            f"up to {most} calls per minute share one prompt_cache_key, and above about {_CALLS_PER_MINUTE} they "
            "overflow to machines without their cache: split the key, by user or by conversation"
        )
        yield _advice("split_prompt_cache_key", words, crowded)


def _busy(judged: Sequence[JudgedCall]) -> dict[CacheLocation, int]:
    """Return the caches that had more calls in one minute than one machine serves, and that number of calls."""
    counts = Counter((each.call.location, int(each.call.began // 60)) for each in judged)
    busy: dict[CacheLocation, int] = {}
    for (location, _), count in counts.items():
        if count > _CALLS_PER_MINUTE:
            busy[location] = max(count, busy.get(location, 0))
    return busy


def _models(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.verdict == "model_changed"]
    if about:
        names = sorted({str(each.call.row["model"]) for each in about})
        words = (
            f"conversations move between models ({', '.join(names)}), and each model has its own cache: use one model "
            "per conversation, or give the other model its own prompt"
        )
        yield _advice("stay_with_one_model", words, about)


def _pauses(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.verdict == "expired"]
    longer = [each for each in about if any(s >= (each.gap_s or 0) for s in each.call.rule.retention_s.values())]
    longer = [each for each in longer if each.call.fingerprint is not None and each.call.fingerprint.retention is None]
    if longer:
        words = 'pauses are longer than the cache keeps entries: request prompt_cache_retention="24h"'
        yield _advice("longer_retention", words, longer)
    kept = []
    saved = 0.0
    for each in about:
        cost, lost = _keeping_alive(each), usd_lost(each)
        if cost is not None and lost is not None and lost - cost > _LEAST_USD:
            kept.append(each)
            saved += lost - cost
    if kept:
        words = (
            "pauses are longer than the cache keeps entries: a short call with the same beginning, once per cache "
            "lifetime, keeps it cached for less than these calls lost (its cost is subtracted)"
        )
        yield _advice("keep_alive", words, kept, usd=saved)


def _keeping_alive(judged: JudgedCall) -> float | None:
    """Compute the USD for reading the beginning once per cache lifetime until the pause is over."""
    row = judged.call.row
    prompt, cached = row["prompt_token_price"], row["cached_token_price"]
    if prompt is None:
        return None
    times = math.floor((judged.gap_s or 0.0) / judged.call.rule.ttl_s)
    return float(times * judged.lost * (prompt if cached is None else cached)) / 1000


def _short(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    earlier: set[int] = set()
    about, tokens, costs = [], 0, []
    for each in judged:
        if each.verdict != "below_minimum" or not each.call.chain or not each.call.ends:
            continue
        shared = max(
            (end for chain, end in zip(each.call.chain, each.call.ends, strict=True) if chain in earlier), default=0
        )
        earlier.update(each.call.chain)
        if shared:
            about.append(each)
            tokens += int(shared)
            if (price := each.call.row["prompt_token_price"]) is not None:
                costs.append(shared * price / 1000)
    if about:
        least = f"{about[0].call.rule.minimum_tokens:,}"
        words = (
            f"prompts of less than {least} tokens are never cached, and these repeat a beginning: combine several "
            "questions into one prompt, so that the beginning is billed once"
        )
        advice = _advice("batch_short_prompts", words, about, usd=math.fsum(costs) if costs else None)
        yield {**advice, "tokens_at_stake": tokens}


def _warm_up(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.concurrent]
    if about:
        words = (
            "calls with the same beginning are sent at the same time, before the first one has filled the cache: send "
            "one, wait for its first token, then send the others"
        )
        yield _advice("send_one_first", words, about)


def _writes(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about, tokens, costs = [], 0, []
    for each in judged:
        written = each.call.row["cache_write_tokens"] or 0
        if not written or each.call.is_read_later:
            continue
        about.append(each)
        tokens += written
        prompt, write = each.call.row["prompt_token_price"], each.call.row["cache_write_token_price"]
        if prompt is not None and write is not None:
            costs.append(written * max(0.0, write - prompt) / 1000)
    if len(about) > 1:
        words = (
            "what these calls wrote to the cache was not read again in this run, and writes cost extra: mark what is "
            'worth caching with prompt_cache_breakpoint and turn the rest off with prompt_cache_options={"mode": '
            '"explicit"}'
        )
        advice = _advice("write_less", words, about, usd=math.fsum(costs) if costs else None)
        yield {**advice, "tokens_at_stake": tokens}


def _marks(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    found: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        if each.unmarked is not None:
            found[segment_words(each.unmarked)].append(each)
    for segment, about in found.items():
        if len(about) < _LEAST_CALLS:
            continue
        costs = [cost for each in about if (cost := usd_lost(each, each.unmarked_tokens)) is not None]
        words = (
            f"these prompts are equal up to {segment}, but no breakpoint ends there, so this part is billed in full "
            "each time: set prompt_cache_breakpoint behind it"
        )
        advice = _advice("mark_shared_beginning", words, about, segment, usd=math.fsum(costs) if costs else None)
        yield {**advice, "tokens_at_stake": sum(each.unmarked_tokens for each in about)}


_RULES: tuple[Callable[[Sequence[JudgedCall]], Iterable[CacheAdvice]], ...] = (
    _move_behind,
    _order_of_tools,
    _history,
    _keys,
    _models,
    _pauses,
    _short,
    _warm_up,
    _marks,
    _writes,
)
