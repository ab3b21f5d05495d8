"""The pricing YAML: read, checked whole, and turned into USD per 1,000 tokens.

The file is checked over its parsed nodes instead of plain dicts, because only the nodes still know their
lines and their duplicate keys. Nothing of the file is constructed or run. All mistakes are reported at once::

    prices.yaml:7: models.gpt-5.prompt: is -1; expected USD per 1M tokens, a number of at least 0 such as 1.25
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from .errors import PricingError
from .pricing import BASE_TIER, canonical_provider, snapshot_names

__all__ = ["ModelEntry", "Prices", "PricingFile", "read_pricing"]

_VERSION = "1"
_TOP_KEYS = ("version", "per", "models")
_PRICE_KEYS = ("prompt", "cached", "cache_write", "completion")
_MODEL_KEYS = ("provider", "per", *_PRICE_KEYS, "tiers", "alias")
# What providers answer in `service_tier` beside the base tier, and "batch" for the Batch API.
_TIERS = ("flex", "priority", "batch", "scale", "performance", "ultrafast")
_PER: Mapping[str, int] = {"1M": 1_000_000, "1K": 1_000}
# Not YAML's own numbers: it reads 010 as 8 and 1:30 as 90, and 1e-3 as text.
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")


class Prices(NamedTuple):
    """The four prices of a model at one service tier, in USD per 1,000 tokens."""

    prompt: float
    cached: float
    cache_write: float
    completion: float


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What the file says of one model name, aliases inside the file already followed.

    Attributes:
        provider: The only provider it holds for (canonical name); None is every one.
        prices: Prices by service tier, ``BASE_TIER`` among them; empty for an alias that leaves the file.
        alias: The model of the built-in table whose prices it takes; None where ``prices`` holds them.
    """

    provider: str | None
    prices: Mapping[str, Prices] = field(default_factory=dict)
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class PricingFile:
    """A checked pricing file: its name, 8 hex digits of its SHA-256, and its models by exact name."""

    name: str
    sha8: str
    models: Mapping[str, ModelEntry]


def read_pricing(path: str | os.PathLike[str]) -> PricingFile:
    """Read and check a pricing file. Blocks for one small read.

    Raises:
        PricingError: One line a mistake: file, line, key, what stands there and what was expected.
    """
    file = Path(path).expanduser()
    try:
        data = file.read_bytes()
    except FileNotFoundError as exc:
        raise PricingError(f"{file}: no such file; expected a pricing YAML") from exc
    except OSError as exc:
        raise PricingError(f"{file}: cannot be read ({exc.strerror}); expected a pricing YAML") from exc
    reader = _Reader(str(file))
    models = reader.document(_compose(str(file), data))
    reader.raise_if_wrong()
    return PricingFile(file.name, hashlib.sha256(data).hexdigest()[:8], models)


def _compose(name: str, data: bytes) -> Node | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise PricingError(
            f"{name}:{line}: byte 0x{data[exc.start]:02x} is not UTF-8; expected a YAML file saved as UTF-8"
        ) from exc
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        context = f" {exc.context}" if exc.context else ""
        raise PricingError(
            f"{name}:{line}: not valid YAML:{context} {exc.problem}; expected `key: value` lines"
        ) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise PricingError(f"{name}:{line}: not valid YAML: {exc.reason}; expected plain text") from exc
    except RecursionError as exc:
        raise PricingError(f"{name}:1: nested too deeply; expected version, per and models") from exc


@dataclass(slots=True)
class _Raw:
    """One model as written, before its alias is followed."""

    line: int
    provider: str | None
    prices: dict[str, Prices]
    alias: str | None
    alias_line: int


class _Item(NamedTuple):
    """A key of a mapping: the line on which it stands, and its value."""

    line: int
    value: Node


class _Reader:
    """Walks the nodes once and collects what is wrong, so that one run shows every mistake."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mistakes: list[tuple[int, str]] = []

    def raise_if_wrong(self) -> None:
        if self._mistakes:
            raise PricingError("\n".join(text for _, text in sorted(self._mistakes)))

    def document(self, root: Node | None) -> dict[str, ModelEntry]:
        if root is None:
            self._fail(1, "the file", "is empty", "version: 1, per: 1M and models")
            return {}
        top = self._mapping(_Item(1, root), "the file", "a mapping with version, per and models", _TOP_KEYS)
        if top is None:
            return {}
        if "version" not in top:
            self._fail(1, "version", "is missing", f"version: {_VERSION}")
        elif _shown(top["version"].value) != _VERSION:
            self._fail(top["version"].line, "version", f"is {_shown(top['version'].value)}", _VERSION)
        per = self._per(top["per"], "per") if "per" in top else None
        if "models" not in top:
            self._fail(1, "models", "is missing", "a mapping of model names")
            return {}
        models = self._mapping(top["models"], "models", "a mapping of model names to their prices")
        # A wrong `per` at the top is one mistake, not one more for every model that relies on it.
        fallback = per if per or "per" not in top else 1_000_000
        raw = {
            model: entry
            for model, item in (models or {}).items()
            if (entry := self._model(item, f"models.{model}", fallback)) is not None
        }
        return {model: self._follow(raw, model) for model in raw}

    def _model(self, item: _Item, where: str, fallback_per: int | None) -> _Raw | None:
        keys = self._mapping(item, where, "a mapping with prompt and completion, or alias", _MODEL_KEYS)
        if keys is None:
            return None
        provider = self._name_of(keys["provider"], f"{where}.provider") if "provider" in keys else None
        raw = _Raw(item.line, canonical_provider(provider), {}, None, item.line)
        if "alias" in keys:
            for key in sorted(keys.keys() - {"alias", "provider"}):
                self._fail(keys[key].line, f"{where}.{key}", "stands beside alias", "either alias or prices")
            raw.alias_line = keys["alias"].line
            raw.alias = self._name_of(keys["alias"], f"{where}.alias")
            return raw if raw.alias is not None else None
        per = self._per(keys["per"], f"{where}.per") if "per" in keys else fallback_per
        if per is None:
            if "per" not in keys:
                self._fail(item.line, f"{where}.per", "is missing", "per: 1M or per: 1K, at the top or at the model")
            per = 1_000_000  # to go on and find the other mistakes
        base = self._prices(item.line, keys, where, per)
        if base is not None:
            raw.prices[BASE_TIER] = _per_1k(base, per)
        if "tiers" in keys:
            tiers = self._mapping(keys["tiers"], f"{where}.tiers", "a mapping of tiers to a factor or prices", _TIERS)
            for tier, tier_item in (tiers or {}).items():
                found = self._tier(tier_item, f"{where}.tiers.{tier}", base, per)
                if found is not None:
                    raw.prices[tier] = _per_1k(found, per)
        return raw

    def _tier(self, item: _Item, where: str, base: tuple[Decimal, ...] | None, per: int) -> tuple[Decimal, ...] | None:
        if isinstance(item.value, MappingNode):
            keys = self._mapping(item, where, "prices", _PRICE_KEYS)
            return self._prices(item.line, keys, where, per) if keys is not None else None
        factor = self._number(item, where, "a factor of at least 0 such as 0.5, or prices")
        return None if factor is None or base is None else tuple(factor * price for price in base)

    def _prices(self, line: int, keys: Mapping[str, _Item], where: str, per: int) -> tuple[Decimal, ...] | None:
        """The four prices in the file's own unit; what may be left out is the prompt price."""
        unit = "1M" if per == _PER["1M"] else "1K"
        expected = f"USD per {unit} tokens, a number of at least 0 such as 1.25"
        found: dict[str, Decimal | None] = {
            key: self._number(keys[key], f"{where}.{key}", expected) for key in _PRICE_KEYS if key in keys
        }
        for key in ("prompt", "completion"):
            if key not in keys:
                hint = " (0 where output costs nothing, as with embeddings)" if key == "completion" else ""
                self._fail(line, f"{where}.{key}", "is missing", f"USD per {unit} tokens{hint}")
        prompt = found.get("prompt")
        prices = (
            prompt,
            found.get("cached", prompt),
            found.get("cache_write", prompt),
            found.get("completion"),
        )
        known = tuple(price for price in prices if price is not None)
        return known if len(known) == len(prices) else None

    def _follow(self, raw: Mapping[str, _Raw], model: str) -> ModelEntry:
        """Follow aliases to prices in this file, or to the name to ask the built-in table for."""
        first = entry = raw[model]
        chain = [model]
        while (alias := entry.alias) is not None:
            if alias in chain:
                self._fail(
                    first.alias_line,
                    f"models.{model}.alias",
                    f"goes round in a circle ({' -> '.join([*chain, alias])})",
                    "the name of a model that has prices",
                )
                break
            target = next((name for name in snapshot_names(alias) if name in raw and name not in chain), None)
            if target is None:
                return ModelEntry(first.provider, alias=alias)
            chain.append(target)
            entry = raw[target]
        return ModelEntry(first.provider, entry.prices)

    def _mapping(
        self, item: _Item, where: str, expected: str, allowed: Collection[str] = ()
    ) -> dict[str, _Item] | None:
        node = item.value
        if not isinstance(node, MappingNode):
            self._fail(item.line, where, f"is {_shown(node)}", expected)
            return None
        prefix = "" if where == "the file" else f"{where}."
        items: dict[str, _Item] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode) or not key.value.strip():
                self._fail(line, f"{prefix}?", "is a key without a name", "a name")
            elif key.value in items:
                self._fail(line, f"{prefix}{key.value}", f"stands already on line {items[key.value].line}", "it once")
            elif allowed and key.value not in allowed:
                near = difflib.get_close_matches(key.value, allowed, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                self._fail(line, f"{prefix}{key.value}", f"is not known{hint}", f"one of {', '.join(allowed)}")
            else:
                items[key.value] = _Item(line, value)
        return items

    def _per(self, item: _Item, where: str) -> int | None:
        per = _PER.get(item.value.value.upper()) if isinstance(item.value, ScalarNode) else None
        if per is None:
            self._fail(item.line, where, f"is {_shown(item.value)}", "1M or 1K (tokens that a price stands for)")
        return per

    def _name_of(self, item: _Item, where: str) -> str | None:
        if isinstance(item.value, ScalarNode) and item.value.value.strip() and not item.value.tag.endswith(":null"):
            return str(item.value.value).strip()
        self._fail(item.line, where, f"is {_shown(item.value)}", "a name")
        return None

    def _number(self, item: _Item, where: str, expected: str) -> Decimal | None:
        node = item.value
        if isinstance(node, ScalarNode) and node.style is None and _NUMBER.fullmatch(node.value):
            number = Decimal(node.value)
            if number >= 0 and math.isfinite(float(number)):
                return number
        self._fail(item.line, where, f"is {_shown(node)}", expected)
        return None

    def _fail(self, line: int, where: str, found: str, expected: str) -> None:
        self._mistakes.append((line, f"{self._name}:{line}: {where}: {found}; expected {expected}"))


def _per_1k(prices: tuple[Decimal, ...], per: int) -> Prices:
    # Exact in decimal and rounded once, so that 1.25 per 1M is the float nearest to 0.00125.
    return Prices(*(float(price * 1_000 / per) for price in prices))


def _shown(node: Node) -> str:
    """What stands there, as it was written and not too long."""
    if not isinstance(node, ScalarNode):
        return "a mapping" if isinstance(node, MappingNode) else "a list"
    text = node.value if len(node.value) <= 40 else f"{node.value[:37]}..."
    if node.style in ("'", '"', "|", ">"):
        return f'the text "{text}"'
    return text or "empty"
