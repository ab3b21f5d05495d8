"""The durable journal of events that are not stored yet.

The calling thread writes one line of JSON to the end of a file, without fsync: the event is in the system's page cache
and survives the process, but not a power cut. The writer thread reads the entries back from the file, stores them, and
acknowledges them; memory use does not grow with the number of waiting events. Each process has its own files and
keeps them locked until it ends. A file that is not locked belongs to a dead process, and the first process that finds
it recovers it.

The journal is a file of lines and not SQLite: a write takes 1 to 4 µs, a SQLite insert 13 µs (in a warm loop, WAL mode,
no sync); a torn last entry is recognizable, and ``less`` shows a journal. See docs/decisions/0002.

If the disk is not writable (read-only, full), events wait in a bounded queue in memory; this is logged once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlm_cachetrack._process import SignalSafeEvent

from .batch import Batch
from .encoding import encode_entry
from .memory_queue import MemoryQueue
from .segments import REUSABLE_BYTES, SUFFIX, BeingInspected, Segment, count_entries, modified_at, open_for_recovery

logger = logging.getLogger("rlm_cachetrack")

_SEGMENT_BYTES = 4 << 20
_MAX_RECOVERED_FILES = 64
"""The limit of recovered files that are open at once: a process may have 1,024 files in total."""
_UNFINISHED_FILE_AGE_S = 3600.0


class Journal:
    """Events that wait for the writer, in the files of one folder. Safe for any number of threads.

    Args:
        directory: Created with mode 0700 if it does not exist; the files in it have mode 0600.
        max_bytes: How many bytes of this process may wait on disk; later events are dropped and counted.
        start_writer: Called by an append while the writer waits. Returns whether a writer runs. Must not block.

    Attributes:
        wake: Set if there is something for the writer to do; the writer waits for it.
        writer_waits: The writer waits, or does not run: the next append wakes it.
        appended: How many events this process appended.
        acked: How many of these are stored.
        recovered: How many events were found in the journals of dead processes.
        recovered_acked: How many of these are stored.
        more_to_recover: Another :meth:`recover` will find more.
        rewritten: How many files were rewritten because another program deleted them.
        dropped: How many events were lost, by reason.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int = 1 << 30, start_writer: Callable[[], bool] = lambda: True
    ) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.wake = SignalSafeEvent()
        self.writer_waits = True
        self.appended = 0
        self.acked = 0
        self.recovered = 0
        self.recovered_acked = 0
        self.more_to_recover = False
        self.rewritten = 0
        self.dropped: Counter[str] = Counter()
        self._start_writer = start_writer
        # Reentrant: a finalizer that the garbage collector runs inside an append may append an event.
        self._lock = threading.RLock()
        # Protects what the writer thread does with files. A fork and close() wait for it, an append does not. A thread
        # that needs both locks takes this one first.
        self._files = threading.RLock()
        self._closed = False
        self._segments: deque[Segment] = deque()
        self._current: Segment | None = None
        self._parked: list[Segment] = []
        self._memory = MemoryQueue()
        self._disk_failed = False
        self._warned: set[str] = set()

    # -- the calling thread ------------------------------------------------------------------------------------------

    def append(self, event: Mapping[str, Any] | bytes) -> bool:
        """Append an event, or its encoded form, by one write into the system's page cache.

        Opens a file every few thousand events. Never raises if the disk cannot be written: the event then waits in
        memory. If the memory queue is full, too, the event is dropped and counted in :attr:`dropped`.

        Returns:
            True if the event was journaled or waits in memory.
        """
        entry = event if type(event) is bytes else encode_entry(event)  # type: ignore[arg-type]
        with self._lock:
            current = self._current
            try:
                kept = current is not None and current.append(entry)
            except OSError as exc:
                kept = False
                self._give_up_disk(exc)
            kept = kept or self._append_elsewhere(entry)
            if kept:
                self.appended += 1
        if self.writer_waits:
            self._wake_writer()
        return kept

    def _wake_writer(self) -> None:
        self.writer_waits = False
        self.wake.set()
        if not self._start_writer():
            self.writer_waits = True

    def _append_elsewhere(self, entry: bytes) -> bool:
        """Append to a new file, or to the queue in memory. The caller holds the lock."""
        if not self._disk_failed:
            if (used := self._used_bytes()) + len(entry) > self.max_bytes:
                self._drop("journal_full", f"the journal is full ({self.max_bytes} bytes)")
                return False
            try:
                self._open_segment(entry, min(_SEGMENT_BYTES, self.max_bytes - used))
                return True
            except OSError as exc:
                self._give_up_disk(exc)
        if not self._memory.append(entry):
            self._drop("memory_full", "the journal cannot be written and the queue in memory is full")
            return False
        return True

    def _give_up_disk(self, exc: OSError) -> None:
        """Keep events in memory until the disk is writable again. The caller holds the lock."""
        self._disk_failed = True
        if self._current is not None:
            self._current.seal()
            self._current = None
        self._warn(
            "disk",
            "the journal in %s cannot be written (%s): records wait in memory and are lost if this process dies",
            self.directory,
            exc.strerror or exc,
        )

    def _used_bytes(self) -> int:
        """Return how many bytes of this process wait on disk. The room of a file is counted when it is created."""
        return sum(segment.size for segment in self._segments if segment.own)

    def _open_segment(self, entry: bytes, room: int) -> Segment:
        """Create a file with its first entry; it takes the appends from now on. The caller holds the lock."""
        segment = Segment.create(self.directory)
        segment.room = max(room, len(entry))
        try:
            segment.append(entry)
        except OSError:
            segment.remove()
            raise
        if self._current is not None:
            self._current.seal()
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

    def park(self, event: Mapping[str, Any] | bytes) -> object:
        """Keep an event on disk without giving it to the writer, until :meth:`unpark`.

        If this process dies, the next one recovers the event like any other. Blocks for one write.

        Returns:
            The argument for :meth:`unpark`; None if the event cannot be written to disk; it then exists only in
            this process.
        """
        entry = event if type(event) is bytes else encode_entry(event)  # type: ignore[arg-type]
        with self._lock:
            try:
                segment = Segment.create(self.directory)
            except OSError:
                return None
            try:
                if os.write(segment.fd, entry) < len(entry):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                segment.remove()
                return None
            segment.size = len(entry)
            self._parked.append(segment)
        return segment

    def unpark(self, parked: object) -> None:
        """Delete a parked event; the caller has appended the finished one."""
        with self._lock:
            if isinstance(parked, Segment) and parked in self._parked:
                self._parked.remove(parked)
                parked.remove()

    # -- the writer thread -------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Return the number of events, appended here or recovered, that are not stored yet."""
        return self.appended - self.acked + self.recovered - self.recovered_acked

    def recover(self) -> int:
        """Recover the journals of dead processes, and move events from memory to the disk if it can be written again.

        Leaves files for another call if there are many, or if another process is testing a lock at this moment;
        :attr:`more_to_recover` is True then. Blocks for reading the files.

        Returns:
            How many events were found.
        """
        with self._lock:
            if self._closed:
                return 0  # the files of this journal belong to other processes now
            if not self._memory.is_being_read:
                self._move_memory_to_disk()
            known = {segment.path for segment in self._segments}
            room = _MAX_RECOVERED_FILES - sum(not segment.own for segment in self._segments)
        try:
            paths = sorted(self.directory.glob(f"*{SUFFIX}"), key=modified_at)
        except OSError:
            paths = []
        self.more_to_recover = False
        found = 0
        for path in paths:
            if path in known:
                continue
            if room <= 0:
                self.more_to_recover = True
                break
            events = self._recover_file(path)
            found += events
            room -= events > 0
        self._remove_unfinished_files()
        return found

    def _recover_file(self, path: Path) -> int:
        """Recover one file. Returns the number of its events; 0 if it has none or belongs to a live process."""
        # A fork waits for this lock: a file that is open but not in the list would stay locked in the child.
        with self._files:
            try:
                opened = None if self._closed else open_for_recovery(path)
            except BeingInspected:
                self.more_to_recover = True
                return 0
            if opened is None:
                return 0
            segment, events = opened
            if not events:
                segment.remove()
                return 0
            with self._lock:
                self._segments.append(segment)
                self.recovered += events
            return events

    def _remove_unfinished_files(self) -> None:
        """Remove empty files of processes that were killed while creating a journal."""
        for path in self.directory.glob("*-*.new"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _UNFINISHED_FILE_AGE_S:
                    path.unlink()

    def _move_memory_to_disk(self) -> None:
        """Move as many events from memory to the disk as fit. The caller holds the lock."""
        waiting = self._memory.entries
        with contextlib.suppress(OSError):
            while waiting and (used := self._used_bytes()) + len(waiting[0]) <= self.max_bytes:
                segment = self._open_segment(waiting[0], min(_SEGMENT_BYTES, self.max_bytes - used))
                self._memory.remove_first(1)
                while waiting and segment.append(waiting[0]):
                    self._memory.remove_first(1)
            self._disk_failed = False

    def read(self, max_entries: int, max_bytes: int) -> Batch:
        """Read the next events, at most ``max_entries``; the batch is empty if nothing waits. Blocks for the disk.

        Events in memory are always read from the first one on; those in files continue where the last read ended.
        """
        batch = Batch()
        with self._files:  # close() must not close a file that is being read
            with self._lock:
                segments = [(segment, segment.size) for segment in self._segments]
            for segment, size in segments:
                batch.read_segment(segment, size, max_entries, max_bytes)
        with self._lock:
            from_memory = self._memory.first(max_entries - len(batch.entries))
        batch.entries += from_memory
        batch.from_memory = len(from_memory)
        batch.own += len(from_memory)
        return batch

    def ack(self, batch: Batch) -> None:
        """Acknowledge a stored batch, and free its disk space."""
        with self._files:
            for segment, position in batch.positions:
                segment.clear(position)
            with self._lock:
                stored = self._forget(batch)
            for segment in stored:
                segment.remove()

    def _forget(self, batch: Batch) -> list[Segment]:
        """Count a batch as stored. Returns the files to remove. The caller holds the lock."""
        for segment, position in batch.positions:
            segment.acked = max(segment.acked, position)
        self._memory.remove_first(batch.from_memory)
        self.dropped.update(batch.unreadable)
        self.acked += batch.own
        self.recovered_acked += batch.recovered
        stored, waiting = self._free()
        if not (waiting or self._memory or self._closed) and (missing := self.pending):
            # Everything on disk was read, so nothing may be pending: another program truncated a journal.
            self.dropped["truncated"] += max(0, missing)
            self.acked, self.recovered_acked = self.appended, self.recovered
        if self._disk_failed and not self._memory:
            self._disk_failed = False  # try the disk again; if it still cannot be written, events wait in memory again
        return stored

    def nack(self) -> None:
        """Return all unacknowledged batches to the journal; the next :meth:`read` returns their events again."""
        with self._lock:
            for segment in self._segments:
                segment.read = segment.acked
            self._memory.is_being_read = False

    def _free(self) -> tuple[list[Segment], bool]:
        """Remove the completely stored files from the list; also return whether other files remain."""
        stored, waiting = [], False
        for segment in list(self._segments):
            if segment.acked < segment.size:
                waiting = True
                continue
            if segment is self._current:
                if segment.size <= REUSABLE_BYTES:
                    with contextlib.suppress(OSError):
                        segment.reset()
                        continue
                self._current = None
            self._segments.remove(segment)
            stored.append(segment)
        return stored, waiting

    def rewrite_removed(self) -> None:
        """Rewrite files that another program deleted, with the events that are not stored yet.

        Does nothing if the disk cannot be written; the writer stores the events from the deleted file, which exists
        as long as this process. Blocks for the disk.
        """
        with self._files, self._lock:
            removed = [segment for segment in (*self._segments, *self._parked) if segment.is_removed]
            if not removed:
                return
            with contextlib.suppress(OSError):
                for segment in removed:
                    if segment is self._current:
                        segment.seal()
                        self._current = None
                    if segment.acked < segment.size:
                        segment.write_anew(self.directory)
                        self.rewritten += 1
            self._warn(
                "removed",
                "another program deleted journals of this process in %s: the records in them that are not stored were "
                "written again",
                self.directory,
            )

    def close(self) -> None:
        """Release the files. Events that are not stored stay on disk for the next process; empty files are removed.

        Events in memory are lost if the disk still cannot be written; their number is logged.
        """
        with self._files, self._lock:
            self._closed = True
            self.rewrite_removed()
            if self._memory:
                self._move_memory_to_disk()
            if lost := len(self._memory):
                self.dropped["disk"] += lost
                self._memory = MemoryQueue()
                logger.warning("%d records are lost: neither the store nor the disk of the journal accepted them", lost)
            for segment in self._segments:
                if segment.acked >= segment.size:
                    segment.remove()
                else:
                    if segment.is_removed:
                        self.dropped["removed"] += count_entries(segment)[0]
                    segment.close()
            self._segments.clear()
            self._current = None
            for segment in self._parked:
                segment.close()
            self._parked.clear()

    # -- forks -------------------------------------------------------------------------------------------------------

    def lock_for_fork(self) -> None:
        """Wait until no other thread is opening, closing or recovering a file, and lock the journal."""
        self._files.acquire()
        self._lock.acquire()

    def release_after_fork(self) -> None:
        """Undo :meth:`lock_for_fork`."""
        self._lock.release()
        self._files.release()

    def abandon_after_fork(self) -> None:
        """Close the parent's files in a forked child without changing them."""
        for segment in (*self._segments, *self._parked):
            with contextlib.suppress(OSError):
                segment.close()
        self._segments.clear()
        self._parked.clear()
        self._current = None
