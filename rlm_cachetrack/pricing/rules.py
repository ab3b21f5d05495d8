"""A checked pricing file: patterns of model names, and the rules that price each of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .exceptions import Exceptions
from .names import snapshot_names
from .rates import Period
from .schedules import DatedFactor, Span


@dataclass(frozen=True, slots=True)
class ModelRule:
    """One entry of the file.

    Attributes:
        name: The key of the entry.
        location: The key, and the index of the entry if the key has a list.
        provider: The only provider that the entry applies to (canonical name); None: all.
        span: The period in which the entry applies.
        prices: Prices by service tier, including ``BASE_TIER``; empty for an alias.
        alias: The model whose prices apply; None if ``prices`` has them.
        exceptions: The prices that differ from those of ``alias``; None: none.
    """

    name: str
    location: tuple[Any, ...]
    provider: str | None
    span: Span
    prices: Mapping[str, Period] = field(default_factory=dict)
    alias: str | None = None
    exceptions: Exceptions | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A key under ``models`` and its rules.

    Attributes:
        name: The key as written.
        prefix: The prefix of matching model names; None unless the key is ``prefix*``.
        regex: The expression that model names must match in full; None unless the key is ``/expression/``.
        rules: The entries, in the order of the file.
    """

    name: str
    prefix: str | None
    regex: re.Pattern[str] | None
    rules: tuple[ModelRule, ...]

    @classmethod
    def of(cls, name: str, rules: tuple[ModelRule, ...] = ()) -> Pattern:
        """Parse a key: ``name``, ``prefix*`` or ``/regular expression/``."""
        if len(name) > 2 and name.startswith("/") and name.endswith("/"):
            return cls(name, None, re.compile(name[1:-1]), rules)
        return cls(name, name[:-1] if name.endswith("*") else None, None, rules)

    @property
    def exact(self) -> bool:
        """Return True if the key is the name of one model."""
        return self.prefix is None and self.regex is None


class PricingFile:
    """A checked pricing file.

    Attributes:
        name: The name of the file without its folder.
        sha8: The first 8 hex digits of the file's SHA-256.
        patterns: The keys under ``models``.
        discounts: The discounts by provider (canonical name).
    """

    def __init__(
        self,
        name: str,
        sha8: str,
        patterns: tuple[Pattern, ...],
        discounts: Mapping[str, Sequence[DatedFactor]],
    ) -> None:
        self.name = name
        self.sha8 = sha8
        self.patterns = patterns
        self.discounts = discounts
        self._exact = {pattern.name: pattern for pattern in patterns if pattern.exact}
        self._prefixes = sorted(
            (pattern for pattern in patterns if pattern.prefix is not None), key=lambda p: -len(p.prefix or "")
        )
        self._regexes = [pattern for pattern in patterns if pattern.regex is not None]

    def matching(self, model: str, without: Collection[str] = ()) -> Iterator[Pattern]:
        """Yield the patterns that match a model, the most specific first.

        The order is: the exact name, the name without the date of a snapshot, prefixes from the longest to the
        shortest, expressions in the order of the file.

        Args:
            model: The name of a model.
            without: Names of patterns to skip: those through which an alias led to this model.
        """
        for name in snapshot_names(model):
            if (exact := self._exact.get(name)) is not None and name not in without:
                yield exact
        for pattern in self._prefixes:
            if model.startswith(pattern.prefix or "") and pattern.name not in without:
                yield pattern
        for pattern in self._regexes:
            if pattern.regex is not None and pattern.regex.fullmatch(model) and pattern.name not in without:
                yield pattern

    def candidates(
        self, model: str, provider: str | None, without: Collection[str] = (), *, any_provider: bool = False
    ) -> Iterator[ModelRule]:
        """Yield the rules that can price a call, the most specific first; the first whose span matches applies.

        Args:
            model: The name of the model.
            provider: The provider (canonical), None if unknown.
            without: As in :meth:`matching`.
            any_provider: Whether prices of another provider apply if the file has those of one only, as for an alias.
        """
        for pattern in self.matching(model, without):
            # Entries for some hours precede those for all.
            rules = sorted(pattern.rules, key=lambda rule: rule.span.hours is None)
            own = [rule for rule in rules if rule.provider is not None and rule.provider == provider]
            general = [rule for rule in rules if rule.provider is None]
            yield from own
            yield from general
            others = {rule.provider for rule in pattern.rules} - {None, provider}
            # If the call's provider is unknown, the entry of the only provider applies.
            if (any_provider or provider is None) and not own and not general and len(others) == 1:
                yield from rules
