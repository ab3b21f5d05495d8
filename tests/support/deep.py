"""Everything a caller can see of a value, as plain data: two values are the same where their descriptions are equal.

Types count, and which fields a server sent, and what hangs on an object beside its fields. Left out is what differs
between any two calls: clocks, ports, addresses in memory, and the length of the request.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any

import pydantic

_DEEPEST = 24
_OF_THE_HTTP_RESPONSE = ("status_code", "reason_phrase", "http_version", "is_closed", "is_stream_consumed")
_OF_A_RAW_RESPONSE = ("status_code", "http_version", "method", "is_closed", "retries_taken", "request_id")
_UNTOLD_HEADERS = frozenset({"content-length", "host"})


def describe(value: Any, depth: int = 0) -> Any:
    """What a caller can see of a value that the SDK returned."""
    if depth > _DEEPEST:
        raise AssertionError("nested too deeply to compare")
    below = depth + 1
    if value is None or type(value) in (bool, int, float, bytes):
        return value
    if type(value) is str:
        value = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", value)
        return re.sub(r"cancel scope [0-9a-f]+", "cancel scope AT", value)
    if isinstance(value, enum.Enum):
        return (_kind(value), value.name)
    if isinstance(value, BaseException):
        return describe_error(value, depth)
    if isinstance(value, pydantic.BaseModel):
        return {
            "type": _kind(value),
            "set": sorted(value.model_fields_set),
            "fields": {name: describe(item, below) for name, item in value.__dict__.items()},
            "extra": describe(value.__pydantic_extra__, below),
            "request_id": getattr(value, "_request_id", None),
            "json": value.model_dump_json(exclude_unset=True, warnings=False) if depth == 0 else None,
        }
    if isinstance(value, Mapping):
        return (_kind(value), [(key, describe(item, below)) for key, item in value.items()])
    if isinstance(value, (list, tuple)):
        return (_kind(value), [describe(item, below) for item in value])
    if hasattr(value, "is_stream_consumed"):
        return _http(value, below)
    if hasattr(value, "http_response"):
        told = {name: describe(getattr(value, name, None), below) for name in _OF_A_RAW_RESPONSE}
        return (_kind(value), told, sorted(value.headers.items()), _http(value.http_response, below))
    if hasattr(value, "_iterator"):  # a stream: what it is, not what it holds
        return (_kind(value), type(value._iterator).__name__, sorted(vars(value)))
    return _kind(value)


def describe_error(error: BaseException | None, depth: int = 0) -> Any:
    """What a caller can see of an error: the type, the words, the fields, and the errors behind it."""
    if error is None:
        return None
    below = depth + 1
    fields = {name: describe(item, below) for name, item in sorted(vars(error).items()) if name not in _PRIVATE}
    return {
        "type": _kind(error),
        "bases": [f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__],
        "args": describe(error.args, below),
        "text": _numbers(str(error)),
        "fields": fields,
        "notes": getattr(error, "__notes__", None),
        "cause": describe_error(error.__cause__, below),
        "context": describe_error(error.__context__, below),
        "suppressed": error.__suppress_context__,
    }


_PRIVATE = ("_request", "_response")  # of the HTTP library; the SDK's own `request` and `response` are looked at


def _http(response: Any, depth: int) -> Any:
    request = response.request
    headers = sorted((name, value) for name, value in request.headers.items() if name not in _UNTOLD_HEADERS)
    told = {name: describe(getattr(response, name), depth) for name in _OF_THE_HTTP_RESPONSE}
    return (
        _kind(response),
        told,
        sorted(response.headers.multi_items()),
        (request.method, describe(str(request.url)), headers),
        sorted(response.extensions),
        getattr(response, "_content", None),
    )


def _kind(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _numbers(text: str) -> str:
    """Without what counts bytes of a stream: there are more of them where the usage was asked for."""
    return re.sub(r"received \d+ bytes", "received N bytes", describe(text))
