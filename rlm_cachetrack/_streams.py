"""Watches streams and raw responses without standing between them and the caller.

The SDK's ``Stream`` draws its items from ``_iterator``; that generator is wrapped in place, so the object the caller
gets is the very one the SDK made: its type, ``response``, ``close()`` and the ``.stream()`` helpers are untouched. The
ways a stream can end are three: its generator ends, its HTTP response is closed, or it is collected.
"""

from __future__ import annotations

import atexit
import json
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

from . import _guard
from ._calls import Observer

__all__ = ["watch_raw", "watch_stream"]

_OTHER_SHAPES = (AttributeError, KeyError, TypeError, ValueError)

# What is watched and alive. `weakref.finalize` would do the same for five times the price.
_watched: dict[weakref.ref[Any], Observer] = {}


def _watch_for_collection(watched: Any, call: Observer) -> None:
    _watched[weakref.ref(watched, _collected)] = call


def _collected(reference: weakref.ref[Any]) -> None:
    call = _watched.pop(reference, None)
    if call is not None and not call.done:
        _end(call, "abandoned")


@atexit.register
def _all_collected() -> None:
    """The interpreter ends: no stream that is still open is read further. Runs before the runtime's last flush."""
    for reference in list(_watched):
        _collected(reference)


def watch_stream(stream: Any, call: Observer) -> None:
    """Observe an SDK ``Stream`` or ``AsyncStream`` from now to its end."""
    iterator = stream._iterator
    response = getattr(stream, "response", None)
    call.http(response)
    stream._iterator = _async_items(iterator, call) if hasattr(iterator, "__anext__") else _items(iterator, call)
    _on_close(response, call, deferred=False)
    _watch_for_collection(stream, call)


def watch_raw(raw: Any, call: Observer, *, deferred: bool) -> None:
    """Observe a raw response.

    Args:
        raw: What ``with_raw_response`` or ``with_streaming_response`` gave.
        call: The call.
        deferred: Whether the body is not read yet (``with_streaming_response``): then the record is made when the
            caller parses it, or closes the response.
    """
    response = raw.http_response
    call.http(response)
    parse = raw.parse
    if not deferred and not call.stream:
        # The body is here. The SDK keeps what it parsed, so the caller's own `.parse()` costs nothing afterwards, and
        # what it raises now it raises again then.
        try:
            call.result(parse())
        except Exception as exc:
            call.failed(exc)
        return

    def observed_parse(*args: Any, **kwargs: Any) -> Any:
        call.pulling = True  # reading the body to its end closes the response; that is no early close
        try:
            parsed = parse(*args, **kwargs)
            if hasattr(parsed, "__await__"):
                return _observe_later(parsed, call)
        except BaseException as exc:
            _fail(call, exc)
            raise
        finally:
            call.pulling = False
        _observe(parsed, call)
        return parsed

    raw.parse = observed_parse
    _on_close(response, call, deferred=deferred)
    _watch_for_collection(raw, call)


async def _observe_later(parsed: Any, call: Observer) -> Any:
    call.pulling = True
    try:
        result = await parsed
    except BaseException as exc:
        _fail(call, exc)
        raise
    finally:
        call.pulling = False
    _observe(result, call)
    return result


def _observe(parsed: Any, call: Observer) -> None:
    try:
        iterator = getattr(parsed, "_iterator", None)
        if iterator is not None:
            if _code_of(iterator) not in _OURS:  # the SDK keeps what it parsed, and gives it again
                watch_stream(parsed, call)
        else:
            call.result(parsed)
    except Exception as exc:
        _guard.report("watching a raw response", exc)


def _items(iterator: Iterator[Any], call: Observer) -> Iterator[Any]:
    see, hide, length = call.chunk, call.hide_usage, call.length
    call.pulling = True
    try:
        for item in iterator:
            if length is not None:
                # Nearly every chunk of a chat is one more piece of text. To call a function for each would cost as much
                # again, so it is read here; what is not just that goes the long way.
                text = None
                try:
                    fields = item.__dict__
                    if fields["usage"] is None:
                        (choice,) = fields["choices"]
                        parts = choice.__dict__
                        if parts["finish_reason"] is None and (text := parts["delta"].__dict__["content"]):
                            length += len(text)
                            if hide:
                                item.__pydantic_fields_set__.discard("usage")
                except _OTHER_SHAPES:
                    text = None
                if text:
                    call.length = length
                    call.pulling = False
                    yield item
                    call.pulling = True
                    continue
            try:
                hidden = see(item)
            except Exception as exc:
                hidden = False
                _guard.report("reading a chunk", exc)
            length = call.length
            if not hidden:
                call.pulling = False
                yield item
                call.pulling = True
    except GeneratorExit:
        _end(call, "closed_early")
        raise
    except BaseException as exc:
        _fail(call, exc)
        raise
    _end(call, None)


async def _async_items(iterator: AsyncIterator[Any], call: Observer) -> AsyncIterator[Any]:
    see, hide, length = call.chunk, call.hide_usage, call.length
    call.pulling = True
    try:
        async for item in iterator:
            if length is not None:
                # Nearly every chunk of a chat is one more piece of text. To call a function for each would cost as much
                # again, so it is read here; what is not just that goes the long way.
                text = None
                try:
                    fields = item.__dict__
                    if fields["usage"] is None:
                        (choice,) = fields["choices"]
                        parts = choice.__dict__
                        if parts["finish_reason"] is None and (text := parts["delta"].__dict__["content"]):
                            length += len(text)
                            if hide:
                                item.__pydantic_fields_set__.discard("usage")
                except _OTHER_SHAPES:
                    text = None
                if text:
                    call.length = length
                    call.pulling = False
                    yield item
                    call.pulling = True
                    continue
            try:
                hidden = see(item)
            except Exception as exc:
                hidden = False
                _guard.report("reading a chunk", exc)
            length = call.length
            if not hidden:
                call.pulling = False
                yield item
                call.pulling = True
    except GeneratorExit:
        _end(call, "closed_early")
        close = getattr(iterator, "aclose", None)
        if close is not None:  # without us it would be the SDK's own generator that is closed here
            await close()
        raise
    except BaseException as exc:
        _fail(call, exc)
        raise
    _end(call, None)


def _code_of(iterator: Any) -> Any:
    return getattr(iterator, "gi_code", None) or getattr(iterator, "ag_code", None)


_OURS = (_items.__code__, _async_items.__code__)


def _on_close(response: Any, call: Observer, *, deferred: bool) -> None:
    """Finish the call when its HTTP response is closed early, whoever closes it.

    The SDK and its HTTP library close it too, at the end of the body and before our generator sees that end. Such a
    close happens while an item is being pulled; one from the caller's hands does not.
    """
    if response is None:
        return

    def closed(was_closed: bool) -> None:
        if call.pulling or call.done:
            return
        try:
            if deferred and not was_closed and response.is_stream_consumed:
                return  # the body was read to its end without the SDK's parser; it is there at the next close
            if deferred and hasattr(response, "_content"):
                _read_by_the_caller(response, call)
            else:
                call.stream_ended(None if deferred and was_closed else "closed_early")
        except Exception as exc:
            _guard.report("finishing a closed response", exc)

    close, aclose = getattr(response, "close", None), getattr(response, "aclose", None)
    if close is not None:

        def observed_close() -> None:
            was_closed = bool(response.is_closed)
            try:
                close()
            finally:
                closed(was_closed)

        response.close = observed_close
    if aclose is not None:

        async def observed_aclose() -> None:
            was_closed = bool(response.is_closed)
            try:
                await aclose()
            finally:
                closed(was_closed)

        response.aclose = observed_aclose


def _read_by_the_caller(response: Any, call: Observer) -> None:
    """The caller has read the whole body without the SDK's parser: understand it as far as it is JSON or events."""
    try:
        body = response.json()
    except ValueError:
        call.stream = False  # nobody saw when the first token came
        for event in _events_in(response.content):
            call.chunk(event)
        call.stream_ended()
    else:
        call.result(body)


def _events_in(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if line.startswith(b"data:"):
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def _end(call: Observer, how: str | None) -> None:
    try:
        call.stream_ended(how)
    except Exception as exc:
        _guard.report("finishing a stream", exc)


def _fail(call: Observer, error: BaseException) -> None:
    try:
        call.failed(error)
    except Exception as exc:
        _guard.report("recording a failed stream", exc)
