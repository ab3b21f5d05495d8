"""Compute a cost in USD from token counts and four prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .invoice import Charge
    from .rates import Rates

Prices = tuple[float | None, float | None, float | None, float | None]
"""Prices of prompt, cached, written and completion tokens in USD per 1,000; None: unknown."""


class Cost(NamedTuple):
    """The cost of a call and the prices behind it, as stored in the record. None means "not known", never 0.

    Attributes:
        prompt_token_price: USD per 1,000 tokens, like the three other prices.
        total_cost: The cost of the call, in USD.
        original_cost: The cost of the call with nothing cached and nothing written, in USD.
        price_source: ``yaml:<sha8>``, ``genai-prices:<version>``, ``provider`` if the provider returned the
            cost, ``record`` if prices or costs were given by hand, None if unpriced.
        charges: The components of the total other than the four standard ones; None if there are none.
        unpriced_reason: The component that has no price, if ``total_cost`` is None for that reason.
        cost_excludes: The components that no response contains: those that are billed separately, and an unknown
            discount; None if there are none.
    """

    prompt_token_price: float | None = None
    cached_token_price: float | None = None
    cache_write_token_price: float | None = None
    completion_token_price: float | None = None
    total_cost: float | None = None
    original_cost: float | None = None
    price_source: str | None = None
    charges: Sequence[Charge] | None = None
    unpriced_reason: str | None = None
    cost_excludes: Sequence[str] | None = None


UNPRICED = Cost()
"""The cost of an unpriced call."""


def amounts(
    prompt: int | None, completion: int | None, cached: int | None, written: int | None, prices: Prices
) -> tuple[float | None, float | None]:
    """Return the total and the original cost of a call in USD.

    Both are None if input is not reported; each is None if tokens that were used have no price. The SQL of
    re-pricing adds the parts in the same order, so both give identical results.

    Args:
        prompt: All input tokens; None: not reported.
        completion: All output tokens; None, as with embeddings, is 0.
        cached: Input tokens read from the cache.
        written: Input tokens written to the cache.
        prices: USD per 1,000 tokens.
    """
    if prompt is None:
        return None, None
    cached, written, completion = cached or 0, written or 0, completion or 0
    plain = max(prompt - cached - written, 0)
    prompt_price, cached_price, write_price, completion_price = prices
    output = (completion, completion_price)
    total = _sum(((plain, prompt_price), (cached, cached_price), (written, write_price), output))
    return total, _sum(((prompt, prompt_price), output))


def _sum(parts: Iterable[tuple[int, float | None]]) -> float | None:
    amount = 0.0
    for tokens, price in parts:
        if tokens:
            if price is None:
                return None
            amount += tokens * price
    return amount / 1_000


def original_for(known: float, total: float | None, original: float | None) -> float | None:
    """Return the original cost for a known total: the total plus the difference that follows from the prices."""
    return None if total is None or original is None else known + (original - total)


def complete_prices(given: Cost, rates: Rates | None) -> Prices:
    """Return the four prices: given ones take precedence over those of the list, scaled to a given prompt price."""
    prompt = given.prompt_token_price
    cached = write = prompt
    if rates is not None and (prompt is None or rates.prompt > 0):
        scale = 1.0 if prompt is None else prompt / rates.prompt
        cached, write = rates.cached * scale, rates.cache_write * scale
    return (
        prompt if prompt is not None or rates is None else rates.prompt,
        cached if given.cached_token_price is None else given.cached_token_price,
        write if given.cache_write_token_price is None else given.cache_write_token_price,
        rates.completion if given.completion_token_price is None and rates else given.completion_token_price,
    )
