"""Read response bodies that the SDK's parser does not read for us.

The body of a raw response (``with_raw_response``) is in memory when the call returns. It is read as plain JSON, at a
tenth of the cost of the SDK's parser, which the caller may never use. Of a streaming response
(``with_streaming_response``) or a raw stream, the bytes that the caller reads as lines, text or bytes are kept, so that
the usage in them is found. How far the caller read determines how the call ended.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from jiter import from_json

from rlm_cachetrack._process import guard

from .protocols import Observer, is_pulling

_LARGE_BODY_BYTES = 1 << 14
_MAX_KEPT_BYTES = 16 << 20
_DATA = re.compile(
    rb'\s*{\s*(?:"\w+"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,\s*)*"data"\s*:\s*\['
)  # a key of the outermost object


def read_whole(raw: Any, observer: Observer) -> None:
    """Finish a call with a raw response whose body is in memory.

    The SDK's parser runs only where needed to determine whether the caller gets an error: for a body that is not JSON,
    for the helpers that make objects of the caller's own types, and for clients that validate. The SDK keeps the parsed
    object, so the caller's own ``.parse()`` then costs nothing.
    """
    response = raw.http_response
    observer.http(response)
    document, is_read = None, False
    try:
        is_refined = callable(raw._options.post_parser)
        if raw._client._strict_response_validation:
            pass
        elif observer.api == "embeddings":  # its post-parser decodes the vectors, and rejects a response without any
            document = _without_vectors(response.content)
            is_read = not is_refined or (type(document) is dict and bool(document.get("data")))
        elif not is_refined:
            document = from_json(response.content)
            is_read = True
    except (AttributeError, ValueError):
        is_read = False
    if not is_read:
        try:
            document = raw.parse()
        except Exception as exc:
            observer.failed(exc)
            return
    observer.result(document)


def _without_vectors(body: bytes) -> Any:
    """Parse an embeddings response, leaving out the vectors if they are large.

    The vectors are between the first ``"data": [`` and the last ``]``. If other content was cut off, the rest is not
    JSON or has no usage; then the whole body is parsed.

    Raises:
        ValueError: The body is not JSON.
    """
    if len(body) > _LARGE_BODY_BYTES:
        found = _DATA.match(body)
        end = body.rfind(b"]")
        if found is not None and end - found.end() > _LARGE_BODY_BYTES // 2:
            try:
                rest = from_json(body[: found.end()] + b"0" + body[end:])
            except ValueError:
                rest = {}
            if type(rest.get("usage")) is dict and "model" in rest:
                return rest
    return from_json(body)


class BodyRecorder:
    """Keeps the bytes of a response that the caller reads without the SDK's parser.

    Args:
        response: The HTTP response.
        observer: Observes the call.

    Attributes:
        pulling: Whether the response is being read at this moment.
        complete: Whether the response was read to its end.
        at_end: Called when the caller has read the whole response as decoded bytes, text or lines.
    """

    def __init__(self, response: Any, observer: Observer) -> None:
        self.pulling = False
        self.complete = False
        self.at_end: Callable[[], None] | None = None
        self._response = response
        self._observer = observer
        self._pieces: list[bytes] | None = []
        self._size = 0
        self._kept_to_end = False
        self._replaced: list[tuple[str, Any, Any]] = []

    def start(self) -> None:
        """Wrap the four iterators that all reads of a response use."""
        attributes = vars(self._response)
        for name, observed in (
            ("iter_raw", self._iter_raw),
            ("aiter_raw", self._aiter_raw),
            ("iter_bytes", self._iter_bytes),
            ("aiter_bytes", self._aiter_bytes),
        ):
            wrapper = functools.partial(observed, getattr(self._response, name))
            self._replaced.append((name, wrapper, attributes.get(name)))
            attributes[name] = wrapper

    def drop(self) -> None:
        """Stop keeping bytes, because the SDK reads the body."""
        self._pieces = None
        attributes = vars(self._response)
        while self._replaced:
            name, wrapper, original = self._replaced.pop()
            if attributes.get(name) is not wrapper:
                continue  # wrapped again by other code
            if original is None:
                del attributes[name]
            else:
                attributes[name] = original

    def read(self) -> bytes | None:
        """Return the bytes read so far; None if there are none."""
        content: bytes | None = getattr(self._response, "_content", None)
        if content is not None:
            return content
        kept = b"".join(self._pieces or ())
        return kept if kept or (self._kept_to_end and self._pieces is not None) else None

    # -- undecoded bytes: the progress of the read ----------------------------------------------------------------

    def _iter_raw(self, original: Callable[..., Iterator[bytes]], *args: Any, **kwargs: Any) -> Iterator[bytes]:
        with _Reading(self, self._response, self._observer):
            for piece in original(*args, **kwargs):
                self.pulling = False
                yield piece
                self.pulling = True

    async def _aiter_raw(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        with _Reading(self, self._response, self._observer):
            async with aclosing(original(*args, **kwargs)) as pieces:
                async for piece in pieces:
                    self.pulling = False
                    yield piece
                    self.pulling = True

    # -- decoded bytes: the source of text and lines -----------------------------------------------------------

    def _iter_bytes(self, original: Callable[..., Iterator[bytes]], *args: Any, **kwargs: Any) -> Iterator[bytes]:
        for piece in original(*args, **kwargs):
            self._keep(piece)
            yield piece
        self._decoded_to_end()

    async def _aiter_bytes(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        async with aclosing(original(*args, **kwargs)) as pieces:
            async for piece in pieces:
                self._keep(piece)
                yield piece
        self._decoded_to_end()

    def _keep(self, piece: bytes) -> None:
        if self._pieces is not None:
            self._size += len(piece)
            if self._size > _MAX_KEPT_BYTES:
                self._pieces = None
            else:
                self._pieces.append(piece)

    def _decoded_to_end(self) -> None:
        self._kept_to_end = self.complete
        if self.at_end is not None and self.complete:
            self.at_end()


class _Reading:
    """Observe how the undecoded body is read: from its first byte to its end, an error, or an early close."""

    def __init__(self, recorder: BodyRecorder, response: Any, observer: Observer) -> None:
        self._recorder = recorder
        self._response = response
        self._observer = observer
        self._is_refused = False

    def __enter__(self) -> None:
        # A body that was consumed, or whose response is closed, cannot be read again; this is not a failure of the
        # call.
        self._is_refused = bool(self._response.is_stream_consumed or self._response.is_closed)
        self._recorder.pulling = not self._is_refused

    def __exit__(self, _: object, exc: BaseException | None, traceback: object) -> None:
        self._recorder.pulling = False
        if exc is None:
            self._recorder.complete = True
        elif not isinstance(exc, GeneratorExit) and not self._is_refused and not is_pulling(self._observer):
            try:  # while the SDK reads, its own error is recorded instead
                self._observer.failed(exc)
            except Exception as internal:
                guard.report("recording a body that broke", internal)


def finish_with_body(body: bytes, observer: Observer, ending: str | None) -> None:
    """Finish a call whose body was read without the SDK's parser, if it is JSON or server-sent events.

    Args:
        body: The bytes that the caller read.
        observer: Observes the call.
        ending: How the reading ended, as for ``stream_ended``.
    """
    try:
        document = json.loads(body)
    except ValueError:
        events = list(_events_in(body))
        if ending is None and not events and not observer.stream:  # a web page, or other content that is not a response
            observer.result(body.decode("utf-8", "replace"))
            return
        observer.stream = False  # the time of the first token is not known
        for event in events:
            observer.chunk(event)
        observer.stream_ended(ending)
    else:
        observer.result(document)


def _events_in(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if line.startswith(b"data:"):
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
