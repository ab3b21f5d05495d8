"""One recommendation, and the money that a miss costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from .verdicts import JudgedCall

LEAST_SHARE = 0.2
"""Advice whose own cost leaves less than this share of the saving is withheld: its estimates are not so exact."""


class CacheAdvice(TypedDict):
    """One recommendation.

    ``rule`` is the name of the advice, ``segment`` the part of the prompt or the setting it concerns (``system
    prompt``, ``tools``, ``message 3 (user)``, ``reasoning effort``) or None. ``tokens_at_stake`` and ``usd_at_stake``
    are what following it would have saved in its ``calls``, after its own cost; USD is None if no call has a price.
    ``interaction_ids`` names up to ten of the calls.
    """

    rule: str
    words: str
    segment: str | None
    calls: int
    tokens_at_stake: int
    usd_at_stake: float | None
    interaction_ids: list[str]


def advice_item(
    rule: str, words: str, about: Sequence[JudgedCall], segment: str | None = None, usd: float | None = None
) -> CacheAdvice:
    """Create a recommendation.

    Args:
        rule: Its name.
        words: One or two sentences, without the period at the end.
        about: The calls it concerns.
        segment: The part of the prompt or the setting it concerns.
        usd: What following it saves; None: the loss of its calls.
    """
    costs = [cost for each in about if (cost := usd_lost(each)) is not None]
    return {
        "rule": rule,
        "words": words[0].upper() + words[1:],
        "segment": segment,
        "calls": len(about),
        "tokens_at_stake": sum(each.lost for each in about),
        "usd_at_stake": usd if usd is not None else (math.fsum(costs) if costs else None),
        "interaction_ids": [str(each.call.row["interaction_id"]) for each in about[:10]],
    }


def priced(judged: Iterable[JudgedCall]) -> list[JudgedCall]:
    """Return the calls that have a price."""
    return [each for each in judged if each.call.row["prompt_token_price"] is not None]


def usd_lost(judged: JudgedCall, tokens: int | None = None) -> float | None:
    """Compute the extra cost of lost tokens compared with reading them from the cache, in USD; None if unpriced."""
    row = judged.call.row
    lost = judged.lost if tokens is None else tokens
    prompt = row["prompt_token_price"]
    if prompt is None:
        return None
    written = min(lost, row["cache_write_tokens"] or 0)
    return float(lost * (prompt - read_price(judged)) + written * write_premium(judged)) / 1000


def usd_moved(judged: JudgedCall, target: Mapping[str, Any], lost: int) -> float:
    """Compute the saving of sending a call with the model and settings of another one, in USD.

    It is the cost of the lost tokens minus the additional cost of the call at the other prices. A lower price is not
    counted: it is not a saving of the cache.

    Args:
        judged: The call, which has a price.
        target: The row of the other call, which has a price.
        lost: The tokens that the call would then read from the cache in addition.
    """
    row = judged.call.row
    more = _usd(row, target, lost) - _usd(row, row, lost)
    return (usd_lost(judged, lost) or 0.0) - max(0.0, more)


def _usd(row: Mapping[str, Any], prices: Mapping[str, Any], lost: int) -> float:
    """Return the cost of a call that reads the lost tokens, at these prices, in USD."""
    cached = (row["cached_tokens"] or 0) + lost
    prompt = prices["prompt_token_price"]
    read = prompt if prices["cached_token_price"] is None else prices["cached_token_price"]
    output = (row["completion_tokens"] or 0) * (prices["completion_token_price"] or 0.0)
    return float(max(0, (row["prompt_tokens"] or 0) - cached) * prompt + cached * read + output) / 1000


def read_price(judged: JudgedCall) -> float:
    """Return the price of cached tokens in USD per 1,000; if it is not known, the price of uncached ones."""
    row = judged.call.row
    return float(row["prompt_token_price"] if row["cached_token_price"] is None else row["cached_token_price"])


def write_premium(judged: JudgedCall, lifetime: str | None = None) -> float:
    """Return the extra cost of writing a token, compared with not caching it, in USD per 1,000.

    Args:
        judged: The call, which has a price.
        lifetime: The lifetime that the request would ask for; None: the one that it asked for.
    """
    row, rule = judged.call.row, judged.call.rule
    prompt = float(row["prompt_token_price"])
    if lifetime is not None:
        return prompt * (rule.lifetimes[lifetime].write_factor - 1)
    if row["cache_write_token_price"] is not None:
        return float(row["cache_write_token_price"]) - prompt
    return prompt * (judged.call.lifetime.write_factor - 1)
