"""Advice about cache keys, lifetimes, breakpoints, short prompts, simultaneous calls and unread writes. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from .advice_item import CacheAdvice, advice_item, read_price, usd_lost, write_premium
from .chains import CacheLocation
from .divergence import segment_words
from .sentences import span
from .verdicts import JudgedCall

_CALLS_PER_MINUTE = 15
"""Calls per minute with one cache key that one OpenAI machine serves.

Source: https://developers.openai.com/api/docs/guides/prompt-caching, read 2026-12-01.
"""
_LEAST_CALLS = 2
_KEEPING_OUTPUT_TOKENS = 16  # the smallest value that max_output_tokens allows
_LEAST_UNREAD_WRITES = 3


def _priced(judged: Iterable[JudgedCall]) -> list[JudgedCall]:
    return [each for each in judged if each.call.row["prompt_token_price"] is not None]


# -- keys -------------------------------------------------------------------------------------------------------------


def _keys(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    about = [each for each in judged if each.verdict == "key_changed"]
    if about and _most_per_minute(judged, about) <= _CALLS_PER_MINUTE:
        words = "the same beginning is sent with several prompt_cache_keys. Use one key for these prompts"
        yield advice_item("share_prompt_cache_key", words, about)
    missed = [each for each in judged if each.verdict in ("provider_miss", "partial_hit") and _is_guaranteed(each)]
    without = [each for each in missed if each.call.key is None and each.call.rule.needs_key]
    if len(without) >= _LEAST_CALLS:
        words = (
            "prompts with the same beginning were not found in the cache, probably because they went to different "
            "machines. Set one prompt_cache_key for them"
        )
        yield advice_item("set_prompt_cache_key", words, without)
    busy = _busy(judged)
    crowded = [each for each in missed if each.call.key is not None and each.call.location in busy]
    if crowded:
        most = max(busy[each.call.location] for each in crowded)
        words = (
            f"up to {most} calls per minute share one prompt_cache_key, and above about {_CALLS_PER_MINUTE} they "
            "overflow to machines without their cache. Split the key, by user or by conversation"
        )
        yield advice_item("split_prompt_cache_key", words, crowded)


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


# -- lifetimes --------------------------------------------------------------------------------------------------------


def _lifetimes(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Advise a longer lifetime or calls that keep the entry alive, whichever saves more; nothing if neither saves."""
    expired: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in _priced(judged):
        if each.verdict == "expired":
            expired[each.call.rule.name].append(each)
    for about in expired.values():
        options = [_longer(judged, about, name) for name in about[0].call.rule.lifetimes if name != "default"]
        options.append(_kept_alive(about))
        best = max((each for each in options if each is not None), key=lambda each: each["usd_at_stake"] or 0.0)
        yield best


def _longer(judged: Sequence[JudgedCall], about: Sequence[JudgedCall], name: str) -> CacheAdvice | None:
    """Return the advice to request a longer lifetime; its more expensive writes are subtracted from the saving."""
    lifetime = about[0].call.rule.lifetimes[name]
    saved = [
        each
        for each in about
        if each.call.lifetime.expected_s < lifetime.expected_s and (each.gap_s or 0.0) <= lifetime.expected_s
    ]
    if not saved:
        return None
    usd = math.fsum([usd_lost(each) or 0.0 for each in saved])
    again = {id(each) for each in saved}
    for each in _priced(judged):
        written = each.call.row["cache_write_tokens"] or 0
        if written and each.call.rule is about[0].call.rule and each.call.lifetime is not lifetime:
            left = max(0, written - each.lost) if id(each) in again else written
            usd -= left * (write_premium(each, name) - write_premium(each)) / 1000
    field = "prompt_cache_retention" if name in ("24h", "in_memory") else "prompt_cache_options.ttl"
    if about[0].call.rule.lookback_blocks:
        field = "cache_control.ttl"
    words = (
        f"pauses are longer than the {span(about[0].call.lifetime.expected_s)} for which entries are kept. Request "
        f'{field}="{name}"'
    )
    return advice_item("longer_lifetime", words, saved, usd=usd)


def _kept_alive(about: Sequence[JudgedCall]) -> CacheAdvice:
    kept, saved = [], 0.0
    for each in about:
        interval = each.call.lifetime.guaranteed_s
        if not interval:
            continue
        times = math.floor((each.gap_s or 0.0) / interval)
        output = _KEEPING_OUTPUT_TOKENS * (each.call.row["completion_token_price"] or 0.0)
        gain = (usd_lost(each) or 0.0) - times * (each.lost * read_price(each) + output) / 1000
        if gain > 0:
            kept.append(each)
            saved += gain
    every = span(about[0].call.lifetime.guaranteed_s)
    words = (
        f"pauses are longer than the cache keeps entries. Send a short call with the same beginning every {every} of a "
        "pause; its cost is subtracted"
    )
    return advice_item("keep_alive", words, kept, usd=saved)


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
    if about:
        words = (
            "calls with the same beginning are sent at the same time, before the first one has filled the cache. Send "
            "one, wait for its first token, then send the others"
        )
        yield advice_item("send_one_first", words, about)


# -- breakpoints and writes -------------------------------------------------------------------------------------------


def _breakpoints(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    found: dict[str, list[JudgedCall]] = defaultdict(list)
    for each in judged:
        if each.unmarked is not None:
            found["" if each.is_continuation else segment_words(each.unmarked)].append(each)
    for segment, about in found.items():
        if len(about) < _LEAST_CALLS:
            continue
        priced = _priced(about)
        usd = math.fsum([usd_lost(each, each.unmarked_tokens) or 0.0 for each in priced]) - _new_writes(about)
        mark = "prompt_cache_breakpoint" if about[0].call.rule.implicit_breakpoint else "cache_control"
        if segment:
            words = f"these prompts are equal up to {_the(segment)}, but no breakpoint ends there. Set {mark} after it"
        else:
            words = (
                f"each prompt continues the previous one, but no breakpoint ends it. Set {mark} at the newest message"
            )
            if about[0].call.rule.implicit_breakpoint:
                words += ", or leave prompt_cache_options.mode at implicit"
        advice = advice_item("mark_shared_beginning", words, about, segment or None, usd=usd if priced else None)
        yield {**advice, "tokens_at_stake": sum(each.unmarked_tokens for each in about)}


def _the(segment: str) -> str:
    return segment if segment.startswith("message") else f"the {segment}"


def _new_writes(about: Sequence[JudgedCall]) -> float:
    """Return the cost in USD of the writes that the breakpoints add to calls that write nothing today."""
    usd = 0.0
    for number, each in enumerate(about):
        row = each.call.row
        if row["prompt_token_price"] is None or row["cache_write_tokens"]:
            continue
        left = row["prompt_tokens"] - row["cached_tokens"] - each.unmarked_tokens
        written = max(0, left) if each.is_continuation else 0
        if number == 0:  # the first call with this beginning, which is not among them, writes it
            written += each.unmarked_tokens
        usd += written * write_premium(each) / 1000
    return usd


def _write_less(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Advise against implicit writes where none of them was ever read and no beginning is shared."""
    by_location: dict[CacheLocation, list[JudgedCall]] = defaultdict(list)
    for each in _priced(judged):
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
    _lifetimes,
    _short,
    _send_one_first,
    _breakpoints,
    _write_less,
)
