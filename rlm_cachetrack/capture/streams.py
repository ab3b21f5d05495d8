"""Observe streams and raw responses in place: the caller gets the same objects as without recording.

The SDK's ``Stream`` takes its items from ``_iterator``. That generator is replaced by one around it, so the type of the
stream, its ``response``, its ``close()`` and the ``.stream()`` helpers are unchanged. A stream can end in three ways:
its generator ends, its HTTP response is closed, or it is garbage-collected.
"""

from __future__ import annotations

import atexit
import functools
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from rlm_cachetrack._process import guard

from .bodies import BodyRecorder, finish_with_body, read_whole
from .protocols import Observer, is_pulling

# Observed objects that are alive. `weakref.finalize` would do the same at five times the cost.
_watched: dict[weakref.ref[Any], Observer] = {}


def _watch_for_collection(watched: Any, observer: Observer) -> None:
    _watched[weakref.ref(watched, _collected)] = observer


def _collected(reference: weakref.ref[Any]) -> None:
    observer = _watched.pop(reference, None)
    if observer is not None and not observer.done:
        _guarded(lambda: observer.stream_ended("abandoned"))


@atexit.register
def _all_collected() -> None:
    """Record open streams as abandoned when the interpreter exits. Runs before the last flush."""
    for reference in list(_watched):
        _collected(reference)


def watch_stream(stream: Any, observer: Observer) -> None:
    """Observe an SDK ``Stream`` or ``AsyncStream`` until its end."""
    iterator = stream._iterator
    response = getattr(stream, "response", None)
    observer.http(response)
    is_async = hasattr(iterator, "__anext__")
    items = _async_items(iterator, observer) if is_async else _items(iterator, observer)
    observer.items = weakref.ref(items)  # weak: the generator holds the observer, and must end with the stream
    stream._iterator = items
    _watch_close(response, observer, None, ("aclose",) if is_async else ("close",))
    _watch_for_collection(stream, observer)


# -- the items of a stream --------------------------------------------------------------------------------------------


def _items(iterator: Iterator[Any], observer: Observer) -> Iterator[Any]:
    observer.pulling, observe = True, observer.chunk
    try:
        for item in iterator:
            if not observe(item):
                yield item
    except BaseException as exc:
        _end(observer, exc)
        raise
    _end(observer)


async def _async_items(iterator: AsyncIterator[Any], observer: Observer) -> AsyncIterator[Any]:
    observer.pulling, observe = True, observer.chunk
    try:
        async for item in iterator:
            if not observe(item):
                yield item
    except BaseException as exc:
        was_done = observer.done
        _end(observer, exc)
        if isinstance(exc, GeneratorExit) and not was_done:
            await _close_generator(iterator)
        raise
    _end(observer)


async def _close_generator(iterator: Any) -> None:
    """Close the SDK's generator, as would happen at this point without our wrapper.

    Not called if the stream was collected before: the event loop then closes both generators. A running generator is
    not closed either: an ending event loop closes all generators at once, and a second close would log an error.
    """
    if hasattr(iterator, "aclose") and not getattr(iterator, "ag_running", False):
        await iterator.aclose()


_OUR_GENERATORS = (_items.__code__, _async_items.__code__)


def _is_watched(iterator: Any) -> bool:
    return (getattr(iterator, "gi_code", None) or getattr(iterator, "ag_code", None)) in _OUR_GENERATORS


def _end(observer: Observer, exc: BaseException | None = None) -> None:
    """End the observation of a stream whose generator returned, was closed, or raised."""
    if exc is None:
        _guarded(observer.stream_ended)
    elif isinstance(exc, GeneratorExit):
        _guarded(lambda: observer.stream_ended("closed_early"))
    else:
        _guarded(lambda: observer.failed(exc))


def _guarded(finish: Callable[[], None]) -> None:
    try:
        finish()
    except Exception as exc:
        guard.report("finishing a stream", exc)


# -- raw responses ----------------------------------------------------------------------------------------------------


def watch_raw(raw: Any, observer: Observer, *, deferred: bool) -> None:
    """Observe a raw response.

    Args:
        raw: The result of ``with_raw_response`` or ``with_streaming_response``.
        observer: Observes the call.
        deferred: Whether the body is not read yet (``with_streaming_response``). Then, as for a stream, the record is
            made when the caller parses the body or closes the response.
    """
    if not deferred and not observer.stream:
        read_whole(raw, observer)
        return
    response = raw.http_response
    observer.http(response)
    recorder = BodyRecorder(response, observer)
    raw.parse = _observed_parse(raw, recorder, observer)
    recorder.start()
    _watch_close(response, observer, recorder)
    if not deferred and response is not None:
        # The response is not closed afterwards.
        recorder.at_end = functools.partial(_response_closed, response, observer, recorder)
    _watch_for_collection(raw, observer)


def _observed_parse(raw: Any, recorder: BodyRecorder, observer: Observer) -> Callable[..., Any]:
    parse, reference = raw.parse, weakref.ref(raw)

    def observed_parse(*args: Any, **kwargs: Any) -> Any:
        recorder.drop()  # the SDK reads the body
        with _Parsing(observer):
            parsed = parse(*args, **kwargs)
        if hasattr(parsed, "__await__"):
            return observed_later(parsed)
        _observe_parsed(parsed, observer, reference)
        return parsed

    async def observed_later(parsed: Any) -> Any:
        with _Parsing(observer):
            result = await parsed
        _observe_parsed(result, observer, reference)
        return result

    return observed_parse


class _Parsing:
    """Mark that the SDK parses a body, so that its closing of the response does not count as an early close."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __enter__(self) -> None:
        self._observer.pulling = True

    def __exit__(self, _: object, exc: BaseException | None, traceback: object) -> None:
        try:
            if exc is not None:
                _guarded(lambda: self._observer.failed(exc))
        finally:
            self._observer.pulling = False


def _observe_parsed(parsed: Any, observer: Observer, raw: weakref.ref[Any]) -> None:
    try:
        iterator = getattr(parsed, "_iterator", None)
        if iterator is None:
            observer.result(parsed)
        elif not _is_watched(iterator):  # the SDK returns the same stream again if it is parsed twice
            watch_stream(parsed, observer)
            _watched.pop(raw, None)  # `create(stream=True).parse()`: the raw response may be collected now
    except Exception as exc:
        guard.report("watching a raw response", exc)


# -- closing ----------------------------------------------------------------------------------------------------------


def _watch_close(
    response: Any, observer: Observer, recorder: BodyRecorder | None, names: Sequence[str] = ("close", "aclose")
) -> None:
    """Finish the call when its HTTP response is closed early, by the caller or by other code.

    Args:
        response: The HTTP response.
        observer: Observes the call.
        recorder: Keeps the body that the caller reads; None if the SDK parses it.
        names: The methods that can close the response.
    """
    for name in names:
        if hasattr(response, name):
            (_ObservedAclose if name == "aclose" else _ObservedClose)(response, name, observer, recorder)


class _ObservedMethod:
    """Replaces a method that closes an HTTP response, until the response is closed.

    It is not replaced for longer, because the response and the replacement refer to each other: only the garbage
    collector would free them, and the request. A response whose body the caller reads may be closed twice.
    """

    def __init__(self, response: Any, name: str, observer: Observer, recorder: BodyRecorder | None) -> None:
        self._response = response
        self._name = name
        self._observer = observer
        self._recorder = recorder
        self._method = getattr(response, name)
        self._before = vars(response).get(name)
        vars(response)[name] = self

    def _closed(self) -> None:
        _response_closed(self._response, self._observer, self._recorder)
        attributes = vars(self._response)
        if self._recorder is None and attributes.get(self._name) is self:  # otherwise other code wrapped it after us
            del attributes[self._name]
            if self._before is not None:
                attributes[self._name] = self._before


class _ObservedClose(_ObservedMethod):
    def __call__(self) -> None:
        try:
            self._method()
        finally:
            self._closed()


class _ObservedAclose(_ObservedMethod):
    async def __call__(self) -> None:
        try:
            await self._method()
        finally:
            self._closed()


def _response_closed(response: Any, observer: Observer, recorder: BodyRecorder | None) -> None:
    # The SDK and its HTTP library also close a response, at the end of the body and before our generator gets there.
    # They do so while an item, or the body, is being read; the caller does not.
    if is_pulling(observer) or observer.done or (recorder is not None and recorder.pulling):
        return
    try:
        body = None if recorder is None else recorder.read()
        ending = None if recorder is not None and recorder.complete else "closed_early"
        if body is None:
            observer.stream_ended(ending)
        else:
            finish_with_body(body, observer, ending)
    except Exception as exc:
        guard.report("finishing a closed response", exc)
