"""Price lists: the data of ``genai-prices``, of the installed release or fetched later."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rlm_cachetrack._process import no_fork
from rlm_cachetrack.errors import PriceListError

if TYPE_CHECKING:
    from genai_prices.types import Provider


@dataclass(frozen=True)
class PriceList:
    """The data of ``genai-prices``.

    Attributes:
        source: The price source: ``genai-prices:0.2.3`` for a release; for fetched data the day and the first 8 digits
            of its SHA-256, as in ``genai-prices:2026-12-01-1a2b3c4d``.
        providers: The providers and their models.
    """

    source: str
    providers: Sequence[Provider]


def installed_source() -> str:
    """Return the price source of the installed release. Does not load its data."""
    return f"genai-prices:{version('genai-prices')}"


def installed() -> PriceList:
    """Return the data of the installed release of ``genai-prices``. Blocks for half a second the first time."""
    with no_fork():
        from genai_prices.data import providers

    return PriceList(installed_source(), providers)


def fetch_address() -> str:
    """Return the address at which ``genai-prices`` publishes its newest data. Blocks to import it."""
    with no_fork():
        from genai_prices.update_prices import DEFAULT_UPDATE_URL

    return DEFAULT_UPDATE_URL


def sha8_of(data: bytes) -> str:
    """Return the first 8 hex digits of the SHA-256 of a price list."""
    return hashlib.sha256(data).hexdigest()[:8]


def parse(data: bytes, day: date, origin: str) -> PriceList:
    """Check the data that ``genai-prices`` publishes, and return it as a price list. Blocks for about 0.2 s.

    Prices of units that the installed release does not know are left out.

    Args:
        data: The published file: a JSON array of providers.
        day: The day on which it was fetched, for the price source.
        origin: The address or file, for messages.

    Raises:
        PriceListError: The data is not a price list of ``genai-prices``.
    """
    try:
        raw = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise PriceListError(f"{origin} is not JSON in UTF-8") from None
    except (ValueError, RecursionError) as exc:
        raise PriceListError(f"{origin} is not JSON: {exc}") from None
    if not isinstance(raw, list):
        raise PriceListError(f"{origin} is not a price list of genai-prices: expected a JSON array of providers")
    with no_fork():
        # No other function parses the published file into the types of the release; UpdatePrices.fetch() uses it.
        from genai_prices.types import _providers_from_raw
        from genai_prices.units import _get_registry
        from pydantic import ValidationError

    known_units = frozenset(unit.price_key for unit in _get_registry().units.values())
    count = 0
    try:
        for prices in _price_objects(raw):
            _check_prices(prices, known_units, origin)
            count += bool(prices)
        providers = _providers_from_raw(raw)
    except PriceListError:
        raise
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise PriceListError(f"{origin} does not have the format of genai-prices: {place}: {first['msg']}") from None
    except Exception as exc:
        reason = f"{type(exc).__name__}: {exc}"
        raise PriceListError(f"{origin} does not have the format of genai-prices: {reason}") from None
    if not count:
        raise PriceListError(f"{origin} is not a price list of genai-prices: it has no price")
    return PriceList(f"genai-prices:{day.isoformat()}-{sha8_of(data)}", providers)


def _price_objects(raw: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of prices in the published data."""
    if isinstance(raw, list):
        for item in raw:
            yield from _price_objects(item)
    elif isinstance(raw, dict):
        for key, value in raw.items():
            if key == "prices" and isinstance(value, dict):
                yield value
            else:
                yield from _price_objects(value)


def _check_prices(prices: dict[str, Any], known_units: frozenset[str], origin: str) -> None:
    """Remove prices of unknown units, and check that the others are finite and not negative."""
    for unit in [key for key in prices if key not in known_units]:
        del prices[unit]
    for unit, price in prices.items():
        values = [price]
        if isinstance(price, dict):
            values = [price.get("base"), *(tier.get("price") for tier in price.get("tiers", ()))]
        for value in values:
            if value is None:
                continue
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise PriceListError(f"{origin} has a price that is not a number: {unit}: {value!r}") from None
            if not (math.isfinite(number) and number >= 0):
                raise PriceListError(f"{origin} has a price that is negative or not finite: {unit}: {value!r}")
