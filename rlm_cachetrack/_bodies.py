"""Bodies that a caller reads without the SDK's parser: ``with_streaming_response`` and then lines, text or bytes.

What is read is kept on its way, so that the usage in it is found; how far the reading came tells how the call ended.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from . import _guard
from ._calls import Observer, is_pulling

__all__ = ["Body", "understand"]


class Body:
    """What a caller reads of a response in its own way: kept so that its usage is found, and how far it came.

    Attributes:
        pulling: The response is being read from at this moment.
        complete: It was read to its end.
    """

    _MOST = 16 << 20

    def __init__(self) -> None:
        self.pulling = False
        self.complete = False
        self._pieces: list[bytes] | None = []
        self._size = 0

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

        async def observed_aiter_bytes(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
            pieces = aiter_bytes(*args, **kwargs)
            try:
                async for piece in pieces:
                    self._keep(piece)
                    yield piece
            except GeneratorExit:
                await pieces.aclose()
                raise

        response.iter_raw, response.aiter_raw = observed_iter_raw, observed_aiter_raw
        response.iter_bytes, response.aiter_bytes = observed_iter_bytes, observed_aiter_bytes

    def _failed(self, exc: BaseException, call: Observer) -> None:
        if is_pulling(call):
            return  # the SDK reads, and says it in its own words
        try:
            call.failed(exc)
        except Exception as internal:
            _guard.report("recording a body that broke", internal)

    def _keep(self, piece: bytes) -> None:
        if self._pieces is not None:
            self._size += len(piece)
            if self._size > self._MOST:
                self._pieces = None
            else:
                self._pieces.append(piece)

    def drop(self) -> None:
        """Keep nothing, now and later."""
        self._pieces = None

    def read(self, response: Any) -> bytes | None:
        """What was read, as far as it was; None where nothing was."""
        whole: bytes | None = getattr(response, "_content", None)
        return whole if whole is not None else b"".join(self._pieces or ()) or None


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
        call.stream = False  # nobody saw when the first token came
        for event in _events_in(body):
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
