"""Folders and files of the embedded server: data folder, socket folder, sizes, ends of logs.

Only folders that are created here get a mode. Failures are :class:`OSError` or :class:`~.errors.EmbeddedError`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import stat
import tempfile
from pathlib import Path

from rlm_cachetrack.errors import EmbeddedError

from .postmaster import SOCKET_NAME
from .processes import ELSEWHERE, OR_SET_URL, SYSTEM_USER, Account, run

# sun_path has 108 bytes on Linux and 104 on macOS.
# Source: https://unix.stackexchange.com/questions/367008, read 2026-11-23.
_SOCKET_PATH_MAX_BYTES = 99


def make_data_dir(data_dir: Path) -> None:
    """Create ``data_dir`` and its parents; existing folders keep their modes.

    Raises:
        EmbeddedError: pg_ctl cannot handle its name.
    """
    if bad := sorted(set(str(data_dir)) & set('"$`\\\n')):
        raise EmbeddedError(f"{data_dir}: pg_ctl cannot handle the {bad[0]!r} in this name. {ELSEWHERE}")
    mode = 0o711 if os.geteuid() == 0 else 0o700  # root's system user must be able to traverse it
    missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode)
            folder.chmod(mode)  # mkdir applies the umask


def check_reachable(data_dir: Path, account: Account, deadline: float) -> None:
    """Check that root's system user can reach ``data_dir``. Runs a shell as that user, so that ACLs count too.

    Raises:
        EmbeddedError: A parent folder is closed to that user; the message names it.
    """
    if not account.switch:
        return
    script = 'for folder do [ -x "$folder" ] || { printf %s "$folder"; exit 1; }; done'
    folders = [str(folder) for folder in (*reversed(data_dir.parents), data_dir)]
    returncode, closed = run(["/bin/sh", "-c", script, "sh", *folders], data_dir, account, deadline)
    if returncode:
        raise EmbeddedError(
            f"{closed} is closed to the system user {SYSTEM_USER}, which runs PostgreSQL for root. Set "
            "RLM_CACHETRACK_DATA_DIR to a folder outside of it (root's default is /var/lib/rlm-cachetrack), run "
            f"`chmod o+x {shlex.quote(closed)}`, {OR_SET_URL}"
        )


def choose_socket_dir(cluster: Path, account: Account) -> Path:
    """Return the cluster's folder if its path is short enough for a socket address, else a private one in /tmp.

    The user's runtime directory is not used: it is deleted at logout, while the server continues.
    Source: https://specifications.freedesktop.org/basedir-spec/latest/ (XDG_RUNTIME_DIR), read 2026-11-23.
    """
    # A comma separates hosts for libpq, and socket folders for the server.
    if len(os.fsencode(cluster / SOCKET_NAME)) <= _SOCKET_PATH_MAX_BYTES and "," not in str(cluster):
        return cluster
    name = f"rlm-cachetrack-{account.uid}-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:12]}"
    parents = (Path("/tmp"), Path(tempfile.gettempdir()))  # noqa: S108 (owner and mode are checked below)
    candidates = [parent / name for parent in parents]
    for folder in candidates:
        with contextlib.suppress(OSError):
            folder.mkdir(0o700)
            if account.switch:
                os.chown(folder, account.uid, account.gid)
        with contextlib.suppress(OSError):
            found = folder.lstat()
            is_private = stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid and not found.st_mode & 0o077
            if is_private and len(os.fsencode(folder / SOCKET_NAME)) <= _SOCKET_PATH_MAX_BYTES:
                return folder
    raise EmbeddedError(
        f"the path of {cluster} contains a comma or is too long for a socket, and {candidates[0]} is not a private "
        f"folder of {account.name}. {ELSEWHERE}"
    )


def size(path: Path) -> int | None:
    """Return the bytes of a file, None if there is no such file."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def size_of_tree(folder: Path) -> int:
    """Return the bytes of all files below ``folder``, without those that are deleted meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total


def sync_folder(folder: Path) -> None:
    """Make a rename within ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tail(log: Path, offset: int) -> str:
    """Return what was written to ``log`` after ``offset``, at most its last 8 KiB."""
    end = size(log)
    if end is None:
        return ""
    with log.open("rb") as file:
        file.seek(max(offset, end - 8_192))
        return file.read().decode(errors="replace")
