"""What a pricing file may hold, as pydantic models: they check it, and the JSON Schema for editors is made of them.

Scalars arrive as :class:`~.yaml_nodes.Text`. A field that refuses one raises an error whose message is
what it expected; where it stands and what stands there is for :mod:`.loader` to say.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
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

from rlm_cachetrack.pricing.names import TIERS

from .yaml_nodes import Text, shown

__all__ = ["PER", "PRICE", "VERSION", "AliasEntry", "Discount", "Document", "Entry", "Prices", "TierPrices"]

VERSION = "1"
PER = {"1M": 1_000_000, "1K": 1_000}
PRICE = "price"
"""The type of the error of a price, whose unit depends on what stands around it."""

# Not YAML's own numbers: it reads 010 as 8 and 1:30 as 90, and 1e-3 as text.
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_COUNT = re.compile(r"[1-9](?:_?\d){0,11}")
_ISO_8601 = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?)?$"
_NUMBER_SCHEMA = {"type": "number", "minimum": 0}


def _refused(expected: str, found: str | None = None, kind: str = "refused") -> PydanticCustomError:
    return PydanticCustomError(kind, "{expected}", {"expected": expected, "found": found or ""})


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, Text) and value.plain and _NUMBER.fullmatch(value):
        number = Decimal(value)
        if number >= 0 and math.isfinite(float(number)):
            return number
    return None


def _price(value: Any) -> Decimal:
    if (number := _decimal(value)) is None:
        raise _refused("USD, a number of at least 0", kind=PRICE)
    return number


def _tier_factor(value: Any) -> Decimal:
    if (number := _decimal(value)) is None:
        raise _refused("a factor of at least 0 such as 0.5, or prices")
    return number


def _discount_factor(value: Any) -> Decimal:
    if (number := _decimal(value)) is None:
        raise _refused("a factor of at least 0: 0.9 is 10 % off")
    return number


def _name(value: Any) -> str:
    if isinstance(value, str) and value.strip() and not getattr(value, "null", False):
        return str(value).strip()
    raise _refused("a name")


def _per(value: Any) -> int:
    if isinstance(value, str) and value.upper() in PER:
        return PER[value.upper()]
    raise _refused("1M or 1K (tokens that a price stands for)")


def _version(value: Any) -> str:
    if isinstance(value, str) and value == VERSION:
        return VERSION
    raise _refused(VERSION)


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        raise _refused("a date such as 2026-01-31, or a date and time such as 2026-01-31T12:00+01:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _after_valid_from(moment: datetime | None, info: ValidationInfo) -> datetime | None:
    begin = info.data.get("valid_from")
    if moment is not None and begin is not None and moment <= begin:
        day = (begin + timedelta(days=1)).date().isoformat()
        raise _refused(f"a later moment than valid_from, such as {day}: the first at which it holds no more")
    return moment


def _tokens(value: Any) -> int:
    if not isinstance(value, str) or not _COUNT.fullmatch(value):
        raise _refused("a number of prompt tokens such as 272000", f"is {shown(value)}")
    return int(value)


def _tier(value: Any) -> str:
    if value not in TIERS:
        raise _refused(f"one of {', '.join(TIERS)}", kind="unknown")
    return str(value)


def _model(value: Any) -> str:
    """An exact name, ``prefix*`` or ``/regular expression/``."""
    name = str(value)
    if len(name) > 2 and name.startswith("/") and name.endswith("/"):
        try:
            re.compile(name[1:-1])
        except re.error as exc:
            raise _refused("a regular expression between slashes", f"is no regular expression ({exc})") from None
    elif "*" in name[:-1]:
        raise _refused("* at the end only (gpt-5*), or /a regular expression/", "has a * inside")
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
TierName = Annotated[str, PlainValidator(_tier), WithJsonSchema({"type": "string", "enum": list(TIERS)})]
Tokens = Annotated[int, PlainValidator(_tokens), WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9_]*$"})]
ModelName = Annotated[str, PlainValidator(_model), WithJsonSchema({"type": "string"})]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prices(_Strict):
    """Prices in USD per the file's unit."""

    prompt: Price = Field(description="Input that is neither read from the cache nor written to it.")
    cached: Price | None = Field(None, description="Input read from the cache. Left out: the prompt price.")
    cache_write: Price | None = Field(None, description="Input written to the cache. Left out: the prompt price.")
    completion: Price = Field(description="Output; 0 where it costs nothing, as with embeddings.")


class TierPrices(Prices):
    """Prices, and those of long prompts."""

    above: dict[Tokens, Prices] = Field(
        default_factory=dict,
        description="Prices of the whole call where the prompt has more tokens than this, such as 272000.",
    )


class _Dated(_Strict):
    valid_from: Moment | None = Field(None, description="The first moment at which it holds (UTC without an offset).")
    valid_to: Annotated[Moment | None, AfterValidator(_after_valid_from)] = Field(
        None, description="The first moment at which it holds no more."
    )


class Entry(TierPrices, _Dated):
    """The prices of a model."""

    provider: Name | None = Field(None, description="Only for calls that this provider served.")
    per: Per | None = Field(None, description="Tokens that a price stands for; else that of the file.")
    tiers: dict[
        TierName,
        Annotated[
            Annotated[TierFactor, Tag("<factor>")] | Annotated[TierPrices, Tag("<prices>")],
            Discriminator(lambda value: "<prices>" if isinstance(value, dict) else "<factor>"),
        ],
    ] = Field(default_factory=dict, description="Other service tiers: a factor, or prices.")


class AliasEntry(_Dated):
    """A name, such as that of an Azure deployment, for a model that has prices."""

    alias: Name = Field(description="A model of this file or of the built-in table.")
    provider: Name | None = Field(None, description="Only for calls that this provider served.")


class Discount(_Dated):
    """A factor on every price of a provider."""

    factor: DiscountFactor = Field(description="0.9 is 10 % off.")


def _kind_of_entry(value: Any) -> str:
    return "<alias>" if isinstance(value, dict) and "alias" in value else "<entry>"


def _kind_of_discount(value: Any) -> str:
    if isinstance(value, list):
        return "<list>"
    return "<dated>" if isinstance(value, dict) else "<factor>"


AnyEntry = Annotated[
    Annotated[Entry, Tag("<entry>")] | Annotated[AliasEntry, Tag("<alias>")], Discriminator(_kind_of_entry)
]


# A model that is named and has no entry would go on without the price that was meant.
Entries = Annotated[list[AnyEntry], Field(min_length=1)]
Discounts = Annotated[list[Discount], Field(min_length=1)]


class Document(_Strict):
    """Prices of rlm_cachetrack, laid over its built-in table."""

    version: Annotated[str, PlainValidator(_version), WithJsonSchema({"const": int(VERSION)})]
    per: Per | None = Field(None, description="Tokens that a price stands for: 1M or 1K.")
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
            Discriminator(_kind_of_discount),
        ],
    ] = Field(default_factory=dict, description="A factor on every price of a provider.")
