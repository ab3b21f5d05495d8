"""One file of a journal: create, map, append, read, recover, remove.

A file is allocated whole (4 MiB) before it is mapped, so that a full disk is an error when the file is opened, not in
the middle of a copy. The unused end of a file is NUL, a byte that no journal entry contains.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from rlm_cachetrack._process import locked_files

SUFFIX = ".jsonl"
READ_BYTES = 1 << 20
REUSABLE_BYTES = 1 << 20
"""A file whose stored part is at most this large is cleared and used again; a larger one is removed."""

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
        map: The mapping; only the file that takes appends has one.
        room: How many bytes are allocated and mapped.
        size: The position of the next entry.
        read: Entries up to this position were passed to the writer.
        acked: Entries up to this position are stored.
        cleared: Bytes up to this position were overwritten with NUL.
    """

    path: Path
    fd: int
    own: bool
    map: mmap.mmap | None = None
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

    @classmethod
    def with_room(cls, directory: Path, room: int) -> Segment:
        """Create a file that is allocated and mapped, with ``room`` bytes for entries.

        Raises:
            OSError, ValueError: The disk does not have this room, or the file cannot be created or mapped.
        """
        segment = cls.create(directory)
        try:
            _allocate(segment.fd, room)
            segment.map = mmap.mmap(segment.fd, room)
        except (OSError, ValueError):
            segment.remove()
            raise
        segment.room = room
        return segment

    def append(self, entry: bytes) -> bool:
        """Copy an entry into the mapping. Returns False if it does not fit."""
        length = len(entry)
        start = self.size
        end = start + length
        if end > self.room:
            return False
        # Reserved before it is filled: a finalizer that appends during the copy writes behind this entry.
        self.size = end
        self.map[start:end] = entry  # type: ignore[index]
        return True

    def clear(self, end: int) -> None:
        """Overwrite the stored entries before ``end`` with NUL, so that no later reader finds them again.

        Clears small pieces, because a copy holds the interpreter's lock.
        """
        with contextlib.suppress(TypeError, ValueError):  # another thread sealed the file in the meantime
            while self.cleared < min(end, REUSABLE_BYTES):
                until = min(self.cleared + len(_NULS), end)
                self.map[self.cleared : until] = _NULS[: until - self.cleared]  # type: ignore[index]
                self.cleared = until

    def reset(self) -> None:
        """Start again at the beginning of the file; the caller has stored and cleared all entries."""
        self.size = self.read = self.acked = self.cleared = 0

    def seal(self) -> None:
        """End appending: unmap the file and give its unused room back to the disk."""
        if self.map is not None:
            self.room = 0
            self.map.close()
            self.map = None
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)

    def remove(self) -> None:
        """Delete the file and close it."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Unmap and close the file, which releases its lock."""
        self.room = 0
        if self.map is not None:
            self.map.close()
            self.map = None
        os.close(self.fd)


def _allocate(fd: int, room: int) -> None:
    """Reserve ``room`` bytes of NUL on the disk: a copy into a mapped hole of a full disk kills the process."""
    try:
        os.posix_fallocate(fd, 0, room)
    except AttributeError:  # macOS, Windows
        pass
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise
    else:
        return
    nuls = bytes(min(room, 1 << 18))
    for position in range(0, room, len(nuls)):
        piece = nuls[: room - position]
        if os.pwrite(fd, piece, position) != len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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
    """Return where the entries of a journal file end and its allocated NUL bytes begin. Reads from the end."""
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
