"""Observe the websockets of ``responses.connect()`` and ``realtime.connect()``, which bypass the SDK's ``request``.

The SDK's connection managers open a connection of the package ``websockets``. Its ``recv``, ``send`` and ``close`` are
replaced on that one object by functions around them, as streams are observed in place. Iteration, ``recv``,
``recv_bytes``, event handlers, sessions with lanes, queued messages and reconnects all use these three methods, so the
caller's objects and their types are unchanged.

The SDK imports its resources when they are first used. Importing them here would take up to a second, so the managers
are patched when a resource is created whose module is then loaded.
"""

from __future__ import annotations

import atexit
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import wrapt

from rlm_cachetrack._process import guard

from . import clients
from .coexistence import Wrapper, is_wrapped_by_us, restore_method
from .live_socket import LiveCalls
from .realtime_socket import RealtimeCalls
from .responses_socket import ResponsesCalls
from .socket_calls import SocketCalls, forget_queue, queue_message

_CALLS: dict[str, type[SocketCalls]] = {
    "openai.resources.responses.responses": ResponsesCalls,
    "openai.resources.beta.responses.responses": ResponsesCalls,
    "openai.resources.realtime.realtime": RealtimeCalls,
    "openai.resources.beta.realtime.realtime": RealtimeCalls,
    "openai.resources.live.live": LiveCalls,
    "openai.resources.live.forks": LiveCalls,
    "openai.resources.live.sideband": LiveCalls,
}
"""The modules with a connection manager, and the class that observes its connections."""

_MANAGER = "ConnectionManager"
_ENTER = ("__enter__", "__aenter__", "enter")
_CONNECT = "_connect_ws"  # absent in openai before 2.32: there the socket is opened by `enter`

_lock = threading.RLock()
_patched_modules: set[str] = set()
_calls_of_manager: weakref.WeakKeyDictionary[Any, SocketCalls] = weakref.WeakKeyDictionary()
_open: dict[weakref.ref[Any], SocketCalls] = {}


# -- patching ---------------------------------------------------------------------------------------------------------


def patch_sockets() -> None:
    """Wrap the SDK's connection managers, now and when their modules are loaded. Imports openai."""
    with _lock:
        for resource_class in _resource_classes():
            _wrap(resource_class, "__init__", _make_resource)
        _patch_loaded_modules()


def restore_sockets() -> None:
    """Remove our wrappers from the SDK's classes. Open connections stay observed until they are closed."""
    with _lock:
        for resource_class in _resource_classes():
            restore_method(resource_class, "__init__", _WRAPPERS)
        for name in _patched_modules:
            module = sys.modules[name]
            for manager_class in _manager_classes(module):
                for method in (*_ENTER, _CONNECT):
                    restore_method(manager_class, method, _WRAPPERS)
            if (queue_class := getattr(module, "SendQueue", None)) is not None:
                restore_method(queue_class, "enqueue", _WRAPPERS)
        _patched_modules.clear()


def _resource_classes() -> tuple[type[Any], type[Any]]:
    from openai._resource import AsyncAPIResource, SyncAPIResource

    return SyncAPIResource, AsyncAPIResource


def _manager_classes(module: Any) -> list[type[Any]]:
    return [
        each
        for name, each in vars(module).items()
        if name.endswith(_MANAGER) and isinstance(each, type) and each.__module__ == module.__name__
    ]


def _patch_loaded_modules() -> None:
    for name in _CALLS:
        module = sys.modules.get(name)
        if module is None or name in _patched_modules:
            continue
        managers = _manager_classes(module)
        if not managers:  # another thread is importing the module, or this SDK has no websockets
            continue
        for manager_class in managers:
            for method in _ENTER:
                if hasattr(manager_class, method):
                    _wrap(manager_class, method, _enter if hasattr(manager_class, "__enter__") else _async_enter)
            if hasattr(manager_class, _CONNECT):
                _wrap(manager_class, _CONNECT, _connect if hasattr(manager_class, "__enter__") else _async_connect)
        if (queue_class := getattr(module, "SendQueue", None)) is not None:
            _wrap(queue_class, "enqueue", _enqueue)
        _patched_modules.add(name)


def _wrap(target: type[Any], name: str, wrapper: Wrapper) -> None:
    if not is_wrapped_by_us(getattr(target, name), _WRAPPERS):
        setattr(target, name, wrapt.FunctionWrapper(getattr(target, name), wrapper))


def _make_resource(wrapped: Callable[..., Any], resource: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    wrapped(*args, **kwargs)
    if len(_patched_modules) < len(_CALLS) and hasattr(type(resource), "connect"):
        try:
            with _lock:
                _patch_loaded_modules()
        except Exception as exc:
            guard.report("observing a websocket resource", exc)


# -- opening a connection ---------------------------------------------------------------------------------------------


def _enter(wrapped: Callable[..., Any], manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    calls = _begin(manager)
    connection = wrapped(*args, **kwargs)
    _entered(connection, calls)
    return connection


async def _async_enter(wrapped: Callable[..., Any], manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    calls = _begin(manager)
    connection = await wrapped(*args, **kwargs)
    _entered(connection, calls)
    return connection


def _connect(wrapped: Callable[..., Any], manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    socket = wrapped(*args, **kwargs)
    _observe(socket, _calls_of_manager.get(manager))
    return socket


async def _async_connect(
    wrapped: Callable[..., Any], manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    socket = await wrapped(*args, **kwargs)
    _observe(socket, _calls_of_manager.get(manager))
    return socket


def _begin(manager: Any) -> SocketCalls | None:
    """Return the observer of the connection that is about to be opened, or None if its client is not recorded."""
    try:
        attributes = {name.rpartition("__")[2]: value for name, value in vars(manager).items()}
        client = attributes["client"]
        if clients.options_of(client) is None:
            return None
        module = next(each.__module__ for each in type(manager).__mro__ if each.__module__ in _CALLS)
        calls = _CALLS[module](client, attributes.get("send_queue"), attributes.get("model"))
        _calls_of_manager[manager] = calls
        return calls
    except Exception as exc:
        guard.report("observing a websocket", exc)
        return None


def _entered(connection: Any, calls: SocketCalls | None) -> None:
    if calls is None:
        return
    try:
        if not calls.is_attached:
            _observe(connection._connection, calls)
        # openai before 3.0 replaces an empty queue of the manager with a new one.
        calls.queue = getattr(connection, "_send_queue", None)
        _open[weakref.ref(connection, _collected)] = calls
    except Exception as exc:
        guard.report("observing a websocket", exc)


def _enqueue(wrapped: Callable[..., Any], queue: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Keep the run context of the code that queues a message: another thread may send it later."""
    data = args[0] if args else kwargs.get("data")
    queue_message(queue, data)
    is_queued = False
    try:
        result = wrapped(*args, **kwargs)
        is_queued = result is not False
        return result
    finally:
        if not is_queued:
            forget_queue(queue, data)


_WRAPPERS: tuple[Any, ...] = (_make_resource, _enter, _async_enter, _connect, _async_connect, _enqueue)


# -- one socket -------------------------------------------------------------------------------------------------------


def _observe(socket: Any, calls: SocketCalls | None) -> None:
    """Replace ``recv``, ``send`` and ``close`` of one socket."""
    if calls is None:
        return
    try:
        calls.is_attached = True
        replace = _replace_async if inspect.iscoroutinefunction(type(socket).recv) else _replace
        replace(socket, calls)
    except Exception as exc:
        guard.report("observing a websocket", exc)


def _method(socket: Any, name: str) -> Callable[..., Any]:
    """Return a method of a socket that takes the socket as its first argument.

    A bound method would be a reference cycle, and keep the socket alive until the garbage collector runs.
    """
    own = vars(socket).get(name)  # set by another instrumentation
    if own is None:
        found: Callable[..., Any] = getattr(type(socket), name)
        return found
    return lambda _, *args, **kwargs: own(*args, **kwargs)


def _replace(socket: Any, calls: SocketCalls) -> None:
    recv, send, close = (_method(socket, name) for name in ("recv", "send", "close"))
    itself = weakref.ref(socket)

    def observed_recv(*args: Any, **kwargs: Any) -> Any:
        try:
            message = recv(itself(), *args, **kwargs)
        except BaseException as exc:
            calls.receive_failed(exc)
            raise
        calls.received(message)
        return message

    def observed_send(message: Any, *args: Any, **kwargs: Any) -> Any:
        call = calls.sending(message)
        try:
            return send(itself(), message, *args, **kwargs)
        except BaseException as exc:
            calls.send_failed(call, exc)
            raise

    def observed_close(*args: Any, **kwargs: Any) -> Any:
        try:
            return close(itself(), *args, **kwargs)
        finally:
            calls.closed()

    socket.recv, socket.send, socket.close = observed_recv, observed_send, observed_close


def _replace_async(socket: Any, calls: SocketCalls) -> None:
    recv, send, close = (_method(socket, name) for name in ("recv", "send", "close"))
    itself = weakref.ref(socket)

    async def observed_recv(*args: Any, **kwargs: Any) -> Any:
        try:
            message = await recv(itself(), *args, **kwargs)
        except BaseException as exc:
            calls.receive_failed(exc)
            raise
        calls.received(message)
        return message

    async def observed_send(message: Any, *args: Any, **kwargs: Any) -> Any:
        call = calls.sending(message)
        try:
            return await send(itself(), message, *args, **kwargs)
        except BaseException as exc:
            calls.send_failed(call, exc)
            raise

    async def observed_close(*args: Any, **kwargs: Any) -> Any:
        try:
            return await close(itself(), *args, **kwargs)
        finally:
            calls.closed()

    socket.recv, socket.send, socket.close = observed_recv, observed_send, observed_close


class SocketClient:
    """Stands for the client of a connection that a framework opened without one.

    Args:
        url: The address of the connection.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        host_and_port = address.netloc.rpartition("@")[2]
        self.base_url = SimpleNamespace(host=address.hostname or "", netloc=host_and_port.encode())


def observe_socket(socket: Any, kind: str, client: Any, model: str | None = None) -> None:
    """Observe a connection that a framework opened itself. Never raises.

    Args:
        socket: A connection of the package ``websockets``.
        kind: ``responses`` or ``realtime``.
        client: The SDK client, or a :class:`SocketClient`.
        model: The model that was given when connecting, if any.
    """
    try:
        if clients.options_of(client) is None:
            return
        calls = {"responses": ResponsesCalls, "realtime": RealtimeCalls}[kind](client, None, model)
        _observe(socket, calls)
        _open[weakref.ref(socket, _collected)] = calls
    except Exception as exc:
        guard.report("observing a websocket", exc)


# -- connections that are never closed ---------------------------------------------------------------------------------


def _collected(reference: weakref.ref[Any]) -> None:
    calls = _open.pop(reference, None)
    if calls is not None:
        calls.abandoned()


@atexit.register
def _all_collected() -> None:
    """Record the open responses of all connections as abandoned. Runs before the last flush."""
    for reference in list(_open):
        _collected(reference)


def _after_fork_in_child() -> None:
    """Leave the open connections to the parent process, which records them itself."""
    global _lock
    _lock = threading.RLock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
