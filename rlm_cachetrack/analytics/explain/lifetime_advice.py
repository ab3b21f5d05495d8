"""Advice about pauses that are longer than the cache keeps entries: a longer lifetime, calls in the pause, or neither.

The cost of either is the cost in every pause and every write of the run, not only in those that lost tokens. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from .advice_item import LEAST_SHARE, CacheAdvice, advice_item, priced, read_price, usd_lost, write_premium
from .sentences import span
from .verdicts import JudgedCall

_KEEPING_OUTPUT_TOKENS = 16  # the smallest value that max_output_tokens allows
_MARGIN = 0.95  # calls in a pause are sent a little before the entry may expire
_MOST_KEEPING_CALLS = 12
_LEAST_KEEPING_SHARE = 0.5  # pauses before calls that continue nothing cost as much, and are not among the calls


def advise_lifetimes(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Advise what saves the most for each rule and lifetime; nothing if neither a longer one nor calls save enough."""
    expired: dict[tuple[str, float], list[JudgedCall]] = defaultdict(list)
    for each in priced(judged):
        if each.verdict == "expired":
            expired[_group(each)].append(each)
    for group, about in expired.items():
        calls = [each for each in priced(judged) if _group(each) == group]
        options = [_longer(calls, about, name) for name in about[0].call.rule.lifetimes if name != "default"]
        options += [_kept_alive(calls, times) for times in range(1, _MOST_KEEPING_CALLS + 1)]
        lost = math.fsum([usd_lost(each) or 0.0 for each in about])
        best = max((each for each in options if each is not None), key=_saving, default=None)
        if best is not None and _saving(best) >= LEAST_SHARE * lost:
            yield best


def _group(judged: JudgedCall) -> tuple[str, float]:
    return judged.call.rule.name, judged.call.lifetime.expected_s


def _saving(advice: CacheAdvice) -> float:
    return advice["usd_at_stake"] or 0.0


def _longer(calls: Sequence[JudgedCall], about: Sequence[JudgedCall], name: str) -> CacheAdvice | None:
    """Return the advice to request a longer lifetime; its more expensive writes are subtracted from the saving."""
    lifetime = about[0].call.rule.lifetimes[name]
    if lifetime.expected_s <= about[0].call.lifetime.expected_s:
        return None
    saved = [each for each in about if (each.gap_s or 0.0) <= lifetime.expected_s]
    if not saved:
        return None
    usd = math.fsum([usd_lost(each) or 0.0 for each in saved])
    again = {id(each) for each in saved}
    for each in calls:
        written = each.call.row["cache_write_tokens"] or 0
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


def _keeping_usd(judged: JudgedCall) -> float:
    """Return the cost of repeating the prompt before the pause once: what is not cached of it is billed in full."""
    row = judged.call.row
    cached = min(judged.idle_tokens, row["cached_tokens"] + judged.lost)
    rest = (judged.idle_tokens - cached) * row["prompt_token_price"]
    output = _KEEPING_OUTPUT_TOKENS * (row["completion_token_price"] or 0.0)
    return float(cached * read_price(judged) + rest + output) / 1000


def _kept_alive(calls: Sequence[JudgedCall], most: int) -> CacheAdvice | None:
    """Return the advice to send up to ``most`` calls in each pause; they cost the same in a pause that is longer."""
    interval = calls[0].call.lifetime.guaranteed_s
    kept, usd = [], 0.0
    for each in calls:
        times = int((each.idle_s or 0.0) / (_MARGIN * interval)) if interval else 0
        if not times or each.call.row["cached_tokens"] is None:
            continue
        usd -= min(times, most) * _keeping_usd(each)
        if times <= most and each.verdict == "expired":
            kept.append(each)
            usd += usd_lost(each) or 0.0
    if usd < _LEAST_KEEPING_SHARE * math.fsum([usd_lost(each) or 0.0 for each in kept]) or not kept:
        return None
    often = "once" if most == 1 else f"up to {most} times"
    words = (
        f"pauses are longer than the cache keeps entries. In a pause, repeat the last prompt every {span(interval)}, "
        f"{often}, with the smallest max_output_tokens"
    )
    return advice_item("keep_alive", words, kept, usd=usd)
