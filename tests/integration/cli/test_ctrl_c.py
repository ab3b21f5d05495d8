"""One Ctrl-C ends ``watch``, ``live`` and ``dashboard``, also where Python drops the KeyboardInterrupt."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rlm_cachetrack import TimescaleDBClient
from tests.support.forked import Forked

_PATIENCE_S = 120
_RULES = "version: 1\nrules:\n  - {name: costly, kind: spend, above: 1000}\n"

# Python prints and drops an exception of a finalizer.
_PRESSED_IN_FINALIZER = """
import os, signal
import {module} as module
from rlm_cachetrack.cli import main

class Pressed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

def step(*arguments, **named):
    Pressed()
    return original(*arguments, **named)

original, module.{function} = module.{function}, step
main()
"""


@contextlib.contextmanager
def _process(arguments: list[str]) -> Iterator[Forked]:
    """Start a program with a terminal, and read what it prints."""
    ours, its = os.openpty()

    def drain() -> None:
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass

    process = Forked(arguments, streams=(its, its, its))
    os.close(its)
    threading.Thread(target=drain, daemon=True).start()
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "rules.yaml"
    file.write_text(_RULES)
    return str(file)


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        ("rlm_cachetrack.analytics.alerts", "read_alerts", ["watch", "RULES"]),
        ("rlm_cachetrack.analytics.alerts", "evaluate", ["watch", "RULES"]),
        ("rlm_cachetrack.analytics", "marker", ["live"]),
        ("rlm_cachetrack.web", "create_app", ["dashboard", "--port", "0"]),
    ],
)
def test_a_dropped_keyboard_interrupt_ends_the_command(
    module: str, function: str, arguments: list[str], rules: str, db_url: str
) -> None:
    program = _PRESSED_IN_FINALIZER.format(module=module, function=function)
    given = [rules if each == "RULES" else each for each in arguments]
    with _process(["-c", program, *given, "--db-url", db_url]) as process:
        assert process.wait(_PATIENCE_S) in (0, 1, 130)


def test_one_ctrl_c_ends_a_watch_whose_query_waits(rules: str, db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        db.flush()
    with psycopg.connect(db_url) as locking, psycopg.connect(db_url, autocommit=True) as looking:
        locking.execute("LOCK TABLE llm_interactions, alert_states IN ACCESS EXCLUSIVE MODE")
        with _process(["-m", "rlm_cachetrack", "watch", rules, "--db-url", db_url]) as process:
            deadline = time.monotonic() + _PATIENCE_S
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while not (looking.execute(waiting).fetchone() or (0,))[0]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(_PATIENCE_S) == 0
