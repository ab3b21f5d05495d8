"""Settings of servers, databases and roles that change what statements mean: calls are stored, or refused once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.pipeline import runtimes
from rlm_cachetrack.store.engine import detect
from tests.integration.pipeline.test_writer import call, in_time, pipeline, sql, stored

RUN = datetime(2026, 1, 10, tzinfo=UTC)
COST = 0.1 + 0.2  # needs 17 digits


@pytest.fixture
def triggers(db_url: str) -> None:
    """Skip the test if the suite itself runs on Citus: it supports no triggers on distributed tables."""
    with psycopg.connect(db_url) as connection:
        if detect(connection).citus:
            pytest.skip("the suite itself runs on Citus")


def at(second: int) -> datetime:
    return RUN + timedelta(seconds=second)


def check_recording(url: str) -> None:
    """Record a run with metadata and a late call, and read everything back."""
    with TimescaleDBClient(url) as db:
        db.initialize_query_run("naïve", RUN, metadata={"größe": "日本 🎭", "n": 1})
        for number in range(3):
            db.record_llm_interaction(
                LLMInteractionRecord("naïve", RUN, "modèle", iteration=number, total_cost=COST, start_time=at(number))
            )
        db.complete_query_run("naïve", RUN)
        assert db.flush(120), db.stats()
        db.record_llm_interaction(LLMInteractionRecord("naïve", RUN, "modèle", iteration=3, start_time=at(3)))
        assert db.flush(120), db.stats()
        assert (db.stats()["dead_letters"], db.stats()["last_error"]) == (0, None)
        calls = db.get_llm_interactions("naïve", RUN)
        assert [each["iteration"] for each in calls] == [0, 1, 2, 3]
        assert (calls[0]["run_id"], calls[0]["total_cost"]) == (RUN, COST)
        [run] = db.list_query_runs()
        assert (run["query_id"], run["run_id"], run["status"]) == ("naïve", RUN, "completed")
        summary = db.get_query_run_summary("naïve", RUN)
        assert summary is not None
        assert summary["metadata"] == {"größe": "日本 🎭", "n": 1}
        assert summary["total_interactions"] == 4


SETTINGS = {
    "German dates": "DateStyle = 'German, DMY'",
    "SQL dates": "DateStyle = 'SQL, DMY'",
    "PostgreSQL dates": "DateStyle = 'Postgres, YMD'",
    "intervals": "IntervalStyle = 'iso_8601'",
    "time zone": "TimeZone = 'Asia/Kathmandu'",
    "few digits": "extra_float_digits = -15",
    "backslashes": "standard_conforming_strings = off",
    "encoding": "client_encoding = 'LATIN1'",
    "bytes": "bytea_output = 'escape'",
    "no schema": "search_path = ''",
    "XML": "xmloption = 'document'",
    "serializable": "default_transaction_isolation = 'serializable'",
    "deferrable": "default_transaction_deferrable = on",
    "no null": "transform_null_equals = on",
    "row security": "row_security = off",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_calls_are_stored_and_read_whatever_the_database_sets(name: str, empty_db_url: str) -> None:
    database = conninfo_to_dict(empty_db_url)["dbname"]
    sql(empty_db_url, f"ALTER DATABASE {database} SET {SETTINGS[name]}")
    check_recording(empty_db_url)


@pytest.mark.usefixtures("triggers")
def test_a_batch_may_take_longer_than_the_statement_timeout_of_the_database(db_url: str) -> None:
    database = conninfo_to_dict(db_url)["dbname"]
    slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END'"
    trigger = "CREATE TRIGGER slow BEFORE INSERT ON llm_interactions FOR EACH STATEMENT EXECUTE FUNCTION slow()"
    sql(db_url, slow, trigger, f"ALTER DATABASE {database} SET statement_timeout = '200ms'")
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="a"))
        assert runtime.flush(120), runtime.stats()
    assert stored(db_url) == ["a"]


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def other_encoding(request: pytest.FixtureRequest, server_url: str) -> Iterator[str]:
    """Yield the URL of an empty database with another encoding than UTF-8."""
    name = f"rlm_test_settings_{request.param.lower()}"
    locale = "TEMPLATE template0 LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
    sql(server_url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name} ENCODING '{request.param}' {locale}")
    yield make_conninfo(server_url, dbname=name)
    sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_what_an_encoding_cannot_represent_is_a_dead_letter_and_stops_nothing(other_encoding: str) -> None:
    with TimescaleDBClient(other_encoding) as db:
        db.initialize_query_run("q", RUN, metadata={"größe": "naïve"})
        db.record_llm_interaction(LLMInteractionRecord("q", RUN, "modèle", start_time=RUN))
        db.record_llm_interaction(LLMInteractionRecord("q", RUN, "日本", start_time=RUN, metadata={"é": "日本"}))
        db.record_llm_interaction(LLMInteractionRecord("q", RUN, "b", start_time=RUN))
        assert db.flush(120), db.stats()
        refused = 1 if "latin1" in other_encoding else 0
        assert db.stats()["dead_letters"] == refused
        assert len(db.get_llm_interactions("q", RUN)) == 3 - refused
        summary = db.get_query_run_summary("q", RUN)
        assert summary is not None
        assert summary["metadata"] == {"größe": "naïve"}


def test_a_database_that_is_read_only_by_default_is_refused_once_with_the_remedy(
    empty_db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = conninfo_to_dict(empty_db_url)["dbname"]
    sql(empty_db_url, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with pipeline(empty_db_url) as runtime:
        runtime.journal.append(call(model="a"))
        runtime.start()
        assert in_time(lambda: caplog.records)
        assert not runtime.flush(1.5)
        assert "default_transaction_read_only" in str(runtime.stats()["last_error"])
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1, warnings
        sql(empty_db_url, "SET default_transaction_read_only = off", f"ALTER DATABASE {database} RESET ALL")
        assert runtime.flush(120)
    assert stored(empty_db_url) == ["a"]


# -- triggers that drop rows -------------------------------------------------------------------------------------------

DROPPING = """
CREATE FUNCTION drop_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.model LIKE 'bad%' THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER drop_bad BEFORE INSERT ON llm_interactions FOR EACH ROW EXECUTE FUNCTION drop_bad();
"""


@pytest.mark.parametrize("models", [("a", "bad", "b"), ("bad", "bad2", "a", "b"), ("a", "b", "bad")])
@pytest.mark.usefixtures("triggers")
def test_a_call_that_a_trigger_drops_is_a_dead_letter(models: tuple[str, ...], db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(DROPPING)
    with pipeline(db_url) as runtime:
        for model in models:
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
        letters = runtime.dead_letters.read()
        assert {letter.event["model"] for letter in letters} == {model for model in models if model[:3] == "bad"}
        assert "a trigger of llm_interactions dropped 1 calls" in letters[0].reason
        assert runtime.stats()["stored"] == 2
    assert stored(db_url) == ["a", "b"]


@pytest.mark.usefixtures("triggers")
def test_a_table_that_drops_every_call_gives_up_none(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(DROPPING.replace("NEW.model LIKE 'bad%'", "true"))
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="a"))
        assert not runtime.flush(1)
        assert runtime.dead_letters.read() == []
        assert "dropped 1 calls" in str(runtime.stats()["last_error"])
        sql(db_url, "DROP TRIGGER drop_bad ON llm_interactions")
        assert runtime.flush(120)
    assert stored(db_url) == ["a"]


def drop_runs(db_url: str, event: str, condition: str) -> None:
    """Create a trigger that drops the runs for which a condition holds."""
    sql(
        db_url,
        "CREATE FUNCTION drop_bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {condition} THEN RETURN NULL; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER drop_bad BEFORE {event} ON query_run_summaries FOR EACH ROW EXECUTE FUNCTION drop_bad()",
    )


@pytest.mark.parametrize("event", ["INSERT", "UPDATE", "UPDATE OF last_call_time"])
@pytest.mark.usefixtures("triggers")
def test_a_run_that_a_trigger_drops_is_a_dead_letter(event: str, db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        db.initialize_query_run("bad", RUN)
        assert db.flush()
        if event == "INSERT":
            sql(db_url, "DELETE FROM query_run_summaries")
        drop_runs(db_url, event, "NEW.query_id = 'bad'")
        for query_id in ("bad", "good"):
            db.record_llm_interaction(LLMInteractionRecord(query_id, RUN, "m", prompt_tokens=1, completion_tokens=1))
            db.complete_query_run(query_id, RUN)
        db.flush()
        # The call of a run that is not listed, or whose times exclude the call, would be missing in the run's sums.
        letters = runtimes.default().dead_letters.read()
        assert len(letters) == (1 if event == "UPDATE OF last_call_time" else 2)
        assert {"a trigger of query_run_summaries dropped run 'bad'" in letter.reason for letter in letters} == {True}
        assert db.get_llm_interactions("bad", RUN) == []
        good = db.get_query_run_summary("good", RUN)
        assert good is not None
        assert (good["status"], good["total_interactions"]) == ("completed", 1)


@pytest.mark.usefixtures("triggers")
def test_calls_of_a_run_wait_while_a_trigger_drops_its_times(db_url: str) -> None:
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="a"))
        assert runtime.flush(120)
        drop_runs(db_url, "UPDATE", "true")
        runtime.journal.append(call(model="b"))
        runtime.start()
        assert in_time(lambda: runtime.stats()["last_error"])
        assert runtime.dead_letters.read() == []
        assert "a trigger of query_run_summaries dropped run" in str(runtime.stats()["last_error"])
        sql(db_url, "DROP TRIGGER drop_bad ON query_run_summaries")
        assert runtime.flush(120)
    assert stored(db_url) == ["a", "b"]


def test_duplicates_are_not_taken_for_dropped_calls(db_url: str) -> None:
    events = [call(model=model) for model in ("a", "b")]
    with pipeline(db_url) as runtime:
        for event in (*events, *events, call(model="c"), events[0]):
            runtime.journal.append(event)
            assert runtime.flush(120)
        for event in (*events, *events, call(model="d")):
            runtime.journal.append(event)
        assert runtime.flush(120)
        assert runtime.stats()["dead_letters"] == 0
    assert stored(db_url) == ["a", "b", "c", "d"]


# -- limits of connections ---------------------------------------------------------------------------------------------


def test_a_server_without_a_free_connection_gets_the_calls_later(empty_db_url: str, tmp_path: Path) -> None:
    name = f"rlm_few_{tmp_path.name[-8:]}".lower().replace("-", "_")
    sql(empty_db_url, f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 1")
    try:
        sql(empty_db_url, f"GRANT ALL ON SCHEMA public TO {name}")
        url = make_conninfo(empty_db_url, user=name)
        with psycopg.connect(url), pipeline(url) as runtime:
            runtime.journal.append(call(model="a"))
            runtime.start()
            assert in_time(lambda: runtime.stats()["last_error"])
            assert "too many connections" in str(runtime.stats()["last_error"])
            assert runtime.dead_letters.read() == []
        with pipeline(url) as runtime:
            runtime.start()
            assert in_time(lambda: runtime.flush(5))
        assert stored(empty_db_url) == ["a"]
    finally:
        sql(empty_db_url, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")
        runtimes.shutdown(1)
