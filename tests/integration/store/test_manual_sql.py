"""The SQL for people who run their own migrations is that of the library, and leaves it nothing to do."""

from __future__ import annotations

import psycopg
import pytest

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql
from tests.integration.store.test_upgrade import CALLS, calls, fill
from tests.support.manual_sql import FILES, text_of


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_up_to_date(name: str) -> None:
    path = _sql.schema_dir() / "manual" / name
    assert path.read_text(encoding="utf-8") == text_of(name), "run: python -m tests.support.manual_sql"


@pytest.mark.parametrize("name", FILES)
def test_a_database_made_by_it_is_complete(name: str, request: pytest.FixtureRequest) -> None:
    fixture = {"timescaledb": "timescale_url", "citus": "citus_url"}.get(name.removesuffix(".sql").split("_")[-1])
    address = request.getfixturevalue(fixture or "empty_db_url")
    with psycopg.connect(address, autocommit=True) as connection:
        if "timescale" in name:
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        elif fixture is None and (migrations.detect(connection).timescale or migrations.detect(connection).citus):
            pytest.skip("this database has an extension: the file for plain PostgreSQL is not for it")
        if "adopt" in name:
            connection.execute(CALLS)
            fill(connection)

        file = _sql.Script("manual", 1, name, (_sql.schema_dir() / "manual" / name).read_text(encoding="utf-8"))
        for statement in file.statements:  # one by one, as psql sends them
            connection.execute(statement.encode())

        assert migrations.pending(connection) == []
        with TimescaleDBClient(address) as db:
            db.record_llm_interaction(LLMInteractionRecord("mine", "2026-03-01T12:00:00Z", "m"))  # type: ignore[arg-type]
            assert "mine" in {run["query_id"] for run in db.list_query_runs()}
        assert len(calls(connection)) == (11 if "adopt" in name else 1)
