"""A client over a database that is emptied for each test, with and without a pricing file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_cachetrack import TimescaleDBClient

PRICING = """\
version: 1
per: 1M
models:
  listed: {prompt: 4, cached: 1, cache_write: 5, completion: 16}
  no-discount: {prompt: 4, completion: 16}
  gpt-5: {prompt: 2, cached: 1, completion: 8}
"""


@pytest.fixture
def db_url(reused_db_url: str) -> str:
    return reused_db_url


@pytest.fixture
def db(db_url: str) -> Iterator[TimescaleDBClient]:
    with TimescaleDBClient(db_url) as client:
        yield client


@pytest.fixture
def priced_db(db_url: str, tmp_path: Path) -> Iterator[TimescaleDBClient]:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICING)
    with TimescaleDBClient(db_url, pricing=path) as client:
        yield client
