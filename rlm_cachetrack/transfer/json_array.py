"""A JSON array read an element at a time: the standard library's decoder wants the whole, which may be gigabytes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, cast

__all__ = ["elements"]

_CHUNK = 65_536
_BLANK = " \t\r\n"
_MAY_GO_ON = 3
"""Of a number that is cut off, such as ``1e+``, this much is taken for what follows the number."""


def elements(file: IO[bytes]) -> Iterator[Any]:
    """The elements of an array in UTF-8, decoded; memory grows with the largest of them only. Blocks for reading.

    Raises:
        ValueError: It is no array, or ends in the midst; elements before that place were given.
        RecursionError: An element is nested too deeply.
    """
    text = _Text(file)
    try:
        decode = json.JSONDecoder().raw_decode
        if text.next() != "[":
            raise ValueError("no array")
        separator = "" if text.peek() == "]" else ","
        while separator == ",":
            text.peek()
            while True:
                try:
                    value, end = decode(text.held, text.place)
                    follows = text.held[end : end + _MAY_GO_ON + 1].lstrip(_BLANK)
                    if len(text.held) > end + _MAY_GO_ON or follows[:1] in (",", "]"):
                        break
                except ValueError:
                    pass
                if not text.more():
                    raise ValueError("no end, or no comma")
            text.place = end
            yield value
            separator = text.next()
            if separator not in (",", "]"):
                raise ValueError("no comma")
        if (separator or text.next()) != "]" or text.peek():
            raise ValueError("something after it")
    finally:
        text.let_go()


class _Text:
    """What was read of a file and is not used yet: ``held`` from ``place`` on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = io.TextIOWrapper(cast("BinaryIO", file), encoding="utf-8-sig")
        self.held, self.place = "", 0

    def let_go(self) -> None:
        """Leave the file open."""
        self._file.detach()

    def more(self) -> bool:
        """Read on; False at the end. As much as is held, so that a large element is tried few times."""
        self.held, self.place = self.held[self.place :], 0
        chunk = self._file.read(max(_CHUNK, len(self.held)))
        self.held += chunk
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is no blank, without using it; empty at the end."""
        while True:
            while self.place < len(self.held) and self.held[self.place] in _BLANK:
                self.place += 1
            if self.place < len(self.held):
                return self.held[self.place]
            if not self.more():
                return ""

    def next(self) -> str:
        """The same, used."""
        found = self.peek()
        self.place += len(found)
        return found
