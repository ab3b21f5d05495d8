"""What is observed of one call, from the request to its last byte: clocks, scalars, the raw usage object. No content.

Knows the shapes of the SDK's objects by their attributes and imports nothing of it. Everything here runs on the calling
thread, so it only reads attributes and hands one event to the runtime; numbers are interpreted on the writer's thread.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from time import perf_counter_ns, time_ns
from typing import Any, Protocol

from rlm_cachetrack._process import guard as _guard
from rlm_cachetrack.journal import encode
from rlm_cachetrack.usage import locate_usage

from . import context
from .fast_path import encode_usual, next_number, record_chat
from .redaction import event_of, message_of, safe_message

__all__ = [
    "ENDPOINTS",
    "RUNNING",
    "Call",
    "EventTaker",
    "Fingerprinter",
    "Observer",
    "endpoint_of",
    "is_counted",
    "is_pulling",
    "is_stored_response",
    "provider_of",
]

ENDPOINTS = {
    "/chat/completions": "chat.completions",
    "/responses": "responses",
    "/responses/compact": "responses.compact",
    "/completions": "completions",
    "/embeddings": "embeddings",
}
_ENDPOINT = re.compile(r"(/chat/completions|/completions|/embeddings|/responses(?:/compact)?)/?(?:\?.*)?$")
_RESPONSE = re.compile(r"/responses/(?!compact\b|input_tokens\b)[^/?]+(?:/cancel)?/?(?:\?.*)?$")
RUNNING = frozenset({"queued", "in_progress"})

_HOSTS = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("models.inference.ai.azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.x.ai", "xai"),
    ("api.mistral.ai", "mistral"),
    ("api.moonshot", "moonshot"),
    ("api.perplexity.ai", "perplexity"),
    ("api.together", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("api.cerebras.ai", "cerebras"),
    ("ai-gateway.vercel.sh", "vercel-gateway"),
    ("bedrock", "bedrock"),
    ("databricks", "databricks"),
    ("dashscope", "alibaba"),
    ("api.z.ai", "zai"),
    ("bigmodel.cn", "zai"),
    ("router.huggingface.co", "huggingface"),
)


_PLAIN: tuple[dict[str, Any], ...] = ({}, {"stream": True})


class EventTaker(Protocol):
    """Where the event of a finished call goes.

    Attributes:
        closed: Whether it takes events only by :meth:`append`, not into its ``journal`` any more.
        journal: Its journal.
    """

    closed: bool
    journal: Any

    def append(self, event: bytes) -> None:
        """Take the line in without blocking on anything slow."""


class Fingerprinter(Protocol):
    """Where what was sent goes, to be hashed later."""

    def add(
        self, number: int, api: str, place: str, body: Mapping[str, Any], tokens: int | None, response_id: str | None
    ) -> None:
        """Take it in without looking at any text."""


class Observer(Protocol):
    """What watches one response, plain or streamed: a :class:`Call`, or a look at a stored response.

    Attributes:
        api: One of :data:`ENDPOINTS`.
        pulling: The SDK is reading the body. Of a stream: it was begun to be read.
        items: Gives the generator of a stream's items while there is one; None where it is no stream, or not known yet.
    """

    api: str
    stream: bool
    done: bool
    pulling: bool
    items: Any
    hide_usage: bool
    length: int | None

    def http(self, response: Any) -> None:
        """The HTTP response is there."""

    def result(self, response: Any) -> None:
        """The whole response is there."""

    def chunk(self, chunk: Any) -> bool:
        """A chunk or an event is there; whether it is to be kept from the caller."""

    def stream_ended(self, how: str | None = None) -> None:
        """No more chunks come."""

    def failed(self, exc: BaseException) -> None:
        """The caller gets this error."""


_MOST_REMEMBERED = 10_000
_counted: dict[str, None] = {}


def remember(response_id: str) -> None:
    """The usage of a background response is counted; a later retrieval is only a look. The oldest are forgotten."""
    _counted[response_id] = None
    if len(_counted) > _MOST_REMEMBERED:
        _counted.pop(next(iter(_counted)), None)


def is_counted(response_id: str) -> bool:
    """Whether the usage of this background response was counted by this process."""
    return response_id in _counted


def endpoint_of(url: str) -> str | None:
    """Our name of the API behind the path of a request, None for one that is not recorded."""
    api = ENDPOINTS.get(url)
    if api is None:  # `client.post("chat/completions", …)`, or with a whole address
        match = _ENDPOINT.search("/" + url)
        api = None if match is None else ENDPOINTS[match[1]]
    return api


def is_stored_response(url: str) -> bool:
    """Whether the path is that of one response of the Responses API, to retrieve or cancel it."""
    return "/responses/" in url and _RESPONSE.search(url) is not None


def provider_of(client: Any) -> str:
    """Who serves a client, from its class and base address; ``unknown@host`` for an address nobody is known by."""
    kind = type(client).__name__
    if "Azure" in kind:
        return "azure"
    if "Bedrock" in kind:
        return "bedrock"
    host = str(getattr(client.base_url, "host", "") or "").lower()
    for part, provider in _HOSTS:
        if part in host:
            return provider
    place = getattr(client.base_url, "netloc", b"")  # host and port, without a name and password
    return f"unknown@{place.decode('ascii', 'replace')}" if place else "unknown"


def is_pulling(call: Observer) -> bool:
    """Whether an item of a stream, or a whole body, is being read at this moment; not in the hands of the caller."""
    if call.items is None or not call.pulling:
        return call.pulling
    items = call.items()
    # To note it before and after each item would cost more than to ask when it matters.
    return bool(getattr(items, "gi_running", False) or getattr(items, "ag_running", False))


class Call:
    """One call under observation; exactly one event is made of it, by the first of its ``finish`` methods."""

    # Defaults stand on the class: what never happens to a call costs it nothing.
    hide_usage = False
    done = False
    parked = False
    pulling = False
    answers: Sequence[Any] = ()  # what a helper of the SDK was given to make the caller's own type of
    items: Any = None
    _begun: Any = None
    _broken: tuple[str, str] | None = None
    _number: int | None = None
    _first: int | None = None
    _usage: Any = None
    _model: str | None = None
    _tier: str | None = None
    _request_id: str | None = None
    _response_id: str | None = None
    _finish_reason: str | None = None
    _tools: set[tuple[str, str | None]] | None = None
    _nameless = 0
    length: int | None = None
    fingerprints: Fingerprinter | None = None

    def __init__(self, sink: EventTaker, api: str, provider: str, body: Mapping[str, Any], *, stream: bool) -> None:
        self.sink = sink
        self._place = context.line()
        self.body = body  # for errors: a server may quote the prompt in its message
        self.api = api
        self.provider = provider
        self.stream = stream
        self.requested_model: str = str(body.get("model") or "unknown")
        turns = body.get("messages") if api == "chat.completions" else body.get("input")
        self.messages = len(turns) if type(turns) is list else (None if turns is None else 1)
        self.metadata: dict[str, Any] = {"stream": True} if stream else {}
        self._started = time_ns()
        self._began = perf_counter_ns()

    def set_back(self, place: str, started: int, began: int, messages: int) -> None:
        """It began earlier than this object was made: then, there, and with so many messages."""
        self._place, self._started, self._began, self.messages = place, started, began, messages

    # -- what comes back ----------------------------------------------------------------------------------------------

    def http(self, response: Any) -> None:
        """Note the id that the server gave the request."""
        headers = getattr(response, "headers", None)
        if self._request_id is None and headers is not None:
            self._request_id = headers.get("x-request-id") or headers.get("apim-request-id")

    def result(self, response: Any) -> None:
        """Finish with a whole response: an SDK object, or what a server sent instead of one.

        A response that runs in the background is not finished: it is ``parked``, with an event to keep meanwhile.
        """
        if self.done or self.parked:
            return
        if self.api == "chat.completions" and self._number is None and not self.metadata:
            begun = (self.sink, self.fingerprints, self._place, self.provider, self._started, self._began)
            if record_chat(response, (*begun, self.messages, self.body, None), self._request_id):
                self.done = True
                return
        try:
            self._request_id = _get(response, "_request_id") or self._request_id
            self._read(response)
            if self.api == "responses" and self._usage is None and str(_get(response, "status")) in RUNNING:
                self._park(response)
                return
            error = self._error_in(response)
        except Exception as exc:  # an answer of no known shape is a call all the same
            _guard.report("reading a response", exc)
            error = None
        self._finish(error)

    def _park(self, response: Any) -> None:
        self.parked = True
        self.metadata["background"] = True
        self.keep(response)

    def keep(self, response: Any) -> None:
        """The response goes on at the server: keep the call until it is seen finished."""

    def unfinished_line(self) -> bytes:
        """What is known of a parked call, should nobody see it finish; the finished line replaces it."""
        return self._line(self._broken, {**self.metadata, "usage": "pending"})

    def chunk(self, chunk: Any) -> bool:
        """Take note of one chunk or event of a stream. Returns whether it is to be kept from the caller."""
        fields = _fields(chunk)
        choices = fields.get("choices")
        if choices is None:
            if self._first is not None and not self.hide_usage and str(fields.get("type")).endswith(".delta"):
                return False  # one more piece
            self._event(chunk, fields)
            # Some servers send the usage that we asked for in a chunk with no choices at all instead of an empty list.
            return self.hide_usage and self._usage is not None and locate_usage(chunk) is not None
        if self._first is None:
            self._first = perf_counter_ns()
        usage = locate_usage(chunk)
        if usage is not None:
            self._usage = usage
        if not self._model:
            self._model = fields.get("model")
        tier = fields.get("service_tier")
        if tier is not None:
            self._tier = tier
        for choice in _list(choices):
            self._choice_delta(_fields(choice))
        if self.hide_usage:
            if usage is not None:
                return bool(choices == [])
            # Asked for usage, the server sends `"usage": null` with every chunk; not asked, it does not.
            sent = getattr(chunk, "__pydantic_fields_set__", None)
            if type(sent) is set:
                sent.discard("usage")
        return False

    def _choice_delta(self, choice: Mapping[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if reason:
            self._finish_reason = reason
        delta = choice.get("delta")
        if delta is None:
            if type(text := choice.get("text")) is str:
                self.length = (self.length or 0) + len(text)
            return
        fields = _fields(delta)
        content = fields.get("content")
        if type(content) is str and content:
            self.length = (self.length or 0) + len(content)
        for call in _list(fields.get("tool_calls")):
            # A call begins with its id; the chunks that go on with it have none, or repeat it.
            name = _get(call, "id") or None
            self._tool(choice.get("index"), name)
            if name is None and _get(_get(call, "function"), "name"):
                self._nameless += 1

    def _event(self, event: Any, fields: Mapping[str, Any]) -> None:
        """One event of a Responses stream."""
        kind = fields.get("type") or _get(event, "type")  # in a chat stream an error has no field for it
        if type(kind) is not str:
            if _get(event, "event") == "error":  # openai 1.66 hands it on as it came
                self._stream_error(_get(event, "data"))
            usage = locate_usage(event)
            if usage is not None:
                self._usage = usage
            return
        if self._first is None and kind.endswith(".delta"):
            self._first = perf_counter_ns()
        response = _get(event, "response")  # old SDKs lack some kinds of events and keep what is in them as extra
        if response is not None:
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self._read(response)
                error = self._error_in(response)
                if error is not None:
                    self.metadata["stream_error"] = error
                self._begun = None
            elif self._model is None:
                self._model = _get(response, "model")
                if _get(response, "background") is True:
                    self._begun = response
        elif kind == "error":
            self._stream_error(event)

    def _stream_error(self, error: Any) -> None:
        self.metadata["stream_error"] = (str(_get(error, "code") or "error"), str(_get(error, "message") or ""))

    # -- how it ends --------------------------------------------------------------------------------------------------

    def stream_ended(self, how: str | None = None) -> None:
        """Finish a stream: read to its end, or ``closed_early``, or ``abandoned``."""
        if self.done or self.parked:
            return
        if how is not None:
            self.metadata["ended"] = how
            if self._begun is not None:  # it goes on at the server, and may be retrieved
                self._park(self._begun)
                return
        self._finish(self.metadata.pop("stream_error", None))

    def failed(self, exc: BaseException) -> None:
        """Finish with the error that the caller gets."""
        if self.done or self.parked:
            return
        try:
            status = getattr(exc, "status_code", None)
            if self.answers:
                self._read(self.answers[0])
            elif (answer := getattr(exc, "completion", None)) is not None:
                self._read(answer)  # LengthFinishReasonError: the call was answered and paid
            elif status == 200 and type(answer := getattr(exc, "body", None)) is dict and self.items is None:
                self._read(answer)  # and so where a client that validates refuses it
            elif self._usage is None and self.items is not None:
                self._usage = locate_usage(event_of(exc))  # beside the error
            response = getattr(exc, "response", None)
            self.http(response if response is not None else exc)
            if status is not None:
                self.metadata["status_code"] = status
            message = message_of(exc)
        except Exception as internal:
            _guard.report("reading an error", internal)
            message = ""
        if self._begun is not None:
            self._broken = (type(exc).__name__, message)
            self._park(self._begun)
            return
        self._finish((type(exc).__name__, message))

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, response: Any) -> None:
        usage = locate_usage(response)
        if usage is not None:
            self._usage = usage
        fields = _fields(response)
        self._model = fields.get("model") or _get(response, "model") or self._model
        if self.api == "responses":
            self._response_id = fields.get("id") or self._response_id
        self._tier = _get(response, "service_tier") or self._tier
        if self.api == "responses":
            self._read_output(response)
            return
        length: int | None = None
        for choice in _list(fields.get("choices")):
            parts = _fields(choice)
            self._finish_reason = parts.get("finish_reason") or self._finish_reason
            message = parts.get("message")
            if message is None:
                content = parts.get("text")
            else:
                told = _fields(message)
                content = told.get("content")
                for number, _ in enumerate(_list(told.get("tool_calls"))):
                    self._tool(parts.get("index"), str(number))
            length = (length or 0) + (len(content) if type(content) is str else 0)
        if length is not None:
            self.length = length

    def _read_output(self, response: Any) -> None:
        status = _get(response, "status")
        if str(status) not in RUNNING and _get(response, "background") is True:
            remember(str(_get(response, "id")))
        reason = _get(_get(response, "incomplete_details"), "reason") or status
        if reason:
            self._finish_reason = str(reason)
        length = 0
        for number, item in enumerate(_list(_get(response, "output"))):
            fields = _fields(item)
            kind = fields.get("type")
            if kind == "function_call":
                self._tool(number, "call")
            elif kind == "message":
                for part in _list(fields.get("content")):
                    text = _fields(part).get("text")
                    length += len(text) if type(text) is str else 0
        self.length = length

    def _tool(self, index: Any, name: str | None) -> None:
        if self._tools is None:
            self._tools = set()
        self._tools.add((str(index), None if name is None else str(name)))

    def _error_in(self, response: Any) -> tuple[str, str] | None:
        """A server may say 200 and mean failure."""
        if type(response) is str:
            return "UnexpectedResponse", f"the server answered with {len(response)} characters that are no JSON"
        error = _get(response, "error")
        if not error:
            return None
        if type(error) is str:
            return "error", error
        kind = _get(error, "type") or _get(error, "code") or "error"
        return str(kind), str(_get(error, "message") or "")

    def _finish(self, error: tuple[str, str] | None) -> None:
        self.done = True
        if self._usage is None and (error is None or self.pulling):  # a stream that broke ran for a while, too
            self.metadata["usage"] = "unknown"
        self.sink.append(self._line(error, self.metadata))

    def _line(self, error: tuple[str, str] | None, metadata: Mapping[str, Any]) -> bytes:
        duration = perf_counter_ns() - self._began
        first = self._first - self._began if self._first is not None and self.stream else None
        if self._number is None:
            self._number = next_number()
            if self.fingerprints is not None and self.api != "embeddings":
                told = _fields(self._usage)
                tokens = told.get("prompt_tokens") or told.get("input_tokens")
                self.fingerprints.add(
                    self._number,
                    self.api,
                    self._place,
                    self.body,
                    tokens if type(tokens) is int else None,
                    self._response_id,
                )
        tools = 0
        if self._tools:
            # A stream whose server gives no ids says the function's name where a call begins.
            tools = sum(1 for _, name in self._tools if name is not None) or self._nameless or len(self._tools)
        elif error is None and self._usage is not None and self.length is not None and metadata in _PLAIN:
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
                line = encode_usual(
                    self._place,
                    self._number,
                    self.api,
                    self.provider,
                    self._model or None,
                    self.requested_model,
                    self._started,
                    duration,
                    first,
                    self.messages,
                    self.length,
                    self._request_id,
                    self._tier,
                    self._finish_reason,
                    bool(metadata),
                    self._usage,
                )
                if line is not None:
                    return line
        return encode(
            self._place,
            (
                self._number,
                self.api,
                self.provider,
                self._model or None,
                self.requested_model,
                self._started,
                duration,
                first,
                self.messages,
                self.length,
                self._request_id,
                self._tier,
                self._finish_reason,
                tools,
                None if error is None else error[0][:200],
                None if error is None else safe_message(error[1], self.body),
                metadata or None,
            ),
            self._usage,
        )


def _list(value: Any) -> Sequence[Any]:
    """A list as the server should have sent one, else nothing: what it sends is not checked by the SDK."""
    return value if isinstance(value, (list, tuple)) else ()


_NOTHING: dict[str, Any] = {}


def _fields(value: Any) -> Mapping[str, Any]:
    """The declared fields of an SDK object, or a dict itself: to look things up without `__getattr__` of a model."""
    if type(value) is dict:
        return value
    fields: Mapping[str, Any] = getattr(value, "__dict__", _NOTHING)
    return fields


def _get(value: Any, name: str) -> Any:
    """One field, declared or extra; None where there is none."""
    if value is None:
        return None
    fields = _fields(value)
    found = fields.get(name)
    if found is None and fields is not value:
        extra = getattr(value, "__pydantic_extra__", None)
        if extra:
            return extra.get(name)
        if not fields and isinstance(value, Mapping):
            return value.get(name)
    return found
