"""Files in the user's state directory that several processes share: for their owner alone, and locked.

A lock is the kernel's (``flock``) and ends with the process that holds it, however that ends. Windows has none: there
files are shared without guarantees.
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

__all__ = ["is_locked", "lock", "make_folder"]

_PAUSE_S = 0.005


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are not there, each for its owner alone (0700), whatever the umask.

    Raises:
        OSError: It cannot be made.
    """
    # Not mkdir's parents=True: that gives what is above the mode of an ordinary folder.
    for each in (*reversed(folder.parents), folder):
        with contextlib.suppress(FileExistsError):
            if not each.is_dir():
                each.mkdir(mode=0o700)


def lock(fd: int, timeout_s: float = 0.0) -> None:
    """Take the lock of an open file. Blocks for ``timeout_s`` at most: who has it may be stopped, not only slow.

    Raises:
        BlockingIOError: Another has it.
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
            time.sleep(_PAUSE_S)


def is_locked(fd: int) -> bool:
    """Whether somebody has the lock of an open file; not whether somebody else is looking, as this does."""
    if not _has_locks:
        return False
    try:
        # Shared, as an owner's is exclusive, and let go of at once: who takes the file over meanwhile has to wait.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
