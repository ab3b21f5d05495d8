"""The stored hourly sums of plain PostgreSQL: exact at every moment, and read instead of the calls."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.store import hourly, hourly_sums, migrations
from rlm_cachetrack.store.connect import connect
from rlm_cachetrack.store.engine import Engine, detect
from rlm_cachetrack.store.hourly_aggregate import HourlyAggregate
from rlm_cachetrack.store.hourly_sums import HourlySums, refresh_some
from rlm_cachetrack.store.schema_scripts import as_sql, scripts_for
from tests.support.legacy import create_legacy_table, upgrade

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOURS = [T0 + timedelta(hours=number) for number in range(6)]
# The sums of whole numbers in DOUBLE PRECISION do not depend on the order of the calls.
SUMS = """
    count(*), count(*) FILTER (WHERE cached_tokens > 0), count(*) FILTER (WHERE cached_tokens = 0),
    count(*) FILTER (WHERE cached_tokens IS NULL AND (success OR prompt_tokens IS NOT NULL)),
    count(*) FILTER (WHERE NOT success),
    count(*) FILTER (WHERE total_cost IS NULL AND (success OR prompt_tokens IS NOT NULL)),
    sum(prompt_tokens), sum(prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL), sum(completion_tokens),
    sum(total_tokens), sum(cached_tokens), sum(uncached_prompt_tokens), sum(cache_write_tokens), sum(reasoning_tokens),
    sum(total_cost), sum(original_cost) FILTER (WHERE total_cost IS NOT NULL),
    sum(total_cost) FILTER (WHERE original_cost IS NOT NULL), count(duration_ms), sum(duration_ms),
    count(time_to_first_token_ms), sum(time_to_first_token_ms), count(total_cost),
    sum(cached_tokens) FILTER (WHERE prompt_tokens IS NOT NULL),
    sum(uncached_prompt_tokens) FILTER (WHERE cached_tokens IS NOT NULL)
"""
WRONG = f"""
    WITH direct AS (
        SELECT date_trunc('hour', time), provider, model, service_tier, {SUMS}
        FROM llm_interactions GROUP BY 1, 2, 3, 4
    )
    (TABLE direct EXCEPT ALL TABLE cache_usage_hourly) UNION ALL (TABLE cache_usage_hourly EXCEPT ALL TABLE direct)
"""
"""The rows in which the view differs from a direct GROUP BY, in one statement, so in one snapshot."""
INSERT = """
    INSERT INTO llm_interactions (
        query_id, run_id, time, model, provider, service_tier, success, prompt_tokens, cached_tokens,
        uncached_prompt_tokens, completion_tokens, total_cost, original_cost, duration_ms
    )
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


@pytest.fixture
def connection(db_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to a migrated database; skip if the suite itself runs on another engine."""
    with connect(db_url) as opened:
        if detect(opened).timescale or detect(opened).citus:
            pytest.skip("this engine computes the sums in its own way")
        yield opened


def insert(connection: psycopg.Connection[Any], *moments: datetime, query_id: str = "q", model: str = "m") -> None:
    values = [None, None, True, 10, 0, 10, 1, 1, 1, 1]
    with connection.cursor() as cursor:
        cursor.executemany(INSERT, [[query_id, T0, moment, model, *values] for moment in moments])


def refresh(connection: psycopg.Connection[Any]) -> None:
    HourlySums().refresh(connection, HOURS)


def logged(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(DISTINCT hour) FROM rlm_cachetrack_changed_hours").fetchone()
    assert row is not None
    return int(row[0])


def calls_read(connection: psycopg.Connection[Any]) -> int:
    """Return the number of calls that a read of all hourly sums scans."""
    row = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM cache_usage_hourly").fetchone()
    assert row is not None
    found, waiting = 0, [row[0][0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if node.get("Relation Name") == "llm_interactions":
            found += round(node["Actual Rows"] * node["Actual Loops"])
    return found


@contextmanager
def snapshot(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection whose reads all see the calls that are committed now."""
    with connect(url) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1 FROM llm_interactions LIMIT 1")
        yield connection


# -- what changes the sums --------------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[psycopg.Connection[Any]], object]] = {
    "insert": lambda connection: insert(connection, T0, T0 + timedelta(hours=9)),
    "update": lambda connection: connection.execute("UPDATE llm_interactions SET total_cost = 7 WHERE query_id = 'a'"),
    "a call moves to another hour": lambda connection: connection.execute(
        "UPDATE llm_interactions SET time = time + INTERVAL '3 hours' WHERE query_id = 'a'"
    ),
    "delete": lambda connection: connection.execute("DELETE FROM llm_interactions WHERE query_id = 'a'"),
    "upsert": lambda connection: connection.execute(
        "INSERT INTO llm_interactions SELECT * FROM llm_interactions WHERE query_id = 'a'"
        " ON CONFLICT (query_id, run_id, time, interaction_id) DO UPDATE SET model = 'other'"
    ),
    "truncate": lambda connection: connection.execute("TRUNCATE llm_interactions"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_sums_are_exact_after_each_kind_of_change(connection: psycopg.Connection[Any], change: str) -> None:
    insert(connection, *HOURS[:3], query_id="a")
    insert(connection, *HOURS[:3], query_id="b")
    refresh(connection)
    assert (logged(connection), calls_read(connection)) == (0, 0)
    CHANGES[change](connection)
    assert logged(connection) > 0
    assert connection.execute(WRONG).fetchall() == []
    HourlySums().refresh(connection, [T0, T0 + timedelta(days=1)])
    assert (logged(connection), calls_read(connection)) == (0, 0)
    assert connection.execute(WRONG).fetchall() == []


def test_a_call_stored_by_a_client_is_in_the_sums_at_once(db_url: str, connection: psycopg.Connection[Any]) -> None:
    with TimescaleDBClient(db_url) as db:
        for count in (1, 2, 3):
            db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", prompt_tokens=5, start_time=T0))
            db.flush()
            assert db.get_cache_effectiveness_by_model()[0]["total_interactions"] == count
            refresh(connection)


# -- transactions at the same time ------------------------------------------------------------------------------------


def test_a_call_committed_during_a_refresh_is_in_the_sums(db_url: str, connection: psycopg.Connection[Any]) -> None:
    insert(connection, T0)
    with connect(db_url) as early, connect(db_url) as late, connect(db_url) as reader:
        late.execute("SET lock_timeout = '30s'")  # it must not wait for the others
        with early.transaction():
            insert(early, T0, query_id="early")  # not committed when the refresh begins
            with connection.transaction(), connection.cursor() as cursor:
                assert refresh_some(cursor, first=None, last=None, rest_s=0, limit=10) == 1
                insert(late, T0, query_id="late")
                assert reader.execute(WRONG).fetchall() == []
            assert reader.execute(WRONG).fetchall() == []
        assert reader.execute(WRONG).fetchall() == []
        assert logged(reader) == 1
        refresh(reader)
        assert reader.execute(WRONG).fetchall() == []
        assert logged(reader) == 0


def test_a_snapshot_from_before_a_refresh_stays_exact(db_url: str, connection: psycopg.Connection[Any]) -> None:
    insert(connection, *HOURS)
    refresh(connection)
    with snapshot(db_url) as before:
        insert(connection, *HOURS, query_id="more")
        with snapshot(db_url) as between:
            refresh(connection)
            assert before.execute(WRONG).fetchall() == []
            assert between.execute(WRONG).fetchall() == []


def test_a_second_refresh_at_the_same_time_does_nothing(db_url: str, connection: psycopg.Connection[Any]) -> None:
    insert(connection, T0)
    with connect(db_url) as second:
        with connection.transaction(), connection.cursor() as cursor:
            assert refresh_some(cursor, first=None, last=None, rest_s=0, limit=10) == 1
            refresh(second)
        assert second.execute(WRONG).fetchall() == []
        assert logged(second) == 0


def test_random_transactions_at_the_same_time_leave_exact_sums(
    db_url: str, connection: psycopg.Connection[Any]
) -> None:
    """Three writers and two refreshers run; every read, in old and new snapshots, equals a direct GROUP BY."""
    with _workers(db_url, writers=("a", "b", "c"), refreshers=2) as failures:
        for _ in range(12):
            with ExitStack() as stack:
                snapshots = [connection]
                for _ in range(5):
                    snapshots.append(stack.enter_context(snapshot(db_url)))
                    for reader in snapshots:
                        assert reader.execute(WRONG).fetchall() == []
    assert failures == []
    refresh(connection)
    assert (logged(connection), calls_read(connection)) == (0, 0)
    assert connection.execute(WRONG).fetchall() == []
    row = connection.execute("SELECT count(*) FROM rlm_cachetrack_hourly_sums").fetchone()
    assert row is not None
    assert row[0] > 0


@contextmanager
def _workers(url: str, writers: Sequence[str], refreshers: int) -> Iterator[list[BaseException]]:
    """Run writers and refreshers in threads until the block ends; yields their failures."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def work(step: Callable[[psycopg.Connection[Any], random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        try:
            with connect(url) as own:
                while not ended.is_set():
                    step(own, chance)
        except BaseException as exc:
            failures.append(exc)

    steps = [*(partial(_write, name=name) for name in writers), *[_refresh_some] * refreshers]
    threads = [threading.Thread(target=work, args=(step, seed)) for seed, step in enumerate(steps)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _write(connection: psycopg.Connection[Any], chance: random.Random, name: str) -> None:
    """Change calls of one writer in a transaction, which is rolled back now and then."""
    with suppress(_Rollback), connection.transaction():
        for _ in range(chance.randint(1, 4)):
            _change(connection, chance, name)
            time.sleep(chance.random() * 0.003)
        if chance.random() < 0.2:
            raise _Rollback


def _refresh_some(connection: psycopg.Connection[Any], chance: random.Random) -> None:
    with suppress(psycopg.errors.SerializationFailure), connection.transaction(), connection.cursor() as cursor:
        refresh_some(cursor, first=None, last=None, rest_s=0, limit=chance.randint(1, 3))
        time.sleep(chance.random() * 0.003)


class _Rollback(Exception):  # noqa: N818 - not an error
    """The transaction must be rolled back."""


def _change(connection: psycopg.Connection[Any], chance: random.Random, name: str) -> None:
    """Insert, re-price, move or delete calls of one writer, in a random hour."""
    hour = chance.choice(HOURS)
    mine = {"name": name, "hour": hour, "until": hour + timedelta(hours=1), "cost": chance.randint(1, 99)}
    action = chance.random()
    if action < 0.5:
        prompt = chance.choice((None, 100, 200))
        cached = chance.choice((None, 0, 60))
        row = [
            name,
            T0,
            hour + timedelta(seconds=chance.randrange(3600)),
            chance.choice(("m1", "m2")),
            chance.choice((None, "p")),
            chance.choice((None, "flex")),
            chance.random() < 0.9,
            prompt,
            cached,
            None if prompt is None or cached is None else prompt - cached,
            chance.choice((None, 7)),
            chance.choice((None, 3)),
            chance.choice((None, 5)),
            chance.choice((None, 250)),
        ]
        connection.cursor().executemany(INSERT, [row] * chance.randint(1, 3))
    elif action < 0.75:
        connection.execute(
            "UPDATE llm_interactions SET total_cost = %(cost)s"
            " WHERE query_id = %(name)s AND time >= %(hour)s AND time < %(until)s",
            mine,
        )
    elif action < 0.85:
        connection.execute(
            "UPDATE llm_interactions SET time = time + INTERVAL '1 hour' WHERE query_id = %(name)s"
            " AND time >= %(hour)s AND time < %(until)s AND time < '2026-03-01 17:00Z'",
            mine,
        )
    else:
        connection.execute(
            "DELETE FROM llm_interactions WHERE query_id = %(name)s AND time >= %(hour)s AND time < %(until)s", mine
        )


# -- who refreshes ----------------------------------------------------------------------------------------------------


def test_the_writer_refreshes_hours_at_rest(
    db_url: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(connection, *HOURS)
    connection.execute("UPDATE rlm_cachetrack_changed_hours SET changed_at = now() - INTERVAL '2 minutes'")
    insert(connection, HOURS[0])  # this hour changed a moment ago
    monkeypatch.setattr(hourly_sums, "_TIME_PER_BATCH_S", 60.0)
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(LLMInteractionRecord("new", T0, "m", prompt_tokens=5))
        db.flush()
        assert logged(connection) == 2  # that hour, and the hour of the new call
        assert connection.execute(WRONG).fetchall() == []
        monkeypatch.setattr(hourly_sums, "_REST_S", 0.0)
        db.record_llm_interaction(LLMInteractionRecord("new", T0, "m", prompt_tokens=5))
        db.flush()
        assert logged(connection) == 2  # the next refresh of this process is due in half a minute


def test_a_delete_refreshes_its_hours(db_url: str, connection: psycopg.Connection[Any]) -> None:
    insert(connection, *HOURS, query_id="gone")
    insert(connection, *HOURS, query_id="kept")
    with TimescaleDBClient(db_url) as db:
        db.delete(query_id="gone")
    assert (logged(connection), calls_read(connection)) == (0, 0)
    assert connection.execute(WRONG).fetchall() == []


def test_a_read_refreshes_nothing(db_url: str, connection: psycopg.Connection[Any]) -> None:
    insert(connection, *HOURS)
    connection.execute("UPDATE rlm_cachetrack_changed_hours SET changed_at = now() - INTERVAL '2 minutes'")
    with TimescaleDBClient(db_url) as db:
        assert db.get_cache_effectiveness_by_model()[0]["total_interactions"] == len(HOURS)
    assert logged(connection) == len(HOURS)


def test_a_refresh_that_fails_fails_no_batch(
    db_url: str, connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON rlm_cachetrack_hourly_sums FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    insert(connection, T0)
    connection.execute("UPDATE rlm_cachetrack_changed_hours SET changed_at = now() - INTERVAL '2 minutes'")
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(LLMInteractionRecord("new", T0, "m", prompt_tokens=5))
        assert db.flush()
    assert "the stored hourly sums cannot be refreshed, so reads take longer: not now" in caplog.text
    assert connection.execute(WRONG).fetchall() == []


def test_programs_that_may_only_insert_calls_log_their_hours(db_url: str, connection: psycopg.Connection[Any]) -> None:
    """A role that has no right on our other tables, with a search_path that does not contain them."""
    insert(connection, T0)
    refresh(connection)
    connection.execute("CREATE ROLE rlm_test_inserter")
    try:
        connection.execute("GRANT INSERT ON llm_interactions TO rlm_test_inserter")
        with connection.transaction():
            connection.execute("SET LOCAL ROLE rlm_test_inserter")
            connection.execute("SET LOCAL search_path = pg_catalog")
            insert_into = "INSERT INTO public.llm_interactions (query_id, run_id, time, model) VALUES (%s, %s, %s, %s)"
            connection.execute(insert_into, ["q", T0, T0, "m"])
        assert logged(connection) == 1
        assert connection.execute(WRONG).fetchall() == []
    finally:
        connection.execute("DROP OWNED BY rlm_test_inserter; DROP ROLE rlm_test_inserter")


# -- upgrades and conversions -----------------------------------------------------------------------------------------


def test_the_calls_of_a_legacy_table_are_summed_by_its_upgrade(
    db_url: str, connection: psycopg.Connection[Any], empty_db_url: str
) -> None:
    with connect(empty_db_url) as legacy:
        create_legacy_table(legacy)
        upgrade(empty_db_url)
        assert (logged(legacy), calls_read(legacy)) == (0, 0)
        assert legacy.execute(WRONG).fetchall() == []
        assert legacy.execute("SELECT sum(total_interactions)::int FROM cache_usage_hourly").fetchone() == (10,)


def test_a_plain_database_can_become_one_of_timescaledb(timescale_url: str) -> None:
    """The upgrade drops the stored sums and triggers, and no call is lost."""
    total = "SELECT count(DISTINCT bucket)::int, sum(total_interactions)::int FROM cache_usage_hourly"
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        connection.execute(as_sql(scripts_for(Engine("15"))))  # type: ignore[arg-type]
        assert isinstance(hourly.find(connection), HourlySums)
        insert(connection, *HOURS, *HOURS[:2])
        connection.execute("CREATE EXTENSION timescaledb")
        assert migrations.migrate(connection) == ["timescale/0001_hypertables", "timescale/0002_community"]
        assert isinstance(hourly.find(connection), HourlyAggregate)
        assert connection.execute(total).fetchone() == (6, 8)
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relname LIKE 'rlm_cachetrack_%sums%' OR relname LIKE '%changed_hours%'"
            " UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE 'rlm_cachetrack_%'"
        ).fetchall()
        assert left == []
