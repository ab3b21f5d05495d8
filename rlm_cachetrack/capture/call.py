"""One observed call, from its request to the last byte of its response, and its event.

Only times, scalars and the raw usage object are kept, no content. Everything here runs on the calling thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns, time_ns
from typing import Any

from rlm_cachetrack._process import guard, number_of
from rlm_cachetrack.fingerprint import Fingerprints
from rlm_cachetrack.journal import encode, next_number
from rlm_cachetrack.usage import PRICE_AND_CACHE_FIELDS, locate_usage, read_request_options

from . import context
from .background import RUNNING, park
from .billed_facts import request_options_of
from .cache_diagnosis import PromptStart
from .endpoints import PROMPT_APIS
from .fields import fields_of, request_id_in, seconds_of
from .media_facts import APIS_WITH_REQUEST_UNITS, may_be_text, read_request_units
from .protocols import EventSink
from .redaction import event_of, message_of, safe_error
from .response_facts import ResponseFacts, error_in

_JOBS = ("responses", "videos")  # the APIs whose requests can return before the work is done


class Call(ResponseFacts):
    """One observed call. Exactly one of ``result``, ``stream_ended`` and ``failed`` creates its event.

    Args:
        sink: Receives the event.
        api: The API name of the endpoint.
        provider: The provider, as :func:`.endpoints.provider_of` returns it.
        body: The request body. Errors need it: a server may quote the prompt in its message.
        stream: Whether the caller asked for a stream.
        fingerprints: Receives the body to hash it; None: this call gets no fingerprint.
        client_tags: The tags of the client.

    Attributes:
        done: Whether the event was created.
        parked: Whether the call waits for a background response to finish.
        parsed: The response that a ``.parse()`` helper of the SDK received, if it received one.
        region: The region of processing, if the host selects one.
        known_options: The request options of a retrieved response, as they were remembered at its creation.
        prompt_start: The prompt to which later ones may be compared, if it has completed.
    """

    # Further defaults on the class; see ResponseFacts.
    done = False
    parked = False
    pulling = False
    parsed: Sequence[Any] = ()
    items: Any = None
    _number: int | None = None
    _request_id: str | None = None
    _background_error: tuple[str, str] | None = None
    region: str | None = None
    known_options: Mapping[str, str] | None = None
    prompt_start: PromptStart | None = None

    def __init__(
        self,
        sink: EventSink,
        api: str,
        provider: str,
        body: Mapping[str, Any],
        stream: bool,
        fingerprints: Fingerprints | None = None,
        client_tags: Mapping[str, str] | None = None,
    ) -> None:
        self.sink = sink
        self.api = api
        self.provider = provider
        self.body = body
        self.stream = stream
        self.fingerprints = fingerprints
        messages = body.get("messages" if api == "chat.completions" else "input")
        self._context_messages = len(messages) if type(messages) is list else (None if messages is None else 1)
        self.metadata: dict[str, Any] = {"stream": True} if stream else {}
        self._run_context = context.current_encoded(client_tags)
        self._started_ns = time_ns()
        self._began_ns = perf_counter_ns()

    def set_times(self, identity: str, created_s: Any, completed_s: Any) -> None:
        """Set the time and the id of a call that another process made, from the response that it got.

        Args:
            identity: The id of the response.
            created_s: When the server created it, in seconds since 1970; other values change nothing.
            completed_s: When the server completed it, in seconds since 1970; other values leave the duration as it is.
        """
        created, completed = seconds_of(created_s), seconds_of(completed_s)
        if created is None:
            return
        self._started_ns = int(created * 1e9)
        self._number = number_of(identity)
        if completed is not None and completed >= created:
            self._began_ns = perf_counter_ns() - int((completed - created) * 1e9)

    # -- what is observed -----------------------------------------------------------------------------------------

    def http(self, response: Any) -> None:
        """Record the request id that the server returned."""
        headers = getattr(response, "headers", None)
        if self._request_id is None and headers is not None:
            self._request_id = request_id_in(headers)

    def result(self, response: Any) -> None:
        """Finish with a complete response: an SDK object, or other data that a server sent instead.

        A response that runs in the background is not finished: the call is parked.
        """
        if self.done or self.parked:
            return
        error = None
        try:
            fields = self.read_response(response)
            if "extensions" in fields:  # the caller asked for the HTTP response itself
                self.http(response)
                fields = self.read_response(response := _content_of(response))
            self._request_id = fields.get("_request_id") or self._request_id
            if self.api in _JOBS and self._usage is None and str(fields.get("status")) in RUNNING:
                self._park(response)
                return
            if fields.get("error") or (type(response) is str and not may_be_text(self.api, self.body)):
                error = error_in(response)
        except Exception as exc:  # a response of an unknown shape is recorded, too
            guard.report("reading a response", exc)
        self._finish(error)

    def stream_ended(self, ending: str | None = None) -> None:
        """Finish a stream.

        Args:
            ending: ``closed_early`` or ``abandoned``; None if the stream was read to its end.
        """
        if self.done or self.parked:
            return
        if ending is not None:
            self.metadata["ended"] = ending
            if self._unfinished_background is not None:  # it continues on the server, and may be retrieved
                self._park(self._unfinished_background)
                return
        self._finish(self.metadata.pop("stream_error", None))

    def failed(self, exc: BaseException) -> None:
        """Finish with the error that the caller gets."""
        if self.done or self.parked:
            return
        message = ""
        try:
            self._read_error(exc)
            message = message_of(exc)
        except Exception as internal:
            guard.report("reading an error", internal)
        error = (type(exc).__name__, message)
        if self._unfinished_background is not None:
            self._background_error = error
            self._park(self._unfinished_background)
            return
        self._finish(error)

    def _read_error(self, exc: BaseException) -> None:
        """Read the facts of an error, and the billed usage of a response that the SDK rejected."""
        status = getattr(exc, "status_code", None)
        if self.parsed:
            self.read_response(self.parsed[0])
        elif (completion := getattr(exc, "completion", None)) is not None:
            self.read_response(completion)  # LengthFinishReasonError
        elif status == 200 and type(body := getattr(exc, "body", None)) is dict and self.items is None:
            self.read_response(body)  # rejected by a client that validates responses
        elif self._usage is None and self.items is not None:
            self._usage = locate_usage(event_of(exc))
        response = getattr(exc, "response", None)
        self.http(response if response is not None else exc)
        if status is not None:
            self.metadata["status_code"] = status

    def secrets(self) -> Mapping[str, Any]:
        """Return values other than the body that a server may quote in an error."""
        return {}

    # -- the event ------------------------------------------------------------------------------------------------

    def unfinished_event(self) -> bytes:
        """Return the event of a parked call with the values known so far; the final event has the same id."""
        return self._event(self._background_error, {**self.metadata, "usage": "pending"})

    def request_options(self) -> dict[str, str]:
        """Return the options of the request that affect the price; empty for the usual call."""
        return {**(self.known_options or {}), **request_options_of(self.body, self.region, self.provider)}

    def _prompt_options(self) -> dict[str, Any]:
        """Return the options of a request with a prompt, except those that need the fingerprint."""
        if self.api not in PROMPT_APIS:
            return {}
        try:
            return read_request_options(self.body)
        except Exception as exc:  # a body that no server accepts
            guard.report("reading the options of a request", exc)
            return {}

    def _extra_columns(self) -> dict[str, Any] | None:
        # The writer reads all options with the fingerprint. Those of price and cache are read here, because a call has
        # no fingerprint if the queue of bodies is full or the process is killed.
        is_usual = PRICE_AND_CACHE_FIELDS.isdisjoint(self.body)
        if is_usual and self.region is None and self.known_options is None and self.fingerprints is not None:
            return self.extra
        options = {**self._prompt_options(), **self.request_options(), **(self.extra or {}).get("request_options", {})}
        return {**(self.extra or {}), "request_options": options} if options else self.extra

    def _park(self, response: Any) -> None:
        self.parked = True
        self.metadata["background"] = True
        park(self, response, self.sink.journal)

    def _finish(self, error: tuple[str, str] | None) -> None:
        self.done = True
        if error is None and self.api in APIS_WITH_REQUEST_UNITS:
            read_request_units(self)
        is_measured = self._usage is not None or (self.extra is not None and "token_details" in self.extra)
        if not is_measured and (error is None or self.pulling):  # a broken stream may have been billed
            self.metadata["usage"] = "unknown"
        self.sink.append(self._event(error, self.metadata))
        if self.prompt_start is not None and error is None and self._finish_reason == "completed" and self._response_id:
            self.prompt_start.remember(self._response_id)

    def _event(self, error: tuple[str, str] | None, metadata: Mapping[str, Any]) -> bytes:
        duration = perf_counter_ns() - self._began_ns
        first_token_ns = self._first_token_ns if self.stream else None
        if self._number is None:
            self._number = next_number()
            if self.fingerprints is not None:
                # Before the event is appended, so that the writer finds the body.
                usage = fields_of(self._usage)
                tokens = usage.get("prompt_tokens") or usage.get("input_tokens")
                request = (self._number, self.api, self._run_context[0], self.body, self._context_messages)
                self.fingerprints.add(*request, tokens if type(tokens) is int else None, self._response_id)
        error_type, error_message = (None, None) if error is None else safe_error(error, self.body, self.secrets())
        run_context, scope_tags = self._run_context
        return encode(
            run_context,
            (
                self._number,
                self.api,
                self.provider,
                self._model or None,
                str(self.body.get("model") or "unknown"),
                self._started_ns,
                duration,
                None if first_token_ns is None else first_token_ns - self._began_ns,
                self._context_messages,
                self.length,
                self._request_id,
                self._response_id,
                self._tier,
                self._finish_reason,
                self._tool_call_count() if self._tools else 0,
                error_type,
                error_message,
                metadata or None,
            ),
            self._usage,
            self._extra_columns(),
            scope_tags,
        )


def _content_of(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text
