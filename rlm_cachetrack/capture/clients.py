"""Select the clients to record, and their options: one client by a mark on it, or every client of the process.

The mark is passed on to the clients that ``copy()`` and ``with_options()`` return.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rlm_cachetrack.errors import ConfigError

MARK = "_rlm_cachetrack"
"""The attribute of a recorded client that holds its options."""

_DERIVING_METHODS = ("copy", "with_options")


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """The options of ``instrument`` that apply to each call."""

    stream_usage: bool = True
    fingerprints: bool = True
    tags: Mapping[str, str] | None = None
    call_site: bool = False
    free_calls: bool = False
    cache_diagnostics: bool = False


options_for_all: CaptureOptions | None = None
"""The options for the calls of clients without a mark; None: they are not recorded."""

_marked: weakref.WeakSet[Any] = weakref.WeakSet()


def options_of(client: Any) -> CaptureOptions | None:
    """Return the options of a client; None if it is not recorded."""
    options: CaptureOptions | None = vars(client).get(MARK) or options_for_all
    return options


def client_classes() -> tuple[type[Any], type[Any]]:
    """Return the SDK's sync and async client classes. Imports openai."""
    from openai import AsyncOpenAI, OpenAI

    return OpenAI, AsyncOpenAI


def check_client(client: Any) -> None:
    """Check the argument of ``instrument``.

    Raises:
        ConfigError: ``client`` is not an OpenAI client.
    """
    if not isinstance(client, client_classes()):
        given = (
            f"the class {client.__name__}"
            if isinstance(client, type)
            else f"an object of the type {type(client).__name__}"
        )
        raise ConfigError(
            f"instrument() was given {given}; expected a client of the openai package, such as OpenAI(), AsyncOpenAI() "
            "or AzureOpenAI(). With no argument it instruments every client of the process"
        )


def set_options_for_all(options: CaptureOptions | None) -> None:
    """Record every client of the process with these options; None: only the marked clients."""
    global options_for_all
    options_for_all = options


def mark(client: Any, options: CaptureOptions) -> None:
    """Record a client, and the clients that are derived from it."""
    attributes = vars(client)
    attributes[MARK] = options
    for name in _DERIVING_METHODS:
        attributes[name] = _marking_method(client, name)
    _marked.add(client)


def _marking_method(client: Any, name: str) -> Callable[..., Any]:
    # The closure holds the client: in `client.copy().copy()` nothing else does while the second copy is made.
    def derive(*args: Any, **kwargs: Any) -> Any:
        derived = getattr(type(client), name)(client, *args, **kwargs)
        options = vars(client).get(MARK)
        if options is not None:
            mark(derived, options)
        return derived

    return derive


def unmark(client: Any) -> None:
    """Restore the state of a client before :func:`mark`."""
    attributes = vars(client)
    if attributes.pop(MARK, None) is not None:
        for name in _DERIVING_METHODS:
            attributes.pop(name, None)
    _marked.discard(client)


def unmark_all() -> None:
    """Restore every marked client, and stop recording."""
    set_options_for_all(None)
    for client in list(_marked):
        unmark(client)
