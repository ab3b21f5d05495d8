"""The YAML file of alert rules, checked when it is read."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rlm_cachetrack.errors import ConfigError

_SPAN = re.compile(r"(\d{1,6})(m|h|d)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _span(value: Any) -> Any:
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None or not int(found[1]):
        raise ValueError("expected a span of time such as 30m, 24h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


Span = Annotated[timedelta, BeforeValidator(_span)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Rule(_Strict):
    """The base of all rules: a unique name, and filters on the calls."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    window: Span = timedelta(hours=24)
    model: str | None = None
    provider: str | None = None
    query: str | None = None
    tags: dict[str, str] | None = None


class _LimitRule(_Rule):
    """A rule that compares a value with a limit; it recovers at ``recover_below``, by default 90% of the limit."""

    recover_below: Annotated[float, Field(ge=0)] | None = None


class Spend(_LimitRule):
    """Fires if the calls of the window cost more than ``above`` USD."""

    kind: Literal["spend"]
    above: Annotated[float, Field(gt=0)]


class BudgetUse(_LimitRule):
    """Fires if more than ``above_percentage`` of a budget is spent, or ``expected`` to be spent, in its period."""

    kind: Literal["budget"]
    budget: str = "default"
    above_percentage: Annotated[float, Field(gt=0)] = 100.0
    expected: bool = False


class HitRate(_LimitRule):
    """Fires if the hit rate is more than ``drop`` points below the rate in the same hours of the past four weeks."""

    kind: Literal["hit_rate"]
    window: Span = timedelta(hours=1)
    drop: Annotated[float, Field(gt=0, le=100)]
    min_prompt_tokens: Annotated[int, Field(ge=1)] = 10_000


class CacheBusts(_LimitRule):
    """Fires if more than ``above`` calls of the window lost a prefix that had been cached.

    Each evaluation compares about ``max_calls`` calls at most, those of the newest runs first; the next one continues.
    """

    kind: Literal["cache_busts"]
    window: Span = timedelta(hours=1)
    above: Annotated[float, Field(ge=0)] = 0.0
    max_calls: Annotated[int, Field(ge=1, le=50_000)] = 5_000


class Unpriced(_LimitRule):
    """Fires if more than ``above`` calls of the window have no price."""

    kind: Literal["unpriced"]
    above: Annotated[float, Field(ge=0)] = 0.0


class Failures(_LimitRule):
    """Fires if more than ``above_percentage`` of at least ``min_calls`` calls failed."""

    kind: Literal["failures"]
    window: Span = timedelta(hours=1)
    above_percentage: Annotated[float, Field(ge=0, lt=100)]
    min_calls: Annotated[int, Field(ge=1)] = 20


class Silence(_Rule):
    """Fires if no call was recorded in the window."""

    kind: Literal["silence"]
    window: Span


class JournalBacklog(_LimitRule):
    """Fires if more than ``above`` records wait in the journals of this machine."""

    kind: Literal["journal"]
    above: Annotated[float, Field(ge=0)]


Rule = Annotated[
    Spend | BudgetUse | HitRate | CacheBusts | Unpriced | Failures | Silence | JournalBacklog,
    Field(discriminator="kind"),
]


class AlertFile(_Strict):
    """The rules, and where to send notifications.

    Attributes:
        notify: Addresses of ``apprise``, such as ``mailto://…`` or ``slack://…``.
        command: A program that is started for each change; it gets the change as JSON on its standard input.
        rules: The rules.
    """

    version: Literal[1]
    notify: list[str] = []
    command: list[str] | None = None
    rules: Annotated[list[Rule], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> AlertFile:
        names = [rule.name for rule in self.rules]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two rules have the name {twice!r}")
        return self


def read_alerts(path: str | os.PathLike[str]) -> AlertFile:
    """Read and check a file of alert rules. Blocks for the file.

    Raises:
        ConfigError: The file cannot be read or has a mistake; each is named with its place in the file.
    """
    import yaml

    file = Path(path).expanduser()
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read ({exc.strerror})") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file}: is not YAML: {' '.join(str(exc).split())}") from exc
    try:
        return AlertFile.model_validate(raw)
    except ValidationError as exc:
        mistakes = []
        for error in exc.errors(include_url=False, include_input=False):
            place = ".".join(str(part) for part in error["loc"]) or "the file"
            mistakes.append(f"{file}: {place}: {error['msg'].removeprefix('Value error, ')}")
        raise ConfigError("\n".join(mistakes)) from exc
