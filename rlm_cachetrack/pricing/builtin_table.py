"""The built-in price table: ``genai-prices``, read as schedules of prices.

An unlisted tier has no schedule, nor has a model that users serve themselves under a vendor's name: any price would be
a guess.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .hours import has_peak, peak_changes
from .names import (
    BASE_TIER,
    PROVIDER_IDS,
    SELF_PRICED_PROVIDERS,
    VENDOR_MODELS,
    canonical_provider,
    is_list_price_gateway,
    routes,
    snapshot_names,
)
from .price_list import PriceList, installed, installed_source
from .rates import REQUEST, Period, Rates
from .schedules import Schedule
from .supplement import Alias, Supplement, Validity, since

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

# "Pricing matches the on-demand tier". Source: https://console.groq.com/docs/flex-processing; 2026-11-23.
_SAME_PRICE = frozenset({("groq", "flex")})

# Azure has the vendors' prices for models of these vendors, and its own prices for all others. genai-prices refers
# to more of them. Source: https://prices.azure.com/api/retail/prices (Foundry Models), as in LiteLLM 1.110.2;
# 2026-12-01.
_RESOLD = {"azure": ("openai", "anthropic")}
# Azure charges the same for its service tiers and for batches of OpenAI's models as OpenAI. Source: the same.
_SAME_TIERS = frozenset({("azure", "openai")})
_OPEN_WEIGHTS = re.compile(r"gpt-oss", re.IGNORECASE)

# Components beyond the four standard ones, by the name that genai-prices gives to their price.
_EXTRAS = {
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_prompt",
    "cache_audio_read_mtok": "audio_cached",
    "output_audio_mtok": "audio_completion",
    "input_image_mtok": "image_prompt",
    "cache_image_read_mtok": "image_cached",
    "output_image_mtok": "image_completion",
    "input_video_mtok": "video_prompt",
    "output_video_mtok": "video_completion",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "citation",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "social_searches_kcount": "x_search",
    "requests_kcount": REQUEST,
}


# Audio is priced per hour, text per million characters, messages and pages per thousand. Values: the component, and the
# number of units that a price covers. A page with annotations costs only the price of the annotations.
_UNITS = {
    "audio_hours": ("seconds", 3_600),
    "input_audio_hours": ("seconds", 3_600),
    "input_mchars": ("characters", 1_000_000),
    "input_text_messages_kcount": ("text_messages", 1_000),
    "input_document_kpages": ("pages", 1_000),
    "input_annotated_document_kpages": ("annotated_pages", 1_000),
}

PRICED_FIELDS = frozenset(("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok", *_EXTRAS, *_UNITS))
"""The fields of a price of genai-prices that are charged. A test compares them with those of the installed release."""

# The conditions of prices in genai-prices that are evaluated.
PRICED_CONDITIONS = frozenset(("processing", "service_tier", "speed"))


class BuiltInTable:
    """Looks up prices in a given price list, then in the installed ``genai-prices``, then in the supplement.

    Reads the data of the release, not the snapshot that an application may have updated, because a price source
    that names a release must mean the same prices everywhere.

    Args:
        prices: A price list that was fetched; None: the installed one alone, which is loaded when it is first needed
            (0.5 s).
    """

    def __init__(self, prices: PriceList | None = None) -> None:
        self._prices = prices
        # Models that are missing in a fetched list keep their price.
        self._below = None if prices is None else BuiltInTable()
        self._listed: dict[str, Provider] | None = None
        self._loaded_supplement: Supplement | None = None

    def find(self, model: str, provider: str | None, tier: str) -> Schedule | None:
        """Return the schedule of a model; None if it is not listed.

        Args:
            model: The name of the model.
            provider: The canonical provider, None if unknown.
            tier: The canonical service tier.
        """
        if provider in SELF_PRICED_PROVIDERS:
            return None
        only = provider if self._lists(provider) and not is_list_price_gateway(provider) else None
        names = [
            (listed, known_name)
            for listed, name in routes(model, provider)
            if only in (None, listed)
            for known_name in snapshot_names(name, month_day=False)
        ]
        # A fetched list takes precedence, even if only the release has the exact name of a dated snapshot.
        fetched = [] if self._below is None else [one for one in names if self._model(one[1], one[0]) is not None]
        found = next(iter(fetched), None) or next((one for one in names if self._has(*one)), None)
        return None if found is None else self._prices_of(*found, tier)

    def knows(self, model: str, provider: str | None) -> bool:
        """Return True if a provider, or any provider if None, is listed with prices of a model."""
        if self.find(model, provider, BASE_TIER) is not None or self.find(model, None, BASE_TIER) is not None:
            return True
        if provider is not None:
            return False
        return any(self.find(model, other, BASE_TIER) is not None for other in self._all_providers)

    def names(self) -> list[str]:
        """Return the names of all listed models. Blocks for half a second the first time."""
        below = set() if self._below is None else set(self._below.names())
        return sorted(below | {model.id for provider in self._providers.values() for model in provider.models})

    def listed_rates(self, at: datetime, *, fetched_only: bool = False) -> dict[tuple[str, str], Rates]:
        """Return the prices of every priced model, by provider and id, without the supplement.

        Args:
            at: The time of the prices. The prices are those of the base tier for short prompts.
            fetched_only: Without the models that are only in the installed release.
        """
        found = {} if self._below is None or fetched_only else self._below.listed_rates(at)
        for provider in self._providers.values():
            for model in provider.models:
                schedule = self._schedule(provider, model, BASE_TIER)
                period = None if schedule is None else schedule.at(at)
                if period is not None:
                    found[provider.id, model.id] = period.rates[0]
        return found

    def provider_near(self, name: str) -> str | None:
        """Return the known provider that a misspelt name probably means; None if the name is not misspelt.

        A name that contains a known one, such as ``openai-eu``, is not misspelt. Blocks for half a second the first
        time that the price table is needed.
        """
        key = canonical_provider(name)
        known = {*PROVIDER_IDS, *filter(None, PROVIDER_IDS.values()), *VENDOR_MODELS, *SELF_PRICED_PROVIDERS}
        if key is None or key in known:
            return None
        known |= self._all_providers
        if any(one in key for one in known):
            return None
        return next(iter(difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.8)), None)

    @property
    def source(self) -> str:
        """The price source of the list: ``genai-prices:`` and its release, or the day and hash of a fetched list."""
        return installed_source() if self._prices is None else self._prices.source

    @property
    def _providers(self) -> dict[str, Provider]:
        # Not a cached_property: in Python 3.11 that holds a lock, which would stay locked in a forked child.
        if self._listed is None:
            if self._prices is None:
                self._prices = installed()
            self._listed = {provider.id: provider for provider in self._prices.providers}
        return self._listed

    @property
    def _supplement(self) -> Supplement:
        if self._loaded_supplement is None:
            self._loaded_supplement = Supplement.load()
        return self._loaded_supplement

    def _has(self, provider: str, name: str) -> bool:
        """Return True if the price list or the supplement has a model of a provider, even without a price."""
        if self._model(name, provider) is not None or self._supplement.alias(provider, name) is not None:
            return True
        if self._below is not None and self._below._has(provider, name):
            return True
        return any(self._supplement.model(other, name, BASE_TIER) for other in (provider, *self._fallbacks(provider)))

    def _prices_of(self, provider: str, name: str, tier: str) -> Schedule | None:
        """Return the prices of a model of one provider: those of the price list first, then the supplement's."""
        listed = self._listed_prices(provider, name, tier)
        alias = self._supplement.alias(provider, name)
        if alias is not None and self._applies(provider, name, alias):
            aliased_tier = tier if alias.provider == provider else BASE_TIER  # tiers of another provider do not apply
            if tier != aliased_tier:
                return None
            prices = self._prices_of(alias.provider, alias.model, tier)
            if alias.is_multiplied:
                prices = self._supplement.multiplied(prices, alias)
            return since(alias.validity.since, prices, listed)
        correction = self._supplement.correction(provider, name)
        if correction is not None and self._is_outdated(provider, name, correction):
            return since(correction.since, self._supplied_prices(provider, name, tier), listed)
        if listed is not None or self._listed_prices(provider, name, BASE_TIER) is not None:
            return listed
        return self._supplied_prices(provider, name, tier)

    def _applies(self, provider: str, name: str, alias: Alias) -> bool:
        """Return True if the price list has nothing newer for a name than the alias of the supplement."""
        validity = alias.validity
        if alias.is_multiplied:  # outdated if the list has the price without the factor
            validity = validity._replace(instead_of=self._prices_today(alias.provider, alias.model))
        return self._is_outdated(provider, name, validity)

    def _is_outdated(self, provider: str, name: str, validity: Validity) -> bool:
        """Return True if the price list has nothing newer for a name than the supplement."""
        today, outdated = self._prices_today(provider, name), validity.instead_of
        return today is None or (outdated is not None and all(map(math.isclose, today, outdated)))

    def _prices_today(self, provider: str, name: str) -> tuple[float, float] | None:
        """Return the listed prices of prompt and completion; None if a model is not listed."""
        listed = self._listed_prices(provider, name, BASE_TIER)
        noon = datetime.combine(datetime.now(UTC).date(), time(12), UTC)  # prices may differ by the time of day
        period = None if listed is None else listed.at(noon)
        return None if period is None else (period.rates[0].prompt, period.rates[0].completion)

    def _listed_prices(self, provider: str, name: str, tier: str) -> Schedule | None:
        """Return the prices of the price list, completed by the supplement."""
        hit = self._model(name, provider)
        if hit is None:
            return None if self._below is None else self._below._listed_prices(provider, name, tier)
        listed, model = hit
        owner = (
            provider
            if model in listed.models
            else next(
                (other for other in self._fallbacks(provider) if model in self._providers[other].models), provider
            )
        )
        if (provider, owner) in _SAME_TIERS:
            listed = self._providers[owner]
        elif owner != provider and tier != BASE_TIER:
            return self._schedule(listed, model, tier)
        prices = self._supplement.complete(
            owner,
            name,
            tier,
            self._schedule(listed, model, tier),
            lambda: self._schedule(listed, model, BASE_TIER),
        )
        return self._supplement.resold(provider, name, prices, is_own=owner == provider)

    def _supplied_prices(self, provider: str, name: str, tier: str) -> Schedule | None:
        """Return the prices of the supplement for a model that the price list lacks."""
        supplement = self._supplement
        for other in (provider, *self._fallbacks(provider)):
            base = supplement.model(other, name, BASE_TIER)
            if base is not None:
                if tier != BASE_TIER and other != provider and (provider, other) not in _SAME_TIERS:
                    return None  # tiers of another provider do not apply
                prices = supplement.complete(other, name, tier, supplement.model(other, name, tier), lambda: None)
                return supplement.resold(provider, name, prices, is_own=other == provider)
        return None

    def _fallbacks(self, provider: str) -> tuple[str, ...]:
        """Return the providers whose prices apply to models that a provider does not list, as for Azure."""
        listed = self._providers.get(provider)
        if listed is None:
            return () if self._below is None else self._below._fallbacks(provider)
        resold = _RESOLD.get(provider)
        return tuple(other for other in listed.fallback_model_providers or () if resold is None or other in resold)

    def _lists(self, provider: str | None) -> bool:
        """Return True if a provider has its own price list."""
        if provider is None or provider in self._providers:
            return provider is not None
        return self._below is not None and self._below._lists(provider)

    @property
    def _all_providers(self) -> set[str]:
        return {*self._providers, *(set() if self._below is None else self._below._all_providers)}

    def _model(self, name: str, provider: str) -> tuple[Provider, ModelInfo] | None:
        listed = self._providers.get(provider)
        if listed is None:
            return None
        # Azure lists few models itself and refers to OpenAI and others for the rest.
        found = listed.find_model(name, all_providers=list(self._providers.values()))
        if found is None or (found not in listed.models and not self._is_resold(provider, found)):
            return None
        return listed, found

    def _is_resold(self, provider: str, model: ModelInfo) -> bool:
        """Return True if a provider charges the vendor's price for a model that only the vendor's list has."""
        is_of_vendor = any(model in self._providers[other].models for other in self._fallbacks(provider))
        return is_of_vendor and not _OPEN_WEIGHTS.match(model.id)

    def _schedule(self, provider: Provider, model: ModelInfo, tier: str) -> Schedule | None:
        if model.prices == []:
            return None
        context: dict[str, str] = {}
        if tier != BASE_TIER and (provider.id, tier) not in _SAME_PRICE:
            context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
        # The tiers of another provider's list do not apply here; genai-prices ignores them too.
        own = any(model is listed for listed in provider.models)
        variants = [
            variant
            for variant in (getattr(model, "price_variants", None) or ())
            if own and context and all(context.get(key) == value for key, value in variant.when.items())
        ]
        if context and not variants:
            return None
        source = self.source

        def resolve(moment: datetime) -> Period | None:
            if not context:
                peak = has_peak(provider.id, model.id, moment.date())
                prices = model.get_prices(moment) if peak else _off_peak(model, moment)
                return _period(model, prices, source, _speeds(model, prices, moment) if own else {})
            # Before a tier's first day genai-prices returns the base price, which is often off by half: its data on
            # OpenAI notes "Tier history before this verification is not modeled".
            active = any(item.constraint is None or item.constraint.active(moment) for item in variants)
            return _period(model, model.get_prices(moment, context), source, {}) if active else None

        dated = [*(model.prices if isinstance(model.prices, list) else ()), *variants]
        constraints = [entry.constraint for entry in dated if entry.constraint is not None]
        if not constraints:
            always = resolve(datetime.now(UTC))
            return None if always is None else Schedule(always)
        days, times = _changes(constraints)
        return Schedule(None, resolve, [*days, *(peak_changes(provider.id, model.id) if times else ())], times)


def _off_peak(model: ModelInfo, moment: datetime) -> ModelPrice:
    """Return the prices of a model on a day without peak hours."""
    prices = model.prices if isinstance(model.prices, list) else []
    for entry in reversed(prices):
        constraint = entry.constraint
        if constraint is None or (not hasattr(constraint, "start_time") and constraint.active(moment)):
            return entry.prices
    return model.get_prices(moment)


def _changes(constraints: Iterable[Any]) -> tuple[list[int], list[time] | None]:
    """Return the days (ordinals) and times of day (UTC) at which constraints of genai-prices can start or end."""
    days: list[int] = []
    times: list[time] = []
    for constraint in constraints:
        if hasattr(constraint, "start_date"):
            days.append(constraint.start_date.toordinal())
        elif hasattr(constraint, "start_time"):
            for moment in (constraint.start_time, constraint.end_time):
                aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
                times.append(datetime.combine(date(1970, 1, 1), aware).astimezone(UTC).time())
        else:  # a constraint that this release does not know
            return [], None
    return days, times


def _speeds(model: ModelInfo, standard: ModelPrice, moment: datetime) -> dict[str, float]:
    """Return the factors of the speeds that a model is listed with.

    A speed whose token prices are not all the same multiple of the standard ones is left out, so it has no price.
    """
    found = {}
    for variant in getattr(model, "price_variants", None) or ():
        speed = variant.when.get("speed")
        is_active = variant.constraint is None or variant.constraint.active(moment)
        if speed is None or len(variant.when) > 1 or not is_active:
            continue
        usual, other = _token_prices(standard), _token_prices(model.get_prices(moment, variant.when))
        factors = {other[key] / price for key, price in usual.items() if price and key in other}
        if len(factors) == 1:
            found[speed] = float(factors.pop())
    return found


def _token_prices(prices: ModelPrice) -> dict[tuple[str, int], Decimal]:
    """Return the listed prices of tokens, by field and size of prompt."""
    found = {}
    for name, price in vars(prices).items():
        if price is not None and name.endswith("_mtok"):
            for start in (0, *(tier.start for tier in getattr(price, "tiers", ()))):
                found[name, start] = _in_band(price, start or None)
    return found


def _period(model: ModelInfo, prices: ModelPrice, source: str, speeds: Mapping[str, float]) -> Period | None:
    """Return the prices by prompt size; None if the list has no price."""
    listed: dict[str, Any] = {key: value for key, value in vars(prices).items() if value is not None}
    if not listed and model.id.endswith(":free"):
        listed = {"input_mtok": Decimal(0)}
    units = {name: float(listed[key] / count) for key, (name, count) in _UNITS.items() if key in listed}
    prompt = listed.get("input_mtok")
    if prompt is None:  # an empty list does not mean free
        return Period((), (Rates.of_units(units, source),)) if units else None
    # A cache price that is not listed is the prompt price: no discount, no premium.
    columns = (
        prompt,
        listed.get("cache_read_mtok", prompt),
        listed.get("cache_write_mtok", prompt),
        listed.get("output_mtok", Decimal(0)),  # embeddings
    )
    extras = {name: listed[key] for key, name in _EXTRAS.items() if key in listed}
    every = (*columns, *extras.values())
    starts = tuple(sorted({tier.start for column in every for tier in getattr(column, "tiers", ())}))
    rates: list[Rates] = []
    for above in (None, *starts):
        prompt, cached, write, output = (float(_in_band(column, above) / 1_000) for column in columns)
        further = {name: float(_in_band(price, above) / 1_000) for name, price in extras.items()}
        rates.append(Rates(prompt, cached, write, output, source, {**further, **units}, speeds=speeds))
    return Period(starts, tuple(rates))


def _in_band(price: Decimal | TieredPrices, above: int | None) -> Decimal:
    """Return USD per 1M tokens for prompts of more than ``above`` tokens; the price applies to the whole prompt."""
    if isinstance(price, Decimal):
        return price
    tiers = [tier for tier in price.tiers if above is not None and above >= tier.start]  # sorted by start
    return tiers[-1].price if tiers else price.base
