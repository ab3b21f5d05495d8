"""The calls of a Realtime connection (``client.realtime.connect()`` and ``beta.realtime``).

The server begins a response for each ``response.create``, and on its own when a speaker pauses. It transcribes spoken
input with another model, which has its own price; each transcription is a call, too.

Source: ``openai/types/realtime`` and ``openai/types/beta/realtime`` of openai 3.57.0 (read 2026-12-01).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from time import perf_counter_ns, time_ns
from typing import Any, ClassVar

from . import clients, context
from .fields import fields_of, list_of, text_of
from .response_facts import error_in
from .socket_calls import Event, SocketCall, SocketCalls

_TRANSCRIPTION = "conversation.item.input_audio_transcription."
_BUSY = "conversation_already_has_active_response"
_MAX_REMEMBERED = 100


class RealtimeCalls(SocketCalls):
    """Observes one Realtime connection. Outside any run, the session is the run of its calls."""

    api = "realtime"
    sent_types: ClassVar = {"response.create": "_create"}
    received_types: ClassVar = {
        "session.created": "_session_changed",
        "session.updated": "_session_changed",
        "transcription_session.created": "_session_changed",
        "transcription_session.updated": "_session_changed",
        "response.created": "_created",
        "response.done": "_ended",
        "input_audio_buffer.committed": "_committed",
        f"{_TRANSCRIPTION}completed": "_transcribed",
        f"{_TRANSCRIPTION}failed": "_transcribed",
        "error": "_error",
    }

    def __init__(self, client: Any, queue: Any, model: Any) -> None:
        super().__init__(client, queue, model)
        self._model: str | None = None  # the one that serves the session
        self._run_id = context.new_run_id().isoformat()
        self._transcription_model: str | None = None
        self._waiting: deque[tuple[Any, SocketCall]] = deque()  # pairs of event id and call
        self._committed_at: OrderedDict[str, tuple[int, int]] = OrderedDict()

    # -- the session --------------------------------------------------------------------------------------------------

    def _session_changed(self, event: Event) -> None:
        session = fields_of(event.get("session"))
        self._model = text_of(session.get("model")) or self._model
        audio_input = fields_of(fields_of(session.get("audio")).get("input"))
        for settings in (audio_input.get("transcription"), session.get("input_audio_transcription")):
            self._transcription_model = text_of(fields_of(settings).get("model")) or self._transcription_model

    def _new_call(self, body: Mapping[str, Any]) -> SocketCall | None:
        call = super()._new_call({**body, "model": body.get("model") or self._requested_model or self._model})
        if call is not None:
            self._set_session_context(call)
        return call

    def _set_session_context(self, call: SocketCall) -> None:
        tags = getattr(clients.options_of(self._client), "tags", None)
        call.set_run_context(context.encoded_of_session(self._run_id, tags))

    # -- responses ----------------------------------------------------------------------------------------------------

    def _create(self, event: Event) -> SocketCall | None:
        call = self._new_call(fields_of(event.get("response")))
        if call is not None:
            self._waiting.append((event.get("event_id"), call))
        return call

    def _created(self, event: Event) -> None:
        response_id = str(fields_of(event.get("response")).get("id"))
        if response_id in self._running or response_id in self._ended_ids:
            return
        call = self._claim()
        if call is not None:
            call.response_id = response_id
            call.pulling = True  # from now on, tokens may be billed
            self._running[response_id] = call
            self._silent.append(call)

    def _claim(self) -> SocketCall | None:
        """Return the call of the oldest request, or a new call if the server began the response on its own."""
        return self._waiting.popleft()[1] if self._waiting else self._new_call({})

    def _ended(self, event: Event) -> None:
        response = fields_of(event.get("response"))
        response_id = str(response.get("id"))
        if response_id in self._ended_ids:
            return
        call = self._running.get(response_id) or self._claim()
        if call is None:
            return
        call.response_id = response_id
        self._forget(call)
        details = fields_of(response.get("status_details"))
        reason = text_of(details.get("reason")) or text_of(response.get("status"))
        error = error_in(details) if response.get("status") == "failed" else None
        output = [item for item in list_of(response.get("output")) if isinstance(item, Mapping)]
        call.pulling = True
        call.read_realtime(response.get("usage"), self._model, reason, output)
        if error is not None:
            call.end_with(*error)
        else:
            call.stream_ended()

    def _error(self, event: Event) -> None:
        """Assign an error to the request that it names; most errors do not concern a response."""
        error = fields_of(event.get("error"))
        named, code, parameter = error.get("event_id"), error.get("code"), str(error.get("param"))
        for event_id, call in self._waiting:
            is_unnamed = named is None and (code == _BUSY or parameter.startswith("response"))
            if is_unnamed or (named is not None and named == event_id):
                self._forget(call)
                call.refused(event)
                return

    # -- transcriptions of the input ----------------------------------------------------------------------------------

    def _committed(self, event: Event) -> None:
        self._committed_at[str(event.get("item_id"))] = time_ns(), perf_counter_ns()
        if len(self._committed_at) > _MAX_REMEMBERED:
            self._committed_at.popitem(last=False)

    def _transcribed(self, event: Event) -> None:
        call = super()._new_call({"model": self._transcription_model})
        if call is None:
            return
        self._set_session_context(call)
        call.metadata["transcription"] = True
        started = self._committed_at.pop(str(event.get("item_id")), None)
        if started is not None:
            call.set_start(*started)
        error = error_in(event)
        if error is not None:
            call.end_with(*error)
            return
        transcript = event.get("transcript")
        call.read_realtime(
            event.get("usage"), self._transcription_model, "completed", [{"content": [{"text": transcript}]}]
        )
        call.stream_ended()

    # -- bookkeeping --------------------------------------------------------------------------------------------------

    def _waiting_calls(self) -> list[SocketCall]:
        return [call for _, call in self._waiting]

    def _forget(self, call: SocketCall) -> None:
        super()._forget(call)
        self._waiting = deque(pair for pair in self._waiting if pair[1] is not call)
