"""CSV, charts over time, the live list, and shell completion."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from tests.support.web import BEGUN, record, store_runs

COMMAND = [sys.executable, "-c", "from rlm_cachetrack.cli import main; main()"]


def cli(*arguments: str, columns: int = 80) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)})


@pytest.mark.parametrize(
    ("command", "within"),
    [
        (["runs"], None),
        (["top"], None),
        (["models"], None),
        (["budget", "list"], None),
        (["what-if", "--hit-rate", "50%"], "by_model"),
        (["latency"], "rows"),
        (["explain", "bench"], "interactions"),
        (["reconcile", "FILE"], "rows"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_csv_has_the_rows_of_json(command: list[str], within: str | None, reused_db_url: str, tmp_path: Path) -> None:
    store_runs(reused_db_url)
    with TimescaleDBClient(reused_db_url) as db:
        db.set_budget(1.0, "day", name='a "quoted", name')
        for number in range(20):  # enough cached and uncached calls of one length to compare their latency
            cached = 512 * (number % 2)
            db.record_llm_interaction(record("alike", BEGUN, number, prompt_tokens=600, cached_tokens=cached))
    export = tmp_path / "costs.csv"
    export.write_text(f"start_time,amount_value,amount_currency\n{int(BEGUN.timestamp())},0.05,usd\n")
    asked = [str(export) if part == "FILE" else part for part in command] + ["--db-url", reused_db_url]
    found = json.loads(cli(*asked, "--json").stdout)
    rows = found if within is None else found[within]
    table = list(csv.DictReader(io.StringIO(cli(*asked, "--csv").stdout)))
    with TimescaleDBClient(reused_db_url) as db:
        db.remove_budget('a "quoted", name')
    assert len(table) == len(rows) > 0
    for mine, wanted in zip(table, rows, strict=True):
        assert list(mine) == list(wanted)
        for name, value in wanted.items():
            if isinstance(value, float):
                assert float(mine[name]) == value
            elif isinstance(value, (dict, list)):
                assert json.loads(mine[name]) == value
            else:
                assert mine[name] == ("" if value is None else str(value))


def test_csv_without_rows_has_its_header(reused_db_url: str) -> None:
    nothing = (["runs"], ["top"], ["models"], ["usage"], ["budget", "list"], ["latency"], ["journal", "dead-letters"])
    for command in (*nothing, ["what-if", "--hit-rate", "50%"]):
        assert len(cli(*command, "--csv", "--db-url", reused_db_url).stdout.splitlines()) == 1, command


def test_output_formats_are_mutually_exclusive(reused_db_url: str) -> None:
    for formats in (["--json", "--csv"], ["--csv", "--json"]):
        refused = cli("runs", *formats, "--db-url", reused_db_url)
        assert (refused.exit_code, "mutually exclusive" in refused.stderr) == (2, True)
    assert cli("journal", "dead-letters", "--csv", "--retry", "--db-url", reused_db_url).exit_code == 2
    assert cli("live", "--db-url", reused_db_url).exit_code == 2


def test_usage_has_one_bar_per_hour(reused_db_url: str) -> None:
    store_runs(reused_db_url)
    result = cli("usage", "--range", "24h", "--model", "tuned", "--db-url", reused_db_url)
    (line,) = [line for line in result.stdout.splitlines() if "█" in line]
    assert line.split()[:6] == [f"{BEGUN:%Y-%m-%dT%H:%M}", "6", "6,000", "$0.0495", "$0.0225", "41.7%"]
    assert cli("usage", "--range", "eon", "--db-url", reused_db_url).exit_code == 2


def test_usage_of_more_than_48_hours_with_calls_is_by_day(reused_db_url: str) -> None:
    now = datetime.now(UTC)
    with TimescaleDBClient(reused_db_url) as db:
        for hours in range(1, 60):
            run = now - timedelta(hours=hours)
            db.record_llm_interaction(record("often", run, 0, prompt_tokens=100, cached_tokens=50))
    shown = cli("usage", "--range", "7d", "--db-url", reused_db_url).stdout
    assert len([line for line in shown.splitlines() if "█" in line]) in (3, 4)
    assert "By day, because there are 59 hours with calls." in shown
    assert len(json.loads(cli("usage", "--range", "7d", "--json", "--db-url", reused_db_url).stdout)["buckets"]) == 59


def test_models_separate_providers(reused_db_url: str) -> None:
    with TimescaleDBClient(reused_db_url) as db:
        for number, provider in enumerate(("openai", "azure")):
            db.record_llm_interaction(record("q", BEGUN, number, provider=provider, prompt_tokens=100))
    lines = cli("models", "--db-url", reused_db_url).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["tuned", "azure"], ["tuned", "openai"]]


def test_show_and_compare_write_csv(reused_db_url: str) -> None:
    store_runs(reused_db_url)
    steps = list(csv.DictReader(io.StringIO(cli("show", "bench", "--csv", "--db-url", reused_db_url).stdout)))
    assert [step["iteration"] for step in steps] == ["1", "2", "3", "4", "5", "6"]
    found = cli("compare", "bench", "old-10", "--csv", "--db-url", reused_db_url)
    assert "cache_hit_rate" in [row["name"] for row in csv.DictReader(io.StringIO(found.stdout))], found.output


def test_the_version_loads_no_command() -> None:
    program = (
        "import sys; sys.argv = ['rlm-cachetrack', '--version']; from rlm_cachetrack.cli import main; main(); "
        "sys.exit(bool({'typer', 'rich', 'wrapt', 'json'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stdout[:15]) == (0, "rlm_cachetrack ")


def test_top_of_an_empty_store_reports_that_nothing_is_stored(reused_db_url: str) -> None:
    assert cli("top", "--db-url", reused_db_url).stdout == "Nothing is stored yet.\n"


def test_a_typical_model_name_fits_in_80_columns(reused_db_url: str) -> None:
    name = "gpt-5-mini-2025-08-07-data-zone"
    with TimescaleDBClient(reused_db_url) as db:
        db.record_llm_interaction(
            LLMInteractionRecord("q", BEGUN, name, prompt_tokens=1_234_567, total_cost=12.5, original_cost=20.25)
        )
    result = cli("models", "--db-url", reused_db_url)
    assert name in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_number_is_cut_off_however_narrow_the_terminal(columns: int, reused_db_url: str) -> None:
    store_runs(reused_db_url)
    for command in ("runs", "top", "models", "usage --range all", "show bench"):
        result = cli(*command.split(), "--db-url", reused_db_url, columns=columns)
        assert result.exit_code == 0, result.output
        shown = [line for line in result.stdout.splitlines() if "rlm-cachetrack" not in line]
        assert max(map(len, shown)) <= columns, command
        assert not re.search(r"(\d\.?|[$%])…", "\n".join(shown)), (command, result.stdout)


def test_live_shows_a_new_call_and_why_it_missed(reused_db_url: str) -> None:
    store_runs(reused_db_url)
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "live", "--db-url", reused_db_url],
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )
    os.close(child)
    shown = b""

    def until(text: bytes) -> None:
        nonlocal shown
        deadline = time.monotonic() + 180
        while text not in shown:
            assert time.monotonic() < deadline, shown[-2000:]
            if select.select([parent], [], [], 0.2)[0]:
                shown += os.read(parent, 65536)

    try:
        until(b"press Ctrl-C to quit")
        with TimescaleDBClient(reused_db_url) as db:
            run = datetime.now(UTC)
            db.record_llm_interaction(record("newcomer", run, prompt_tokens=90_000, cached_tokens=80_000))
            db.complete_query_run("newcomer", run)
        until(b"newcomer")
        until(b"last miss")
        deadline = time.monotonic() + 180
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # on Linux, reading the terminal of an ended process raises an error
            while process.poll() is None:
                assert time.monotonic() < deadline, shown[-2000:]
                if select.select([parent], [], [], 0.2)[0]:
                    shown += os.read(parent, 65536)  # a process that writes to a full terminal would not end
        assert process.wait(180) == 0
    finally:
        process.kill()
        process.wait()
        os.close(parent)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_options(shell: str, tmp_path: Path) -> None:
    """Run the shell in a terminal and press the tab key."""
    if (found := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not on this machine")
    (tmp_path / "rlm-cachetrack").symlink_to(Path(sys.executable).parent / "rlm-cachetrack")
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "COLUMNS": "200",
    }
    script = subprocess.run(
        ["rlm-cachetrack"],
        env={**environment, "_RLM_CACHETRACK_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    ).stdout
    (tmp_path / "completion").write_text(script)
    cases = {"mod": "models", "export --for": "--format", "journal dead": "dead-letters"}
    if shell == "fish":  # fish has a command that lists the completions
        for typed, wanted in cases.items():
            command = f"source {tmp_path / 'completion'}; complete -C 'rlm-cachetrack {typed}'"
            done = subprocess.run([found, "-c", command], env=environment, capture_output=True, text=True, timeout=240)
            assert wanted in done.stdout.split(), done
        return
    options = ["--norc", "--noprofile"] if shell == "bash" else ["-f"]
    begin = "autoload -U compinit; compinit -u; " if shell == "zsh" else ""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [found, *options, "-i"], stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True
    ) as process:
        os.close(child)
        try:
            _type(parent, f"{begin}source {tmp_path / 'completion'}; echo rea''dy\n", "ready")
            for typed, wanted in cases.items():
                _type(parent, f"rlm-cachetrack {typed}\t", f"{typed.rpartition(' ')[0]} {wanted}".strip())
                _type(parent, "\x15echo ne''xt\n", "next")  # Ctrl-U discards the line
        finally:
            process.kill()
            os.close(parent)


def _type(terminal: int, text: str, wanted: str) -> None:
    """Type a text and wait until the terminal shows the wanted one."""
    os.write(terminal, text.encode())
    shown, deadline = "", time.monotonic() + 180
    while wanted not in shown:
        assert time.monotonic() < deadline, (wanted, shown)
        if select.select([terminal], [], [], 0.2)[0]:
            shown += re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", os.read(terminal, 65536).decode(errors="replace"))
