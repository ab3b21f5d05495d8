"""The usual call, from what the SDK returned to the journal, in as few steps as can be.

Behind the SDK's own work the processor has forgotten all of ours: behind a prompt of 200 KB every function that is
entered, every dictionary and every encoder that has to be fetched from memory costs up to a microsecond, whatever is
done in it. So what nearly all calls are is read and written here in one piece, by code that runs straight on: no form,
no table of known shapes, no object for the call. Whatever is not just that is left to :class:`.call.Call` and
:func:`.call_event.encode`, which write the same.
"""

from __future__ import annotations

import itertools
import os
import random
from json.encoder import encode_basestring_ascii as _quoted
from time import perf_counter_ns
from typing import Any

__all__ = ["LEAST_TOKENS", "TOKENS_A_MESSAGE", "encode_usual", "next_number", "record_chat"]

LEAST_TOKENS, TOKENS_A_MESSAGE = 512, 256
"""As :mod:`.hash_queue` has them; a test holds that they are the same."""

_STREAM = '{"stream":true}'


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


def record_chat(response: Any, begun: tuple[Any, ...], request_id: str | None = None) -> bool:
    """Record a chat completion as nearly all are: one choice that is text, usage where it belongs, integers in it.

    Args:
        response: The SDK's ChatCompletion, or the same as plain JSON.
        begun: Where its line goes and its fingerprint (or None), the run as :func:`.context.line` gives it, the
            provider, both clocks, how many messages were sent, and the body.
        request_id: What the server called the request, where the response does not say.

    Returns:
        Whether it was one; if not, nothing has happened.
    """
    ended = perf_counter_ns()
    try:
        sink, fingerprints, place, provider, started, began, messages, body, _ = begun
        if type(response) is dict:
            fields = response
            (parts,) = fields["choices"]
            message = parts["message"]
            if message.get("tool_calls") is not None or fields.get("error"):
                return False
        else:
            fields, extra = response.__dict__, response.__pydantic_extra__
            (choice,) = fields["choices"]
            parts = choice.__dict__
            message = parts["message"].__dict__
            if message["tool_calls"] is not None or (extra and ("error" in extra or "service_tier" in extra)):
                return False
        usage, text = fields["usage"], message["content"]
        if usage is None or type(text) is not str:
            return False
        number = next(_numbers)
        line = encode_usual(
            place,
            number,
            "chat.completions",
            provider,
            fields["model"] or None,
            body["model"] or "unknown",
            started,
            ended - began,
            None,
            messages,
            len(text),
            fields.get("_request_id") or request_id,
            fields.get("service_tier"),
            parts["finish_reason"],
            False,
            usage,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    if line is None:
        return False
    if fingerprints is not None:
        room = fingerprints.room  # as Fingerprints.add does it
        if room > 0:
            tokens = (usage if type(usage) is dict else usage.__dict__).get("prompt_tokens")
            if type(tokens) is not int:
                tokens = TOKENS_A_MESSAGE * (messages or 1)
            fingerprints.room = room - (tokens if tokens > LEAST_TOKENS else LEAST_TOKENS)
            fingerprints.waiting.append((number, "chat.completions", place, {**body}, messages, None))
        else:
            fingerprints.dropped += 1
    if sink.closed:
        sink.append(line)
    else:
        sink.journal.append(line)
    return True


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
    """What :func:`.call_event.encode` writes, for a call as nearly all are; None where it is another.

    That is one without tools and errors, whose usage is an object of the SDK, or a dict, that holds integers, and
    objects of integers one level below. Raises AttributeError, KeyError, TypeError or ValueError where it is of no
    known shape.

    ``place`` is as there, ``usage`` is the object as the SDK gave it, ``streamed`` is whether the call was
    a stream; the others are values of :data:`.call_event.FIELDS`.
    """
    is_dict = type(usage) is dict
    if is_dict:
        sent = fields = usage
    elif usage.__pydantic_extra__:
        return None
    else:
        sent, fields = usage.__pydantic_fields_set__, usage.__dict__
    told = []
    for name, value in fields.items():
        if name not in sent:
            continue
        if is_dict:  # else it is a name of Python's
            name = _quoted(name)[1:-1]
        if type(value) is int:
            told.append(f'"{name}":{value}')
        elif value is None:
            told.append(f'"{name}":null')
        else:
            if is_dict:
                if type(value) is not dict:
                    return None
                given = part = value
            elif value.__pydantic_extra__:
                return None
            else:
                given, part = value.__pydantic_fields_set__, value.__dict__
            inside = []
            for within, count in part.items():
                if within not in given:
                    continue
                if type(count) is not int and count is not None:
                    return None
                if is_dict:
                    within = _quoted(within)[1:-1]
                inside.append(f'"{within}":{"null" if count is None else count}')
            told.append(f'"{name}":{{{",".join(inside)}}}')
    line = (
        f'{{"call":[{number},{_quoted(api)},{_quoted(provider)},{"null" if model is None else _quoted(model)},'
        f"{_quoted(requested)},{start},{duration},{'null' if first is None else first},"
        f"{'null' if messages is None else messages},{length},{'null' if request_id is None else _quoted(request_id)},"
        f"{'null' if tier is None else _quoted(tier)},{'null' if finish is None else _quoted(finish)},"
        f'0,null,null,{_STREAM if streamed else "null"}],"usage":{{{",".join(told)}}},"in":{place}}}\n'
    )
    return line.encode("ascii")
