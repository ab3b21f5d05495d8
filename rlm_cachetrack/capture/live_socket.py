"""The calls of a Live connection (``client.live.connect()``, ``live.forks`` and ``live.sideband``).

A session is one call, billed by its length. The server reports the length so far, and the whole length at the end. What
the session delegates to Responses or Decisions is billed by tokens: each is a call, too.

Source: ``openai/types/live`` of openai 3.57.0, read 2026-12-01.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

from .fields import fields_of
from .realtime_socket import RealtimeCalls
from .socket_calls import Event, SocketCall

_owners: weakref.WeakValueDictionary[str, LiveCalls] = weakref.WeakValueDictionary()
"""The observer of each session: a session may have a sideband connection in the same process."""
_owners_lock = threading.Lock()
_ENDS = frozenset(("response.completed", "response.incomplete", "response.failed"))


class LiveCalls(RealtimeCalls):
    """Observes one Live connection."""

    api = "live"
    sent_types: ClassVar = {}
    received_types: ClassVar = {
        "session.started": "_started",
        "session.usage.updated": "_measured",
        "session.closed": "_finished",
        "response.event": "_delegated",
        "decision.event": "_decided",
    }

    def __init__(self, client: Any, queue: Any, model: Any) -> None:
        super().__init__(client, queue, model)
        self._session: SocketCall | None = None
        self._session_id: str | None = None

    # -- the session --------------------------------------------------------------------------------------------------

    def _started(self, event: Event) -> None:
        session = fields_of(event.get("session"))
        self._model = session.get("model") if isinstance(session.get("model"), str) else self._model
        self._begin(str(session.get("id")))

    def _begin(self, session_id: str | None) -> SocketCall | None:
        """Return the call of the session; None if another connection of the process records it."""
        if session_id is not None and self._session_id is None:
            self._session_id = session_id
            with _owners_lock:
                _owners.setdefault(session_id, self)
        if not self._owns():
            return None
        if self._session is None:
            self._session = self._new_call({})
            if self._session is not None:
                self._session.response_id = self._session_id
        return self._session

    def _owns(self) -> bool:
        return self._session_id is None or _owners.get(self._session_id) is self

    def _measured(self, event: Event) -> None:
        call = self._begin(None)
        if call is not None:
            _measure(call, event)

    def _finished(self, event: Event) -> None:
        session = fields_of(event.get("session"))
        self._model = session.get("model") if isinstance(session.get("model"), str) else self._model
        call = self._begin(str(session.get("id")))
        if call is not None:
            _measure(call, event)
            self._end(call, str(event.get("reason")))

    def _end(self, call: SocketCall, reason: str) -> None:
        self._session = None
        self._ended_ids.append(str(self._session_id))
        call.read_realtime(call.usage, self._model, reason, [])
        call.stream_ended()

    # -- what the session delegates -----------------------------------------------------------------------------------

    def _delegated(self, event: Event) -> None:
        inner = fields_of(event.get("event"))
        response = fields_of(inner.get("response"))
        if inner.get("type") in _ENDS and self._owns():
            self._record("responses", response, inner)

    def _decided(self, event: Event) -> None:
        inner = fields_of(event.get("event"))
        decision = fields_of(inner.get("decision"))
        if decision and self._owns():
            self._record("decisions", decision, {"type": "response.completed", "response": decision})

    def _record(self, api: str, response: Mapping[str, Any], event: Event) -> None:
        """Record one delegated call; only its end is observed."""
        response_id = response.get("id")
        if response_id is not None and str(response_id) in self._ended_ids:
            return
        call = self._new_call({"model": response.get("model")})
        if call is not None:
            call.api = api
            call.metadata["delegated"] = True
            if response_id is not None:
                self._ended_ids.append(str(response_id))
            call.chunk(event)
            call.stream_ended()

    # -- bookkeeping --------------------------------------------------------------------------------------------------

    def _waiting_calls(self) -> list[SocketCall]:
        return [] if self._session is None else [self._session]

    def _forget(self, call: SocketCall) -> None:
        super()._forget(call)
        if call is self._session:
            self._session = None


def _measure(call: SocketCall, event: Event) -> None:
    """Set the length of the session so far; each event contains the total."""
    usage = fields_of(event.get("usage"))
    if usage:
        call.use(usage)
        paused, active = usage.get("paused_seconds"), usage.get("active_seconds")
        if isinstance(paused, int) and paused and isinstance(active, int):
            call.add_details(seconds=active, paused_seconds=paused, replace=True)
