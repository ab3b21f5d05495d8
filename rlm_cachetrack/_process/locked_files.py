"""Private folders, and file locks between processes.

Locks use ``flock``: the kernel releases a lock when its process ends, even after a crash. Windows has no ``flock``;
processes share files there without guarantees.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    _has_locks = False
else:
    _has_locks = True

_RETRY_INTERVAL_S = 0.005


def make_private_folder(folder: Path) -> None:
    """Create a folder and its missing parents with mode 0700, whatever the umask.

    Raises:
        OSError: A folder cannot be created.
    """
    # Not mkdir(parents=True), which creates parents with the default mode.
    for each in (*reversed(folder.parents), folder):
        with contextlib.suppress(FileExistsError):
            if not each.is_dir():
                each.mkdir(mode=0o700)


def lock(fd: int, timeout_s: float = 0.0) -> None:
    """Lock an open file exclusively. Blocks for up to ``timeout_s`` seconds.

    Raises:
        BlockingIOError: Another process has locked it.
        OSError: The file system has no locks.
    """
    deadline = time.monotonic() + timeout_s
    while _has_locks:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                raise BlockingIOError(exc.errno, "another process has locked it") from None
            time.sleep(_RETRY_INTERVAL_S)


def is_locked(fd: int) -> bool:
    """Return True if a process has locked an open file exclusively. Does not block."""
    if not _has_locks:
        return False
    try:
        # A shared lock fails only against an exclusive one, so two processes may test a file at the same time. It is
        # released at once; a process that wants to lock the file at this moment has to try again.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
