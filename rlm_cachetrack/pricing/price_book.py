"""What a call cost: usage, model, provider, service tier and time become a :class:`Cost`.

Two price lists answer, the user's YAML first and ``genai-prices`` under it, each with a :class:`Schedule`:
the prices of one model at one provider and tier, by period of time and by size of the prompt. A schedule is
found once and remembered, so that a call costs a dictionary look-up and four multiplications.

A cost is right, or it is None. What neither list knows has no price: an unknown model, a tier that was served
but is listed nowhere, a model that somebody serves himself under a vendor's name.

Known limits: audio and image tokens are priced as text, since the usage does not tell them apart; what a
provider bills beside tokens (web searches, storage) is in the cost only where the provider returned the cost.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_cachetrack._process import no_fork

from .builtin_table import BuiltInTable
from .costs import UNPRICED, Cost, Prices, amounts, completed, shifted
from .names import BASE_TIER, TIERS, canonical_provider, canonical_tier
from .schedules import ALWAYS, Layer, Rates, Schedule, discounted, layered

if TYPE_CHECKING:
    from rlm_cachetrack.usage import TokenUsage

    from .rules import PricingFile

__all__ = ["PriceBook", "Quote", "example", "schema_path"]

# Model names come from servers, so what is remembered of them must not grow for ever.
_MAX_SCHEDULES = 10_000
# Of a file: when it was changed, its size, and which file it is: an editor replaces it by another of the same name.
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Quote:
    """The prices of a model for calls of one service tier and of prompts of more than ``above`` tokens."""

    model: str
    service_tier: str
    above: int
    rates: Rates


class PriceBook:
    """Prices of models: the user's YAML over the built-in table. Safe to use from several threads."""

    def __init__(self, file: PricingFile | None = None) -> None:
        self._file = file
        self._path: Path | None = None
        self._seen: _Stamp = None
        self._table = BuiltInTable()
        self._schedules: dict[tuple[str | None, str, str | None], Schedule | None] = {}

    @classmethod
    def load(cls, pricing: str | os.PathLike[str] | None) -> PriceBook:
        """Read and check the pricing YAML now; None is the built-in table alone.

        Blocks for one small read. ``genai-prices`` (0.5 s) is imported at the first look-up that needs it, so
        make look-ups off the calling thread.

        Raises:
            PricingError: The file cannot be used: file, line, key and what was expected, for every mistake.
        """
        if pricing is None:
            return cls()
        with no_fork():
            from rlm_cachetrack.pricing.file import (
                read_pricing,  # PyYAML and pydantic are 50 ms that only a pricing file needs
            )

        path = Path(pricing).expanduser()
        seen = _stamp(path)  # before it is read: a change in between is then seen, and only read once too often
        book = cls(read_pricing(path))
        book._path, book._seen = path, seen
        return book

    def refreshed(self) -> PriceBook:
        """This book, or a new one where the file has changed since. Blocks for a look at the file.

        Raises:
            PricingError: The changed file cannot be used; once a change, so that it is not told again and again. This
                book stays good.
        """
        if self._path is None or (stamp := _stamp(self._path)) == self._seen:
            return self
        self._seen = stamp
        return PriceBook.load(self._path)

    def describe(self) -> str:
        """Where prices come from, for ``doctor``; loads nothing."""
        table = f"genai-prices {version('genai-prices')}"
        if self._file is None:
            return f"built-in {table}"
        count = len(self._file.patterns)
        return f"{self._file.name} ({count} model{'' if count == 1 else 's'}, {self._file.sha8}) over {table}"

    def rates(
        self,
        *,
        model: str,
        provider: str | None = None,
        service_tier: str | None = None,
        at: datetime | None = None,
        prompt_tokens: int | None = None,
    ) -> Rates | None:
        """The prices of a call, or None where they are not known.

        Args:
            model: The model served.
            provider: Who served it; None or ``unknown`` where nobody knows.
            service_tier: The tier served, as the response says it; ``batch`` for the Batch API.
            at: When (UTC where naive); None is now.
            prompt_tokens: All input tokens, by which long-context prices are chosen.
        """
        schedule = self.schedule(model=model, provider=provider, service_tier=service_tier)
        if schedule is None:
            return None
        period = schedule.always or schedule.at(at)
        if period is None:
            return None
        return period.rates[bisect_left(period.starts, prompt_tokens or 0)]

    def schedule(self, *, model: str, provider: str | None = None, service_tier: str | None = None) -> Schedule | None:
        """The prices of a model over time and by size of the prompt, or None; arguments as in `rates`."""
        key = (provider, model, service_tier)
        try:
            return self._schedules[key]
        except KeyError:
            if len(self._schedules) >= _MAX_SCHEDULES:
                self._schedules.clear()
            schedule = self._schedules[key] = self._find(model, provider, service_tier)
            return schedule

    def quotes(self, model: str, provider: str | None = None, at: datetime | None = None) -> list[Quote]:
        """What a model costs at every tier and size of prompt that has a price; arguments as in `rates`."""
        found = []
        for tier in (BASE_TIER, *TIERS):
            schedule = self.schedule(model=model, provider=provider, service_tier=tier)
            period = None if schedule is None else schedule.always or schedule.at(at)
            if period is not None:
                found += [
                    Quote(model, tier, above, rates)
                    for above, rates in zip((0, *period.starts), period.rates, strict=True)
                ]
        return found

    def named_models(self) -> list[str]:
        """The names, prefixes and expressions that the file prices, in its order."""
        return [] if self._file is None else [pattern.name for pattern in self._file.patterns]

    def cost(
        self,
        usage: TokenUsage,
        *,
        model: str,
        provider: str | None = None,
        service_tier: str | None = None,
        at: datetime | None = None,
    ) -> Cost:
        """What a captured call cost; a cost that the provider returned wins. Arguments as in `rates`."""
        size = usage.prompt_tokens
        rates = self.rates(model=model, provider=provider, service_tier=service_tier, at=at, prompt_tokens=size)
        returned = usage.provider_cost_usd
        if rates is None:
            return UNPRICED if returned is None else Cost(total_cost=returned, price_source="provider")
        prices = rates.prices
        total, original = _amounts(usage, prices)
        if returned is not None:
            return Cost(*prices, returned, shifted(returned, total, original), "provider")
        if not rates.by_tokens_alone:
            total = original = None
        return Cost(*prices, total, original, rates.source)

    def complete(
        self,
        given: Cost,
        usage: TokenUsage,
        *,
        model: str,
        provider: str | None = None,
        service_tier: str | None = None,
        at: datetime | None = None,
    ) -> Cost:
        """Fill in what a record made by hand leaves out; what it gives stays.

        A prompt price without a cached price takes the model's own cached/prompt ratio from the price list,
        for an unknown model no discount; the same for written tokens. A completion price comes from the list.
        A cost is computed where every kind of token that was used has a price. A total without an original
        cost gets the difference that the prices make; where they are not known, none if nothing was cached or
        written.

        ``given`` holds the prices and costs of the record, None where left out; a ``price_source`` left out
        is ``record``. The other arguments are those of `rates`.
        """
        if replace(given, price_source=None) == UNPRICED:
            return self.cost(usage, model=model, provider=provider, service_tier=service_tier, at=at)
        size = usage.prompt_tokens
        rates = self.rates(model=model, provider=provider, service_tier=service_tier, at=at, prompt_tokens=size)
        prices = completed(given, rates)
        total, original = _amounts(usage, prices)
        by_hand = given.prompt_token_price is not None and given.completion_token_price is not None
        if rates is not None and not rates.by_tokens_alone and not by_hand:
            total = original = None
        known = given.total_cost if given.total_cost is not None else usage.provider_cost_usd
        if known is not None:
            total, original = known, shifted(known, total, original)
            if original is None and usage.cached_tokens == 0 and not usage.cache_write_tokens:
                original = known
        if given.original_cost is not None:
            original = given.original_cost
        return Cost(*prices, total, original, given.price_source or "record")

    def _find(self, model: str, provider: str | None, service_tier: str | None) -> Schedule | None:
        tier = canonical_tier(service_tier)
        wanted = canonical_provider(provider)
        if self._file is None:
            return self._table.find(model, wanted, tier)
        schedule = layered(self._layers(model, wanted, tier, ()))
        return discounted(schedule, self._file.discounts.get(wanted or "", ()), f"yaml:{self._file.sha8}")

    def _layers(self, model: str, wanted: str | None, tier: str, through: tuple[str, ...]) -> list[Layer]:
        """What the file and under it the table say of a model, the closest first.

        Args:
            model: Its name.
            wanted: The provider, canonical.
            tier: The service tier, ours.
            through: The names of the patterns through which aliases led here.
        """
        layers: list[Layer] = []
        rules = () if self._file is None else self._file.candidates(model, wanted, through, any_provider=bool(through))
        for rule in rules:
            if rule.alias is None:
                # A tier that the entry does not list is unknown: its base price would be a guess, often off by half.
                period = rule.prices.get(tier)
                schedule = None if period is None else Schedule(period)
            else:
                schedule = layered(self._layers(rule.alias, wanted, tier, (*through, rule.name)))
            layers.append(Layer(rule.span, schedule))
            if rule.span == ALWAYS:
                return layers
        below = self._table.find(model, wanted, tier)
        if below is None and through:
            # The user says whose prices hold: where this provider lists none, the name alone is enough.
            below = self._table.find(model, None, tier)
        layers.append(Layer(ALWAYS, below))
        return layers


def example() -> str:
    """A pricing file to begin with: every key of it is explained, and most of it is commented out."""
    return _data("pricing.example.yaml").read_text(encoding="utf-8")


def schema_path() -> Path:
    """Where the JSON Schema of the pricing file is installed, for editors."""
    return _data("pricing.schema.json")


def _data(name: str) -> Path:
    return Path(__file__).parent / "file" / name


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _amounts(usage: TokenUsage, prices: Prices) -> tuple[float | None, float | None]:
    return amounts(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.cache_write_tokens, prices)
