"""The durable journal of events that are not stored yet.

The calling thread appends one line of JSON with one ``write`` (no fsync), so a record survives the process, not a power
cut. The writer's thread reads the lines back from the file, stores them, and acknowledges; memory does not grow with
what is waiting. Each process has journals of its own, held by a file lock for as long as it lives; a journal whose lock
can be had belongs to a dead process and is adopted by whoever finds it first.

Why a file of lines and not sqlite: an append takes 3-9 µs against 13 µs (p99: 37 µs) of a sqlite insert in WAL mode
without sync, a torn last line is recognised for free, and a journal can be read with ``less``.

Where the disk refuses (read-only, full), events wait in a bounded queue in memory instead; that is logged once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import uuid
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

try:
    from pydantic_core import to_json as _to_json
except ImportError:  # openai with pydantic 1
    _to_json = None  # type: ignore[assignment]
try:
    from jiter import from_json as _from_json
except ImportError:  # openai before 1.40 had none
    _from_json = None  # type: ignore[assignment]

__all__ = ["Batch", "Outbox"]

logger = logging.getLogger("rlm_cachetrack")

_SUFFIX = ".jsonl"
_SEGMENT_BYTES = 16 << 20
_MEMORY_BYTES = 16 << 20
_READ_BYTES = 1 << 20


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


@dataclass(slots=True)
class _Segment:
    """One journal file; ``read`` is how far it has been handed to the writer, ``acked`` how far it is stored."""

    path: Path
    fd: int
    own: bool
    size: int = 0
    read: int = 0
    acked: int = 0


@dataclass(slots=True)
class Batch:
    """Events read from the journal, not yet acknowledged.

    Attributes:
        events: In the order of their appends.
        own: How many of them this process appended itself, torn or corrupt lines included.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    own: int = 0
    adopted: int = 0
    size: int = 0
    marks: list[tuple[_Segment, int]] = field(default_factory=list)
    memory: int = 0


class Outbox:
    """Events waiting for the writer, in ``directory``; safe for any number of threads.

    Args:
        directory: Made with mode 0700 when it is not there; files in it have mode 0600.
        max_bytes: The most bytes of this process that may wait on disk; what comes later is dropped and counted.
    """

    def __init__(self, directory: Path, *, max_bytes: int = 1 << 30) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.wake = threading.Event()
        self.appended = 0
        self.acked = 0
        self.adopted = 0
        self.adopted_acked = 0
        self.dropped: Counter[str] = Counter()
        # Reentrant: a finalizer run by the garbage collector inside an append may append itself.
        self._lock = threading.RLock()
        self._segments: deque[_Segment] = deque()
        self._current: _Segment | None = None
        self._parked: list[_Segment] = []
        self._memory: deque[bytes] = deque()
        self._memory_size = 0
        self._disk_failed = False
        self._bytes = 0
        self._warned: set[str] = set()

    # -- the calling thread ------------------------------------------------------------------------------------------

    def append(self, event: Mapping[str, Any]) -> bool:
        """Keep ``event``: one encoding, one write. Returns whether it was kept.

        Blocks for a write to the page cache. Never raises for a disk that refuses: the event then waits in memory, and
        if there is no room either it is dropped and counted in :attr:`dropped`.
        """
        line = _encode(event)
        with self._lock:
            kept = self._append_to_disk(line) or self._append_to_memory(line)
            if kept:
                self.appended += 1
        if not self.wake.is_set():
            self.wake.set()
        return kept

    def _append_to_disk(self, line: bytes) -> bool:
        if self._disk_failed:
            return False
        if self._bytes + len(line) > self.max_bytes:
            self._drop("outbox_full", f"the outbox is full ({self.max_bytes} bytes)")
            return False
        try:
            segment = self._current
            if segment is None or segment.size >= _SEGMENT_BYTES:
                segment = self._open_segment()
            written = os.write(segment.fd, line)
            if written != len(line):  # the disk became full in the middle of the line
                os.ftruncate(segment.fd, segment.size)
                raise OSError(f"only {written} of {len(line)} bytes could be written")
        except OSError as exc:
            self._disk_failed = True
            self._warn(
                "disk",
                "the outbox in %s cannot be written (%s): records wait in memory and are lost if this process dies",
                self.directory,
                exc.strerror or exc,
            )
            return False
        segment.size += written
        self._bytes += written
        return True

    def _append_to_memory(self, line: bytes) -> bool:
        if not self._disk_failed:
            return False
        if self._memory_size + len(line) > _MEMORY_BYTES:
            self._drop("memory_full", "the disk refuses the outbox and the queue in memory is full")
            return False
        self._memory.append(line)
        self._memory_size += len(line)
        return True

    def _open_segment(self) -> _Segment:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        path = self.directory / (name + _SUFFIX)
        fresh = self.directory / (name + ".new")
        fd = os.open(fresh, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock_file(fd)  # before it has its name: nobody may find it unlocked and take it for a dead one's
            fresh.rename(path)
        except OSError:
            os.close(fd)
            raise
        segment = _Segment(path, fd, own=True)
        self._segments.append(segment)
        self._current = segment
        return segment

    def _drop(self, reason: str, message: str) -> None:
        self.dropped[reason] += 1
        self._warn(reason, "%s: records are dropped from now on, counted in stats()['dropped']", message)

    def _warn(self, key: str, message: str, *args: object) -> None:
        if key not in self._warned:
            self._warned.add(key)
            logger.warning(message, *args)

    def park(self, event: Mapping[str, Any]) -> object:
        """Keep ``event`` on disk without handing it to the writer, until :meth:`unpark`.

        If this process dies, its successor finds it like any journal and stores it. Returns what to unpark.
        """
        line = _encode(event)
        with self._lock:
            current, self._current = self._current, None
            try:
                segment = self._open_segment()
                os.write(segment.fd, line)
            except OSError:
                return None  # no disk: it is known to this process alone
            finally:
                self._current = current
            self._segments.remove(segment)
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
        """Take over the journals of dead processes. Returns how many events were found in them."""
        found = 0
        try:
            paths = sorted(self.directory.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        except OSError:
            return 0
        with self._lock:
            known = {segment.path for segment in self._segments}
        for path in paths:
            if path in known:
                continue
            segment = _take_over(path)
            if segment is None:
                continue
            with self._lock:
                lines = _count_lines(segment)
                found += lines
                self.adopted += lines
                self._segments.append(segment)
        return found

    def read(self, max_records: int, max_bytes: int) -> Batch:
        """The next events, at most so many; an empty batch when nothing waits. Reading again gives the following."""
        batch = Batch()
        with self._lock:
            segments = list(self._segments)
        for segment in segments:
            while len(batch.events) < max_records and batch.size < max_bytes:
                if not self._read_segment(segment, batch, max_records, max_bytes):
                    break
        with self._lock:
            while batch.memory < len(self._memory) and len(batch.events) < max_records:
                batch.own += 1
                self._take_line(self._memory[batch.memory], batch)
                batch.memory += 1
        return batch

    def _read_segment(self, segment: _Segment, batch: Batch, max_records: int, max_bytes: int) -> bool:
        want = min(_READ_BYTES, max(max_bytes - batch.size, 4096))
        block = os.pread(segment.fd, want, segment.read)
        end = block.rfind(b"\n") + 1
        while block and not end:  # a line longer than the block, or the unfinished end of a dead process's journal
            more = os.pread(segment.fd, _READ_BYTES, segment.read + len(block))
            if not more:
                if segment.own:
                    return False  # being written at this moment
                end = len(block)
                break
            block += more
            end = block.rfind(b"\n") + 1
        if not end:
            return False
        start = 0
        while start < end and len(batch.events) < max_records:
            stop = block.find(b"\n", start, end) + 1 or end
            if segment.own:
                batch.own += 1
            else:
                batch.adopted += 1
            self._take_line(block[start:stop], batch)
            start = stop
        segment.read += start
        batch.size += start
        batch.marks.append((segment, segment.read))
        return True

    def _take_line(self, line: bytes, batch: Batch) -> None:
        try:
            event = _decode(line)
            if not isinstance(event, dict):
                raise TypeError(type(event).__name__)
        except (ValueError, TypeError):
            self.dropped["torn" if not line.endswith(b"\n") else "corrupt"] += 1
            return
        batch.events.append(event)

    def ack(self, batch: Batch) -> None:
        """The batch is stored: forget it, and free the disk it took."""
        with self._lock:
            for segment, position in batch.marks:
                segment.acked = max(segment.acked, position)
            for _ in range(batch.memory):
                self._memory_size -= len(self._memory.popleft())
            self.acked += batch.own
            self.adopted_acked += batch.adopted
            self._free()
            if self._disk_failed and not self._memory:
                self._disk_failed = False  # try the disk again; if it still refuses, memory takes over again

    def rewind(self, batch: Batch) -> None:
        """The batch could not be stored: offer it again at the next :meth:`read`."""
        for segment, _ in batch.marks:
            segment.read = segment.acked

    def _free(self) -> None:
        for segment in list(self._segments):
            size = os.fstat(segment.fd).st_size
            if segment.acked < size:
                continue
            if segment is self._current and segment.size < _SEGMENT_BYTES:
                if size:
                    os.ftruncate(segment.fd, 0)
                    self._bytes -= size
                    segment.size = segment.read = segment.acked = 0
                continue
            if segment.own:
                self._bytes -= size
            self._discard(segment)

    def _discard(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        if segment is self._current:
            self._current = None
        with contextlib.suppress(OSError):
            segment.path.unlink()
        os.close(segment.fd)

    def close(self) -> None:
        """Let go of the journals; what is not stored stays on disk for the next process. Empty ones are removed."""
        with self._lock:
            for segment in list(self._segments):
                if segment.acked >= os.fstat(segment.fd).st_size:
                    self._discard(segment)
                else:
                    self._segments.remove(segment)
                    os.close(segment.fd)
            self._current = None
            for segment in self._parked:
                os.close(segment.fd)
            self._parked.clear()

    def abandon_after_fork(self) -> None:
        """In a forked child: close the parent's files without touching what is in them."""
        for segment in (*self._segments, *self._parked):
            with contextlib.suppress(OSError):
                os.close(segment.fd)
        self._segments.clear()
        self._parked.clear()
        self._current = None


def _lock_file(fd: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: without guarantees; a journal is then adopted only when it can be opened alone
        return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _take_over(path: Path) -> _Segment | None:
    try:
        fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        _lock_file(fd)
        # Its owner, or another adopter, may have removed it between our look and our lock.
        if os.fstat(fd).st_nlink == 0:
            raise OSError("gone")
    except OSError:
        os.close(fd)
        return None
    return _Segment(path, fd, own=False, size=os.fstat(fd).st_size)


def _count_lines(segment: _Segment) -> int:
    lines, position, last = 0, 0, b"\n"
    while block := os.pread(segment.fd, _READ_BYTES, position):
        lines += block.count(b"\n")
        position += len(block)
        last = block[-1:]
    return lines + (last != b"\n")
