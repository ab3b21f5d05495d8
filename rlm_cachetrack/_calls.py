"""What is observed of one call, from the request to its last byte: clocks, scalars, the raw usage object. No content.

Knows the shapes of the SDK's objects by their attributes and imports nothing of it. Everything here runs on the calling
thread, so it only reads attributes and hands one event to the runtime; numbers are interpreted on the writer's thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from time import perf_counter, time
from typing import Any, Protocol

from . import context
from ._usage_access import locate_usage, plain
from .records import new_id

__all__ = ["ENDPOINTS", "Call", "EventTaker", "endpoint_of", "provider_of"]

ENDPOINTS = {
    "/chat/completions": "chat.completions",
    "/responses": "responses",
    "/completions": "completions",
    "/embeddings": "embeddings",
}

_MESSAGE_CHARACTERS = 500
_SECRETS = re.compile(
    r"\b(?:sk|rk|pk|xai|gsk|key|pplx|csk|tgp|fw|hf|or)[-_][\w*.-]{6,}"  # keys as providers write them
    r"|\bBearer\s+\S+"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JSON web token
    r"|(?<=://)[^/\s@]+@"
    r"|\b[0-9a-fA-F]{32,}\b",
    re.IGNORECASE,
)

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


class EventTaker(Protocol):
    """Where the event of a finished call goes."""

    def append(self, event: Mapping[str, Any]) -> None:
        """Take the event in without blocking on anything slow."""


def endpoint_of(url: str) -> str | None:
    """Our name of the API behind the path of a request, None for one that is not recorded."""
    return ENDPOINTS.get(url)


def provider_of(client: Any) -> str:
    """Who serves a client, from its class and base address; ``unknown`` for an address nobody is known by."""
    kind = type(client).__name__
    if "Azure" in kind:
        return "azure"
    if "Bedrock" in kind:
        return "bedrock"
    host = str(getattr(client.base_url, "host", "") or "").lower()
    for part, provider in _HOSTS:
        if part in host:
            return provider
    return "unknown"


def redact_message(text: str) -> str:
    """An error's message, trimmed, without anything that looks like a key."""
    return _SECRETS.sub("***", text[: _MESSAGE_CHARACTERS * 4])[:_MESSAGE_CHARACTERS]


class Call:
    """One call under observation; exactly one event is made of it, by the first of its ``finish`` methods."""

    __slots__ = (
        "_began",
        "_context",
        "_event_sink",
        "_finish_reasons",
        "_first",
        "_length",
        "_model",
        "_request_id",
        "_started",
        "_tier",
        "_tools",
        "_usage",
        "api",
        "done",
        "hide_usage",
        "messages",
        "metadata",
        "provider",
        "pulling",
        "requested_model",
        "stream",
    )

    def __init__(self, sink: EventTaker, api: str, provider: str, body: Mapping[str, Any], *, stream: bool) -> None:
        self._event_sink = sink
        self._context = context.current()
        self.api = api
        self.provider = provider
        self.stream = stream
        self.requested_model: str = str(body.get("model") or "unknown")
        turns = body.get("messages") if api == "chat.completions" else body.get("input")
        self.messages = len(turns) if isinstance(turns, list) else (None if turns is None else 1)
        self.hide_usage = False
        self.metadata: dict[str, Any] = {"stream": True} if stream else {}
        self.done = False
        self.pulling = False
        self._first: float | None = None
        self._usage: Any = None
        self._model: str | None = None
        self._tier: str | None = None
        self._request_id: str | None = None
        self._finish_reasons: list[str] = []
        self._tools: set[tuple[Any, str | None]] = set()
        self._length: int | None = None
        self._started = time()
        self._began = perf_counter()

    # -- what comes back ----------------------------------------------------------------------------------------------

    def headers(self, headers: Any) -> None:
        """Note the id that the server gave the request."""
        if self._request_id is None and headers is not None:
            self._request_id = headers.get("x-request-id") or headers.get("apim-request-id")

    def result(self, response: Any) -> None:
        """Finish with a whole response: an SDK object, or what a server sent instead of one."""
        if self.done:
            return
        self._request_id = getattr(response, "_request_id", None) or self._request_id
        self._read(response)
        self._finish(self._error_in(response))

    def chunk(self, chunk: Any) -> bool:
        """Take note of one chunk or event of a stream. Returns whether it is to be kept from the caller."""
        choices = getattr(chunk, "choices", None)
        if choices is None:
            self._event(chunk)
            return False
        if self._first is None:
            self._first = perf_counter()
        usage = locate_usage(chunk)
        if usage is not None:
            self._usage = usage
        if self._model is None or not self._model:
            self._model = getattr(chunk, "model", None)
        tier = getattr(chunk, "service_tier", None)
        if tier is not None:
            self._tier = tier
        for choice in choices:
            self._choice_delta(choice)
        if self.hide_usage:
            if usage is not None:
                return not choices
            # Asked for usage, the server sends `"usage": null` with every chunk; not asked, it does not.
            fields = getattr(chunk, "model_fields_set", None)
            if isinstance(fields, set):
                fields.discard("usage")
        return False

    def _choice_delta(self, choice: Any) -> None:
        reason = getattr(choice, "finish_reason", None)
        if reason:
            self._finish_reasons.append(reason)
        delta = getattr(choice, "delta", None)
        if delta is None:
            text = getattr(choice, "text", None)
            if text:
                self._length = (self._length or 0) + len(text)
            return
        content = getattr(delta, "content", None)
        if content:
            self._length = (self._length or 0) + len(content)
        calls = getattr(delta, "tool_calls", None)
        if calls:
            for call in calls:
                # A call begins with its id; the chunks that go on with it have none, or repeat it.
                self._tools.add((getattr(choice, "index", 0), getattr(call, "id", None) or None))

    def _event(self, event: Any) -> None:
        """One event of a Responses stream."""
        kind = getattr(event, "type", None)
        if not isinstance(kind, str):
            usage = locate_usage(event)
            if usage is not None:
                self._usage = usage
            return
        if self._first is None and kind.endswith(".delta"):
            self._first = perf_counter()
        response = getattr(event, "response", None)
        if response is not None:
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self._read(response)
                error = self._error_in(response)
                if error is not None:
                    self.metadata["stream_error"] = error
            elif self._model is None:
                self._model = getattr(response, "model", None)
        elif kind == "error":
            self.metadata["stream_error"] = (
                str(getattr(event, "code", None) or "error"),
                str(getattr(event, "message", None) or ""),
            )

    # -- how it ends --------------------------------------------------------------------------------------------------

    def stream_ended(self, how: str | None = None) -> None:
        """Finish a stream: read to its end, or ``closed_early``, or ``abandoned``."""
        if self.done:
            return
        if how is not None:
            self.metadata["ended"] = how
        self._finish(self.metadata.pop("stream_error", None))

    def failed(self, exc: BaseException) -> None:
        """Finish with the error that the caller gets."""
        if self.done:
            return
        completion = getattr(exc, "completion", None)  # e.g. LengthFinishReasonError: the call was answered and paid
        if completion is not None:
            self._read(completion)
        self.headers(getattr(getattr(exc, "response", None), "headers", None))
        status = getattr(exc, "status_code", None)
        if status is not None:
            self.metadata["status_code"] = status
        self._finish((type(exc).__name__, _message_of(exc)))

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, response: Any) -> None:
        usage = locate_usage(response)
        if usage is not None:
            self._usage = usage
        self._model = _attribute(response, "model") or self._model
        self._tier = _attribute(response, "service_tier") or self._tier
        if self.api == "responses":
            self._read_output(response)
            return
        length: int | None = None
        for choice in _attribute(response, "choices") or ():
            reason = _attribute(choice, "finish_reason")
            if reason:
                self._finish_reasons.append(reason)
            index = _attribute(choice, "index")
            message = _attribute(choice, "message")
            if message is None:
                text = _attribute(choice, "text")
                length = (length or 0) + (len(text) if isinstance(text, str) else 0)
                continue
            content = _attribute(message, "content")
            length = (length or 0) + (len(content) if isinstance(content, str) else 0)
            calls = _attribute(message, "tool_calls")
            self._tools.update((index, str(number)) for number in range(len(calls or ())))
        if length is not None:
            self._length = length

    def _read_output(self, response: Any) -> None:
        status = _attribute(response, "status")
        reason = _attribute(_attribute(response, "incomplete_details"), "reason")
        if reason or status:
            self._finish_reasons.append(str(reason or status))
        length = 0
        for number, item in enumerate(_attribute(response, "output") or ()):
            kind = _attribute(item, "type")
            if kind == "function_call":
                self._tools.add((number, "call"))
            elif kind == "message":
                for part in _attribute(item, "content") or ():
                    text = _attribute(part, "text")
                    length += len(text) if isinstance(text, str) else 0
        self._length = length

    def _error_in(self, response: Any) -> tuple[str, str] | None:
        """A server may say 200 and mean failure."""
        if isinstance(response, str):
            return (
                "UnexpectedResponse",
                f"the server answered with {len(response)} characters that are no JSON",
            )
        error = _attribute(response, "error")
        if not error:
            return None
        if isinstance(error, str):
            return "error", error
        kind = _attribute(error, "type") or _attribute(error, "code") or "error"
        return str(kind), str(_attribute(error, "message") or "")

    def _finish(self, error: tuple[str, str] | None) -> None:
        self.done = True
        now = perf_counter()
        event = self._context
        metadata = self.metadata
        usage = plain(self._usage) if self._usage is not None else None
        if usage is None and error is None:
            metadata["usage"] = "unknown"
        model = self._model
        if not model:
            model = self.requested_model
        elif model != self.requested_model:
            metadata["requested_model"] = self.requested_model
        event["kind"] = "call"
        event["interaction_id"] = new_id()
        event["api"] = self.api
        event["provider"] = self.provider
        event["model"] = model
        event["usage"] = usage
        event["start_time"] = self._started
        event["end_time"] = self._started + now - self._began
        event["duration_ms"] = (now - self._began) * 1000
        if self.stream and self._first is not None:
            event["time_to_first_token_ms"] = (self._first - self._began) * 1000
        event["context_messages"] = self.messages
        event["response_length"] = self._length
        event["request_id"] = self._request_id
        event["service_tier"] = self._tier
        event["finish_reason"] = self._finish_reasons[-1] if self._finish_reasons else None
        # A stream whose server names no ids is one call as far as anyone can tell.
        tools = sum(1 for _, name in self._tools if name is not None) or len(self._tools)
        event["tool_call_count"] = tools
        event["has_tool_calls"] = tools > 0
        event["success"] = error is None
        if error is not None:
            event["error_type"] = error[0][:200]
            event["error_message"] = redact_message(error[1])
        event["metadata"] = metadata or None
        self._event_sink.append(event)


def _attribute(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def _message_of(exc: BaseException) -> str:
    body = getattr(exc, "body", None)
    if isinstance(body, Mapping):
        error = body.get("error")
        body = error if isinstance(error, Mapping) else body
        message = body.get("message")
        if isinstance(message, str) and message:
            return message
    message = getattr(exc, "message", None)
    return message if isinstance(message, str) else str(exc)
