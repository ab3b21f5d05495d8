"""Encode fingerprints as the bytes of one column, and decode them.

Each call of a conversation repeats the previous prompt and adds to it. A call is therefore stored as the difference to
an earlier call of its run, the base: the number of segments that it shares with the base's start, the number that it
shares with its end, and the new segments in between. After 64 differences in a row a complete fingerprint is stored, so
that a deleted row affects few others.

Layout (numbers are LEB128): one byte with the version in the upper three bits, then flags; ``response`` if flagged; for
a complete fingerprint the installation, the cache key and the segments; for a difference the last four
bytes of the base's ``interaction_id``, the two counts, and the new segments. :mod:`.segment_codec` describes a segment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from .segment_codec import DIGEST_BYTES, Segment, decode_number, decode_segments, encode_number
from .segments import EncodedFingerprint, Fingerprint

_VERSION = 1 << 5
_VERSION_MASK = 0b1110_0000
_IS_DIFFERENCE, _RESPONSE, _KEY = 1, 2, 4

_MAX_DIFFERENCES = 64
_MAX_RUNS = 256
_MAX_BASES = 512
_RECENT_BASES = 4


class _Base(NamedTuple):
    """A call that can be the base of later calls; it is ``depth`` differences away from a complete fingerprint."""

    reference: bytes
    head: tuple[Any, ...]
    segments: list[bytes]
    depth: int


class _Run:
    """The bases of one run, indexed by the hash of all their segments; and the newest bases."""

    def __init__(self) -> None:
        self.by_hash: dict[int, _Base] = {}
        self.recent: list[_Base] = []

    def remember(self, base: _Base, segments_hash: int) -> None:
        """Add a base, and drop the oldest ones."""
        self.by_hash.pop(segments_hash, None)
        self.by_hash[segments_hash] = base
        if len(self.by_hash) > _MAX_BASES:
            del self.by_hash[next(iter(self.by_hash))]
        self.recent.append(base)
        del self.recent[:-_RECENT_BASES]


class Encoder:
    """Encodes the fingerprints of one process, in the order in which they are stored. Not thread-safe."""

    def __init__(self) -> None:
        self._runs: OrderedDict[Any, _Run] = OrderedDict()

    def encode(self, run: Any, number: int, fingerprint: EncodedFingerprint) -> bytes:
        """Return the column's bytes for one call.

        Args:
            run: A hashable value that identifies the run; only calls of the same run refer to each other.
            number: The call's number: its lower 32 bits are the last four bytes of its ``interaction_id``.
            fingerprint: The call's fingerprint.
        """
        segments = fingerprint.encoded
        head = (fingerprint.installation, fingerprint.cache_key)
        known = self._run(run)
        hashes = _prefix_hashes(segments)
        base, prefix, suffix = _best_base(known, head, segments, hashes)
        row, depth = _complete_row(fingerprint, segments), 0
        if base is not None and base.depth < _MAX_DIFFERENCES:
            new = segments[prefix : len(segments) - suffix]
            difference = _difference_row(fingerprint, base, prefix, suffix, new)
            if len(difference) < len(row):
                row, depth = difference, base.depth + 1
        reference = (number & 0xFFFF_FFFF).to_bytes(4, "big")
        known.remember(_Base(reference, head, segments, depth), hashes[-1] if hashes else 0)
        return row

    def _run(self, run: Any) -> _Run:
        known = self._runs.get(run)
        if known is None:
            known = self._runs[run] = _Run()
            if len(self._runs) > _MAX_RUNS:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(run)
        return known


def _complete_row(fingerprint: EncodedFingerprint | Fingerprint, segments: Sequence[bytes]) -> bytes:
    key = fingerprint.cache_key
    flags = _flags(fingerprint) | (_KEY if key else 0)
    return b"".join(
        (
            bytes((flags,)),
            fingerprint.response or b"",
            fingerprint.installation,
            key or b"",
            encode_number(len(segments)),
            *segments,
        )
    )


def _difference_row(
    fingerprint: EncodedFingerprint, base: _Base, prefix: int, suffix: int, new: Sequence[bytes]
) -> bytes:
    return b"".join(
        (
            bytes((_flags(fingerprint) | _IS_DIFFERENCE,)),
            fingerprint.response or b"",
            base.reference,
            encode_number(prefix),
            encode_number(suffix),
            encode_number(len(new)),
            *new,
        )
    )


def _flags(fingerprint: EncodedFingerprint | Fingerprint) -> int:
    return _VERSION | (_RESPONSE if fingerprint.response else 0)


def _prefix_hashes(segments: Sequence[bytes]) -> list[int]:
    """Return a hash for each prefix of the segments; valid within one process."""
    chain, found = 0, []
    for segment in segments:
        chain = hash((chain, segment))
        found.append(chain)
    return found


def _best_base(
    run: _Run, head: tuple[Any, ...], segments: Sequence[bytes], hashes: Sequence[int]
) -> tuple[_Base | None, int, int]:
    """Return the call that shares most segments with this one, and how many at the start and at the end."""
    for length in range(len(segments), 0, -1):
        base = run.by_hash.get(hashes[length - 1])
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


def _shared(first: Sequence[bytes], second: Sequence[bytes]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


# -- decoding ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    head: tuple[bytes, bytes | None] | None
    response: bytes | None
    base: bytes | None
    prefix: int
    suffix: int
    new: list[bytes]
    segments: list[bytes] | None = None


def decode_run(rows: Iterable[tuple[UUID | str, bytes | None]]) -> dict[str, Fingerprint]:
    """Decode the fingerprints of the calls of one run.

    Args:
        rows: ``interaction_id`` and the column's bytes, of every call of the run, in any order.

    Returns:
        The fingerprints by ``interaction_id`` as text. They omit calls that have no fingerprint, whose base is deleted,
        or that a newer release wrote.
    """
    parsed: dict[str, _Row] = {}
    by_reference: dict[bytes, _Row] = {}
    for identity, row in _parsed(rows):
        parsed[str(identity)] = by_reference[identity.bytes[-4:]] = row
    known: dict[tuple[bytes, int], Segment] = {}
    return {
        identity: Fingerprint(tuple(decode_segments(row.segments or [], known)), row.head[1], row.response, row.head[0])
        for identity, row in parsed.items()
        if _resolve(row, by_reference) and row.head is not None
    }


class FingerprintChain:
    """Expands the fingerprints of a run in progress to complete ones, which can be decoded without the others.

    It keeps as many fingerprints as the encoder, so that the bases of later ones are known.
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, _Row] = {}

    def complete(self, rows: Iterable[tuple[UUID | str, bytes | None]]) -> dict[str, bytes]:
        """Return the complete fingerprints of the next calls of the run, by ``interaction_id`` as text.

        Args:
            rows: ``interaction_id`` and the column's bytes of the calls. Those that :func:`decode_run` would omit are
                omitted.
        """
        parsed = list(_parsed(rows))
        for identity, row in parsed:
            self._rows.pop(identity.bytes[-4:], None)
            self._rows[identity.bytes[-4:]] = row
        found = {}
        for identity, row in parsed:
            if _resolve(row, self._rows) and row.head is not None:
                fingerprint = Fingerprint((), row.head[1], row.response, row.head[0])
                found[str(identity)] = _complete_row(fingerprint, row.segments or [])
        while len(self._rows) > _MAX_BASES + _RECENT_BASES:
            del self._rows[next(iter(self._rows))]
        return found


def _parsed(rows: Iterable[tuple[UUID | str, bytes | None]]) -> Iterable[tuple[UUID, _Row]]:
    for interaction_id, data in rows:
        if not data:
            continue
        try:
            row = _parse(bytes(data))
        except (IndexError, ValueError):
            continue
        if row is not None:
            yield UUID(str(interaction_id)), row


def _resolve(row: _Row, rows: Mapping[bytes, _Row]) -> bool:
    """Fill in the segments of a row from its bases. Returns False if one is missing."""
    chain = []
    while row.segments is None:
        chain.append(row)
        base = rows.get(row.base or b"")
        if base is None or len(chain) > 2 * _MAX_DIFFERENCES:
            return False
        row = base
    while chain:
        base, row = row, chain.pop()
        known = base.segments or []
        if row.prefix + row.suffix > len(known):
            return False
        row.segments = known[: row.prefix] + row.new + known[len(known) - row.suffix :]
        row.head = base.head
    return True


def _parse(data: bytes) -> _Row | None:
    flags, position = data[0], 1
    if flags & _VERSION_MASK != _VERSION:
        return None
    response = None
    if flags & _RESPONSE:
        response, position = _take(data, position, DIGEST_BYTES)
    if flags & _IS_DIFFERENCE:
        base, position = _take(data, position, 4)
        prefix, position = decode_number(data, position)
        suffix, position = decode_number(data, position)
        new = _read_segments(data, position)
        return _Row(None, response, base, prefix, suffix, new)
    installation, position = _take(data, position, 2)
    key = None
    if flags & _KEY:
        key, position = _take(data, position, 4)
    segments = _read_segments(data, position)
    return _Row((installation, key), response, None, 0, 0, segments, segments)


def _read_segments(data: bytes, position: int) -> list[bytes]:
    count, position = decode_number(data, position)
    found = []
    for _ in range(count):
        begin = position
        _, position = decode_number(data, position + 1)
        _, position = _take(data, position, DIGEST_BYTES)
        found.append(data[begin:position])
    if position != len(data):
        raise ValueError("bytes after the last segment")
    return found


def _take(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    if position + size > len(data):
        raise ValueError("truncated")
    return data[position : position + size], position + size
