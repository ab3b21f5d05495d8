"""Read a JSON array one element at a time; the standard library's decoder needs the whole text, which may be large."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from typing import IO, Any, BinaryIO, cast

_CHUNK = 65_536
_MAX_NUMBER_TAIL = 3
"""Characters that a chunk boundary may separate from a number and that are not a number by themselves, as in
``1|e+5``."""


def elements(file: IO[bytes]) -> Iterator[Any]:
    """Yield the elements of a JSON array in UTF-8. Blocks for reading; memory use depends on the largest element.

    Raises:
        ValueError: The text is not an array, or is damaged; the elements before the damage were yielded.
        RecursionError: An element is nested too deeply.
    """
    text = io.TextIOWrapper(cast("BinaryIO", file), encoding="utf-8-sig")
    try:
        yield from _elements(text)
    finally:
        text.detach()  # detaching leaves the file open


def _elements(text: io.TextIOWrapper) -> Iterator[Any]:
    buffer = _Buffer(text)
    if buffer.next_character() != "[":
        raise ValueError("not an array")
    buffer.position += 1
    separator = ","
    if buffer.next_character() == "]":
        separator = "]"
        buffer.position += 1
    while separator == ",":
        value, separator = buffer.next_element()
        yield value
    if separator != "]":
        raise ValueError("no comma between elements")
    if buffer.next_character():
        raise ValueError("text after the array")


class _Buffer:
    """The part of a file that was read and is not decoded yet: ``held`` from ``position`` on."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._decode = json.JSONDecoder().raw_decode
        self.held, self.position = "", 0

    def read_more(self) -> bool:
        """Read a chunk, or as much as is buffered, so that a large element is decoded few times. False at the end."""
        self.held, self.position = self.held[self.position :], 0
        chunk = self._text.read(max(_CHUNK, len(self.held)))
        self.held += chunk
        return bool(chunk)

    def next_character(self) -> str:
        """Skip whitespace and return the character that follows; an empty string at the end."""
        while True:
            self.position = WHITESPACE.match(self.held, self.position).end()
            if self.position < len(self.held):
                return self.held[self.position]
            if not self.read_more():
                return ""

    def next_element(self) -> tuple[Any, str]:
        """Decode an element; returns it with the character that follows, which should be a comma or a bracket."""
        self.next_character()
        while True:
            with contextlib.suppress(ValueError):  # the element may continue in the next chunk
                value, end = self._decode(self.held, self.position)
                end = WHITESPACE.match(self.held, end).end()
                separator = self.held[end : end + 1]
                if separator in (",", "]") or len(self.held) - end > _MAX_NUMBER_TAIL:
                    self.position = end + 1
                    return value, separator
            if not self.read_more():
                raise ValueError("no end of the array")
