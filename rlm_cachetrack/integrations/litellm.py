"""``track()``: record the calls that LiteLLM sends without the OpenAI SDK.

::

    import rlm_cachetrack
    from rlm_cachetrack.integrations import litellm

    rlm_cachetrack.instrument()
    litellm.track()

LiteLLM sends some calls through the OpenAI SDK, which ``instrument()`` records, and the others (Anthropic, Gemini,
DeepSeek, Responses, ...) with its own HTTP client. This module registers a LiteLLM callback for the others. DSPy,
CrewAI, smolagents and other programs that use LiteLLM need nothing else.

A call is recorded once. Before LiteLLM sends a request, it reports the call to its callbacks. If the SDK then sends a
request below a stack frame of the same call, the SDK's record is kept, because it has the server's own usage.

LiteLLM runs its success callbacks later, on another thread or as a task that a finished event loop never runs.
Therefore the methods that receive a finished response are observed, too. The first one that is called makes the record.

Source: ``utils.py``, ``litellm_core_utils/litellm_logging.py``, ``streaming_handler.py`` and ``logging_worker.py`` of
LiteLLM 1.110.2 (read 2026-12-01).
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from rlm_cachetrack._process import guard
from rlm_cachetrack.capture import (
    ExternalCall,
    active_integrations,
    begin_external,
    sdk_request_hooks,
    uninstrument_hooks,
)
from rlm_cachetrack.config import disabled
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.pipeline import runtimes

from ._wrapping import wrap_method

__all__ = ["track"]

_APIS = {
    "completion": "chat.completions",
    "text_completion": "completions",
    "embedding": "embeddings",
    "responses": "responses",
    "anthropic_messages": "messages",
    "generate_content": "generate_content",
    "generate_content_stream": "generate_content",
    "rerank": "rerank",
    "image_generation": "images.generate",
    "image_edit": "images.edit",
    "transcription": "audio.transcriptions",
    "speech": "audio.speech",
}
"""LiteLLM's call types that cost money, without the ``a`` of the asynchronous ones, and the APIs that are stored."""

_PROVIDERS = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "dashscope": "alibaba",
    "fireworks_ai": "fireworks",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vercel_ai_gateway": "vercel-gateway",
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
}
"""LiteLLM's names of providers that differ from the names that are stored for calls of the SDK."""

# Methods of LiteLLM's `Logging` that get a finished response or an error, on the thread or task of the caller.
_RESPONSES = ("handle_sync_success_callbacks_for_async_calls", "dispatch_success_handlers", "async_success_handler")
_ERRORS = ("failure_handler", "async_failure_handler")
_MAX_REMEMBERED = 10_000

_lock = threading.RLock()  # reentrant: a finalizer may end a call at any time
_attempts: OrderedDict[str, _Attempt] = OrderedDict()
_undo: list[Callable[[], None]] = []


class _Attempt:
    """One request of a LiteLLM call.

    Attributes:
        call: The observed call; None if the SDK records it, or after it was recorded.
    """

    __slots__ = ("__weakref__", "call")

    def __init__(self, call: ExternalCall | None) -> None:
        self.call = call

    def take(self) -> ExternalCall | None:
        """Return the call to the first caller of this method; None to all others."""
        with _lock:
            call, self.call = self.call, None
        return call

    def abandoned(self) -> None:
        """Record a stream that was not read to its end, once LiteLLM's objects are collected."""
        call = self.take()
        if call is not None:
            call.stream_ended("abandoned")


def track() -> None:
    """Record every call that LiteLLM makes in this process from now on. Imports litellm.

    Works with and without :func:`~.instrument`, which records the calls that LiteLLM sends through the OpenAI SDK in
    more detail. LiteLLM's usage is stored, and its ``response_cost`` counts as the cost that a provider returned.
    Responses from LiteLLM's cache and mock responses are not recorded. ``uninstrument()`` ends the recording. Calling
    it again changes nothing. Does not block.

    Raises:
        ConfigError: LiteLLM is not installed, or has no ``CustomLogger``.
    """
    if disabled():
        return
    active_integrations.add("litellm")  # before the import, which may take seconds
    try:
        import litellm
        from litellm.integrations.custom_logger import CustomLogger
        from litellm.litellm_core_utils.litellm_logging import Logging
        from litellm.litellm_core_utils.thread_pool_executor import executor
    except ImportError as exc:
        active_integrations.discard("litellm")
        raise ConfigError(f"track() needs LiteLLM 1.70 or newer: {exc}") from exc
    with _lock:
        if _undo:
            return
        _undo.append(lambda: active_integrations.discard("litellm"))
        callback = _make_callback(CustomLogger)
        litellm.logging_callback_manager.add_litellm_callback(callback)
        _undo.append(lambda: _remove_callback(litellm, callback))
        _wrap(Logging, "pre_call", _observed_start)
        for name in _RESPONSES:
            _wrap(Logging, name, functools.partial(_observed, _responded))
        for name in _ERRORS:
            _wrap(Logging, name, functools.partial(_observed, _failed))
        _wrap(executor, "submit", _observed_submit)
        sdk_request_hooks.append(_note_sdk_request)
        _undo.append(lambda: sdk_request_hooks.remove(_note_sdk_request))
        runtimes.before_flush.append(_end_all)
        _undo.append(lambda: runtimes.before_flush.remove(_end_all))
        uninstrument_hooks.append(_stop)


def _end_all() -> None:
    """Record the streams that are still open when the interpreter exits."""
    if runtimes.is_ending:
        for attempt in list(_attempts.values()):
            attempt.abandoned()


def _stop() -> None:
    with _lock:
        while _undo:
            _undo.pop()()


def _remove_callback(litellm: Any, callback: Any) -> None:
    """Remove the callback from LiteLLM's lists. LiteLLM copies it from the first one into the others."""
    for kind in ("callbacks", "input_callback", "success_callback", "failure_callback"):
        for name in (kind, f"_async_{kind}"):
            registered: list[Any] = getattr(litellm, name, [])
            while callback in registered:
                registered.remove(callback)


def _wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a method of LiteLLM, if this version has it."""
    if getattr(owner, name, None) is not None:
        _undo.append(wrap_method(owner, name, make))


# -- what LiteLLM reports ----------------------------------------------------------------------------------------------


def _make_callback(base: type[Any]) -> Any:
    """Return the callback, which records the calls whose response was not seen before."""

    class CacheTrackCallback(base):  # type: ignore[misc]
        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            _succeeded(kwargs, response_obj)

        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            _succeeded(kwargs, response_obj)

    return CacheTrackCallback()


def _observed_start(method: Callable[..., Any]) -> Callable[..., Any]:
    def pre_call(logging: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if not sys._getframe(1).f_code.co_name.startswith("mock_"):  # `mock_response`: nothing is sent
                _begin(logging)
        except Exception as exc:
            guard.report("observing a LiteLLM call", exc)
        return method(logging, *args, **kwargs)

    return pre_call


def _observed(finish: Callable[[Any, Any], None], method: Callable[..., Any]) -> Callable[..., Any]:
    # Not `async`, although most of these methods are: the result must be observed when the coroutine is made.
    def observed(logging: Any, *args: Any, **kwargs: Any) -> Any:
        _safely(finish, logging, args, kwargs)
        return method(logging, *args, **kwargs)

    return observed


def _observed_submit(method: Callable[..., Any]) -> Callable[..., Any]:
    def submit(*args: Any, **kwargs: Any) -> Any:
        for number, given in enumerate(args[:2]):  # the second one, if the first runs it in a context
            if getattr(given, "__name__", "") == "success_handler":
                _safely(_responded, getattr(given, "__self__", None), args[number + 1 :], kwargs)
        return method(*args, **kwargs)

    return submit


def _safely(finish: Callable[[Any, Any], None], logging: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if kwargs.get("cache_hit"):
        return
    try:
        finish(logging, args[0] if args else kwargs.get("result", kwargs.get("exception")))
    except Exception as exc:
        guard.report("recording a LiteLLM call", exc)


def _note_sdk_request() -> None:
    """Do not record a call that LiteLLM is sending through the SDK, because the SDK's request is recorded."""
    frame = sys._getframe(1)
    while frame is not None:
        if "logging_obj" in frame.f_code.co_varnames and str(frame.f_globals.get("__name__")).startswith("litellm."):
            call_id = getattr(frame.f_locals.get("logging_obj"), "litellm_call_id", None)
            if call_id is not None:
                if (attempt := _attempts.get(call_id)) is None:
                    _remember(call_id, _Attempt(None))
                else:
                    attempt.take()
                return
        frame = frame.f_back  # type: ignore[assignment]


# -- calls -------------------------------------------------------------------------------------------------------------


def _remember(call_id: str, attempt: _Attempt) -> None:
    with _lock:
        _attempts[call_id] = attempt
        _attempts.move_to_end(call_id)
        if len(_attempts) > _MAX_REMEMBERED:
            _attempts.popitem(last=False)


def _begin(logging: Any) -> None:
    details = logging.model_call_details
    api = _APIS.get(_call_type(logging.call_type))
    if api is None:
        return
    if (earlier := _attempts.get(logging.litellm_call_id)) is not None:
        _end_repeated(earlier)
    attempt = _Attempt(_make_call(api, details, stream=bool(getattr(logging, "stream", False))))
    _remember(logging.litellm_call_id, attempt)
    weakref.finalize(logging, attempt.abandoned).atexit = False


def _end_repeated(attempt: _Attempt) -> None:
    """Record a failed request that LiteLLM repeats without reporting the failure."""
    call = attempt.take()
    if call is not None:
        call.end_repeated()


def _make_call(api: str, details: Mapping[str, Any], *, stream: bool) -> ExternalCall:
    """Begin a call. Its request has the form of the OpenAI API; LiteLLM converts it for the provider."""
    options = details.get("optional_params")
    body = {**options} if isinstance(options, Mapping) else {}
    body["model"] = details.get("model")
    given = details.get("messages") if api == "chat.completions" else details.get("input") or details.get("messages")
    body["messages" if api == "chat.completions" else "input"] = given
    provider = str(details.get("custom_llm_provider") or "unknown")
    return begin_external(api, _PROVIDERS.get(provider, provider.replace("_", "-")), body, stream=stream)


def _call_type(name: Any) -> str:
    text = str(getattr(name, "value", name))
    return text[1:] if text.startswith("a") and text[1:] in _APIS else text


def _responded(logging: Any, response: Any) -> None:
    """Record a response, unless it is only a chunk of a stream."""
    attempt = _attempts.get(getattr(logging, "litellm_call_id", ""))
    if attempt is None:
        _succeeded(logging.model_call_details, response)
        return
    if attempt.call is None or response is None:
        return
    if attempt.call.stream and not _is_complete(response):
        return
    _finish(attempt, logging.model_call_details, response)


def _is_complete(response: Any) -> bool:
    name = type(response).__name__
    if getattr(response, "response", None) is not None:  # an event of a Responses stream
        return str(getattr(response, "type", "")).endswith((".completed", ".incomplete", ".failed"))
    return "Stream" not in name and "Chunk" not in name and getattr(response, "usage", None) is not None


def _failed(logging: Any, exc: Any) -> None:
    """Record an error. Errors before a request was sent cost nothing."""
    attempt = _attempts.get(getattr(logging, "litellm_call_id", ""))
    call = None if attempt is None else attempt.take()
    if call is not None:
        call.failed(exc if isinstance(exc, BaseException) else RuntimeError(str(exc)))


def _succeeded(details: Mapping[str, Any], response: Any) -> None:
    """Record the response of a call that was not seen before."""
    try:
        call_id = details.get("litellm_call_id")
        api = _APIS.get(_call_type(details.get("call_type")))
        if call_id is None or api is None or details.get("cache_hit"):
            return
        attempt = _attempts.get(call_id)
        if attempt is None:
            if details.get("custom_llm_provider") not in sys.modules["litellm"]._custom_providers:
                return
            # The code of a custom provider does not report its start, and the chunks of its streams cannot be
            # distinguished.
            if details.get("stream") and not _is_complete(response):
                return
            attempt = _Attempt(_make_call(api, details, stream=bool(details.get("stream"))))
            _remember(call_id, attempt)
        _finish(attempt, details, response)
    except Exception as exc:
        guard.report("recording a LiteLLM call", exc)


def _finish(attempt: _Attempt, details: Mapping[str, Any], response: Any) -> None:
    call = attempt.take()
    if call is None:
        return
    hidden = getattr(getattr(response, "response", None) or response, "_hidden_params", None)
    hidden = hidden if isinstance(hidden, Mapping) else {}
    cost = hidden.get("response_cost")
    if cost is None:
        cost = details.get("response_cost")
    headers = hidden.get("additional_headers") or {}
    if call.stream and _is_estimated(response, details):
        call.metadata["usage"] = "estimated"
    call.set_request_id(headers.get("llm_provider-x-request-id") or headers.get("llm_provider-request-id"))
    first = details.get("completion_start_time")
    if call.stream and isinstance(first, datetime):
        call.set_first_token(int(first.timestamp() * 1e9))
    call.responded(response, cost_usd=cost if isinstance(cost, (int, float)) and cost > 0 else None)


def _is_estimated(response: Any, details: Mapping[str, Any]) -> bool:
    """Return True if LiteLLM counted the tokens of a chat stream itself, because the server was not asked for them."""
    usage = getattr(response, "usage", None)
    options = (details.get("optional_params") or {}).get("stream_options") or {}
    return (
        _APIS.get(_call_type(details.get("call_type"))) == "chat.completions"
        and getattr(usage, "prompt_tokens_details", None) is None
        and not options.get("include_usage")
    )
