"""One file of a journal: create, append, read, recover, remove.

An append is one ``pwrite``. Stored entries and gaps are NUL, a byte that no journal entry contains.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from rlm_cachetrack._process import locked_files

SUFFIX = ".jsonl"
READ_BYTES = 1 << 20
REUSABLE_BYTES = 1 << 20
"""A file whose stored part is at most this large is emptied and used again; a larger one is removed."""

_NULS = bytes(1 << 16)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


class BeingInspected(Exception):  # noqa: N818 - not an error
    """No process owns the journal file, but another one is testing its lock at this moment."""


@dataclass(slots=True, eq=False)
class Segment:
    """One journal file. The journal's lock protects all attributes.

    Attributes:
        path: The file.
        fd: Its descriptor, which holds the file's lock.
        own: This process created the file; False for a recovered one.
        room: How large the file may grow; 0 unless it takes appends.
        size: The position of the next entry.
        read: Entries up to this position were passed to the writer.
        acked: Entries up to this position are stored.
        cleared: Bytes up to this position were overwritten with NUL.
    """

    path: Path
    fd: int
    own: bool
    room: int = 0
    size: int = 0
    read: int = 0
    acked: int = 0
    cleared: int = 0

    @classmethod
    def create(cls, directory: Path) -> Segment:
        """Create an empty, locked file without room for entries.

        Raises:
            OSError: The folder or the file cannot be created.
        """
        locked_files.make_private_folder(directory)
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        path = directory / (name + SUFFIX)
        unnamed = directory / (name + ".new")
        fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOEXEC, 0o600)
        try:
            # The lock comes before the name: an unlocked journal is recovered by any process that finds it.
            locked_files.lock(fd)
            unnamed.rename(path)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                unnamed.unlink()
            raise
        return cls(path, fd, own=True)

    def append(self, entry: bytes) -> bool:
        """Write an entry at the end. Returns False if it does not fit.

        Raises:
            OSError: The disk is full, read-only or broken; the file contains no part of the entry.
        """
        length = len(entry)
        start = self.size
        end = start + length
        if end > self.room:
            return False
        # Reserved before it is written: a finalizer that appends during the write writes after this entry.
        self.size = end
        try:
            if os.pwrite(self.fd, entry, start) == length:
                return True
        except OSError:
            self._withdraw(start, end)
            raise
        self._withdraw(start, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # only a part was written

    def _withdraw(self, start: int, end: int) -> None:
        """Remove a partly written entry, so that it does not damage the next one."""
        with contextlib.suppress(OSError):
            if self.size == end:
                self.size = start
                os.ftruncate(self.fd, start)
            else:
                os.pwrite(self.fd, bytes(end - start), start)

    def clear(self, end: int) -> None:
        """Overwrite the stored entries before ``end`` with NUL, so that no later reader finds them again.

        If that fails, a later reader stores them again, which changes nothing.
        """
        with contextlib.suppress(OSError):
            while self.cleared < min(end, REUSABLE_BYTES):
                until = min(self.cleared + len(_NULS), end)
                self.cleared += os.pwrite(self.fd, _NULS[: until - self.cleared], self.cleared)

    def reset(self) -> None:
        """Empty the file, after all its entries were stored.

        Raises:
            OSError: The file cannot be truncated.
        """
        os.ftruncate(self.fd, 0)
        self.size = self.read = self.acked = self.cleared = 0

    def seal(self) -> None:
        """End appending."""
        self.room = 0

    @property
    def is_removed(self) -> bool:
        """Return True if another program deleted the file; it exists only as long as this process."""
        with contextlib.suppress(OSError):
            return os.fstat(self.fd).st_nlink == 0
        return False

    def write_anew(self, directory: Path) -> None:
        """Replace the file, which was deleted, by a new one with the entries that are not stored.

        Raises:
            OSError: The new file cannot be created or written.
        """
        fresh = Segment.create(directory)
        try:
            position = self.acked
            while block := os.pread(self.fd, min(READ_BYTES, self.size - position), position):
                position += os.pwrite(fresh.fd, block, position)
        except OSError:
            fresh.remove()
            raise
        os.close(self.fd)
        self.path, self.fd = fresh.path, fresh.fd

    def remove(self) -> None:
        """Delete the file and close it."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the file, which releases its lock."""
        self.room = 0
        os.close(self.fd)


def open_for_recovery(path: Path) -> tuple[Segment, int] | None:
    """Lock the journal file of a dead process.

    Returns:
        The file and its number of entries; None if its owner lives, or if the file is gone or cannot be read.

    Raises:
        BeingInspected: The owner is dead, but the lock is not free at this moment.
    """
    try:
        fd = os.open(path, os.O_RDWR | _CLOEXEC)
    except OSError:
        return None
    try:
        locked_files.lock(fd)
        # The owner, or another process, may have removed the file between our open and our lock.
        if os.fstat(fd).st_nlink == 0:
            raise OSError("removed")
        segment = Segment(path, fd, own=False, size=used_bytes(fd))
        return segment, count_entries(segment)[0]
    except BlockingIOError:
        inspected = not locked_files.is_locked(fd)
        os.close(fd)
        if inspected:
            raise BeingInspected from None
        return None
    except OSError:
        os.close(fd)
        return None


def used_bytes(fd: int) -> int:
    """Return where the entries of a journal file end; NUL bytes may follow them. Reads from the end."""
    position = os.fstat(fd).st_size
    while position > 0:
        start = max(0, position - READ_BYTES)
        if used := len(os.pread(fd, position - start, start).rstrip(b"\0")):
            return start + used
        position = start
    return 0


def count_entries(segment: Segment) -> tuple[int, int]:
    """Return the number of entries in a file, a torn last one included, and their bytes. Reads the whole file."""
    entries, size, position, last = 0, 0, 0, b"\n"
    while block := os.pread(segment.fd, min(READ_BYTES, segment.size - position), position):
        entries += block.count(b"\n")
        size += len(block) - block.count(b"\0")
        position += len(block)
        last = block[-1:]
    return entries + (last != b"\n"), size


def modified_at(path: Path) -> float:
    """Return when a file was last modified, in seconds since 1970; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
