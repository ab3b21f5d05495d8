"""A finished call as one line of the journal, and back.

The calling thread pays for what is written, so the line is an array without names, and moments are whole nanoseconds:
to write a float takes ten times as long as an integer. The line of a usual call is written by :mod:`.fast_path`, that
of any other here. The writer's thread gives the names back with :func:`expand`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

try:
    from pydantic_core import to_json as _to_json
except ImportError:  # openai with pydantic 1
    _to_json = None  # type: ignore[assignment]

from rlm_cachetrack.records import call_id
from rlm_cachetrack.usage import plain

__all__ = ["FIELDS", "encode", "expand", "kept_ms", "told_apart"]

FIELDS = (
    "number",
    "api",
    "provider",
    "model",
    "requested_model",
    "start_ns",
    "duration_ns",
    "time_to_first_token_ns",
    "context_messages",
    "response_length",
    "request_id",
    "service_tier",
    "finish_reason",
    "tool_call_count",
    "error_type",
    "error_message",
    "metadata",
)
"""What the array of a line holds, in this order. ``start_ns`` is since 1970."""


def encode(place: str, call: tuple[Any, ...], usage: Any) -> bytes:
    """One line of JSON, its newline included.

    Args:
        place: The run that the call belongs to, an object as :func:`~.line` gives it.
        call: The values of :data:`FIELDS`.
        usage: The usage object as the SDK gave it, or None. It is copied, not kept.
    """
    where = place.encode("ascii")
    try:
        is_plain = usage is None or type(usage) is dict
        told = usage if is_plain else _told(usage)
        if is_plain or told is not usage:
            line = _to_json({"call": call, "usage": told}, fallback=str, inf_nan_mode="null")
            return b'%b,"in":%b}\n' % (line[:-1], where)
        return b'{"call":%b,"usage":%b,"in":%b}\n' % (_to_json(call, fallback=str), _serialized(usage), where)
    except Exception:  # half a surrogate pair, or no pydantic 2: the standard library takes everything
        parts = (json.dumps(call, default=str, separators=(",", ":")), json.dumps(plain(usage), default=str))
        return b'{"call":%b,"usage":%b,"in":%b}\n' % (parts[0].encode("ascii"), parts[1].encode("ascii"), where)


def _told(usage: Any) -> Any:
    """The fields that were sent, of a usage object of the SDK with numbers and objects of numbers; else the object."""
    if usage is None:
        return None
    try:
        if usage.__pydantic_extra__:
            return usage
        fields, sent = usage.__dict__, usage.__pydantic_fields_set__
        told = fields.copy()
        for name, value in fields.items():
            if name not in sent:
                del told[name]
            elif type(value) is not int and value is not None:
                if value.__pydantic_extra__:
                    return usage
                within, given = value.__dict__, value.__pydantic_fields_set__
                told[name] = (
                    within if len(within) == len(given) else {key: within[key] for key in within if key in given}
                )
        return told
    except AttributeError:
        return usage


def _serialized(usage: Any) -> bytes:
    serializer = getattr(type(usage), "__pydantic_serializer__", None)
    if serializer is None:
        return _to_json(plain(usage))
    written: bytes = serializer.to_json(usage, exclude_unset=True, warnings=False)
    return written


def expand(line: Mapping[str, Any]) -> dict[str, Any]:
    """The event of a line that :func:`encode` wrote, with every name; ``kind`` is ``call``.

    Raises:
        KeyError, ValueError, TypeError: The line was written by something else.
    """
    values = dict(zip(FIELDS, line["call"], strict=True))
    number, first = values.pop("number"), values.pop("time_to_first_token_ns")
    start, duration = values.pop("start_ns") // 1000, values.pop("duration_ns")  # microseconds: what the table holds
    for name in ("model", "request_id", "service_tier", "finish_reason"):
        if type(values[name]) is not str:  # the SDK does not check what a server sends
            values[name] = None
    values["model"], values["provider"], values["metadata"] = told_apart(
        values["model"], values.pop("requested_model"), values["provider"], values["metadata"]
    )
    tools = values["tool_call_count"]
    return {
        **line["in"],
        **values,
        "kind": "call",
        "interaction_id": call_id(start * 1000, number),
        "usage": line["usage"],
        "start_time": start / 1e6,
        "end_time": (start + duration // 1000) / 1e6,
        "duration_ms": kept_ms(duration),
        "time_to_first_token_ms": None if first is None else kept_ms(first),
        "has_tool_calls": tools > 0,
        "success": values["error_type"] is None,
    }


def kept_ms(nanoseconds: int) -> float:
    """A measured time as it is stored: milliseconds in steps of 1/1024, about the microsecond that moments have.

    What a clock says below that is noise, and noise does not compress: it would double the space of a duration in
    TimescaleDB's columnstore (benchmarks/scale.py: 8 of 84 bytes a call).
    """
    return (nanoseconds * 1024 + 500_000) // 1_000_000 / 1024


def told_apart(
    model: str | None, requested: str, provider: str | None, metadata: Mapping[str, Any] | None
) -> tuple[str, str | None, Mapping[str, Any] | None]:
    """The model that was served, the provider, and the metadata: with the model asked for where it is another.

    Of a server that nobody is known by the host is kept, too: in a line it comes with the provider, which costs the
    call nothing.
    """
    more: dict[str, Any] = {}
    if model is None:
        model = requested
    elif model != requested:
        more["requested_model"] = requested
    if provider is not None and "@" in provider:
        provider, _, more["host"] = provider.partition("@")
    return model, provider, {**(metadata or {}), **more} if more else metadata or None
