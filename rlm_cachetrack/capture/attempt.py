"""Begin the observation of an SDK request: decide whether to record it, and change its options where needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from rlm_cachetrack._process import guard
from rlm_cachetrack.pipeline import runtimes

from . import clients, external
from .background import Retrieved, settle
from .cache_diagnosis import COMPARISON, FIELD, forget_responses, prompt_start, supports_diagnosis
from .cache_diagnosis import with_comparison as body_with_comparison
from .call import Call
from .clients import CaptureOptions
from .endpoints import ENDPOINTS, PROMPT_APIS, endpoint_of, origin_of, provider_of, stored_object_of
from .fields import fields_of, get_field
from .protocols import Observation
from .retries import attempts
from .streams import watch_raw, watch_stream
from .surroundings import OPENTELEMETRY, call_site, current_span
from .totals import TotalsReader

T = TypeVar("T")

_RAW_HEADER = "X-Stainless-Raw-Response"


class _Addition(NamedTuple):
    """A field that we add to requests.

    Attributes:
        name: The field. It is also the key of ``metadata`` that records that the server rejected it.
        names: The names by which an error message refers to it.
        rejected_by: The servers that rejected it.
    """

    name: str
    names: tuple[str, ...]
    rejected_by: set[str]


_USAGE = _Addition("stream_options", ("stream_options", "include_usage"), set())
_DIAGNOSIS = _Addition("cache_diagnostics", (FIELD, COMPARISON), set())


def begin(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observation | None:
    """Begin to observe a request that is about to be sent. Never raises.

    Args:
        client: The SDK client that sends it.
        args: The positional arguments of its ``request`` method.
        kwargs: The keyword arguments.

    Returns:
        None if the request is not recorded.
    """
    options = client.__dict__.get(clients.MARK) or clients.options_for_all
    if options is None:
        return None
    try:
        request: Any = args[1] if len(args) > 1 else kwargs.get("options")
        given = request.__dict__  # reading an attribute of a pydantic model takes several times as long
        stream = bool(kwargs.get("stream"))
        api = ENDPOINTS.get(given["url"]) or endpoint_of(given["url"], free=options.free_calls)
        if api is None:
            kind = stored_object_of(given["url"])
            return None if kind is None else _Retrieval(client, request, args, kind, options, stream=stream)
        body, headers = given["json_data"], given["headers"]
        if not (type(body) is dict or isinstance(body, Mapping)) or given["method"].lower() != "post":
            return None
        if (extra := given["extra_json"]) and isinstance(extra, Mapping):
            body = {**body, **extra}
        current = runtimes.peek_default() or runtimes.default()
        fingerprints = current.fingerprints if options.fingerprints and api in PROMPT_APIS else None
        provider, region = origin_of(client)
        attempt = _Attempt(current, api, provider, body, stream, fingerprints, options.tags)
        if options.call_site:
            attempt.note(call_site=call_site())
        if OPENTELEMETRY in sys.modules:
            attempt.note(**current_span())
        attempt.arguments, attempt.request, attempt.client = args, request, client
        attempt.region = region
        if stream or callable(given["post_parser"]) or (type(headers) is dict and _RAW_HEADER in headers):
            attempt.prepare(options)
        if options.cache_diagnostics and api == "responses":
            attempt.ask_for_diagnosis()
        if external.sdk_request_hooks:
            external.run_sdk_request_hooks()
        return attempt
    except Exception as exc:
        guard.report("observing a request", exc)
        return None


def forget_hosts() -> None:
    """Clear the lists of servers that rejected an addition, and the responses to compare with."""
    for addition in (_USAGE, _DIAGNOSIS):
        addition.rejected_by.clear()
    forget_responses()


class _Attempt(Call):
    """A call whose request is about to be sent.

    Attributes:
        arguments: The positional arguments to send the request with; some are changed copies of the caller's.
        request: The request options that are sent.
        client: The client that sends them.
    """

    arguments: tuple[Any, ...]
    request: Any
    client: Any = None
    _raw: str | None = None  # the SDK's mark of a raw response: ``true`` or ``stream``
    _added: _Addition | None = None
    _is_rejected = False  # the server rejected the addition
    _original: tuple[tuple[Any, ...], Any]

    def prepare(self, options: CaptureOptions) -> None:
        """Change the request so that more can be observed: the argument of its parser, and the usage of a stream."""
        self._raw = _raw_mark(self.request)
        if len(self.arguments) < 2:
            return
        if callable(self.request.post_parser) and self.api != "embeddings":
            self._observe_parser(self.request.post_parser)
        if self.stream and options.stream_usage and self._raw != "stream":
            self._ask_for_usage()

    def ask_for_diagnosis(self) -> None:
        """Name the response that the provider compares the prompt with, unless the caller did."""
        if len(self.arguments) < 2 or not supports_diagnosis(self.body.get("model")):
            return
        host = str(self.client.base_url)
        if host in _DIAGNOSIS.rejected_by:
            return
        if not self.body.get("previous_response_id"):
            self.prompt_start = prompt_start(self.body, host)
        if FIELD in (self.request.extra_json or ()):
            return
        body = body_with_comparison(self.request.json_data, self.prompt_start)
        if body is not None:
            self._add(_DIAGNOSIS, body)

    def secrets(self) -> Mapping[str, Any]:
        """Return the headers and query of the request, and the credentials of the client."""
        request, client = self.request, self.client
        found = {name: getattr(client, name, None) for name in ("api_key", "organization", "project")}
        for owner, names in ((request, ("headers", "params")), (client, ("_custom_headers", "_custom_query"))):
            for name in names:
                if isinstance(values := getattr(owner, name, None), Mapping):
                    found[name] = list(values.values())
        return {"": list(found.values())}

    # -- what is sent ---------------------------------------------------------------------------------------------

    def _send_copy(self, **changed: Any) -> None:
        """Send a copy of the request with some fields changed."""
        self.request = self.request.model_copy(update=changed)
        self.arguments = (self.arguments[0], self.request, *self.arguments[2:])

    def _observe_parser(self, parser: Callable[[Any], Any]) -> None:
        """Record the response that the SDK's ``.parse()`` helpers get: it is billed even if they reject it."""
        responses: list[Any] = []  # not `self`: the request may outlive the call, and must not form a cycle with it

        def observed_parser(response: Any) -> Any:
            responses[:] = (response,)
            return parser(response)

        self.parsed = responses
        self._send_copy(post_parser=observed_parser)

    def _add(self, addition: _Addition, body: Mapping[str, Any]) -> None:
        """Send this body. If the server rejects the addition, the original request is sent."""
        self._original = self.arguments, self.request
        self._send_copy(json_data=body)
        self._added = addition

    def _ask_for_usage(self) -> None:
        """Request the usage of a chat stream, unless the caller set ``stream_options``."""
        if self.api not in ("chat.completions", "completions"):
            return
        body = self.request.json_data
        given = body.get("stream_options")
        given = given if type(given) is dict or isinstance(given, Mapping) else {}
        if given.get("include_usage") or "stream_options" in (self.request.extra_json or ()):
            return
        if _USAGE.rejected_by and str(self.client.base_url) in _USAGE.rejected_by:
            return
        self._add(_USAGE, {**body, "stream_options": {**given, "include_usage": True}})
        self.hide_usage = True

    def _is_rejection_of_addition(self, exc: BaseException) -> bool:
        """Return True if the server rejected the field that we added. Such a request is not billed."""
        if self._added is None or self._is_rejected or getattr(exc, "status_code", None) not in (400, 422):
            return False
        text = f"{getattr(exc, 'message', '')} {getattr(exc, 'body', '')}"
        return any(name in text for name in self._added.names)

    # -- what comes back ------------------------------------------------------------------------------------------

    def returned(self, result: T) -> T:
        """Observe the result that the caller gets, and return it. Never raises."""
        try:
            if attempts:
                self._note_attempts()
            if self._added is not None and self._is_rejected:
                # The server accepted the request without our addition, so the addition was the reason for the
                # rejection.
                self._added.rejected_by.add(str(self.client.base_url))
            if self._raw:
                watch_raw(result, self, deferred=self._raw == "stream")
            elif self.stream and hasattr(result, "_iterator"):
                watch_stream(result, self)
            else:
                self.result(result)
        except Exception as exc:
            guard.report("recording a call", exc)
        return result

    def raised(self, exc: BaseException) -> bool:
        """Record the error that goes to the caller. Never raises.

        Returns:
            True if the request must be sent again in its original form; then nothing is recorded.
        """
        try:
            if self._added is not None and self._is_rejection_of_addition(exc):
                self._is_rejected, self.hide_usage = True, False
                self.metadata[self._added.name] = "refused"
                self.arguments, self.request = self._original
                return True
            if attempts:
                self._note_attempts()
            self.failed(exc)
        except Exception as internal:
            guard.report("recording a failed call", internal)
        return False

    def _note_attempts(self) -> None:
        count = attempts.pop(id(self.request.json_data), None)
        if count is not None:
            self.metadata["attempts"] = count


class _Retrieval:
    """A request for an object that represents work on the server, such as a background response or a batch."""

    __slots__ = ("_client", "_kind", "_raw", "_stream", "_totals", "arguments")

    def __init__(
        self, client: Any, request: Any, args: tuple[Any, ...], kind: str, options: CaptureOptions, *, stream: bool
    ) -> None:
        self.arguments = args
        self._client = client
        self._kind = kind
        self._stream = stream
        self._raw = _raw_mark(request)
        self._totals = None if kind in _SINGLE_CALLS else TotalsReader(kind, provider_of(client), options.tags)

    def returned(self, result: T) -> T:
        """Observe the object that the caller gets, and return it. Never raises."""
        try:
            if self._raw:
                watch_raw(result, self._observer(stream=self._stream), deferred=self._raw == "stream")
            elif "_iterator" in fields_of(result):
                watch_stream(result, self._observer(stream=True))
            else:
                self._read(result)
        except Exception as exc:
            guard.report("observing a stored object", exc)
        return result

    def raised(self, exc: BaseException) -> bool:
        """Ignore the error: a failed retrieval changes nothing."""
        return False

    def _observer(self, *, stream: bool) -> Retrieved:
        return Retrieved(self._kind, self._read, stream=stream)

    def _read(self, value: Any) -> None:
        """Read the object, or an event of its stream."""
        if self._totals is not None:
            self._totals.read(value)
            return
        response = get_field(value, "response")
        settle(value if response is None else response, self._make_call)

    def _make_call(self) -> Call:
        current = runtimes.peek_default() or runtimes.default()
        provider, region = origin_of(self._client)
        call = Call(current, self._kind, provider, {}, stream=False)
        call.region = region
        return call


_SINGLE_CALLS = ("responses", "videos")  # retrieved objects that are one call; others are totals of several


def _raw_mark(request: Any) -> str | None:
    headers = request.headers
    return headers.get(_RAW_HEADER) if headers and isinstance(headers, Mapping) else None
