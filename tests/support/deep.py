"""Describe everything that a caller can observe of a value as plain data, so that two values can be compared.

A description includes types, the fields that the server sent, and other attributes. It omits what differs between any
two calls: times, ports, memory addresses, and the length of the request.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any

import pydantic

_MAX_DEPTH = 24
_HTTP_RESPONSE_FIELDS = ("status_code", "reason_phrase", "http_version", "is_closed", "is_stream_consumed")
_RAW_RESPONSE_FIELDS = ("status_code", "http_version", "method", "is_closed", "retries_taken", "request_id")
_OMITTED_HEADERS = frozenset({"content-length", "host"})


def describe(value: Any, depth: int = 0) -> Any:
    """Describe a value that the SDK returned."""
    if depth > _MAX_DEPTH:
        raise AssertionError("nested too deeply to compare")
    below = depth + 1
    if value is None or type(value) in (bool, int, float, bytes):
        return value
    if type(value) is str:
        value = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", value)
        return re.sub(r"cancel scope [0-9a-f]+", "cancel scope AT", value)
    if isinstance(value, enum.Enum):
        return (_type_name(value), value.name)
    if isinstance(value, BaseException):
        return describe_error(value, depth)
    if isinstance(value, pydantic.BaseModel):
        return {
            "type": _type_name(value),
            "set": sorted(value.model_fields_set),
            "fields": {name: describe(item, below) for name, item in value.__dict__.items()},
            "extra": describe(value.__pydantic_extra__, below),
            "request_id": getattr(value, "_request_id", None),
            "json": value.model_dump_json(exclude_unset=True, warnings=False) if depth == 0 else None,
        }
    if isinstance(value, Mapping):
        return (_type_name(value), [(key, describe(item, below)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (_type_name(value), [describe(item, below) for item in value])
    if hasattr(value, "is_stream_consumed"):
        return _http(value, below)
    if hasattr(value, "http_response"):
        fields = {name: describe(getattr(value, name, None), below) for name in _RAW_RESPONSE_FIELDS}
        return (_type_name(value), fields, sorted(value.headers.items()), _http(value.http_response, below))
    if hasattr(value, "_iterator"):  # a stream, without its content
        return (_type_name(value), type(value._iterator).__name__, sorted(vars(value)))
    return _type_name(value)


def describe_error(error: BaseException | None, depth: int = 0) -> Any:
    """Describe an error: type, text, fields, cause and context."""
    if error is None:
        return None
    below = depth + 1
    fields = {name: describe(item, below) for name, item in sorted(vars(error).items()) if name not in _PRIVATE}
    return {
        "type": _type_name(error),
        "bases": [f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__],
        "args": describe(error.args, below),
        "text": _without_byte_counts(str(error)),
        "fields": fields,
        "notes": getattr(error, "__notes__", None),
        "cause": describe_error(error.__cause__, below),
        "context": describe_error(error.__context__, below),
        "suppressed": error.__suppress_context__,
    }


_PRIVATE = ("_request", "_response")  # of the HTTP library; the SDK's `request` and `response` are described


def _http(response: Any, depth: int) -> Any:
    request = response.request
    headers = sorted(
        (name, re.sub("boundary=.*", "boundary=RANDOM", value))
        for name, value in request.headers.items()
        if name not in _OMITTED_HEADERS
    )
    fields = {name: describe(getattr(response, name), depth) for name in _HTTP_RESPONSE_FIELDS}
    return (
        _type_name(response),
        fields,
        sorted(response.headers.multi_items()),
        (request.method, describe(str(request.url)), headers),
        sorted(response.extensions),
        getattr(response, "_content", None),
    )


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _without_byte_counts(text: str) -> str:
    """Replace byte counts of a stream, which has more bytes if its usage was requested."""
    return re.sub(r"received \d+ bytes", "received N bytes", describe(text))
