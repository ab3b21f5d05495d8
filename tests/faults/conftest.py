"""A server that tests may stop and kill, and the environment of the processes they start."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rlm_cachetrack.store import embedded
from tests.support.servers import own_server_folder


@pytest.fixture(scope="session")
def stoppable_server() -> Iterator[Path]:
    """Return the data folder of an embedded server that no other test uses."""
    with own_server_folder() as folder:
        yield folder


@pytest.fixture
def stoppable_url(stoppable_server: Path) -> Iterator[str]:
    """Start that server with an empty database and return its address."""
    url = embedded.ensure_running(stoppable_server)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


def environment_for(url: str, tmp_path: Path) -> dict[str, str]:
    """Return the environment for a user's process, without the other variables of this machine."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RLM_CACHETRACK_DB_URL": url,
        "RLM_CACHETRACK_STATE_DIR": str(tmp_path / "state"),
        "RLM_CACHETRACK_DATA_DIR": str(tmp_path / "no-embedded-here"),
        "RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S": "180",
    }


def stored_requests(url: str) -> Counter[str]:
    """Return how often each request is stored, by its id."""
    with psycopg.connect(url) as connection:
        return Counter(row[0] for row in connection.execute("SELECT request_id FROM llm_interactions"))
