"""Let our wrappers of the SDK's ``request`` coexist with other instrumentations, in any order of installation.

``logfire.instrument_openai`` replaces the same method: on the classes, or, given a client, on that instance, which
then hides the method of the class. Other instrumentations wrap ``create`` of the resources, which does not affect our
wrappers. ``__wrapped__``, which both ``wrapt`` and ``functools.wraps`` set, shows whether a chain of wrappers contains
ours.

Source: ``logfire/_internal/integrations/llm_providers/llm_provider.py`` of logfire 5.2.0 (read 2026-11-23).
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import wrapt

Wrapper = Callable[..., Any]

_MAX_WRAPPERS = 100


def is_wrapped_by_us(method: Any, wrappers: tuple[Wrapper, ...]) -> bool:
    """Return True if ``method`` calls one of our wrappers; with a second wrapper, calls would be recorded twice."""
    for _ in range(_MAX_WRAPPERS):
        if method is None:
            break
        if getattr(method, "_self_wrapper", None) in wrappers:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


def sign(method: Callable[..., Any], wrapper: Wrapper) -> Callable[..., Any]:
    """Make a method that ``wrapper`` returned recognizable as ours, and return it."""
    method._self_wrapper = wrapper  # type: ignore[attr-defined]
    # functools.wraps() of a later wrapper copies this attribute, too; there it does not refer to the wrapper itself.
    method._rlm_cachetrack_itself = method  # type: ignore[attr-defined]
    return method


def _is_outermost(method: Any) -> bool:
    function = getattr(method, "__func__", method)
    return getattr(function, "_rlm_cachetrack_itself", None) is function is not None


def restore_client(client: Any) -> None:
    """Undo :func:`wrap_on_client`, unless another instrumentation wrapped the method after us."""
    present = vars(client).get("request")
    if _is_outermost(present):
        client.request = present.__wrapped__


def restore_method(client_class: type[Any], name: str, wrappers: tuple[Wrapper, ...]) -> None:
    """Remove our wrapper from a method of an SDK class, if it is the outermost.

    If another instrumentation wrapped it after us, ours stays below it and passes every call through.
    """
    present = vars(client_class).get(name)
    # Bound, because logfire restores the bound wrapper that it found.
    if not _is_outermost(present) and not isinstance(present, (wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper)):
        return
    if not is_wrapped_by_us(present, wrappers):
        return
    original = present.__wrapped__
    if original is getattr(super(client_class, client_class), name, None):
        delattr(client_class, name)  # it was inherited
    else:
        setattr(client_class, name, original)


def wrap_on_client(method: Callable[..., Any], client: Any, wrapper: Wrapper) -> Callable[..., Any]:
    """Wrap ``method``, which another instrumentation set on the instance ``client``, and return the wrapper."""

    @functools.wraps(method)
    def call(_: Any, *args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    wrapped = sign(wrapper(call), wrapper)
    wrapped.__wrapped__ = method  # type: ignore[attr-defined]
    return MethodType(wrapped, client)


def clients_with_own_request(client_classes: tuple[type[Any], ...]) -> Iterator[Any]:
    """Yield the clients of this process whose ``request`` was replaced on the instance.

    Searches the objects of the garbage collector, which takes a few milliseconds per 100,000 objects. Does nothing
    unless logfire is loaded.
    """
    if "logfire" not in sys.modules:
        return
    known = {*client_classes}
    added = list(client_classes)
    while added:
        added = [each for parent in added for each in parent.__subclasses__() if each not in known]
        known.update(added)
    for referrer in gc.get_referrers(*known):
        if type(referrer) in known and "request" in vars(referrer):
            yield referrer
