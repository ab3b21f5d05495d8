"""The server process of a cluster: read ``postmaster.pid``, and check whether the process is alive."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

PORT = 5432  # part of the socket's name; the server does not listen on TCP
SOCKET_NAME = f".s.PGSQL.{PORT}"

_PROC = Path("/proc") if Path("/proc/self/cmdline").exists() else None  # None on macOS


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The content of ``postmaster.pid``; ``state`` is ``starting``, ``ready`` or ``stopping``."""

    pid: int
    data_dir: str
    started_at: datetime
    socket_dir: Path
    state: str

    def url(self, user: str, database: str) -> str:
        """Return the libpq URL of a database. It names the port, as PGPORT would otherwise change the socket."""
        host = quote(os.fsencode(self.socket_dir), safe="/")
        return f"postgresql://{user}@/{database}?host={host}&port={PORT}"

    def accepts(self, cluster: Path) -> bool:
        """Return True if the server serves ``cluster`` now.

        Connects to the socket, because the pid has no meaning if two containers share the folder.
        """
        if self.state != "ready" or self.data_dir != str(cluster):  # a copied cluster still has the original's file
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            try:
                client.connect(os.fsencode(self.socket_dir / SOCKET_NAME))
            except OSError:
                return False
        return True


def read_postmaster(cluster: Path) -> Postmaster | None:
    """Read ``postmaster.pid``; None if it is missing or incomplete.

    Its lines are pid, data folder, start time, port, socket folder, address, shared memory, state.
    Source: https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h, read 2026-11-23.
    """
    try:
        lines = (cluster / "postmaster.pid").read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    lines += [b""] * (8 - len(lines))  # a starting server writes the last lines later
    try:
        pid, started_at = int(lines[0]), datetime.fromtimestamp(int(lines[2]), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return Postmaster(
        pid=pid,
        data_dir=os.fsdecode(lines[1]),
        started_at=started_at,
        socket_dir=Path(os.fsdecode(lines[4])),
        state=lines[7].decode(errors="replace").strip() or "starting",
    )


def is_postmaster(pid: int, cluster: Path) -> bool:
    """Return whether process ``pid`` is the server of ``cluster``, and not another program that reuses its pid."""
    if _PROC is not None:
        try:
            return _data_option(cluster) in (_PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            return False
    return _option_in_ps(cluster, "-p", str(pid))


def is_being_started(cluster: Path) -> bool:
    """Return whether a ``pg_ctl`` or a server of ``cluster`` runs, even if it has not written its pid file yet.

    Both continue after the process that started them was killed. Two servers that find the same stale pid file may both
    start, because each removes it as stale ("race condition" in CreateLockFile() of PostgreSQL's miscinit.c).
    """
    if _PROC is None:
        return _option_in_ps(cluster, "-ax")
    option = _data_option(cluster)
    for command_line in _PROC.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            if option in command_line.read_bytes():
                return True
    return False


def _data_option(cluster: Path) -> bytes:
    return b"\0-D\0" + os.fsencode(cluster) + b"\0"


def _option_in_ps(cluster: Path, *selection: str) -> bool:
    ps = subprocess.run(["ps", "-ww", "-o", "command=", *selection], capture_output=True, check=False)
    return _data_option(cluster).strip(b"\0").replace(b"\0", b" ") in ps.stdout


def remove_misleading(lock_file: Path) -> None:
    """Remove a stale lock file that would prevent a start. Call it only if no server runs.

    PostgreSQL recognizes the file of a dead process. It does not recognize an empty file, or one whose pid another
    program has now, as is common after the restart of a container: https://github.com/patroni/patroni/pull/681
    """
    try:
        os.kill(abs(int(lock_file.read_bytes().split(b"\n")[0])), 0)  # single-user mode writes a negative pid
    except (FileNotFoundError, ProcessLookupError):
        return
    except (ValueError, OverflowError, PermissionError):
        pass
    lock_file.unlink(missing_ok=True)
