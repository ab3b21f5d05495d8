"""Watches streams and raw responses without standing between them and the caller.

The SDK's ``Stream`` draws its items from ``_iterator``; that generator is wrapped in place, so the object the caller
gets is the very one the SDK made: its type, ``response``, ``close()`` and the ``.stream()`` helpers are untouched. The
ways a stream can end are three: its generator ends, its HTTP response is closed, or it is collected.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from rlm_cachetrack._process import guard as _guard

from .bodies import Body, read_whole, understand
from .call import Observer, is_pulling

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
    items = _async_items(iterator, call) if hasattr(iterator, "__anext__") else _items(iterator, call)
    call.items = weakref.ref(items)  # it holds the call, and is to go when the caller lets the stream go
    stream._iterator = items
    _on_close(response, call, None)
    _watch_for_collection(stream, call)


def watch_raw(raw: Any, call: Observer, *, deferred: bool) -> None:
    """Observe a raw response.

    Args:
        raw: What ``with_raw_response`` or ``with_streaming_response`` gave.
        call: The call.
        deferred: Whether the body is not read yet (``with_streaming_response``): then, as with a stream's, the record
            is made when the caller parses it, or closes the response.
    """
    if not deferred and not call.stream:
        read_whole(raw, call)
        return

    response = raw.http_response
    parse = raw.parse
    call.http(response)
    body = Body()

    this = weakref.ref(raw)

    def observed_parse(*args: Any, **kwargs: Any) -> Any:
        body.drop()  # the SDK reads it
        call.pulling = True  # reading the body to its end closes the response; that is no early close
        try:
            parsed = parse(*args, **kwargs)
            if hasattr(parsed, "__await__"):
                return _observe_later(parsed, call, this)
        except BaseException as exc:
            _fail(call, exc)
            raise
        finally:
            call.pulling = False
        _observe(parsed, call, this)
        return parsed

    raw.parse = observed_parse
    body.watch(response, call)
    closed = _on_close(response, call, body)
    if not deferred:
        body.at_end = closed  # nobody closes it after that
    _watch_for_collection(raw, call)


async def _observe_later(parsed: Any, call: Observer, raw: weakref.ref[Any]) -> Any:
    call.pulling = True
    try:
        result = await parsed
    except BaseException as exc:
        _fail(call, exc)
        raise
    finally:
        call.pulling = False
    _observe(result, call, raw)
    return result


def _observe(parsed: Any, call: Observer, raw: weakref.ref[Any]) -> None:
    try:
        iterator = getattr(parsed, "_iterator", None)
        if iterator is not None:
            if _code_of(iterator) not in _OURS:  # the SDK keeps what it parsed, and gives it again
                watch_stream(parsed, call)
                _watched.pop(raw, None)  # `create(stream=True).parse()`: nobody needs it any more
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
                        delta = parts["delta"].__dict__
                        if (
                            parts["finish_reason"] is None
                            and delta["tool_calls"] is None
                            and (text := delta["content"])
                        ):
                            length += len(text)
                            if hide:
                                item.__pydantic_fields_set__.discard("usage")
                except _OTHER_SHAPES:
                    text = None
                if text:
                    call.length = length
                    yield item
                    continue
            try:
                hidden = see(item)
            except Exception as exc:
                hidden = False
                _guard.report("reading a chunk", exc)
            length = call.length
            if not hidden:
                yield item
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
                        delta = parts["delta"].__dict__
                        if (
                            parts["finish_reason"] is None
                            and delta["tool_calls"] is None
                            and (text := delta["content"])
                        ):
                            length += len(text)
                            if hide:
                                item.__pydantic_fields_set__.discard("usage")
                except _OTHER_SHAPES:
                    text = None
                if text:
                    call.length = length
                    yield item
                    continue
            try:
                hidden = see(item)
            except Exception as exc:
                hidden = False
                _guard.report("reading a chunk", exc)
            length = call.length
            if not hidden:
                yield item
    except GeneratorExit:
        collected = call.done  # the stream was, so the SDK's own generator is, too, and its event loop closes both
        _end(call, "closed_early")
        close = getattr(iterator, "aclose", None)
        # Without us it would be the SDK's own generator that is closed here. An event loop that ends closes all of them
        # at once, and to close one that is being closed would only be one more message in the log.
        if close is not None and not collected and not getattr(iterator, "ag_running", False):
            await close()
        raise
    except BaseException as exc:
        _fail(call, exc)
        raise
    _end(call, None)


def _code_of(iterator: Any) -> Any:
    return getattr(iterator, "gi_code", None) or getattr(iterator, "ag_code", None)


_OURS = (_items.__code__, _async_items.__code__)


def _on_close(response: Any, call: Observer, body: Body | None) -> Callable[[], None] | None:
    """Finish the call when its HTTP response is closed early, whoever closes it. Returns what does it.

    The SDK and its HTTP library close it too, at the end of the body and before our generator sees that end. Such a
    close happens while an item is being pulled; one from the caller's hands does not.
    """
    if response is None:
        return None

    def closed() -> None:
        if is_pulling(call) or call.done or (body is not None and body.pulling):
            return  # a body that the caller reads to its end is looked at when the caller closes it
        try:
            how = None if body is not None and body.complete else "closed_early"
            read = None if body is None else body.read(response)
            if read is None:
                call.stream_ended(how)
            else:
                understand(read, call, how)
        except Exception as exc:
            _guard.report("finishing a closed response", exc)

    close, aclose = getattr(response, "close", None), getattr(response, "aclose", None)
    if close is not None:

        def observed_close() -> None:
            try:
                close()
            finally:
                closed()

        response.close = observed_close
    if aclose is not None:

        async def observed_aclose() -> None:
            try:
                await aclose()
            finally:
                closed()

        response.aclose = observed_aclose
    return closed


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
