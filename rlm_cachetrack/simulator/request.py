"""A request to the simulated endpoint: its JSON body read, what it is noted as, what was scripted for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Json",
    "RefusedError",
    "Reply",
    "SimulatedRequest",
    "asked_format",
    "compact",
    "get_array",
    "get_object",
    "parse_body",
]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the next request gets, see :meth:`SimulatedEndpoint.script`. ``Reply()`` is an ordinary answer.

    Attributes:
        status: 400 or more sends OpenAI's error body with this status.
        error: The error's message. With status 200 it makes an error body under HTTP 200.
        param: The parameter that the error names; without a message it is called unknown.
        retry_after_s: Sent with an error as ``retry-after`` (whole seconds) and ``retry-after-ms``.
        cut_after: The connection breaks after so many events of a stream; a plain body breaks in the middle.
        error_after: An error event after so many events of a stream, which then ends.
        tool_calls: Names of the functions to call.
        text: The answer's text.
        usage: False leaves the usage out.
        cold: The request lands on a machine that has not seen the prefix: nothing is read from the cache.
        delay_s: Wait so long before the first byte, in seconds, whatever ``latency`` says.
    """

    status: int = 200
    error: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    cut_after: int | None = None
    error_after: int | None = None
    tool_calls: tuple[str, ...] = ()
    text: str | None = None
    usage: bool = True
    cold: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRequest:
    """A request, noted before the first byte of its answer leaves. It holds no text of the prompt.

    Attributes:
        api: ``chat``, ``responses``, ``completions``, ``embeddings``; ``unknown`` for another path.
        model: The model served, a dated snapshot where one is known; ``""`` if refused before that.
        status: HTTP status. A refused request has no tokens.
        include_usage: ``stream_options.include_usage`` was asked for.
        segment_tokens: Tokens of each segment of the prompt, in order; their sum is ``prompt_tokens``.
        retry: How many times the SDK had tried before.
        arrived_at: The endpoint's clock, in seconds.
    """

    api: str
    model: str = ""
    stream: bool = False
    status: int = 200
    request_id: str = ""
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    include_usage: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0
    segment_tokens: tuple[int, ...] = ()
    retry: int = 0
    arrived_at: float = 0.0


class RefusedError(Exception):
    """A request that OpenAI would refuse; the message is the one its client gets."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400):
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


def parse_body(raw: bytes | None) -> Json:
    """The body of a request, its numbers checked.

    Raises:
        RefusedError: It is no JSON object, or a number is none.
    """
    if raw is None:
        raise RefusedError("The request needs a Content-Length header.", status=411)
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError("We could not parse the JSON body of your request.")
    for key in ("n", "max_tokens", "max_completion_tokens", "max_output_tokens", "dimensions"):
        if body.get(key) is not None and not (isinstance(body[key], int) and body[key] > 0):
            raise RefusedError(f"Invalid '{key}': expected a whole number above 0.", key, "invalid_value")
    return body


def get_array(body: Json, key: str, of: tuple[type, ...] = (dict,)) -> list[Any]:
    """The array of objects at a key, empty where there is none.

    Raises:
        RefusedError: Something else is there.
    """
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, of) for item in value):
        raise RefusedError(f"Invalid type for '{key}': expected an array of objects.", key, "invalid_type")
    return value


def get_object(body: Json, key: str) -> Json:
    """The object at a key, empty where there is none or something else."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def asked_format(body: Json) -> Json | None:
    """The JSON schema or mode that the answer has to fit; None where it is free text."""
    asked = get_object(body, "response_format") or get_object(get_object(body, "text"), "format")
    return asked if asked.get("type") in ("json_schema", "json_object") else None


def compact(value: object, *, sort: bool = False) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), sort_keys=sort)
