"""List the journal files of live and dead processes in a folder. Read-only."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from rlm_cachetrack._process import locked_files

from .encoding import decode_entry, expand_event
from .segments import READ_BYTES, SUFFIX, Segment, count_entries, modified_at, used_bytes


@dataclass(frozen=True, slots=True)
class JournalFile:
    """One journal file that contains events.

    Attributes:
        path: The file.
        pid: The process that wrote it; None if the name has no number.
        live: The process is still running. The next process that uses the store recovers the file of a dead process.
        events: How many events it contains; some of a live process may be stored already.
        bytes: How many bytes the events take.
        oldest: When the first event happened, ISO 8601 or seconds since 1970; None if that is unknown.
    """

    path: Path
    pid: int | None
    live: bool
    events: int
    bytes: int
    oldest: str | float | None


def journal_files(directory: Path) -> list[JournalFile]:
    """List the journal files of a folder that contain events, oldest first. Reads all of them, changes nothing."""
    found = []
    for path in sorted(directory.glob(f"*{SUFFIX}"), key=modified_at):
        with contextlib.suppress(OSError):  # stored and removed in the meantime
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            try:
                segment = Segment(path, fd, own=False, size=used_bytes(fd))
                if segment.size:
                    found.append(_describe(segment))
            finally:
                os.close(fd)
    return found


def _describe(segment: Segment) -> JournalFile:
    events, size = count_entries(segment)
    pid = segment.path.name.partition("-")[0]
    return JournalFile(
        path=segment.path,
        pid=int(pid) if pid.isdigit() else None,
        live=locked_files.is_locked(segment.fd),
        events=events,
        bytes=size,
        oldest=_oldest(segment),
    )


def _oldest(segment: Segment) -> str | float | None:
    first = os.pread(segment.fd, min(READ_BYTES, segment.size), 0).lstrip(b"\0").partition(b"\n")[0]
    try:
        event = expand_event(decode_entry(first))
        moment = event.get("start_time") or event.get("time")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return moment if isinstance(moment, (str, float, int)) else None
