"""Least privilege: what the roles of ``schema/roles.sql`` can do, and the messages about a missing right."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, StoreError, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import MigrationError
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.engine import detect
from tests.integration.pipeline.test_writer import in_time
from tests.support.legacy import wait_until
from tests.support.timescale import to_columnstore

ROLES = (Path(__file__).parents[3] / "schema" / "roles.sql").read_text(encoding="utf-8")
T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Roles:
    """A migrated database, and the address of a login for each role, whose names are unique on the server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.names = {kind: f"rlm_{kind}_{uuid.uuid4().hex[:8]}" for kind in ("owner", "writer", "reader", "stranger")}

    def __getitem__(self, kind: str) -> str:
        return make_conninfo(self.url, user=self.names[kind], password="x")


@contextmanager
def roles_removed(server: str) -> Iterator[None]:
    """Drop the roles that were created meanwhile; the databases that use them must be gone by then."""
    with psycopg.connect(server, autocommit=True) as admin:
        names = "SELECT rolname FROM pg_roles"
        before = {row[0] for row in admin.execute(names).fetchall()}
        yield
        for (name,) in admin.execute(names).fetchall():
            if name not in before:
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def no_roles_left(server_url: str) -> Iterator[None]:
    with roles_removed(server_url):
        yield


@pytest.fixture
def no_timescale_roles_left(timescale_server_url: str) -> Iterator[None]:
    with roles_removed(timescale_server_url):
        yield


@pytest.fixture
def roles(no_roles_left: None, empty_db_url: str) -> Roles:
    return made(empty_db_url)


@pytest.fixture
def timescale_roles(no_timescale_roles_left: None, timescale_url: str) -> Roles:
    with psycopg.connect(timescale_url, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    return made(timescale_url)


def made(url: str) -> Roles:
    found = Roles(url)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        admin.execute(ROLES)
        for kind, name in found.names.items():
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(sql.Identifier(name)))
            if kind != "stranger":
                group = sql.Identifier(f"rlm_cachetrack_{kind}")
                admin.execute(sql.SQL("GRANT {} TO {}").format(group, sql.Identifier(name)))
        TimescaleDBClient(make_conninfo(found["owner"], options="-crole=rlm_cachetrack_owner")).close()
        admin.execute(ROLES)
    return found


def record(db: TimescaleDBClient, prompt_tokens: int = 10) -> None:
    db.record_llm_interaction(
        LLMInteractionRecord("q", T0, "m", start_time=T0, prompt_tokens=prompt_tokens, cached_tokens=4)
    )


def refresh(owner: psycopg.Connection[Any]) -> None:
    """Materialize the past hours; waits for the first run of the policy, which the scheduler starts at any moment."""

    def is_refreshed() -> bool:
        try:
            owner.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, now() - INTERVAL '2 hours')")
        except psycopg.errors.LockNotAvailable:
            return False
        return True

    wait_until(is_refreshed)


def count(url: str, what: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(f"SELECT {what}").fetchone()


def test_a_writer_records_and_reads(roles: Roles) -> None:
    with TimescaleDBClient(roles["writer"]) as db:
        db.initialize_query_run("q", T0, {"n": 1})
        record(db)
        db.complete_query_run("q", T0)
        summary, optimization = db.get_token_cache_summary("q", T0), db.get_token_cache_optimization("q", T0)
        assert db.list_query_runs()[0]["status"] == "completed"
    assert summary is not None
    assert optimization is not None
    assert summary["total_prompt_tokens"] == optimization["total_prompt_tokens"] == 10


def test_a_writer_cannot_change_or_delete_what_is_stored(roles: Roles) -> None:
    with TimescaleDBClient(roles["writer"]) as db:
        record(db)
        with pytest.raises(StoreError, match=r"permission denied for table llm_interactions.*schema/roles.sql.*owner"):
            db.delete(query_id="q")
        assert len(db.get_llm_interactions("q", T0)) == 1
    with psycopg.connect(roles["writer"]) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("UPDATE llm_interactions SET total_cost = 0")


def test_a_reader_reads_everything_and_writes_nothing(roles: Roles) -> None:
    with TimescaleDBClient(roles["writer"]) as db:
        record(db)
    with TimescaleDBClient(roles["reader"]) as db:
        assert len(db.get_llm_interactions("q", T0)) == 1
        assert db.get_cache_effectiveness_by_model()[0]["total_prompt_tokens"] == 10
        assert db.get_top_cache_savings() == []
        assert db.list_query_runs()[0]["total_interactions"] == 1


def test_a_reader_checks_budgets_and_sees_what_was_re_priced(roles: Roles) -> None:
    with TimescaleDBClient(make_conninfo(roles["owner"], options="-crole=rlm_cachetrack_owner")) as db:
        db.set_budget(5.0)
    for kind in ("reader", "writer"):
        with TimescaleDBClient(roles[kind]) as db:
            assert db.check_budget()["spent"] == 0
            assert db.list_budgets()[0]["amount_usd"] == 5.0
            assert db.list_price_changes() == []


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_only_the_owner_may_change_budgets_prices_and_calls(roles: Roles, kind: str) -> None:
    with TimescaleDBClient(roles["writer"]) as db:
        db.record_llm_interaction(
            LLMInteractionRecord("q", T0, "gpt-5", start_time=T0, prompt_tokens=10, total_cost=9.0)
        )
        db.flush()
    owners = r"permission denied for table (\w+).*only the owner can delete, re-price, and set budgets and policies"
    with TimescaleDBClient(roles[kind]) as db:
        for act in (
            lambda: db.set_budget(5.0),
            lambda: db.remove_budget("x"),
            lambda: db.delete(query_id="q"),
            lambda: db.reprice(),
        ):
            with pytest.raises(StoreError, match=owners):
                act()
    result = CliRunner().invoke(app, ["budget", "set", "5", "--db-url", roles[kind]])
    assert result.exit_code == 1
    assert "only the owner can delete" in " ".join(result.output.split())
    assert count(roles.url, "count(*)::int, max(total_cost) FROM llm_interactions") == (1, 9.0)


def test_migrate_names_the_group_that_a_role_needs(roles: Roles) -> None:
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, ["migrate", *more, "--db-url", roles["stranger"]])
        assert result.exit_code == 1
        assert "make the role a member of rlm_cachetrack_writer or rlm_cachetrack_reader" in " ".join(
            result.output.split()
        )


def test_a_writer_and_a_reader_on_timescale(timescale_roles: Roles) -> None:
    """Rows in the columnstore and sums of a continuous aggregate are in separate tables."""
    with TimescaleDBClient(timescale_roles["writer"]) as db:
        record(db)
        db.complete_query_run("q", T0)
        assert db.flush()
    with psycopg.connect(timescale_roles.url, autocommit=True) as owner:
        refresh(owner)
        to_columnstore(owner)
    with TimescaleDBClient(timescale_roles["writer"]) as db:
        record(db)  # into the columnstore
        assert db.flush()
    with TimescaleDBClient(timescale_roles["reader"]) as db:
        assert len(db.get_llm_interactions("q", T0)) == 2
        assert db.get_cache_effectiveness_by_model()[0]["total_interactions"] == 2
        assert db.get_top_cache_savings() == []
    doctor = CliRunner().invoke(app, ["doctor", "--db-url", timescale_roles["reader"]])
    assert doctor.exit_code == 1, doctor.output  # a reader cannot record; everything else is shown
    assert "permission denied" in " ".join(doctor.output.split())
    assert "segmented by model" in " ".join(doctor.output.split())


def test_a_writer_refreshes_stored_sums_and_a_reader_reads_them(roles: Roles) -> None:
    with psycopg.connect(roles.url, autocommit=True) as owner:
        if detect(owner).timescale or detect(owner).citus:
            pytest.skip("this engine computes the sums in its own way")
        with TimescaleDBClient(roles["writer"]) as db:
            record(db)
            assert db.flush()
        owner.execute("UPDATE rlm_cachetrack_changed_hours SET changed_at = now() - INTERVAL '2 minutes'")
        with TimescaleDBClient(roles["writer"]) as db:  # another process; its first batch refreshes
            db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", prompt_tokens=1))
            assert db.flush()
    stored = "sum(total_interactions)::int FROM rlm_cachetrack_hourly_sums"
    assert count(roles.url, stored) == (1,)
    assert count(roles["reader"], "sum(total_interactions)::int FROM cache_usage_hourly") == (2,)


def test_calls_of_a_reader_stay_in_the_journal_and_stats_have_the_reason(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "0.2")
    with TimescaleDBClient(roles["reader"]) as db:
        record(db)
        assert not db.flush(timeout_s=1)
        assert in_time(lambda: db.stats()["last_error"])
        message = db.stats()["last_error"]
        assert db.stats()["pending"] == 1
    assert "permission denied" in message
    assert "schema/roles.sql" in message
    assert count(roles.url, "count(*)::int FROM llm_interactions") == (0,)


def test_the_message_to_a_role_without_rights_names_the_groups(roles: Roles) -> None:
    with pytest.raises(MigrationError, match=r"permission denied.*rlm_cachetrack_writer or rlm_cachetrack_reader"):
        TimescaleDBClient(roles["stranger"])


def test_the_message_to_a_writer_names_who_may_migrate(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (*_sql.scripts("core"), _sql.Script("core", 2, "later", "CREATE TABLE later (x INTEGER);"))
    original = _sql.scripts
    monkeypatch.setattr(_sql, "scripts", lambda engine: later if engine == "core" else original(engine))
    with pytest.raises(MigrationError, match=r"Pending: core/0002_later\. Run `rlm-cachetrack migrate` as the owner"):
        TimescaleDBClient(roles["writer"])


def test_late_calls_of_a_writer_are_in_the_aggregate_once_flushed(timescale_roles: Roles) -> None:
    """The owner's background job refreshes the hour, and flush() waits for it."""
    hours = "sum(total_interactions)::int FROM cache_usage_hourly"
    with TimescaleDBClient(timescale_roles["writer"]) as db:
        record(db)
        assert db.flush()
        with psycopg.connect(timescale_roles.url, autocommit=True) as owner:
            refresh(owner)
        record(db)
        assert db.flush()
        assert count(timescale_roles["reader"], hours) == (2,)
    assert count(timescale_roles.url, "count(*)::int FROM rlm_cachetrack_stale_hours") == (0,)
