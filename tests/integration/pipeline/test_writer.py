"""The writer with a real PostgreSQL: poison records, outages, retries; every call is stored once."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from rlm_cachetrack import LLMInteractionRecord, RecordBatch, TimescaleDBClient
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.errors import QueryError, RecordRejectedError, StoreUnreachableError
from rlm_cachetrack.journal.dead_letters import DeadLetter
from rlm_cachetrack.journal.encoding import encode_entry
from rlm_cachetrack.pipeline import Runtime, runtimes, writer
from rlm_cachetrack.pricing.price_book import PriceBook
from rlm_cachetrack.records import COLUMNS, new_id
from rlm_cachetrack.store import embedded
from rlm_cachetrack.store import postgres as storage
from rlm_cachetrack.store.engine import detect
from tests.support.servers import own_server_folder

RUN = datetime(2026, 1, 10, 9, tzinfo=UTC)


def call(**more: Any) -> dict[str, Any]:
    """Return the event of a call with its field names."""
    return {
        "kind": "call",
        "interaction_id": new_id(),
        "query_id": "q",
        "run_id": RUN.isoformat(),
        "model": "gpt-5",
        "start_time": RUN.timestamp(),
        "end_time": RUN.timestamp() + 1,
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        "success": True,
        **more,
    }


@contextmanager
def pipeline(url: str, sink: Any = None) -> Iterator[Runtime]:
    runtime = runtimes.open(load_settings(url), sink)
    try:
        yield runtime
    finally:
        runtime.close(0.1)


def sql(url: str, *statements: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def stored(url: str) -> list[str]:
    """Return the models of the stored calls; each test names its calls by them."""
    return [row[0] for row in sql(url, "SELECT model FROM llm_interactions ORDER BY model")]


def in_time(condition: Any, seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.01)
    return True


# -- records that cannot be stored ------------------------------------------------------------------------------------


def reject_model(name: str) -> str:
    return f"ALTER TABLE llm_interactions ADD CONSTRAINT no_such_model CHECK (model <> '{name}') NOT VALID"


def test_a_record_rejected_by_the_server_is_a_dead_letter_and_the_others_are_stored(db_url: str) -> None:
    sql(db_url, reject_model("bad"))
    with pipeline(db_url) as runtime:
        bad = call(model="bad")
        for number in range(500):
            runtime.journal.append(call(model=f"good-{number:03}"))
            if number == 321:
                runtime.journal.append(bad)
        assert runtime.flush(120)
        counts = runtime.stats()
    assert stored(db_url) == [f"good-{number:03}" for number in range(500)]
    [letter] = runtime.dead_letters.read()
    assert letter.id == bad["interaction_id"]
    assert letter.event == bad
    assert "no_such_model" in letter.reason
    assert "23514" in letter.reason  # check_violation
    assert bad["interaction_id"] not in letter.reason  # the reason is logged, so it must not quote the row
    assert (counts["dead_letters"], counts["pending"], counts["dropped"]) == (1, 0, {})
    assert counts["last_error"] is None
    assert stat.S_IMODE(runtime.dead_letters.path.stat().st_mode) == 0o600
    assert runtime.dead_letters.path.parent == runtime.journal.directory


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        # Random data cannot be compressed and exceeds the size of an index row: 54000.
        ({"query_id": os.urandom(4000).hex()}, "54000"),
        ({"model_index": 2**40}, "it cannot be read"),  # an INTEGER of PostgreSQL has 32 bits
        ({"kind": "nonsense"}, "nonsense"),
        ({"interaction_id": "not a uuid"}, "UUID"),
        ({"run_id": "yesterday"}, "isoformat"),
        ({"kind": "run_end", "time": None}, "TypeError"),
    ],
)
def test_every_kind_of_bad_record_is_a_dead_letter_with_its_reason(
    reused_db_url: str, damage: Mapping[str, Any], reason: str
) -> None:
    with pipeline(reused_db_url) as runtime:
        for model in ("a", "b", "c"):
            runtime.journal.append(call(model=model))
        runtime.journal.append(call(model="d", **damage))
        runtime.journal.append(call(model="e"))
        assert runtime.flush(120)
        assert [reason in letter.reason for letter in runtime.dead_letters.read()] == [True]
    assert stored(reused_db_url) == ["a", "b", "c", "e"]


def test_a_record_rejected_by_a_trigger_is_a_dead_letter(db_url: str) -> None:
    sql(
        db_url,
        "CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF new.model = 'bad' THEN RAISE 'not today' USING ERRCODE = 'MY001'; END IF; RETURN new; END $$",
        "CREATE TRIGGER reject BEFORE INSERT ON llm_interactions FOR EACH ROW EXECUTE FUNCTION reject()",
    )
    with pipeline(db_url) as runtime:
        for model in ("a", "bad", "b"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
        assert ["not today" in letter.reason for letter in runtime.dead_letters.read()] == [True]
    assert stored(db_url) == ["a", "b"]


@pytest.mark.parametrize(
    "trouble", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), ModuleNotFoundError("No module named 'x'")]
)
def test_a_shortage_of_resources_is_retried_and_no_record_rejected(
    reused_db_url: str,
    monkeypatch: pytest.MonkeyPatch,
    internal_errors: list[tuple[str, BaseException]],
    trouble: Exception,
) -> None:
    cost, failed = PriceBook.cost, threading.Event()

    def fail_once(*arguments: Any, **more: Any) -> Any:
        if failed.is_set():
            return cost(*arguments, **more)
        failed.set()
        raise trouble

    monkeypatch.setattr(PriceBook, "cost", fail_once)  # any statement can fail like this; this one runs early
    with pipeline(reused_db_url) as runtime:
        for model in ("a", "b"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
        assert runtime.dead_letters.read() == []
    assert [error for _, error in internal_errors] == [trouble]
    internal_errors.clear()
    assert stored(reused_db_url) == ["a", "b"]


def test_a_bad_record_that_comes_alone_is_a_dead_letter(db_url: str) -> None:
    sql(db_url, reject_model("bad"))
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="bad"))
        assert runtime.flush(120)
        assert len(runtime.dead_letters.read()) == 1
        runtime.journal.append(call(model="good"))
        assert runtime.flush(120)
    assert stored(db_url) == ["good"]


def test_a_run_with_a_bad_record_is_completed_by_its_others(db_url: str) -> None:
    sql(db_url, reject_model("bad"))
    with pipeline(db_url) as runtime:
        runtime.append_run("run_start", "q", RUN)
        for model in ("gpt-5", "bad", "gpt-5"):
            runtime.journal.append(call(model=model))
        runtime.append_run("run_end", "q", RUN, status="completed")
        assert runtime.flush(120)
    assert sql(db_url, "SELECT status, total_interactions FROM query_run_summaries") == [("completed", 2)]


def test_a_store_that_rejects_every_record_is_retried_and_no_record_given_up(db_url: str) -> None:
    sql(db_url, "ALTER TABLE llm_interactions ADD CONSTRAINT closed CHECK (false) NOT VALID")
    with pipeline(db_url) as runtime:
        for model in ("a", "b", "c"):
            runtime.journal.append(call(model=model))
        assert not runtime.flush(1)
        # On a busy machine the first attempt takes longer: the driver and the prices are imported for it.
        assert in_time(lambda: "closed" in (runtime.stats()["last_error"] or ""))
        assert runtime.dead_letters.read() == []
        sql(db_url, "ALTER TABLE llm_interactions DROP CONSTRAINT closed")
        assert runtime.flush(120)
    assert stored(db_url) == ["a", "b", "c"]


def test_a_missing_permission_is_retried_and_no_record_given_up(db_url: str) -> None:
    sql(
        db_url,
        "DROP ROLE IF EXISTS rlm_clerk",
        "CREATE ROLE rlm_clerk LOGIN",
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO rlm_clerk",
        "REVOKE INSERT ON llm_interactions FROM rlm_clerk",
    )
    try:
        with pipeline(make_conninfo(db_url, user="rlm_clerk")) as runtime:
            runtime.journal.append(call(model="a"))
            assert not runtime.flush(1)
            assert in_time(lambda: "permission denied" in (runtime.stats()["last_error"] or ""))
            assert runtime.dead_letters.read() == []
            sql(db_url, "GRANT INSERT ON llm_interactions TO rlm_clerk")
            assert runtime.flush(120)
        assert stored(db_url) == ["a"]
    finally:
        sql(db_url, "DROP OWNED BY rlm_clerk", "DROP ROLE rlm_clerk")


def test_a_process_killed_after_writing_a_dead_letter_stores_the_others_once(
    db_url: str,
) -> None:
    sql(db_url, reject_model("bad"))
    program = """
import os, signal, sys
from rlm_cachetrack.pipeline import Runtime, runtimes; from rlm_cachetrack.journal import journal as journal
from rlm_cachetrack.config import load_settings
from tests.integration.pipeline.test_writer import call
ack = journal.Journal.ack
def killed(self, batch):  # all is done but the acknowledgement
    if self.appended < 4:
        return ack(self, batch)  # the writer was faster than the program
    os.kill(os.getpid(), signal.SIGKILL)
journal.Journal.ack = killed
runtime = runtimes.open(load_settings(sys.argv[1]))
for model in ("a", "bad", "b", "c"):
    runtime.journal.append(call(model=model))
runtime.flush(120)
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program, db_url], timeout=240, check=False)
        assert done.returncode == -signal.SIGKILL
    with pipeline(db_url) as runtime:
        before = runtime.dead_letters.path.read_text()
        assert runtime.flush(120)
        # Each of the two dead processes had one bad record. The second recovered that of the first, which by now
        # was written as a dead letter three times.
        assert before.count('"model":"bad"') >= 2
        assert runtime.dead_letters.path.read_text().count('"model":"bad"') >= 4
        assert len(runtime.dead_letters.read()) == 2
    assert stored(db_url) == ["a", "a", "b", "b", "c", "c"]


def test_a_dead_letter_file_that_cannot_be_written_delays_no_records(
    db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    sql(db_url, reject_model("bad"))
    with pipeline(db_url) as runtime:
        runtime.dead_letters.path.mkdir(parents=True)  # not even root can write to it
        for model in ("a", "bad", "b"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
        assert stored(db_url) == ["a", "b"]
        assert "wait in memory" in caplog.text
        runtime.dead_letters.path.rmdir()
        runtime.journal.append(call(model="bad"))
        assert runtime.flush(120)
        assert len(runtime.dead_letters.read()) == 2  # the waiting dead letter was written, too


def test_a_dead_letter_file_locked_by_a_stopped_process_delays_no_records(
    db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    sql(db_url, reject_model("bad"))
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="bad"))
        assert runtime.flush(120)
        with runtime.dead_letters.path.open("rb") as theirs:
            fcntl.flock(theirs, fcntl.LOCK_EX)
            for model in ("a", "bad", "b"):
                runtime.journal.append(call(model=model))
            assert runtime.flush(120)
            assert "another process has locked it" in caplog.text
            ending = threading.Thread(target=runtime.close, args=(0.1,), daemon=True)
            ending.start()
            ending.join(120)
            assert not ending.is_alive()
    assert runtime.stats()["dropped"] == {"dead_letters_full": 1}  # the other process still locks the file
    assert stored(db_url) == ["a", "b"]


def test_dead_letters_that_wait_for_a_disk_are_written_at_the_end_or_reported_lost(
    db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    sql(db_url, reject_model("bad"))
    for disk_is_back in (True, False):
        caplog.clear()
        with pipeline(db_url) as runtime:
            runtime.dead_letters.path.mkdir(parents=True)
            runtime.journal.append(call(model="bad"))
            assert runtime.flush(120)
            if disk_is_back:
                runtime.dead_letters.path.rmdir()
        lost = [record.getMessage() for record in caplog.records if "lost" in record.getMessage()]
        if disk_is_back:
            assert (len(runtime.dead_letters.read()), lost) == (1, [])
            runtime.dead_letters.path.unlink()
        else:
            assert len(lost) == 1
            assert lost[0].endswith("dead letters lost: 1")
            assert runtime.stats()["dropped"] == {"dead_letters_full": 1}


def test_a_torn_event_is_counted_once_however_often_the_store_fails(db_url: str) -> None:
    sql(db_url, "ALTER TABLE llm_interactions ADD CONSTRAINT closed CHECK (false) NOT VALID")
    with pipeline(db_url) as runtime:
        runtime.journal.directory.mkdir(parents=True)
        left = json.dumps(call(model="a")).encode() + b'\n{"kind":"ca'
        (runtime.journal.directory / "1-dead.jsonl").write_bytes(left)
        assert not runtime.flush(2)  # several attempts
        sql(db_url, "ALTER TABLE llm_interactions DROP CONSTRAINT closed")
        assert runtime.flush(120)
        counts = runtime.stats()
    assert (counts["recovered"], counts["stored"], counts["dropped"]) == (2, 1, {"torn": 1})
    assert stored(db_url) == ["a"]


def test_a_dead_letter_that_is_rejected_again_during_a_retry_stays_one(db_url: str) -> None:
    sql(db_url, reject_model("bad"))
    with pipeline(db_url) as runtime:
        for _ in range(3):
            runtime.journal.append(call(model="bad"))
        assert runtime.flush(120)
        letters = {letter.id for letter in runtime.dead_letters.read()}

        def append_and_wait(event: Mapping[str, Any]) -> bool:
            """Wait until the writer has retried the first record, as it would while it retries thousands of records."""
            kept = runtime.journal.append(event)
            runtime.flush(1)
            return kept

        assert runtime.dead_letters.retry(letters, append_and_wait) == letters
        assert runtime.flush(120)
        assert {letter.id for letter in runtime.dead_letters.read()} == letters


def test_dead_letters_that_the_journal_has_no_room_for_stay_dead_letters(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_JOURNAL_MAX_BYTES", "2000")
    with pipeline(db_url) as runtime:
        runtime.dead_letters.write(
            DeadLetter.from_event(call(model=f"{number:02}"), "a reason") for number in range(20)
        )
        retried = runtime.retry_dead_letters({letter.id for letter in runtime.dead_letters.read()})
        assert 0 < len(retried) < 20
        assert runtime.flush(120)
        left = [letter.event["model"] for letter in runtime.dead_letters.read()]
        assert len(left) == 20 - len(retried)
    assert sorted(stored(db_url) + left) == [f"{number:02}" for number in range(20)]


# -- calls that are already stored -------------------------------------------------------------------------------------


def test_a_duplicate_call_is_stored_once_with_the_others_of_its_batch(db_url: str) -> None:
    twice, thrice = call(model="twice"), call(model="thrice")
    with pipeline(db_url) as runtime:
        runtime.journal.append(twice)
        assert runtime.flush(120)
        for event in (call(model="a"), twice, thrice, thrice, call(model="b"), thrice):
            runtime.journal.append(event)
        assert runtime.flush(120)
        assert runtime.dead_letters.read() == []
    assert stored(db_url) == ["a", "b", "thrice", "twice"]


def test_a_batch_whose_commit_is_not_confirmed_is_stored_once(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = threading.Event()
    store = storage.PostgresStore.store

    def store_and_lose(self: storage.PostgresStore, batch: RecordBatch) -> None:
        store(self, batch)
        if not lost.is_set():
            lost.set()
            raise StoreUnreachableError("the answer to COMMIT was lost")

    monkeypatch.setattr(storage.PostgresStore, "store", store_and_lose)  # a real server cannot be stopped at this point
    with pipeline(db_url) as runtime:
        for model in ("a", "b", "c"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
    assert lost.is_set()
    assert stored(db_url) == ["a", "b", "c"]


def test_a_record_without_a_time_is_stored_once_if_the_commit_is_not_confirmed(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = storage.PostgresStore.store
    attempts: list[int] = []

    def lose_the_first_answer(self: storage.PostgresStore, batch: RecordBatch) -> None:
        store(self, batch)
        attempts.append(len(batch))
        if len(attempts) == 1:
            raise StoreUnreachableError("the answer to COMMIT was lost")

    monkeypatch.setattr(storage.PostgresStore, "store", lose_the_first_answer)
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(LLMInteractionRecord(query_id="q", run_id=RUN, model="a"))
        assert db.flush(120)
    assert attempts == [1, 1]
    assert stored(db_url) == ["a"]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "UTF8"])
def test_text_is_stored_as_it_is_whatever_the_encoding_of_database_and_environment(
    server_url: str, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "WIN1252")
    name = f"rlm_test_{encoding.lower()}"
    locale = "TEMPLATE template0 LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
    sql(server_url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name} ENCODING '{encoding}' {locale}")
    url = make_conninfo(server_url, dbname=name)
    try:
        with TimescaleDBClient(url) as db:
            db.record_llm_interaction(LLMInteractionRecord(query_id="naïve", run_id=RUN, model="modèle"))
            assert db.flush(120)
            [row] = db.get_llm_interactions("naïve", RUN)
        assert (row["query_id"], row["model"]) == ("naïve", "modèle")
    finally:
        sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_table_with_row_level_security_accepts_records(db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        if detect(connection).timescale:
            pytest.skip("TimescaleDB refuses row-level security on a table with a columnstore")
    sql(
        db_url,
        "DROP ROLE IF EXISTS rlm_tenant",
        "CREATE ROLE rlm_tenant LOGIN",
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO rlm_tenant",
        "ALTER TABLE llm_interactions ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY everything ON llm_interactions TO rlm_tenant USING (true)",
    )
    try:
        with pipeline(make_conninfo(db_url, user="rlm_tenant")) as runtime:
            for model in ("a", "b"):
                runtime.journal.append(call(model=model))
                assert runtime.flush(120)
        assert stored(db_url) == ["a", "b"]
    finally:
        sql(db_url, "DROP OWNED BY rlm_tenant", "DROP ROLE rlm_tenant")


# -- a sink of the user ------------------------------------------------------------------------------------------------


class Choosy:
    """Rejects the model ``bad``, and batches of more than ``limit`` calls."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit = limit
        self.models: list[str] = []

    def store(self, batch: RecordBatch) -> None:
        models = [row[COLUMNS.index("model")] for row in batch.interactions]
        if len(models) > self.limit:
            raise QueryError("too many at once")
        if "bad" in models:
            raise RecordRejectedError("I do not like it")
        self.models += models

    def close(self) -> None: ...


def test_a_sink_that_rejects_a_record_gets_the_others() -> None:
    sink = Choosy()
    with pipeline("postgresql:///unused", sink) as runtime:
        for model in ("a", "bad", "b"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
        assert [letter.reason for letter in runtime.dead_letters.read()] == ["I do not like it"]
    assert sorted(sink.models) == ["a", "b"]


class Strange(Choosy):
    """Raises an undocumented exception for the model ``bad``; with ``down``, for every batch."""

    def __init__(self, exc: Exception, *, down: bool = False) -> None:
        super().__init__()
        self.exc = exc
        self.down = down
        self.attempts = 0

    def store(self, batch: RecordBatch) -> None:
        self.attempts += 1
        if self.down or any(row[COLUMNS.index("model")] == "bad" for row in batch.interactions):
            raise self.exc
        super().store(batch)


@pytest.mark.parametrize(
    "exc", [RecursionError("maximum recursion depth exceeded"), ValueError("text"), OverflowError("big"), KeyError("k")]
)
@pytest.mark.parametrize("models", [("a", "bad", "b"), ("bad", "a", "b"), ("a", "b", "bad")])
def test_an_unforeseen_exception_gives_up_one_record_not_the_others(
    exc: Exception, models: tuple[str, ...], internal_errors: list[Any]
) -> None:
    sink = Strange(exc)
    with pipeline("postgresql:///unused", sink) as runtime:
        for model in models:
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
        [letter] = runtime.dead_letters.read()
        assert letter.reason == f"it cannot be stored: {type(exc).__name__}: {exc}"
        assert letter.event["model"] == "bad"
    assert sorted(sink.models) == ["a", "b"]
    assert {error for _, error in internal_errors} == {exc}
    internal_errors.clear()


@pytest.mark.parametrize("exc", [RecursionError("deep"), ConnectionError("away"), RuntimeError("a client's error")])
def test_a_sink_that_raises_for_every_record_gives_up_none(exc: Exception, internal_errors: list[Any]) -> None:
    sink = Strange(exc, down=True)
    with pipeline("postgresql:///unused", sink) as runtime:
        for model in ("a", "bad", "b"):
            runtime.journal.append(call(model=model))
        assert not runtime.flush(0.6)
        assert runtime.dead_letters.read() == []
        sink.down, sink.exc = False, RecordRejectedError("I do not like it")
        assert runtime.flush(120)
        assert len(runtime.dead_letters.read()) == 1
    assert sorted(sink.models) == ["a", "b"]
    internal_errors.clear()


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("levels", [600, 5_000, 100_000])
def test_an_event_that_is_too_deep_stops_no_other_also_if_it_is_recovered(
    levels: int, db_url: str, internal_errors: list[Any]
) -> None:
    """The API rejects such values; this test writes the event to the journal directly."""
    deep = b'{"a":' * levels + b"{}" + b"}" * levels
    start = b'{"kind":"run_start","query_id":"q","run_id":"2026-01-01T00:00:00+00:00",'
    entry = start + b'"time":"2026-01-01T00:00:00+00:00","metadata":' + deep + b"}\n"
    with pipeline(db_url) as runtime:
        folder = runtime.journal.directory
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1-dead.jsonl").write_bytes(entry + encode_entry(call(model="recovered")))
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="a"))
        runtime.journal.append(entry)
        runtime.journal.append(call(model="b"))
        assert runtime.flush(120)
        assert runtime.journal.pending == 0
        assert len(runtime.dead_letters.read()) == 1 or runtime.journal.dropped == {"corrupt": 2}
    assert sorted(stored(db_url)) == ["a", "b", "recovered"]
    internal_errors.clear()


def test_a_store_that_recovers_during_the_search_for_a_poison_record_stores_all() -> None:
    class Recovering(Choosy):
        """Rejects every record until ``probe`` is called."""

        closed = True

        def store(self, batch: RecordBatch) -> None:
            if self.closed:
                raise RecordRejectedError("I take nothing")
            super().store(batch)

        def probe(self) -> None:
            self.closed = False

    sink = Recovering()
    with pipeline("postgresql:///unused", sink) as runtime:
        for model in ("a", "bad", "b"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
        assert [letter.reason for letter in runtime.dead_letters.read()] == ["I do not like it"]
    assert sorted(sink.models) == ["a", "b"]


def test_a_batch_too_large_for_the_store_is_stored_in_smaller_ones() -> None:
    sink = Choosy(limit=200)
    with pipeline("postgresql:///unused", sink) as runtime:
        for _ in range(1000):
            runtime.journal.append(call())
        assert runtime.flush(120)
    assert len(sink.models) == 1000


# -- stores that come and go ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server() -> Iterator[Path]:
    """The folder of a server that only these tests use, so that they may stop and start it."""
    with own_server_folder() as folder:
        yield folder


@pytest.fixture
def own_url(own_server: Path) -> Iterator[str]:
    url = embedded.ensure_running(own_server)
    yield url
    embedded.ensure_running(own_server)
    sql(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


def test_an_outage_logs_one_warning_and_one_info_and_loses_no_records(
    own_server: Path, own_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rlm_cachetrack")
    with pipeline(own_url) as runtime:
        runtime.journal.append(call(model="before"))
        assert runtime.flush(120)
        embedded.stop(own_server)
        for number in range(50):
            runtime.journal.append(call(model=f"while-{number:02}"))
        assert not runtime.flush(0.6)
        assert in_time(lambda: caplog.records)
        for _ in range(3):
            assert not runtime.flush(0.6)  # usually long enough for more than one attempt
        assert runtime.stats()["pending"] == 50
        assert runtime.stats()["failing_since"] is not None
        assert len(caplog.records) == 1
        assert embedded.ensure_running(own_server) == own_url
        assert runtime.flush(120)
        runtime.journal.append(call(model="zafter"))
        assert runtime.flush(120)
        assert runtime.stats()["failing_since"] is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "the store is available again after" in caplog.text
    assert stored(own_url) == ["before", *(f"while-{number:02}" for number in range(50)), "zafter"]


def test_connections_cut_by_the_server_neither_lose_nor_duplicate_records(db_url: str) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pipeline(db_url) as runtime:
        for number in range(400):
            runtime.journal.append(call(model=f"{number:03}"))
            if number == 0:
                runtime.start()
            if number % 40 == 20:
                sql(db_url, cut)
        assert runtime.flush(120)
    assert stored(db_url) == [f"{number:03}" for number in range(400)]


def test_an_idle_connection_that_is_cut_is_replaced_without_a_log_message(
    db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pipeline(db_url) as runtime:
        for model in ("a", "b", "c"):
            runtime.journal.append(call(model=model))
            assert runtime.flush(120)
            cut = (
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = current_database()"
            )
            with psycopg.connect(db_url, autocommit=True) as connection:
                assert connection.execute(cut, ["rlm_cachetrack"]).fetchall() == [(True,)]
    assert stored(db_url) == ["a", "b", "c"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO] == []


def test_records_of_a_store_closed_during_a_batch_are_stored_by_the_next_store(
    db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(db_url) as other:
        other.execute("LOCK TABLE llm_interactions IN ACCESS EXCLUSIVE MODE")
        with pipeline(db_url) as runtime:
            runtime.journal.append(call(model="a"))
            assert not runtime.flush(0.5)
            thread = runtime.writer._thread
        assert thread is not None
        thread.join(120)
    with pipeline(db_url) as runtime:
        assert runtime.flush(120)
    assert stored(db_url) == ["a"]
    [message] = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert "records wait in the journal" in message
    assert "not stored in time" in message


def test_flush_and_shutdown_wait_for_several_hanging_stores_in_parallel(own_server: Path, own_url: str) -> None:
    embedded.stop(own_server)
    for number in range(60):
        runtime = runtimes.open(load_settings(make_conninfo(own_url, dbname=f"base_{number}")))
        runtime.append(call())
    for wait in (runtimes.flush, runtimes.shutdown):
        began = time.monotonic()
        assert not wait(2.0)
        assert 1.9 < time.monotonic() - began < 90  # sequential attempts would take two minutes


def test_a_database_that_is_replaced_by_an_empty_one_is_migrated_and_written(db_url: str) -> None:
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="old"))
        assert runtime.flush(120)
        name = psycopg.conninfo.conninfo_to_dict(db_url)["dbname"]
        server = make_conninfo(db_url, dbname="postgres")
        sql(server, f'DROP DATABASE "{name}" WITH (FORCE)', f'CREATE DATABASE "{name}"')
        runtime.journal.append(call(model="new"))
        assert runtime.flush(120)
    assert stored(db_url) == ["new"]


def test_a_schema_dropped_under_an_open_connection_is_created_again(db_url: str) -> None:
    with pipeline(db_url) as runtime:
        runtime.journal.append(call(model="old"))
        assert runtime.flush(120)
        sql(db_url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        runtime.journal.append(call(model="new"))
        assert runtime.flush(120)
        assert runtime.dead_letters.read() == []
    assert stored(db_url) == ["new"]


def test_a_server_that_becomes_read_only_is_retried_until_it_accepts_writes(own_server: Path, own_url: str) -> None:
    with pipeline(own_url) as runtime:
        runtime.journal.append(call(model="a"))
        assert runtime.flush(120)
        sql(own_url, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        assert in_time(lambda: sql(own_url, "SHOW default_transaction_read_only") == [("on",)])
        runtime.journal.append(call(model="b"))
        assert not runtime.flush(1)
        assert in_time(lambda: "read-only" in (runtime.stats()["last_error"] or ""))
        assert runtime.dead_letters.read() == []
        sql(
            own_url,
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )
        assert runtime.flush(120)
    assert stored(own_url) == ["a", "b"]


def test_the_writable_one_of_several_servers_is_found(own_server: Path, own_url: str) -> None:
    with own_server_folder() as other:
        primary = embedded.ensure_running(other)
        hosts = [str(psycopg.conninfo.conninfo_to_dict(url)["host"]) for url in (own_url, primary)]
        sql(own_url, "ALTER DATABASE rlm_cachetrack SET default_transaction_read_only = on")
        with pipeline(make_conninfo(own_url, host=",".join(hosts))) as runtime:
            runtime.journal.append(call(model="a"))
            assert runtime.flush(120)
            # Failover: the old primary becomes read-only, the other server accepts writes.
            sql(
                own_url,
                "SET default_transaction_read_only = off",
                "ALTER DATABASE rlm_cachetrack RESET default_transaction_read_only",
            )
            embedded.stop(other)
            runtime.journal.append(call(model="b"))
            assert runtime.flush(120)
        assert stored(own_url) == ["b"]
        assert stored(embedded.ensure_running(other)) == ["a"]


def test_a_backlog_is_stored_even_if_no_thread_can_be_started(
    reused_db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline(reused_db_url) as runtime:
        runtime.journal.append(call(model="first"))
        assert runtime.flush(120)  # the writer runs

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")  # Python 3.12 and newer

        monkeypatch.setattr(threading.Thread, "start", start)
        for number in range(12_000):
            runtime.journal.append(call(model=f"{number:05}"))
        assert runtime.flush(120)
    assert len(stored(reused_db_url)) == 12_001


# -- backoff -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the writer wait at least five minutes after each failure, longer than any test waits."""
    monkeypatch.setattr(writer, "_MIN_BACKOFF_S", 600.0)
    monkeypatch.setattr(writer, "_MAX_BACKOFF_S", 600.0)


@pytest.mark.usefixtures("long_backoff")
def test_a_flush_ends_the_backoff_after_a_failure(own_server: Path, own_url: str) -> None:
    with pipeline(own_url) as runtime:
        embedded.stop(own_server)
        runtime.append(call(model="a"))
        assert in_time(lambda: runtime.stats()["last_error"])
        embedded.ensure_running(own_server)
        assert runtime.flush(120)
    assert stored(own_url) == ["a"]


@pytest.mark.usefixtures("long_backoff")
def test_recording_during_the_start_of_the_writer_does_not_start_a_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler or a finalizer records on the thread that starts the writer, while it starts it."""
    start, started = threading.Thread.start, []

    with pipeline("postgresql:///unused", Choosy()) as runtime:

        def interrupted(thread: threading.Thread) -> None:
            started.append(thread.name)
            if len(started) == 1:
                runtime.append(call(model="by a handler"))
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            starting = threading.Thread(target=runtime.writer.start, daemon=True)
            start(starting)
            starting.join(120)
        assert not starting.is_alive()
        assert started == ["rlm_cachetrack-writer"]
        assert runtime.flush(120)


def test_recording_while_a_store_is_being_opened_opens_no_second(
    monkeypatch: pytest.MonkeyPatch, reused_db_url: str
) -> None:
    """A signal handler records on the thread that opens the store."""
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", reused_db_url)
    opened: list[Runtime] = []
    make_pipeline = Runtime._make_pipeline

    def interrupted(runtime: Runtime) -> None:
        make_pipeline(runtime)
        if not opened:
            opened.append(runtime)
            opened.append(runtimes.default())

    monkeypatch.setattr(Runtime, "_make_pipeline", interrupted)
    assert runtimes.default() is opened[1]


def test_control_c_while_the_writer_is_being_started_starts_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def interrupted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)
        raise KeyboardInterrupt  # the writer already runs

    with pipeline("postgresql:///unused", Choosy()) as runtime:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                runtime.append(call())
            runtime.append(call())
        assert started == ["rlm_cachetrack-writer"]
        assert runtime.flush(120)


@pytest.mark.usefixtures("long_backoff")
def test_stopping_ends_the_backoff_after_a_failure() -> None:
    with pipeline("postgresql://someone@127.0.0.1:1/nowhere") as runtime:
        runtime.append(call())
        assert in_time(lambda: runtime.stats()["last_error"])
        began = time.monotonic()
        assert runtime.close(0.1) is False
        assert time.monotonic() - began < 60
        assert in_time(lambda: not runtime.writer.running)
    [journal] = runtime.journal.directory.glob("*.jsonl")
    assert [json.loads(line)["model"] for line in journal.read_text().splitlines()] == ["gpt-5"]
