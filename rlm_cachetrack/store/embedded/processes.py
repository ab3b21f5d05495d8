"""Run PostgreSQL's programs: the system user, the lock, and the environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlm_cachetrack._process import locked_files
from rlm_cachetrack.errors import EmbeddedError

SYSTEM_USER = "rlm_cachetrack"
POLL_S = 0.05
OR_SET_URL = "or set RLM_CACHETRACK_DB_URL to the address of a PostgreSQL"
ELSEWHERE = f"Set RLM_CACHETRACK_DATA_DIR to another folder, {OR_SET_URL}"


@dataclass(frozen=True, slots=True)
class Account:
    """The user that runs the server: a system user if we are root (``switch``), else our own."""

    name: str
    uid: int
    gid: int
    switch: bool


def find_account() -> Account:
    """Return the user that runs the server. PostgreSQL refuses root, so for root a system user is created once.

    Raises:
        EmbeddedError: The system user does not exist and cannot be created.
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
        return _system_account()  # another process may have created it at the same time
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and its system user {SYSTEM_USER} could not be created "
            f"({problem}): create that user, run as an ordinary user, {OR_SET_URL}"
        ) from None


def _system_account() -> Account:
    import pwd  # not on Windows

    entry = pwd.getpwnam(SYSTEM_USER)
    return Account(SYSTEM_USER, entry.pw_uid, entry.pw_gid, switch=True)


@contextlib.contextmanager
def locked(data_dir: Path, deadline: float) -> Iterator[int]:
    """Lock ``data_dir`` against all other threads and processes; yields the descriptor of the lock file.

    The lock is released when the block ends. If this process is killed, it is released when the programs that inherited
    the descriptor end.

    Raises:
        EmbeddedError: The lock was not released before ``deadline`` (of ``time.monotonic``).
    """
    import fcntl  # not on Windows

    path = data_dir / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            locked_files.lock(descriptor, deadline - time.monotonic())
        except BlockingIOError:
            raise EmbeddedError(
                f"another process is still starting or stopping the embedded PostgreSQL ({path})"
            ) from None
        try:
            yield descriptor
        finally:
            # Closing the descriptor is not enough: a child that was forked meanwhile shares the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def run(
    arguments: list[str], data_dir: Path, account: Account, deadline: float, *, lock: int | None = None
) -> tuple[int, str]:
    """Run a program of PostgreSQL to its end; return its exit status and its output.

    The program gets its own session, so that neither ^C nor a kill of the caller's process group reaches the
    server. Its output goes to a temporary file: a pipe would stay open as long as the server runs.

    Args:
        arguments: The command.
        data_dir: Folder for the temporary file.
        account: User to run it as.
        deadline: When to give up, by ``time.monotonic``.
        lock: Descriptor of :func:`locked`, which the program inherits: the lock lasts at least until the program ends.

    Raises:
        EmbeddedError: The program cannot be run, or takes too long.
    """
    # PG* variables would redirect the programs, and the environment of a server that runs for weeks must not contain
    # the API keys of the program that started it.
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


def last_lines(text: str) -> str:
    """Return the last five lines of a program's output as one line."""
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-5:]) or "no output"
