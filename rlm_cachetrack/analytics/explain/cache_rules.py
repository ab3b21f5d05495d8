"""The providers' cache rules, from ``cache_rules.yaml``, which names their sources, and from a file of the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlm_cachetrack.config import cache_rules_file
from rlm_cachetrack.errors import ConfigError

_FILE = "cache_rules.yaml"
Matching = Literal["prefix", "units", "breakpoints", "none"]
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a cache entry is kept after its last use, in seconds; see the header of ``cache_rules.yaml``."""

    guaranteed_s: float
    expected_s: float
    longest_s: float
    write_factor: float = 1.0


_NONE = Lifetime(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class CacheRule:
    """The cache rule of one provider, in tokens and seconds; see the header of ``cache_rules.yaml``.

    Attributes:
        providers: The providers that the rule covers; None: any.
        models: The pattern that a model's name begins with; None: any.
        origin: The file that contains the rule.
    """

    name: str
    matching: Matching
    minimum_tokens: int
    minimum_tokens_max: int
    step_tokens: int
    step_tokens_max: int
    lifetimes: Mapping[str, Lifetime]
    implicit_breakpoint: bool
    lookback_blocks: int
    settings: tuple[str, ...]
    system_settings: tuple[str, ...]
    message_settings: tuple[str, ...]
    needs_key: bool
    key_routes: bool
    prewarm: bool
    published: bool
    source: str
    read: date
    providers: frozenset[str] | None = field(default=None, repr=False)
    models: re.Pattern[str] | None = field(default=None, repr=False)
    origin: str = _FILE

    def fits(self, provider: str | None, model: str) -> bool:
        """Return True if the rule covers a call of this provider and model."""
        fits = self.providers is None or (provider or "unknown") in self.providers
        return fits and (self.models is None or self.models.match(model) is not None)

    @property
    def all_settings(self) -> tuple[str, ...]:
        """Return the settings that the rule names; those whose change loses the most come first."""
        return self.settings + self.system_settings + self.message_settings

    def lifetime(self, options: Mapping[str, Any]) -> Lifetime:
        """Return the lifetime of the entries that a request with these options writes."""
        for name in (options.get("cache_ttl"), options.get("cache_retention"), _DEFAULT):
            if (found := self.lifetimes.get(name or "")) is not None:
                return found
        return _NONE

    def readable(self, tokens: float) -> int:
        """Return the number of tokens that can be read of a shared prefix with this number of tokens."""
        if self.matching == "none" or tokens < self.minimum_tokens:
            return 0
        return int(tokens // self.step_tokens) * self.step_tokens

    def surely_reads_more(self, low: float, than: int) -> bool:
        """Return True if more than ``than`` tokens can certainly be read of a prefix with at least ``low`` tokens."""
        if low < self.minimum_tokens_max or self.readable(low) <= than:
            return False
        return self.step_tokens_max <= self.step_tokens or low - than >= 2 * self.step_tokens_max

    def with_read(self, tokens: int) -> CacheRule:
        """Return the rule after a read of this many tokens, which proves that the minimum is not larger."""
        least = max(self.minimum_tokens, tokens)
        return self if least >= self.minimum_tokens_max else replace(self, minimum_tokens_max=least)


class _Lifetime(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    guaranteed_s: float = Field(ge=0)
    expected_s: float = Field(gt=0)
    longest_s: float = Field(gt=0)
    write_factor: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _is_ordered(self) -> _Lifetime:
        if not self.guaranteed_s <= self.expected_s <= self.longest_s:
            raise ValueError("expected guaranteed_s <= expected_s <= longest_s")
        return self


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    providers: list[str] | None = None
    models: str | None = None
    matching: Matching
    minimum_tokens: int = Field(default=0, ge=0)
    minimum_tokens_max: int = Field(default=0, ge=0)
    step_tokens: int = Field(default=1, ge=1)
    step_tokens_max: int = Field(default=1, ge=1)
    lifetimes: dict[str, _Lifetime] = {}
    implicit_breakpoint: bool = False
    lookback_blocks: int = Field(default=0, ge=0)
    settings: list[str] = []
    system_settings: list[str] = []
    message_settings: list[str] = []
    needs_key: bool = False
    key_routes: bool | None = None
    prewarm: bool = False
    published: bool = True
    source: str = Field(pattern=r"^https://")
    read: date

    @model_validator(mode="after")
    def _is_whole(self) -> _Rule:
        if self.matching != "none" and _DEFAULT not in self.lifetimes:
            raise ValueError("lifetimes has no default")
        re.compile(self.models or "")
        return self

    def rule(self, origin: str) -> CacheRule:
        return CacheRule(
            self.name,
            self.matching,
            self.minimum_tokens,
            max(self.minimum_tokens, self.minimum_tokens_max),
            self.step_tokens,
            max(self.step_tokens, self.step_tokens_max),
            {name: Lifetime(**lifetime.model_dump()) for name, lifetime in self.lifetimes.items()},
            self.implicit_breakpoint,
            self.lookback_blocks,
            tuple(self.settings),
            tuple(self.system_settings),
            tuple(self.message_settings),
            self.needs_key,
            self.needs_key if self.key_routes is None else self.key_routes,
            self.prewarm,
            self.published,
            self.source,
            self.read,
            None if self.providers is None else frozenset(self.providers),
            None if self.models is None else re.compile(self.models, re.IGNORECASE),
            origin,
        )


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[2]
    rules: list[_Rule] = Field(min_length=1)


def cache_rules() -> tuple[CacheRule, ...]:
    """Return the rules in order: the user's, then the built-in ones. Reads the files once.

    Raises:
        ConfigError: The user's file cannot be read; the message names the place.
    """
    return _rules(cache_rules_file())


@lru_cache(8)
def _rules(file: Path | None) -> tuple[CacheRule, ...]:
    built_in = _parsed(_FILE, resources.files("rlm_cachetrack.analytics.explain").joinpath(_FILE).read_bytes())
    if file is None:
        return built_in
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise ConfigError(f"Cache rules file {file}: {exc.strerror or exc}") from exc
    return (*_parsed(str(file), data), *built_in)


def _parsed(name: str, data: bytes) -> tuple[CacheRule, ...]:
    import yaml

    try:
        document = _Document.model_validate(yaml.safe_load(data))
    except yaml.YAMLError as exc:
        raise ConfigError(f"Cache rules file {name}: {exc}") from exc
    except ValidationError as exc:
        error = exc.errors()[0]
        place = ".".join(map(str, error["loc"]))
        raise ConfigError(f"Cache rules file {name}, {place}: {error['msg']} (got {error['input']!r})") from exc
    return tuple(rule.rule(name) for rule in document.rules)


def cache_rule(provider: str | None, model: str) -> CacheRule:
    """Return the first rule that fits a call; the last rule fits any call.

    Args:
        provider: The provider of the call; None: not known.
        model: The model that was served.
    """
    return _rule(cache_rules_file(), provider, model)


@lru_cache(4096)
def _rule(file: Path | None, provider: str | None, model: str) -> CacheRule:
    return next(rule for rule in _rules(file) if rule.fits(provider, model))
