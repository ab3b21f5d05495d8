"""Citus: which tables are distributed and how, the same numbers as on plain PostgreSQL, and adding a node.

The tests start a cluster from an installed PostgreSQL with the extension (a coordinator and two workers), or use the
one whose coordinator is in ``RLM_CACHETRACK_TEST_CITUS_URL``, where databases may be created on every node. The whole
suite runs on such a cluster too: set ``RLM_CACHETRACK_TEST_DB_URL`` to the coordinator.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics import usage_views
from rlm_cachetrack.cli import app
from rlm_cachetrack.records import COLUMNS, RecordBatch
from rlm_cachetrack.store import migrations
from rlm_cachetrack.store import named_sql as _sql
from rlm_cachetrack.store.engine import detect
from rlm_cachetrack.store.postgres import PostgresStore
from tests.conftest import _database
from tests.integration.store.test_plans import NARROW, header_and_statement
from tests.integration.store.test_roles import ROLES, made, roles_removed
from tests.support import clusters, web

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SCALING = Path(__file__).parents[3] / "docs" / "scaling.md"


@pytest.fixture
def migrated(citus_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(citus_url, autocommit=True) as connection:
        migrations.migrate(connection)
        yield connection


def rows(connection: psycopg.Connection[Any], statement: str, *values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(statement, values or None).fetchall()


# -- the schema -------------------------------------------------------------------------------------------------------


def test_growing_tables_are_distributed_and_co_located_by_query(
    migrated: psycopg.Connection[Any],
) -> None:
    found = rows(
        migrated,
        "SELECT table_name::text, citus_table_type, distribution_column, min(colocation_id) OVER (PARTITION BY"
        " citus_table_type) = colocation_id FROM citus_tables ORDER BY 1",
    )
    assert found == [
        ("alert_states", "reference", "<none>", True),
        ("budgets", "reference", "<none>", True),
        ("llm_interactions", "distributed", "query_id", True),
        ("price_change_rows", "distributed", "query_id", True),
        ("price_change_runs", "distributed", "query_id", True),
        ("price_changes", "reference", "<none>", True),
        ("price_lists", "reference", "<none>", True),
        ("query_run_summaries", "distributed", "query_id", True),
        ("rlm_cachetrack_migrations", "reference", "<none>", True),
        ("token_cache_optimization", "distributed", "query_id", True),
    ]


def test_migrating_again_finds_nothing_to_do_on_any_node(citus: clusters.Citus) -> None:
    with psycopg.connect(citus.coordinator, autocommit=True) as connection:
        applied = migrations.migrate(connection)
        assert sorted(label for label in applied if label.startswith("citus/")) == [
            f"citus/{path.stem}" for path in sorted((_sql.schema_dir() / "citus").glob("*.sql"))
        ]
        assert migrations.migrate(connection) == []
        assert migrations.describe(connection)["engine"].startswith("Citus ")
    for worker in citus.workers:
        with psycopg.connect(worker, autocommit=True) as connection:
            assert migrations.migrate(connection) == []


def test_every_table_is_distributed_or_a_reference_table(migrated: psycopg.Connection[Any]) -> None:
    """A migration that creates a table needs a script in schema/citus that distributes it."""
    left = rows(
        migrated,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        " AND oid NOT IN (SELECT logicalrelid FROM pg_dist_partition)"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')",
    )
    assert left == []


def test_the_view_has_the_columns_of_the_plain_one(migrated: psycopg.Connection[Any], empty_db_url: str) -> None:
    columns = (
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'cache_usage_hourly'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    with psycopg.connect(empty_db_url, autocommit=True) as plain:
        for script in (*_sql.scripts("core"), *_sql.scripts("postgresql")):
            for statement in script.statements:
                plain.execute(statement)
        assert rows(migrated, columns) == rows(plain, columns)


def test_calls_stored_before_the_extension_was_created_are_kept(citus_servers: clusters.Citus) -> None:
    """From one node to several: plain PostgreSQL, then the extension, then nodes, then `migrate`."""
    name = f"rlm_test_{uuid.uuid4().hex[:12]}"
    coordinator = make_conninfo(citus_servers.coordinator, dbname=name)
    with psycopg.connect(citus_servers.coordinator, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        before = everything(coordinator)
        with psycopg.connect(coordinator, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION citus")
            connection.execute("SELECT citus_set_coordinator_host(%s, %s)", clusters.node(coordinator))
            for worker in citus_servers.workers:
                clusters.create_citus_database(worker, name)
                connection.execute("SELECT citus_add_node(%s, %s)", clusters.node(worker))
        result = CliRunner().invoke(app, ["migrate", "--db-url", coordinator])
        assert result.exit_code == 0, result.output
        assert "applied citus/0001_distribute" in result.output
        with TimescaleDBClient(coordinator) as db:
            assert_equal(answers(db), before)
        with psycopg.connect(coordinator) as connection:  # no hidden rows in local tables
            connection.execute("SET citus.override_table_visibility = off")
            for table in ("llm_interactions", "query_run_summaries", "token_cache_optimization", "budgets"):
                size = "SELECT pg_relation_size(%s::regclass)"
                assert rows(connection, size, table) == [(0,)], table
    finally:
        citus_servers.drop(name)


# -- the same numbers -------------------------------------------------------------------------------------------------


def record_everything(db: TimescaleDBClient) -> None:
    """Ninety calls of nine runs of five queries over two days, three models, and every kind of unknown value."""
    for run in range(9):
        query_id, run_id = f"query-{run % 5}", T0 + timedelta(hours=5 * run)
        db.initialize_query_run(query_id, run_id, {"n": run})
        for step in range(10):
            start = run_id + timedelta(seconds=7 * step, milliseconds=3 * run)
            number = 10 * run + step
            fields: dict[str, Any] = {
                "prompt_tokens": 1000 + 97 * number % 700,
                "cached_tokens": (None, 0, 512 + 8 * run, 896 - 5 * run)[number % 4],
                "completion_tokens": 40 + number % 13,
                "iteration": None if step == 7 else step + 1,
                "provider": "openai",
            }
            if number % 11 == 5:
                fields = {"success": False, "error_type": "APIError", "cached_tokens": None}
            model = ("gpt-5", "gpt-4o-mini", "nobody/none")[number % 3]
            db.record_llm_interaction(
                LLMInteractionRecord(
                    query_id,
                    run_id,
                    model,
                    interaction_id=str(uuid.UUID(int=number + 1)),
                    start_time=start,
                    end_time=start + timedelta(milliseconds=300 + 31 * number),
                    duration_ms=300.0 + 31 * number,
                    time_to_first_token_ms=100.0 + number,
                    **fields,
                )
            )
        if run != 4:  # this run is still in progress
            db.complete_query_run(query_id, run_id)
    db.set_budget(0.05, period="month", name="all")


READS = {
    "runs": ["runs"],
    "runs of one": ["runs", "--query", "query-1"],
    "show": ["show", "query-0", "--run", T0.isoformat()],
    "compare": ["compare", "query-0", "query-1"],
    "top": ["top"],
    "models": ["models"],
    "models of a day": ["models", "--since", "2026-03-01T15:12:00Z", "--until", "2026-03-02T15:47:00Z"],
    "usage": ["usage", "--range", "all"],
    "usage by query and day": ["usage", "--by", "query,day", "--tz", "Europe/Berlin"],
    "usage by depth": ["usage", "--by", "depth,call_site"],
    "usage by tag": ["usage", "--by", "tag:user", "--since", "2026-03-01T00:00:00Z"],
    "usage by metadata": ["usage", "--by", "metadata.n,day"],
    "experiments": ["experiments", "--by", "query"],
    "latency": ["latency", "--since", "2026-03-01T00:00:00Z"],
    "explain": ["explain", "query-0", "--run", T0.isoformat()],
    "what-if": ["what-if", "--hit-rate", "0.5", "--since", "2026-03-01T00:00:00Z"],
    "what-if another": ["what-if", "--to-model", "gpt-5-mini", "--since", "2026-03-01T00:00:00Z"],
    "forecast": ["forecast"],
    "budget": ["budget", "list"],
    "reprice": ["reprice", "--dry-run"],
}
"""The reading commands, by their arguments."""


def answers(db: TimescaleDBClient) -> dict[str, Any]:
    """Return the results of every reading method and command for the calls of ``record_everything``."""
    results: dict[str, Any] = {}
    for run in db.list_query_runs():
        key = (run["query_id"], run["run_id"])
        results[f"run {key}"] = db.get_query_run_summary(*key)
        results[f"summary {key}"] = db.get_token_cache_summary(*key)
        results[f"optimization {key}"] = db.get_token_cache_optimization(*key)
        results[f"calls {key}"] = db.get_llm_interactions(*key)
    results["list"] = db.list_query_runs()
    results["top"] = db.get_top_cache_savings()
    results["models"] = db.get_cache_effectiveness_by_model()
    results["models of a day"] = db.get_cache_effectiveness_by_model(
        T0 + timedelta(hours=3, minutes=12), T0 + timedelta(hours=27, minutes=47)
    )
    results["unknown"] = db.get_token_cache_summary("nobody", T0)
    results["counted"] = db.count(query_id="query-1")
    for name, arguments in READS.items():
        result = CliRunner().invoke(app, [*arguments, "--json", "--db-url", db.runtime.store()._open_url()])
        assert result.exception is None or isinstance(result.exception, SystemExit), (name, result.exception)
        assert result.stdout.strip(), (name, result.output)
        results[f"$ {name}"] = (result.exit_code, json.loads(result.stdout))
    return results


PAGES = [
    "usage?range=all",
    "usage?range=all&model=gpt-5",
    "usage?since=2026-03-01T12:00:00Z&until=2026-03-02T12:00:00Z",
    "usage?since=2026-03-01T12:00:00Z&until=2026-03-01T13:30:00Z",  # by the minute, from the calls
    "savings",
    *(f"runs?sort={sort}&order={order}&limit=4" for sort in usage_views.SORTS for order in ("asc", "desc")),
    "runs?search=query-1",
    "runs?status=completed&sort=cost",
    "run?query_id=query-0&run_id=2026-03-01T12:00:00Z",
    "run/calls?query_id=query-0&run_id=2026-03-01T12:00:00Z&limit=3",
    "forecast",
]


def pages(url: str) -> dict[str, Any]:
    """Return the data of the dashboard's pages, with the second page of paged lists."""
    results: dict[str, Any] = {}
    with web.served(url) as address:
        for path in PAGES:
            page = httpx.get(f"{address}/api/{path}").raise_for_status().json()
            results[path] = page
            if path.startswith(("runs?", "run/calls?")) and (after := page.get("next")):
                results[f"{path}, next"] = (
                    httpx.get(f"{address}/api/{path}&after={quote(after)}").raise_for_status().json()
                )
    return results


def everything(url: str) -> dict[str, Any]:
    with TimescaleDBClient(url) as db:
        record_everything(db)
        assert db.flush()
        return answers(db)


CLOCKS = {"changed_at", "address", "key", "next"}


def assert_equal(ours: Any, expected: Any, where: str = "") -> None:
    """Assert that counts and texts are equal, and sums to a relative 1e-12; ignore the times at which the test ran."""
    if isinstance(expected, dict):
        assert ours.keys() == expected.keys(), where
        for key in expected.keys() - CLOCKS:
            # The times of a run are those of the test; the times of a call are given.
            if (
                key in ("start_time", "end_time", "duration_ms")
                and "interaction_id" not in expected
                and "status" in expected
            ):
                continue
            assert_equal(ours[key], expected[key], f"{where} / {key}")
    elif isinstance(expected, (list, tuple)):
        assert len(ours) == len(expected), where
        for number, (one, other) in enumerate(zip(ours, expected, strict=True)):
            assert_equal(one, other, f"{where} / {number}")
    elif isinstance(expected, float):
        assert ours == pytest.approx(expected, rel=1e-12, abs=1e-15), where
    else:
        assert ours == expected, where


def test_every_read_returns_what_it_returns_on_plain_postgresql(citus_url: str, db_url: str) -> None:
    with psycopg.connect(db_url) as plain:
        if detect(plain).citus:
            pytest.skip("the suite itself runs on Citus: there is no plain PostgreSQL to compare with")
    ours, expected = everything(citus_url), everything(db_url)
    assert len(expected) > 50
    assert_equal(ours, expected)
    assert_equal(pages(citus_url), pages(db_url))


def test_the_program_connects_to_a_worker_as_well(citus: clusters.Citus) -> None:
    """Metadata is on every node, so programs need not all connect to the coordinator."""
    expected = everything(citus.coordinator)
    with TimescaleDBClient(citus.workers[0]) as db:
        assert_equal(answers(db), expected)
        db.record_llm_interaction(LLMInteractionRecord("from a worker", T0, "m", prompt_tokens=10, cached_tokens=4))
        db.complete_query_run("from a worker", T0)
        assert db.flush()
    with TimescaleDBClient(citus.coordinator) as db:
        found = db.get_token_cache_optimization("from a worker", T0)
        assert found is not None
        assert found["total_cached_tokens"] == 4


def test_export_import_delete_and_reprice_equal_plain_postgresql(citus_url: str, db_url: str, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("version: 1\nper: 1M\nmodels:\n  gpt-5: {prompt: 2.5, cached: 0.5, completion: 20}\n")
    after: list[dict[str, Any]] = []
    for number, url in enumerate((citus_url, db_url)):
        everything(url)
        file = tmp_path / f"calls-{number}.jsonl"

        def run(*arguments: str, url: str = url) -> str:
            result = CliRunner().invoke(app, [*arguments, "--db-url", url])
            assert result.exit_code == 0, result.output
            return result.stdout

        run("export", "--output", str(file))
        with TimescaleDBClient(url, pricing=prices) as db:
            changed = db.reprice(prices)["change"]
            results = {"changed": changed["changed_interactions"], "before": changed["cost_before"]}
            results |= {"repriced": answers(db)}
            db.undo_repricing()
            results |= {"undone": answers(db)}
            results |= {"deleted": db.delete(query_id="query-2"), "pruned": db.delete(before=T0 + timedelta(hours=12))}
            results |= {"left": db.list_query_runs(), "sums": db.get_cache_effectiveness_by_model()}
        results |= {"imported": re.sub(r"\S*calls-\d\S*", "", run("import", str(file)))}
        with TimescaleDBClient(url) as db:
            assert db.flush()
            results |= {"again": db.get_cache_effectiveness_by_model()}
        after.append(results)
    assert after[1]["changed"] > 0
    assert_equal(*after)


# -- writing ----------------------------------------------------------------------------------------------------------


def counts(url: str) -> tuple[Any, ...]:
    with psycopg.connect(url) as connection:
        return rows(
            connection,
            "SELECT count(*)::int, count(DISTINCT interaction_id)::int, sum(prompt_tokens)::int FROM llm_interactions",
        )[0]


def test_a_batch_that_is_sent_again_is_stored_once(citus_url: str) -> None:
    def batch(first: int, last: int, again: bool) -> RecordBatch:
        known = [
            {"time": T0, "run_id": T0, "interaction_id": uuid.UUID(int=number), "success": True, "prompt_tokens": 10}
            for number in range(first, last)
        ]
        given = [{**row, "query_id": f"query-{number % 20}", "model": "m"} for number, row in enumerate(known, first)]
        return RecordBatch([tuple(row.get(name) for name in COLUMNS) for row in given], possible_duplicate=again)

    with TimescaleDBClient(citus_url) as db:
        store = db.runtime.store()
        assert isinstance(store, PostgresStore)
        store.store(batch(0, 1000, again=False))  # fast path: COPY into the table
        store.store(batch(0, 1000, again=True))  # the fast path fails: all stored already
        store.store(batch(500, 1500, again=False))  # the fast path fails, then the idempotent path
        store.store(batch(1000, 2000, again=True))
    assert counts(citus_url) == (2000, 2000, 20000)


def test_calls_of_a_killed_process_are_stored_by_the_next_and_none_twice(citus_url: str) -> None:
    """A process killed between the commit and the acknowledgement leaves stored events in its journal."""
    program = """
import os, signal, sys, threading
from datetime import UTC, datetime
from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient; from rlm_cachetrack.journal import journal
recorded = threading.Event()
journal.Journal.ack = lambda self, batch: recorded.wait() and os.kill(os.getpid(), signal.SIGKILL)
db = TimescaleDBClient(sys.argv[1])
for number in range(3000):
    run_id = datetime(2026, 3, 1, number % 7, tzinfo=UTC)
    db.record_llm_interaction(LLMInteractionRecord(f"query-{number % 20}", run_id, "m", prompt_tokens=10))
recorded.set()
db.flush(60)
"""
    done = subprocess.run([sys.executable, "-c", program, citus_url], timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL
    stored = counts(citus_url)[0]
    assert stored > 0
    with TimescaleDBClient(citus_url) as db:
        assert db.flush(60)
        assert db.stats()["dropped"] == {}
    assert counts(citus_url) == (3000, 3000, 30000)


def test_a_worker_that_loses_its_connections_loses_no_call(citus: clusters.Citus) -> None:
    stop = threading.Event()

    def cut() -> None:
        with psycopg.connect(citus.workers[0], autocommit=True) as connection:
            others = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'citus_%'"
            )
            while not stop.wait(0.05):
                connection.execute(others)

    cutting = threading.Thread(target=cut)
    with TimescaleDBClient(citus.coordinator) as db:
        cutting.start()
        try:
            for number in range(4000):
                db.record_llm_interaction(LLMInteractionRecord(f"query-{number % 20}", T0, "m", prompt_tokens=10))
        finally:
            stop.set()
            cutting.join()
        assert db.flush(60)
    assert counts(citus.coordinator) == (4000, 4000, 40000)


# -- plans ------------------------------------------------------------------------------------------------------------


def plan(connection: psycopg.Connection[Any], name: str, **values: Any) -> str:
    _, statement = header_and_statement(name)
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(f"EXPLAIN (COSTS OFF, VERBOSE) {statement}", {**NARROW, **values})
        return "\n".join(row[0] for row in cursor.fetchall())


OF_ONE_RUN = [
    "run_totals",
    "optimization",
    "interactions_of_run",
    "run_calls",
    "run_iterations",
    "run_records",
]


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_read_of_one_run_goes_to_one_shard(migrated: psycopg.Connection[Any], name: str) -> None:
    text = plan(migrated, name)
    assert re.findall(r"Task Count: (\d+)", text) == ["1"], text
    assert "Subplan" not in text


@pytest.mark.parametrize("name", ["cache_effectiveness_by_model", "usage_breakdown", "daily_costs"])
def test_sums_by_model_and_over_time_are_made_on_the_shards(migrated: psycopg.Connection[Any], name: str) -> None:
    """Each shard sums its own hours within the bounds of the query, and sends one row per group."""
    text = plan(migrated, name)
    (shards,) = rows(migrated, "SELECT shard_count FROM citus_tables WHERE table_name = 'llm_interactions'::regclass")
    tasks = re.split(r"(?=Task Count: )", text)
    pushed = [task for task in tasks if f"Task Count: {shards[0]}\n" in task and "date_bin" in task]
    # Partial hours are summed from the calls, in a separate task whose first column is the hour.
    pushed = [task for task in pushed if "Query: SELECT date_bin" not in task]
    assert pushed, text
    for task in pushed:
        query = next(line for line in task.splitlines() if "Query: " in line)
        assert query.count("GROUP BY") >= 2, query  # by hour, then by the requested grouping
        assert "query_id" in query, query
        # The time bound is applied on the shard, before its sums.
        assert re.search(r"(Index Cond|Filter|Recheck Cond): .*date_bin.*>=", task), task


# -- nodes ------------------------------------------------------------------------------------------------------------


def shard_count(url: str) -> int:
    with psycopg.connect(url) as connection:
        count = "SELECT shard_count FROM citus_tables WHERE table_name = 'llm_interactions'::regclass"
        return int(rows(connection, count)[0][0])


def documented(heading: str) -> list[str]:
    """The statements of the SQL blocks under a heading of docs/scaling.md."""
    text = SCALING.read_text(encoding="utf-8").split(f"\n### {heading}\n")[1].split("\n#")[0]
    blocks = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    return [statement for block in blocks for statement in _sql.Script("docs", 1, heading, block).statements]


def test_shards_move_to_a_new_node_while_calls_are_recorded(citus: clusters.Citus) -> None:
    """Runs the statements of docs/scaling.md."""
    programs = clusters.installation_with("citus")
    if programs is None:
        pytest.skip("no Citus is installed here to start one more node with")
    statements = documented("One more node")
    stop, recorded = threading.Event(), 0
    with clusters.citus_cluster(programs, workers=0) as more, TimescaleDBClient(citus.coordinator) as db:
        record_everything(db)
        assert db.flush()
        before = answers(db)
        host, port = clusters.node(more.coordinator)
        database = psycopg.conninfo.conninfo_to_dict(citus.coordinator)["dbname"]
        clusters.create_citus_database(more.coordinator, str(database))

        def record() -> None:
            nonlocal recorded
            while not stop.wait(0.002):
                db.record_llm_interaction(LLMInteractionRecord(f"more-{recorded % 20}", T0, "m", prompt_tokens=10))
                recorded += 1

        recording = threading.Thread(target=record)
        recording.start()
        try:
            with psycopg.connect(citus.coordinator, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement.replace("'10.0.0.4', 5432", f"'{host}', {port}"))
        finally:
            stop.set()
            recording.join()
        assert any("citus_add_node" in statement for statement in statements)
        assert db.flush(60)
        doctor = CliRunner().invoke(app, ["doctor", "--json", "--db-url", citus.coordinator])
        nodes = {node["node"]: node for node in json.loads(doctor.stdout)["database"]["cluster"]["nodes"]}
        coordinator, *others = sorted(node["shards"] for node in nodes.values())
        assert coordinator == 0  # the coordinator has none
        assert sum(others) == shard_count(citus.coordinator)
        assert others[-1] - others[0] <= 1  # evenly distributed
        assert nodes[f"{host}:{port}"]["shards"] in others
        with psycopg.connect(citus.coordinator) as connection:
            found = rows(connection, "SELECT count(*)::int FROM llm_interactions WHERE query_id LIKE 'more-%'")
        assert found == [(recorded,)]
        assert recorded > 0
        for number in range(20):
            db.delete(query_id=f"more-{number}")
        assert_equal(answers(db), before)
        # Remove it again: other tests use the cluster.
        with psycopg.connect(citus.coordinator, autocommit=True) as connection:
            for statement in documented("One node less"):
                connection.execute(statement.replace("'10.0.0.4', 5432", f"'{host}', {port}"))
        assert_equal(answers(db), before)


def test_doctor_shows_nodes_and_shards(citus: clusters.Citus) -> None:
    with TimescaleDBClient(citus.coordinator) as db:
        record_everything(db)
    result = CliRunner().invoke(app, ["doctor", "--db-url", citus.coordinator], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    host, port = clusters.node(citus.coordinator)
    assert f"nodes {host}:{port}, coordinator, " in output
    count = shard_count(citus.coordinator)
    each = count // len(citus.workers)
    for worker in citus.workers:
        host, port = clusters.node(worker)
        assert re.search(rf"{re.escape(host)}:{port}, {each} shards of calls, [\d.]+ [kM]B", output)
    assert (
        f"shards llm_interactions by query_id in {count}, with price_change_rows, price_change_runs,"
        " query_run_summaries, token_cache_optimization"
    ) in output
    assert "on every node: alert_states, budgets, price_changes, price_lists, rlm_cachetrack_migrations" in output
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json", "--db-url", citus.coordinator]).stdout)
    cluster = found["database"]["cluster"]
    assert [node["shards"] for node in cluster["nodes"]] == [0, *(each for _ in citus.workers)]
    assert {table["colocation"] for table in cluster["tables"] if table["kind"] == "distributed"} == {
        table["colocation"] for table in cluster["tables"] if table["table"] == "llm_interactions"
    }


# -- roles ------------------------------------------------------------------------------------------------------------


def test_the_roles_hold_on_every_node(citus_servers: clusters.Citus, citus: clusters.Citus) -> None:
    with roles_removed(citus_servers.coordinator):
        roles = made(citus.coordinator)
        with TimescaleDBClient(roles["writer"]) as db:
            db.initialize_query_run("q", T0, {"n": 1})
            db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", start_time=T0, prompt_tokens=10))
            db.complete_query_run("q", T0)
            assert db.flush()
            with pytest.raises(Exception, match=r"permission denied for table llm_interactions"):
                db.delete(query_id="q")
        with TimescaleDBClient(roles["reader"]) as db:
            assert db.get_cache_effectiveness_by_model()[0]["total_prompt_tokens"] == 10
            assert db.list_query_runs()[0]["total_interactions"] == 1
            assert db.list_budgets() == []
        doctor = CliRunner().invoke(app, ["doctor", "--db-url", roles["reader"]])
        assert doctor.exit_code == 1, doctor.output  # a reader cannot record; everything else is shown
        assert "permission denied" in " ".join(doctor.output.split())
        for url in (citus.coordinator, *citus.workers):
            writer = make_conninfo(url, user=roles.names["writer"], password="x")
            with psycopg.connect(writer) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("UPDATE llm_interactions SET total_cost = 0")
        with psycopg.connect(citus.coordinator, autocommit=True) as admin:
            admin.execute(ROLES)  # changes nothing, and fails nowhere
        citus_servers.drop(str(psycopg.conninfo.conninfo_to_dict(citus.coordinator)["dbname"]))


# -- beside TimescaleDB -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both_server() -> Iterator[str]:
    """Yield the URL of a server that has loaded both extensions, if one is installed."""
    programs = clusters.installation_with("citus")
    if programs is None or programs != clusters.installation_with("timescaledb"):
        pytest.skip("no installed PostgreSQL has both citus.control and timescaledb.control")
    loaded = {"shared_preload_libraries": "citus,timescaledb", "timescaledb__max_background_workers": "0"}
    conninfo = {"citus__node_conninfo": "sslmode=prefer", "citus__shard_count": "2"}
    with clusters.cluster(programs, None, wal_level="logical", **loaded, **conninfo) as url:
        yield url


@pytest.fixture
def both_url(both_server: str) -> Iterator[str]:
    with contextlib.contextmanager(_database)(both_server, "template0") as url:
        yield url


def alone(connection: psycopg.Connection[Any]) -> None:
    """Make the server a cluster of one node."""
    connection.execute("CREATE EXTENSION citus")
    host, port = connection.info.host, connection.info.port
    connection.execute("SELECT citus_set_coordinator_host(%s, %s)", [host, port])
    connection.execute("SELECT citus_set_node_property(%s, %s, 'shouldhaveshards', TRUE)", [host, port])


def test_no_table_can_be_of_both_extensions(both_url: str) -> None:
    """docs/scaling.md relies on this; reconsider its advice if a release changes it."""
    with psycopg.connect(both_url, autocommit=True) as connection:
        alone(connection)
        connection.execute("CREATE EXTENSION timescaledb")
        connection.execute("CREATE TABLE hyper (time timestamptz NOT NULL, q text)")
        connection.execute("SELECT create_hypertable('hyper', 'time')")
        connection.execute("INSERT INTO hyper VALUES (now(), 'a')")  # without a chunk it would be accepted
        with pytest.raises(psycopg.errors.WrongObjectType, match="not a regular, foreign or partitioned table"):
            connection.execute("SELECT create_distributed_table('hyper', 'q')")
        # The other order is accepted but does not work: rows go to shards, chunks and sums stay empty.
        connection.execute("CREATE TABLE spread (time timestamptz NOT NULL, q text)")
        connection.execute("SELECT create_distributed_table('spread', 'q')")
        connection.execute("SELECT create_hypertable('spread', 'time')")
        connection.execute("INSERT INTO spread VALUES (now() - INTERVAL '1 day', 'a'), (now() - INTERVAL '1 day', 'b')")
        connection.execute(
            "CREATE MATERIALIZED VIEW sums WITH (timescaledb.continuous) AS"
            " SELECT time_bucket('1 hour', time) AS bucket, count(*) AS n FROM spread GROUP BY 1"
        )
        assert rows(connection, "SELECT count(*) FROM spread") == [(2,)]
        assert rows(connection, "SELECT count(*) FROM show_chunks('spread')") == [(0,)]
        assert rows(connection, "SELECT sum(n) FROM sums") == [(None,)]


def test_a_database_with_both_uses_timescale_if_no_table_is_distributed(both_url: str) -> None:
    with psycopg.connect(both_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        alone(connection)
        applied = migrations.migrate(connection)
        assert {label.split("/")[0] for label in applied} == {"core", "timescale"}
    result = CliRunner().invoke(app, ["doctor", "--db-url", both_url])
    assert result.exit_code == 0, result.output
    expected = r"extension TimescaleDB .*! Citus \S+ is also installed, but no table can belong to"
    assert re.search(expected, " ".join(result.output.split()))


def test_distributed_tables_stay_when_timescale_is_created_later(both_url: str) -> None:
    with psycopg.connect(both_url, autocommit=True) as connection:
        alone(connection)
        assert "citus/0001_distribute" in migrations.migrate(connection)  # and TimescaleDB's extension is not created
        assert detect(connection).unused is None
        connection.execute("CREATE EXTENSION timescaledb")
        assert migrations.pending(connection) == []
        assert migrations.describe(connection)["unused_extension"].startswith("TimescaleDB ")
    with TimescaleDBClient(both_url) as db:
        record_everything(db)
        assert db.flush()
        assert sum(model["total_interactions"] for model in db.get_cache_effectiveness_by_model()) == 90
