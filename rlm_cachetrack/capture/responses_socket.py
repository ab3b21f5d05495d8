"""The calls of a Responses connection (``client.responses.connect()``).

A request contains no response id, and most events contain no request id. The server runs the requests of a lane
(``stream_id``) in the order in which they were sent, so its next ``response.created`` belongs to the oldest request of
the lane. Events that contain a response are assigned by its id.

Source: ``openai/lib/responses_websocket/README.md`` and ``resources/responses/responses.py`` of openai 3.57.0 (read
2026-12-01).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from . import clients, context
from .fields import fields_of, list_of
from .socket_calls import Event, SocketCall, SocketCalls

_ENVELOPE = frozenset({"type", "stream_id", "event_id"})
_CONNECTION_ERRORS = frozenset({"websocket_connection_limit_reached"})


class _Steering:
    """Input that was sent to steer a response, and that its successor will contain."""

    def __init__(self, body: Mapping[str, Any], run_context: context.RunContext) -> None:
        self.body = body
        self.run_context = run_context
        self.items: list[Any] = []
        self.count = 0
        self.needs_request = False  # the server waits for a `response.create` with tool results


class ResponsesCalls(SocketCalls):
    """Observes one Responses connection."""

    api = "responses"
    sent_types: ClassVar = {"response.create": "_create", "response.steer": "_steer"}
    received_types: ClassVar = {
        "response.created": "_created",
        "response.output_item.done": "_item_done",
        "response.completed": "_ended",
        "response.incomplete": "_ended",
        "response.failed": "_ended",
        "response.steer.pending": "_steer_pending",
        "response.steer.failed": "_steer_failed",
        "error": "_error",
    }

    def __init__(self, client: Any, queue: Any, model: Any) -> None:
        super().__init__(client, queue, model)
        self._waiting: dict[str | None, deque[SocketCall]] = {}
        self._steerings: dict[str, _Steering] = {}

    # -- requests -----------------------------------------------------------------------------------------------------

    def _create(self, event: Event) -> SocketCall | None:
        call = self._new_call({name: value for name, value in event.items() if name not in _ENVELOPE})
        if call is not None:
            call.lane = _lane_of(event)
            if _is_prewarm(event):
                call.note(request_options={"prewarm": True})
            self._waiting.setdefault(call.lane, deque()).append(call)
        return call

    def _steer(self, event: Event) -> None:
        """Note input for a running response. The server may begin another response with it, without a request."""
        parent_id = str(event.get("previous_response_id"))
        steering = self._steerings.get(parent_id)
        if steering is None:
            parent = self._running.get(parent_id)
            body = {} if parent is None else parent.body
            tags = getattr(clients.options_of(self._client), "tags", None)
            steering = self._steerings[parent_id] = _Steering(body, context.current_encoded(tags))
        given = event.get("input")
        steering.items += [{"role": "user", "content": given}] if isinstance(given, str) else list_of(given)
        steering.count += 1

    # -- events -------------------------------------------------------------------------------------------------------

    def _created(self, event: Event) -> None:
        response = fields_of(event.get("response"))
        response_id = str(response.get("id"))
        if response_id in self._running or response_id in self._ended_ids:
            return
        call = self._claim(event, response)
        if call is None:
            return
        call.response_id = response_id
        call.pulling = True  # from now on, tokens may be billed
        call.chunk(event)
        call.lane = _lane_of(event)
        self._running[response_id] = call
        self._silent.append(call)

    def _claim(self, event: Event, response: Mapping[str, Any]) -> SocketCall | None:
        """Return the call of a response that is not assigned to one yet."""
        parent_id = str(response.get("previous_response_id"))
        waiting = self._waiting.get(_lane_of(event)) or self._oldest_waiting()
        steering = self._steerings.pop(parent_id, None)
        if steering is not None:
            is_request = bool(waiting) and waiting[0].body.get("previous_response_id") == parent_id
            if not (steering.needs_request and is_request):
                return self._successor(steering, parent_id)
        if waiting:
            return waiting.popleft()
        return self._new_call({"model": response.get("model")})

    def _successor(self, steering: _Steering, parent_id: str) -> SocketCall | None:
        call = self._new_call({**steering.body, "input": steering.items, "previous_response_id": parent_id})
        if call is not None:
            call.set_run_context(steering.run_context)
        return call

    def _oldest_waiting(self) -> deque[SocketCall]:
        """Return the queue with the oldest request, for a server that does not return the lane."""
        queues = [queue for queue in self._waiting.values() if queue]
        return min(queues, key=lambda queue: queue[0].began_ns, default=deque())

    def _item_done(self, event: Event) -> None:
        call = self._call_of_delta(event)
        if call is not None and isinstance(item := event.get("item"), Mapping):
            call.add_item(item)

    def _ended(self, event: Event) -> None:
        response = fields_of(event.get("response"))
        response_id = str(response.get("id"))
        if response_id in self._ended_ids:
            return
        call = self._running.get(response_id) or self._claim(event, response)
        if call is None:
            return
        call.response_id = response_id
        call.pulling = True
        self._forget(call)
        call.chunk(event)
        if response.get("output") is None:
            call.use_items()
        call.stream_ended()

    def _error(self, event: Event) -> None:
        """Assign an error to the running response of its lane, or else to the oldest request.

        A rejected message never ends a running response: the message was another request, or no request at all.
        """
        lane = _lane_of(event)
        running, waiting = self._newest_in(lane), self._waiting.get(lane)
        is_rejection = _is_rejection(event)
        if running is not None and not is_rejection:
            call: SocketCall | None = running
        elif waiting:
            call = waiting[0]
        elif running is not None or _is_of_connection(event):
            return
        else:
            queue = self._oldest_waiting()
            call = queue[0] if queue else None if is_rejection else next(iter(self._running.values()), None)
        if call is not None:
            self._forget(call)
            call.refused(event)

    def _steer_pending(self, event: Event) -> None:
        steering = self._steerings.get(_steered_id(event))
        if steering is not None:
            steering.needs_request = True

    def _steer_failed(self, event: Event) -> None:
        steering = self._steerings.get(_steered_id(event))
        if steering is not None:
            steering.count -= 1
            if steering.count <= 0:
                del self._steerings[_steered_id(event)]

    # -- bookkeeping --------------------------------------------------------------------------------------------------

    def _waiting_calls(self) -> list[SocketCall]:
        return [call for queue in self._waiting.values() for call in queue]

    def _forget(self, call: SocketCall) -> None:
        super()._forget(call)
        for queue in self._waiting.values():
            if call in queue:
                queue.remove(call)

    def _call_of_delta(self, event: Event) -> SocketCall | None:
        return super()._call_of_delta(event) or self._newest_in(_lane_of(event))

    def _newest_in(self, lane: str | None) -> SocketCall | None:
        """Return the newest response of a lane."""
        return next((call for call in reversed(self._running.values()) if call.lane == lane), None)


def _lane_of(event: Event) -> str | None:
    lane = event.get("stream_id")
    return lane if type(lane) is str else None


def _is_prewarm(event: Event) -> bool:
    """Return True if a request prepares the prompt's cache, and has no output."""
    options = event.get("prompt_cache_options")
    return event.get("generate") is False or (isinstance(options, Mapping) and options.get("prewarm") is True)


def _steered_id(event: Event) -> str:
    steer = event.get("steer")
    return str(steer.get("previous_response_id")) if isinstance(steer, Mapping) else ""


def _is_rejection(event: Event) -> bool:
    """Return True for an error of the client's message, False for one of the server."""
    status, error = event.get("status"), event.get("error")
    if type(status) is int:
        return 400 <= status < 500
    return isinstance(error, Mapping) and error.get("type") == "invalid_request_error"


def _is_of_connection(event: Event) -> bool:
    error = event.get("error")
    return isinstance(error, Mapping) and error.get("code") in _CONNECTION_ERRORS
