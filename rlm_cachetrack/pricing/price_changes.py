"""Compare two price lists: which prices differ, and which differences are not plausible."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from .builtin_table import BuiltInTable
from .price_list import PriceList
from .rates import Rates

# Real price changes are smaller: of all changes that genai-prices dates, the largest is a factor of 5 (o3, 2025-06-10).
_PLAUSIBLE_FACTOR = 10.0


class ChangedPrice(NamedTuple):
    """A price that differs between two price lists.

    Attributes:
        provider: The provider's id.
        model: The model's id in the price list.
        item: The component, such as ``prompt`` or ``web_search``.
        before: USD per 1,000,000 tokens, or per 1,000 uses; None: not listed.
        after: The same in the newer list.
    """

    provider: str
    model: str
    item: str
    before: float | None
    after: float | None

    @property
    def is_plausible(self) -> bool:
        """Return False if the price changes by a factor of 10 or more, or becomes free."""
        if self.before is None or self.after is None or self.before == self.after:
            return True
        if self.after == 0 or self.before == 0:
            return self.before == 0 or self.model.endswith(":free")
        return 1 / _PLAUSIBLE_FACTOR < self.after / self.before < _PLAUSIBLE_FACTOR


@dataclass(frozen=True)
class ListDifference:
    """The difference between two price lists, at the base tier, for short prompts, at the time of the comparison.

    Attributes:
        changed: The prices that differ, of models that both lists price.
        added: Models (provider, id) that only the newer list prices.
        removed: Models that only the older list prices. They keep the price of the installed release, if it has one.
    """

    changed: list[ChangedPrice]
    added: list[tuple[str, str]]
    removed: list[tuple[str, str]]

    @property
    def objections(self) -> list[str]:
        """Return why the newer list is not plausible; empty if it is."""
        return [
            f"{one.provider} {one.model}: {one.item} changes from ${one.before:g} to ${one.after:g}"
            for one in self.changed
            if not one.is_plausible
        ]


def compare(old: PriceList, new: PriceList) -> ListDifference:
    """Return the difference between two price lists. Blocks for about 0.2 s."""
    now = datetime.now(UTC)
    before = BuiltInTable(old).listed_rates(now)
    after = BuiltInTable(new).listed_rates(now, fetched_only=True)
    changed = []
    for key in sorted(before.keys() & after.keys()):
        old_prices, new_prices = _by_item(before[key]), _by_item(after[key])
        for item in (*old_prices, *(item for item in new_prices if item not in old_prices)):
            price, new_price = old_prices.get(item), new_prices.get(item)
            if price != new_price:
                changed.append(ChangedPrice(*key, item, price, new_price))
    added, removed = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    return ListDifference(changed, added, removed)


def _by_item(rates: Rates) -> dict[str, float]:
    """Return USD per 1,000,000 tokens, or per 1,000 uses, by component."""
    standard = {
        "prompt": rates.prompt,
        "cached": rates.cached,
        "cache_write": rates.cache_write,
        "completion": rates.completion,
    }
    return {item: round(price * 1_000, 9) for item, price in {**standard, **rates.extras}.items()}
