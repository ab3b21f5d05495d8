"""A finished call as one line of the journal, and back.

The calling thread pays for what is written, so the line is an array without names, the run it belongs to is encoded
once a run and iteration, and the usage object is written by pydantic's own serializer, field for field as it was sent.
The writer's thread gives the names back with :func:`expand`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Mapping
from typing import Any

try:
    from pydantic_core import to_json as _to_json
except ImportError:  # openai with pydantic 1
    _to_json = None  # type: ignore[assignment]

from ._usage_access import plain
from .records import uuid7

__all__ = ["encode", "expand", "next_number", "told_apart"]

FIELDS = (
    "number",
    "api",
    "provider",
    "model",
    "requested_model",
    "start_time",
    "duration_ms",
    "time_to_first_token_ms",
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
"""What the array of a line holds, in this order."""


def _seeded() -> itertools.count[int]:
    # Below 2**62: it fills the random part of a UUIDv7, and is a plain 64-bit number to every reader of JSON.
    return itertools.count(random.SystemRandom().getrandbits(61))


_numbers = _seeded()


def _after_fork_in_child() -> None:
    global _numbers
    _numbers = _seeded()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def next_number() -> int:
    """A number that no other call of this process has, and by all odds no call of another; with its start, its id."""
    return next(_numbers)


def encode(place: bytes, call: tuple[Any, ...], usage: Any) -> bytes:
    """One line of JSON, its newline included.

    Args:
        place: The run that the call belongs to, an object as :func:`~rlm_cachetrack.context.line` gives it.
        call: The values of :data:`FIELDS`.
        usage: The usage object as the SDK gave it, or None. It is copied, not kept.
    """
    try:
        told = _told(usage)
        if told is not usage or usage is None:
            return b'%b,"in":%b}\n' % (_to_json({"call": call, "usage": told}, fallback=str)[:-1], place)
        return b'{"call":%b,"usage":%b,"in":%b}\n' % (_to_json(call, fallback=str), _serialized(usage), place)
    except Exception:  # half a surrogate pair, or no pydantic 2: the standard library takes everything
        parts = (json.dumps(call, default=str, separators=(",", ":")), json.dumps(plain(usage), default=str))
        return b'{"call":%b,"usage":%b,"in":%b}\n' % (parts[0].encode("ascii"), parts[1].encode("ascii"), place)


def _told(usage: Any) -> Any:
    """The fields of a usage object of the SDK that were sent, where it is as nearly all are; else the object itself.

    That is numbers, and objects of numbers one level below. pydantic's own serializer would write the same; but behind
    the SDK's work the processor has forgotten it, and to wake it takes twice as long as these few lines.
    """
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
    number, start = values.pop("number"), values["start_time"]
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
        "interaction_id": uuid7(round(start * 1e6) * 1000, number),
        "usage": line["usage"],
        "end_time": start + values["duration_ms"] / 1000,
        "has_tool_calls": tools > 0,
        "success": values["error_type"] is None,
    }


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
