"""The interfaces between the observation of a call and its sinks."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class EventSink(Protocol):
    """Receives the event of a finished call.

    Attributes:
        journal: The journal in which the event of an unfinished background response is parked.
    """

    journal: Any

    def append(self, event: bytes) -> None:
        """Append an encoded event. Does not wait for the disk or the database."""


class Observation(Protocol):
    """One SDK request that is being observed. Its methods never raise.

    Attributes:
        arguments: The positional arguments to call the SDK's ``request`` with.
    """

    arguments: tuple[Any, ...]

    def returned(self, result: T) -> T:
        """Observe the result that the caller gets, and return it."""

    def raised(self, exc: BaseException) -> bool:
        """Observe an error. Returns True if the request must be sent again with the new ``arguments``."""


class Observer(Protocol):
    """Observes one response, plain or streamed.

    Attributes:
        api: One of the values of :data:`.endpoints.ENDPOINTS`.
        stream: Whether the caller asked for a stream.
        done: Whether the observation has ended.
        pulling: Whether the SDK is reading the body; for a stream, whether reading has begun.
        items: Returns the generator of the stream's items while it is alive; None for other responses.
    """

    api: str
    stream: bool
    done: bool
    pulling: bool
    items: Any

    def http(self, response: Any) -> None:
        """Observe the HTTP response."""

    def result(self, response: Any) -> None:
        """Observe a complete response."""

    def chunk(self, chunk: Any) -> bool:
        """Observe a chunk or event. Returns True if it must be hidden from the caller. Never raises."""

    def stream_ended(self, ending: str | None = None) -> None:
        """Observe the end of the stream: read to its end (None), ``closed_early`` or ``abandoned``."""

    def failed(self, exc: BaseException) -> None:
        """Observe the error that the caller gets."""


def is_pulling(observer: Observer) -> bool:
    """Return True if the SDK is reading an item of the stream, or the body, at this moment."""
    if observer.items is None or not observer.pulling:
        return observer.pulling
    items = observer.items()
    # Setting a flag before and after each item would cost more than asking the generator when it matters.
    return bool(getattr(items, "gi_running", False) or getattr(items, "ag_running", False))
