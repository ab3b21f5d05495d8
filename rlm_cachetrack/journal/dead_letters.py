"""Records that can never be stored as they are, in a file next to the journals, with the reason.

The file has one line of JSON per record: ``id``, ``time``, ``reason`` and the ``event`` as it was journaled, which
contains neither prompt text nor secrets. All processes that use a store share the file, and it outlives them;
``rlm-cachetrack journal dead-letters`` lists its records, retries them, or discards them.

A dead letter is written before its event is acknowledged. A process that is killed in between writes it again, so a
record may be in the file twice: :meth:`DeadLetters.read` returns it once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlm_cachetrack._process import locked_files

logger = logging.getLogger("rlm_cachetrack")

FILE_NAME = "dead-letters.ndjson"  # *.jsonl is a journal
MAX_BYTES = 64 << 20
_MAX_REASON_CHARACTERS = 1000
_MAX_WAITING = 1000
# The file stays locked during a rewrite. A process that ends may wait for the timeout of one append.
_APPEND_TIMEOUT_S = 1.0
_REWRITE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can never be stored as it is.

    Attributes:
        id: The record's ``interaction_id``, or a digest of an event without one.
        time: When the record became a dead letter, in UTC, ISO 8601.
        reason: The server's message, without secrets.
        event: The event as it was journaled.
    """

    id: str
    time: str
    reason: str
    event: Mapping[str, Any]

    @classmethod
    def from_event(cls, event: Mapping[str, Any], reason: object) -> DeadLetter:
        """Make a dead letter of an event, with the current time."""
        return cls(_identity(event), datetime.now(UTC).isoformat(), str(reason)[:_MAX_REASON_CHARACTERS], event)


class DeadLetters:
    """The dead-letter file of one store.

    Args:
        directory: The folder of the store's journals.
        max_bytes: How large the file may grow; later records are dropped and counted.

    Attributes:
        path: The file.
        written: How many records this process wrote.
        dropped: How many records this process lost, because the file was full or could not be written.
    """

    def __init__(self, directory: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = directory / FILE_NAME
        self.written = 0
        self.dropped = 0
        self._max_bytes = max_bytes
        self._waiting: list[DeadLetter] = []
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    def write(self, letters: Iterable[DeadLetter]) -> None:
        """Append records. Blocks for one write, and at most a second for other processes; never raises.

        If the file cannot be written, up to a thousand records wait in memory for the next call.
        """
        with self._lock:
            fresh = list(letters)
            waiting = [*self._waiting, *fresh]
            if not waiting:
                return
            try:
                self._append(waiting)
                self._waiting = []
            except OSError as exc:
                self._waiting = waiting[:_MAX_WAITING]
                self.dropped += len(waiting) - len(self._waiting)
                self._warn("disk", "%s cannot be written (%s): dead letters wait in memory", self.path, exc.strerror)
            if fresh:
                self.written += len(fresh)
                self._warn(
                    "rejected",
                    "a record cannot be stored and is a dead letter now, see `rlm-cachetrack journal dead-letters`: %s",
                    fresh[0].reason,
                )

    def close(self) -> None:
        """Write the records that wait in memory; log how many are lost if that fails. Never raises."""
        self.write(())
        with self._lock:
            if lost := len(self._waiting):
                self._waiting = []
                self.dropped += lost
                logger.warning("%s cannot be written; dead letters lost: %d", self.path, lost)

    def read(self) -> list[DeadLetter]:
        """Return the dead letters, each record once, oldest first. Blocks for reading the file."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found: dict[str, DeadLetter] = {}
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):  # a line torn by a power cut or a full disk
                letter = DeadLetter(**json.loads(line))
                found.setdefault(letter.id, letter)
        return list(found.values())

    def remove(self, ids: Collection[str]) -> int:
        """Delete records by id and return the number of deleted records. Blocks for rewriting the file.

        Raises:
            OSError: The file cannot be rewritten; nothing is deleted.
        """
        return len(self.retry(ids, lambda event: True))

    def retry(self, ids: Collection[str], append: Callable[[Mapping[str, Any]], bool]) -> set[str]:
        """Append the records of these ids to a journal, then delete them. Blocks for rewriting the file.

        In this order no record is lost if the process dies in between; a record that is already stored is not stored
        twice. The file stays locked meanwhile, so that a record that is rejected again is not deleted with the others.

        Args:
            ids: The records to retry.
            append: Appends one event; returns True if the event was appended.

        Returns:
            The ids of the records that were appended.

        Raises:
            OSError: The file cannot be rewritten; nothing is deleted.
        """
        with self._locked(_REWRITE_TIMEOUT_S) as fd:
            if fd is None:
                return set()
            letters = self.read()
            taken = {letter.id for letter in letters if letter.id in ids and append(letter.event)}
            if len(taken) == len(letters):
                self.path.unlink()
            elif taken:
                self._replace(letter for letter in letters if letter.id not in taken)
        return taken

    def _replace(self, letters: Iterable[DeadLetter]) -> None:
        """Replace the file atomically by one with these dead letters."""
        fresh = self.path.with_suffix(".new")
        try:
            fresh.touch(0o600)
            fresh.write_bytes(b"".join(map(_line, letters)))
            fresh.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise

    def _append(self, letters: list[DeadLetter]) -> None:
        locked_files.make_private_folder(self.path.parent)
        with self._locked(_APPEND_TIMEOUT_S, create=True) as fd:
            assert fd is not None  # noqa: S101 - tells mypy that create=True returns a file
            size = os.fstat(fd).st_size
            block = bytearray()
            if size and os.pread(fd, 1, size - 1) != b"\n":
                block += b"\n"  # ends a torn line
            for letter in letters:
                line = _line(letter)
                if size + len(block) + len(line) > self._max_bytes:
                    self.dropped += 1
                    self._warn("full", "%s is full: dead letters are dropped from now on", self.path)
                else:
                    block += line
            written = os.write(fd, block)
            if written != len(block):
                os.ftruncate(fd, size)
                raise OSError(errno.ENOSPC, "only a part was written")

    @contextlib.contextmanager
    def _locked(self, timeout_s: float, *, create: bool = False) -> Iterator[int | None]:
        """Open and lock the file; None if it does not exist."""
        flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | (os.O_CREAT if create else 0)
        while True:
            try:
                fd = os.open(self.path, flags, 0o600)
            except FileNotFoundError:
                if create:
                    raise
                yield None
                return
            try:
                locked_files.lock(fd, timeout_s)
                # Another process may have replaced the file between our open and our lock.
                if self._is_current(fd):
                    yield fd
                    return
            finally:
                os.close(fd)

    def _is_current(self, fd: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_ino == os.fstat(fd).st_ino
        return False

    def _warn(self, key: str, message: str, *args: object) -> None:
        if key not in self._warned:
            self._warned.add(key)
            logger.warning(message, *args)


def _line(letter: DeadLetter) -> bytes:
    try:
        text = _encode(asdict(letter))
    except Exception:  # the event is damaged in a way that JSON cannot represent, such as an endless depth
        scalars = {name: value for name, value in letter.event.items() if isinstance(value, (str, int, float, bool))}
        text = _encode({"id": letter.id, "time": letter.time, "reason": letter.reason, "event": scalars})
    return text.encode("ascii") + b"\n"


def _encode(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)


def _identity(event: Mapping[str, Any]) -> str:
    given = event.get("interaction_id")
    if isinstance(given, str) and given:
        return given
    try:
        text = json.dumps(event, sort_keys=True, default=str)
    except Exception:  # see _line
        text = repr(sorted(map(str, event)))
    return hashlib.sha256(text.encode("ascii", "backslashreplace")).hexdigest()[:32]
