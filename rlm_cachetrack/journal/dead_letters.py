"""Records that can never be stored as they are: set aside in a file beside the journals, with the reason.

One line of JSON each: ``id``, ``time``, ``reason`` and the ``event`` as it stood in the journal, which holds neither
prompt text nor secrets. The file is shared by all processes of a store and outlives them; ``rlm-cachetrack journal
dead-letters`` lists it, offers its records again, or discards them.

A record is set aside before it is acknowledged to the journal. A process that is killed in between does so again, so a
line may stand there twice: :meth:`DeadLetters.read` gives each record once.
"""

from __future__ import annotations

import contextlib
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

from rlm_cachetrack._process import locked_files as _files

__all__ = ["DeadLetter", "DeadLetters"]

logger = logging.getLogger("rlm_cachetrack")

FILE_NAME = "dead-letters.ndjson"  # not *.jsonl: it would be taken for a journal
MAX_BYTES = 64 << 20
_MAX_REASON = 1000
_MAX_WAITING = 1000
# Others have the file for as long as it takes to rewrite it. The end of a process waits for the first of these.
_APPEND_TIMEOUT_S = 1.0
_REWRITE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was set aside.

    Attributes:
        id: Of the record: its ``interaction_id``, or a digest of an event that has none.
        time: When it was set aside, in UTC, ISO 8601.
        reason: What the server said, without secrets.
        event: As it stood in the journal.
    """

    id: str
    time: str
    reason: str
    event: Mapping[str, Any]

    @classmethod
    def of(cls, event: Mapping[str, Any], reason: object) -> DeadLetter:
        """An event that is given up now."""
        return cls(_identity(event), datetime.now(UTC).isoformat(), str(reason)[:_MAX_REASON], event)


class DeadLetters:
    """The file of one store.

    Args:
        directory: Of the store's journals.
        max_bytes: How large the file may grow; what comes later is dropped and counted.
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
        """Set records aside. Blocks for one write, and at most a second for other processes; never raises.

        Where the file cannot be written they wait in memory, a thousand at most, and are tried again with the next.
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
                self._warn("disk", "%s cannot be written (%s): refused records wait in memory", self.path, exc.strerror)
            if fresh:
                self.written += len(fresh)
                self._warn(
                    "refused",
                    "a record cannot be stored and is set aside, see `rlm-cachetrack journal dead-letters`: %s",
                    fresh[0].reason,
                )

    def close(self) -> None:
        """The process ends: try once more to write what waits in memory, else say that it is lost. Never raises."""
        self.write(())
        with self._lock:
            if lost := len(self._waiting):
                self._waiting = []
                self.dropped += lost
                logger.warning("%s cannot be written; refused records that are lost for that: %d", self.path, lost)

    def read(self) -> list[DeadLetter]:
        """What is set aside, each record once, in the order in which it came. Blocks for reading the file."""
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
        """Forget these records, and return how many there were. Blocks for rewriting the file.

        Raises:
            OSError: The file cannot be rewritten; nothing is forgotten.
        """
        return len(self.take(ids, lambda letter: True))

    def take(self, ids: Collection[str], into: Callable[[DeadLetter], bool]) -> set[str]:
        """Hand over these records, and forget those that were taken; returns their ids. Blocks for rewriting the file.

        Meanwhile nothing can be set aside, so that a record that is refused once more is not forgotten with them.

        Args:
            ids: Which.
            into: Takes one; returns whether it is kept there.

        Raises:
            OSError: The file cannot be rewritten; nothing is forgotten.
        """
        with self._locked(_REWRITE_TIMEOUT_S) as fd:
            if fd is None:
                return set()
            letters = self.read()
            taken = {letter.id for letter in letters if letter.id in ids and into(letter)}
            if len(taken) == len(letters):
                self.path.unlink()
            elif taken:
                self._replace(letter for letter in letters if letter.id not in taken)
        return taken

    def _replace(self, letters: Iterable[DeadLetter]) -> None:
        """Put a file with these letters in the place of what is there, whole or not at all."""
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
        _files.make_folder(self.path.parent)
        with self._locked(_APPEND_TIMEOUT_S, create=True) as fd:
            assert fd is not None  # noqa: S101 (for mypy: it was created)
            size = os.fstat(fd).st_size
            block = bytearray()
            if size and os.pread(fd, 1, size - 1) != b"\n":
                block += b"\n"  # after a torn line
            for letter in letters:
                line = _line(letter)
                if size + len(block) + len(line) > self._max_bytes:
                    self.dropped += 1
                    self._warn("full", "%s is full: records that cannot be stored are dropped from now on", self.path)
                else:
                    block += line
            written = os.write(fd, block)
            if written != len(block):
                os.ftruncate(fd, size)
                raise OSError(28, "only a part of it could be written")

    @contextlib.contextmanager
    def _locked(self, timeout_s: float, *, create: bool = False) -> Iterator[int | None]:
        """The file, opened, and locked against other processes; None where there is none."""
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
                _files.lock(fd, timeout_s)
                # Somebody may have put another file in its place between our opening and our lock.
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


def offer_again(letters: DeadLetters, append: Callable[[Mapping[str, Any]], bool], ids: Collection[str]) -> set[str]:
    """Append the records of these ids to a journal again, then forget here what it keeps; returns the ids of that.

    In this order, so that none is lost if the process dies in between; one that is stored already is stored once.
    """
    return letters.take(ids, lambda letter: append(letter.event))


def _line(letter: DeadLetter) -> bytes:
    return json.dumps(asdict(letter), separators=(",", ":"), default=str).encode("ascii") + b"\n"


def _identity(event: Mapping[str, Any]) -> str:
    given = event.get("interaction_id")
    if isinstance(given, str) and given:
        return given
    return hashlib.sha256(json.dumps(event, sort_keys=True, default=str).encode("ascii")).hexdigest()[:32]
