"""A finished call as one line of the journal, and back.

The calling thread pays for what is written, so the line is an array without names. What calls of one model have in
common is text made once, with places for the numbers: behind the SDK's own work the processor has forgotten every
encoder, and to wake one takes longer than to fill in a form (7 µs against 12, and 13 against 30 behind a prompt of
200 KB). For the same reason moments are whole nanoseconds: to write a float takes ten times as long as an integer.
The writer's thread gives the names back with :func:`expand`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Mapping, Sequence, Set
from json.encoder import encode_basestring_ascii as _quoted
from operator import itemgetter
from typing import Any, NamedTuple

try:
    from pydantic_core import to_json as _to_json
except ImportError:  # openai with pydantic 1
    _to_json = None  # type: ignore[assignment]

from ._usage_access import plain
from .records import call_id

__all__ = ["encode", "encode_usual", "expand", "kept_ms", "next_number", "told_apart"]

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


def encode(place: str, call: tuple[Any, ...], usage: Any) -> bytes:
    """One line of JSON, its newline included.

    Args:
        place: The run that the call belongs to, an object as :func:`~rlm_cachetrack.context.line` gives it.
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


_MOST = 1_000  # of what is remembered; names come from servers
_MOST_LAYOUTS = 8


class _Part(NamedTuple):
    """An object within a usage object: what was sent of it; ``sent`` None: ``null`` in its place."""

    name: str
    sent: Set[str] | None
    values: Callable[[Any], tuple[Any, ...]]


class _Layout(NamedTuple):
    """A usage object of one type of which just these fields were sent, and the text that its numbers are put in."""

    sent: Set[str]
    values: Callable[[Any], tuple[Any, ...]]
    parts: tuple[_Part, ...]
    text: str


_layouts: dict[type[Any], list[_Layout]] = {}
_forms: dict[tuple[Any, ...], str] = {}


def encode_usual(
    place: str,
    number: int,
    api: str,
    provider: str,
    model: str | None,
    requested: str,
    start: int,
    duration: int,
    first: int | None,
    messages: int | None,
    length: int,
    request_id: str | None,
    tier: str | None,
    finish: str | None,
    streamed: bool,
    usage: Any,
) -> bytes | None:
    """What :func:`encode` writes, for a call as nearly all are; None where it is another.

    That is one without tools and errors, whose usage is an object of the SDK, or a dict, that holds integers, and
    objects of integers one level below. Raises AttributeError, KeyError, TypeError or ValueError where it is of no
    known shape.

    ``place`` is as for :func:`encode`, ``usage`` is the object as the SDK gave it, ``streamed`` is whether the call was
    a stream; the others are values of :data:`FIELDS`.
    """
    is_dict = type(usage) is dict
    if is_dict:
        sent, fields = usage.keys(), usage
    elif usage.__pydantic_extra__:
        return None
    else:
        sent, fields = usage.__pydantic_fields_set__, usage.__dict__
    for layout in _layouts.get(type(usage)) or _new_layouts(usage):
        if layout.sent != sent:
            continue
        values = layout.values(fields)
        for name, within, values_of in layout.parts:
            part = fields[name]
            if within is None or part is None:
                if part is not None or within is not None:
                    break
            elif is_dict:
                if part.keys() != within:
                    break
                values += values_of(part)
            elif part.__pydantic_fields_set__ != within or part.__pydantic_extra__:
                break
            else:
                values += values_of(part.__dict__)
        else:
            break
    else:
        _new_layouts(usage)
        return None
    # A form would cut a fraction off silently. Of whole numbers the sum is one; what cannot be summed is a TypeError.
    if type(sum(values)) is not int:
        return None
    form = _forms.get((api, provider, model, requested, tier, finish, streamed, layout.text))
    if form is None:
        form = _new_form(api, provider, model, requested, tier, finish, streamed, layout.text)
    written = form % (
        number,
        start,
        duration,
        "null" if first is None else first,
        "null" if messages is None else messages,
        length,
        "null" if request_id is None else _quoted(request_id),
        *values,
        place,
    )
    return written.encode("ascii")


def _new_layouts(usage: Any) -> list[_Layout]:
    """The layouts known of this type, with that of this object."""
    is_dict = type(usage) is dict
    fields, sent = (usage, set(usage)) if is_dict else (usage.__dict__, set(usage.__pydantic_fields_set__))
    numbers, parts, texts = [], [], []
    for name in fields:
        if name not in sent:
            continue
        value, key = fields[name], _quoted(name).replace("%", "%%")
        if value is None:
            parts.append(_Part(name, None, _values_of(())))
            texts.append(f"{key}:null")
        elif type(value) is int:
            numbers.append((name, f"{key}:%d"))
        else:
            given = set(value.keys() if is_dict else value.__pydantic_fields_set__)
            names = [within for within in (value if is_dict else value.__dict__) if within in given]
            parts.append(_Part(name, given, _values_of(names)))
            inside = ",".join(_quoted(within).replace("%", "%%") + ":%d" for within in names)
            texts.append(f"{key}:{{{inside}}}")
    text = "{" + ",".join([*(written for _, written in numbers), *texts]) + "}"
    known = _layouts.setdefault(type(usage), [])
    if len(known) >= _MOST_LAYOUTS or len(_layouts) > _MOST:
        known.clear()
    known.insert(0, _Layout(sent, _values_of([name for name, _ in numbers]), tuple(parts), text))
    return known


def _values_of(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes just these values out of a mapping."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda fields: tuple(fields[name] for name in names)


def _new_form(
    api: str, provider: str, model: Any, requested: Any, tier: Any, finish: Any, streamed: bool, usage: str
) -> str:
    """The text of a line, with places for what differs from call to call."""
    known = (api, provider, model, requested, tier, finish)
    if any(value is not None and type(value) is not str for value in known):
        raise TypeError("a name that is no text")  # the SDK does not check what a server sends
    texts = ["null" if value is None else _quoted(value).replace("%", "%%") for value in known]
    api_text, provider_text, model_text, requested_text, tier_text, finish_text = texts
    metadata = '{"stream":true}' if streamed else "null"
    form = (
        f'{{"call":[%d,{api_text},{provider_text},{model_text},{requested_text},%d,%d,%s,%s,%d,%s,{tier_text},{finish_text},'
        f'0,null,null,{metadata}],"usage":{usage},"in":%s}}\n'
    )
    if len(_forms) >= _MOST:
        _forms.clear()
    _forms[(*known, streamed, usage)] = form
    return form


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
