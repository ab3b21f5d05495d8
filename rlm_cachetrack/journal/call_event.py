"""Encode a finished call as one event of the journal, and decode it again.

The encoding runs on the calling thread, so an event is an array without names, and times are whole nanoseconds:
encoding a float takes ten times as long as an integer. The writer thread adds the names with :func:`expand`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Mapping
from typing import Any

from pydantic_core import SchemaSerializer, core_schema

from rlm_cachetrack._process import uuid7
from rlm_cachetrack.records import merge_tags
from rlm_cachetrack.usage import plain

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
    "response_id",
    "service_tier",
    "finish_reason",
    "tool_call_count",
    "error_type",
    "error_message",
    "metadata",
)
"""The values in the array of an event, in this order. ``start_ns`` is since 1970."""

# pydantic's encoder for any value; unlike its function `to_json`, it can leave out what a server did not send.
_to_json = SchemaSerializer(core_schema.any_schema()).to_json


def _seeded() -> itertools.count[int]:
    # Below 2**62, so that it fits in the random part of a UUIDv7 and is a plain 64-bit number to every JSON parser.
    return itertools.count(random.SystemRandom().getrandbits(61))


_numbers = _seeded()


def _after_fork_in_child() -> None:
    global _numbers
    _numbers = _seeded()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def next_number() -> int:
    """Return a number for a call, unique in this process and almost certainly among all processes.

    The id of the call is made of this number and its start.
    """
    return next(_numbers)


def encode(
    run_context: str,
    call: tuple[Any, ...],
    usage: Any,
    extra: Mapping[str, Any] | None = None,
    scope_tags: Mapping[str, str] | None = None,
) -> bytes:
    """Encode one call as a line of JSON with its newline.

    Args:
        run_context: The run context of the call as JSON, with the tags of run and client.
        call: The values of :data:`FIELDS`.
        usage: The usage object as the SDK returned it, or None. It is copied, not kept.
        extra: Values of rarely used columns, by column; None if there are none.
        scope_tags: The tags of the scopes inside the run, which replace those of run and client.
    """
    if usage is not None and type(usage) is not dict and not hasattr(type(usage), "__pydantic_serializer__"):
        usage = plain(usage)
    event = {"call": call, "usage": usage, "in": run_context}
    if extra:
        event["extra"] = extra
    if scope_tags:
        event["tags"] = scope_tags
    try:
        return _to_json(event, exclude_unset=True, warnings=False, fallback=str) + b"\n"
    except Exception:  # for example a lone surrogate, which the standard library encodes
        event["usage"] = plain(usage)
        return json.dumps(event, default=str, separators=(",", ":")).encode("ascii") + b"\n"


def expand(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event that :func:`encode` wrote, with every name; its ``kind`` is ``call``.

    Raises:
        KeyError, ValueError, TypeError: The line was not written by :func:`encode`.
    """
    (
        number,
        api,
        provider,
        model,
        requested_model,
        start_ns,
        duration_ns,
        first_ns,
        context_messages,
        response_length,
        request_id,
        response_id,
        service_tier,
        finish_reason,
        tool_call_count,
        error_type,
        error_message,
        metadata,
    ) = line["call"]
    start = start_ns // 1000  # microseconds, the resolution of the table
    # The SDK does not check the types of what a server sends.
    model, provider, metadata = served_model(model if type(model) is str else None, requested_model, provider, metadata)
    run_context = json.loads(line["in"])
    if scope_tags := line.get("tags"):
        run_context["tags"] = merge_tags(scope_tags, run_context.get("tags"))
    return {
        **run_context,
        "kind": "call",
        "interaction_id": str(uuid7(start_ns, number)),
        "api": api,
        "provider": provider,
        "model": model,
        "context_messages": context_messages,
        "response_length": response_length,
        "request_id": request_id if type(request_id) is str else None,
        "response_id": response_id if type(response_id) is str else None,
        "service_tier": service_tier if type(service_tier) is str else None,
        "finish_reason": finish_reason if type(finish_reason) is str else None,
        "error_type": error_type,
        "error_message": error_message,
        "metadata": metadata,
        "usage": line["usage"],
        "start_time": start / 1e6,
        "end_time": (start + duration_ns // 1000) / 1e6,
        "duration_ms": kept_ms(duration_ns),
        "time_to_first_token_ms": None if first_ns is None else kept_ms(first_ns),
        "tool_call_count": tool_call_count,
        "has_tool_calls": tool_call_count > 0,
        "success": error_type is None,
        **extra_columns(line.get("extra") or {}),
    }


def extra_columns(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the extra values of an event as they are stored; span ids as hexadecimal digits.

    Capture passes them as integers, because formatting them takes longer than finding them.
    """
    if "trace_id" not in extra:
        return extra
    return {**extra, "trace_id": f"{extra['trace_id']:032x}", "span_id": f"{extra['span_id']:016x}"}


def kept_ms(nanoseconds: int) -> float:
    """Return a measured time as it is stored: in milliseconds, rounded to 1/1024, about a microsecond.

    Smaller differences are clock noise, which does not compress: it would double the size of a duration in
    TimescaleDB's columnstore (benchmarks/scale.py: 8 of 84 bytes per call).
    """
    return (nanoseconds * 1024 + 500_000) // 1_000_000 / 1024


def served_model(
    model: str | None, requested: str, provider: str | None, metadata: Mapping[str, Any] | None
) -> tuple[str, str | None, Mapping[str, Any] | None]:
    """Return the served model, the provider, and the metadata with the requested model if it is a different one.

    The host of an unknown provider is moved to the metadata; in an event it is a part of the provider.
    """
    more: dict[str, Any] = {}
    if model is None:
        model = requested
    elif model != requested:
        more["requested_model"] = requested
    if provider is not None and "@" in provider:
        provider, _, more["host"] = provider.partition("@")
    return model, provider, {**(metadata or {}), **more} if more else metadata or None
