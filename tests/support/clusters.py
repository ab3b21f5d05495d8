"""Start temporary PostgreSQL clusters with an extension, from a PostgreSQL installed on this machine.

An installation is used if its share directory has the extension's control file. Installations are searched in
``RLM_CACHETRACK_TEST_PG_BIN`` (separated as in PATH), in PATH, and in the usual folders of distributions.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["Citus", "citus_at", "citus_cluster", "cluster", "create_citus_database", "installation_with", "node"]

# Read at import, because tests run with an emptied environment.
_NAMED = os.environ.get("RLM_CACHETRACK_TEST_PG_BIN", "")
_PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/pgsql/bin",
)
_SETTINGS = {
    "fsync": "off",  # the data is temporary
    "listen_addresses": "127.0.0.1",
    "max_worker_processes": "24",
    "timescaledb.telemetry_level": "off",
    "citus.enable_statistics_collection": "off",
    "citus.node_conninfo": "sslmode=prefer",  # otherwise the extension sets up SSL
    "citus.background_task_queue_interval": "500ms",
    "citus.shard_count": "6",  # the default of 32 is for larger clusters
}


def installation_with(extension: str | None) -> Path | None:
    """Return the program folder of the newest PostgreSQL that has this extension; None if it is not installed.

    Args:
        extension: Its name; None for any PostgreSQL.
    """
    named = [Path(entry) for entry in _NAMED.split(os.pathsep) if entry]
    usual = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    distributed = sorted((path for pattern in _PLACES for path in Path("/").glob(pattern)), key=_version, reverse=True)
    for folder in (*named, *usual, *distributed):
        pg_config = folder / "pg_config"
        if not (pg_config.is_file() and (folder / "initdb").is_file()):
            continue
        if extension is None:
            return folder
        shared = subprocess.run([pg_config, "--sharedir"], capture_output=True, text=True)
        if shared.returncode == 0 and Path(shared.stdout.strip(), "extension", f"{extension}.control").is_file():
            return folder
    return None


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in str(folder)).split())


@contextlib.contextmanager
def cluster(programs: Path, extension: str | None, **settings: str) -> Iterator[str]:
    """Yield the URL of a new cluster; it is stopped and removed afterwards.

    Args:
        programs: The folder with ``initdb`` and ``pg_ctl``.
        extension: Library to preload; None for none.
        settings: Further settings, with ``__`` instead of a dot.
    """
    # Not tmp_path: for root it is closed to other users, and PostgreSQL does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="rlmpg-", dir="/tmp"))
    owner = _account()
    if owner is not None:
        shutil.chown(folder, owner)
    data, port = folder / "data", _free_port()
    given = {
        **{name: value for name, value in _SETTINGS.items() if "." not in name or name.startswith(f"{extension}.")},
        "port": str(port),
        "unix_socket_directories": str(folder),
        "shared_preload_libraries": extension or "",
        **{name.replace("__", "."): value for name, value in settings.items()},
    }

    def run(program: str, *arguments: str) -> None:
        with (folder / "out").open("ab") as out:
            done = subprocess.run(
                [programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                user=owner,
                extra_groups=None if owner is None else [],
                cwd="/",
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{(folder / 'out').read_text()}")

    try:
        run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in given.items())
        run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Citus:
    """URLs of a coordinator and its workers, for a database that has the same name on every node."""

    coordinator: str
    workers: tuple[str, ...]

    def create(self, name: str) -> Citus:
        """Create a database with the extension on every node and register the nodes."""
        made = Citus(*self._named(name))
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(create_citus_database, self._all(), [name] * (1 + len(self.workers))))
        with psycopg.connect(made.coordinator, autocommit=True) as connection:
            connection.execute("SELECT citus_set_coordinator_host(%s, %s)", node(made.coordinator))
            for worker in made.workers:
                connection.execute("SELECT citus_add_node(%s, %s)", node(worker))
        return made

    def drop(self, name: str) -> None:
        """Drop the database on every node, first on the coordinator."""
        for url in self._all():
            with psycopg.connect(url, autocommit=True) as connection:
                statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                connection.execute(statement)

    def _all(self) -> Sequence[str]:
        return (self.coordinator, *self.workers)

    def _named(self, name: str) -> tuple[str, tuple[str, ...]]:
        return make_conninfo(self.coordinator, dbname=name), tuple(
            make_conninfo(worker, dbname=name) for worker in self.workers
        )


def citus_at(url: str) -> Citus | None:
    """Return the cluster of a coordinator; None if the database does not have the extension."""
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT FROM pg_extension WHERE extname = 'citus'").fetchone() is None:
            return None
        workers = connection.execute(
            "SELECT nodename, nodeport::text FROM pg_dist_node WHERE isactive AND groupid <> 0 ORDER BY nodeid"
        ).fetchall()
    return Citus(url, tuple(make_conninfo(url, host=host, port=port) for host, port in workers))


def node(url: str) -> tuple[str, int]:
    """Return host and port, which identify a node for Citus."""
    given = conninfo_to_dict(url)
    return str(given["host"]), int(given.get("port") or 5432)


def create_citus_database(url: str, name: str) -> None:
    """Create a database with the extension on one server."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    with psycopg.connect(make_conninfo(url, dbname=name), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION citus")


@contextlib.contextmanager
def citus_cluster(programs: Path, workers: int = 2, **settings: str) -> Iterator[Citus]:
    """Start one coordinator and some workers on this machine; no database has the extension yet.

    Args:
        programs: The folder with ``initdb`` and ``pg_ctl``.
        workers: Number of workers.
        settings: Further settings of each server, with ``__`` instead of a dot.
    """
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(
                cluster(programs, "citus", **{"wal_level": "logical", "max_connections": "200", **settings})
            )
            for _ in range(1 + workers)
        ]
        yield Citus(nodes[0], tuple(nodes[1:]))


def _account() -> str | None:
    """Return the user to run the server as; None if we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
