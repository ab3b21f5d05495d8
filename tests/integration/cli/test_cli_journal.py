"""``journal status``, ``drain`` and ``dead-letters`` with journals of live and dead processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack.cli import app
from rlm_cachetrack.client import runtime_for
from rlm_cachetrack.journal import Journal
from tests.integration.pipeline.test_writer import RUN, call, pipeline, reject_model, sql, stored


def cli(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"}, **more)


def open_journal(url: str, *models: str) -> Journal:
    """Open a new journal for the store and append a call of each model."""
    journal = Journal(runtime_for(url).journal.directory)
    for model in models:
        journal.append(call(model=model))
    return journal


def leave_journal(url: str, *models: str) -> None:
    """Leave the journal of a process that was killed after appending a call of each model."""
    open_journal(url, *models).abandon_after_fork()  # closes the file as a kill does, without truncating or removing it


@pytest.fixture
def live_journal(reused_db_url: str) -> Iterator[Journal]:
    """A journal of one call that a live process has locked."""
    journal = open_journal(reused_db_url, "alive")
    yield journal
    journal.close()


# -- status -----------------------------------------------------------------------------------------------------------


def test_status_lists_journals_of_live_and_dead_processes(reused_db_url: str, live_journal: Journal) -> None:
    leave_journal(reused_db_url, "a", "b", "c")
    facts = json.loads(cli("journal", "status", "--json", "--db-url", reused_db_url).stdout)
    by_state = {journal["live"]: journal for journal in facts["journals"]}
    assert (by_state[True]["pid"], by_state[True]["events"]) == (os.getpid(), 1)
    assert by_state[False]["events"] == 3
    assert {datetime.fromisoformat(journal["oldest"]) for journal in facts["journals"]} == {RUN}
    assert (facts["events"], facts["recoverable_events"], facts["dead_letters"]) == (4, 3, 0)
    assert facts["bytes"] == sum(journal["bytes"] for journal in facts["journals"]) > 400
    text = cli("journal", "status", "--db-url", reused_db_url).stdout
    assert "recoverable" in text
    assert "live" in text
    assert "2026-01-10T09:00:00Z" in text
    assert "journal drain" in text
    assert stored(reused_db_url) == []  # status only reads


def test_status_of_an_empty_journal_needs_no_database() -> None:
    result = cli("journal", "status", "--db-url", "postgresql://me:geheim@127.0.0.1:1/nowhere")
    assert result.exit_code == 0
    assert [line.split(maxsplit=1)[1] for line in result.stdout.splitlines()[:1]] == ["nothing"]
    assert "geheim" not in result.stdout


# -- drain ------------------------------------------------------------------------------------------------------------


def test_drain_recovers_dead_journals_and_leaves_live_ones(reused_db_url: str, live_journal: Journal) -> None:
    leave_journal(reused_db_url, "a", "b")
    leave_journal(reused_db_url, "c")
    result = cli("journal", "drain", "--db-url", reused_db_url)
    assert result.exit_code == 0, result.stderr
    assert "Stored 3 events" in result.stdout
    assert stored(reused_db_url) == ["a", "b", "c"]
    facts = json.loads(cli("journal", "status", "--json", "--db-url", reused_db_url).stdout)
    assert [journal["pid"] for journal in facts["journals"]] == [os.getpid()]


def test_drain_with_empty_journals(reused_db_url: str) -> None:
    result = cli("journal", "drain", "--db-url", reused_db_url)
    assert (result.exit_code, result.stdout) == (0, "The journals are empty.\n")
    facts = json.loads(cli("journal", "drain", "--json", "--db-url", reused_db_url).stdout)
    assert (facts["stored"], facts["pending"], facts["dead_letters"], facts["error"]) == (0, 0, 0, None)


def test_drain_without_a_database_is_exit_code_3() -> None:
    result = cli("journal", "drain", "--db-url", "postgresql://me:geheim@127.0.0.1:1/nowhere")
    assert result.exit_code == 3
    assert "geheim" not in result.stderr


def test_drain_gives_up_and_keeps_records_if_the_store_accepts_nothing(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "0.2")
    sql(db_url, "ALTER TABLE llm_interactions ADD CONSTRAINT closed CHECK (false) NOT VALID")
    leave_journal(db_url, "a")
    result = cli("journal", "drain", "--timeout", "0.5", "--json", "--db-url", db_url)
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert (facts["stored"], facts["pending"], facts["dead_letters"]) == (0, 1, 0)
    assert "closed" in facts["error"]
    assert "1 event still in the journal" in result.stderr
    sql(db_url, "ALTER TABLE llm_interactions DROP CONSTRAINT closed")
    assert cli("journal", "drain", "--db-url", db_url).exit_code == 0
    assert stored(db_url) == ["a"]


def test_drain_reports_dead_letters(db_url: str) -> None:
    sql(db_url, reject_model("bad"))
    leave_journal(db_url, "a", "bad", "b")
    result = cli("journal", "drain", "--db-url", db_url)
    assert result.exit_code == 1
    assert "Stored 2 events" in result.stdout
    assert "1 record cannot be stored: `rlm-cachetrack journal dead-letters` shows the reasons." in result.stdout
    assert stored(db_url) == ["a", "b"]


# -- dead letters -----------------------------------------------------------------------------------------------------


def listed(url: str) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = json.loads(cli("journal", "dead-letters", "--json", "--db-url", url).stdout)
    return letters


def test_dead_letters_are_listed_with_their_reasons(rejecting: str) -> None:
    letters = listed(rejecting)
    assert [letter["event"]["model"] for letter in letters] == ["bad", "bad"]
    assert all("no_such_model" in letter["reason"] for letter in letters)
    text = cli("journal", "dead-letters", "--db-url", rejecting).stdout
    assert all(letter["id"] in text for letter in letters)
    assert "no_such_model" in text
    assert "call of query 'q', model bad" in text
    assert "2 records cannot be stored" in cli("journal", "status", "--db-url", rejecting).stdout


def test_doctor_reports_dead_letters_and_the_command_that_lists_them(rejecting: str) -> None:
    assert json.loads(cli("doctor", "--json", "--db-url", rejecting).stdout)["dead_letters"] == 2
    output = " ".join(cli("doctor", "--db-url", rejecting).stdout.split())
    assert "2 dead letters, rejected by the server: `rlm-cachetrack journal dead-letters`" in output


def test_retried_dead_letters_are_stored_once_the_cause_is_gone(rejecting: str) -> None:
    again = cli("journal", "dead-letters", "--retry", "--db-url", rejecting)
    assert again.exit_code == 1
    assert "2 records rejected again" in again.stdout
    assert len(listed(rejecting)) == 2
    sql(rejecting, "ALTER TABLE llm_interactions DROP CONSTRAINT no_such_model")
    result = cli("journal", "dead-letters", "--retry", "--json", "--db-url", rejecting)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"retried": 2, "stored": 2, "rejected": 0})
    assert listed(rejecting) == []
    assert stored(rejecting) == ["bad", "bad", "good"]


def test_one_dead_letter_is_retried_by_its_id(rejecting: str) -> None:
    first, second = (letter["id"] for letter in listed(rejecting))
    sql(rejecting, "ALTER TABLE llm_interactions DROP CONSTRAINT no_such_model")
    assert cli("journal", "dead-letters", first, "--retry", "--db-url", rejecting).exit_code == 0
    assert [letter["id"] for letter in listed(rejecting)] == [second]
    assert stored(rejecting) == ["bad", "good"]


def test_dead_letters_stay_if_a_retry_cannot_reach_the_database(rejecting: str) -> None:
    before = listed(rejecting)
    with psycopg.connect(rejecting) as connection:
        name = connection.info.dbname
    server = rejecting.replace(name, "postgres")
    sql(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        assert cli("journal", "dead-letters", "--retry", "--db-url", rejecting).exit_code == 3
    finally:
        sql(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert listed(rejecting) == before


def test_dead_letters_stay_and_are_reported_if_the_journal_is_full(
    rejecting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(rejecting, "ALTER TABLE llm_interactions DROP CONSTRAINT no_such_model")
    monkeypatch.setenv("RLM_CACHETRACK_JOURNAL_MAX_BYTES", "400")  # one record and a half
    result = cli("journal", "dead-letters", "--retry", "--db-url", rejecting)
    assert result.exit_code == 1
    assert "Stored 1 record." in result.stdout
    assert "1 record not retried: the journal is full." in result.stdout
    assert len(listed(rejecting)) == 1
    assert stored(rejecting) == ["bad", "good"]


def test_no_dead_letter_is_lost_if_the_file_cannot_be_rewritten(rejecting: str) -> None:
    before = listed(rejecting)
    [folder] = (Path(os.environ["RLM_CACHETRACK_STATE_DIR"]) / "journal").iterdir()
    (folder / "dead-letters.new").mkdir()  # not even root can write to it
    result = cli("journal", "dead-letters", before[0]["id"], "--discard", "--yes", "--db-url", rejecting)
    assert result.exit_code == 1
    assert "the dead-letter file cannot be rewritten" in result.stderr
    assert listed(rejecting) == before


def test_discard_asks_for_confirmation(rejecting: str) -> None:
    refused = cli("journal", "dead-letters", "--discard", "--db-url", rejecting)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert len(listed(rejecting)) == 2
    result = cli("journal", "dead-letters", "--discard", "--yes", "--db-url", rejecting)
    assert (result.exit_code, result.stdout) == (0, "Deleted 2 records.\n")
    assert cli("journal", "dead-letters", "--db-url", rejecting).stdout.startswith("There are no dead letters")


def test_export_prints_each_dead_letter_as_a_json_line(rejecting: str) -> None:
    lines = cli("journal", "dead-letters", "--export", "--db-url", rejecting).stdout.splitlines()
    assert [json.loads(line) for line in lines] == listed(rejecting)


def test_an_unknown_id_is_exit_code_1_and_two_actions_are_2(rejecting: str) -> None:
    assert cli("journal", "dead-letters", "nobody", "--db-url", rejecting).exit_code == 1
    assert cli("journal", "dead-letters", "--retry", "--discard", "--db-url", rejecting).exit_code == 2


def test_control_characters_of_a_dead_letter_are_escaped(reused_db_url: str) -> None:
    with pipeline(reused_db_url) as runtime:
        runtime.journal.append(call(model="\x1b[31mred\x07", interaction_id="\x1b[2J"))
        assert runtime.flush(120)
    text = cli("journal", "dead-letters", "--db-url", reused_db_url).stdout
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text


def test_a_torn_line_hides_no_other_dead_letter(rejecting: str) -> None:
    [folder] = (Path(os.environ["RLM_CACHETRACK_STATE_DIR"]) / "journal").iterdir()
    path = folder / "dead-letters.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:40])
    assert len(listed(rejecting)) == 1
    with pipeline(rejecting) as runtime:
        runtime.journal.append(call(model="bad"))
        assert runtime.flush(120)
    assert len(listed(rejecting)) == 2
