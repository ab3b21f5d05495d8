"""`rlm-cachetrack migrate --print-sql` prints SQL that creates the complete schema."""

from __future__ import annotations

import psycopg
import pytest
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.engine import detect
from tests.support.legacy import T0

DATABASES = {"postgresql": "empty_db_url", "timescaledb": "timescale_url", "citus": "citus_url"}


@pytest.mark.parametrize("engine", DATABASES)
def test_a_database_made_by_the_printed_sql_is_complete(engine: str, request: pytest.FixtureRequest) -> None:
    url = str(request.getfixturevalue(DATABASES[engine]))
    printed = CliRunner().invoke(app, ["migrate", "--print-sql", "--engine", engine])
    assert printed.exit_code == 0, printed.output
    with psycopg.connect(url, autocommit=True) as connection:
        if engine == "postgresql" and (detect(connection).timescale or detect(connection).citus):
            pytest.skip("the suite itself runs on a database with an extension")

        for statement in _sql.Script(
            "printed", 1, engine, printed.stdout
        ).statements:  # psql sends one statement at a time
            connection.execute(statement.encode())

        assert migrations.pending(connection) == []
        with TimescaleDBClient(url) as db:
            db.record_llm_interaction(LLMInteractionRecord("mine", T0, "m"))
            assert [run["query_id"] for run in db.list_query_runs()] == ["mine"]


def test_the_sql_is_for_postgresql_by_default() -> None:
    printed, named = (
        CliRunner().invoke(app, ["migrate", "--print-sql", *more]) for more in ([], ["--engine", "postgresql"])
    )
    assert printed.stdout == named.stdout
    assert "CREATE TABLE IF NOT EXISTS llm_interactions" in printed.stdout
    assert "timescale" not in printed.stdout.split("-- ==== ")[1].split("CREATE TABLE")[0]


@pytest.mark.parametrize("arguments", [["--engine", "citus"], ["--print-sql", "--dry-run"]])
def test_options_that_exclude_each_other_are_a_usage_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["migrate", *arguments])
    assert result.exit_code != 0
