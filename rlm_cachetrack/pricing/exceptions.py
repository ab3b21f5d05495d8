"""Prices that a model inherits from another one, with exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from .rates import REQUEST, Period, Rates
from .schedules import Schedule

_STANDARD = ("prompt", "cached", "cache_write", "completion")


@dataclass(frozen=True, slots=True)
class Exceptions:
    """The prices that differ from those of the inherited model.

    Attributes:
        prices: Prices by component, in the units of :class:`~.rates.Rates`.
        regions: Factors by region, which replace or complete the inherited ones.
        windows: Factors by completion window, likewise.
        speeds: Factors by speed, likewise.
        source: The price source of the exceptions, added to the source of the inherited prices.
    """

    prices: Mapping[str, float]
    regions: Mapping[str, float]
    windows: Mapping[str, float]
    speeds: Mapping[str, float]
    source: str

    def apply(self, inherited: Schedule | None, base: Schedule | None) -> Schedule | None:
        """Return the inherited prices of a service tier with the exceptions.

        An exception is written for the base tier and short prompts. The prices of other tiers and longer prompts change
        in the same ratio.

        Args:
            inherited: The prices of the tier.
            base: The prices of the base tier.
        """
        if inherited is None or base is None:
            return None

        def changed(moment: datetime) -> Period | None:
            period, standard = inherited.at(moment), base.at(moment)
            if period is None or standard is None:
                return None
            return Period(period.starts, tuple(self._change(rates, standard.rates[0]) for rates in period.rates))

        return inherited.mapped(changed, base)

    def _change(self, rates: Rates, base: Rates) -> Rates:
        standard = {name: self._price(name, getattr(rates, name), getattr(base, name)) for name in _STANDARD}
        # A fee per request replaces those for each size of search context.
        extras = {name: price for name, price in rates.extras.items() if not self._replaces(name)}
        for name in self.prices.keys() - set(_STANDARD):
            extras[name] = self._price(name, rates.extras.get(name, 0.0), base.extras.get(name, 0.0))
        return replace(
            rates,
            prompt=standard["prompt"],
            cached=standard["cached"],
            cache_write=standard["cache_write"],
            completion=standard["completion"],
            extras=extras,
            regions={**rates.regions, **self.regions},
            windows={**rates.windows, **self.windows},
            speeds={**rates.speeds, **self.speeds},
            of_tokens=rates.of_tokens or "prompt" in self.prices,
            source=self.source if rates.source == self.source else f"{self.source}+{rates.source}",
        )

    def _replaces(self, name: str) -> bool:
        return REQUEST in self.prices and name.startswith(f"{REQUEST}_")

    def _price(self, name: str, listed: float, base: float) -> float:
        wanted = self.prices.get(name)
        if wanted is None:
            return listed
        return wanted if not listed or not base or listed == base else listed * (wanted / base)
