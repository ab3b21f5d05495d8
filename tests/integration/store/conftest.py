"""An empty database on each engine that supports upgrades of legacy tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rlm_cachetrack.store.engine import detect


def skip_unless_plain(url: str) -> None:
    """Skip the test if the suite itself runs on a server with TimescaleDB or Citus: migrating would use it."""
    with psycopg.connect(url) as connection:
        engine = detect(connection)
    if engine.timescale or engine.timescale_missing or engine.citus:
        pytest.skip("the suite itself runs on TimescaleDB or Citus")


@pytest.fixture(params=["plain", "timescale"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test on plain PostgreSQL and, if it is installed, on TimescaleDB."""
    return str(request.param)


@pytest.fixture
def address(engine: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database on that engine, without TimescaleDB's extension."""
    url = str(request.getfixturevalue("empty_db_url" if engine == "plain" else "timescale_url"))
    if engine == "plain":
        skip_unless_plain(url)
    return url


@pytest.fixture
def connection(address: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(address, autocommit=True) as opened:
        yield opened
