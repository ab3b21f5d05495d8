"""The durable journal of events that are not stored yet.

The calling thread copies one line of JSON into a mapped file: no system call and no fsync, so a record survives the
process, not a power cut. The writer's thread reads the lines back from the file, stores them, and acknowledges; memory
does not grow with what is waiting. Each process has journals of its own, held by a file lock for as long as it lives; a
journal whose lock can be had belongs to a dead process and is adopted by whoever finds it first.

A journal is allocated whole (4 MiB) before it is mapped, so a full disk refuses when it is opened and not in the middle
of a copy; what is not used of it is NUL, which no line holds.

Why a file of lines and not sqlite: behind a call of the SDK an append takes 0.5 µs, against 14 µs with ``write`` and
more with a sqlite insert (13 µs in a warm loop, WAL mode, no sync); a torn last line is recognised for free, and a
journal can be read with ``less``. See docs/decisions/0002.

Where the disk refuses (read-only, full), events wait in a bounded queue in memory instead; that is logged once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import mmap
import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rlm_cachetrack._process import Event
from rlm_cachetrack._process import locked_files as _files

from .call_event import expand

try:
    from pydantic_core import to_json as _to_json
except ImportError:  # openai with pydantic 1
    _to_json = None  # type: ignore[assignment]
try:
    from jiter import from_json as _from_json
except ImportError:  # openai before 1.40 had none
    _from_json = None  # type: ignore[assignment]

__all__ = ["Batch", "Journal", "JournalFile", "journal_files", "named", "survey"]

logger = logging.getLogger("rlm_cachetrack")

_SUFFIX = ".jsonl"
_SEGMENT_BYTES = 4 << 20
_REUSED_BYTES = 1 << 20
_BLANK = bytes(1 << 16)
_MEMORY_BYTES = 16 << 20
_READ_BYTES = 1 << 20
# Each is an open file, of which a process may have 1,024 in all.
_MOST_ADOPTED = 64
_FORGOTTEN_S = 3600.0


def _in_words(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


_encode_slowly = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, default=_in_words).encode


def _encode(event: Mapping[str, Any]) -> bytes:
    """One line. The encoder that comes with pydantic, and so with openai, takes 1.7 µs; the standard library 6.7."""
    try:
        return _to_json(event, fallback=_in_words) + b"\n"
    except Exception:  # half a surrogate pair, or no pydantic 2: the standard library takes everything
        return _encode_slowly(event).encode("ascii") + b"\n"


def _decode(line: bytes) -> Any:
    try:
        return _from_json(line)
    except Exception:
        return json.loads(line)


def named(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """An event with every name, where it may be the line of a finished call.

    Raises:
        KeyError, ValueError, TypeError: The line is damaged.
    """
    return expand(event) if "call" in event else event


@dataclass(slots=True)
class _Segment:
    """One journal file; ``read`` is how far it has been handed to the writer, ``acked`` how far it is stored.

    Of what is stored, ``blank`` bytes are cleared.

    ``size`` is where the next line goes; ``room`` is what was allocated. Only the current one is mapped.
    """

    path: Path
    fd: int
    own: bool
    map: mmap.mmap | None = None
    room: int = 0
    size: int = 0
    read: int = 0
    acked: int = 0
    blank: int = 0


@dataclass(slots=True)
class Batch:
    """Lines read from the journal, not yet acknowledged.

    Attributes:
        lines: In the order of their appends, as they stand there; :meth:`Journal.decode` makes events of them.
        own: How many of them this process appended itself.
        unreadable: How many of them are no events, by reason, as the last :meth:`Journal.decode` found.
    """

    lines: list[bytes] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)
    own: int = 0
    adopted: int = 0
    size: int = 0
    marks: list[tuple[_Segment, int]] = field(default_factory=list)
    memory: int = 0


@dataclass(frozen=True, slots=True)
class JournalFile:
    """A journal file, seen from outside.

    Attributes:
        pid: Of the process that wrote it.
        live: Whether a process holds it; a left-over one is taken over by the next process that starts.
        events: How many are in it; of a live one, some may be stored already.
        oldest: When the first of them happened, ISO 8601 or seconds since the epoch; None where it does not say.
    """

    path: Path
    pid: int | None
    live: bool
    events: int
    bytes: int
    oldest: str | float | None


def journal_files(directory: Path) -> list[JournalFile]:
    """The journals in a folder that hold anything, the oldest file first. Reads them all, changes nothing."""
    found = []
    for path in sorted(directory.glob(f"*{_SUFFIX}"), key=_modified):
        with contextlib.suppress(OSError):  # stored and removed at this moment
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            try:
                segment = _Segment(path, fd, own=False, size=_end_of_lines(fd))
                if segment.size:
                    pid = path.name.partition("-")[0]
                    found.append(
                        JournalFile(
                            path,
                            int(pid) if pid.isdigit() else None,
                            _files.is_held(fd),
                            _count_lines(segment),
                            segment.size,
                            _oldest(segment),
                        )
                    )
            finally:
                os.close(fd)
    return found


class Journal:
    """Events waiting for the writer, in ``directory``; safe for any number of threads.

    Args:
        directory: Made with mode 0700 when it is not there; files in it have mode 0600.
        max_bytes: The most bytes of this process that may wait on disk; what comes later is dropped and counted.
        wake: Called by an append that finds the writer asleep; whether there is a writer. Does not block.

    Attributes:
        wake: Set by what the writer is to look at; it sleeps on it.
        asleep: The writer sleeps, or is none: the next append has to wake it.
    """

    def __init__(self, directory: Path, *, max_bytes: int = 1 << 30, wake: Callable[[], bool] = lambda: True) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.wake = Event()
        self.asleep = True
        self._wake = wake
        self.appended = 0
        self.acked = 0
        self.adopted = 0
        self.adopted_acked = 0
        self.more_to_adopt = False
        self.dropped: Counter[str] = Counter()
        # Reentrant: a finalizer run by the garbage collector inside an append may append itself.
        self._lock = threading.RLock()
        # For what the writer's thread does with files: a fork and close() wait for it, an append does not. Where both
        # are taken, this one comes first.
        self._files = threading.RLock()
        self._closed = False
        self._segments: deque[_Segment] = deque()
        self._current: _Segment | None = None
        self._parked: list[_Segment] = []
        self._memory: deque[bytes] = deque()
        self._memory_size = 0
        self._memory_lent = 0  # read, and not acknowledged yet
        self._disk_failed = False
        self._warned: set[str] = set()

    # -- the calling thread ------------------------------------------------------------------------------------------

    def append(self, event: Mapping[str, Any] | bytes) -> bool:
        """Keep ``event``, or the line that it was encoded to: one copy into memory that is a file's.

        Returns whether it was kept. Does not block, but to open a journal every few thousand events. Never raises for a
        disk that refuses: the event then waits in memory, and if there is no room either it is dropped and counted in
        :attr:`dropped`.
        """
        line = event if type(event) is bytes else _encode(event)  # type: ignore[arg-type]
        length = len(line)
        with self._lock:
            segment = self._current
            if segment is None or (end := (start := segment.size) + length) > segment.room:
                kept = self._append_slowly(line)
            else:
                # The place is taken before it is filled: an append by a finalizer in the midst of this one goes behind.
                segment.size = end
                segment.map[start:end] = line  # type: ignore[index]
                self.appended += 1
                kept = True
        if self.asleep:
            self._wake_up()
        return kept

    def _wake_up(self) -> None:
        self.asleep = False
        self.wake.set()
        if not self._wake():
            self.asleep = True

    def _append_slowly(self, line: bytes) -> bool:
        """Append where there is no journal with room."""
        kept = self._append_to_new_segment(line) or self._append_to_memory(line)
        if kept:
            self.appended += 1
        return kept

    def _append_to_new_segment(self, line: bytes) -> bool:
        if self._disk_failed:
            return False
        length = len(line)
        if (used := self._used()) + length > self.max_bytes:
            self._drop("journal_full", f"the journal is full ({self.max_bytes} bytes)")
            return False
        try:
            segment = self._open_segment(max(length, min(_SEGMENT_BYTES, self.max_bytes - used)))
        except OSError as exc:
            self._disk_failed = True
            self._warn(
                "disk",
                "the journal in %s cannot be written (%s): records wait in memory and are lost if this process dies",
                self.directory,
                exc.strerror or exc,
            )
            return False
        start = segment.size
        segment.size = end = start + length
        segment.map[start:end] = line  # type: ignore[index]
        return True

    def _used(self) -> int:
        """The bytes of this process that wait on disk. A journal's room was reckoned when it was made."""
        return sum(segment.size for segment in self._segments if segment.own)

    def _append_to_memory(self, line: bytes) -> bool:
        if not self._disk_failed:
            return False
        if self._memory_size + len(line) > _MEMORY_BYTES:
            self._drop("memory_full", "the disk refuses the journal and the queue in memory is full")
            return False
        self._memory.append(line)
        self._memory_size += len(line)
        return True

    def _open_segment(self, room: int) -> _Segment:
        """Make a journal with room for so many bytes the current one."""
        path, fd = self._new_file()
        try:
            _allocate(fd, room)
            segment = _Segment(path, fd, own=True, map=mmap.mmap(fd, room), room=room)
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        if self._current is not None:
            _seal(self._current)
        self._segments.append(segment)
        self._current = segment
        return segment

    def _new_file(self) -> tuple[Path, int]:
        _files.make_folder(self.directory)
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        path = self.directory / (name + _SUFFIX)
        fresh = self.directory / (name + ".new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _files.lock(fd)  # before it has its name: nobody may find it unlocked and take it for a dead one's
            fresh.rename(path)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        return path, fd

    def _drop(self, reason: str, message: str) -> None:
        self.dropped[reason] += 1
        self._warn(reason, "%s: records are dropped from now on, counted in stats()['dropped']", message)

    def _warn(self, key: str, message: str, *args: object) -> None:
        if key not in self._warned:
            self._warned.add(key)
            logger.warning(message, *args)

    def park(self, event: Mapping[str, Any] | bytes) -> object:
        """Keep ``event`` on disk without handing it to the writer, until :meth:`unpark`.

        If this process dies, its successor finds it like any journal and stores it. Returns what to unpark.
        """
        line = event if type(event) is bytes else _encode(event)  # type: ignore[arg-type]
        with self._lock:
            try:
                path, fd = self._new_file()
            except OSError:
                return None  # no disk: it is known to this process alone
            segment = _Segment(path, fd, own=True, size=len(line))
            try:
                if os.write(fd, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                _remove(segment)
                return None
            self._parked.append(segment)
        return segment

    def unpark(self, parked: object) -> None:
        """Forget what :meth:`park` kept: it is finished, and appended as a whole."""
        with self._lock:
            if isinstance(parked, _Segment) and parked in self._parked:
                self._parked.remove(parked)
                with contextlib.suppress(OSError):
                    parked.path.unlink()
                os.close(parked.fd)

    # -- the writer's thread -----------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Events appended here or adopted that are not stored yet."""
        return self.appended - self.acked + self.adopted - self.adopted_acked

    def adopt(self) -> int:
        """Take over the journals of dead processes. Returns how many events were found in them.

        Not all at once where there are many, nor what somebody is just looking at: :attr:`more_to_adopt` then says that
        another call will find more, once these are stored. What waits in memory is written to the disk if that takes it
        again.
        """
        found = 0
        with self._lock:
            if self._closed:
                return 0  # what this one left is for others now
            if not self._memory_lent:
                self._save_memory()
            known = {segment.path for segment in self._segments}
            room = _MOST_ADOPTED - sum(not segment.own for segment in self._segments)
        try:
            paths = sorted(self.directory.glob(f"*{_SUFFIX}"), key=_modified)
        except OSError:
            paths = []
        self.more_to_adopt = False
        for path in paths:
            if path in known:
                continue
            if room <= 0:
                self.more_to_adopt = True
                break
            # Under a lock for which a fork waits: a file that is open but not in the list would stay open, and so
            # locked, in the child.
            with self._files:
                try:
                    adopted = None if self._closed else _take_over(path)
                except _Watched:
                    self.more_to_adopt = True
                    continue
                if adopted is None:
                    continue
                segment, lines = adopted
                if not segment.size:
                    _remove(segment)
                    continue
                with self._lock:
                    self._segments.append(segment)
                    self.adopted += lines
                found += lines
                room -= 1
        self._remove_forgotten()
        return found

    def _remove_forgotten(self) -> None:
        """Files of processes that were killed while they made a journal. They are empty."""
        for path in self.directory.glob("*-*.new"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                    path.unlink()

    def _save_memory(self) -> None:
        """Write what waits in memory to the disk, as far as that takes it. The caller holds the lock."""
        with contextlib.suppress(OSError):
            while self._memory and (used := self._used()) + len(self._memory[0]) <= self.max_bytes:
                room = min(_SEGMENT_BYTES, self.max_bytes - used)
                segment = self._open_segment(max(len(self._memory[0]), room))
                while self._memory and segment.size + (length := len(self._memory[0])) <= segment.room:
                    segment.map[segment.size : segment.size + length] = self._memory.popleft()  # type: ignore[index]
                    segment.size += length
                    self._memory_size -= length
            self._disk_failed = False

    def read(self, max_records: int, max_bytes: int) -> Batch:
        """The next events, at most so many; an empty batch when nothing waits. Reading again gives the following."""
        batch = Batch()
        with self._files:  # close() must not close what is being read
            with self._lock:
                segments = [(segment, segment.size) for segment in self._segments]
            for segment, size in segments:
                while segment.read < size and len(batch.lines) < max_records and batch.size < max_bytes:
                    self._read_segment(segment, size, batch, max_records, max_bytes)
        with self._lock:
            while batch.memory < len(self._memory) and len(batch.lines) < max_records:
                batch.own += 1
                batch.lines.append(self._memory[batch.memory])
                batch.memory += 1
            self._memory_lent += batch.memory
        return batch

    def _read_segment(self, segment: _Segment, size: int, batch: Batch, max_records: int, max_bytes: int) -> None:
        left = size - segment.read
        block = os.pread(segment.fd, min(left, _READ_BYTES, max(max_bytes - batch.size, 4096)), segment.read)
        end = block.rfind(b"\n") + 1
        while not end and len(block) < left:  # a line longer than the block
            more = os.pread(segment.fd, min(left - len(block), _READ_BYTES), segment.read + len(block))
            if not more:
                break
            block += more
            end = block.rfind(b"\n") + 1
        if not end:  # the unfinished end of a dead process's journal; or somebody cut the file
            end = len(block)
            if not block:
                segment.read = size
                batch.marks.append((segment, size))
                return
        lines = block[:end].splitlines(keepends=True)
        if len(lines) > (wanted := max_records - len(batch.lines)):
            del lines[wanted:]
            end = sum(map(len, lines))
        batch.lines += lines
        if segment.own:
            batch.own += len(lines)
        else:
            batch.adopted += len(lines)
        segment.read += end
        batch.size += end
        batch.marks.append((segment, segment.read))

    def decode(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """The events of lines that were read. Lines that are none are counted, in :attr:`dropped` once it is acked.

        A finished call comes as its line holds it, with ``call``, ``usage`` and ``in``; :func:`named` gives the names.
        """
        batch.unreadable.clear()  # it was decoded before, for an attempt that failed
        for line in batch.lines:
            try:
                event = _from_json(line)
            except Exception:
                try:
                    # NUL before a line: an append that was broken off before it, or lines that were being cleared.
                    event = json.loads(line.lstrip(b"\0"))
                except (ValueError, RecursionError):
                    event = None
            if type(event) is dict:
                yield event
            elif not line.startswith(b"\0"):  # else the rest of a stored line: its process died clearing the journal
                batch.unreadable["corrupt" if line.endswith(b"\n") else "torn"] += 1

    def ack(self, batch: Batch) -> None:
        """The batch is stored: forget it, and free the disk it took."""
        with self._files:
            for segment, position in batch.marks:
                _blank(segment, position)
            with self._lock:
                stored = self._forget(batch)
            for segment in stored:
                _remove(segment)

    def _forget(self, batch: Batch) -> list[_Segment]:
        """Take note that it is stored; which journals are not needed any more. The caller holds the lock."""
        for segment, position in batch.marks:
            segment.acked = max(segment.acked, position)
        for _ in range(min(batch.memory, len(self._memory))):  # fewer, if the journal was closed meanwhile
            self._memory_size -= len(self._memory.popleft())
        self._memory_lent = max(0, self._memory_lent - batch.memory)
        self.dropped.update(batch.unreadable)
        self.acked += batch.own
        self.adopted_acked += batch.adopted
        stored, waiting = self._free()
        if not (waiting or self._memory or self._closed) and (cut := self.pending):
            # All that there is was read, so nothing may be pending: somebody cut a journal.
            self.dropped["cut"] += max(0, cut)
            self.acked, self.adopted_acked = self.appended, self.adopted
        if self._disk_failed and not self._memory:
            self._disk_failed = False  # try the disk again; if it still refuses, memory takes over again
        return stored

    def rewind(self) -> None:
        """What was read could not be stored: offer all that is not acknowledged again at the next :meth:`read`."""
        with self._lock:
            for segment in self._segments:
                segment.read = segment.acked
            self._memory_lent = 0

    def _free(self) -> tuple[list[_Segment], bool]:
        """The journals of which all is stored, out of the list now; and whether others have something that is not."""
        stored, waiting = [], False
        for segment in list(self._segments):
            if segment.acked < segment.size:
                waiting = True
                continue
            if segment is self._current:
                if segment.size <= _REUSED_BYTES:  # used again: its pages are at hand, and blank
                    segment.size = segment.read = segment.acked = segment.blank = 0
                    continue
                self._current = None
            self._segments.remove(segment)
            stored.append(segment)
        return stored, waiting

    def close(self) -> None:
        """Let go of the journals; what is not stored stays on disk for the next process. Empty ones are removed.

        What waits in memory, for want of a disk, is lost with the process if the disk still refuses it.
        """
        with self._files, self._lock:
            self._closed = True
            if self._memory:
                self._save_memory()
            if lost := len(self._memory):
                self.dropped["disk"] += lost
                self._memory.clear()
                logger.warning("%d records are lost: neither the store nor the disk of the journal took them", lost)
            for segment in self._segments:
                if segment.acked >= segment.size:
                    _remove(segment)
                else:
                    _seal(segment)
                    os.close(segment.fd)
            self._segments.clear()
            self._current = None
            for segment in self._parked:
                os.close(segment.fd)
            self._parked.clear()

    def hold(self) -> None:
        """A fork begins: let no other thread be in the midst of opening, closing or adopting a journal."""
        self._files.acquire()
        self._lock.acquire()

    def let_go(self) -> None:
        """The parent goes on after the fork."""
        self._lock.release()
        self._files.release()

    def abandon_after_fork(self) -> None:
        """In a forked child: close the parent's files without touching what is in them."""
        for segment in (*self._segments, *self._parked):
            with contextlib.suppress(OSError):
                _let_go(segment)
        self._segments.clear()
        self._parked.clear()
        self._current = None


def _allocate(fd: int, room: int) -> None:
    """Have the disk set ``room`` bytes aside, all NUL: a copy into a mapped hole of a full disk kills the process."""
    try:
        os.posix_fallocate(fd, 0, room)
    except AttributeError:  # macOS, Windows
        pass
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise
    else:
        return
    blank = bytes(min(room, 1 << 18))
    for position in range(0, room, len(blank)):
        piece = blank[: room - position]
        if os.pwrite(fd, piece, position) != len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _seal(segment: _Segment) -> None:
    """No more is appended: unmap it, and give back what it did not use."""
    if segment.map is not None:
        segment.map.close()
        segment.map = None
        segment.room = 0
        with contextlib.suppress(OSError):
            os.ftruncate(segment.fd, segment.size)


def _blank(segment: _Segment, end: int) -> None:
    """Clear what is stored of the journal that may be used again, so that no line is found there twice.

    Piece by piece: a copy keeps the interpreter's lock.
    """
    with contextlib.suppress(TypeError, ValueError):  # another thread has sealed it, or is just doing so
        while segment.blank < min(end, _REUSED_BYTES):
            until = min(segment.blank + len(_BLANK), end)
            segment.map[segment.blank : until] = _BLANK[: until - segment.blank]  # type: ignore[index]
            segment.blank = until


def _remove(segment: _Segment) -> None:
    with contextlib.suppress(OSError):
        segment.path.unlink()
    _let_go(segment)


def _let_go(segment: _Segment) -> None:
    if segment.map is not None:
        segment.map.close()
        segment.map = None
    os.close(segment.fd)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _oldest(segment: _Segment) -> str | float | None:
    line = os.pread(segment.fd, min(_READ_BYTES, segment.size), 0).lstrip(b"\0").partition(b"\n")[0]
    try:
        event = _decode(line)
        if "call" in event:
            event = expand(event)
        moment = event.get("start_time") or event.get("time")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return moment if isinstance(moment, (str, float, int)) else None


class _Watched(Exception):  # noqa: N818 - not an error
    """Nobody holds the journal, but somebody is looking whether it is held."""


def _take_over(path: Path) -> tuple[_Segment, int] | None:
    """A left-over journal and the number of its lines; None where it is held, gone, another user's, or unreadable.

    Raises:
        _Watched: It is free, but not at this moment.
    """
    try:
        fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        _files.lock(fd)
        # Its owner, or another adopter, may have removed it between our look and our lock.
        if os.fstat(fd).st_nlink == 0:
            raise OSError("gone")
        segment = _Segment(path, fd, own=False, size=_end_of_lines(fd))
        return segment, _count_lines(segment)
    except BlockingIOError:
        watched = not _files.is_held(fd)
        os.close(fd)
        if watched:
            raise _Watched from None
        return None
    except OSError:
        os.close(fd)
        return None


def _end_of_lines(fd: int) -> int:
    """Where the lines of a journal end and the NUL of what was allocated begins."""
    position = os.fstat(fd).st_size
    while position > 0:
        start = max(0, position - _READ_BYTES)
        if used := len(os.pread(fd, position - start, start).rstrip(b"\0")):
            return start + used
        position = start
    return 0


def survey(path: Path) -> tuple[int, int]:
    """How many events are in a journal, and how many bytes they take; also while its process lives. Reads the file.

    Raises:
        OSError: It cannot be read, or is gone.
    """
    lines = size = 0
    last = b"\n"
    with path.open("rb") as journal:
        while block := journal.read(_READ_BYTES):
            lines += block.count(b"\n")
            size += len(block) - block.count(b"\0")
            last = block.rstrip(b"\0")[-1:] or last
    return lines + (last != b"\n"), size


def _count_lines(segment: _Segment) -> int:
    lines, position, last = 0, 0, b"\n"
    while block := os.pread(segment.fd, min(_READ_BYTES, segment.size - position), position):
        lines += block.count(b"\n")
        position += len(block)
        last = block[-1:]
    return lines + (last != b"\n")
