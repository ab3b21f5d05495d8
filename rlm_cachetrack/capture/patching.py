"""``instrument`` and ``uninstrument``: patch the SDK's classes.

Every HTTP call of the SDK goes through ``OpenAI.request`` or ``AsyncOpenAI.request``. This module wraps only these two
methods of the SDK's classes, and the methods that sleep before a retry. :mod:`.sockets` adds the websockets.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from rlm_cachetrack.config import cache_bust_warnings as warnings_in_environment
from rlm_cachetrack.config import disabled, load_settings
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.pipeline import Runtime, runtimes
from rlm_cachetrack.records import RecordSink, checked_tags

from .attempt import begin, forget_hosts
from .background import finish_all
from .clients import CaptureOptions, check_client, client_classes, mark, set_options_for_all, unmark, unmark_all
from .coexistence import (
    clients_with_own_request,
    is_wrapped_by_us,
    restore_client,
    restore_method,
    sign,
    wrap_on_client,
)
from .external import run_uninstrument_hooks
from .retries import PAUSES, counting_attempts
from .sockets import patch_sockets, restore_sockets

ClientT = TypeVar("ClientT")

_lock = threading.RLock()
_clients_with_own_request: weakref.WeakSet[Any] = weakref.WeakSet()

runtimes.before_flush.append(finish_all)


def instrument(
    client: ClientT | None = None,
    *,
    store: str | RecordSink | Any | None = None,
    pricing: str | os.PathLike[str] | None = None,
    stream_usage: bool = True,
    fingerprints: bool = True,
    tags: Mapping[str, Any] | None = None,
    call_site: bool = False,
    free_calls: bool = False,
    cache_diagnostics: bool = False,
    cache_bust_warnings: bool = False,
) -> ClientT:
    """Record every call of a client, or of every OpenAI client of this process.

    Every call that costs money is recorded (docs/coverage.md lists them), plain and streamed, sync and async, also
    over websockets that are opened from now on.
    The caller gets the same results, types, errors and chunks as without recording. Instrumenting a client again
    changes nothing. Does not block: a background thread connects to the database, and starts an embedded one. A
    database that cannot be reached is logged once, and records wait in a journal on disk.

    Args:
        client: An ``OpenAI``, ``AsyncOpenAI`` or a client derived from them (Azure, …). Clients returned by its
            ``with_options()`` and ``copy()`` are recorded, too. None: every client, existing and future.
        store: A PostgreSQL URL, a :class:`TimescaleDBClient`, or any :class:`~.records.RecordSink`. None:
            ``RLM_CACHETRACK_DB_URL``, else ``TIMESCALE_DB_URL``, else the store of a client that is already open, else
            the embedded PostgreSQL.
        pricing: A pricing YAML that overrides the built-in prices. None: ``RLM_CACHETRACK_PRICING``, else
            ``rlm_cachetrack.yaml`` in the working directory if it exists.
        stream_usage: Request the usage of chat streams if the caller did not, and hide the extra chunk from the caller.
            False: such a stream is recorded without tokens.
        fingerprints: Store a keyed hash and the size of each part of the prompts, computed in the background, so that
            cache misses can be explained. False: no prompt of these calls is hashed.
        tags: At most 16 short texts by name, stored with each call of the client.
        call_site: Store the module and function that made each call: the first frame outside the SDK and known
            frameworks.
        free_calls: Record calls that are free of charge, too: moderations.
        cache_diagnostics: Request the provider's own reason for cache misses: within a run, each Responses call names
            the previous response whose prompt begins like its own (``prompt_cache_options.comparison_response_id``),
            unless the caller named one. Only for GPT-5.6 and later models, over HTTP; a server that rejects the field
            gets the request once more without it, and no later request with it.
        cache_bust_warnings: Log a warning when a call breaks a prefix that its run had cached and loses more than 1,024
            tokens: what changed, and the cost; once for each cause and run. It applies to all recorded calls of the
            process. ``RLM_CACHETRACK_CACHE_BUST_WARNINGS=1`` has the same effect.

    Returns:
        ``client`` itself.

    Raises:
        ConfigError: ``client`` is not an OpenAI client; ``store`` is unusable, or a second one while another is in use;
            the pricing file has an error (:class:`~.errors.PricingError`).
        RecordError: ``tags`` cannot be stored.
    """
    client_tags = checked_tags(tags)
    if client is not None:
        check_client(client)
    if disabled():
        return cast("ClientT", client)
    with _lock:
        runtime = _runtime_for(store, pricing)
        runtime.check_pricing()
        runtimes.use_as_default(runtime)
        _patch_classes()
        if cache_bust_warnings or warnings_in_environment():
            _watch_busts(runtime)
        options = CaptureOptions(stream_usage, fingerprints, client_tags, call_site, free_calls, cache_diagnostics)
        if client is None:
            set_options_for_all(options)
            for each in clients_with_own_request(client_classes()):
                _wrap_own_request(each)
        else:
            mark(client, options)
            _wrap_own_request(client)
    runtimes.warn_if_embedded_is_missing(runtime)
    runtime.start()
    return cast("ClientT", client)


def uninstrument(client: Any = None) -> None:
    """Stop recording.

    Args:
        client: Stop recording only this client. None: all clients; the SDK's classes and clients are restored, and
            another store may be chosen. The writer stores the recorded calls; ``flush()`` waits for it.
    """
    with _lock:
        if client is not None:
            unmark(client)
            return
        unmark_all()
        run_uninstrument_hooks()
        if "openai" in sys.modules:
            for client_class in client_classes():
                for name in ("request", *PAUSES):
                    restore_method(client_class, name, _WRAPPERS)
            restore_sockets()
        while _clients_with_own_request:
            restore_client(_clients_with_own_request.pop())
        forget_hosts()
        if (runtime := runtimes.peek_default()) is not None:
            runtime.observers.clear()
    finish_all()
    runtimes.release_default()


# -- choosing the store -----------------------------------------------------------------------------------------------


def _runtime_for(store: Any, pricing: str | os.PathLike[str] | None) -> Runtime:
    if store is None and pricing is None:
        return runtimes.default()
    runtime = getattr(store, "runtime", None)  # a TimescaleDBClient
    if store is None:
        runtime = runtimes.choose(load_settings(pricing=pricing))
    elif isinstance(store, str):
        runtime = runtimes.open(load_settings(store, pricing=pricing))
    elif not isinstance(runtime, Runtime):
        if not isinstance(store, RecordSink) or isinstance(store, type):
            raise ConfigError(
                f"store is a {type(store).__name__}: expected a PostgreSQL URL, a TimescaleDBClient, or an object with "
                "the methods store(batch) and close()"
            )
        return runtimes.open(load_settings(pricing=pricing), store)
    if pricing is not None and runtime.settings.pricing != load_settings(pricing=pricing).pricing:
        raise ConfigError(
            f"this process already prices with {runtime.settings.pricing or 'the built-in table'}; "
            f"pricing={os.fspath(pricing)!r} would be a second price list"
        )
    return runtime


def _watch_busts(runtime: Runtime) -> None:
    if not runtime.observers:
        from rlm_cachetrack.analytics.explain import (
            BustWatch,
        )  # imported here, so that the writer thread need not import it

        runtime.observers.append(BustWatch().observe)


# -- patching ---------------------------------------------------------------------------------------------------------


def _patch_classes() -> None:
    for client_class, wrapper in zip(client_classes(), (_recorded, _recorded_async), strict=True):
        pauses = [(name, counting_attempts) for name in PAUSES if hasattr(client_class, name)]
        for name, wrap in (("request", wrapper), *pauses):
            if not is_wrapped_by_us(getattr(client_class, name), _WRAPPERS):
                # The method is inherited: our attribute on the subclass hides it, so deleting the attribute restores
                # it.
                setattr(client_class, name, sign(wrap(getattr(client_class, name)), wrap))
    patch_sockets()


def _wrap_own_request(client: Any) -> None:
    """Wrap ``request`` on a client that overrides it, unless our wrapper is already below."""
    own = vars(client).get("request")
    if own is not None and not is_wrapped_by_us(own, _WRAPPERS):
        client.request = wrap_on_client(
            own, client, _recorded if isinstance(client, client_classes()[0]) else _recorded_async
        )
        _clients_with_own_request.add(client)


def _recorded(request: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(request)
    def recorded(client: Any, *args: Any, **kwargs: Any) -> Any:
        observation = begin(client, args, kwargs)
        if observation is None:
            return request(client, *args, **kwargs)
        while True:  # repeated if the server rejected our addition
            try:
                return observation.returned(request(client, *observation.arguments, **kwargs))
            except BaseException as exc:
                if not observation.raised(exc):
                    raise

    return recorded


def _recorded_async(request: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(request)
    async def recorded(client: Any, *args: Any, **kwargs: Any) -> Any:
        observation = begin(client, args, kwargs)
        if observation is None:
            return await request(client, *args, **kwargs)
        while True:
            try:
                return observation.returned(await request(client, *observation.arguments, **kwargs))
            except BaseException as exc:
                if not observation.raised(exc):
                    raise

    return recorded


_WRAPPERS = (_recorded, _recorded_async, counting_attempts)
