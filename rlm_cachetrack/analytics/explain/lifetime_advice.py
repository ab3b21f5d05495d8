"""Advice about pauses that are longer than the cache keeps entries: a longer lifetime, calls in the pause, or neither.

The cost of either is the cost in every pause and every write of the run, not only in those that lost tokens. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .advice_item import LEAST_SHARE, CacheAdvice, advice_item, priced, read_price, usd_lost, write_premium
from .chains import Call
from .sentences import span
from .verdicts import JudgedCall

_KEEPING_OUTPUT_TOKENS = 16  # the smallest value that max_output_tokens allows
_MARGIN = 0.95  # calls in a pause are sent a little before the entry may expire
_MOST_KEEPING_CALLS = 12
_LEAST_KEEPING_SHARE = 0.5  # pauses before calls whose prompt is not known cost as much, and are not counted


def advise_lifetimes(judged: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Advise a longer lifetime or calls in the pauses, whichever saves more; nothing where neither saves enough."""
    expired: dict[tuple[str, float], list[JudgedCall]] = defaultdict(list)
    for each in priced(judged):
        if each.verdict == "expired":
            expired[_group(each)].append(each)
    for group, about in expired.items():
        calls = [each for each in priced(judged) if _group(each) == group]
        options = [_longer(calls, about, name) for name in about[0].call.rule.lifetimes if name != "default"]
        options += _kept_alive(calls)
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


class _Pause(NamedTuple):
    """A pause in which calls could keep the entries of the prompt before it.

    Attributes:
        times: The number of calls that the whole pause takes.
        usd: The cost of one of them.
        after: The call after the pause; None where the run went on but the conversation did not.
    """

    times: int
    usd: float
    after: JudgedCall | None


def _pauses(calls: Sequence[JudgedCall], *, of_conversations: bool) -> list[_Pause]:
    """Return the pauses after prompts that can be kept.

    Args:
        calls: The calls of one lifetime, in order of time, with a price.
        of_conversations: Count only pauses between calls of the same conversation.
    """
    step = _MARGIN * calls[0].call.lifetime.guaranteed_s
    repeated = {
        id(each): before for each in calls if (before := _repeated(each, of_conversations=of_conversations)) is not None
    }
    continued = {id(before) for before in repeated.values()}
    found = []
    for each in calls:
        before, row = repeated.get(id(each)), each.call.row
        if before is None or row["cached_tokens"] is None:
            continue
        cached = row["cached_tokens"] + each.lost
        found.append(_Pause(int((each.call.began - before.began) / step), _keeping_usd(each, before, cached), each))
        if id(each.call) not in continued:
            written = row["prompt_tokens"] if row["cache_write_tokens"] is None else row["cache_write_tokens"]
            usd = _keeping_usd(each, each.call, row["cached_tokens"] + written)
            found.append(_Pause(int((calls[-1].call.began - each.call.began) / step), usd, None))
    return [pause for pause in found if pause.times]


def _repeated(judged: JudgedCall, *, of_conversations: bool) -> Call | None:
    """Return the prompt that calls in the pause before a call would repeat; None if there is nothing to keep."""
    before, call = judged.previous, judged.call
    if before is None or (before.row["prompt_tokens"] or 0) < call.rule.minimum_tokens:
        return None
    return before if not of_conversations or before.conversation == call.conversation else None


def _keeping_usd(judged: JudgedCall, repeated: Call, cached: int) -> float:
    """Return the cost of repeating a prompt once; its uncached tokens are billed in full."""
    row, tokens = judged.call.row, repeated.row["prompt_tokens"]
    cached = min(tokens, cached)
    output = _KEEPING_OUTPUT_TOKENS * (row["completion_token_price"] or 0.0)
    return float(cached * read_price(judged) + (tokens - cached) * row["prompt_token_price"] + output) / 1000


def _kept_alive(calls: Sequence[JudgedCall]) -> Iterable[CacheAdvice]:
    """Yield the advice to send up to a number of calls in each pause, for each number.

    They cost the same in a pause that is longer, and after a conversation that ends while the run goes on.
    """
    interval = calls[0].call.lifetime.guaranteed_s
    if not interval:
        return
    known = [each.call.conversation for each in calls if each.call.chain]
    of_conversations = len(set(known)) < len(known)
    pauses = _pauses(calls, of_conversations=of_conversations)
    for most in range(1, _MOST_KEEPING_CALLS + 1):
        kept = [
            pause.after
            for pause in pauses
            if pause.after is not None and pause.times <= most and pause.after.verdict == "expired"
        ]
        gross = math.fsum([usd_lost(each) or 0.0 for each in kept])
        usd = gross - math.fsum([min(pause.times, most) * pause.usd for pause in pauses])
        if not kept or usd < _LEAST_KEEPING_SHARE * gross:
            continue
        which = "last prompt of the conversation" if of_conversations else "last prompt with the same beginning"
        often = "once" if most == 1 else f"up to {most} times"
        words = (
            f"pauses are longer than the cache keeps entries. In a pause, repeat the {which} every {span(interval)}, "
            f"{often}, with the smallest max_output_tokens. Leave out prompts of fewer than "
            f"{calls[0].call.rule.minimum_tokens:,} tokens"
        )
        yield advice_item("keep_alive", words, kept, usd=usd)
