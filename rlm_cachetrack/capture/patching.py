"""``instrument`` and ``uninstrument``: the one place where the SDK is patched.

Every HTTP call of the SDK goes through ``OpenAI.request`` or ``AsyncOpenAI.request``, whichever way it is called, so
those two methods are wrapped, once, and nothing else of the SDK's classes. A single client is told apart by a mark on
the instance, which its ``copy()`` and ``with_options()`` hand on.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns, time_ns
from typing import Any, TypeVar, cast

import wrapt

from rlm_cachetrack._process import guard as _guard
from rlm_cachetrack.config import disabled, load_settings
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.pipeline import runtime as _runtime
from rlm_cachetrack.records import RecordSink

from . import context
from .background import Retrieval, after_fork_in_child, finish_all, park, settle
from .call import ENDPOINTS, Call, endpoint_of, is_stored_response, provider_of
from .coexistence import clients_with_their_own, has_ours, observed, take_off, take_off_instance
from .fast_path import record_chat
from .retries import PAUSES, paused, sent
from .streams import watch_raw, watch_stream

__all__ = ["instrument", "uninstrument"]

ClientT = TypeVar("ClientT")

_MARK = "_rlm_cachetrack"
_NO_FIELDS: dict[str, Any] = {}
_RAW_HEADER = "X-Stainless-Raw-Response"


@dataclass(frozen=True, slots=True)
class _Options:
    """What was chosen for a client, or for all."""

    stream_usage: bool = True
    fingerprints: bool = True


_lock = threading.RLock()
_observed: weakref.WeakSet[Any] = weakref.WeakSet()
_everyone: _Options | None = None
_marked: weakref.WeakSet[Any] = weakref.WeakSet()
_without_stream_options: set[str] = set()
_providers: dict[int, tuple[Any, type, str]] = {}
_MOST_PROVIDERS = 1000
_latest: tuple[Any, type, str] = (object(), type(None), "")


_runtime.before_flush.append(finish_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork_in_child)


def instrument(
    client: ClientT | None = None,
    *,
    store: str | RecordSink | Any | None = None,
    pricing: str | os.PathLike[str] | None = None,
    stream_usage: bool = True,
    fingerprints: bool = True,
) -> ClientT:
    """Record every call of a client, or of every OpenAI client of this process.

    Chat completions, Responses, legacy completions and embeddings are recorded, plain and streamed, sync and async.
    The caller gets what it would get without us: results, types, errors, chunks. Instrumenting again changes nothing.
    Does not block: the database is connected, and an embedded one started, on a background thread; one that cannot be
    reached is reported once in the log, and records wait in a journal on disk.

    Args:
        client: An ``OpenAI``, ``AsyncOpenAI`` or a client derived from them (Azure, …): it and its ``with_options()``
            and ``copy()`` clients are recorded. None: every client, those made already and those to come.
        store: Where to: a PostgreSQL URL, a :class:`TimescaleDBClient`, or any
            :class:`~.records.RecordSink`. None: ``RLM_CACHETRACK_DB_URL``, else ``TIMESCALE_DB_URL``,
            else the client that was opened already, else the embedded PostgreSQL.
        pricing: A pricing YAML laid over the built-in prices. None: ``RLM_CACHETRACK_PRICING``, else
            ``rlm_cachetrack.yaml`` of the working directory if it is there.
        stream_usage: For a chat stream whose caller did not ask for usage, ask for it and keep the extra chunk from
            the caller. False: such a stream is recorded without tokens.
        fingerprints: Keep, in the background, a keyed hash and the size of each part of the prompts, so that misses of
            the cache can be explained. False: none of these calls' prompts is hashed.

    Returns:
        ``client`` itself.

    Raises:
        ConfigError: ``client`` is no OpenAI client; ``store`` is unusable, or a second one while another is in use;
            the pricing file has a mistake (:class:`~.errors.PricingError`).
    """
    global _everyone
    if client is not None:
        _check_client(client)
    if disabled():
        return cast("ClientT", client)
    with _lock:
        runtime = _runtime_for(store, pricing)
        runtime.check_pricing()
        _runtime.use_as_default(runtime)
        _patch()
        options = _Options(stream_usage=stream_usage, fingerprints=fingerprints)
        if client is None:
            _everyone = options
            for each in clients_with_their_own(_kinds()):
                _observe_instance(each)
        else:
            _mark(client, options)
            _observe_instance(client)
    _runtime.warn_if_embedded_is_missing(runtime)
    runtime.start()
    return cast("ClientT", client)


def uninstrument(client: Any = None) -> None:
    """Stop recording.

    Args:
        client: Only this client. None: everything; the SDK's classes and clients are then as they were before
            :func:`instrument`, and another store may be chosen. What was recorded is stored by the writer, or by
            ``flush()``.
    """
    global _everyone
    with _lock:
        if client is not None:
            _unmark(client)
            return
        _everyone = None
        for marked in list(_marked):
            _unmark(marked)
        for kind in _kinds() if "openai" in sys.modules else ():
            for name in ("request", *PAUSES):
                take_off(kind, name, (*_OURS, paused))
        while _observed:
            take_off_instance(_observed.pop())
        _without_stream_options.clear()
    finish_all()
    _runtime.release_default()


# -- choosing the store ----------------------------------------------------------------------


def _runtime_for(store: Any, pricing: str | os.PathLike[str] | None) -> _runtime.Runtime:
    if store is None:
        if pricing is None:
            return _runtime.default()
        return _with_pricing(_runtime.choose(load_settings(pricing=pricing)), pricing)
    runtime = getattr(store, "runtime", None)  # a TimescaleDBClient
    if isinstance(runtime, _runtime.Runtime):
        return _with_pricing(runtime, pricing) if pricing is not None else runtime
    if isinstance(store, str):
        runtime = _runtime.open_runtime(load_settings(store, pricing=pricing))
        return _with_pricing(runtime, pricing) if pricing is not None else runtime
    if isinstance(store, RecordSink) and not isinstance(store, type):
        return _runtime.open_runtime(load_settings(pricing=pricing), store)
    raise ConfigError(
        f"store is a {type(store).__name__}: expected a PostgreSQL URL, a TimescaleDBClient, or an object with the "
        "methods store(batch) and close()"
    )


def _with_pricing(runtime: _runtime.Runtime, pricing: str | os.PathLike[str]) -> _runtime.Runtime:
    wanted = load_settings(pricing=pricing).pricing
    if runtime.settings.pricing != wanted:
        raise ConfigError(
            f"this process already prices with {runtime.settings.pricing or 'the built-in table'}; "
            f"pricing={os.fspath(pricing)!r} would be a second price list"
        )
    return runtime


# -- marking clients ----------------------------------------------------------------------


def _check_client(client: Any) -> None:
    from openai import AsyncOpenAI, OpenAI

    if not isinstance(client, (OpenAI, AsyncOpenAI)):
        what = (
            f"the class {client.__name__}"
            if isinstance(client, type)
            else f"an object of the type {type(client).__name__}"
        )
        raise ConfigError(
            f"instrument() was given {what}; expected a client of the openai package, such as OpenAI(), AsyncOpenAI() "
            "or AzureOpenAI(). With no argument it instruments every client of the process"
        )


def _mark(client: Any, options: _Options) -> None:
    namespace = vars(client)
    namespace[_MARK] = options
    for name in ("copy", "with_options"):
        namespace[name] = _copying(client, name)
    _marked.add(client)


def _copying(client: Any, name: str) -> Callable[..., Any]:
    # Holds the client: in `client.copy().copy()` nobody else does while the second copy is made.
    def copy(*args: Any, **kwargs: Any) -> Any:
        derived = getattr(type(client), name)(client, *args, **kwargs)
        options = vars(client).get(_MARK)
        if options is not None:
            _mark(derived, options)
        return derived

    return copy


def _unmark(client: Any) -> None:
    namespace = vars(client)
    if namespace.pop(_MARK, None) is not None:
        for name in ("copy", "with_options"):
            namespace.pop(name, None)
    _marked.discard(client)


# -- patching ----------------------------------------------------------------------


def _kinds() -> tuple[type[Any], type[Any]]:
    from openai import AsyncOpenAI, OpenAI

    return OpenAI, AsyncOpenAI


def _patch() -> None:
    for kind, wrapper in zip(_kinds(), _OURS, strict=True):
        for name, ours in (("request", wrapper), *((name, paused) for name in PAUSES if hasattr(kind, name))):
            if not has_ours(getattr(kind, name), (*_OURS, paused)):
                # The method is inherited: our attribute on the subclass hides it, and to restore is to delete.
                setattr(kind, name, wrapt.FunctionWrapper(getattr(kind, name), ours))


def _observe_instance(client: Any) -> None:
    """Where somebody replaced ``request`` on this very client, and ours is not below theirs, wrap theirs."""
    theirs = vars(client).get("request")
    if theirs is not None and not has_ours(theirs, _OURS):
        wrapper = _OURS[0] if isinstance(client, _kinds()[0]) else _OURS[1]
        client.request = observed(theirs, client, wrapper)
        _observed.add(client)


def _request(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    attempt = _begin(client, args, kwargs)
    if attempt is None:
        return wrapped(*args, **kwargs)
    if isinstance(attempt, tuple):
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as exc:
            _attempt_of(attempt).raised(exc)
            raise
        try:
            if sent or not record_chat(result, attempt):
                _attempt_of(attempt).returned(result)
        except Exception as exc:
            _guard.report("recording a call", exc)
        return result
    try:
        result = wrapped(*(attempt.args or args), **kwargs)
    except BaseException as exc:
        if not attempt.refused(exc):
            attempt.raised(exc)
            raise
    else:
        attempt.returned(result)
        return result
    # Outside the handler, so that an error of the second try does not carry ours as its context.
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as exc:
        attempt.raised(exc)
        raise
    attempt.accepted(result)
    return result


async def _async_request(
    wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    attempt = _begin(client, args, kwargs)
    if attempt is None:
        return await wrapped(*args, **kwargs)
    if isinstance(attempt, tuple):
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as exc:
            _attempt_of(attempt).raised(exc)
            raise
        try:
            if sent or not record_chat(result, attempt):
                _attempt_of(attempt).returned(result)
        except Exception as exc:
            _guard.report("recording a call", exc)
        return result
    try:
        result = await wrapped(*(attempt.args or args), **kwargs)
    except BaseException as exc:
        if not attempt.refused(exc):
            attempt.raised(exc)
            raise
    else:
        attempt.returned(result)
        return result
    # Outside the handler, so that an error of the second try does not carry ours as its context.
    try:
        result = await wrapped(*args, **kwargs)
    except BaseException as exc:
        attempt.raised(exc)
        raise
    attempt.accepted(result)
    return result


_OURS = (_request, _async_request)


def _begin(client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Attempt | _Look | tuple[Any, ...] | None:
    """Look at a request about to be sent; None when it is not ours to record. Never raises."""
    options = client.__dict__.get(_MARK) or _everyone
    if options is None:
        return None
    try:
        request: Any = args[1] if len(args) > 1 else kwargs.get("options")
        if request.url == "/chat/completions" and request.method == "post" and not kwargs.get("stream"):
            # What nearly all calls are; what `record_chat` needs of it, and no more. See there why.
            body, headers = request.json_data, request.headers
            if type(body) is dict and (extra := request.extra_json):
                body = _whole(body, extra)
            if (
                type(body) is dict
                and type(turns := body.get("messages")) is list
                and (type(headers) is not dict or _RAW_HEADER not in headers)
                and not callable(request.post_parser)
            ):
                runtime = _runtime.current
                if runtime is None or runtime.closed:
                    runtime = _runtime.default()
                known, address = _latest, client.__dict__.get("_base_url")
                return (
                    runtime,
                    runtime.fingerprints if options.fingerprints else None,
                    context.line(),
                    known[2] if known[0] is address and known[1] is type(client) else _provider(client),
                    time_ns(),
                    perf_counter_ns(),
                    len(turns),
                    body,
                    request,
                )
        url = request.url
        api = ENDPOINTS.get(url) or endpoint_of(url)
        if api is None:
            return _Look(client, request, kwargs) if is_stored_response(url) else None
        body = request.json_data
        if type(body) is not dict and not isinstance(body, Mapping):
            return None
        if request.method != "post" and request.method.lower() != "post":
            return None
        if extra := request.extra_json:
            body = _whole(body, extra)
        runtime = _runtime.peek_default() or _runtime.default()
        stream = bool(kwargs.get("stream"))
        attempt = _Attempt(runtime, api, _provider(client), body, stream=stream)
        if options.fingerprints:
            attempt.fingerprints = runtime.fingerprints
        if extra:
            attempt.sent_as = id(request.json_data)
        headers = request.headers
        if type(headers) is dict:
            attempt.raw = headers.get(_RAW_HEADER)
        if api != "embeddings" and callable(parser := request.post_parser) and len(args) > 1:
            attempt.see_answer(parser, args)
        if stream and options.stream_usage and attempt.raw != "stream" and len(args) > 1:
            attempt.ask_for_usage(client, args)
        return attempt
    except Exception as exc:
        _guard.report("looking at a request", exc)
        return None


def _attempt_of(begun: tuple[Any, ...]) -> _Attempt:
    """The same call as an object, where it turns out not to be a usual one."""
    runtime, fingerprints, place, provider, started, began, messages, body, request = begun
    attempt = _Attempt(runtime, "chat.completions", provider, body, stream=False)
    attempt.set_back(place, started, began, messages)
    attempt.fingerprints = fingerprints
    if body is not request.json_data:
        attempt.sent_as = id(request.json_data)
    return attempt


class _Attempt(Call):
    """One request on its way: a call under observation, and what was sent in its place.

    Attributes:
        raw: The SDK's word for a raw response: ``true``, ``stream``, or None.
        args: What to send instead of what the caller asked for; None: just that.
        sent_as: The id of the body that the SDK sends, where it is not the call's.
    """

    raw: str | None = None
    args: tuple[Any, ...] | None = None
    sent_as: int | None = None
    _asked: Any = None

    def keep(self, response: Any) -> None:
        """Keep a call that runs in the background until it is seen finished."""
        park(self, response, self.sink.journal)

    def see_answer(self, parser: Callable[[Any], Any], args: tuple[Any, ...]) -> None:
        """Note what the SDK's ``.parse()`` helpers are given: if they refuse it, the call was answered and paid."""
        answers: list[Any] = []  # of its own: the request may be kept longer than the call, and is to keep no cycle

        def seen(answer: Any) -> Any:
            answers[:] = (answer,)
            return parser(answer)

        self.answers = answers
        request = args[1]
        parsed = request.model_copy() if hasattr(request, "model_copy") else request.copy()
        parsed.post_parser = seen
        self.args = (args[0], parsed, *args[2:])

    def ask_for_usage(self, client: Any, args: tuple[Any, ...]) -> None:
        """Have a chat stream end with its usage, unless the caller said what to send."""
        if self.api not in ("chat.completions", "completions"):
            return
        request = args[1]
        body = request.json_data
        given = body.get("stream_options")
        given = given if isinstance(given, Mapping) else {}
        if given.get("include_usage") or "stream_options" in (request.extra_json or ()):
            return
        if _without_stream_options and str(client.base_url) in _without_stream_options:
            return
        asking = request.model_copy() if hasattr(request, "model_copy") else request.copy()
        asking.json_data = {**body, "stream_options": {**given, "include_usage": True}}
        self.args = (args[0], asking, *args[2:])
        self.hide_usage = True
        self._asked = client

    def refused(self, exc: BaseException) -> bool:
        """Whether the server refused what we added; it was not billed, and the request may be sent as it was."""
        if self._asked is None or getattr(exc, "status_code", None) not in (400, 422):
            return False
        text = f"{getattr(exc, 'message', '')} {getattr(exc, 'body', '')}"
        if "stream_options" not in text and "include_usage" not in text:
            return False
        self.hide_usage = False
        self.metadata["stream_options"] = "refused"
        return True

    def accepted(self, result: Any) -> None:
        """Without our addition the server answers, so it was that: it is not asked again. Never raises."""
        if self._asked is not None:
            _without_stream_options.add(str(self._asked.base_url))
        self.returned(result)

    def returned(self, result: Any) -> None:
        """Observe what goes back to the caller. Never raises."""
        try:
            if sent:
                self._count_attempts()
            if self.raw:
                watch_raw(result, self, deferred=self.raw == "stream")
            else:
                fields = getattr(result, "__dict__", _NO_FIELDS)  # no look for what a model lacks: that is slow
                if "choices" in fields:
                    self.result(result)
                elif "_iterator" in fields:
                    watch_stream(result, self)
                elif "stream" in fields and "extensions" in fields:  # asked for the HTTP response itself
                    self.http(result)
                    self.result(_body_of(result))
                else:
                    self.result(result)
        except Exception as exc:
            _guard.report("recording a call", exc)

    def raised(self, exc: BaseException) -> None:
        """Record the error that goes to the caller. Never raises."""
        try:
            if sent:
                self._count_attempts()
            self.failed(exc)
        except Exception as internal:
            _guard.report("recording a failed call", internal)

    def _count_attempts(self) -> None:
        if self.args is not None:
            self.sent_as = id(self.args[1].json_data)
        attempts = sent.pop(self.sent_as or id(self.body), None)
        if attempts is not None:
            self.metadata["attempts"] = attempts


class _Look:
    """A request for a stored response: no call of a model, but it may show that one in the background is finished."""

    __slots__ = ("args", "client", "raw", "stream")

    def __init__(self, client: Any, request: Any, kwargs: Mapping[str, Any]) -> None:
        headers = request.headers
        self.client = client
        self.stream = bool(kwargs.get("stream"))
        self.raw = headers.get(_RAW_HEADER) if isinstance(headers, Mapping) else None
        self.args: tuple[Any, ...] | None = None

    def refused(self, exc: BaseException) -> bool:
        """Nothing was added to the request."""
        return False

    def raised(self, exc: BaseException) -> None:
        """A look that failed changes nothing."""

    def accepted(self, result: Any) -> None:
        """Nothing was added to the request."""

    def returned(self, result: Any) -> None:
        """Observe what goes back to the caller. Never raises."""
        try:
            if self.raw:
                watch_raw(result, Retrieval(self._call, stream=self.stream), deferred=self.raw == "stream")
            elif "_iterator" in getattr(result, "__dict__", _NO_FIELDS):
                watch_stream(result, Retrieval(self._call, stream=True))
            else:
                settle(result, self._call)
        except Exception as exc:
            _guard.report("looking at a stored response", exc)

    def _call(self) -> Call:
        runtime = _runtime.peek_default() or _runtime.default()
        return Call(runtime, "responses", _provider(self.client), {}, stream=False)


def _body_of(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def _whole(body: Mapping[str, Any], extra: Any) -> Mapping[str, Any]:
    return {**body, **extra} if extra and isinstance(extra, Mapping) else body


def _provider(client: Any) -> str:
    global _latest
    # The property `base_url` copies; the attribute behind it tells whether it was changed. By the id of the address,
    # which the entry keeps alive: a weak reference to the client would cost more than all the rest.
    address = vars(client).get("_base_url")
    known = _providers.get(id(address))
    if known is not None and known[0] is address and known[1] is type(client) and address is not None:
        _latest = known
        return known[2]
    provider = provider_of(client)
    _latest = address, type(client), provider
    if len(_providers) >= _MOST_PROVIDERS:  # a program that makes a client a request
        _providers.clear()
    _providers[id(address)] = (address, type(client), provider)
    return provider
