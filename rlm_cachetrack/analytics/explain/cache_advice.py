"""Advice about cache keys, breakpoints, short prompts, simultaneous calls and unread writes. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from .advice_item import LEAST_SHARE, CacheAdvice, advice_item, priced, read_price, usd_lost, write_premium
from .chains import CacheLocation
from .divergence import segment_words
from .lifetime_advice import advise_lifetimes
from .verdicts import JudgedCall

_CALLS_PER_MINUTE = 15
"""Calls per minute with one cache key that one OpenAI machine serves.

Source: https://developers.openai.com/api/docs/guides/prompt-caching, read 2026-12-01.
"""
_LEAST_CALLS = 2
_LEAST_UNREAD_WRITES = 5


# -- keys -------------------------------------------------------------------------------------------------------------


def _keys(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.verdict == "key_changed"]
    if about and _most_per_minute(judged, about) <= _CALLS_PER_MINUTE:
        words = "the same beginning is sent with several prompt_cache_keys. Use one key for these prompts"
        yield advice_item("share_prompt_cache_key", words, about)
    missed = [each for each in judged if each.verdict in ("provider_miss", "partial_hit") and _is_guaranteed(each)]
    without = [each for each in missed if each.call.key is None and each.call.rule.key_routes]
    if len(without) >= _LEAST_CALLS and _most_per_minute(judged, without) <= _CALLS_PER_MINUTE:
        words = (
            "prompts with the same beginning were not found in the cache, probably because they went to different "
            "machines. Set one prompt_cache_key for them"
        )
        yield advice_item("set_prompt_cache_key", words, without)
    busy = _busy(judged)
    crowded = [each for each in missed if each.call.rule.key_routes and each.call.key and each.call.location in busy]
    if crowded:
        most = max(busy[each.call.location] for each in crowded)
        keys = math.ceil(most / _CALLS_PER_MINUTE)
        words = (
            f"up to {most} calls per minute share one prompt_cache_key, and above about {_CALLS_PER_MINUTE} they "
            f"overflow to machines without their cache. Use {keys} keys instead, and the same one for all calls of a "
            "conversation"
        )
        costs = [usd_lost(each) or 0.0 for each in crowded]
        usd = math.fsum(costs) - (keys - 1) * max(costs)  # each further key begins with an empty cache
        yield advice_item("split_prompt_cache_key", words, crowded, usd=usd if priced(crowded) else None)


def _is_guaranteed(judged: JudgedCall) -> bool:
    """Return True if the provider guarantees that the entry had not expired."""
    return (judged.gap_s or 0.0) <= judged.call.lifetime.guaranteed_s


def _most_per_minute(judged: Sequence[JudgedCall], about: Sequence[JudgedCall]) -> int:
    """Return the highest number of calls in one minute if all these calls used one key."""
    places = {each.call.location[:2] for each in about}
    counts = Counter(
        [(each.call.location[:2], int(each.call.began // 60)) for each in judged if each.call.location[:2] in places]
    )
    return max(counts.values(), default=0)


def _busy(judged: Sequence[JudgedCall]) -> dict[CacheLocation, int]:
    """Return the caches with more calls in one minute than one machine serves, and the highest such number."""
    counts = Counter([(each.call.location, int(each.call.began // 60)) for each in judged])
    busy: dict[CacheLocation, int] = {}
    for (location, _), count in counts.items():
        if count > _CALLS_PER_MINUTE:
            busy[location] = max(count, busy.get(location, 0))
    return busy


# -- prompts below the minimum, and simultaneous ones -----------------------------------------------------------------


def _short(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Advise to combine short prompts, unless they are the first turns of a conversation."""
    continued = {chain for each in judged for chain in each.call.chain[:-1]}
    earlier: set[int] = set()
    about, tokens, costs = [], 0, []
    for each in judged:
        call = each.call
        if each.verdict != "below_minimum" or not call.ends or call.rule.matching == "none":
            continue
        shared = max((end for chain, end in zip(call.chain, call.ends, strict=True) if chain in earlier), default=0)
        if call.chain[-1] in continued:
            continue
        earlier.update(call.chain)
        if shared:
            about.append(each)
            tokens += int(shared)
            if (price := call.row["prompt_token_price"]) is not None:
                costs.append(shared * price / 1000)
    if len(about) >= _LEAST_CALLS:
        least = f"{about[0].call.rule.minimum_tokens:,}"
        words = (
            f"prompts of fewer than {least} tokens are never cached, and these repeat a beginning. Combine several "
            "questions into one prompt, so that the beginning is billed once"
        )
        advice = advice_item("batch_short_prompts", words, about, usd=math.fsum(costs) if costs else None)
        yield {**advice, "tokens_at_stake": tokens}


def _send_one_first(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.verdict == "concurrent"]
    prewarmed = [each for each in about if each.call.rule.prewarm and each.call.row["api"] == "responses"]
    if prewarmed:
        words = (
            "groups of calls with the same beginning start before anything has filled the cache. Send the beginning "
            'alone with prompt_cache_options={"prewarm": true}, wait for the response, then start the group'
        )
        costs = [usd_lost(each) or 0.0 for each in prewarmed]
        usd = math.fsum(costs) - _first_reads(prewarmed) if priced(prewarmed) else None
        yield advice_item("prewarm", words, prewarmed, usd=usd)
    others = [each for each in about if each not in prewarmed]
    if others:
        words = (
            "calls with the same beginning are sent at the same time, before the first one has filled the cache. Send "
            "one, wait for its first token, then send the others"
        )
        if all(each.call.rule.matching == "units" for each in others):  # read after two prompts
            words = words.replace("Send one, wait for its first token", "Send two, one after the other")
        yield advice_item("send_one_first", words, others)


def _first_reads(about: Sequence[JudgedCall]) -> float:
    """Return the cost in USD of the reads by the first call of each group, which a call before the group adds."""
    groups: dict[int, int] = {}
    usd = 0.0
    for each in about:
        before = id(each.compared)
        group = groups.get(before)
        if group is None:
            group = before
            usd += each.lost * read_price(each) / 1000 if each.call.row["prompt_token_price"] is not None else 0.0
        groups[id(each.call)] = groups[before] = group
    return usd


# -- breakpoints and writes -------------------------------------------------------------------------------------------


def _breakpoints(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    found: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        if each.unmarked is not None:
            found["" if each.is_continuation else segment_words(each.unmarked)].append(each)
    for segment, about in found.items():
        if len(about) < _LEAST_CALLS:
            continue
        gross = math.fsum([usd_lost(each, each.unmarked_tokens) or 0.0 for each in priced(about)])
        usd = gross - (_new_writes(judged, about) if segment else _further_writes(judged, about))
        if priced(about) and usd < LEAST_SHARE * gross:
            continue
        mark = "prompt_cache_breakpoint" if about[0].call.rule.implicit_breakpoint else "cache_control"
        if segment:
            words = f"these prompts are equal up to {_the(segment)}, but no breakpoint ends there. Set {mark} after it"
        else:
            words = (
                f"each prompt continues the previous one, but no breakpoint ends it. Set {mark} at the newest message"
            )
            if about[0].call.rule.implicit_breakpoint:
                words += ", or leave prompt_cache_options.mode at implicit"
        advice = advice_item("mark_shared_beginning", words, about, segment or None, usd=usd if priced(about) else None)
        yield {**advice, "tokens_at_stake": sum(each.unmarked_tokens for each in about)}


def _the(segment: str) -> str:
    return segment if segment.startswith("message") else f"the {segment}"


def _new_writes(judged: Iterable[JudgedCall], about: Iterable[JudgedCall]) -> float:
    """Return the cost in USD of writing the shared beginnings.

    The calls that cannot read them yet write them: the first one with each beginning, and the first one after each
    pause that is longer than entries are kept.
    """
    reads = {id(each) for each in about}
    tokens: dict[tuple[int, CacheLocation], int] = {}
    for each in about:
        index = max(index for index, segment in enumerate(each.call.segments) if segment is each.unmarked)
        tokens[each.call.chain[index], each.call.location_at(index)] = each.unmarked_tokens
    usd = 0.0
    for each in priced(judged):
        call = each.call
        if id(each) in reads or call.row["cache_write_tokens"]:
            continue
        found = [
            tokens.get((chain, call.location_at(index)), 0)
            for index, (chain, end) in enumerate(zip(call.chain, call.ends, strict=False))
            if end > (call.row["cached_tokens"] or 0)
        ]
        usd += max(found, default=0) * write_premium(each) / 1000
    return usd


def _further_writes(judged: Sequence[JudgedCall], about: Sequence[JudgedCall]) -> float:
    """Return the cost in USD of the writes that a breakpoint at the newest message adds in these caches."""
    places = {each.call.location for each in about}
    read = {id(each): each.unmarked_tokens for each in about}
    usd = 0.0
    for each in priced(judged):
        row = each.call.row
        if each.call.location not in places or (row["prompt_tokens"] or 0) < each.call.rule.minimum_tokens:
            continue
        left = row["prompt_tokens"] - (row["cached_tokens"] or 0) - read.get(id(each), 0)
        usd += max(0, left - (row["cache_write_tokens"] or 0)) * write_premium(each) / 1000
    return usd


def _write_less(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Advise against implicit writes that were never read, for prompts that share no beginning."""
    by_location: dict[CacheLocation, list[JudgedCall]] = defaultdict(list)
    for each in priced(judged):
        if each.call.row["cache_write_tokens"]:
            by_location[each.call.location].append(each)
    used = {each.call.location for each in judged if each.call.reads_newest or each.unmarked is not None}
    about: list[JudgedCall] = []
    tokens, usd = 0, 0.0
    for location, calls in by_location.items():
        if location in used or len(calls) < _LEAST_UNREAD_WRITES:
            continue
        for each in calls:
            if not each.call.rule.implicit_breakpoint or each.call.options.get("cache_mode") == "explicit":
                continue
            last = max((i for i, segment in enumerate(each.call.segments) if segment.breakpoint), default=-1)
            marked = each.call.ends[last] if last >= 0 and each.call.ends else 0
            behind = each.call.row["prompt_tokens"] - max(marked, each.call.row["cached_tokens"] or 0)
            written = int(max(0, min(each.call.row["cache_write_tokens"], behind)))
            if written and each.lost == 0:
                about.append(each)
                tokens += written
                usd += written * write_premium(each) / 1000
    if len(about) >= _LEAST_UNREAD_WRITES:
        words = (
            "the ends of these prompts are written to the cache and never read, and writes cost extra. Set "
            'prompt_cache_options={"mode": "explicit"} for them; keep the breakpoints that are read'
        )
        yield {**advice_item("write_less", words, about, usd=usd), "tokens_at_stake": tokens}


CACHE_RULES: tuple[Callable[[Sequence[JudgedCall]], Iterable[CacheAdvice]], ...] = (
    _keys,
    advise_lifetimes,
    _short,
    _send_one_first,
    _breakpoints,
    _write_less,
)
