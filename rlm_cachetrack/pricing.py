"""What a call cost: usage, model, provider, service tier and time become a :class:`Cost`.

Two price lists answer, the user's YAML first and ``genai-prices`` under it, each with a :class:`_Schedule`:
the prices of one model at one provider and tier, by period of time and by size of the prompt. A schedule is
found once and remembered, so that a call costs a dictionary look-up and four multiplications.

A cost is right, or it is None. What neither list knows has no price: an unknown model, a tier that was served
but is listed nowhere, a model that somebody serves himself under a vendor's name.

Known limits: audio and image tokens are priced as text, since the usage does not tell them apart; what a
provider bills beside tokens (web searches, storage) is in the cost only where the provider returned the cost.
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

    from ._pricing_yaml import ModelEntry, PricingFile
    from .usage import TokenUsage

__all__ = ["BASE_TIER", "UNPRICED", "Cost", "PriceBook", "Rates", "canonical_provider", "snapshot_names"]

BASE_TIER = "default"

# prompt, cached, cache_write, completion in USD per 1,000 tokens; None where not known.
_Prices = tuple[float | None, float | None, float | None, float | None]

# How providers say that nothing special was served. Source: https://console.groq.com/docs/service-tiers,
# https://openrouter.ai/docs/guides/features/service-tiers; 2026-11-23.
_BASE_TIERS = frozenset({"", BASE_TIER, "auto", "standard", "standard_only", "on_demand"})
# Source: https://openrouter.ai/docs/client-sdks/python/components/responsesrequestservicetier; 2026-11-23.
_TIER_ALIASES = {"fast": "priority"}
# "Pricing matches the on-demand tier". Source: https://console.groq.com/docs/flex-processing; 2026-11-23.
_SAME_PRICE = frozenset({("groq", "flex")})

# The provider names of capture, and common spellings, in the ids of genai-prices. None is "nobody knows who".
_PROVIDER_IDS: Mapping[str, str | None] = {
    "unknown": None,
    "xai": "x-ai",
    "bedrock": "aws",
    "amazon-bedrock": "aws",
    "gemini": "google",
    "gemini-compat": "google",
    "vertex": "google",
    "vertex-ai": "google",
    "moonshot": "moonshotai",
    "azure-openai": "azure",
    "z-ai": "zai",
}
# Who serves models at a price of his own, or on his own machine: a vendor's price would be a guess there,
# whatever the model is called ("gpt-4" is a popular --served-model-name of vLLM). The YAML can price them.
_OWN_PRICES = frozenset(
    """vllm ollama llamacpp llama-cpp lmstudio gpustack sglang tgi localai xinference
    watsonx snowflake heroku crusoe alibaba huggingface github github-models""".split()  # noqa: SIM905
)
# Names that only the vendor's own service answers to: the name alone gives the price, through any proxy.
# Models with open weights are left out on purpose: anybody may serve gpt-oss, llama or glm at any price.
_VENDOR_NAMES: Mapping[str, re.Pattern[str]] = {
    "openai": re.compile(r"gpt-(?!oss)|chatgpt-|o[134](-|$)|codex-|computer-use|text-embedding-|ft:(gpt|o\d)-"),
    "anthropic": re.compile(r"claude-"),
    "google": re.compile(r"gemini-"),
    "x-ai": re.compile(r"grok-"),
    "deepseek": re.compile(r"deepseek-(chat|reasoner)$"),
    "mistral": re.compile(r"(mistral|ministral|magistral|codestral|devstral|pixtral)-.*latest$"),
    "perplexity": re.compile(r"sonar(-|$)"),
    "cohere": re.compile(r"command-"),
    "voyageai": re.compile(r"voyage-"),
}
_FULL_DATE = re.compile(r"[-@]20\d{2}(-?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])$")
_MONTH_DAY = re.compile(r"-(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$")
# What a price list of genai-prices may charge by that TokenUsage cannot show.
_NOT_BY_TOKENS = frozenset({"requests_kcount", "output_reasoning_mtok", "output_citation_mtok"})
# Model names come from servers, so what is remembered of them must not grow for ever.
_MAX_SCHEDULES = 10_000


@dataclass(frozen=True, slots=True)
class Rates:
    """The prices of one call, in USD per 1,000 tokens.

    Attributes:
        prompt: Price of input that was neither read from the cache nor written to it.
        cached: Price of input read from the cache.
        cache_write: Price of input written to the cache.
        completion: Price of output.
        source: ``yaml:<sha8>`` or ``genai-prices:<version>``, so that anyone can look it up again.
        by_tokens_alone: False where the provider also charges what tokens do not show, such as a fee a
            request: the prices hold, but no total can be computed from them.
    """

    prompt: float
    cached: float
    cache_write: float
    completion: float
    source: str
    by_tokens_alone: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost and by which prices, as the record keeps it. None is "not known", never 0.

    Attributes:
        prompt_token_price: USD per 1,000 tokens, like the three other prices.
        total_cost: What the call cost, in USD.
        original_cost: What it had cost with nothing cached and nothing written, in USD.
        price_source: ``yaml:<sha8>``, ``genai-prices:<version>``, ``provider`` where the provider returned
            the cost, ``record`` where prices or costs were given by hand, None without a price.
    """

    prompt_token_price: float | None = None
    cached_token_price: float | None = None
    cache_write_token_price: float | None = None
    completion_token_price: float | None = None
    total_cost: float | None = None
    original_cost: float | None = None
    price_source: str | None = None


UNPRICED = Cost()
"""The cost of a call of which no price is known."""


class PriceBook:
    """Prices of models: the user's YAML over the built-in table. Safe to use from several threads."""

    def __init__(self, file: PricingFile | None = None) -> None:
        self._file = file
        self._yaml: Mapping[str, ModelEntry] = file.models if file else {}
        self._table = _BuiltInTable()
        self._schedules: dict[tuple[str | None, str, str | None], _Schedule | None] = {}

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
        from ._pricing_yaml import read_pricing  # PyYAML is 20 ms that only a pricing file needs

        return cls(read_pricing(pricing))

    def describe(self) -> str:
        """Where prices come from, for ``doctor``; loads nothing."""
        table = f"genai-prices {version('genai-prices')}"
        if self._file is None:
            return f"built-in {table}"
        count = len(self._yaml)
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
        key = (provider, model, service_tier)
        try:
            schedule = self._schedules[key]
        except KeyError:
            if len(self._schedules) >= _MAX_SCHEDULES:
                self._schedules.clear()
            schedule = self._schedules[key] = self._find(model, provider, service_tier)
        if schedule is None:
            return None
        period = schedule.always or schedule.at(at)
        if period is None:
            return None
        return period.rates[bisect_left(period.starts, prompt_tokens or 0)]

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
        prices = (rates.prompt, rates.cached, rates.cache_write, rates.completion)
        total, original = _amounts(usage, prices)
        if returned is not None:
            return Cost(*prices, returned, _shifted(returned, total, original), "provider")
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
        prices = _completed(given, rates)
        total, original = _amounts(usage, prices)
        by_hand = given.prompt_token_price is not None and given.completion_token_price is not None
        if rates is not None and not rates.by_tokens_alone and not by_hand:
            total = original = None
        known = given.total_cost if given.total_cost is not None else usage.provider_cost_usd
        if known is not None:
            shifted = _shifted(known, total, original)
            if shifted is None and usage.cached_tokens == 0 and not usage.cache_write_tokens:
                shifted = known
            total, original = known, shifted
        if given.original_cost is not None:
            original = given.original_cost
        return Cost(*prices, total, original, given.price_source or "record")

    def _find(self, model: str, provider: str | None, service_tier: str | None) -> _Schedule | None:
        tier = (service_tier or "").strip().lower()
        tier = BASE_TIER if tier in _BASE_TIERS else _TIER_ALIASES.get(tier, tier)
        wanted = canonical_provider(provider)
        for name in snapshot_names(model):
            entry = self._yaml.get(name)
            # An entry for one provider also serves calls of which nobody knows the provider.
            if entry is None or entry.provider not in (None, wanted or entry.provider):
                continue
            if entry.alias is None:
                return self._from_yaml(entry, tier)
            # The user says whose prices hold: where this provider lists none, the name alone is enough.
            return self._table.find(entry.alias, wanted, tier) or self._table.find(entry.alias, None, tier)
        return self._table.find(model, wanted, tier)

    def _from_yaml(self, entry: ModelEntry, tier: str) -> _Schedule | None:
        # A tier that the entry does not list is unknown: its base price would be a guess, often off by half.
        prices = entry.prices.get(tier)
        if prices is None or self._file is None:
            return None
        return _Schedule(_Period((), (Rates(*prices, f"yaml:{self._file.sha8}"),)))


def canonical_provider(name: str | None) -> str | None:
    """The id by which price lists know a provider; None where nobody knows who it is."""
    key = (name or "unknown").strip().lower()
    return _PROVIDER_IDS.get(key, _PROVIDER_IDS.get(key.replace("_", "-"), key))


def snapshot_names(model: str, *, month_day: bool = True) -> tuple[str, ...]:
    """The names to look a model up by: its own, then without the date of a snapshot.

    Args:
        model: Such as ``gpt-5-2025-08-07``, ``claude-sonnet-4-20250514``.
        month_day: Also take ``-0613`` of ``gpt-4-0613`` for a date.
    """
    base = _FULL_DATE.sub("", model)
    if base == model and month_day:
        base = _MONTH_DAY.sub("", model)
    return (model, base) if base not in (model, "") else (model,)


def _amounts(usage: TokenUsage, prices: _Prices) -> tuple[float | None, float | None]:
    """Total and original cost in USD; None where input is not reported or tokens used have no price."""
    prompt = usage.prompt_tokens
    if prompt is None:
        return None, None
    cached = usage.cached_tokens or 0
    written = usage.cache_write_tokens or 0
    completion = usage.completion_tokens or 0  # embeddings report none
    plain = max(prompt - cached - written, 0)
    prompt_price, cached_price, write_price, completion_price = prices
    if prompt_price is None or cached_price is None or write_price is None or completion_price is None:
        paid = _paid(completion, completion_price)
        original = _paid(prompt, prompt_price) + paid
        total = _paid(plain, prompt_price) + _paid(cached, cached_price) + _paid(written, write_price) + paid
    else:  # the usual case, without calls
        paid = completion * completion_price
        original = prompt * prompt_price + paid
        total = plain * prompt_price + cached * cached_price + written * write_price + paid
    # Only "not known" is not equal to itself.
    return (total / 1_000 if total == total else None), (original / 1_000 if original == original else None)


def _paid(tokens: int, price: float | None) -> float:
    """The price of tokens in thousandths of a USD; not-a-number where they have none, which any sum keeps."""
    if not tokens:
        return 0.0
    return math.nan if price is None else tokens * price


def _shifted(known: float, total: float | None, original: float | None) -> float | None:
    """The original cost to a total known from elsewhere: the prices tell the difference only."""
    return None if total is None or original is None else known + (original - total)


def _completed(given: Cost, rates: Rates | None) -> _Prices:
    """The four prices: those given, then the list's, its cache prices scaled to a prompt price given."""
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


@dataclass(frozen=True, slots=True)
class _Period:
    """Prices while they do not change: ``rates[i]`` is for prompts of more than ``starts[i - 1]`` tokens."""

    starts: tuple[int, ...]
    rates: tuple[Rates, ...]


class _Schedule:
    """The prices of one model at one provider and tier over time.

    Args:
        always: The one period there is; None where prices change, …
        resolve: … and this tells those of a moment in UTC, …
        days: … which can differ only from these days on, …
        times: … and only from these times of a day on. None: at any moment, so that nothing is remembered.
    """

    __slots__ = ("_days", "_periods", "_resolve", "_times", "always")

    def __init__(
        self,
        always: _Period | None,
        resolve: Callable[[datetime], _Period | None] | None = None,
        days: Iterable[date] = (),
        times: Iterable[time] | None = (),
    ) -> None:
        self.always = always
        self._resolve = resolve
        self._days = sorted(day.toordinal() for day in days)
        self._times = None if times is None else sorted(times)
        self._periods: dict[tuple[int, int], _Period | None] = {}

    def at(self, moment: datetime | None) -> _Period | None:
        if self._resolve is None:
            return self.always
        if moment is None:
            moment = datetime.now(UTC)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if self._times is None:
            return self._resolve(moment)
        key = (bisect_right(self._days, moment.toordinal()), bisect_right(self._times, moment.time()))
        if key not in self._periods:
            self._periods[key] = self._resolve(moment)
        return self._periods[key]


class _BuiltInTable:
    """The price table of ``genai-prices``, as it came with the installed release.

    The bundled data is read, not the snapshot that an application may have replaced: a price source that
    names a release must lead everybody to the same prices.
    """

    def find(self, model: str, provider: str | None, tier: str) -> _Schedule | None:
        """The schedule of a model, or None. ``provider`` is canonical, None for "nobody knows"."""
        if provider in _OWN_PRICES:
            return None
        for name in snapshot_names(model, month_day=False):
            hit = self._model(name, provider)
            if hit is not None:
                return self._schedule(*hit, tier)
        return None

    @cached_property
    def _providers(self) -> dict[str, Provider]:
        from genai_prices.data import providers

        return {provider.id: provider for provider in providers}

    def _model(self, name: str, provider: str | None) -> tuple[Provider, ModelInfo] | None:
        listed = self._providers.get(provider) if provider else None
        if listed is None:
            prefix, slash, rest = name.partition("/")
            if slash and (canonical_provider(prefix) in _VENDOR_NAMES or prefix == "azure"):
                name = rest  # as gateways write it: openai/gpt-5
            vendor = next((key for key, names in _VENDOR_NAMES.items() if names.match(name.lower())), None)
            listed = self._providers.get(vendor) if vendor else None
        if listed is None:
            return None
        # Azure lists few models of its own and names OpenAI and others as where to look next.
        found = listed.find_model(name, all_providers=list(self._providers.values()))
        return None if found is None else (listed, found)

    def _schedule(self, provider: Provider, model: ModelInfo, tier: str) -> _Schedule | None:
        if model.prices == []:
            return None
        context: dict[str, str] = {}
        if tier != BASE_TIER and (provider.id, tier) not in _SAME_PRICE:
            context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
        # The tiers of another provider's list do not hold here (genai-prices leaves them out too).
        own = any(model is listed for listed in provider.models)
        variants = [
            variant
            for variant in (getattr(model, "price_variants", None) or ())
            if own and context and all(context.get(key) == value for key, value in variant.when.items())
        ]
        if context and not variants:
            return None
        source = f"genai-prices:{version('genai-prices')}"

        def resolve(moment: datetime) -> _Period | None:
            if not context:
                return _period(model, model.get_prices(moment), source)
            # Before a tier's first day genai-prices takes the base price, which is wrong by half: "Tier
            # history before this verification is not modeled", says its data on OpenAI.
            active = any(item.constraint is None or item.constraint.active(moment) for item in variants)
            return _period(model, model.get_prices(moment, context), source) if active else None

        dated = [*(model.prices if isinstance(model.prices, list) else ()), *variants]
        constraints = [entry.constraint for entry in dated if entry.constraint is not None]
        if not constraints:
            always = resolve(datetime.now(UTC))
            return None if always is None else _Schedule(always)
        return _Schedule(None, resolve, *_changes(constraints))


def _changes(constraints: Iterable[Any]) -> tuple[list[date], list[time] | None]:
    """The days and the times of day (UTC) at which constraints of genai-prices can begin or cease to hold."""
    days: list[date] = []
    times: list[time] = []
    for constraint in constraints:
        if hasattr(constraint, "start_date"):
            days.append(constraint.start_date)
        elif hasattr(constraint, "start_time"):
            for moment in (constraint.start_time, constraint.end_time):
                aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
                times.append(datetime.combine(date(1970, 1, 1), aware).astimezone(UTC).time())
        else:  # a kind that a later release brings
            return [], None
    return days, times


def _period(model: ModelInfo, prices: ModelPrice, source: str) -> _Period | None:
    """The bands of a price list, or None where tokens have no price in it."""
    listed: dict[str, Any] = {key: value for key, value in vars(prices).items() if value is not None}
    if not listed and model.id.endswith(":free"):
        listed = {"input_mtok": Decimal(0)}
    prompt = listed.get("input_mtok")
    if prompt is None:  # by the hour, page or character, or an empty list, which is not the same as free
        return None
    # A cache price that is left out is the prompt price: no discount, no premium.
    columns = (
        prompt,
        listed.get("cache_read_mtok", prompt),
        listed.get("cache_write_mtok", prompt),
        listed.get("output_mtok", Decimal(0)),  # embeddings
    )
    starts = tuple(sorted({tier.start for column in columns for tier in getattr(column, "tiers", ())}))
    by_tokens_alone = not (listed.keys() & _NOT_BY_TOKENS)
    rates: list[Rates] = []
    for above in (None, *starts):
        prompt, cached, write, output = (float(_in_band(column, above) / 1_000) for column in columns)
        rates.append(Rates(prompt, cached, write, output, source, by_tokens_alone))
    return _Period(starts, tuple(rates))


def _in_band(price: Decimal | TieredPrices, above: int | None) -> Decimal:
    """USD per 1M tokens for a prompt of more than ``above``; a band's price holds for the whole prompt."""
    if isinstance(price, Decimal):
        return price
    tiers = [tier for tier in price.tiers if above is not None and above >= tier.start]  # sorted by start
    return tiers[-1].price if tiers else price.base
