"""Checks across the whole pricing file: unknown names, circular aliases, overlapping entries."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

from rlm_cachetrack.pricing.builtin_table import BuiltInTable
from rlm_cachetrack.pricing.names import canonical_provider
from rlm_cachetrack.pricing.price_list import PriceList
from rlm_cachetrack.pricing.rules import ModelRule, Pattern, PricingFile
from rlm_cachetrack.pricing.schedules import ALWAYS, Span, intersect

from .schema import Discount
from .yaml_nodes import Mistakes, Table, Values


def entries(root: Table) -> Iterator[tuple[list[Any], int, Any]]:
    """Yield each entry under ``models`` as written: its path of keys, its line and its value."""
    models = root.get("models")
    if not isinstance(models, Table):
        return
    for name, found in models.items():
        if isinstance(found, Values):
            for index, entry in enumerate(found):
                yield ["models", name, index], found.lines[index], entry
        else:
            yield ["models", name], models.lines[name], found


def check(
    root: Table,
    rules: Sequence[ModelRule],
    discounts: Mapping[str, Any],
    mistakes: Mistakes,
    prices: PriceList | None = None,
) -> None:
    """Add the mistakes of the whole file. Blocks for half a second if an alias needs the built-in table.

    Args:
        root: The file as written.
        rules: The entries without mistakes.
        discounts: The discounts without mistakes.
        mistakes: Collects the mistakes.
        prices: The price list of the built-in table; None: the installed ``genai-prices``.
    """
    table = BuiltInTable(prices)
    _bands(root, mistakes)
    _providers(root, table, mistakes)
    _aliases(root, rules, table, mistakes)
    _overlaps(root, rules, mistakes)
    _discounts(root, discounts, mistakes)


def _bands(root: Table, mistakes: Mistakes) -> None:
    """Find prompt sizes that occur twice in different spellings, such as 272000 and 272_000."""
    for path, _, entry in entries(root):
        if not isinstance(entry, Table):
            continue
        tables = [(path, entry)]
        if isinstance(tiers := entry.get("tiers"), Table):
            tables += [([*path, "tiers", name], tier) for name, tier in tiers.items() if isinstance(tier, Table)]
        for location, table in tables:
            if not isinstance(above := table.get("above"), Table):
                continue
            first: dict[str, str] = {}
            for written in above:
                known = first.setdefault(written.replace("_", ""), written)
                if known != written:
                    found = f"is the same size as {known} (line {above.lines[known]})"
                    mistakes.add(above.lines[written], f"{dotted(location)}.above.{written}", found, "another size")


def _providers(root: Table, table: BuiltInTable, mistakes: Mistakes) -> None:
    """Find misspelt providers, whose prices would silently apply to no call."""
    named = [
        (entry.lines["provider"], f"{dotted(path)}.provider", entry["provider"])
        for path, _, entry in entries(root)
        if isinstance(entry, Table) and isinstance(entry.get("provider"), str)
    ]
    if isinstance(written := root.get("discounts"), Table):
        named += [(written.lines[name], f"discounts.{name}", name) for name in written]
    for line, key, name in named:
        if near := table.provider_near(name):
            found = f"is {name}, an unknown provider (did you mean {near}?)"
            mistakes.add(line, key, found, "the name of a provider as in recorded calls")


def _aliases(root: Table, rules: Sequence[ModelRule], table: BuiltInTable, mistakes: Mistakes) -> None:
    # Includes entries with other mistakes, which are reported separately.
    written = root.get("models")
    by_name: dict[str, list[ModelRule]] = {name: [] for name in written} if isinstance(written, Table) else {}
    for rule in rules:
        by_name.setdefault(rule.name, []).append(rule)
    file = PricingFile("", "", tuple(_pattern(name, some) for name, some in by_name.items()), {})
    for rule in rules:
        if rule.alias is None:
            continue
        name = "alias" if rule.exceptions is None else "inherit"
        line, key = _line(root, rule, name), f"{_key(rule)}.{name}"
        circle = _circle(file, rule)
        if circle is not None:
            mistakes.add(
                line,
                key,
                f"is circular ({' -> '.join(circle)})",
                "the name of a model that has prices",
            )
        elif next(file.matching(rule.alias, (rule.name,)), None) is None and not table.knows(rule.alias, rule.provider):
            known = [name for name in by_name if name != rule.name] + table.names()
            near = difflib.get_close_matches(rule.alias, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            mistakes.add(
                line, key, f"is {rule.alias}, an unknown model{hint}", "a model of this file or of the built-in table"
            )


def _pattern(name: str, rules: Iterable[ModelRule]) -> Pattern:
    try:
        return Pattern.of(name, tuple(rules))
    except re.error:  # reported separately
        return Pattern(name, None, None, ())


def _circle(file: PricingFile, first: ModelRule) -> list[str] | None:
    """Return the names of a cycle of aliases; None if the alias leads to prices."""
    names = [first.name]
    rule = first
    while rule.alias is not None:
        if rule.exceptions is not None and rule.alias == rule.name:
            return None  # an entry that inherits prices of the built-in table
        if rule.alias in names:
            return [*names, rule.alias]
        pattern = next(file.matching(rule.alias, names), None)
        following = next((one for one in pattern.rules if one.alias is not None), None) if pattern else None
        if pattern is None or following is None:
            return None
        names.append(pattern.name)
        rule = following
    return None


def _overlaps(root: Table, rules: Sequence[ModelRule], mistakes: Mistakes) -> None:
    alike: dict[tuple[str, str | None], list[ModelRule]] = {}
    for rule in rules:
        alike.setdefault((rule.name, rule.provider), []).append(rule)
    for one, other in chain.from_iterable(combinations(group, 2) for group in alike.values()):
        if intersect(one.span, other.span):
            found = f"is valid at the same time as {_key(one)} (line {_line(root, one)})"
            expected = "another provider, or another period (valid_from, valid_to)"
            mistakes.add(_line(root, other), _key(other), found, expected)


def _discounts(root: Table, discounts: Mapping[str, Any], mistakes: Mistakes) -> None:
    written: Any = root.get("discounts")
    seen: list[tuple[str | None, str, int, Span]] = []
    for provider, given in discounts.items():
        for index, one in enumerate(given if isinstance(given, list) else [given]):
            span = Span(one.valid_from, one.valid_to, one.recurring()) if isinstance(one, Discount) else ALWAYS
            in_list = isinstance(given, list)
            line = written[provider].lines[index] if in_list else written.lines[provider]
            key = f"discounts.{provider}{f'[{index}]' if in_list else ''}"
            for known, first, first_line, other in seen:
                if known == canonical_provider(provider) and intersect(span, other):
                    found = f"is valid at the same time as {first} (line {first_line})"
                    mistakes.add(line, key, found, "another period (valid_from, valid_to)")
                    break
            seen.append((canonical_provider(provider), key, line, span))


def _line(root: Table, rule: ModelRule, key: str | None = None) -> int:
    models = root["models"]
    name, *index = rule.location
    entry = models[name]
    line: int = models.lines[name]
    if index:
        line, entry = entry.lines[index[0]], entry[index[0]]
    return entry.lines.get(key, line) if key is not None else line


def _key(rule: ModelRule) -> str:
    return dotted(["models", *rule.location])


def dotted(path: Sequence[Any]) -> str:
    """Format a path of keys for messages: ``models.gpt-5.4[0].prompt``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{step}"
    return text
