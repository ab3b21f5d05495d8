"""Find the usage in an object that the SDK returned, and copy it to plain data, on the calling thread.

This takes microseconds; :mod:`.reading` interprets the usage, on the writer thread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 8


def locate_usage(payload: object) -> object | None:
    """Find the usage in a response, a chunk of a stream, or an event.

    Looks at ``.usage``, then ``.x_groq.usage`` (Groq's last chunk), ``.choices[0].usage`` (Moonshot's), and
    ``.response.usage`` (events of the Responses API), in SDK models and in plain dicts. It is called for every chunk on
    the calling thread, so it reads the models' own dictionaries: raising for a missing attribute of a pydantic model
    takes a microsecond.

    Returns:
        The usage unchanged, an SDK object or a dict; None if there is none or it is empty. Never raises for a response
        of the SDK, never blocks.
    """
    fields: Any = payload if type(payload) is dict else getattr(payload, "__dict__", None)
    if fields is None:
        return _usage_or_none(getattr(payload, "usage", None))
    usage = fields.get("usage")
    if usage is not None:
        return usage if getattr(usage, "__pydantic_fields_set__", None) else _usage_or_none(usage)
    extra = None if fields is payload else getattr(payload, "__pydantic_extra__", None)
    holder = None
    if extra:
        if (usage := extra.get("usage")) is not None:
            return _usage_or_none(usage)
        holder = extra.get("x_groq")
    if holder is None:
        holder = fields.get("x_groq")
    if holder is not None and (usage := _usage_or_none(_member(holder, "usage"))) is not None:
        return usage
    choices = fields.get("choices")
    holder = choices[0] if choices and type(choices) is list else fields.get("response")
    if holder is not None:
        return _usage_or_none(_member(holder, "usage"))
    if extra is None and fields is not payload:  # not a pydantic model, so attribute access is cheap
        return _usage_or_none(getattr(payload, "usage", None))
    return None


def plain(obj: object) -> dict[str, Any] | None:
    """Copy a usage to plain data that JSONB accepts: exactly the fields that the server sent.

    Returns:
        A new dict (of a pydantic model: the fields that were set and the extra ones); None if ``obj`` is neither a
        model nor a mapping. Values that JSONB does not accept become text; nesting stops at eight levels. Never raises,
        never blocks.
    """
    try:
        return _plain_object(obj, 1)
    except Exception:
        return None


def _usage_or_none(usage: object) -> object | None:
    if not usage or isinstance(usage, (str, bytes, int, float, list, tuple)):
        return None
    if getattr(usage, "__pydantic_fields_set__", True) or getattr(usage, "__pydantic_extra__", None):
        return usage
    return None  # the model of an empty object


def _member(obj: object, name: str) -> object | None:
    if type(obj) is dict:
        return obj.get(name)
    fields = getattr(obj, "__dict__", None)
    if fields is None:
        return None
    value = fields.get(name)
    if value is None and (extra := getattr(obj, "__pydantic_extra__", None)):
        value = extra.get(name)
    return value  # type: ignore[no-any-return]


def _plain_object(obj: Any, depth: int) -> dict[str, Any] | None:
    """Copy a mapping, or the fields that were set in a pydantic model; None for anything else."""
    if type(obj) is dict:
        return _plain_dict(obj, depth)
    sent = getattr(obj, "__pydantic_fields_set__", None)
    if type(sent) is set:
        out = {name: _plain_value(value, depth) for name, value in obj.__dict__.items() if name in sent}
        if extra := getattr(obj, "__pydantic_extra__", None):
            out.update(_plain_dict(extra, depth))
        return out
    return _plain_dict(obj, depth) if isinstance(obj, Mapping) else None


def _plain_dict(fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {
        key if type(key) is str and key.isidentifier() else _text(str(key)): _plain_value(value, depth)
        for key, value in fields.items()
    }


def _plain_value(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if depth >= _MAX_DEPTH:
        return None
    if isinstance(value, (list, tuple)):
        return [_plain_value(item, depth + 1) for item in value]
    nested = _plain_object(value, depth + 1)
    return _text(str(value)) if nested is None else nested


def _text(value: str) -> str:
    """Return ``value`` without characters that PostgreSQL rejects in text: NUL and lone surrogates."""
    if value.isascii():
        return value.replace("\0", "\ufffd") if "\0" in value else value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
