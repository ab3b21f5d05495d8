"""The price book: compute a :class:`Cost` from the usage, model, provider, service tier and time of a call.

The user's YAML takes precedence over ``genai-prices``. Both provide a :class:`Schedule`: the prices of one model at one
provider and tier, by time and by size of the prompt. Schedules are cached, so pricing a call takes a dictionary
look-up and four multiplications.

A cost is None rather than a guess: a model or a served tier that is not listed, and a model that users serve
themselves under a vendor's name, are unpriced.

The usual call has the four standard components only. :mod:`.invoice` prices all others.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_cachetrack._process import no_fork

from .builtin_table import BuiltInTable
from .costs import UNPRICED, Cost, Prices, amounts, complete_prices, original_for
from .invoice import MODEL_TOOLS, Facts, bill, cost_of, image_model
from .names import BASE_TIER, TIERS, canonical_provider, canonical_tier
from .price_list import PriceList
from .rates import REQUEST, Rates
from .schedules import ALWAYS, Layer, Schedule, apply_discounts, combine

if TYPE_CHECKING:
    from rlm_cachetrack.usage import TokenUsage

    from .rules import PricingFile

# Model names come from servers, so the cache must be bounded.
_MAX_SCHEDULES = 10_000
# Modification time, size and inode of a file; the inode because editors replace a file by a new one.
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Quote:
    """The prices of a model at one service tier for prompts of more than ``above`` tokens."""

    model: str
    service_tier: str
    above: int
    rates: Rates


class PriceBook:
    """The prices of models: those of the user's YAML, then those of the built-in table. Thread-safe.

    Args:
        file: The user's YAML.
        prices: The price list of the built-in table; None: the installed ``genai-prices``.
    """

    def __init__(self, file: PricingFile | None = None, prices: PriceList | None = None) -> None:
        self._file = file
        self._prices = prices
        self._path: Path | None = None
        self._stamp: _Stamp = None
        self._table = BuiltInTable(prices)
        self._schedules: dict[tuple[str | None, str, str | None], Schedule | None] = {}

    @classmethod
    def load(cls, pricing: str | os.PathLike[str] | None, prices: PriceList | None = None) -> PriceBook:
        """Read and check a pricing YAML; None is the built-in table alone.

        Blocks for one small read. The first look-up that needs ``genai-prices`` imports it (0.5 s), so look-ups must
        not run on the calling thread.

        Args:
            pricing: The path of the file.
            prices: The price list of the built-in table; None: the installed ``genai-prices``.

        Raises:
            PricingError: The file has mistakes; each is listed with file, line, key and what was expected.
        """
        if pricing is None:
            return cls(None, prices)
        with no_fork():
            from .file import read_pricing  # importing PyYAML and pydantic takes 50 ms

        path = Path(pricing).expanduser()
        stamp = _stamp(path)  # before reading, so that a change during the read is detected later
        book = cls(read_pricing(path, prices), prices)
        book._path, book._stamp = path, stamp
        return book

    def refreshed(self) -> PriceBook:
        """Return this book, or a new one if the file has changed since. Blocks for one ``stat``.

        Raises:
            PricingError: The changed file cannot be used. Raised once per change; this book stays usable.
        """
        if self._path is None or (stamp := _stamp(self._path)) == self._stamp:
            return self
        self._stamp = stamp
        return PriceBook.load(self._path, self._prices)

    def over(self, prices: PriceList | None) -> PriceBook:
        """Return this book, or a copy with another price list below the same file. Does not block."""
        if prices is self._prices:
            return self
        book = PriceBook(self._file, prices)
        book._path, book._stamp = self._path, self._stamp
        return book

    def describe(self) -> str:
        """Describe the source of the prices in one line; load nothing."""
        table = self._table.source.replace(":", " ")
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
        """Return the prices of a call; None if it is unpriced.

        Args:
            model: The model that served the call.
            provider: The provider that served it; None or ``unknown`` if not known.
            service_tier: The served tier as in the response; ``batch`` for the Batch API.
            at: The time of the call (UTC if naive); None: now.
            prompt_tokens: All input tokens; they select long-context prices.
        """
        schedule = self.schedule(model=model, provider=provider, service_tier=service_tier)
        period = None if schedule is None else schedule.at(at)
        if period is None:
            return None
        return period.rates[bisect_left(period.starts, prompt_tokens or 0)]

    def schedule(self, *, model: str, provider: str | None = None, service_tier: str | None = None) -> Schedule | None:
        """Return the prices of a model by time and prompt size, None if unpriced; arguments as in `rates`."""
        key = (provider, model, service_tier)
        try:
            return self._schedules[key]
        except KeyError:
            if len(self._schedules) >= _MAX_SCHEDULES:
                self._schedules.clear()
            schedule = self._schedules[key] = self._find(model, provider, service_tier)
            return schedule

    def quotes(self, model: str, provider: str | None = None, at: datetime | None = None) -> list[Quote]:
        """Return the prices of a model at every tier and size of prompt that has one; arguments as in `rates`."""
        found = []
        for tier in (BASE_TIER, *TIERS):
            schedule = self.schedule(model=model, provider=provider, service_tier=tier)
            period = None if schedule is None else schedule.at(at)
            if period is not None:
                found += [
                    Quote(model, tier, above, rates)
                    for above, rates in zip((0, *period.starts), period.rates, strict=True)
                ]
        return found

    def named_models(self) -> list[str]:
        """Return the names, prefixes and expressions of the pricing file, in its order."""
        return [] if self._file is None else [pattern.name for pattern in self._file.patterns]

    def cost(
        self,
        usage: TokenUsage,
        *,
        model: str,
        provider: str | None = None,
        service_tier: str | None = None,
        at: datetime | None = None,
        tools: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Cost:
        """Return the cost of a captured call; a cost returned by the provider comes first.

        Args:
            usage: The tokens of the call.
            model: As in `rates`.
            provider: As in `rates`.
            service_tier: As in `rates`.
            at: As in `rates`.
            tools: Billed uses of hosted tools, as in the column ``tool_usage``.
            options: The column ``request_options``; its ``region``, ``completion_window`` and ``speed`` have factors.
        """
        size = usage.prompt_tokens
        rates = self.rates(model=model, provider=provider, service_tier=service_tier, at=at, prompt_tokens=size)
        returned = usage.provider_cost_usd
        if rates is None:
            if returned is not None:
                return Cost(total_cost=returned, price_source="provider")
            return Cost(unpriced_reason=no_price_reason(model, provider, service_tier))
        standard = usage.details is None and tools is None and not options and not rates.has_surcharges
        if standard and returned is None and size is not None:
            prices = rates.prices
            return Cost(*prices, *_amounts(usage, prices), rates.source)
        return cost_of(usage, rates, self.facts(tools, options, provider, at), model)

    def cost_of_many(
        self, usage: TokenUsage, *, model: str, provider: str | None, service_tier: str | None, at: datetime
    ) -> float | None:
        """Return the cost in USD of the usage of many calls, at the prices of short prompts; None if unpriced.

        Arguments as in `cost`.
        """
        rates = self.rates(model=model, provider=provider, service_tier=service_tier, at=at)
        return None if rates is None else cost_of(usage, rates, Facts(), model).total_cost

    def facts(
        self,
        tools: Mapping[str, Any] | None,
        options: Mapping[str, Any] | None,
        provider: str | None,
        at: datetime | None,
    ) -> Facts:
        """Return the facts other than tokens and model that a cost depends on; arguments as in `cost`."""
        models = [image_model(tools, tool) for tool in MODEL_TOOLS]
        rates = [None if model is None else self.rates(model=model, provider=provider, at=at) for model in models]
        return Facts(tools, options, *rates)

    def complete(
        self,
        given: Cost,
        usage: TokenUsage,
        *,
        model: str,
        provider: str | None = None,
        service_tier: str | None = None,
        at: datetime | None = None,
        tools: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Cost:
        """Fill in the prices and costs that a manually created record leaves out.

        If only the prompt price is given, the cached and write prices follow it in the ratio of the price list; an
        unknown model gets no discount. A missing completion price comes from the list. A cost is computed if all tokens
        that were used have a price. If the prompt price is given, the original cost is all tokens at the prompt and the
        completion price. If only the total is given, the original cost is the total plus the cache's effect on the
        cost, at the prices of the list. Without prices, it is the total if nothing was cached or written.

        Args:
            given: The prices and costs of the record, None where left out; ``price_source`` defaults to ``record``.
            usage: The tokens of the record.
            model: As in `rates`.
            provider: As in `rates`.
            service_tier: As in `rates`.
            at: As in `rates`.
            tools: As in `cost`.
            options: As in `cost`; they change the prices of the list, not given ones.
        """
        if given._replace(price_source=None) == UNPRICED:
            return self.cost(
                usage,
                model=model,
                provider=provider,
                service_tier=service_tier,
                at=at,
                tools=tools,
                options=options,
            )
        size = usage.prompt_tokens
        rates = self.rates(model=model, provider=provider, service_tier=service_tier, at=at, prompt_tokens=size)
        prices = complete_prices(given, rates)
        extras = {} if rates is None else rates.extras
        if given.prompt_token_price is not None and given.completion_token_price is not None:
            extras = {name: price for name, price in extras.items() if not name.startswith(REQUEST)}
        cost = Cost(*prices)
        if size is not None:
            cost = bill(usage, prices, extras, self.facts(tools, None, provider, at), model)
        total, original = cost.total_cost, cost.original_cost
        known = given.total_cost if given.total_cost is not None else usage.provider_cost_usd
        if known is not None:
            if given.prompt_token_price is None:
                original = original_for(known, total, original)
            total = known
            if original is None and usage.cached_tokens == 0 and not usage.cache_write_tokens:
                original = known
        if given.original_cost is not None:
            original = given.original_cost
        return Cost(
            *prices,
            total,
            original,
            given.price_source or "record",
            given.charges or (cost.charges if known is None else None),
            given.unpriced_reason or (cost.unpriced_reason if total is None else None),
            given.cost_excludes or (cost.cost_excludes if known is None else None),
        )

    def _find(self, model: str, provider: str | None, service_tier: str | None) -> Schedule | None:
        tier = canonical_tier(service_tier)
        wanted = canonical_provider(provider)
        if self._file is None:
            return self._table.find(model, wanted, tier)
        schedule = combine(self._layers(model, wanted, tier, ()))
        return apply_discounts(schedule, self._file.discounts.get(wanted or "", ()), f"yaml:{self._file.sha8}")

    def _layers(self, model: str, wanted: str | None, tier: str, through: tuple[str, ...]) -> list[Layer]:
        """Return the schedules of the file, the most specific first, then the schedule of the table.

        Args:
            model: The name of the model.
            wanted: The canonical provider.
            tier: The canonical service tier.
            through: The names of the patterns through which aliases led to this model.
        """
        layers: list[Layer] = []
        rules = () if self._file is None else self._file.candidates(model, wanted, through, any_provider=bool(through))
        for rule in rules:
            if rule.alias is None:
                # A tier that the entry does not list is unpriced: the base price would often be off by half.
                period = rule.prices.get(tier)
                schedule = None if period is None else Schedule(period)
            else:
                schedule = combine(self._layers(rule.alias, wanted, tier, (*through, rule.name)))
                if rule.exceptions is not None:
                    base = combine(self._layers(rule.alias, wanted, BASE_TIER, (*through, rule.name)))
                    schedule = rule.exceptions.apply(schedule, base)
            layers.append(Layer(rule.span, schedule))
            if rule.span == ALWAYS:
                return layers
        below = self._table.find(model, wanted, tier)
        if below is None and through:
            # An alias names the model explicitly, so if the provider does not list it, its vendor's price applies.
            below = self._table.find(model, None, tier)
        layers.append(Layer(ALWAYS, below))
        return layers


def example() -> str:
    """Return an example pricing file that explains every key; most of it is commented out."""
    return _data("pricing.example.yaml").read_text(encoding="utf-8")


def schema_path() -> Path:
    """Return the path of the JSON Schema of the pricing file, for editors."""
    return _data("pricing.schema.json")


def _data(name: str) -> Path:
    return Path(__file__).parent / "file" / name


def no_price_reason(model: str, provider: str | None, service_tier: str | None) -> str:
    """Return the reason why a model has no price."""
    tier = canonical_tier(service_tier)
    name = model if canonical_provider(provider) is None else f"{model} (provider {provider})"
    return f"no price for {name}" if tier == BASE_TIER else f"no price for service tier {tier} of {name}"


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _amounts(usage: TokenUsage, prices: Prices) -> tuple[float | None, float | None]:
    return amounts(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.cache_write_tokens, prices)
