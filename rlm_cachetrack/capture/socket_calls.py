"""The calls of one websocket connection, found in the messages that it sends and receives.

A message is parsed only if its type matters here. Nearly all other messages are pieces of text or audio, for which only
one regular expression runs. Messages are read before the SDK parses them, so it does not matter how the caller reads.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic_core import from_json

from rlm_cachetrack._process import guard
from rlm_cachetrack.pipeline import runtimes

from . import clients, context
from .call import Call
from .endpoints import socket_provider_of, socket_region_of
from .fields import list_of
from .surroundings import OPENTELEMETRY, call_site, current_span

# Scalars may precede the type; for anything else, the message is parsed.
_SCALARS = r'\s*\{\s*(?:"(?!type")[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*)*'
_TYPE = re.compile(_SCALARS + r'"type"\s*:\s*"([^"\\]*)"')
_TYPE_BYTES = re.compile(_TYPE.pattern.encode("ascii"))

CLOSED = ("ConnectionClosed", "the connection was closed before the response ended")
"""The type and message of the error that is recorded for a response that the caller did not wait for."""

_MAX_ENDED = 100

Event = Mapping[str, Any]


class SocketCall(Call):
    """One response of a websocket connection.

    Attributes:
        response_id: The id of the response, once it is known.
        lane: The ``stream_id`` of the request; None for the default lane.
    """

    response_id: str | None = None
    lane: str | None = None
    _items: tuple[int, int] = (0, 0)  # characters of text and tool calls of the finished output items

    @property
    def began_ns(self) -> int:
        """The start, on the monotonic clock."""
        return self._began_ns

    def set_run_context(self, run_context: context.RunContext) -> None:
        """Set the run context of the code that sent the request, if it is not the current one."""
        self._run_context = run_context

    def set_start(self, time_ns: int, monotonic_ns: int) -> None:
        """Set the start of a call that began before this process learned of it."""
        self._started_ns, self._began_ns = time_ns, monotonic_ns

    def read_realtime(self, usage: Any, model: str | None, reason: str | None, output: Sequence[Event]) -> None:
        """Read the end of a Realtime response or transcription."""
        self._usage = usage if isinstance(usage, Mapping) else None
        self._model, self._finish_reason = model, reason
        self._response_id = self.response_id
        for item in output:
            self.add_item(item)
        self.use_items()

    def add_item(self, item: Event) -> None:
        """Count a finished output item, for a response whose last event does not repeat its output."""
        length, tools = self._items
        self._items = length + text_length(item), tools + (item.get("type") == "function_call")
        self.note_item(item)

    def use_items(self) -> None:
        """Use the counts of the finished output items."""
        self.length, tools = self._items
        for number in range(tools):
            self._add_tool(number, "call")

    def end_with(self, error_type: str, message: str) -> None:
        """Finish with an error for which there is no exception."""
        self.metadata["stream_error"] = (error_type, message)
        self.stream_ended()

    def refused(self, event: Event) -> None:
        """Finish with an ``error`` event."""
        error = event.get("error")
        error = error if isinstance(error, Mapping) else event
        status = event.get("status", event.get("status_code"))
        if type(status) is int:
            self.metadata["status_code"] = status
        self.end_with(str(error.get("code") or error.get("type") or "error"), str(error.get("message") or ""))


class SocketCalls:
    """Observes one connection: finds its calls, and records each when it ends. Public methods never raise.

    Args:
        client: The SDK client that opened the connection.
        queue: The SDK's queue of messages that wait for the connection; None in old versions.
        model: The model that was given when connecting, if any.

    Attributes:
        is_attached: Whether a socket is observed.
        queue: The queue that messages to the socket may come from.
    """

    api: ClassVar[str]
    sent_types: ClassVar[Mapping[str, str]]
    """The types of the messages that are read when they are sent, and the method for each."""
    received_types: ClassVar[Mapping[str, str]]
    """The types of the messages that are read when they are received, and the method for each."""

    def __init__(self, client: Any, queue: Any, model: Any) -> None:
        self.is_attached = False
        self._client = client
        self.queue = queue
        self._requested_model = model if isinstance(model, str) else None
        self._provider = socket_provider_of(client)
        self._region = socket_region_of(client)
        self._lock = threading.RLock()  # reentrant: a finalizer may end the calls at any time
        self._running: dict[str, SocketCall] = {}
        self._ended_ids: deque[str] = deque(maxlen=_MAX_ENDED)
        self._silent: list[SocketCall] = []  # responses that have begun and sent no token yet

    # -- what the socket reports --------------------------------------------------------------------------------------

    def sending(self, message: Any) -> SocketCall | None:
        """Observe a message that is about to be sent. Returns the call that it begins, if any."""
        try:
            run_context = forget_queue(self.queue, message)
            options = clients.options_of(self._client)
            if options is None:
                return None
            kind = _type_of(message)
            if kind is not None and (name := self.sent_types.get(kind)) is not None:
                with self._lock:
                    call: SocketCall | None = getattr(self, name)(_parsed(message))
                    if call is not None and run_context is not None:
                        call.set_run_context(context.with_client_tags(run_context, options.tags))
                    return call
        except Exception as exc:
            guard.report("observing a websocket message", exc)
        return None

    def send_failed(self, call: SocketCall | None, exc: BaseException) -> None:
        """Record a request that could not be sent."""
        if call is not None:
            with self._lock:
                self._forget(call)
            self._fail(call, exc)

    def received(self, message: Any) -> None:
        """Observe a message that the caller is about to get."""
        try:
            kind = _type_of(message)
            if kind is None:
                return
            name = self.received_types.get(kind)
            if name is not None:
                with self._lock:
                    getattr(self, name)(_parsed(message))
            elif self._silent and kind.endswith(".delta"):
                with self._lock:
                    self._note_first_token(_parsed(message))
        except Exception as exc:
            guard.report("reading a websocket message", exc)

    def receive_failed(self, exc: BaseException) -> None:
        """Record the open responses as failed if the connection is lost. Another error does not end them."""
        if hasattr(exc, "rcvd_then_sent"):  # a ConnectionClosed of `websockets`, which need not be installed
            calls = self._take_all()
            self._ended_ids.clear()  # a new connection may use them again
            for call in calls:
                call.pulling = True  # the response may have been billed
                self._fail(call, exc)

    def closed(self) -> None:
        """Record the open responses as failed, after the caller closed the connection."""
        self._end_all("closed_early")

    def abandoned(self) -> None:
        """Record the open responses as failed, when the connection is collected or the interpreter exits."""
        self._end_all("abandoned")

    # -- the calls ----------------------------------------------------------------------------------------------------

    def _new_call(self, body: Mapping[str, Any]) -> SocketCall | None:
        """Return a new call; None if the client is not recorded any more."""
        options = clients.options_of(self._client)
        if options is None:
            return None
        current = runtimes.peek_default() or runtimes.default()
        fingerprints = current.fingerprints if options.fingerprints and self.api == "responses" else None
        call = SocketCall(current, self.api, self._provider, body, True, fingerprints, options.tags)
        call.metadata["transport"] = "websocket"
        call.region = self._region
        if options.call_site:
            call.note(call_site=call_site())
        if OPENTELEMETRY in sys.modules:
            call.note(**current_span())
        return call

    def _waiting_calls(self) -> list[SocketCall]:
        """Return the calls that were sent and whose response has not begun."""
        raise NotImplementedError

    def _forget(self, call: SocketCall) -> None:
        """Drop a call that has ended."""
        if call.response_id is not None:
            self._running.pop(call.response_id, None)
            self._ended_ids.append(call.response_id)
        if call in self._silent:
            self._silent.remove(call)

    def _note_first_token(self, event: Event) -> None:
        call = self._call_of_delta(event)
        if call in self._silent:
            call.chunk(event)
            self._silent.remove(call)

    def _call_of_delta(self, event: Event) -> Any:
        return self._running.get(str(event.get("response_id")))

    def _take_all(self) -> list[SocketCall]:
        with self._lock:
            calls = [*self._running.values(), *self._waiting_calls()]
            for call in calls:
                self._forget(call)
        return calls

    def _end_all(self, ending: str) -> None:
        try:
            for call in self._take_all():
                call.pulling = True
                call.metadata["ended"] = ending
                call.end_with(*CLOSED)
        except Exception as exc:
            guard.report("ending the calls of a websocket", exc)

    def _fail(self, call: SocketCall, exc: BaseException) -> None:
        try:
            call.failed(exc)
        except Exception as internal:
            guard.report("recording a failed call", internal)


# -- messages ---------------------------------------------------------------------------------------------------------


def _type_of(message: Any) -> str | None:
    """Return the ``type`` of a message, without parsing it if possible."""
    if type(message) is bytes:
        found = _TYPE_BYTES.match(message)
        if found is not None:
            return found[1].decode()
    elif type(message) is str:
        match = _TYPE.match(message)
        if match is not None:
            return match[1]
    kind = _parsed(message).get("type")
    return kind if type(kind) is str else None


def text_length(item: Event) -> int:
    """Return the number of characters in the texts, or in the audio transcripts, of an output item."""
    length = 0
    for part in list_of(item.get("content")):
        if isinstance(part, Mapping):
            text = part.get("text") or part.get("transcript")
            length += len(text) if type(text) is str else 0
    return length


def _parsed(message: Any) -> Event:
    """Return a message as a dict; an empty one if it is no JSON object."""
    try:
        event = from_json(message)
    except (ValueError, TypeError):
        try:
            event = json.loads(message)  # reads lone surrogates, too
        except (ValueError, TypeError, RecursionError):
            return {}
    return event if type(event) is dict else {}


# -- messages that wait in a queue of the SDK --------------------------------------------------------------------------

_contexts: weakref.WeakKeyDictionary[Any, dict[int, tuple[Any, context.RunContext]]] = weakref.WeakKeyDictionary()
"""The run context of each queued message by its id; the message is kept, so that its id stays unique."""


def queue_message(queue: Any, message: Any) -> None:
    """Keep the current run context for a message that is put into a queue. Never raises."""
    try:
        _contexts.setdefault(queue, {})[id(message)] = (message, context.current_encoded())
    except Exception as exc:
        guard.report("observing a queued message", exc)


def forget_queue(queue: Any, message: Any) -> context.RunContext | None:
    """Forget a message that leaves a queue. Returns its run context; None if it was not in the queue."""
    kept = _contexts.get(queue) if queue is not None else None
    entry = kept.pop(id(message), None) if kept else None
    return None if entry is None else entry[1]
