"""The providers' cache rules, read from ``cache_rules.yaml``, which names their sources."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlm_cachetrack.errors import CacheTrackError

_FILE = "cache_rules.yaml"


@dataclass(frozen=True, slots=True)
class CacheRule:
    """The cache rule of one provider, in tokens and seconds; see the header of ``cache_rules.yaml``."""

    name: str
    matching: Literal["prefix", "breakpoints", "none"]
    minimum_tokens: int
    step_tokens: int
    ttl_s: float
    ttl_max_s: float
    write_premium: float
    needs_key: bool
    published: bool
    source: str
    read: date
    retention_s: dict[str, float] = field(default_factory=dict)

    def lifetime_s(self, retention: str | None) -> float:
        """Return the time in seconds for which an entry is kept after its last use, given the requested retention."""
        return self.retention_s.get(retention or "", self.ttl_s)

    def readable(self, tokens: float) -> int:
        """Return the number of tokens that can be read of a shared prefix with this number of tokens."""
        if self.matching == "none" or tokens < self.minimum_tokens:
            return 0
        return int(tokens // self.step_tokens) * self.step_tokens


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    providers: list[str] | None = None
    models: str | None = None
    matching: Literal["prefix", "breakpoints", "none"]
    minimum_tokens: int = Field(default=0, ge=0)
    step_tokens: int = Field(default=1, ge=1)
    ttl_s: float = Field(default=0, ge=0)
    ttl_max_s: float = Field(default=0, ge=0)
    retention_s: dict[str, float] = {}
    write_premium: float = Field(default=0, ge=0)
    needs_key: bool = False
    published: bool = True
    source: str = Field(pattern=r"^https://")
    read: date

    @model_validator(mode="after")
    def _is_whole(self) -> _Rule:
        if self.matching != "none" and not 0 < self.ttl_s <= self.ttl_max_s:
            raise ValueError("expected 0 < ttl_s <= ttl_max_s")
        re.compile(self.models or "")
        return self


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1]
    rules: list[_Rule] = Field(min_length=1)


@cache
def cache_rules() -> tuple[tuple[frozenset[str] | None, re.Pattern[str] | None, CacheRule], ...]:
    """Return the rules in order: providers (None: any), model pattern (None: any), rule. Reads one file, once.

    Raises:
        CacheTrackError: The installation is broken.
    """
    data = resources.files("rlm_cachetrack.analytics.explain").joinpath(_FILE).read_bytes()
    return _parsed(data)


def _parsed(data: bytes) -> tuple[tuple[frozenset[str] | None, re.Pattern[str] | None, CacheRule], ...]:
    import yaml

    try:
        document = _Document.model_validate(yaml.safe_load(data))
    except (yaml.YAMLError, ValidationError) as exc:
        raise CacheTrackError(f"{_FILE} is damaged: {exc}") from exc
    found = []
    for rule in document.rules:
        values: dict[str, Any] = rule.model_dump(exclude={"providers", "models"})
        providers = None if rule.providers is None else frozenset(rule.providers)
        models = None if rule.models is None else re.compile(rule.models, re.IGNORECASE)
        found.append((providers, models, CacheRule(**values)))
    return tuple(found)


@lru_cache(4096)
def cache_rule(provider: str | None, model: str) -> CacheRule:
    """Return the first rule that matches a call; the last rule matches any call.

    Args:
        provider: The provider of the call; None: not known.
        model: The model that was served.
    """
    for providers, models, rule in cache_rules():
        fits = providers is None or (provider or "unknown") in providers
        if fits and (models is None or models.match(model)):
            return rule
    raise CacheTrackError(f"{_FILE} is damaged: its last rule must fit any provider")
