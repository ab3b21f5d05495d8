"""Read the pricing file, check it, and turn it into USD per 1,000 tokens. All mistakes are reported at once.

::

    prices.yaml:7: models.gpt-5.4.prompt: is -1; expected USD per 1M tokens, a number of at least 0 such as 1.25
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from rlm_cachetrack.errors import PricingError
from rlm_cachetrack.pricing.exceptions import Exceptions
from rlm_cachetrack.pricing.names import BASE_TIER, canonical_provider
from rlm_cachetrack.pricing.price_list import PriceList
from rlm_cachetrack.pricing.rates import Period, Rates
from rlm_cachetrack.pricing.rules import ModelRule, Pattern, PricingFile
from rlm_cachetrack.pricing.schedules import DatedFactor, Span

from .cross_checks import check, dotted, entries
from .schema import (
    PER,
    PRICE,
    AliasEntry,
    Discount,
    Document,
    Entry,
    InheritEntry,
    Media,
    Prices,
    TierPrices,
    UnitEntry,
    entry_tag,
)
from .yaml_nodes import Mistakes, Table, Text, Values, read_yaml, shown

_ENTRY = "a mapping with prompt and completion, or alias, or inherit"
_LISTS = {"models": f"{_ENTRY}, or a list", "discounts": "a factor, or a list of dated factors"}
# The expected mapping or list, by the last key of its path.
_SHAPES = {
    "models": "a mapping of model names to their prices",
    "tiers": "a mapping of tiers to a factor or prices",
    "above": "a mapping of prompt sizes to prices",
    "discounts": "a mapping of providers to a factor",
    "tools": "a mapping of tools to USD for one use",
    "regions": "a mapping of regions to a factor",
    "windows": "a mapping of completion windows to a factor",
    "speeds": "a mapping of speeds to a factor",
    "audio": "a mapping with prompt, cached and completion",
    "image": "a mapping with prompt, cached and completion",
}


def read_pricing(path: str | os.PathLike[str], prices: PriceList | None = None) -> PricingFile:
    """Read and check a pricing file. Blocks for one small read, and half a second if an alias needs the built-in table.

    Args:
        path: The file.
        prices: The price list whose models aliases may name; None: the installed ``genai-prices``.

    Raises:
        PricingError: One line per mistake: file, line, key, what was found and what was expected.
    """
    file = Path(path).expanduser()
    try:
        data = file.read_bytes()
    except FileNotFoundError as exc:
        raise PricingError(f"{file}: no such file; expected a pricing YAML") from exc
    except OSError as exc:
        raise PricingError(f"{file}: cannot be read ({exc.strerror}); expected a pricing YAML") from exc
    mistakes = Mistakes(str(file))
    root, line = read_yaml(data, mistakes)
    if root is None:
        mistakes.add(1, "the file", "is empty", "version: 1, per: 1M and models")
    elif not isinstance(root, Table):
        mistakes.add(line, "the file", f"is {shown(root)}", "a mapping with version, per and models")
    if not isinstance(root, Table):
        mistakes.raise_if_any()
        raise PricingError(f"{file}: expected a mapping with version, per and models")
    document = _validated(root, mistakes)
    _check_units(root, mistakes)
    sha8 = hashlib.sha256(data).hexdigest()[:8]
    models = list(_rules(document, f"yaml:{sha8}"))
    check(root, models, document.discounts, mistakes, prices)
    mistakes.raise_if_any()
    return _compiled(file.name, sha8, models, document)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the pricing file, as shipped for editors."""
    schema: dict[str, Any] = _strict(Document.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Prices of rlm_cachetrack",
    }


def _strict(schema: Any) -> Any:
    """Remove null as the value of optional keys, and keys that match no pattern, both of which pydantic allows."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _strict(value) for key, value in schema.items() if (key, value) != ("default", None)}
    if isinstance(one_of := kept.get("anyOf"), list) and {"type": "null"} in one_of:
        (only,) = [item for item in kept.pop("anyOf") if item != {"type": "null"}]
        kept |= only
    if "patternProperties" in kept:  # prompt sizes: any other key is an error
        kept["additionalProperties"] = False
    return kept


# -- checking ----------------------------------------------------------------------------------------------------------


def _validated(root: Table, mistakes: Mistakes) -> Document:
    """Return the document without the parts that have mistakes, which are added to ``mistakes``."""
    try:
        return Document.model_validate(root)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    wrong = {_explain(root, error["loc"], error, mistakes)[:2] for error in errors}
    version = Text("1")
    version.plain, version.null = True, False
    rest: dict[str, Any] = {"version": version, "models": {}, "discounts": {}}
    if "per" in root and ("per",) not in wrong:
        rest["per"] = root["per"]
    for part in ("models", "discounts"):
        if isinstance(found := root.get(part), dict):
            rest[part] = {key: value for key, value in found.items() if (part, key) not in wrong}
    return Document.model_validate(rest)  # so that the whole file can be checked too


def _explain(root: Table, loc: tuple[Any, ...], error: Any, mistakes: Mistakes) -> tuple[Any, ...]:
    """Add an error of pydantic as a mistake with its line; return its path of keys."""
    value: Any = root
    line, path, of_key = 1, [], False
    for step in loc:
        if step == "[key]":
            of_key = True
            continue
        inside = isinstance(value, Table) and step in value
        if inside or (isinstance(value, Values) and isinstance(step, int) and step < len(value)):
            line, value = value.lines[step], value[step]
        elif isinstance(step, str) and step.startswith("<"):  # the tag of a union, not a key
            continue
        path.append(step)
    key = path[-1]
    found, expected = f"is {shown(value)}", error["msg"]
    if error["type"] == "missing":
        found, expected = "is missing", _missing(root, path)
    elif error["type"] == "extra_forbidden":
        found, expected = _unknown(root, loc, path)
    elif of_key:
        found, expected = error["ctx"].get("found") or found, error["msg"]
        if error["type"] == "unknown" and not error["ctx"].get("found"):
            found = f"is not known{_near(key, error['msg'].removeprefix('one of ').split(', '))}"
    elif error["type"] == PRICE:
        expected = f"{_usd(root, path)}, a number of at least 0 such as 1.25"
    elif error["type"] == "too_short":
        found, expected = "is an empty list", _LISTS[path[0]]
    elif error["type"] in ("model_type", "dict_type", "list_type", "model_attributes_type"):
        expected = _SHAPES.get(key) or (_ENTRY if path[0] == "models" and _is_entry(path) else "prices")
    mistakes.add(line, dotted(path), found, expected)
    return tuple(path)


def _is_entry(path: list[Any]) -> bool:
    return len(path) == 2 or (len(path) == 3 and isinstance(path[2], int))


def _missing(root: Table, path: list[Any]) -> str:
    if path == ["version"]:
        return "version: 1"
    if path == ["models"]:
        return "a mapping of model names"
    if path[-1] == "factor":
        return "a factor of at least 0: 0.9 is 10% off"
    free = " (0 if output is free, as with embeddings)" if path[-1] == "completion" else ""
    return f"{_usd(root, path)}{free}"


def _unknown(root: Table, loc: tuple[Any, ...], path: list[Any]) -> tuple[str, str]:
    key = path[-1]
    if "<alias>" in loc and key in Entry.model_fields:
        return "cannot be combined with alias", "either alias or prices"
    if len(path) == 1:
        allowed = list(Document.model_fields)
    elif path[0] == "discounts":
        allowed = list(Discount.model_fields)
    elif "<alias>" in loc:
        allowed = list(AliasEntry.model_fields)
    elif path[-2] in ("audio", "image"):
        allowed = list(Media.model_fields)
    elif "<inherit>" in loc:
        allowed = ["inherit", *_in_order(InheritEntry)]
    elif "<units>" in loc:
        allowed = _in_order(UnitEntry)
    elif "above" in path[2:-1]:
        allowed = _in_order(Prices)
    elif "tiers" in path[2:-1]:
        allowed = _in_order(TierPrices)
    else:
        allowed = [*_in_order(Entry), "alias", "inherit"]
    return f"is not known{_near(key, allowed)}", f"one of {', '.join(allowed)}"


_ORDER = (
    *("provider", "per", "prompt", "cached", "cache_write", "completion", "tiers", "above", "valid_from", "valid_to"),
    *("cache_write_1h", "cache_write_12h", "audio", "image", "tools", "per_request", "regions", "windows", "speeds"),
    *(
        "per_second",
        "per_minute",
        "per_1m_characters",
        "per_image",
        "per_page",
        "per_text_message",
        "hours",
        "weekdays",
    ),
)


def _in_order(entry: type[BaseModel]) -> list[str]:
    return [name for name in _ORDER if name in entry.model_fields]


def _near(key: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


_OTHER_UNITS = {
    "per_request": "one request",
    "per_second": "one second",
    "per_minute": "one minute",
    "per_1m_characters": "1M characters",
    "per_image": "one image",
    "per_page": "one page",
    "per_text_message": "one message",
}


def _usd(root: Table, path: list[Any]) -> str:
    """Return the unit of the prices at a path."""
    if "tools" in path[2:-1]:
        return "USD for one use"
    if path[-1] in _OTHER_UNITS:
        return f"USD for {_OTHER_UNITS[path[-1]]}"
    entry: Any = root
    per: Any = root.get("per")
    for step in path[:3]:
        try:
            entry = entry[step]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(entry, dict) and "per" in entry:
            per = entry["per"]
    return f"USD per {'1K' if isinstance(per, str) and per.upper() == '1K' else '1M'} tokens"


def _check_units(root: Table, mistakes: Mistakes) -> None:
    """Check that every entry with prices has a unit. A wrong unit at the top is reported once, not for each model."""
    if "per" in root or not isinstance(root.get("models"), Table):
        return
    for path, line, entry in entries(root):
        if isinstance(entry, Table) and "per" not in entry and entry_tag(entry) not in ("<alias>", "<units>"):
            mistakes.add(line, f"{dotted(path)}.per", "is missing", "per: 1M or per: 1K, at the top or at the model")


# -- to rules ----------------------------------------------------------------------------------------------------------


def _rules(document: Document, source: str) -> Iterator[ModelRule]:
    for name, found in document.models.items():
        for index, entry in enumerate(found if isinstance(found, list) else [found]):
            location: tuple[Any, ...] = (name, index) if isinstance(found, list) else (name,)
            provider = canonical_provider(entry.provider)
            span = Span(entry.valid_from, entry.valid_to, entry.recurring())
            if isinstance(entry, AliasEntry):
                yield ModelRule(name, location, provider, span, alias=entry.alias)
                continue
            if isinstance(entry, UnitEntry):
                yield ModelRule(name, location, provider, span, _unit_prices(entry, source))
                continue
            per = entry.per or document.per or PER["1M"]
            if isinstance(entry, InheritEntry):
                exceptions = _exceptions(entry, per, source)
                yield ModelRule(name, location, provider, span, alias=entry.inherit, exceptions=exceptions)
                continue
            fees = _fees(entry)
            prices = {BASE_TIER: _period(entry, per, source, fees)}
            for tier, given in entry.tiers.items():
                if isinstance(given, Decimal):
                    prices[tier] = _period(entry, per, source, fees, given)
                else:
                    prices[tier] = _period(given, per, source, fees)
            yield ModelRule(name, location, provider, span, prices)


class _Fees(NamedTuple):
    """The parts of an entry that are the same in every tier and for every size of the prompt."""

    extras: dict[str, float]
    regions: dict[str, float]
    windows: dict[str, float]
    speeds: dict[str, float]


def _fees(entry: Entry | InheritEntry) -> _Fees:
    extras = {**entry.fees(), **entry.units()}
    parts = (extras, entry.regions, entry.windows, entry.speeds)
    return _Fees(*({name: float(value) for name, value in part.items()} for part in parts))


def _unit_prices(entry: UnitEntry, source: str) -> dict[str, Period]:
    """Return the prices by service tier of a model whose tokens have no price."""
    factors = {BASE_TIER: Decimal(1), **entry.tiers}
    prices = {
        tier: {name: float(factor * price) for name, price in entry.units().items()} for tier, factor in factors.items()
    }
    return {tier: Period((), (Rates.of_units(units, source),)) for tier, units in prices.items()}


def _exceptions(entry: InheritEntry, per: int, source: str) -> Exceptions:
    written = {name: getattr(entry, name) for name in ("prompt", "cached", "cache_write", "completion")}
    given = {**{name: price for name, price in written.items() if price is not None}, **entry.further()}
    fees = _fees(entry)
    prices = {name: float(price * 1_000 / per) for name, price in given.items()}
    return Exceptions({**prices, **fees.extras}, fees.regions, fees.windows, fees.speeds, source)


def _period(written: TierPrices, per: int, source: str, fees: _Fees, factor: Decimal = Decimal(1)) -> Period:
    bands = sorted(written.above.items())
    rates = [_rates(prices, per, source, fees, factor) for prices in (written, *(prices for _, prices in bands))]
    return Period(tuple(start for start, _ in bands), tuple(rates))


def _rates(written: Prices, per: int, source: str, fees: _Fees, factor: Decimal) -> Rates:
    """Return prices per 1,000 tokens; an omitted cache price is the prompt price."""
    prompt = written.prompt
    cached = prompt if written.cached is None else written.cached
    cache_write = prompt if written.cache_write is None else written.cache_write
    # Exact in decimal and rounded once, so that 1.25 per 1M is the float nearest to 0.00125.
    prices = [float(factor * price * 1_000 / per) for price in (prompt, cached, cache_write, written.completion)]
    further = {name: float(factor * price * 1_000 / per) for name, price in written.further().items()}
    prompt_price, cached_price, write_price, completion_price = prices
    return Rates(prompt_price, cached_price, write_price, completion_price, source, further | fees.extras, *fees[1:])


def _compiled(name: str, sha8: str, models: list[ModelRule], document: Document) -> PricingFile:
    rules: dict[str, list[ModelRule]] = {}
    for rule in models:
        rules.setdefault(rule.name, []).append(rule)
    discounts: dict[str, list[DatedFactor]] = {}
    for provider, given in document.discounts.items():
        if (key := canonical_provider(provider)) is not None:
            for one in given if isinstance(given, list) else [given]:
                discounts.setdefault(key, []).append(_discount(one))
    return PricingFile(name, sha8, tuple(Pattern.of(key, tuple(some)) for key, some in rules.items()), discounts)


def _discount(given: Decimal | Discount) -> DatedFactor:
    if isinstance(given, Discount):
        return DatedFactor(float(given.factor), Span(given.valid_from, given.valid_to, given.recurring()))
    return DatedFactor(float(given))
