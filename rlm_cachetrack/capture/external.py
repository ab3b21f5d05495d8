"""Calls that frameworks send without the SDK, and hooks that notify integrations of the SDK's requests.

An integration (:mod:`rlm_cachetrack.integrations`) begins an :class:`ExternalCall` when its framework sends a request,
and finishes it with the response or the error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlm_cachetrack._process import guard
from rlm_cachetrack.pipeline import runtimes
from rlm_cachetrack.usage import locate_usage, plain

from . import clients
from .call import Call
from .endpoints import PROMPT_APIS
from .surroundings import call_site

sdk_request_hooks: list[Callable[[], None]] = []
"""Called on the calling thread for each SDK request that is recorded, before it is sent. They must not raise."""

uninstrument_hooks: list[Callable[[], None]] = []
"""``uninstrument()`` calls each of them once, without arguments, and then removes it."""


def run_sdk_request_hooks() -> None:
    """Call the hooks of the integrations. Never raises."""
    for hook in sdk_request_hooks:
        hook()


def run_uninstrument_hooks() -> None:
    """Let the integrations stop recording. Never raises."""
    while uninstrument_hooks:
        try:
            uninstrument_hooks.pop()()
        except Exception as exc:
            guard.report("removing an integration", exc)


class ExternalCall(Call):
    """One call that a framework sends itself."""

    @property
    def started_ns(self) -> int:
        """The start of the call, in nanoseconds since 1970."""
        return self._started_ns

    def set_first_token(self, time_ns: int) -> None:
        """Set the time of the first token, in nanoseconds since 1970."""
        self._first_token_ns = self._began_ns + max(0, time_ns - self._started_ns)

    def set_request_id(self, request_id: str | None) -> None:
        """Set the request id that the server returned."""
        self._request_id = request_id or self._request_id

    def end_repeated(self) -> None:
        """Finish with a failure that the framework did not report, because it sends the request again."""
        if not self.done:
            self._finish(("Repeated", "the request failed and was sent again"))

    def responded(self, response: Any, *, cost_usd: float | None = None) -> None:
        """Finish with a complete response, or with the last event of a stream.

        Args:
            response: An object or mapping with the fields of an OpenAI response.
            cost_usd: The cost that the framework computed; None if it knows none. It is stored in the usage as
                ``response_cost``, and counts like a cost that a provider returns.
        """
        if self.done:
            return
        try:
            inner = getattr(response, "response", None)
            response = response if inner is None else inner
            self.read_response(response)
            usage = plain(locate_usage(response)) or {}
            if usage or cost_usd:
                self._usage = {**usage, "response_cost": cost_usd or None}
        except Exception as exc:
            guard.report("reading a response", exc)
        self._finish(None)


def begin_external(api: str, provider: str, body: Mapping[str, Any], *, stream: bool) -> ExternalCall:
    """Begin a call that a framework is about to send.

    Args:
        api: The API, as in :data:`.endpoints.ENDPOINTS`.
        provider: The provider that serves the model.
        body: The model and the input in the form of the OpenAI API. It is hashed, not kept.
        stream: Whether the caller asked for a stream.

    Returns:
        The call, with the run context of the calling code.
    """
    options = clients.options_for_all or clients.CaptureOptions()
    current = runtimes.peek_default() or runtimes.default()
    fingerprints = current.fingerprints if options.fingerprints and api in PROMPT_APIS else None
    call = ExternalCall(current, api, provider, body, stream, fingerprints, options.tags)
    if options.call_site:
        call.note(call_site=call_site())
    return call
