"""Read fields of SDK objects and of plain JSON alike, without the cost of a pydantic model's ``__getattr__``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

_MAX_CLOCK_SKEW_S = 86_400.0
_NO_FIELDS: dict[str, Any] = {}
_REQUEST_IDS = (b"x-request-id", b"apim-request-id")


def fields_of(value: Any) -> Mapping[str, Any]:
    """Return the declared and extra fields of an SDK object, a mapping itself, or an empty mapping for other values."""
    if type(value) is dict:
        return value
    try:
        extra = value.__pydantic_extra__
        return {**value.__dict__, **extra} if extra else value.__dict__
    except AttributeError:  # not an SDK object
        return getattr(value, "__dict__", None) or (value if isinstance(value, Mapping) else _NO_FIELDS)


def get_field(value: Any, name: str) -> Any:
    """Return a declared or extra field of an SDK object or mapping, or None if it is missing."""
    return None if value is None else fields_of(value).get(name)


def list_of(value: Any) -> Sequence[Any]:
    """Return a list or tuple unchanged, and an empty one for other values: the SDK does not validate responses."""
    return value if isinstance(value, (list, tuple)) else ()


def text_of(value: Any) -> str | None:
    """Return a string unchanged, and None for an empty one and for other values."""
    return value if isinstance(value, str) and value else None


def seconds_of(value: Any) -> float | None:
    """Return a time that a server sent, in seconds since 1970; None if it is not a time of the past."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < time() + _MAX_CLOCK_SKEW_S:
        return float(value)
    return None


def request_id_in(headers: Any) -> str | None:
    """Return the request id in the headers of an HTTP response; None if there is none."""
    raw = getattr(headers, "raw", None)
    if raw is None:
        return text_of(headers.get("x-request-id")) or text_of(headers.get("apim-request-id"))
    # The raw headers are read, because each look-up by name of a missing header takes microseconds.
    found = {lower: value for name, value in raw if (lower := name.lower()) in _REQUEST_IDS and value}
    value = found.get(b"x-request-id") or found.get(b"apim-request-id")
    return None if value is None else value.decode("ascii", "replace")
