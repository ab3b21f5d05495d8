"""An empty database on each engine that supports upgrades of legacy tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest


@pytest.fixture(params=["plain", "timescale"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test on plain PostgreSQL and, if it is installed, on TimescaleDB."""
    return str(request.param)


@pytest.fixture
def address(engine: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database on that engine, without TimescaleDB's extension."""
    return str(request.getfixturevalue("empty_db_url" if engine == "plain" else "timescale_url"))


@pytest.fixture
def connection(address: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(address, autocommit=True) as opened:
        yield opened
