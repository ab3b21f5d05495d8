"""The mistakes of a pricing file that only the whole of it shows: aliases to nothing, entries that hold both."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from ._price_table import BuiltInTable, canonical_provider
from ._pricing_model import Discount
from ._pricing_rules import ModelRule, Pattern, PricingFile, Span, intersect
from ._pricing_yaml import Mistakes, Table, Values

__all__ = ["check", "entries"]


def entries(root: Table) -> Iterator[tuple[list[Any], int, Any]]:
    """Every entry of a file as it is written: the keys that lead to it, its line, and what stands there."""
    models = root.get("models")
    if not isinstance(models, Table):
        return
    for name, found in models.items():
        if isinstance(found, Values):
            for index, entry in enumerate(found):
                yield ["models", name, index], found.lines[index], entry
        else:
            yield ["models", name], models.lines[name], found


def check(root: Table, rules: Sequence[ModelRule], discounts: Mapping[str, Any], mistakes: Mistakes) -> None:
    """Find them. Blocks for half a second where an alias leaves the file, to load the built-in table.

    Args:
        root: The file as it is written.
        rules: What of it is right.
        discounts: Likewise.
        mistakes: Where they go.
    """
    table = BuiltInTable()
    _aliases(root, rules, table, mistakes)
    _overlaps(root, rules, mistakes)
    _expressions(root, rules, table, mistakes)
    _discounts(root, discounts, mistakes)


def _aliases(root: Table, rules: Sequence[ModelRule], table: BuiltInTable, mistakes: Mistakes) -> None:
    # All names that are written, also those of entries with a mistake of their own, which is told there.
    written = root.get("models")
    by_name: dict[str, list[ModelRule]] = {name: [] for name in written} if isinstance(written, Table) else {}
    for rule in rules:
        by_name.setdefault(rule.name, []).append(rule)
    file = PricingFile("", "", tuple(_pattern(name, some) for name, some in by_name.items()), {})
    for rule in rules:
        if rule.alias is None:
            continue
        line, key = _line(root, rule, "alias"), f"{_key(rule)}.alias"
        chain = _circle(file, rule)
        if chain is not None:
            mistakes.add(
                line,
                key,
                f"goes round in a circle ({' -> '.join(chain)})",
                "the name of a model that has prices",
            )
        elif next(file.matching(rule.alias, (rule.name,)), None) is None and not table.knows(rule.alias, rule.provider):
            known = [name for name in by_name if name != rule.name] + table.names()
            near = difflib.get_close_matches(rule.alias, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            mistakes.add(
                line, key, f"is {rule.alias}, a model that nobody lists{hint}", "one of this file or the table"
            )


def _pattern(name: str, rules: Iterable[ModelRule]) -> Pattern:
    try:
        return Pattern.of(name, tuple(rules))
    except re.error:  # no regular expression: told elsewhere
        return Pattern(name, None, None, ())


def _circle(file: PricingFile, first: ModelRule) -> list[str] | None:
    """The names from an alias back to one of them, None where it ends somewhere."""
    chain = [first.name]
    rule = first
    while rule.alias is not None:
        if rule.alias in chain:
            return [*chain, rule.alias]
        pattern = next(file.matching(rule.alias, chain), None)
        following = next((one for one in pattern.rules if one.alias is not None), None) if pattern else None
        if pattern is None or following is None:
            return None
        chain.append(pattern.name)
        rule = following
    return None


def _overlaps(root: Table, rules: Sequence[ModelRule], mistakes: Mistakes) -> None:
    for one, other in combinations(rules, 2):
        if one.name == other.name and one.provider == other.provider and intersect(one.span, other.span):
            _overlap(root, one, other, f"holds at the same time as {_key(one)}", mistakes)


def _overlap(root: Table, one: ModelRule, other: ModelRule, found: str, mistakes: Mistakes) -> None:
    mistakes.add(
        _line(root, other),
        _key(other),
        f"{found} (line {_line(root, one)})",
        "another provider, or other days (valid_from, valid_to)",
    )


def _expressions(root: Table, rules: Sequence[ModelRule], table: BuiltInTable, mistakes: Mistakes) -> None:
    """Two expressions that fit one name: whose price would it be?"""
    patterns = {rule.name: _pattern(rule.name, ()) for rule in rules}
    expressions = [rule for rule in rules if patterns[rule.name].regex is not None]
    if len({rule.name for rule in expressions}) < 2:
        return
    names = [*(rule.alias for rule in rules if rule.alias), *table.names()]
    for one, other in combinations(expressions, 2):
        if one.name == other.name or one.provider != other.provider or not intersect(one.span, other.span):
            continue
        first, second = patterns[one.name].regex, patterns[other.name].regex
        if first is None or second is None:
            continue
        both = next((name for name in names if first.fullmatch(name) and second.fullmatch(name)), None)
        if both is not None:
            _overlap(root, one, other, f"fits {both}, as does {_key(one)}", mistakes)


def _discounts(root: Table, discounts: Mapping[str, Any], mistakes: Mistakes) -> None:
    written: Any = root.get("discounts")
    seen: list[tuple[str | None, str, int, Span]] = []
    for provider, given in discounts.items():
        for index, one in enumerate(given if isinstance(given, list) else [given]):
            span = Span(one.valid_from, one.valid_to) if isinstance(one, Discount) else Span(None, None)
            in_list = isinstance(given, list)
            line = written[provider].lines[index] if in_list else written.lines[provider]
            key = f"discounts.{provider}{f'[{index}]' if in_list else ''}"
            for known, first, first_line, other in seen:
                if known == canonical_provider(provider) and intersect(span, other):
                    found = f"holds at the same time as {first} (line {first_line})"
                    mistakes.add(line, key, found, "other days (valid_from, valid_to)")
                    break
            seen.append((canonical_provider(provider), key, line, span))


def _line(root: Table, rule: ModelRule, key: str | None = None) -> int:
    models = root["models"]
    name, *index = rule.place
    entry = models[name]
    line: int = models.lines[name]
    if index:
        line, entry = entry.lines[index[0]], entry[index[0]]
    return entry.lines.get(key, line) if key is not None else line


def _key(rule: ModelRule) -> str:
    name, *index = rule.place
    return f"models.{name}{f'[{index[0]}]' if index else ''}"
