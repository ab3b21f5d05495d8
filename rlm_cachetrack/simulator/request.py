"""A request to the simulated endpoint: its JSON body, its record for the tests, and the reply scripted for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The scripted reply to a request, see :meth:`SimulatedEndpoint.script`. ``Reply()`` is an ordinary response.

    Attributes:
        status: 400 or more sends OpenAI's error body with this status.
        error: The error's message. With status 200, the error body is sent under HTTP 200.
        param: The parameter that the error names. Without ``error``, the message is that it is unknown.
        retry_after_s: Sent with an error as ``retry-after`` (whole seconds) and ``retry-after-ms``.
        cut_after: Close the connection after this many events of a stream; a plain body is cut in the middle.
        error_after: Send an error event after this many events of a stream, and end the stream.
        tool_calls: Names of the functions to call.
        text: The text of the output.
        usage: False omits the usage.
        cold: Route the request to a machine whose cache lacks the prefix: nothing is read from the cache.
        delay_s: Seconds to wait before the first byte, in addition to ``latency``.
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
    """A request, recorded before the first byte of its response is sent. It contains no prompt text.

    Attributes:
        api: ``chat``, ``responses``, ``completions``, ``embeddings``; ``unknown`` for any other path.
        model: The model that responded, as a dated snapshot if one is known; ``""`` if rejected before that.
        status: HTTP status. A rejected request has no tokens.
        include_usage: The request set ``stream_options.include_usage``.
        segment_tokens: Tokens of each segment of the prompt, in order; their sum is ``prompt_tokens``.
        retry: Number of earlier attempts by the SDK.
        arrived_at: Time of arrival by the endpoint's clock, in seconds.
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


class RejectedError(Exception):
    """A request that OpenAI would reject; the message is sent to the client."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400):
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


def parse_body(raw: bytes | None) -> Json:
    """Parse the JSON body of a request and check its numbers.

    Raises:
        RejectedError: The body is not a JSON object, or a number is invalid.
    """
    if raw is None:
        raise RejectedError("The request needs a Content-Length header.", status=411)
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RejectedError("We could not parse the JSON body of your request.")
    for key in ("n", "max_tokens", "max_completion_tokens", "max_output_tokens", "dimensions"):
        if body.get(key) is not None and not (isinstance(body[key], int) and body[key] > 0):
            raise RejectedError(f"Invalid '{key}': expected a whole number above 0.", key, "invalid_value")
    return body


def get_array(body: Json, key: str, of: tuple[type, ...] = (dict,)) -> list[Any]:
    """Return the array of objects under a key; an empty one if the key is missing.

    Raises:
        RejectedError: The value is not such an array.
    """
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, of) for item in value):
        raise RejectedError(f"Invalid type for '{key}': expected an array of objects.", key, "invalid_type")
    return value


def get_object(body: Json, key: str) -> Json:
    """Return the object under a key; an empty one if there is none."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def requested_format(body: Json) -> Json | None:
    """Return the JSON schema or mode that the output must fit; None for free text."""
    requested = get_object(body, "response_format") or get_object(get_object(body, "text"), "format")
    return requested if requested.get("type") in ("json_schema", "json_object") else None


def compact(value: object, *, sort: bool = False) -> str:
    """Serialize to JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), sort_keys=sort)
