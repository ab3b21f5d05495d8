"""Behind a PgBouncer, mostly in transaction mode: several writers, migrations, reads, and restarts of both servers."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.store import embedded, migrations
from tests.integration.pipeline.test_writer import call, in_time, pipeline, sql, stored
from tests.integration.store.test_server_settings import check_recording
from tests.support.servers import own_server_folder

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)")

POOL_SIZE = 2  # less than WRITERS, so that they share server connections
WRITERS = 4

WRITER = """
import sys, time
from datetime import UTC, datetime
from rlm_cachetrack.pipeline import runtimes
from rlm_cachetrack.config import load_settings
from tests.integration.pipeline.test_writer import call
url, name, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
runtime = runtimes.open(load_settings(url))
run = datetime(2026, 1, 10, tzinfo=UTC)
runtime.append_run("run_start", name, run)
for number in range(count):
    runtime.append(call(query_id=name, run_id=run.isoformat(), iteration=number))
    if number == 0:
        print("begun", flush=True)
    time.sleep(seconds / count)  # the load must last as long as the restarts
runtime.append_run("run_end", name, run, status="completed")
sys.exit(0 if runtime.flush(90) and runtime.stats()["dead_letters"] == 0 else 1)
"""


class PgBouncer:
    """A PgBouncer for the server of ``url``, on a free port."""

    def __init__(self, folder: Path, url: str, mode: str = "transaction") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        server = conninfo_to_dict(url)
        self.database = str(server["dbname"])
        # PgBouncer refuses to run as root, and only the embedded server's user can connect to its socket.
        owner = pwd.getpwuid(Path(str(server["host"])).stat().st_uid).pw_name
        self._command = [str(PGBOUNCER), "-q", *(["-u", owner] if os.geteuid() == 0 else []), str(folder / "ini")]
        (folder / "ini").write_text(
            f"""
            [databases]
            * = host={server["host"]} port={server["port"]} user={server["user"]}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {self.port}
            unix_socket_dir =
            auth_type = any
            pool_mode = {mode}
            default_pool_size = {POOL_SIZE}
            max_client_conn = 100
            server_login_retry = 1
            admin_users = {server["user"]}
            """.replace("\n            ", "\n")
        )
        (folder / "ini").chmod(0o644)
        folder.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://anybody@127.0.0.1:{self.port}/{self.database}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert in_time(self._answers), "pgbouncer does not start"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(120)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """The data folder of a server that these tests stop and start."""
    with own_server_folder() as folder:
        yield folder


@pytest.fixture
def direct_url(server: Path) -> Iterator[str]:
    """The URL of an empty database of that server, without the pooler."""
    url = embedded.ensure_running(server)
    sql(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    yield url
    embedded.ensure_running(server)


@pytest.fixture
def pooler(direct_url: str) -> Iterator[PgBouncer]:
    folder = Path(tempfile.mkdtemp(prefix="rlmctp-", dir="/tmp"))
    pgbouncer = PgBouncer(folder, direct_url)
    pgbouncer.start()
    try:
        yield pgbouncer
    finally:
        pgbouncer.stop(signal.SIGINT)
        shutil.rmtree(folder)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLM_CACHETRACK_STATE_DIR", str(tmp_path / "writers"))
    return tmp_path / "writers"


def writers(url: str, calls: int, seconds: float) -> list[subprocess.Popen[str]]:
    """Start processes that record at the same time. Returns when all have started recording."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, f"writer-{number}", str(calls), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
    return started


def results(started: list[subprocess.Popen[str]]) -> list[int]:
    codes = []
    for process in started:
        process.communicate(timeout=240)
        codes.append(process.returncode)
    return codes


def counts(url: str) -> dict[str, tuple[int, int, int, str]]:
    """Return by query: calls, distinct calls, calls in the stored totals of the run, and its status."""
    rows = sql(
        url,
        "SELECT s.query_id, count(i.*), count(DISTINCT i.iteration), s.total_interactions, s.status"
        " FROM query_run_summaries s LEFT JOIN llm_interactions i USING (query_id, run_id)"
        " GROUP BY s.query_id, s.total_interactions, s.status",
    )
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


@pytest.mark.usefixtures("state")
def test_writers_that_share_connections_migrate_once_and_store_each_call_once(
    pooler: PgBouncer, direct_url: str
) -> None:
    # All start with an empty database, so the migration's lock must work through the pooler.
    assert results(writers(pooler.url, 1500, 1.0)) == [0] * WRITERS
    assert counts(direct_url) == {f"writer-{number}": (1500, 1500, 1500, "completed") for number in range(WRITERS)}
    with psycopg.connect(direct_url, autocommit=True) as connection:
        assert migrations.pending(connection) == []
    [[temporary]] = sql(direct_url, "SELECT count(*) FROM pg_class WHERE relname LIKE 'rlm_cachetrack_staging%'")
    assert temporary == 0  # no writer leaves its temporary table to the next user of a connection
    [[locks]] = sql(direct_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    assert locks == 0


@pytest.mark.usefixtures("state")
def test_the_client_reads_through_a_pooler_that_changes_its_connection(pooler: PgBouncer, direct_url: str) -> None:
    with TimescaleDBClient(pooler.url) as db:
        for number in range(30):  # more often than the driver's threshold for prepared statements
            query = f"q{number % 3}"
            db.initialize_query_run(query, "2026-01-10T00:00:00+00:00")
            assert query in {run["query_id"] for run in db.list_query_runs()}
            with psycopg.connect(make_conninfo(pooler.url)) as other:
                other.execute("SELECT 1")  # uses the server connection that the client used last
    assert len(counts(direct_url)) == 3


@pytest.mark.usefixtures("state")
def test_settings_of_the_database_change_nothing_behind_a_pooler(pooler: PgBouncer, direct_url: str) -> None:
    settings = ("DateStyle = 'German, DMY'", "IntervalStyle = 'iso_8601'", "search_path = ''", "extra_float_digits = 0")
    try:
        for setting in settings:
            sql(direct_url, f"ALTER DATABASE {pooler.database} SET {setting}")
        check_recording(pooler.url)
    finally:
        sql(direct_url, f"ALTER DATABASE {pooler.database} RESET ALL")


@pytest.mark.usefixtures("state")
def test_statement_mode_is_refused_with_the_reason_and_stores_later(direct_url: str, tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rlmctp-", dir="/tmp"))
    pgbouncer = PgBouncer(folder, direct_url, "statement")
    pgbouncer.start()
    try:
        with pipeline(pgbouncer.url) as runtime:
            runtime.journal.append(call(model="a"))
            assert not runtime.flush(1.5)
            assert "transaction blocks not allowed in statement pooling mode" in str(runtime.stats()["last_error"])
            assert "pool_mode" in str(runtime.stats()["last_error"])
            assert runtime.dead_letters.read() == []
            pgbouncer.stop(signal.SIGINT)
            (folder / "ini").write_text((folder / "ini").read_text().replace("= statement", "= transaction"))
            pgbouncer.start()
            assert runtime.flush(120)
        assert stored(direct_url) == ["a"]
    finally:
        pgbouncer.stop(signal.SIGINT)
        shutil.rmtree(folder)


@pytest.mark.usefixtures("state")
def test_restarts_of_server_and_pooler_under_load_lose_and_duplicate_no_call(
    pooler: PgBouncer, direct_url: str, server: Path
) -> None:
    started = writers(pooler.url, 3000, 5.0)
    for how in (signal.SIGKILL, signal.SIGTERM):
        assert in_time(lambda: counted(direct_url) > 0)
        embedded.stop(server)
        embedded.ensure_running(server)
        pooler.stop(how)
        pooler.start()
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'rlm_cachetrack%'"
        sql(direct_url, cut)
    assert results(started) == [0] * WRITERS
    assert counts(direct_url) == {f"writer-{number}": (3000, 3000, 3000, "completed") for number in range(WRITERS)}


def counted(url: str) -> int:
    try:
        [[count]] = sql(url, "SELECT count(*) FROM llm_interactions")
    except psycopg.errors.UndefinedTable:
        return 0
    return int(count)
