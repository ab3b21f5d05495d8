"""Re-price stored calls and undo it, on PostgreSQL and, if it is available, on TimescaleDB."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics.planning import repricing
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError, NotStoredError
from rlm_cachetrack.pricing.price_book import PriceBook
from rlm_cachetrack.store import migrations
from tests.support.timescale import to_columnstore

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)

OLD = """\
version: 1
per: 1M
models:
  mine: {prompt: 1, cached: 0.1, cache_write: 1.25, completion: 4, tiers: {flex: 0.5}}
  same: {prompt: 3, completion: 3}
"""
# mine: more expensive, again from March 2nd on, and with a price for long prompts; new: was unpriced
NEW = """\
version: 1
per: 1M
models:
  mine:
    - {valid_to: 2026-03-02, prompt: 2, cached: 0.2, cache_write: 2.5, completion: 8, tiers: {flex: 0.5}}
    - valid_from: 2026-03-02
      prompt: 3
      cached: 0.3
      completion: 9
      above: {200000: {prompt: 6, completion: 18}}
      tiers: {flex: 0.5}
  same: {prompt: 3, completion: 3}
  new: {prompt: 5, completion: 5}
"""
COSTS = (
    "prompt_token_price",
    "cached_token_price",
    "cache_write_token_price",
    "completion_token_price",
    "total_cost",
    "original_cost",
    "price_source",
)


def record(query_id: str, model: str, hours: float, prompt: int, **more: Any) -> LLMInteractionRecord:
    at = T0 + timedelta(hours=hours)
    given = {"completion_tokens": 100, "cached_tokens": 0, "start_time": at, **more}
    return LLMInteractionRecord(query_id, T0, model, prompt_tokens=prompt, **given)


def fill(db: TimescaleDBClient) -> None:
    """Record every kind of call: cached, written, flex, long, later, unpriced, failed, returned cost, given prices."""
    for call in (
        record("a", "mine", 0, 1_000, cached_tokens=600, iteration=1),
        record("a", "mine", 1, 2_000, cached_tokens=1_000, cache_write_tokens=500, iteration=2),
        record("a", "mine", 2, 1_000, service_tier="flex", iteration=3),
        record("a", "mine", 13, 1_000, cached_tokens=None, iteration=4),
        record("a", "mine", 14, 200_001, iteration=5),
        record("a", "new", 3, 1_000),
        record("a", "nobody", 3, 1_000),
        record("a", "same", 4, 1_000),
        record("a", "mine", 5, 1_000, prompt_token_price=7.0, completion_token_price=7.0),
        record("a", "mine", 6, 1_000, cached_tokens=400, total_cost=0.5, price_source="provider"),
        LLMInteractionRecord("a", T0, "mine", cached_tokens=None, success=False, start_time=T0),
        record("b", "mine", 0, 1_000, cached_tokens=600),
    ):
        db.record_llm_interaction(call)
    db.complete_query_run("a", T0)
    db.complete_query_run("b", T0)
    assert db.flush()


def snapshot(url: str) -> dict[str, Any]:
    """Return all columns of the tables that re-pricing may change, with exact values."""
    with psycopg.connect(url) as connection:
        return {
            "calls": connection.execute(
                "SELECT interaction_id, * FROM llm_interactions ORDER BY interaction_id"
            ).fetchall(),
            "optimizations": connection.execute(
                "SELECT * FROM token_cache_optimization ORDER BY query_id, run_id"
            ).fetchall(),
            "runs": connection.execute("SELECT * FROM query_run_summaries ORDER BY query_id, run_id").fetchall(),
        }


def costs_of(db: TimescaleDBClient, query_id: str) -> list[dict[str, Any]]:
    rows = sorted(db.get_llm_interactions(query_id, T0), key=lambda row: (row["time"], row["model"]))
    return [{name: row[name] for name in ("model", *COSTS)} for row in rows]


def test_re_pricing_gives_every_call_the_cost_of_a_new_recording(
    db_url: str, empty_db_url: str, old: Path, new: Path
) -> None:
    with TimescaleDBClient(empty_db_url, pricing=new) as fresh:
        fill(fresh)
        expected = costs_of(fresh, "a")
        expected_optimization = fresh.get_token_cache_optimization("a", T0)
        expected_run = fresh.get_query_run_summary("a", T0)
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        assert costs_of(db, "a") != expected
        done = db.reprice(new)
        found = costs_of(db, "a")
        optimization = db.get_token_cache_optimization("a", T0)
        run = db.get_query_run_summary("a", T0)
    assert expected_optimization is not None
    assert optimization is not None
    assert run is not None
    assert expected_run is not None
    sha_new = expected[0]["price_source"]
    for was, would_be in zip(found, expected, strict=True):
        if would_be["model"] == "same":  # unchanged prices keep the name of their file
            assert was.pop("price_source") != would_be.pop("price_source")
        assert was == would_be
    assert sorted(row["model"] for row in found if row.get("price_source") == sha_new) == ["mine"] * 6 + ["new"]
    for name in ("original_cost", "cached_cost", "cost_savings", "cost_savings_percentage"):
        assert optimization[name] == pytest.approx(expected_optimization[name], rel=1e-12)  # type: ignore[literal-required]
    assert optimization["unpriced_interactions"] == expected_optimization["unpriced_interactions"] == 1
    assert run["total_cost"] == pytest.approx(expected_run["total_cost"], rel=1e-12)
    # mine: 6 priced calls, one with a returned cost and the failed one; the one with given prices is skipped
    by_model = {row["model"]: row for row in done["difference"]}
    assert {name: (row["total_interactions"], row["changed_interactions"]) for name, row in by_model.items()} == {
        "mine": (8, 8),
        "new": (1, 1),
        "nobody": (1, 0),
        "same": (1, 0),
    }
    assert (by_model["new"]["unpriced_before"], by_model["new"]["unpriced_after"]) == (1, 0)
    assert by_model["new"]["cost_before"] is None
    assert by_model["new"]["cost_after"] == pytest.approx(0.0055, abs=1e-12)  # 1,000 x 5 + 100 x 5
    assert done["change"] is not None
    assert (done["change"]["status"], done["change"]["changed_interactions"]) == ("done", 9)


def test_costs_after_a_re_pricing_by_hand(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        db.reprice(new)
        found = {(row["time"] - T0).total_seconds() / 3600: row for row in db.get_llm_interactions("a", T0)
                 if row["success"]}  # fmt: skip
    expected = {
        0: (0.00172, 0.0028),  # 400 x 2 + 600 x 0.2 + 100 x 8; 1,000 x 2 + 100 x 8
        1: (0.00325, 0.0048),  # 500 x 2 + 1,000 x 0.2 + 500 x 2.5 + 100 x 8; 2,000 x 2 + 100 x 8
        2: (0.0014, 0.0014),  # flex: (1,000 x 2 + 100 x 8) / 2
        13: (0.0039, 0.0039),  # from March 2nd on: 1,000 x 3 + 100 x 9
        14: (1.201806, 1.201806),  # long: 200,001 x 6 + 100 x 18
        6: (0.5, 0.5 + 0.00072),  # the returned cost stays: 400 x (2 - 0.2) more without the cache
    }
    for hours, (total, original) in expected.items():
        assert found[hours]["total_cost"] == pytest.approx(total, abs=1e-9), hours
        assert found[hours]["original_cost"] == pytest.approx(original, abs=1e-9), hours
    assert found[5]["prompt_token_price"] == 7.0  # given by hand


def test_only_unpriced_calls_are_priced_when_asked(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        before = {row["interaction_id"]: row for row in db.get_llm_interactions("a", T0)}
        done = db.reprice(new, unpriced=True)
        after = {row["interaction_id"]: row for row in db.get_llm_interactions("a", T0)}
    changed = [row["model"] for key, row in after.items() if row != before[key]]
    assert changed == ["new"]
    assert {row["model"] for row in done["difference"] if row["changed_interactions"]} == {"new"}


def test_prices_without_a_source_are_given_prices(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        with psycopg.connect(db_url) as connection:
            connection.execute("UPDATE llm_interactions SET price_source = NULL WHERE query_id = 'b'")
        before = costs_of(db, "b")
        db.reprice(new, query_id="b")
        assert costs_of(db, "b") == before
        db.reprice(new, query_id="b", include_given=True)
        (found,) = costs_of(db, "b")
    assert found["total_cost"] == pytest.approx(0.00172, abs=1e-9)  # 400 x 2 + 600 x 0.2 + 100 x 8


def test_undo_restores_every_cost_to_the_last_bit(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        before = snapshot(db_url)
        db.reprice(new)
        assert snapshot(db_url) != before
        undone = db.undo_repricing()
        assert undone["status"] == "undone"
        assert snapshot(db_url) == before
        (logged,) = db.list_price_changes()
        assert (logged["status"], logged["changed_interactions"]) == ("undone", 9)
        with pytest.raises(NotStoredError):
            db.undo_repricing()
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM price_change_rows").fetchone() == (0,)


def test_the_newest_re_pricing_must_be_undone_first(db_url: str, old: Path, new: Path, tmp_path: Path) -> None:
    third = tmp_path / "third.yaml"
    third.write_text(OLD.replace("prompt: 1,", "prompt: 50,"))
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        states = [snapshot(db_url)]
        first = db.reprice(new)["change"]
        states.append(snapshot(db_url))
        second = db.reprice(third)["change"]
        assert first is not None
        assert second is not None
        with pytest.raises(ConfigError, match="undo the newest first"):
            db.undo_repricing(first["change_id"])
        db.undo_repricing(second["change_id"])
        assert snapshot(db_url) == states[1]
        db.undo_repricing()
        assert snapshot(db_url) == states[0]


def test_undo_keeps_later_calls_in_the_sums(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        db.reprice(new)
        db.record_llm_interaction(record("b", "mine", 1, 1_000_000, completion_tokens=0))
        db.undo_repricing()
        found = db.get_token_cache_optimization("b", T0)
    assert found is not None
    # 400 x 1 + 600 x 0.1 + 100 x 4, and 1,000,000 x 1
    assert found["cached_cost"] == pytest.approx(0.00086 + 1.0, abs=1e-9)


def test_a_dry_run_changes_and_logs_nothing(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        before = snapshot(db_url)
        answer = db.reprice(new, dry_run=True)
        assert answer["change"] is None
        assert sum(row["changed_interactions"] for row in answer["difference"]) == 9
        assert snapshot(db_url) == before
        assert db.list_price_changes() == []


@pytest.mark.parametrize(
    ("which", "changed"),
    [
        ({"model": "new"}, 1),
        ({"query_id": "b"}, 1),
        ({"since": T0 + timedelta(hours=13)}, 2),
        ({"until": T0 + timedelta(hours=1)}, 3),  # the first call of a, the one of b, and the failed one
        ({"since": T0 + timedelta(hours=1), "until": T0 + timedelta(hours=3), "query_id": "a"}, 2),
    ],
)
def test_only_selected_calls_change(
    reused_db_url: str, old: Path, new: Path, which: dict[str, Any], changed: int
) -> None:
    with TimescaleDBClient(reused_db_url, pricing=old) as db:
        fill(db)
        before = {row[0]: row for row in snapshot(reused_db_url)["calls"]}
        done = db.reprice(new, **which)["change"]
        after = {row[0]: row for row in snapshot(reused_db_url)["calls"]}
    assert done is not None
    assert done["changed_interactions"] == changed
    assert sum(before[key] != after[key] for key in before) == changed


def test_batches_that_split_calls_of_one_time_lose_none(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        for number in range(10):
            db.record_llm_interaction(record("q", "mine", 0, 1_000 + number))
        store = db.reader()
        progress: list[tuple[int, int]] = []
        done = repricing.apply(
            store,
            PriceBook.load(new),
            repricing.selection(),
            batch=3,
            progress=lambda *some: progress.append(some),
        )
        assert progress == [(3, 10), (6, 10), (9, 10), (10, 10)]
        assert (done["batches"], done["changed_interactions"]) == (4, 10)
        totals = sorted(row["total_cost"] for row in db.get_llm_interactions("q", T0))
    # (1,000 + n) x 2 + 100 x 8
    assert totals == [pytest.approx(0.0028 + number * 2e-6, abs=1e-12) for number in range(10)]


STOPPED = """
import os, signal, sys
from rlm_cachetrack import TimescaleDBClient; from rlm_cachetrack.analytics.planning import repricing
from rlm_cachetrack.pricing.price_book import PriceBook
url, prices, what = sys.argv[1:]
def stop(done, total):
    if done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
with TimescaleDBClient(url) as db:
    if what == "apply":
        everything = repricing.selection()
        repricing.apply(db.reader(), PriceBook.load(prices), everything, batch=2, progress=stop)
    else:
        repricing.undo(db.reader(), progress=stop)
"""


def killed(url: str, prices: Path, what: str) -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED, url, str(prices), what], timeout=240)
    assert done.returncode == -signal.SIGKILL


def test_a_killed_re_pricing_is_resumed_with_its_first_prices(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        before = snapshot(db_url)
        expected = db.reprice(new)["change"]
        after = snapshot(db_url)
        db.undo_repricing()
    assert expected is not None
    killed(db_url, new, "apply")
    halfway = snapshot(db_url)
    assert halfway not in (before, after)
    with TimescaleDBClient(db_url, pricing=old) as db:
        (change, _) = db.list_price_changes()
        assert (change["status"], change["looked_at"]) == ("running", 4)
        with pytest.raises(ConfigError, match="was interrupted"):
            db.reprice(new, model="new")
        new.write_text(NEW.replace("prompt: 5", "prompt: 500"))
        done = db.resume_repricing()
        assert (done["status"], done["changed_interactions"]) == ("done", expected["changed_interactions"])
        assert snapshot(db_url) == after
    killed(db_url, new, "undo")
    with TimescaleDBClient(db_url, pricing=old) as db:
        db.undo_repricing()
        assert snapshot(db_url) == before
        with pytest.raises(NotStoredError):
            db.resume_repricing()


# -- the command ------------------------------------------------------------------------------------------------------


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"})


def test_the_reprice_command_shows_applies_logs_and_undoes(db_url: str, old: Path, new: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
    before = snapshot(db_url)
    dry = cli("reprice", "--pricing", str(new), "--dry-run", "--db-url", db_url)
    assert dry.exit_code == 0
    assert "9 of 11 calls change; 1 call keeps the prices given by hand." in dry.stdout
    assert snapshot(db_url) == before
    unasked = cli("reprice", "--pricing", str(new), "--db-url", db_url)
    assert unasked.exit_code == 2
    assert "no terminal to ask for confirmation" in unasked.stderr
    done = cli("reprice", "--pricing", str(new), "--yes", "--db-url", db_url)
    assert done.exit_code == 0
    assert "9 calls changed" in done.stdout
    again = cli("reprice", "--pricing", str(new), "--yes", "--db-url", db_url)
    assert "Nothing changes: 11 calls already have these prices; 1 call keeps the prices given by hand." in again.stdout
    (logged,) = json.loads(cli("reprice", "--log", "--json", "--db-url", db_url).stdout)
    assert (logged["status"], logged["changed_interactions"]) == ("done", 9)
    assert "new.yaml (3 models" in cli("reprice", "--log", "--db-url", db_url).stdout
    undone = cli("reprice", "--undo", "--yes", "--db-url", db_url)
    assert undone.exit_code == 0
    assert "prices of 9 calls restored" in undone.stdout
    assert snapshot(db_url) == before
    assert cli("reprice", "--undo", "--yes", "--db-url", db_url).exit_code == 1
    assert cli("reprice", "--resume", "--db-url", db_url).exit_code == 1


def test_the_reprice_command_warns_about_lost_prices(db_url: str, old: Path, tmp_path: Path) -> None:
    with TimescaleDBClient(db_url, pricing=old) as db:
        db.record_llm_interaction(record("a", "mine", 0, 1_000))
        db.record_llm_interaction(record("a", "mine", 1, 1_000, service_tier="flex"))
    without_flex = tmp_path / "new.yaml"
    without_flex.write_text("version: 1\nper: 1M\nmodels:\n  mine: {prompt: 99, completion: 99}\n")
    dry = cli("reprice", "--pricing", str(without_flex), "--dry-run", "--db-url", db_url)
    printed = " ".join(dry.stdout.split())
    assert (
        "The new list has no price for 1 call, which would become unpriced (NULL): mine. Cost after and Difference "
        "exclude unpriced calls." in printed
    )
    kept = cli("reprice", "--pricing", str(old), "--dry-run", "--db-url", db_url)
    assert "The new list has no price" not in kept.stdout


def test_a_mistake_in_the_new_pricing_file_stops_the_re_pricing(db_url: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(OLD.replace("prompt: 1", "prompt: x"))
    result = cli("reprice", "--pricing", str(bad), "--yes", "--db-url", db_url)
    assert result.exit_code == 2
    assert "bad.yaml:4: models.mine.prompt: is x" in result.stderr


# -- TimescaleDB ------------------------------------------------------------------------------------------------------


def test_compressed_chunks_are_re_priced_and_undone_and_their_hours_refreshed(
    timescale_url: str, old: Path, new: Path
) -> None:
    hours = "SELECT bucket, model, total_cost FROM cache_usage_hourly WHERE model = 'mine' ORDER BY 1, 2, 3"
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        migrations.migrate(connection)
        with TimescaleDBClient(timescale_url, pricing=old) as db:
            fill(db)
            to_columnstore(connection)
            connection.execute("CALL refresh_continuous_aggregate('cache_usage_hourly', NULL, '2026-04-01')")
            before, hours_before = snapshot(timescale_url), connection.execute(hours).fetchall()
            done = db.reprice(new)["change"]
            assert done is not None
            assert done["changed_interactions"] == 9
            rows = db.get_llm_interactions("b", T0)
            assert rows[0]["total_cost"] == pytest.approx(0.00172, abs=1e-9)  # 400 x 2 + 600 x 0.2 + 100 x 8
            hours_after = connection.execute(hours).fetchall()
            assert [row[:2] for row in hours_after] == [row[:2] for row in hours_before]
            at_13 = {row[0].hour: row[2] for row in hours_after}
            assert at_13[13] == pytest.approx(0.00325, abs=1e-9)
            db.undo_repricing()
            assert snapshot(timescale_url) == before
            for was, now in zip(hours_before, connection.execute(hours).fetchall(), strict=True):
                assert now == (was[0], was[1], pytest.approx(was[2], rel=1e-12))


def test_undo_in_chunks_that_were_compressed_again_is_fast(timescale_url: str, new: Path) -> None:
    """Without statistics on the saved prices, each call was searched for in its whole chunk, which took 40 s."""
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        migrations.migrate(connection)
        connection.execute(
            "ALTER TABLE price_change_rows SET (autovacuum_enabled = off)"
        )  # autovacuum runs once a minute
        connection.execute(
            """
            INSERT INTO llm_interactions (
                time, query_id, run_id, model, prompt_tokens, completion_tokens, cached_tokens, provider, price_source
            )
            SELECT %(at)s + n * INTERVAL '1 second', 'q', %(at)s, 'mine', 1000, 10, 0, 'openai', 'yaml:00000000'
            FROM generate_series(1, 10000) AS n
            """,
            {"at": T0},
        )
        to_columnstore(connection)
        with TimescaleDBClient(timescale_url) as db:
            before = snapshot(timescale_url)
            db.reprice(new)
            to_columnstore(connection)
            database = connection.info.dbname
            connection.execute(f"ALTER DATABASE {database} SET statement_timeout = '20s'")
        with TimescaleDBClient(timescale_url) as db:
            assert db.undo_repricing()["changed_interactions"] == 10_000
        assert snapshot(timescale_url) == before
