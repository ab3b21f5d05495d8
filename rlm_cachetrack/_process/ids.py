"""Ids of calls and records: UUIDs of version 7 (RFC 9562).

They sort by time. A record keeps its id when it is retried, so it is stored once.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from uuid import UUID

# A separate generator: if a program seeds the global one, all of its processes would generate the same ids.
_random = random.Random()  # noqa: S311 - ids must be unique, not secret
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_VERSION_AND_VARIANT = 0x7000 << 64 | 1 << 63
_NUMBER_BITS = 62


def new_id() -> str:
    """Return a new ``interaction_id``: the text of a UUIDv7 of the current time."""
    return str(uuid7(time.time_ns()))


def uuid7(unix_ns: int, number: int | None = None) -> UUID:
    """Return a UUIDv7.

    The 12 bits between the millisecond and the number are always 0, which a columnstore compresses.

    Args:
        unix_ns: Time in nanoseconds since 1970; its milliseconds become the first 48 bits.
        number: The 62 bits that distinguish ids of the same millisecond; random if None.
    """
    if number is None:
        number = _random.getrandbits(_NUMBER_BITS)
    milliseconds = min(max(unix_ns // 1_000_000, 0), (1 << 48) - 1)  # a clock may be wrong
    return UUID(int=milliseconds << 80 | _VERSION_AND_VARIANT | number & (1 << _NUMBER_BITS) - 1)


def number_of(identity: str) -> int:
    """Derive a number for :func:`uuid7` from a text. Equal texts give equal numbers, so the object is stored once."""
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") >> 64 - _NUMBER_BITS


def is_named(value: UUID, identity: str) -> bool:
    """Return True if :func:`uuid7` made an id with the number that :func:`number_of` derives from a text."""
    return value.int & (1 << _NUMBER_BITS) - 1 == number_of(identity)
