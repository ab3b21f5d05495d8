"""Our wrappers of the SDK's ``request`` beside those of other instrumentations, whoever came first.

``logfire.instrument_openai`` replaces the same method as we do: of the classes, or, given a client, on that instance,
which then hides the class's. Others wrap the resources' ``create`` and are never met here. What tells whether a layer
of ours is in a chain of wrappers already is ``__wrapped__``, which ``wrapt`` and ``functools.wraps`` both keep.

Source: ``logfire/_internal/integrations/llm_providers/llm_provider.py`` of logfire 5.2.0 (read 2026-11-23).
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import wrapt

__all__ = ["clients_with_their_own", "has_ours", "observed", "take_off", "take_off_instance"]

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]

_DEEPEST = 100


def has_ours(method: Any, ours: tuple[Wrapper, ...]) -> bool:
    """Whether a call of ``method`` comes through one of our wrappers: a second one would record it twice."""
    for _ in range(_DEEPEST):
        if method is None:
            break
        if getattr(method, "_self_wrapper", None) in ours:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


def take_off_instance(client: Any) -> None:
    """Put back what was on the instance before :func:`observed`, unless somebody wrapped it again."""
    present = vars(client).get("request")
    if getattr(present, "_rlm_cachetrack_itself", None) is present is not None:
        client.request = present.__wrapped__


def take_off(kind: type[Any], name: str, ours: tuple[Wrapper, ...]) -> None:
    """Remove our wrapper from a method of a class of the SDK, if it is the outermost.

    One that somebody wrapped after us stays underneath, and passes everything through.
    """
    present = vars(kind).get(name)
    # Bound: how logfire puts back what it found.
    if not isinstance(present, (wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper)) or not has_ours(present, ours):
        return
    before = present.__wrapped__
    if before is getattr(super(kind, kind), name, None):
        delattr(kind, name)  # it was inherited
    else:
        setattr(kind, name, before)


def observed(method: Callable[..., Any], client: Any, wrapper: Wrapper) -> Callable[..., Any]:
    """``method``, which somebody put on the instance ``client``, wrapped by us."""

    @functools.wraps(method)
    def request(*args: Any, **kwargs: Any) -> Any:
        return wrapper(method, client, args, kwargs)

    request._self_wrapper = wrapper  # type: ignore[attr-defined]
    request._rlm_cachetrack_itself = request  # type: ignore[attr-defined]  # wraps() copies attributes: this one then lies
    return request


def clients_with_their_own(kinds: tuple[type[Any], ...]) -> Iterator[Any]:
    """The clients of this process whose ``request`` somebody replaced on the instance.

    Asks the garbage collector, some milliseconds for every 100,000 objects, and only where logfire is loaded.
    """
    if "logfire" not in sys.modules:
        return
    every = {*kinds}
    found = list(kinds)
    while found:
        found = [each for kind in found for each in kind.__subclasses__() if each not in every]
        every.update(found)
    for thing in gc.get_referrers(*every):
        if type(thing) in every and "request" in vars(thing):
            yield thing
