"""One segment of a prompt, and its bytes in the fingerprint column.

A segment is a byte (kind and flags), its size as a LEB128 number, and its digest: 7 to 9 bytes. The bytes do not
contain the index of the message, only whether a new message begins, so a message has the same bytes in every prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

KINDS = (
    "other",
    "tool_definition",
    "response_format",
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "previous_response",
    "conversation",
    "prompt_template",
    "media",
    "compaction",
)
"""The kinds of segments. A kind is stored as its index here, so new kinds are appended; there is room for 16."""

DIGEST_BYTES = 5

NEW_MESSAGE, IN_MESSAGE, BREAKPOINT, CONTINUES = 8, 4, 2, 1
"""The flags of a segment: it begins a message, belongs to one, ends a cached prefix, continues the text before it."""

_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


class Segment(NamedTuple):
    """One part of a prompt.

    Attributes:
        kind: One of :data:`KINDS`.
        message: The index of its message, from 0; None if it belongs to none.
        size: Characters, as sent; 0 if the server has the text (``previous_response``, ``conversation``) or if the
            number of tokens does not depend on the characters (``media``, ``compaction``).
        digest: Five bytes; equal for equal segments of one installation.
        breakpoint: The request sets a cache breakpoint after this segment.
        continues: The segment is a further piece of the text of the previous segment.
    """

    kind: str
    message: int | None
    size: int
    digest: bytes
    breakpoint: bool = False
    continues: bool = False


# Cached because a conversation sends its segments again with every call. The cache also returns the same object for
# equal segments, and a bytes object computes its hash once, which the encoder needs.
@lru_cache(maxsize=8192)
def encode_segment(kind: str, flags: int, size: int, digest: bytes) -> bytes:
    """Return the bytes of a segment."""
    return bytes((_KIND_NUMBERS[kind] << 4 | flags,)) + encode_number(size) + digest


def with_breakpoint(segment: bytes) -> bytes:
    """Return the bytes of the same segment with the flag that the request sets a cache breakpoint after it."""
    return bytes((segment[0] | BREAKPOINT,)) + segment[1:]


def decode_segments(segments: Iterable[bytes], known: dict[tuple[bytes, int], Segment]) -> Iterable[Segment]:
    """Yield the segments of a call, reusing equal segments of other calls of the run from ``known``."""
    message = -1
    for data in segments:
        flags = data[0]
        if flags & NEW_MESSAGE:
            message += 1
        segment = known.get((data, message))
        if segment is None:
            size, _ = decode_number(data, 1)
            segment = known[data, message] = Segment(
                KINDS[flags >> 4],
                message if flags & IN_MESSAGE else None,
                size,
                data[-DIGEST_BYTES:],
                bool(flags & BREAKPOINT),
                bool(flags & CONTINUES),
            )
        yield segment


def encode_number(value: int) -> bytes:
    """Return a number that is not negative as LEB128."""
    if value < 128:
        return bytes((value,))
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def decode_number(data: bytes, position: int) -> tuple[int, int]:
    """Return the LEB128 number at a position, and the position after it.

    Raises:
        IndexError: The data ends within the number.
    """
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
