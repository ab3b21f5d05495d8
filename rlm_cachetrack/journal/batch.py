"""A batch of events read from a journal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .encoding import decode_entry
from .segments import READ_BYTES, Segment

_SMALLEST_READ_BYTES = 4096


@dataclass(slots=True)
class Batch:
    """Journal entries that were read and are not acknowledged yet.

    Attributes:
        entries: The encoded events, in the order of their appends; :meth:`decode` gives the events.
        own: How many of the entries this process appended.
        recovered: How many are from journals of dead processes.
        from_memory: How many of the own entries are from the queue in memory.
        size: Bytes read from files.
        positions: The position up to which each file was read.
        unreadable: How many entries are not events, by reason, as the last :meth:`decode` found.
    """

    entries: list[bytes] = field(default_factory=list)
    own: int = 0
    recovered: int = 0
    from_memory: int = 0
    size: int = 0
    positions: list[tuple[Segment, int]] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)

    def read_segment(self, segment: Segment, size: int, max_entries: int, max_bytes: int) -> None:
        """Read entries from a file, up to its byte ``size``, until the batch is full. Blocks for the disk."""
        while segment.read < size and len(self.entries) < max_entries and self.size < max_bytes:
            block = _read_block(segment, size, max(max_bytes - self.size, _SMALLEST_READ_BYTES))
            if not block:  # another program truncated the file
                segment.read = size
            else:
                self._add(block.splitlines(keepends=True)[: max_entries - len(self.entries)], segment)
            self.positions.append((segment, segment.read))

    def _add(self, entries: list[bytes], segment: Segment) -> None:
        self.entries += entries
        if segment.own:
            self.own += len(entries)
        else:
            self.recovered += len(entries)
        length = sum(map(len, entries))
        segment.read += length
        self.size += length

    def decode(self) -> Iterator[dict[str, Any]]:
        """Yield the events. Entries that are not events are counted in :attr:`unreadable`.

        A finished call is yielded as it was journaled, with ``call``, ``usage`` and ``in``;
        :func:`~rlm_cachetrack.journal.expand_event` gives the field names.
        """
        self.unreadable.clear()  # a failed attempt may already have decoded the batch
        for entry in self.entries:
            try:
                event = decode_entry(entry)
            except (ValueError, RecursionError):
                event = None
            if type(event) is dict:
                yield event
            elif not entry.startswith(b"\0"):  # NUL: the rest of a stored entry whose process died while clearing it
                self.unreadable["corrupt" if entry.endswith(b"\n") else "torn"] += 1


def _read_block(segment: Segment, size: int, max_bytes: int) -> bytes:
    """Read at least one whole entry. Only the torn end of a dead process's journal lacks a newline."""
    remaining = size - segment.read
    block = os.pread(segment.fd, min(remaining, READ_BYTES, max_bytes), segment.read)
    end = block.rfind(b"\n") + 1
    while not end and len(block) < remaining:  # an entry longer than the block
        more = os.pread(segment.fd, min(remaining - len(block), READ_BYTES), segment.read + len(block))
        if not more:
            break
        block += more
        end = block.rfind(b"\n") + 1
    return block[:end] if end else block
