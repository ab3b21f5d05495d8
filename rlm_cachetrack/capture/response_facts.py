"""Read the facts of a call from its response: model, usage, tier, text length, tool calls. No content is kept.

Reads the attributes of SDK objects, or plain JSON, and does not import the SDK. It runs on the
calling thread, so it only reads attributes; numbers are interpreted on the writer thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns
from typing import Any

from rlm_cachetrack._process import guard
from rlm_cachetrack.usage import locate_usage, plain, read_cache_options

from .background import RUNNING, remember_counted
from .billed_facts import HOSTED_TOOLS, tool_usage_of
from .fields import fields_of, get_field, list_of
from .media_facts import FINAL_EVENTS, read_final_event, read_media

_ENDS_OF_RESPONSES = frozenset({"response.completed", "response.incomplete", "response.failed"})
_CHOICES = ("chat.completions", "completions")
_STATED = ("prompt_cache_retention", "prompt_cache_options", "prompt_cache_diagnostics", "diagnostics")
_UNEXPECTED_SHAPE = (AttributeError, KeyError, TypeError, ValueError)


class ResponseFacts:
    """The facts of one response, collected from a complete response or from the chunks of a stream.

    Attributes:
        api: The API name of the endpoint.
        body: The request body.
        metadata: The metadata of the call; the error event of a stream is kept in it until the stream ends.
        hide_usage: Whether the usage chunk must be hidden from the caller, who did not request it.
        extra: Values of rarely used columns, by column; None if there are none.
        length: The number of characters of text; None before the first.
    """

    # Defaults are on the class, so that an absent fact costs nothing per call.
    api: str
    body: Mapping[str, Any]
    metadata: dict[str, Any]
    hide_usage = False
    extra: dict[str, Any] | None = None
    length: int | None = None
    _usage: Any = None
    _model: str | None = None
    _tier: str | None = None
    _response_id: str | None = None
    _finish_reason: str | None = None
    _first_token_ns: int | None = None
    _tools: set[tuple[str, str | None]] | None = None
    _tools_without_id = 0
    _hosted: tuple[Mapping[str, Any], ...] = ()  # the output items of hosted tools that events have stated
    _unfinished_background: Any = None  # the response of a background stream that has not ended yet

    # -- complete responses ---------------------------------------------------------------------------------------

    def read_response(self, response: Any) -> Mapping[str, Any]:
        """Read a complete response: an SDK object or plain JSON. Returns its fields."""
        fields = fields_of(response)
        self._usage = locate_usage(response) or self._usage
        self._model = fields.get("model") or self._model
        self._tier = fields.get("service_tier") or self._tier
        self._response_id = fields.get("id") or self._response_id
        if self.api == "responses":
            self._read_cache_facts(response)
            self._read_output(fields)
            return fields
        if getattr(response, "__pydantic_extra__", None):
            self._read_cache_facts(response)
        if self.api not in _CHOICES:
            read_media(self, response, fields)
            return fields
        length: int | None = None
        for choice in list_of(fields.get("choices")):
            parts = fields_of(choice)
            self._finish_reason = parts.get("finish_reason") or self._finish_reason
            message = parts.get("message")
            if message is None:
                content = parts.get("text")
            else:
                message_fields = fields_of(message)
                content = message_fields.get("content")
                tool_calls = message_fields.get("tool_calls")
                if tool_calls:
                    for number, _ in enumerate(list_of(tool_calls)):
                        self._add_tool(parts.get("index"), str(number))
            length = (length or 0) + (len(content) if type(content) is str else 0)
        if length is not None:
            self.length = length
        return fields

    def _read_cache_facts(self, response: Any) -> None:
        """Read the response's facts about the cache: its options, and the provider's reason for a miss."""
        stated = {name: value for name in _STATED if (value := get_field(response, name)) is not None}
        if not stated:
            return
        extra = dict(self.extra or {})
        diagnostics = stated.pop("prompt_cache_diagnostics", None) or _claude_diagnostics(
            stated.pop("diagnostics", None)
        )
        if (found := None if diagnostics is None else plain(diagnostics)) is not None:
            extra["cache_diagnostics"] = found
        if options := read_cache_options(stated):
            extra["request_options"] = {**extra.get("request_options", {}), **options}
        self.extra = extra or None

    def _read_output(self, response: Mapping[str, Any]) -> None:
        status = response.get("status")
        if response.get("background") is True and str(status) not in RUNNING:
            remember_counted(str(response.get("id")))
        reason = get_field(response.get("incomplete_details"), "reason") or status
        if reason:
            self._finish_reason = str(reason)
        length = 0
        hosted = []
        for number, item in enumerate(list_of(response.get("output"))):
            fields = fields_of(item)
            item_type = str(fields.get("type"))
            if item_type == "function_call":
                self._add_tool(number, "call")
            elif item_type == "message":
                for part in list_of(fields.get("content")):
                    text = fields_of(part).get("text")
                    length += len(text) if type(text) is str else 0
            elif item_type in HOSTED_TOOLS:
                hosted.append(fields)
        self.length = length
        hosted = hosted or list(self._hosted)  # some servers do not repeat the output at the end of a stream
        if hosted or response.get("tool_usage") is not None:
            self.note(tool_usage=tool_usage_of(response, hosted, self.body))

    def note_item(self, item: Any) -> None:
        """Keep a finished output item of a hosted tool."""
        fields = fields_of(item)
        if str(fields.get("type")) in HOSTED_TOOLS:
            self._hosted = (*self._hosted, fields)

    def note(self, **values: Any) -> None:
        """Set values of rarely used columns; None leaves a column as it is."""
        self.extra = {**(self.extra or {}), **{name: value for name, value in values.items() if value is not None}}

    def add_details(self, *, replace: bool = False, **counts: float | None) -> None:
        """Add to the values of ``token_details`` that are not in the usage; None and 0 change nothing.

        Args:
            replace: Whether the counts replace those that are there.
            counts: The counts by name.
        """
        details = dict((self.extra or {}).get("token_details") or {})
        for name, count in counts.items():
            if count:
                details[name] = count if replace else details.get(name, 0) + count
        if details:
            self.note(token_details=details)

    @property
    def usage(self) -> Any:
        """The usage object as the SDK returned it; None if there is none yet."""
        return self._usage

    def use(self, usage: Any) -> None:
        """Replace the usage."""
        self._usage = usage

    def set_finish_reason(self, reason: str) -> None:
        """Set the reason why the response ended."""
        self._finish_reason = reason

    def http(self, response: Any) -> None:
        """Record the request id that the server returned."""

    # -- streams --------------------------------------------------------------------------------------------------

    def chunk(self, chunk: Any) -> bool:
        """Read one chunk or event of a stream. Never raises.

        Returns:
            True if the chunk must be hidden from the caller.
        """
        # Nearly every chunk of a chat is a piece of text. It is read inline, because further function calls would
        # double the cost of a chunk.
        try:
            fields = chunk.__dict__
            if fields["usage"] is None:
                (choice,) = fields["choices"]
                parts = choice.__dict__
                delta = parts["delta"].__dict__
                if parts["finish_reason"] is None and delta["tool_calls"] is None and (text := delta["content"]):
                    length = self.length
                    if length is not None:
                        self.length = length + len(text)
                        if self.hide_usage:
                            chunk.__pydantic_fields_set__.discard("usage")
                        return False
                    if not (self.hide_usage or chunk.__pydantic_extra__ or choice.__pydantic_extra__):
                        self._read_first_text(fields, text)
                        return False
        except _UNEXPECTED_SHAPE:
            pass
        try:
            return self._read_chunk(chunk)
        except Exception as exc:
            guard.report("reading a chunk", exc)
            return False

    def _read_first_text(self, fields: Mapping[str, Any], text: str) -> None:
        """Read the first chunk with text of a chat."""
        self.length = len(text)
        if self._first_token_ns is None:
            self._first_token_ns = perf_counter_ns()
        self._model = self._model or fields.get("model")
        self._response_id = self._response_id or fields.get("id")
        self._tier = fields.get("service_tier") or self._tier

    def _read_chunk(self, chunk: Any) -> bool:
        fields = fields_of(chunk)
        choices = fields.get("choices")
        if choices is None:
            if self._first_token_ns is not None and not self.hide_usage and str(fields.get("type")).endswith(".delta"):
                return False
            self._read_event(chunk, fields)
            # Some servers send the usage that we asked for in a chunk with no choices at all instead of an empty list.
            return self.hide_usage and self._usage is not None and locate_usage(chunk) is not None
        if self._first_token_ns is None:
            self._first_token_ns = perf_counter_ns()
        usage = locate_usage(chunk)
        if usage is not None:
            self._usage = usage
        if getattr(chunk, "__pydantic_extra__", None):
            self._read_cache_facts(chunk)
        self._model = self._model or fields.get("model")
        self._response_id = self._response_id or fields.get("id")
        self._tier = fields.get("service_tier") or self._tier
        for choice in list_of(choices):
            self._read_choice_delta(fields_of(choice))
        if self.hide_usage:
            if usage is not None:
                return bool(choices == [])
            # A server that was asked for usage sends `"usage": null` with every chunk; otherwise it does not.
            sent = getattr(chunk, "__pydantic_fields_set__", None)
            if type(sent) is set:
                sent.discard("usage")
        return False

    def _read_choice_delta(self, choice: Mapping[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if reason:
            self._finish_reason = reason
        delta = choice.get("delta")
        if delta is None:
            if type(text := choice.get("text")) is str:
                self.length = (self.length or 0) + len(text)
            return
        fields = fields_of(delta)
        content = fields.get("content")
        if type(content) is str and content:
            self.length = (self.length or 0) + len(content)
        for call in list_of(fields.get("tool_calls")):
            # The first chunk of a tool call has its id; later chunks have none, or repeat it.
            call_id = get_field(call, "id") or None
            self._add_tool(choice.get("index"), call_id)
            if call_id is None and get_field(get_field(call, "function"), "name"):
                self._tools_without_id += 1

    def _read_event(self, event: Any, fields: Mapping[str, Any]) -> None:
        """Read one event of a Responses stream, or an error event of any stream."""
        event_type = fields.get("type") or get_field(event, "type")  # not declared for an error in a chat stream
        if type(event_type) is not str:
            self._read_untyped_event(event)
            return
        if self._first_token_ns is None and event_type.endswith(".delta"):
            self._first_token_ns = perf_counter_ns()
        response = get_field(event, "response")  # an extra field of events that an old SDK does not know
        if response is not None:
            if event_type in _ENDS_OF_RESPONSES:
                self.read_response(response)
                error = error_in(response)
                if error is not None:
                    self.metadata["stream_error"] = error
                self._unfinished_background = None
            elif self._model is None:
                first = fields_of(response)
                self._model, self._response_id = first.get("model"), first.get("id")
                if first.get("background") is True:
                    self._unfinished_background = response
        elif event_type == "error":
            self._note_stream_error(event)
        elif event_type == "response.output_item.done":
            self.note_item(get_field(event, "item"))
        elif event_type in FINAL_EVENTS:
            read_final_event(self, fields)

    def _read_untyped_event(self, event: Any) -> None:
        if get_field(event, "event") == "error":  # openai 1.66 passes a server-sent event on undecoded
            self._note_stream_error(get_field(event, "data"))
        usage = locate_usage(event)
        if usage is not None:
            self._usage = usage

    def _note_stream_error(self, error: Any) -> None:
        code, message = get_field(error, "code") or "error", get_field(error, "message") or ""
        self.metadata["stream_error"] = (str(code), str(message))

    # -- tool calls -----------------------------------------------------------------------------------------------

    def _add_tool(self, index: Any, call_id: str | None) -> None:
        if self._tools is None:
            self._tools = set()
        self._tools.add((str(index), None if call_id is None else str(call_id)))

    def _tool_call_count(self) -> int:
        calls = self._tools or set()
        # Servers that send no ids send the function's name in the first chunk of a tool call.
        return sum(1 for _, call_id in calls if call_id is not None) or self._tools_without_id or len(calls)


def _claude_diagnostics(diagnostics: Any) -> Any:
    """Return Claude's cache diagnostics, as a compatible server returns them; None for other diagnostics.

    Source: https://platform.claude.com/docs/en/build-with-claude/cache-diagnostics, read 2026-12-01.
    """
    return diagnostics if get_field(diagnostics, "cache_miss_reason") is not None else None


def error_in(response: Any) -> tuple[str, str] | None:
    """Return the type and message of an error that a server sent with status 200; None for a success."""
    if type(response) is str:
        return "UnexpectedResponse", f"the server returned {len(response)} characters that are not JSON"
    error = get_field(response, "error")
    if not error:
        return None
    if type(error) is str:
        return "error", error
    return str(get_field(error, "type") or get_field(error, "code") or "error"), str(get_field(error, "message") or "")
