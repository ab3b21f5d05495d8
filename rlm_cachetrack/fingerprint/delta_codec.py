"""Fingerprints to the bytes of one column, and back.

A conversation sends all that it sent before and a little more, so a call is stored as its difference to an earlier call
of its run: so many segments from the beginning of that one, so many from its end, and what is new between. Every 64th
difference is followed by a whole one, so that a row that is gone takes few others along.

Layout (numbers are LEB128): a head of one byte (version in the upper three bits, then flags); ``response`` where
flagged; of a whole one the installation, the retention, the cache key and the segments; of a difference the last four
bytes of the earlier call's ``interaction_id``, the two counts, and the segments. A segment is a byte (kind and flags),
its size and its digest: 7 to 9 bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from .segments import DIGEST_BYTES, KINDS, Fingerprint, Segment

__all__ = ["Encoder", "decode_run"]

_VERSION = 1 << 5
_VERSION_MASK = 0b1110_0000
_DIFFERENCE, _RESPONSE, _EXPLICIT, _KEY, _RETENTION = 1, 2, 4, 8, 16
_NEW_MESSAGE, _IN_MESSAGE, _BREAKPOINT = 8, 4, 2
_RETENTIONS = (None, "in_memory", "24h")
_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}

_LONGEST_CHAIN = 64
_MOST_RUNS = 256
_MOST_BASES = 512
_RECENT = 4


class _Base(NamedTuple):
    """A call that others may be a difference to."""

    reference: bytes
    head: tuple[Any, ...]
    segments: list[bytes]
    depth: int


class _Run:
    """What was encoded of one run: by the hash of the whole chain, and the newest."""

    def __init__(self) -> None:
        self.by_chain: dict[int, _Base] = {}
        self.recent: list[_Base] = []


class Encoder:
    """Encodes the fingerprints of one process, in the order in which they are stored. Not safe for several threads."""

    def __init__(self) -> None:
        self._runs: OrderedDict[Any, _Run] = OrderedDict()

    def encode(self, run: Any, number: int, fingerprint: Fingerprint) -> bytes:
        """The bytes of one call's fingerprint.

        Args:
            run: What names the run; only calls of one run refer to each other.
            number: The call's number: its lower 32 bits are the last four bytes of its ``interaction_id``.
            fingerprint: What to encode.
        """
        segments = _segments_as_bytes(fingerprint.segments)
        head = (fingerprint.installation, fingerprint.cache_key, fingerprint.retention, fingerprint.explicit)
        reference = (number & 0xFFFF_FFFF).to_bytes(4, "big")
        known = self._run(run)
        chains = _chains(segments)
        base, prefix, suffix = _best(known, head, segments, chains)
        if base is not None and base.depth >= _LONGEST_CHAIN:
            base = None
        flags = _VERSION | (_RESPONSE if fingerprint.response else 0) | (_EXPLICIT if fingerprint.explicit else 0)
        response = fingerprint.response or b""
        depth = 0
        if base is not None:
            new = segments[prefix : len(segments) - suffix]
            row = b"".join(
                (
                    bytes((flags | _DIFFERENCE,)),
                    response,
                    base.reference,
                    _number(prefix),
                    _number(suffix),
                    _number(len(new)),
                    *new,
                )
            )
            depth = base.depth + 1
        whole = (
            bytes((flags | (_KEY if fingerprint.cache_key else 0) | (_RETENTION if fingerprint.retention else 0),)),
            response,
            fingerprint.installation,
            *((bytes((_RETENTIONS.index(fingerprint.retention),)),) if fingerprint.retention else ()),
            *((fingerprint.cache_key,) if fingerprint.cache_key else ()),
            _number(len(segments)),
            *segments,
        )
        if base is None or sum(map(len, whole)) <= len(row):
            row, depth = b"".join(whole), 0
        self._remember(known, _Base(reference, head, segments, depth), chains[-1] if chains else 0)
        return row

    def _run(self, run: Any) -> _Run:
        known = self._runs.get(run)
        if known is None:
            known = self._runs[run] = _Run()
            if len(self._runs) > _MOST_RUNS:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(run)
        return known

    @staticmethod
    def _remember(run: _Run, base: _Base, chain: int) -> None:
        run.by_chain.pop(chain, None)
        run.by_chain[chain] = base
        if len(run.by_chain) > _MOST_BASES:
            del run.by_chain[next(iter(run.by_chain))]
        run.recent.append(base)
        del run.recent[:-_RECENT]


def _chains(segments: Sequence[bytes]) -> list[int]:
    """A hash for each beginning of a chain; within one process."""
    chain, found = 0, []
    for segment in segments:
        chain = hash((chain, segment))
        found.append(chain)
    return found


def _best(
    run: _Run, head: tuple[Any, ...], segments: Sequence[bytes], chains: Sequence[int]
) -> tuple[_Base | None, int, int]:
    """The earlier call that this one shares most with; how many segments from the beginning, and from the end."""
    for length in range(len(segments), 0, -1):
        base = run.by_chain.get(chains[length - 1])
        if base is not None and base.head == head and len(base.segments) == length:
            return base, length, 0
    best: tuple[_Base | None, int, int] = (None, 0, 0)
    for base in reversed(run.recent):
        if base.head == head:
            prefix = _shared(base.segments, segments)
            left = min(len(base.segments), len(segments)) - prefix
            suffix = _shared(base.segments[::-1][:left], segments[::-1][:left])
            if prefix + suffix > best[1] + best[2]:
                best = base, prefix, suffix
    return best


def _shared(a: Sequence[bytes], b: Sequence[bytes]) -> int:
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count


def _segments_as_bytes(segments: Iterable[Segment]) -> list[bytes]:
    found, last = [], None
    for kind, message, size, digest, breakpoint_after in segments:
        flags = _BREAKPOINT if breakpoint_after else 0
        if message is not None:
            flags |= _IN_MESSAGE | (_NEW_MESSAGE if message != last else 0)
            last = message
        found.append(bytes((_KIND_NUMBERS[kind] << 4 | flags,)) + _number(size) + digest)
    return found


def _number(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


# -- back --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    head: tuple[bytes, bytes | None, str | None, bool] | None
    response: bytes | None
    base: bytes | None
    prefix: int
    suffix: int
    new: list[bytes]
    whole: list[bytes] | None = None


def decode_run(rows: Iterable[tuple[UUID | str, bytes | None]]) -> dict[str, Fingerprint]:
    """The fingerprints of the calls of one run.

    Args:
        rows: ``interaction_id`` and the column's bytes, of every call of the run, in any order.

    Returns:
        By ``interaction_id`` as text. A call without one, one whose earlier call is gone, and one that a newer release
        wrote are not in it.
    """
    parsed: dict[str, _Row] = {}
    by_reference: dict[bytes, _Row] = {}
    for interaction_id, data in rows:
        if not data:
            continue
        identity = UUID(str(interaction_id))
        try:
            row = _parse(bytes(data))
        except (IndexError, ValueError):
            continue
        if row is not None:
            parsed[str(identity)] = by_reference[identity.bytes[-4:]] = row
    made: dict[tuple[bytes, int], Segment] = {}
    return {
        identity: Fingerprint(
            tuple(_segments(row.whole or [], made)), row.head[1], row.head[2], row.head[3], row.response, row.head[0]
        )
        for identity, row in parsed.items()
        if _complete(row, by_reference) and row.head is not None
    }


def _complete(row: _Row, rows: Mapping[bytes, _Row]) -> bool:
    """Follow differences back to a whole one, and fill in what they share."""
    chain = []
    while row.whole is None:
        chain.append(row)
        base = rows.get(row.base or b"")
        if base is None or len(chain) > 2 * _LONGEST_CHAIN:
            return False
        row = base
    while chain:
        base, row = row, chain.pop()
        known = base.whole or []
        if row.prefix + row.suffix > len(known):
            return False
        row.whole = known[: row.prefix] + row.new + known[len(known) - row.suffix :]
        row.head = base.head
    return True


def _parse(data: bytes) -> _Row | None:
    flags, place = data[0], 1
    if flags & _VERSION_MASK != _VERSION:
        return None
    response = None
    if flags & _RESPONSE:
        response, place = _take(data, place, DIGEST_BYTES)
    if flags & _DIFFERENCE:
        base, place = _take(data, place, 4)
        prefix, place = _read(data, place)
        suffix, place = _read(data, place)
        new = _read_segments(data, place)
        return _Row(None, response, base, prefix, suffix, new)
    installation, place = _take(data, place, 2)
    retention, key = None, None
    if flags & _RETENTION:
        retention, place = _RETENTIONS[data[place]], place + 1
    if flags & _KEY:
        key, place = _take(data, place, 4)
    segments = _read_segments(data, place)
    return _Row((installation, key, retention, bool(flags & _EXPLICIT)), response, None, 0, 0, segments, segments)


def _read_segments(data: bytes, place: int) -> list[bytes]:
    count, place = _read(data, place)
    found = []
    for _ in range(count):
        begin = place
        _, place = _read(data, place + 1)
        _, place = _take(data, place, DIGEST_BYTES)
        found.append(data[begin:place])
    if place != len(data):
        raise ValueError("more bytes than segments")
    return found


def _take(data: bytes, place: int, size: int) -> tuple[bytes, int]:
    if place + size > len(data):
        raise ValueError("cut short")
    return data[place : place + size], place + size


def _read(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _segments(segments: Iterable[bytes], made: dict[tuple[bytes, int], Segment]) -> Iterable[Segment]:
    """The segments of one call; ``made`` are those of others, which are mostly the same."""
    message = -1
    for data in segments:
        flags = data[0]
        if flags & _NEW_MESSAGE:
            message += 1
        segment = made.get((data, message))
        if segment is None:
            size, _ = _read(data, 1)
            segment = made[data, message] = Segment(
                KINDS[flags >> 4],
                message if flags & _IN_MESSAGE else None,
                size,
                data[-DIGEST_BYTES:],
                bool(flags & _BREAKPOINT),
            )
        yield segment
