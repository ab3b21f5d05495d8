"""One PostgreSQL server for the whole suite, a migrated database per test, and a check for swallowed errors.

The server is the embedded one (the ``[embedded]`` extra) in a temporary folder, or the one that
``RLM_CACHETRACK_TEST_DB_URL`` names, on which the user must be able to create databases.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

import rlm_cachetrack
from rlm_cachetrack._process import guard as _guard
from rlm_cachetrack.capture import context
from rlm_cachetrack.pipeline import runtimes
from rlm_cachetrack.simulator import SimulatedEndpoint
from rlm_cachetrack.store import embedded, migrations
from rlm_cachetrack.store.engine import detect
from tests.support import clock, clusters
from tests.support.servers import own_server_folder

# A shell starts background jobs with SIGINT ignored, and the programs of the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _url(base: str, database: str) -> str:
    return make_conninfo(base, dbname=database)


# Read at import, because tests run with an emptied environment.
TEST_SERVER = os.environ.get("RLM_CACHETRACK_TEST_DB_URL")


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Return the URL of a PostgreSQL server for this run of the suite."""
    if TEST_SERVER:
        yield TEST_SERVER
        return
    with own_server_folder() as folder:
        url = embedded.ensure_running(folder)
        # The server is temporary. Waiting for the disk would take half of the suite's time.
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


TIMESCALE_SERVER = os.environ.get("RLM_CACHETRACK_TEST_TIMESCALE_URL")
NO_TIMESCALE = (
    "no TimescaleDB: no installed PostgreSQL has timescaledb.control in its share directory; install the extension, "
    "name a folder of programs in RLM_CACHETRACK_TEST_PG_BIN, or a server in RLM_CACHETRACK_TEST_TIMESCALE_URL"
)


@pytest.fixture(scope="session")
def timescale_server_url() -> Iterator[str]:
    """Return the URL of a server with TimescaleDB: the one configured, or a cluster started for this run.

    Background jobs run, as on a user's server: they may refresh, compress and drop data during a test.
    """
    if TIMESCALE_SERVER:
        yield TIMESCALE_SERVER
        return
    programs = clusters.installation_with("timescaledb")
    if programs is None:
        pytest.skip(NO_TIMESCALE)
    with clusters.cluster(programs, "timescaledb") as url:
        yield url


@pytest.fixture
def timescale_url(timescale_server_url: str) -> Iterator[str]:
    """Yield the URL of an empty database on a server with TimescaleDB; migrations create the extension."""
    yield from _database(timescale_server_url, "template0")


CITUS_SERVER = os.environ.get("RLM_CACHETRACK_TEST_CITUS_URL")
NO_CITUS = (
    "no Citus: no installed PostgreSQL has citus.control in its share directory; install the extension, name a folder "
    "of programs in RLM_CACHETRACK_TEST_PG_BIN, or a coordinator in RLM_CACHETRACK_TEST_CITUS_URL"
)


@pytest.fixture(scope="session")
def citus_servers() -> Iterator[clusters.Citus]:
    """Yield a Citus coordinator and two workers: those configured, or a cluster started for this run."""
    if CITUS_SERVER:
        named = clusters.citus_at(CITUS_SERVER)
        if named is None:
            raise RuntimeError("RLM_CACHETRACK_TEST_CITUS_URL names a database without the extension citus")
        yield named
        return
    programs = clusters.installation_with("citus")
    if programs is None:
        pytest.skip(NO_CITUS)
    with clusters.citus_cluster(programs) as servers:
        yield servers


@pytest.fixture
def citus(citus_servers: clusters.Citus) -> Iterator[clusters.Citus]:
    """Yield an empty database of a Citus cluster, with the extension."""
    name = f"rlm_test_{uuid.uuid4().hex[:12]}"
    yield citus_servers.create(name)
    citus_servers.drop(name)


@pytest.fixture
def citus_url(citus: clusters.Citus) -> str:
    """Return the URL of that database on the coordinator."""
    return citus.coordinator


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """Return a migrated, empty database from which the databases of tests are cloned."""
    name = f"rlm_template_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(_url(server_url, name), autocommit=True) as connection:
        migrations.migrate(connection)
    # A template must have no connections. TimescaleDB's scheduler keeps one open and is restarted when it is stopped,
    # except in a database that allows no connections. Such a database can still be copied.
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
        connection.execute(others, [name])
    yield name
    _drop(server_url, name)


@pytest.fixture
def empty_db_url(server_url: str) -> Iterator[str]:
    """Yield the URL of an empty database."""
    yield from _database(server_url, None)


@pytest.fixture
def db_url(server_url: str, template: str) -> Iterator[str]:
    """Yield the URL of a migrated, empty database."""
    yield from _database(server_url, template)


@pytest.fixture(scope="module")
def module_db_url(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a migrated database that the tests of one module share; its journals have their own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLM_CACHETRACK_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setenv("RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "180")
        yield from _database(server_url, template)


@pytest.fixture(scope="session")
def _reused_database(server_url: str, template: str) -> Iterator[str]:
    yield from _database(server_url, template)


@pytest.fixture
def reused_db_url(_reused_database: str) -> str:
    """Return the URL of an emptied, migrated database: much faster than ``db_url``, if the schema does not change."""
    with psycopg.connect(_reused_database, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE alert_states, budgets, llm_interactions, price_changes, price_change_rows, price_change_runs,"
            " price_lists, query_run_summaries, token_cache_optimization"
        )
        if detect(connection).timescale_licence == "timescale":  # the continuous aggregate keeps the sums of the calls
            connection.execute("TRUNCATE cache_usage_hourly")
    return _reused_database


def _database(server_url: str, template: str | None) -> Iterator[str]:
    name = f"rlm_test_{uuid.uuid4().hex[:12]}"
    if server_url == TEST_SERVER and (nodes := clusters.citus_at(server_url)):
        made = nodes.create(name)  # copying a distributed database would copy only the data of one node
        if template not in (None, "template0"):
            with psycopg.connect(made.coordinator, autocommit=True) as connection:
                migrations.migrate(connection)
        yield made.coordinator
        nodes.drop(name)
        return
    with psycopg.connect(server_url, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        connection.execute(statement)
    yield _url(server_url, name)
    _drop(server_url, name)


def _drop(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Isolate each test from the machine's settings and from other tests, and fail it after an internal error.

    A test that provokes an internal error on purpose clears the ``internal_errors`` fixture.
    """
    for name in list(os.environ):
        if name.startswith(("RLM_CACHETRACK_", "TIMESCALE_", "OPENAI_", "AZURE_OPENAI_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RLM_CACHETRACK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RLM_CACHETRACK_DATA_DIR", str(tmp_path / "no-embedded-here"))
    monkeypatch.setenv("RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "180")  # so that a machine under load stores all of it
    failures: list[tuple[str, BaseException]] = _failures
    failures.clear()
    monkeypatch.setattr(_guard, "on_error", lambda where, exc: failures.append((where, exc)))
    yield
    rlm_cachetrack.uninstrument()
    runtimes.shutdown(5)
    context.set_manual(None)
    if failures:
        where, exc = failures[0]
        raise AssertionError(f"{len(failures)} internal error(s) were swallowed; the first while: {where}") from exc


@pytest.fixture
def caplog(isolated: None, caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Capture the log of this test, without that of threads that were started before it and may still run."""
    earlier = set(threading.enumerate()) - {threading.current_thread()}

    def is_of_this_test(record: logging.LogRecord) -> bool:
        return threading.current_thread() not in earlier

    caplog.handler.addFilter(is_of_this_test)
    yield caplog
    caplog.handler.removeFilter(is_of_this_test)


_failures: list[tuple[str, BaseException]] = []


@pytest.fixture
def internal_errors() -> list[tuple[str, BaseException]]:
    """Return the internal errors that the library has logged in this test; clear the list if they were expected."""
    return _failures


@pytest.fixture
def today() -> datetime:
    """Return the beginning of the current UTC day. In the last minutes of a day, wait for the next one first."""
    return clock.today()


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    """Yield a loopback endpoint that caches prompts by OpenAI's rules and responds without delay."""
    with SimulatedEndpoint(latency=False) as served:
        yield served


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests of two markers unless they are selected, as by ``pytest -m faults``."""
    for name, what in (("faults", "a long fault-injection run"), ("benchmarks", "a benchmark")):
        if name in (config.option.markexpr or ""):
            continue
        skip = pytest.mark.skip(reason=f"{what}: pytest -m {name}")
        for item in items:
            if item.get_closest_marker(name) is not None:  # not the keywords, which contain the names of folders
                item.add_marker(skip)
