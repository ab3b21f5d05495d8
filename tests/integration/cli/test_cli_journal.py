"""``journal status``, ``drain`` and ``dead-letters`` over journals of processes that are alive or dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack.cli import app
from tests.integration.pipeline.test_writer import RUN, call, pipeline, refuse_model, sql, stored

JOURNALIST = """
import os, sys
from rlm_cachetrack.pipeline import runtime as _runtime
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.journal.journal import Journal
from tests.integration.pipeline.test_writer import call
journal = Journal(_runtime.open_runtime(load_settings(sys.argv[1])).journal.directory)  # no writer: nothing is stored
for model in sys.argv[3:]:
    journal.append(call(model=model))
print("written", flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
os._exit(9)
"""


def cli(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"}, **more)


def died_with(url: str, *models: str) -> None:
    """A process that recorded calls of these models and died before it stored them."""
    command = [sys.executable, "-c", JOURNALIST, url, "die", *models]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=False).returncode == 9


@pytest.fixture
def living(reused_db_url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a journal of one call."""
    with subprocess.Popen(
        [sys.executable, "-c", JOURNALIST, reused_db_url, "wait", "alive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def refusing(db_url: str) -> str:
    """A database that took ``good`` and refused two calls of the model ``bad``."""
    sql(db_url, refuse_model("bad"))
    with pipeline(db_url) as runtime:
        for model in ("bad", "good", "bad"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(20)
    return db_url


# -- status -----------------------------------------------------------------------------------------------------------


def test_status_tells_journals_by_process_live_or_dead(reused_db_url: str, living: subprocess.Popen[str]) -> None:
    died_with(reused_db_url, "a", "b", "c")
    facts = json.loads(cli("journal", "status", "--json", "--db-url", reused_db_url).stdout)
    by_state = {journal["live"]: journal for journal in facts["journals"]}
    assert (by_state[True]["pid"], by_state[True]["events"]) == (living.pid, 1)
    assert by_state[False]["events"] == 3
    assert {datetime.fromisoformat(journal["oldest"]) for journal in facts["journals"]} == {RUN}
    assert (facts["events"], facts["recoverable_events"], facts["dead_letters"]) == (4, 3, 0)
    assert facts["bytes"] == sum(journal["bytes"] for journal in facts["journals"]) > 400
    text = cli("journal", "status", "--db-url", reused_db_url).stdout
    assert "recoverable" in text
    assert "live" in text
    assert "2026-01-10T09:00:00Z" in text
    assert "journal drain" in text
    assert stored(reused_db_url) == []  # it only looked


def test_status_of_an_empty_journal_says_so_and_needs_no_database() -> None:
    result = cli("journal", "status", "--db-url", "postgresql://me:geheim@127.0.0.1:1/nowhere")
    assert result.exit_code == 0
    assert [line.split(maxsplit=1)[1] for line in result.stdout.splitlines()[:1]] == ["nothing"]
    assert "geheim" not in result.stdout


# -- drain ------------------------------------------------------------------------------------------------------------


def test_drain_stores_what_the_dead_left_and_leaves_the_living_theirs(
    reused_db_url: str, living: subprocess.Popen[str]
) -> None:
    died_with(reused_db_url, "a", "b")
    died_with(reused_db_url, "c")
    result = cli("journal", "drain", "--db-url", reused_db_url)
    assert result.exit_code == 0, result.stderr
    assert "Stored 3 events" in result.stdout
    assert stored(reused_db_url) == ["a", "b", "c"]
    facts = json.loads(cli("journal", "status", "--json", "--db-url", reused_db_url).stdout)
    assert [journal["pid"] for journal in facts["journals"]] == [living.pid]


def test_drain_of_nothing_says_so(reused_db_url: str) -> None:
    result = cli("journal", "drain", "--db-url", reused_db_url)
    assert (result.exit_code, result.stdout) == (0, "Nothing was left to store.\n")
    facts = json.loads(cli("journal", "drain", "--json", "--db-url", reused_db_url).stdout)
    assert (facts["stored"], facts["pending"], facts["dead_letters"], facts["error"]) == (0, 0, 0, None)


def test_drain_without_a_database_is_exit_code_3() -> None:
    result = cli("journal", "drain", "--db-url", "postgresql://me:geheim@127.0.0.1:1/nowhere")
    assert result.exit_code == 3
    assert "geheim" not in result.stderr


def test_drain_into_a_store_that_takes_nothing_gives_up_and_keeps_the_records(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "0.2")
    sql(db_url, "ALTER TABLE llm_interactions ADD CONSTRAINT closed CHECK (false) NOT VALID")
    died_with(db_url, "a")
    result = cli("journal", "drain", "--timeout", "0.5", "--json", "--db-url", db_url)
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert (facts["stored"], facts["pending"], facts["dead_letters"]) == (0, 1, 0)
    assert "closed" in facts["error"]
    assert "1 event still in the journal" in result.stderr
    sql(db_url, "ALTER TABLE llm_interactions DROP CONSTRAINT closed")
    assert cli("journal", "drain", "--db-url", db_url).exit_code == 0
    assert stored(db_url) == ["a"]


def test_drain_tells_of_records_that_were_set_aside(db_url: str) -> None:
    sql(db_url, refuse_model("bad"))
    died_with(db_url, "a", "bad", "b")
    result = cli("journal", "drain", "--db-url", db_url)
    assert result.exit_code == 1
    assert "Stored 2 events" in result.stdout
    assert "1 record cannot be stored and was set aside" in result.stdout
    assert stored(db_url) == ["a", "b"]


# -- dead letters -----------------------------------------------------------------------------------------------------


def listed(url: str) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = json.loads(cli("journal", "dead-letters", "--json", "--db-url", url).stdout)
    return letters


def test_dead_letters_are_listed_with_their_reasons(refusing: str) -> None:
    letters = listed(refusing)
    assert [letter["event"]["model"] for letter in letters] == ["bad", "bad"]
    assert all("no_such_model" in letter["reason"] for letter in letters)
    text = cli("journal", "dead-letters", "--db-url", refusing).stdout
    assert all(letter["id"] in text for letter in letters)
    assert "no_such_model" in text
    assert "call of query 'q', model bad" in text
    assert "2 records cannot be stored" in cli("journal", "status", "--db-url", refusing).stdout


def test_doctor_tells_of_dead_letters_and_where_to_look(refusing: str) -> None:
    assert json.loads(cli("doctor", "--json", "--db-url", refusing).stdout)["dead_letters"] == 2
    told = " ".join(cli("doctor", "--db-url", refusing).stdout.split())
    assert "2 records were refused and are not stored: `rlm-cachetrack journal dead-letters`" in told


def test_dead_letters_offered_again_are_stored_once_the_cause_is_gone(refusing: str) -> None:
    again = cli("journal", "dead-letters", "--retry", "--db-url", refusing)
    assert again.exit_code == 1
    assert "2 records were refused again" in again.stdout
    assert len(listed(refusing)) == 2
    sql(refusing, "ALTER TABLE llm_interactions DROP CONSTRAINT no_such_model")
    result = cli("journal", "dead-letters", "--retry", "--json", "--db-url", refusing)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"offered": 2, "stored": 2, "refused": 0})
    assert listed(refusing) == []
    assert stored(refusing) == ["bad", "bad", "good"]


def test_one_dead_letter_is_offered_again_by_its_id(refusing: str) -> None:
    first, second = (letter["id"] for letter in listed(refusing))
    sql(refusing, "ALTER TABLE llm_interactions DROP CONSTRAINT no_such_model")
    assert cli("journal", "dead-letters", first, "--retry", "--db-url", refusing).exit_code == 0
    assert [letter["id"] for letter in listed(refusing)] == [second]
    assert stored(refusing) == ["bad", "good"]


def test_dead_letters_that_cannot_be_offered_stay_where_they_are(refusing: str) -> None:
    before = listed(refusing)
    with psycopg.connect(refusing) as connection:
        name = connection.info.dbname
    server = refusing.replace(name, "postgres")
    sql(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        assert cli("journal", "dead-letters", "--retry", "--db-url", refusing).exit_code == 3
    finally:
        sql(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert listed(refusing) == before


def test_dead_letters_for_which_the_journal_has_no_room_stay_and_are_said(
    refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(refusing, "ALTER TABLE llm_interactions DROP CONSTRAINT no_such_model")
    monkeypatch.setenv("RLM_CACHETRACK_JOURNAL_MAX_BYTES", "400")  # of a record and a half
    result = cli("journal", "dead-letters", "--retry", "--db-url", refusing)
    assert result.exit_code == 1
    assert "Stored 1 record." in result.stdout
    assert "1 record found no room in the journal and was not appended." in result.stdout
    assert len(listed(refusing)) == 1
    assert stored(refusing) == ["bad", "good"]


def test_a_dead_letter_file_that_cannot_be_rewritten_loses_none(refusing: str) -> None:
    before = listed(refusing)
    [folder] = (Path(os.environ["RLM_CACHETRACK_STATE_DIR"]) / "journal").iterdir()
    (folder / "dead-letters.new").mkdir()  # not even root can write to it
    result = cli("journal", "dead-letters", before[0]["id"], "--discard", "--yes", "--db-url", refusing)
    assert result.exit_code == 1
    assert "the file of dead letters cannot be rewritten" in result.stderr
    assert listed(refusing) == before


def test_discarding_asks_first(refusing: str) -> None:
    refused = cli("journal", "dead-letters", "--discard", "--db-url", refusing)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert len(listed(refusing)) == 2
    result = cli("journal", "dead-letters", "--discard", "--yes", "--db-url", refusing)
    assert (result.exit_code, result.stdout) == (0, "Deleted 2 records.\n")
    assert cli("journal", "dead-letters", "--db-url", refusing).stdout.startswith("There are no dead letters")


def test_an_export_holds_every_letter_whole_on_a_line(refusing: str) -> None:
    lines = cli("journal", "dead-letters", "--export", "--db-url", refusing).stdout.splitlines()
    assert [json.loads(line) for line in lines] == listed(refusing)


def test_an_unknown_id_is_exit_code_1_and_two_actions_are_2(refusing: str) -> None:
    assert cli("journal", "dead-letters", "nobody", "--db-url", refusing).exit_code == 1
    assert cli("journal", "dead-letters", "--retry", "--discard", "--db-url", refusing).exit_code == 2


def test_a_dead_letter_cannot_act_on_the_terminal(reused_db_url: str) -> None:
    with pipeline(reused_db_url) as runtime:
        runtime.journal.append(call(model="\x1b[31mred\x07", interaction_id="\x1b[2J"))
        assert runtime.flush(20)
    text = cli("journal", "dead-letters", "--db-url", reused_db_url).stdout
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text


def test_a_torn_line_hides_no_other(refusing: str) -> None:
    [folder] = (Path(os.environ["RLM_CACHETRACK_STATE_DIR"]) / "journal").iterdir()
    path = folder / "dead-letters.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:40])
    assert len(listed(refusing)) == 1
    with pipeline(refusing) as runtime:
        runtime.journal.append(call(model="bad"))
        assert runtime.flush(20)
    assert len(listed(refusing)) == 2
