"""The supplement: prices that ``genai-prices`` lacks, from ``supplement.yaml``.

A price of ``genai-prices`` takes precedence over one of the supplement, so an entry is no longer used once a newer
price list has the price.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

from rlm_cachetrack._process import no_fork

from .names import BASE_TIER
from .rates import Period, Rates
from .schedules import Schedule

FILE = Path(__file__).parent / "supplement.yaml"
_STANDARD = ("prompt", "cached", "cache_write", "completion")


class Validity(NamedTuple):
    """When an entry of the supplement applies.

    Attributes:
        since: The first day on which it applies; None: always.
        instead_of: The outdated prices of prompt and completion in the price list, USD per 1,000 tokens; None: the name
            is not listed.
    """

    since: date | None
    instead_of: tuple[float, float] | None


class Alias(NamedTuple):
    """The model that a name stands for.

    Attributes:
        provider: The provider whose price list has the model.
        model: Its name there.
        validity: When the name stands for it.
        factor: A factor on the token prices of that model; None: the same prices.
        speed: The speed at which the name is served, which has the factor; None: the standard one.
    """

    provider: str
    model: str
    validity: Validity
    factor: float | None = None
    speed: str | None = None

    @property
    def is_multiplied(self) -> bool:
        """Return True if the name has other prices than the model."""
        return self.factor is not None or self.speed is not None


@dataclass(frozen=True, slots=True)
class _Entry:
    provider: str
    match: re.Pattern[str]
    facts: Mapping[str, Any]


class Supplement:
    """The entries of ``supplement.yaml``."""

    def __init__(self, text: str) -> None:
        with no_fork():
            import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # with libyaml it takes 5 ms, without it 50 ms
        raw = yaml.load(text, Loader=loader)  # noqa: S506 - both loaders are safe
        self.source = f"supplement:{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self._models, self._aliases, self._additions, self._resellers = (
            [_Entry(one["provider"], re.compile(one["match"], re.IGNORECASE), one) for one in raw[part]]
            for part in ("models", "aliases", "additions", "resellers")
        )

    @classmethod
    def load(cls) -> Supplement:
        """Read the file of this release. Blocks for about 10 ms."""
        return cls(FILE.read_text(encoding="utf-8"))

    def alias(self, provider: str, model: str) -> Alias | None:
        """Return the model that a name stands for; None if the name has no entry."""
        for entry, found in _matching(self._aliases, provider, model):
            target = found.expand(entry["model"])
            prefix, slash, rest = target.partition("/")
            owner, name = (prefix, rest) if slash else (provider, target)
            return Alias(owner, name, _validity(entry), entry.get("factor"), entry.get("speed"))
        return None

    def multiplied(self, schedule: Schedule | None, alias: Alias) -> Schedule | None:
        """Return the prices of a model with all token prices multiplied by the factor of an alias.

        The name implies the region or the speed, so factors of regions, or of speeds, do not apply in addition. A speed
        that the model is not listed with has no price.
        """
        if schedule is None:
            return None

        def change(period: Period, _: datetime) -> Period | None:
            found = []
            for one in period.rates:
                factor = alias.factor if alias.speed is None else one.speeds.get(alias.speed)
                if factor is None:
                    return None
                rates = one.times(factor, source=self.source)
                found.append(replace(rates, regions={}) if alias.speed is None else replace(rates, speeds={}))
            return Period(period.starts, tuple(found))

        return _mapped(schedule, change)

    def correction(self, provider: str, model: str) -> Validity | None:
        """Return when the prices of :meth:`model` replace outdated ones of the price list; None if they never do."""
        for entry, _ in _matching(self._models, provider, model):
            return _validity(entry) if "instead_of" in entry else None
        return None

    def model(self, provider: str, model: str, tier: str) -> Schedule | None:
        """Return the prices of a model that the price list lacks; None if it has no entry, or none for the tier."""
        for entry, _ in _matching(self._models, provider, model):
            if "prices" not in entry:
                by_minute = {name: price / 60 for name, price in entry.get("per_minute", {}).items()}
                by_unit = Rates.of_units({**by_minute, **entry.get("per_unit", {})}, self.source)
                return Schedule(Period((), (by_unit,))) if tier == BASE_TIER else None
            base = _period(entry["prices"], entry.get("above"), self.source)
            if tier == BASE_TIER:
                return Schedule(base)
            factor = entry.get("tiers", {}).get(tier)
            if isinstance(factor, Mapping):
                return Schedule(_period(factor, entry.get("above"), self.source))
            return None if factor is None else _times(Schedule(base), factor)
        return None

    def resold(self, provider: str, model: str, schedule: Schedule | None, *, is_own: bool) -> Schedule | None:
        """Return the prices of a model with the fees of a provider that sells the models of vendors.

        Args:
            provider: The provider.
            model: The name of the model.
            schedule: The prices without those fees.
            is_own: Whether the prices are the provider's. A fee that they have is kept; one of the vendor is replaced.
        """
        entry = next(iter(_matching(self._resellers, provider, model)), None)
        if schedule is None or entry is None:
            return schedule
        fees = {name: price / 1_000 for name, price in entry[0]["prices"].items()}

        def with_fees(rates: Rates) -> Rates:
            return replace(rates, extras={**fees, **rates.extras} if is_own else {**rates.extras, **fees})

        def change(period: Period, _: datetime) -> Period:
            return Period(period.starts, tuple(map(with_fees, period.rates)))

        return _mapped(schedule, change)

    def complete(
        self, provider: str, model: str, tier: str, listed: Schedule | None, base: Callable[[], Schedule | None]
    ) -> Schedule | None:
        """Add missing prices to those of a model in the price list.

        Args:
            provider: The provider whose price list has the model.
            model: The name of the model.
            tier: The service tier.
            listed: The listed prices of the tier; None if there are none.
            base: Returns the listed prices of the base tier.
        """
        additions = [entry for entry, _ in _matching(self._additions, provider, model)]
        if listed is None and tier != BASE_TIER:
            given = next((entry["tiers"][tier] for entry in additions if tier in entry.get("tiers", {})), None)
            if isinstance(given, Mapping) and "prompt" in given:
                listed = Schedule(_period(given, None, self.source))
            elif given is not None and (standard := base()) is not None:
                listed = _times(standard, given)
        if listed is None or not additions:
            return listed

        above = next((entry["above"] for entry in additions if "above" in entry), None)

        def complete_period(period: Period, _: datetime) -> Period:
            if above is not None and not period.starts:
                period = _with_long_prompts(period.rates[0], above)
            return Period(period.starts, tuple(_complete(rates, additions) for rates in period.rates))

        return _mapped(listed, complete_period)


def _validity(entry: Mapping[str, Any]) -> Validity:
    outdated = entry.get("instead_of")
    prices = None if outdated is None else (outdated["prompt"] / 1_000, outdated["completion"] / 1_000)
    return Validity(entry.get("since"), prices)


def _matching(
    entries: Iterable[_Entry], provider: str, model: str
) -> Iterable[tuple[Mapping[str, Any], re.Match[str]]]:
    for entry in entries:
        if entry.provider == provider and (found := entry.match.fullmatch(model)) is not None:
            yield entry.facts, found


def _period(prices: Mapping[str, float], above: Mapping[str, Any] | None, source: str) -> Period:
    """Return a period for prices in USD per 1,000,000 tokens."""
    prompt = prices["prompt"]
    values = {"cached": prompt, "cache_write": prompt, "completion": 0, **prices}
    per_thousand = {name: value / 1_000 for name, value in values.items()}
    prompt, cached, cache_write, completion = (per_thousand.pop(name) for name in _STANDARD)
    rates = Rates(prompt, cached, cache_write, completion, source, per_thousand)
    return Period((), (rates,)) if above is None else _with_long_prompts(rates, above)


def _with_long_prompts(rates: Rates, above: Mapping[str, Any]) -> Period:
    long = rates.times(above["input"])
    return Period((above["tokens"],), (rates, replace(long, completion=rates.completion * above["output"])))


def _times(schedule: Schedule, factor: float | Mapping[str, Any] | list[Mapping[str, Any]]) -> Schedule:
    """Multiply all token prices by a factor, or by the factor whose dates apply; without one, there is no price."""
    if isinstance(factor, int | float):
        factor = {"factor": factor}
    dated = factor if isinstance(factor, list) else [factor]
    days = [one[end].toordinal() for one in dated for end in ("since", "until") if end in one]

    def change(period: Period, moment: datetime) -> Period | None:
        day = moment.date()
        for one in dated:
            if ("since" not in one or day >= one["since"]) and ("until" not in one or day < one["until"]):
                return Period(period.starts, tuple(_tier_rates(rates, one) for rates in period.rates))
        return None

    return _mapped(schedule, change, days)


def _tier_rates(rates: Rates, given: Mapping[str, Any]) -> Rates:
    """Return the prices of a tier: all multiplied by ``factor``, cached input by ``cached`` if it has its own."""
    changed = rates.times(given["factor"])
    if "cached" not in given:
        return changed
    from_cache = {name: price * given["cached"] for name, price in rates.extras.items() if name.endswith("_cached")}
    return replace(changed, cached=rates.cached * given["cached"], extras={**changed.extras, **from_cache})


def since(day: date | None, new: Schedule | None, old: Schedule | None) -> Schedule | None:
    """Return the prices of ``new`` from a day on (UTC; None: always), before it those of ``old``."""
    if day is None or new is None:
        return new
    start = datetime.combine(day, time(0), UTC)

    def resolve(moment: datetime) -> Period | None:
        schedule = new if moment >= start else old
        return None if schedule is None else schedule.at(moment)

    return Schedule(None, resolve, *_changes((new, old), (day.toordinal(),)))


def _mapped(
    schedule: Schedule, change: Callable[[Period, datetime], Period | None], days: Iterable[int] = ()
) -> Schedule:
    """Return a schedule with changed periods.

    Args:
        schedule: The prices to change.
        change: Returns the changed prices at a time; None: no price.
        days: The days (ordinals) on which ``change`` itself can change.
    """
    days = tuple(days)
    if schedule.always is not None and not days:
        return Schedule(change(schedule.always, datetime.now(UTC)))

    def resolve(moment: datetime) -> Period | None:
        period = schedule.at(moment)
        return None if period is None else change(period, moment)

    return Schedule(None, resolve, *_changes((schedule,), days))


def _changes(schedules: Iterable[Schedule | None], days: Iterable[int]) -> tuple[list[int], list[time] | None]:
    all_days, times = list(days), []
    any_moment = False
    for schedule in filter(None, schedules):
        more_days, more_times = schedule.changes
        all_days += more_days
        any_moment |= more_times is None
        times += more_times or []
    return all_days, None if any_moment else times


def _complete(rates: Rates, additions: Iterable[Mapping[str, Any]]) -> Rates:
    extras = dict(rates.extras)
    regions, windows, speeds = dict(rates.regions), dict(rates.windows), dict(rates.speeds)
    changed: dict[str, Any] = {}
    for entry in additions:
        for name, price in entry.get("prices", {}).items():
            extras.setdefault(name, price / 1_000)
        for name, rule in entry.get("factors", {}).items():
            price = getattr(rates, rule["of"]) * rule["times"]
            if name not in _STANDARD:
                extras.setdefault(name, price)
            elif getattr(rates, name) == rates.prompt:  # not listed: no discount, no premium
                changed[name] = price
        regions = {**entry.get("regions", {}), **regions}
        windows = {**entry.get("windows", {}), **windows}
        speeds = {**entry.get("speeds", {}), **speeds}
    return replace(rates, extras=extras, regions=regions, windows=windows, speeds=speeds, **changed)
