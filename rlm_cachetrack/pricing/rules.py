"""What a checked pricing file says: patterns of model names, and for each the rules that price it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .names import snapshot_names
from .schedules import DatedFactor, Period, Span

__all__ = ["ModelRule", "Pattern", "PricingFile"]


@dataclass(frozen=True, slots=True)
class ModelRule:
    """One entry of the file.

    Attributes:
        name: The key under which it stands.
        location: The key, and its index if it stands in a list.
        provider: The only provider it holds for (canonical name); None is every one.
        span: When it holds.
        prices: By service tier, ``BASE_TIER`` among them; empty for an alias.
        alias: The model whose prices it takes; None where ``prices`` holds them.
    """

    name: str
    location: tuple[Any, ...]
    provider: str | None
    span: Span
    prices: Mapping[str, Period] = field(default_factory=dict)
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A key of the file, and its rules.

    Attributes:
        name: As it is written.
        prefix: What a name must begin with, None for another kind.
        regex: What the whole name must match, None for another kind.
        rules: In the order of the file.
    """

    name: str
    prefix: str | None
    regex: re.Pattern[str] | None
    rules: tuple[ModelRule, ...]

    @classmethod
    def of(cls, name: str, rules: tuple[ModelRule, ...] = ()) -> Pattern:
        """Read the key: ``name``, ``prefix*`` or ``/regular expression/``."""
        if len(name) > 2 and name.startswith("/") and name.endswith("/"):
            return cls(name, None, re.compile(name[1:-1]), rules)
        return cls(name, name[:-1] if name.endswith("*") else None, None, rules)

    @property
    def exact(self) -> bool:
        """Whether it is the very name of a model."""
        return self.prefix is None and self.regex is None


class PricingFile:
    """A checked pricing file.

    Attributes:
        name: The file's, without its folder.
        sha8: The first 8 hex digits of its SHA-256.
        patterns: Its models.
        discounts: Its discounts by provider (canonical name).
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
        """The patterns that a name fits, the closest first: exact, its snapshot's base, longest prefix, expressions.

        Args:
            model: A model's name.
            without: Names of patterns to leave out: those through which an alias came here.
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
        """The rules that may price a call, the closest first; which of them does depends on the time.

        Args:
            model: The model's name.
            provider: Who served it (canonical), None where nobody knows.
            without: As for :meth:`matching`.
            any_provider: Prices of another provider will do, if the file has those of only one: behind an alias.
        """
        for pattern in self.matching(model, without):
            own = [rule for rule in pattern.rules if rule.provider is not None and rule.provider == provider]
            general = [rule for rule in pattern.rules if rule.provider is None]
            yield from own
            yield from general
            others = {rule.provider for rule in pattern.rules} - {None, provider}
            # An entry for one provider also serves calls of which nobody knows the provider.
            if (any_provider or provider is None) and not own and not general and len(others) == 1:
                yield from pattern.rules
