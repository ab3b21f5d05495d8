"""Bodies that are read without the SDK's parser: by us of a raw response, by the caller of a streaming one.

The body of a raw response (``with_raw_response``) is in memory when the call returns. It is read as plain JSON, which
takes a tenth of what the SDK's parser takes; that is the caller's, who may never run it. Of a streaming response
(``with_streaming_response``), or a stream's, what the caller reads as lines, text or bytes is kept on its way, so that
the usage in it is found; how far the reading came tells how the call ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

try:
    from jiter import from_json as _from_json
except ImportError:  # openai before 1.40 had none
    from json import loads as _from_json

from rlm_cachetrack._process import guard as _guard

from .call import Observer, is_pulling

__all__ = ["Body", "read_whole", "understand"]

_MUCH = 1 << 14
_DATA = re.compile(rb'\s*{\s*(?:"\w+"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,\s*)*"data"\s*:\s*\[')  # in the outermost object


def read_whole(raw: Any, call: Observer) -> None:
    """Finish a call with a raw response whose body is in memory.

    The SDK's parser is run only where nothing else tells whether its caller gets an error: for what is no JSON, for
    the helpers that make objects of the caller's own types, and for clients that validate. It keeps what it parsed, so
    the caller's own ``.parse()`` costs nothing then.
    """
    response = raw.http_response
    call.http(response)
    document, read = None, False
    try:
        refined = callable(raw._options.post_parser)
        if raw._client._strict_response_validation:
            pass
        elif call.api == "embeddings":  # refined: it unpacks the vectors, and refuses an answer without any
            document = _embeddings(response.content)
            read = not refined or (type(document) is dict and bool(document.get("data")))
        elif not refined:
            document = _from_json(response.content)
            read = True
    except (AttributeError, ValueError):
        read = False
    if not read:
        try:
            document = raw.parse()
        except Exception as exc:
            call.failed(exc)
            return
    call.result(document)


def _embeddings(body: bytes) -> Any:
    """An answer with embeddings, of which the vectors are left out where they are many.

    They are what lies between the first ``"data": [`` and the last ``]``. Had that cut anything else off, what is left
    would be no JSON, or without usage; then all of it is read.

    Raises:
        ValueError: It is no JSON.
    """
    if len(body) > _MUCH:
        found = _DATA.match(body)
        end = body.rfind(b"]")
        if found is not None and end - found.end() > _MUCH // 2:
            try:
                rest = _from_json(body[: found.end()] + b"0" + body[end:])
            except ValueError:
                rest = {}
            if type(rest.get("usage")) is dict and "model" in rest:
                return rest
    return _from_json(body)


class Body:
    """What a caller reads of a response in its own way: kept so that its usage is found, and how far it came.

    Attributes:
        pulling: The response is being read from at this moment.
        complete: It was read to its end.
        at_end: What to do when the caller has read all of it, in words and pieces that are kept.
    """

    _MOST = 16 << 20

    def __init__(self) -> None:
        self.pulling = False
        self.complete = False
        self.at_end: Callable[[], None] | None = None
        self._pieces: list[bytes] | None = []
        self._size = 0
        self._all_kept = False
        self._replaced: list[tuple[dict[str, Any], str, Any, Any]] = []

    def watch(self, response: Any, call: Observer) -> None:
        """Stand where all reading of a response goes through, undecoded, and where lines and text are read from."""

        def consumed() -> bool:
            return bool(response.is_stream_consumed or response.is_closed)  # what is asked for twice is refused, then

        iter_raw, aiter_raw = response.iter_raw, response.aiter_raw
        iter_bytes, aiter_bytes = response.iter_bytes, response.aiter_bytes

        def observed_iter_raw(*args: Any, **kwargs: Any) -> Iterator[bytes]:
            if consumed():
                yield from iter_raw(*args, **kwargs)
            self.pulling = True
            try:
                for piece in iter_raw(*args, **kwargs):
                    self.pulling = False
                    yield piece
                    self.pulling = True
                self.complete = True
            except GeneratorExit:
                raise
            except BaseException as exc:
                self._failed(exc, call)
                raise
            finally:
                self.pulling = False

        async def observed_aiter_raw(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
            pieces = aiter_raw(*args, **kwargs)
            if consumed():
                async for piece in pieces:
                    yield piece
            self.pulling = True
            try:
                async for piece in pieces:
                    self.pulling = False
                    yield piece
                    self.pulling = True
                self.complete = True
            except GeneratorExit:
                await pieces.aclose()
                raise
            except BaseException as exc:
                self._failed(exc, call)
                raise
            finally:
                self.pulling = False

        def observed_iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:
            for piece in iter_bytes(*args, **kwargs):
                self._keep(piece)
                yield piece
            self._ended()

        async def observed_aiter_bytes(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
            pieces = aiter_bytes(*args, **kwargs)
            try:
                async for piece in pieces:
                    self._keep(piece)
                    yield piece
            except GeneratorExit:
                await pieces.aclose()
                raise
            self._ended()

        ways = vars(response)
        for name, ours in (
            ("iter_raw", observed_iter_raw),
            ("aiter_raw", observed_aiter_raw),
            ("iter_bytes", observed_iter_bytes),
            ("aiter_bytes", observed_aiter_bytes),
        ):
            self._replaced.append((ways, name, ours, ways.get(name)))
            ways[name] = ours

    def _failed(self, exc: BaseException, call: Observer) -> None:
        if is_pulling(call):
            return  # the SDK reads, and says it in its own words
        try:
            call.failed(exc)
        except Exception as internal:
            _guard.report("recording a body that broke", internal)

    def _ended(self) -> None:
        self._all_kept = self.complete
        if self.at_end is not None and self.complete:
            self.at_end()

    def _keep(self, piece: bytes) -> None:
        if self._pieces is not None:
            self._size += len(piece)
            if self._size > self._MOST:
                self._pieces = None
            else:
                self._pieces.append(piece)

    def drop(self) -> None:
        """Keep nothing, now and later: the SDK reads."""
        self._pieces = None
        while self._replaced:
            ways, name, ours, before = self._replaced.pop()
            if ways.get(name) is not ours:
                continue  # somebody stands before us
            if before is None:
                del ways[name]
            else:
                ways[name] = before

    def read(self, response: Any) -> bytes | None:
        """What was read, as far as it was; None where nothing was."""
        whole: bytes | None = getattr(response, "_content", None)
        if whole is not None:
            return whole
        kept = b"".join(self._pieces or ())
        return kept if kept or (self._all_kept and self._pieces is not None) else None


def understand(body: bytes, call: Observer, how: str | None) -> None:
    """Finish a call whose body was read without the SDK's parser, understood as far as it is JSON or events.

    Args:
        body: What was read.
        call: The call.
        how: How the reading ended, as for ``stream_ended``.
    """
    try:
        document = json.loads(body)
    except ValueError:
        events = list(_events_in(body))
        if how is None and not events and not call.stream:  # a page, or what else is no answer, in the place of one
            call.result(body.decode("utf-8", "replace"))
            return
        call.stream = False  # nobody saw when the first token came
        for event in events:
            call.chunk(event)
        call.stream_ended(how)
    else:
        call.result(document)


def _events_in(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if line.startswith(b"data:"):
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
