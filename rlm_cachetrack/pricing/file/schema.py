"""The contents of a pricing file as pydantic models, which check it and give the JSON Schema for editors.

Scalars arrive as :class:`~.yaml_nodes.Text`. A field that rejects a value raises an error whose message is the expected
value; :mod:`.loader` adds the line, the key and the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from rlm_cachetrack.pricing.hours import Hours
from rlm_cachetrack.pricing.names import TIER_ALIASES, TIERS

from .yaml_nodes import Text, shown

VERSION = "1"
PER = {"1M": 1_000_000, "1K": 1_000}
PRICE = "price"
"""The error type of a price; :mod:`.loader` adds the unit, which depends on the entry."""

# Stricter than YAML, which reads 010 as 8, 1:30 as 90, and 1e-3 as text.
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_COUNT = re.compile(r"[1-9](?:_?\d){0,11}")
_ISO_8601 = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?)?$"
_NUMBER_SCHEMA = {"type": "number", "minimum": 0}
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d) ?- ?([01]\d|2[0-4]):([0-5]\d)")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = re.compile(f"({'|'.join(_DAYS)})(?: ?- ?({'|'.join(_DAYS)}))?")


def _error(expected: str, found: str | None = None, kind: str = "rejected") -> PydanticCustomError:
    return PydanticCustomError(kind, "{expected}", {"expected": expected, "found": found or ""})


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, Text) and value.plain and _NUMBER.fullmatch(value):
        number = Decimal(value)
        if number >= 0 and math.isfinite(float(number)):
            return number
    return None


def _price(value: Any) -> Decimal:
    if (number := _decimal(value)) is None:
        raise _error("USD, a number of at least 0", kind=PRICE)
    return number


def _tier_factor(value: Any) -> Decimal:
    if (number := _decimal(value)) is None:
        raise _error("a factor of at least 0 such as 0.5, or prices")
    return number


def _hours(value: Any) -> tuple[tuple[time, time], ...]:
    ranges = []
    for item in value if isinstance(value, list) else [value]:
        found = _HOURS.fullmatch(item) if isinstance(item, str) else None
        begin, end = (found.group(1, 2), found.group(3, 4)) if found is not None else (("0", "0"), ("0", "0"))
        if begin == end or (end[0] == "24" and end[1] != "00"):
            raise _error("times of day in UTC such as 01:00-04:00, or a list of them", f"is {shown(value)}")
        ranges.append((time(int(begin[0]), int(begin[1])), time(int(end[0]) % 24, int(end[1]))))
    if not ranges:
        raise _error("times of day in UTC such as 01:00-04:00, or a list of them", "is an empty list")
    return tuple(ranges)


def _weekdays(value: Any) -> frozenset[int]:
    days: set[int] = set()
    for item in value if isinstance(value, list) else [value]:
        found = _DAY.fullmatch(item.lower()) if isinstance(item, str) else None
        if found is None:
            raise _error("days such as mon-fri, or a list such as [sat, sun]", f"is {shown(value)}")
        first = _DAYS.index(found[1])
        days.update((first + number) % 7 for number in range((_DAYS.index(found[2] or found[1]) - first) % 7 + 1))
    if not days:
        raise _error("days such as mon-fri, or a list such as [sat, sun]", "is an empty list")
    return frozenset(days)


def _discount_factor(value: Any) -> Decimal:
    if (number := _decimal(value)) is None:
        raise _error("a factor of at least 0: 0.9 is 10% off")
    return number


def _name(value: Any) -> str:
    if isinstance(value, str) and value.strip() and not getattr(value, "null", False):
        return str(value).strip()
    raise _error("a name")


def _per(value: Any) -> int:
    if isinstance(value, str) and value.upper() in PER:
        return PER[value.upper()]
    raise _error("1M or 1K (the number of tokens that a price is for)")


def _version(value: Any) -> str:
    if isinstance(value, str) and value == VERSION:
        return VERSION
    raise _error(VERSION)


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        raise _error("a date such as 2026-01-31, or a date and time such as 2026-01-31T12:00+01:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _after_valid_from(moment: datetime | None, info: ValidationInfo) -> datetime | None:
    begin = info.data.get("valid_from")
    if moment is not None and begin is not None and moment <= begin:
        day = (begin + timedelta(days=1)).date().isoformat()
        raise _error(f"a time after valid_from, such as {day}; valid_to itself is not included")
    return moment


def _tokens(value: Any) -> int:
    if not isinstance(value, str) or not _COUNT.fullmatch(value):
        raise _error("a number of prompt tokens such as 272000", f"is {shown(value)}")
    return int(value)


def _tier(value: Any) -> str:
    if value not in TIERS:
        hint = f' (use {TIER_ALIASES[value]}; OpenAI calls it "{value}")' if value in TIER_ALIASES else ""
        raise _error(f"one of {', '.join(TIERS)}", f"is not known{hint}" if hint else None, kind="unknown")
    return str(value)


def _model(value: Any) -> str:
    """Check a model key: an exact name, ``prefix*`` or ``/regular expression/``."""
    name = str(value)
    if len(name) > 2 and name.startswith("/") and name.endswith("/"):
        try:
            re.compile(name[1:-1])
        except re.error as exc:
            raise _error("a regular expression between slashes", f"is not a valid regular expression ({exc})") from None
    elif "*" in name[:-1]:
        raise _error("* at the end only (gpt-6*), or /a regular expression/", "has a * inside")
    return name


Price = Annotated[Decimal, PlainValidator(_price), WithJsonSchema(_NUMBER_SCHEMA)]
Name = Annotated[str, PlainValidator(_name), WithJsonSchema({"type": ["string", "number"]})]
Per = Annotated[int, PlainValidator(_per), WithJsonSchema({"enum": list(PER)})]
Moment = Annotated[
    datetime,
    PlainValidator(_moment),
    WithJsonSchema({"type": "string", "pattern": _ISO_8601}),
]
TierFactor = Annotated[Decimal, PlainValidator(_tier_factor), WithJsonSchema(_NUMBER_SCHEMA)]
DiscountFactor = Annotated[Decimal, PlainValidator(_discount_factor), WithJsonSchema(_NUMBER_SCHEMA)]
HourRanges = Annotated[
    tuple[tuple[time, time], ...], PlainValidator(_hours), WithJsonSchema({"type": ["string", "array"]})
]
Weekdays = Annotated[frozenset[int], PlainValidator(_weekdays), WithJsonSchema({"type": ["string", "array"]})]
TierName = Annotated[str, PlainValidator(_tier), WithJsonSchema({"type": "string", "enum": list(TIERS)})]
Tokens = Annotated[int, PlainValidator(_tokens), WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9_]*$"})]
ModelName = Annotated[str, PlainValidator(_model), WithJsonSchema({"type": "string"})]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Media(_Strict):
    """Prices of audio or image tokens in USD per the file's unit."""

    prompt: Price | None = Field(None, description="Input not read from the cache.")
    cached: Price | None = Field(None, description="Input read from the cache. Default: the prompt price.")
    completion: Price | None = Field(None, description="Output.")


class FurtherPrices(_Strict):
    """Prices that most models do not have, in USD per the file's unit."""

    cached: Price | None = Field(None, description="Input read from the cache. Default: the prompt price.")
    cache_write: Price | None = Field(None, description="Input written to the cache. Default: the prompt price.")
    cache_write_1h: Price | None = Field(None, description="Input written to the cache with 1-hour retention.")
    cache_write_12h: Price | None = Field(None, description="Input written to the cache with 12-hour retention.")
    audio: Media | None = Field(None, description="Audio tokens, which are never charged as text.")
    image: Media | None = Field(None, description="Image tokens. Default: the prices of text.")

    def further(self) -> Mapping[str, Decimal]:
        """Return the prices of further components by the names of :class:`~rlm_cachetrack.pricing.Rates`."""
        found = {"cache_write_1h": self.cache_write_1h, "cache_write_12h": self.cache_write_12h}
        for name, media in (("audio", self.audio), ("image", self.image)):
            if media is not None:
                found |= {f"{name}_{part}": getattr(media, part) for part in Media.model_fields}
        return {name: price for name, price in found.items() if price is not None}


class Prices(FurtherPrices):
    """Prices in USD per the file's unit."""

    prompt: Price = Field(description="Input neither read from the cache nor written to it.")
    completion: Price = Field(description="Output; 0 if it is free, as with embeddings.")


class TierPrices(Prices):
    """Prices, with other prices for long prompts."""

    above: dict[Tokens, Prices] = Field(
        default_factory=dict,
        description="Prices of the whole call if the prompt has more tokens than this, such as 272000.",
    )


class _Dated(_Strict):
    valid_from: Moment | None = Field(None, description="The time from which it applies (default offset: UTC).")
    valid_to: Annotated[Moment | None, AfterValidator(_after_valid_from)] = Field(
        None, description="The time from which it no longer applies."
    )
    hours: HourRanges | None = Field(None, description="Only at these times (UTC): 01:00-04:00, or a list.")
    weekdays: Weekdays | None = Field(None, description="Only on these days (UTC): mon-fri, or a list.")

    def recurring(self) -> Hours | None:
        """Return the times of day and days of the week; None: all."""
        if self.hours is None and self.weekdays is None:
            return None
        return Hours(self.hours or (), self.weekdays or frozenset())


class _Fees(_Strict):
    tools: dict[Name, Price] = Field(default_factory=dict, description="USD for one use of a tool: web_search: 0.01.")
    per_request: Price | None = Field(None, description="USD for each request, whatever it uses.")
    regions: dict[Name, TierFactor] = Field(
        default_factory=dict, description="Factors on token prices by region: eu: 1.1; * is every other region."
    )
    windows: dict[Name, TierFactor] = Field(
        default_factory=dict,
        description="Factors on token prices by completion window of background requests: 8h: 0.6.",
    )
    speeds: dict[Name, TierFactor] = Field(
        default_factory=dict, description="Factors on token prices by speed of inference: fast: 2."
    )

    def fees(self) -> Mapping[str, Decimal]:
        """Return the fees by the names of :class:`~rlm_cachetrack.pricing.Rates`."""
        return self.tools if self.per_request is None else {**self.tools, "request": self.per_request}


def _instead_of_second(price: Decimal | None, info: ValidationInfo) -> Decimal | None:
    if price is not None and info.data.get("per_second") is not None:
        raise _error("either per_second or per_minute, not both")
    return price


class _Units(_Strict):
    """Prices of units other than tokens, in USD for the unit in the name."""

    per_second: Price | None = Field(None, description="USD for a second of audio or video.")
    per_minute: Annotated[Price | None, AfterValidator(_instead_of_second)] = Field(
        None, description="USD for a minute of audio or video, instead of per_second."
    )
    per_1m_characters: Price | None = Field(None, description="USD for 1,000,000 characters of text to speak.")
    per_image: Price | None = Field(None, description="USD for an image.")
    per_page: Price | None = Field(None, description="USD for a page of a document.")
    per_text_message: Price | None = Field(None, description="USD for a text message to a voice model.")

    def units(self) -> Mapping[str, Decimal]:
        """Return the prices of one unit by the names of :data:`~rlm_cachetrack.pricing.UNITS`."""
        found = {
            "seconds": self.per_second if self.per_minute is None else self.per_minute / 60,
            "characters": None if self.per_1m_characters is None else self.per_1m_characters / 1_000_000,
            "images": self.per_image,
            "pages": self.per_page,
            "text_messages": self.per_text_message,
        }
        return {name: price for name, price in found.items() if price is not None}


UNIT_KEYS = frozenset(_Units.model_fields)
"""The keys of prices that do not depend on ``per``."""


class Entry(TierPrices, _Fees, _Units, _Dated):
    """The prices of a model."""

    provider: Name | None = Field(None, description="Only for calls served by this provider.")
    per: Per | None = Field(
        None, description="The number of tokens that a price is for. Default: the value of the file."
    )
    tiers: dict[
        TierName,
        Annotated[
            Annotated[TierFactor, Tag("<factor>")] | Annotated[TierPrices, Tag("<prices>")],
            Discriminator(lambda value: "<prices>" if isinstance(value, dict) else "<factor>"),
        ],
    ] = Field(default_factory=dict, description="Other service tiers: a factor, or prices.")


class UnitEntry(_Units, _Dated):
    """The prices of a model that is billed by seconds, characters or images alone."""

    provider: Name | None = Field(None, description="Only for calls served by this provider.")
    tiers: dict[TierName, TierFactor] = Field(default_factory=dict, description="Other service tiers: a factor.")


class AliasEntry(_Dated):
    """Another name of a model that has prices, such as an Azure deployment."""

    alias: Name = Field(description="A model of this file or of the built-in table.")
    provider: Name | None = Field(None, description="Only for calls served by this provider.")


class InheritEntry(FurtherPrices, _Fees, _Units, _Dated):
    """The prices of another model with exceptions."""

    inherit: Name = Field(description="A model of this file or of the built-in table.")
    provider: Name | None = Field(None, description="Only for calls served by this provider.")
    per: Per | None = Field(
        None, description="The number of tokens that a price is for. Default: the value of the file."
    )
    prompt: Price | None = Field(None, description="Input neither read from the cache nor written to it.")
    completion: Price | None = Field(None, description="Output.")


class Discount(_Dated):
    """A factor on all prices of a provider."""

    factor: DiscountFactor = Field(description="0.9 is 10% off.")


def entry_tag(value: Any) -> str:
    """Return the tag of the model that reads an entry."""
    if not isinstance(value, dict):
        return "<entry>"
    if "alias" in value:
        return "<alias>"
    if "inherit" in value:
        return "<inherit>"
    return "<entry>" if UNIT_KEYS.isdisjoint(value) or "prompt" in value or "completion" in value else "<units>"


def _discount_tag(value: Any) -> str:
    if isinstance(value, list):
        return "<list>"
    return "<dated>" if isinstance(value, dict) else "<factor>"


AnyEntry = Annotated[
    Annotated[Entry, Tag("<entry>")]
    | Annotated[AliasEntry, Tag("<alias>")]
    | Annotated[InheritEntry, Tag("<inherit>")]
    | Annotated[UnitEntry, Tag("<units>")],
    Discriminator(entry_tag),
]


# A model with an empty list would silently use the price of the built-in table.
Entries = Annotated[list[AnyEntry], Field(min_length=1)]
Discounts = Annotated[list[Discount], Field(min_length=1)]


class Document(_Strict):
    """Prices for rlm_cachetrack that override its built-in table."""

    version: Annotated[str, PlainValidator(_version), WithJsonSchema({"const": int(VERSION)})]
    per: Per | None = Field(None, description="The number of tokens that a price is for: 1M or 1K.")
    models: dict[
        ModelName,
        Annotated[
            Annotated[AnyEntry, Tag("<one>")] | Annotated[Entries, Tag("<list>")],
            Discriminator(lambda value: "<list>" if isinstance(value, list) else "<one>"),
        ],
    ] = Field(description="By exact name, prefix* or /regular expression/; a list for several providers or times.")
    discounts: dict[
        Name,
        Annotated[
            Annotated[DiscountFactor, Tag("<factor>")]
            | Annotated[Discount, Tag("<dated>")]
            | Annotated[Discounts, Tag("<list>")],
            Discriminator(_discount_tag),
        ],
    ] = Field(default_factory=dict, description="A factor on all prices of a provider.")
