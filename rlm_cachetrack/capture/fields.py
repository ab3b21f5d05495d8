"""Read fields of SDK objects and of plain JSON alike, without the cost of a pydantic model's ``__getattr__``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NO_FIELDS: dict[str, Any] = {}


def fields_of(value: Any) -> Mapping[str, Any]:
    """Return the declared fields of an SDK object, a dict itself, or an empty mapping for other values."""
    if type(value) is dict:
        return value
    fields: Mapping[str, Any] = getattr(value, "__dict__", _NO_FIELDS)
    return fields


def get_field(value: Any, name: str) -> Any:
    """Return a declared or extra field of an SDK object or mapping, or None if it is missing."""
    if value is None:
        return None
    fields = fields_of(value)
    found = fields.get(name)
    if found is None and fields is not value:
        extra = getattr(value, "__pydantic_extra__", None)
        if extra:
            return extra.get(name)
        if not fields and isinstance(value, Mapping):
            return value.get(name)
    return found


def list_of(value: Any) -> Sequence[Any]:
    """Return a list or tuple unchanged, and an empty one for other values: the SDK does not validate responses."""
    return value if isinstance(value, (list, tuple)) else ()
