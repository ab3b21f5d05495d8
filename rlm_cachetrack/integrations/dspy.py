"""``track()``: record the calls that DSPy sends without the OpenAI SDK.

::

    import rlm_cachetrack
    from rlm_cachetrack.integrations import dspy

    rlm_cachetrack.instrument()
    dspy.track()

DSPy 3.4 sends a call with its own engine (``engine="lm15"``) if that engine knows the provider and the settings
of the ``dspy.LM``, and otherwise through LiteLLM. This module observes the engine, and calls ``track()`` of
:mod:`.litellm`. Earlier releases of DSPy have only LiteLLM.

An engine sends one request for each ``complete`` or ``stream``; DSPy repeats and caches requests above it. Therefore
each of them is one record, and a response from DSPy's cache is not recorded. The engine keeps the server's JSON in
``Response.provider_data``, from which the usage is read.

Source: ``clients/engines/lm15_engine.py``, ``clients/lm15_boundary.py``, ``_vendor/lm15/types.py`` and ``result.py`` of
DSPy 3.4.1 (read 2026-12-01).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from time import time_ns
from typing import Any

from rlm_cachetrack._process import guard
from rlm_cachetrack.capture import (
    ExternalCall,
    SocketClient,
    active_integrations,
    begin_external,
    provider_of,
    uninstrument_hooks,
)
from rlm_cachetrack.config import disabled
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.usage import locate_usage

from . import litellm
from ._wrapping import wrap_method

__all__ = ["track"]

_PROVIDERS = {
    "aws-anthropic": "anthropic",
    "claude-code": "anthropic",
    "moonshotai": "moonshot",
    "openai-codex": "openai",
    "vertex-express": "vertex",
}
"""The engine's names of providers that differ from the names that are stored for calls of the SDK."""

_DIALECTS = ("-anthropic", "-chat", "-responses")  # suffixes of the engine's names of providers
_INPUT_COUNTS = ("prompt_tokens", "input_tokens")

_undo: list[Callable[[], None]] = []


def track() -> None:
    """Record every call that DSPy makes in this process from now on. Imports dspy, and litellm if installed.

    Works with and without :func:`~.instrument`. A program needs no other ``engine``. Responses from DSPy's cache are
    not recorded. ``uninstrument()`` ends the recording. Calling it again changes nothing. Does not block.

    Raises:
        ConfigError: DSPy is not installed, or has neither its own engine nor LiteLLM.
    """
    if disabled():
        return
    active_integrations.add("dspy")  # before the import, which may take seconds
    try:
        import dspy  # noqa: F401
    except ImportError as exc:
        active_integrations.discard("dspy")
        raise ConfigError(f"track() needs DSPy: {exc}") from exc
    engines = _load_engines()
    try:
        litellm.track()
    except ConfigError:
        if engines is None:
            active_integrations.discard("dspy")
            raise
    if _undo:
        return
    _undo.append(lambda: active_integrations.discard("dspy"))
    if engines is not None:
        _undo.append(wrap_method(engines.LM15Engine, "complete", _complete))
        _undo.append(wrap_method(engines.LM15Engine, "stream", _stream))
        _undo.append(wrap_method(engines.AsyncLM15Engine, "complete", _complete_async))
        _undo.append(wrap_method(engines.AsyncLM15Engine, "stream", _stream_async))
    uninstrument_hooks.append(_stop)


def _load_engines() -> Any:
    try:
        from dspy.clients.engines import lm15_engine
    except ImportError:  # DSPy before 3.4
        return None
    return lm15_engine


def _stop() -> None:
    while _undo:
        _undo.pop()()


# -- the methods of the engines ----------------------------------------------------------------------------------------


def _complete(method: Callable[..., Any]) -> Callable[..., Any]:
    def complete(engine: Any, request: Any) -> Any:
        with _observing(engine, request, stream=False) as observed:
            response = method(engine, request)
            observed.responded(response)
        return response

    return complete


def _complete_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def complete(engine: Any, request: Any) -> Any:
        with _observing(engine, request, stream=False) as observed:
            response = await method(engine, request)
            observed.responded(response)
        return response

    return complete


def _stream(method: Callable[..., Any]) -> Callable[..., Any]:
    def stream(engine: Any, request: Any) -> Iterator[Any]:
        with _observing(engine, request, stream=True) as observed, closing(method(engine, request)) as events:
            for event in events:
                observed.received(event)
                yield event
            observed.stream_ended()

    return stream


def _stream_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def stream(engine: Any, request: Any) -> AsyncIterator[Any]:
        with _observing(engine, request, stream=True) as observed:
            async with aclosing(method(engine, request)) as events:
                async for event in events:
                    observed.received(event)
                    yield event
            observed.stream_ended()

    return stream


@contextmanager
def _observing(engine: Any, request: Any, *, stream: bool) -> Iterator[_Observed]:
    """Observe one request, even if it fails or the caller closes its stream early. Arguments as for `_Observed`."""
    observed = _Observed(engine, request, stream=stream)
    try:
        yield observed
    except GeneratorExit:
        observed.closed_early()
        raise
    except BaseException as exc:
        observed.failed(exc)
        raise


# -- one request -------------------------------------------------------------------------------------------------------


class _Observed:
    """One request of an engine. No method raises.

    Args:
        engine: The engine that sends it.
        request: The engine's ``Request``.
        stream: Whether the response is streamed.
    """

    def __init__(self, engine: Any, request: Any, *, stream: bool) -> None:
        self._engine = engine
        self._request = request
        self._events: list[Any] = []
        self._call: ExternalCall | None = None
        try:
            self._target = engine.resolve(request.model)
        except Exception:
            return  # the engine raises the same error, and sends nothing
        try:
            api = "responses" if engine.model_type == "responses" else "chat.completions"
            body = {**_body_of(request, engine.model_type), "model": self._target.model}
            self._call = begin_external(api, "unknown", body, stream=stream)
        except Exception as exc:
            guard.report("observing a DSPy call", exc)

    def received(self, event: Any) -> None:
        """Keep an event of a stream."""
        self._events.append(event)
        if self._call is not None and len(self._events) == 2:  # the first event has no content
            self._call.set_first_token(time_ns())

    def responded(self, response: Any) -> None:
        """Record a complete response."""
        if self._call is None:
            return
        try:
            dialect = self._set_provider(self._call)
            self._call.responded(_response_of(response, dialect, self._call.api))
        except Exception as exc:
            guard.report("recording a DSPy call", exc)

    def stream_ended(self) -> None:
        """Record a stream that was read to its end."""
        try:
            from dspy._vendor.lm15.result import materialize_response

            response = materialize_response(iter(self._events), self._request)
        except Exception as exc:
            guard.report("reading a stream of DSPy", exc)
            self.closed_early()
        else:
            self.responded(response)

    def closed_early(self) -> None:
        """Record a stream that was not read to its end."""
        if self._call is not None:
            self._set_provider(self._call)
            self._call.stream_ended("closed_early")

    def failed(self, exc: BaseException) -> None:
        """Record an error, unless the engine raised it before it sent the request."""
        if self._call is None or not _was_sent(exc):
            return
        try:
            self._set_provider(self._call)
            self._call.set_request_id(getattr(exc, "request_id", None))
            if (status := getattr(exc, "status", None)) is not None:
                self._call.metadata["status_code"] = status
        except Exception as internal:
            guard.report("recording a failed DSPy call", internal)
        self._call.failed(exc)

    def _set_provider(self, call: ExternalCall) -> str:
        """Set the provider that served the call, and return the dialect that it speaks."""
        from dspy._vendor.lm15.registry import lookup

        name = self._target.provider
        served = self._engine._providers.get(name)
        found = provider_of(SocketClient(str(getattr(served, "base_url", ""))))
        if found.startswith("unknown") and name not in ("openai", "openai-chat"):
            found = _PROVIDERS.get(name) or _without_dialect(name)
        call.provider = found
        definition = lookup(name)
        return "openai-chat" if definition is None else str(definition.dialect)


def _without_dialect(name: str) -> str:
    for dialect in _DIALECTS:
        name = name.removesuffix(dialect)
    return _PROVIDERS.get(name, name)


def _body_of(request: Any, model_type: str) -> Mapping[str, Any]:
    """Return the request in the form of the OpenAI API; empty if it has no such form."""
    from dspy.clients.lm15_boundary import request_kwargs

    try:
        body: Mapping[str, Any] = request_kwargs(request, model_type)
    except Exception:  # the message has a part that only another provider supports
        return {}
    return body


def _was_sent(exc: BaseException) -> bool:
    """Return True if an error may have been raised after the request was sent."""
    from dspy._vendor.lm15 import errors

    if not isinstance(exc, errors.LM15Error):
        return not isinstance(exc, (TypeError, ValueError))  # the engine checks its argument
    return not isinstance(exc, (errors.ConfigurationError, errors.CapabilityError, errors.LockTimeoutError))


def _response_of(response: Any, dialect: str, api: str) -> Mapping[str, Any]:
    """Return a response of the engine with the fields of an OpenAI response."""
    data = response.provider_data if isinstance(response.provider_data, Mapping) else {}
    inner = data.get("response")
    data = inner if isinstance(inner, Mapping) else data  # the last event of a Responses stream
    stated = locate_usage(dict(data))
    if not isinstance(stated, Mapping) or not any(name in stated for name in _INPUT_COUNTS):
        stated = _usage_of(response.usage, dialect)
    if api == "responses" and "output" in data:
        return {**data, "usage": stated}
    parts = response.message.parts
    message = {
        "content": "".join(part.text for part in parts if part.type == "text"),
        "tool_calls": [{"id": part.id} for part in parts if part.type == "tool_call"],
    }
    return {
        "id": response.id,
        "model": response.model,
        "usage": stated,
        "service_tier": data.get("service_tier"),
        "choices": [{"index": 0, "finish_reason": response.finish_reason, "message": message}],
    }


def _usage_of(usage: Any, dialect: str) -> dict[str, Any]:
    """Return the engine's counts as the provider names them; the engine does not change their meaning."""
    if dialect == "anthropic":
        counts = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
        }
        return {name: count for name, count in counts.items() if count is not None}
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }
