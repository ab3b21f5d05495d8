"""During an outage of the database, ``watch`` sends one notification of a full journal and one of its recovery."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.integration.cli.test_cli_journal import cli, leave_journal
from tests.integration.pipeline.test_writer import sql

_PATIENCE_S = 120


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_full_journal_is_notified_of_while_the_database_is_away(db_url: str, tmp_path: Path) -> None:
    log = tmp_path / "sent.jsonl"
    log.touch()
    program = f"import sys; open({str(log)!r}, 'a').write(sys.stdin.read() + chr(10))"
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        f"version: 1\ncommand: {json.dumps([sys.executable, '-c', program])}\nrules:\n"
        "  - {name: backlog, kind: journal, above: 2}\n  - {name: costly, kind: spend, above: 1000}\n"
    )

    def states() -> int:
        with psycopg.connect(db_url) as connection:
            return len(connection.execute("SELECT FROM alert_states").fetchall())

    def sent() -> list[bool]:
        return [json.loads(line)["firing"] for line in log.read_text().splitlines()]

    with psycopg.connect(db_url) as connection:
        name = connection.info.dbname
    server = db_url.replace(name, "postgres")
    arguments = ["watch", str(rules), "--interval", "1", "--db-url", db_url]
    with subprocess.Popen([sys.executable, "-m", "rlm_cachetrack", *arguments], stderr=subprocess.DEVNULL) as watcher:
        try:
            wait_until(lambda: states() == 2)
            sql(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            sql(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            leave_journal(db_url, "a", "b", "c")
            wait_until(sent)
            time.sleep(3)  # further evaluations
            assert sent() == [True]
            sql(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            assert cli("journal", "drain", "--db-url", db_url).exit_code == 0
            wait_until(lambda: len(sent()) > 1)
            time.sleep(3)
            assert sent() == [True, False]
        finally:
            watcher.terminate()
            sql(server, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
