"""Journal entries that wait in memory, because the disk cannot be written."""

from __future__ import annotations

from collections import deque
from itertools import islice

_MAX_BYTES = 16 << 20


class MemoryQueue:
    """A queue bounded to 16 MiB. The journal's lock protects it."""

    def __init__(self) -> None:
        self.entries: deque[bytes] = deque()
        self.is_being_read = False  # entries were read and are not acknowledged yet
        self._size = 0

    def __len__(self) -> int:
        return len(self.entries)

    def append(self, entry: bytes) -> bool:
        """Append an entry. Returns False if there is no room for it."""
        if self._size + len(entry) > _MAX_BYTES:
            return False
        self.entries.append(entry)
        self._size += len(entry)
        return True

    def first(self, count: int) -> list[bytes]:
        """Return the first entries, at most ``count``, without removing them."""
        found = list(islice(self.entries, count))
        self.is_being_read = self.is_being_read or bool(found)
        return found

    def remove_first(self, count: int) -> None:
        """Remove the first entries; fewer than ``count`` if the journal was closed in the meantime."""
        if count:
            self.is_being_read = False
        for _ in range(min(count, len(self.entries))):
            self._size -= len(self.entries.popleft())
