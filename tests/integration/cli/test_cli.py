"""The command line on a real PostgreSQL: output as text and JSON, stdout and stderr, and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, __version__
from rlm_cachetrack.cli import app
from rlm_cachetrack.fingerprint.secret_key import installation_key

MORNING = datetime(2026, 1, 10, 9, 0, 0, 250_000, tzinfo=UTC)
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
COMMAND = [sys.executable, "-c", "from rlm_cachetrack.cli import main; main()"]
UNREACHABLE = "postgresql://anna:geheim@127.0.0.1:1/nowhere"
HOSTILE = "[bold]x[/bold] \x1b[31mred\x07 \u202eevil\nline"


def cli(*arguments: str, columns: int = 80, **more: Any) -> Result:
    """Run a command in this process, with output for the given number of columns that is not a terminal."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)}, **more)


def record(query_id: str, run_id: datetime, **more: Any) -> LLMInteractionRecord:
    """Return a call at its run's time, at USD 0.01 / 0.001 / 0.02 per 1,000 prompt / cached / completion tokens."""
    given = {
        "model": "tuned",
        "completion_tokens": 100,
        "prompt_token_price": 0.01,
        "cached_token_price": 0.001,
        "completion_token_price": 0.02,
        "start_time": run_id,
    }
    return LLMInteractionRecord(query_id, run_id, **{**given, **more})


def store_runs(url: str) -> None:
    """Store two runs of ``bench``, and one unpriced call without reported cache use.

    The morning run: 2,000 of 5,000 prompt tokens cached. First call: 2 x 0.01 + 0.1 x 0.02 = USD 0.022; second:
    1 x 0.01 + 2 x 0.001 + 0.1 x 0.02 = 0.014, and 0.032 without the cache. So 0.036 instead of 0.054: 0.018 saved,
    a third.
    """
    with TimescaleDBClient(url) as db:
        db.record_llm_interaction(
            record("bench", MORNING, prompt_tokens=2000, cached_tokens=0, iteration=1, duration_ms=100)
        )
        db.record_llm_interaction(
            record(
                "bench",
                MORNING,
                prompt_tokens=3000,
                cached_tokens=2000,
                iteration=2,
                duration_ms=300,
                start_time=MORNING + timedelta(seconds=1),
            )
        )
        db.complete_query_run("bench", MORNING)
        db.record_llm_interaction(record("bench", NOON, prompt_tokens=1000, cached_tokens=0, iteration=1))
        db.record_llm_interaction(
            LLMInteractionRecord(
                "silent", NOON, "nobody-knows-it", prompt_tokens=1500, cached_tokens=None, start_time=NOON
            )
        )


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return the URL of a database with the runs of ``store_runs``, for tests that only read."""
    store_runs(module_db_url)
    return module_db_url


@pytest.fixture
def disposable(db_url: str) -> str:
    """Return the URL of a new database with the same runs, for tests that write."""
    store_runs(db_url)
    return db_url


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


# -- show -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 200])
def test_show_reports_totals_savings_counts_and_a_bar_per_iteration(stored: str, columns: int) -> None:
    result = cli("show", "bench", "--run", MORNING.isoformat(), "--db-url", stored, columns=columns)
    assert result.exit_code == 0, result.stderr
    assert "of the prompt tokens came from the cache: 2,000 of 5,000" in result.stdout
    assert "40.0%" in result.stdout
    assert "saved: $0.0360 instead of $0.0540 (33.3%)" in result.stdout
    assert "$0.0180" in result.stdout
    lines = lines_of(result.stdout)
    assert "prompt 5,000 hits 1 cost $0.0360" in lines
    assert "cached 2,000 misses 1 per call $0.0180" in lines
    assert "not cached 3,000 not reported 0 latency p50 200 ms" in lines
    assert [line.split("%")[0] for line in lines if line.endswith(("█", "░"))] == [
        "1 2,000 0 0.0",
        "2 3,000 2,000 66.7",
    ]
    bars = [line.strip().split("  ")[-1] for line in result.stdout.splitlines() if line.rstrip().endswith(("█", "░"))]
    assert "█" not in bars[0]
    assert bars[1].count("█") == round(2 / 3 * len(bars[1]))
    # The hint at the end is not wrapped, so that it can be copied.
    report, _, _ = result.stdout.partition("This query has")
    assert max(map(len, report.splitlines())) <= columns


def test_show_as_json_has_every_number_in_full(stored: str) -> None:
    result = cli("show", "bench", "--run", MORNING.isoformat(), "--json", "--db-url", stored)
    shown = json.loads(result.stdout)
    assert datetime.fromisoformat(shown["run"]["run_id"]) == MORNING
    assert shown["run"]["run_id"].endswith("+00:00")
    assert shown["run"]["status"] == "completed"
    assert shown["summary"]["cache_hit_rate"] == pytest.approx(0.4, abs=1e-15)
    assert shown["summary"]["total_cost"] == pytest.approx(0.036, abs=1e-15)
    assert shown["optimization"]["cost_savings_percentage"] == pytest.approx(100 / 3, abs=1e-12)
    assert [step["cached_tokens"] for step in shown["optimization"]["cache_evolution"]] == [0, 2000]
    assert shown["other_runs"] == 1


def test_show_takes_the_newest_run_and_names_the_command_for_the_others(stored: str) -> None:
    result = cli("show", "bench", "--db-url", stored)
    assert "2026-01-10T12:00:00.000000Z" in result.stdout
    assert "This query has 1 other run" in result.stdout
    assert "runs --query=bench" in result.stdout


@pytest.mark.parametrize(
    "run", ["2026-01-10T09", "2026-01-10 09:00:00", "2026-01-10T09:00:00Z", "2026-01-10T10:00:00.25+01:00"]
)
def test_a_run_is_found_by_its_id_or_a_prefix_of_it(stored: str, run: str) -> None:
    shown = json.loads(cli("show", "bench", "--run", run, "--json", "--db-url", stored).stdout)
    assert datetime.fromisoformat(shown["run"]["run_id"]) == MORNING


@pytest.mark.parametrize("named", [[], ["ben"], ["bench@2026-01-10T12"], ["ben@2026-01-10T12"]], ids=str)
@pytest.mark.parametrize("command", ["show", "explain", "report"])
def test_a_run_is_named_by_nothing_a_prefix_or_query_at_run(command: str, named: list[str], stored: str) -> None:
    result = cli(command, *named, "--db-url", stored)
    assert result.exit_code == 0, result.output
    assert "bench" in result.stdout
    assert "2026-01-10T12:00:00" in result.stdout


def test_a_beginning_of_several_queries_lists_them(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for query in ("alpha-1", "alpha-2", "alpha"):
            db.record_llm_interaction(record(query, NOON, prompt_tokens=10))
    result = cli("show", "alp", "--db-url", db_url)
    assert result.exit_code == 1
    assert "'alpha', 'alpha-1', 'alpha-2'" in result.stderr
    assert "alpha  run" in cli("show", "alpha", "--db-url", db_url).stdout, "an exact id comes first"


def test_naming_the_run_twice_is_wrong_usage(stored: str) -> None:
    assert cli("show", "bench@2026-01-10T12", "--run", "2026-01-10T12", "--db-url", stored).exit_code == 2
    assert cli("show", "--run", "2026", "--db-url", stored).exit_code == 2


def test_delete_takes_no_beginning_of_an_id(stored: str) -> None:
    assert cli("delete", "ben", "--yes", "--db-url", stored).exit_code == 1


def test_an_ambiguous_run_prefix_lists_the_matching_runs(stored: str) -> None:
    result = cli("show", "bench", "--run", "2026-01-10", "--db-url", stored)
    assert result.exit_code == 1
    assert "2026-01-10T12:00:00.000000Z, 2026-01-10T09:00:00.250000Z" in result.stderr


@pytest.mark.parametrize("arguments", [["show", "unheard-of"], ["show", "bench", "--run", "2025"], ["delete", "x"]])
def test_an_unknown_query_or_run_is_exit_code_1_and_one_line_on_stderr(stored: str, arguments: list[str]) -> None:
    result = cli(*arguments, "--db-url", stored)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "rlm-cachetrack" in result.stderr


def test_values_not_reported_are_not_shown_as_zero(stored: str) -> None:
    result = cli("show", "silent", "--db-url", stored)
    lines = lines_of(result.stdout)
    assert "no call of this run reported its cache use" in result.stdout
    assert "cost and savings unknown: no call of this run has a known price" in result.stdout
    assert "cached not reported misses 0 per call –" in lines  # noqa: RUF001
    assert "1 1,500 not reported –" in lines  # noqa: RUF001
    assert "unpriced 1 first token –" in lines  # noqa: RUF001
    row = next(line for line in lines_of(cli("runs", "--db-url", stored, columns=200).stdout) if "silent" in line)
    assert row.split()[-3:] == ["–", "–", "–"]  # noqa: RUF001


def test_show_of_a_run_that_has_not_ended_has_its_evolution(stored: str) -> None:
    shown = json.loads(cli("show", "bench", "--run", "latest", "--json", "--db-url", stored).stdout)
    assert shown["run"]["status"] == "running"
    assert shown["optimization"]["cache_evolution"] == [
        {"iteration": 1, "prompt_tokens": 1000, "cached_tokens": 0, "cache_hit_rate": 0.0}
    ]


def test_show_includes_the_journal_of_a_process_that_died(db_url: str, tmp_path: Path) -> None:
    program = """
import os
from datetime import UTC, datetime
from rlm_cachetrack import LLMInteractionRecord; from rlm_cachetrack.pipeline import runtimes
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.records import event_of_record
journal = runtimes.open(load_settings()).journal  # no writer: nothing is stored
journal.append(event_of_record(LLMInteractionRecord("died", datetime(2026, 1, 10, tzinfo=UTC), "m", prompt_tokens=7,
                                                   interaction_id="0190a8f0-0000-7000-8000-000000000001"), {}))
os._exit(9)
"""
    env = {**os.environ, "RLM_CACHETRACK_DB_URL": db_url}
    assert subprocess.run([sys.executable, "-c", program], env=env, timeout=180).returncode == 9
    result = cli("show", "died", "--json", "--db-url", db_url)
    assert json.loads(result.stdout)["summary"]["total_prompt_tokens"] == 7


# -- lists ----------------------------------------------------------------------------------------


def test_runs_top_and_models_agree_with_the_client(stored: str) -> None:
    with TimescaleDBClient(stored) as db:
        expected: dict[str, Any] = {
            "runs": db.list_query_runs(20),
            "top": db.get_top_cache_savings(10),
            "models": db.get_cache_effectiveness_by_model(),
        }
    for command, rows in expected.items():
        printed = json.loads(cli(command, "--json", "--db-url", stored).stdout)
        assert [set(row) for row in printed] == [set(row) for row in rows]
        assert [row.get("total_prompt_tokens") for row in printed] == [row["total_prompt_tokens"] for row in rows]
    listed = json.loads(cli("runs", "--json", "--db-url", stored).stdout)
    assert [row["query_id"] for row in listed] == ["bench", "silent", "bench"]


@pytest.mark.parametrize("command", ["runs", "top", "models"])
def test_an_empty_store_gives_an_empty_list_and_a_hint(db_url: str, command: str) -> None:
    assert json.loads(cli(command, "--json", "--db-url", db_url).stdout) == []
    result = cli(command, "--db-url", db_url)
    assert result.exit_code == 0
    assert result.stdout.strip()


def test_runs_can_be_limited_and_filtered_by_query(stored: str) -> None:
    result = cli("runs", "--limit", "1", "--query", "bench", "--db-url", stored)
    assert "2026-01-10T12:00:00Z" in result.stdout
    assert "2026-01-10T09:00:00Z" not in result.stdout
    assert "--limit shows more" in result.stdout
    assert "silent" not in cli("runs", "--query", "bench", "--db-url", stored).stdout


def test_models_accepts_times_and_ages(disposable: str) -> None:
    def calls(*arguments: str) -> int:
        rows = json.loads(cli("models", *arguments, "--json", "--db-url", disposable).stdout)
        return sum(row["total_interactions"] for row in rows)

    assert calls() == 4
    assert calls("--since", "2026-01-10T12:00:00") == 2
    assert calls("--since", "2026-01-10T13:00+01:00") == 2
    assert calls("--until", "2026-01-10") == 0
    with TimescaleDBClient(disposable) as db:
        db.record_llm_interaction(record("now", datetime.now(UTC), prompt_tokens=1))
    days = (datetime.now(UTC) - NOON).days
    assert calls("--since", "1h") == 1
    assert calls("--until", "1h", "--since", f"{days + 2}d") == 4


@pytest.mark.parametrize("command", ["runs", "top", "models", "usage --by query --range all", "experiments"])
def test_nothing_that_identifies_a_row_is_cut_at_80_columns(command: str, db_url: str) -> None:
    name = "abcdefghijklmnopqrstuvwxyz" * 2
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(record(name, NOON, model=name, prompt_tokens=1_000_000, cached_tokens=10))
        db.complete_query_run(name, NOON)
    shown = cli(*command.split(), "--db-url", db_url).stdout
    assert "…" not in shown.replace("success=…", "")
    assert shown.count("z") >= 2
    assert max(map(len, shown.splitlines())) <= 80
    if command in ("runs", "top"):
        assert "2026-01-10T12:00:00Z" in shown


def test_a_line_names_the_columns_that_do_not_fit(stored: str) -> None:
    titles = {"Calls", "Failed", "Prompt", "Completion", "Hit rate", "Cost", "Saved", "Status"}
    for columns in (50, 80, 100):
        heading, *lines = cli("runs", "--db-url", stored, columns=columns).stdout.splitlines()
        last = " ".join(lines[lines.index(next(line for line in lines if line.startswith("Not shown"))) :])
        missing = {title for title in titles if title not in heading}
        assert missing
        assert all(title in last for title in missing), (columns, last)


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_tables_fit_the_terminal_and_cut_no_number(db_url: str, columns: int) -> None:
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(
            record("q" * 90, NOON, model="m" * 90, prompt_tokens=1_234_567_890, cached_tokens=1_000_000_000)
        )
        db.complete_query_run("q" * 90, NOON)
    # 234,567.89 x 0.01 + 1,000,000 x 0.001 + 0.1 x 0.02 = 3,345.6809; without the cache 12,345.6809
    for command in ("runs", "top", "models"):
        result = cli(command, "--db-url", db_url, columns=columns)
        assert max(map(len, result.stdout.splitlines())) <= columns
        assert "$3,345.68" in result.stdout
        assert "$9,000.00" in result.stdout
        assert "81.0%" in result.stdout


@pytest.mark.parametrize("command", ["models", "runs", "top", "usage --by query --since 2026-01-01"])
def test_every_digit_of_an_amount_in_a_table_is_exact(db_url: str, command: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for name, prompt, cached in (("large", 896_698, 8_608), ("small", 20, 14)):
            run = record(name, NOON, model=name, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=0)
            db.record_llm_interaction(run)
            db.complete_query_run(name, NOON)
    # 888.09 x 0.01 + 8.608 x 0.001, saved 8.608 x 0.009; and 0.006 x 0.01 + 0.014 x 0.001, saved 0.014 x 0.009
    shown = cli(*command.split(), "--db-url", db_url, columns=200).stdout
    exact = {"large": {"$8.889508", "$0.077472"}, "small": {"$0.000074", "$0.000126"}}
    for name, amounts in exact.items():
        line = next(line for line in shown.splitlines() if name in line)
        without_cache = {"$8.9670", "$0.0002"} if command == "top" else set()
        assert set(re.findall(r"\$[\d.]+", line)) - without_cache == amounts


def test_compare_shows_both_costs_exactly_as_far_as_their_difference(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for name, prompt in (("one", 250_150), ("two", 250_163)):
            run = record(name, NOON, prompt_tokens=prompt, cached_tokens=0, completion_tokens=0, iteration=1)
            db.record_llm_interaction(run)
            db.complete_query_run(name, NOON)
    shown = " ".join(cli("compare", "one", "two", "--db-url", db_url, columns=200).stdout.split())
    assert "cost $2.50150 $2.50163 +$0.00013" in shown


def test_hostile_text_is_escaped_for_the_terminal(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        db.record_llm_interaction(record(HOSTILE, NOON, model=HOSTILE, prompt_tokens=10))
        db.complete_query_run(HOSTILE, NOON, status=HOSTILE)
    for arguments in (["runs"], ["top"], ["models"], ["show", HOSTILE], ["show", "no" + HOSTILE], ["delete", HOSTILE]):
        for columns in (80, 200):
            result = cli(*arguments, "--db-url", db_url, columns=columns)
            output = result.stdout + result.stderr
            assert not {"\x1b", "\x07", "\u202e"} & set(output)
            assert "[bold]x[/bold]" in output
            assert "evil\nline" not in output
    listed = cli("runs", "--json", "--db-url", db_url).stdout
    assert listed.isascii()
    assert json.loads(listed)[0]["query_id"] == HOSTILE


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["runs"], ["show", "q"], ["top"], ["models"], ["doctor"], ["migrate"], ["delete", "q"], ["demo"]],
    ids=lambda arguments: arguments[0],
)
def test_an_unreachable_database_is_exit_code_3_and_shows_no_password(arguments: list[str]) -> None:
    result = cli(*arguments, "--db-url", UNREACHABLE)
    assert result.exit_code == 3
    assert "geheim" not in result.output
    assert "anna:***@127.0.0.1:1" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "--db-url", "mysql://u:geheim@h/x"],
        ["runs", "--db-url", "postgresql://u:geheim@h:port/x"],
        ["doctor", "--db-url", ""],
        ["models", "--since", "yesterday"],
        ["models", "--since", "999999999w"],
        ["models", "--since", "1d", "--until", "2d"],
        ["prune", "--before", "soon"],
        ["prune"],
        ["runs", "--limit", "0"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert "geheim" not in result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_an_invalid_pricing_file_is_reported_and_reading_still_works(
    db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_runs(db_url)
    prices = tmp_path / "prices.yaml"
    prices.write_text("version: 1\nper: 1M\nmodels:\n  m: {prompt: -1, completion: 1}\n")
    monkeypatch.setenv("RLM_CACHETRACK_PRICING", str(prices))
    for arguments in (["runs"], ["show", "bench", "--run", "2026-01-10T09"], ["top"], ["models"]):
        result = cli(*arguments, "--db-url", db_url)
        assert result.exit_code == 0, arguments
        assert "prices.yaml:4: models.m.prompt: is -1" in result.stderr
        assert "$0.0180" in result.stdout
    checked = cli("doctor", "--json", "--db-url", db_url)
    assert checked.exit_code == 1
    facts = json.loads(checked.stdout)
    assert "prices.yaml:4" in facts["pricing_error"]
    assert facts["database"]["reachable"] is True


def test_doctor_names_the_models_of_unpriced_calls(db_url: str) -> None:
    store_runs(db_url)
    facts = json.loads(cli("doctor", "--json", "--db-url", db_url).stdout)
    assert facts["database"]["unpriced_models"] == [
        {
            "model": "nobody-knows-it",
            "provider": None,
            "service_tier": None,
            "unpriced_reason": "no price for nobody-knows-it",
            "unit": None,
            "interactions": 1,
            "tokens": 1500,
            "last_time": NOON.isoformat(),
        }
    ]
    assert facts["ok"] is True
    text = " ".join(cli("doctor", "--db-url", db_url, columns=200).stdout.split())
    assert "nobody-knows-it (unknown): 1 unpriced call" in text


def test_doctor_shows_the_first_unpriced_models_and_counts_the_rest(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for number in range(23):
            db.record_llm_interaction(LLMInteractionRecord("q", NOON, f"nobody-lists-{number}", prompt_tokens=1))
    facts = json.loads(cli("doctor", "--json", "--db-url", db_url).stdout)
    assert len(facts["database"]["unpriced_models"]) == 23
    text = " ".join(cli("doctor", "--db-url", db_url, columns=200).stdout.split())
    assert text.count("1 unpriced call") == 20
    assert "and 3 more: " in text


@pytest.mark.parametrize("arguments", [["runs"], ["migrate"], ["doctor"]], ids=lambda arguments: arguments[0])
def test_a_schema_of_a_newer_release_is_exit_code_1(db_url: str, arguments: list[str]) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum) VALUES ('core', 999, 'later', 'x')"
        )
    result = cli(*arguments, "--db-url", db_url)
    assert result.exit_code == 1
    assert "newer release" in " ".join(result.output.split())


def test_debug_shows_the_traceback_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DEBUG", "1")
    result = cli("runs", "--db-url", UNREACHABLE)
    assert "Traceback" in result.stderr
    assert "geheim" not in result.stderr


# -- maintenance ----------------------------------------------------------------------------------


def test_migrate_lists_what_it_applied_and_is_up_to_date_afterwards(empty_db_url: str) -> None:
    first = cli("migrate", "--db-url", empty_db_url)
    assert "applied core/0001_initial" in first.stdout
    assert "up to date" in first.stdout
    again = cli("migrate", "--db-url", empty_db_url)
    assert "applied" not in again.stdout
    assert "up to date" in again.stdout
    assert first.exit_code == again.exit_code == 0


def test_doctor_shows_what_is_connected(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESCALE_DB_URL", make_conninfo(db_url, password="geheim"))
    result = cli("doctor", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert facts["ok"] is True
    assert facts["problems"] == []
    assert facts["database"]["origin"] == "TIMESCALE_DB_URL"
    assert facts["database"]["engine"].endswith(f"PostgreSQL {facts['database']['server_version']}")
    assert "core/0001_initial" in facts["database"]["migrations_applied"]
    assert facts["database"]["migrations_pending"] == []
    assert "genai-prices" in facts["pricing"]
    assert facts["waiting"] == {"files": 0, "events": 0, "bytes": 0}
    assert facts["dead_letters"] == 0
    assert set(facts["versions"]) >= {"rlm_cachetrack", "python", "openai", "psycopg"}
    text = cli("doctor")
    assert text.exit_code == 0
    assert "Everything is in order." in text.stdout
    assert "geheim" not in result.stdout + text.stdout


def test_doctor_shows_the_path_of_the_fingerprint_key_but_not_the_key(
    db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doctor() -> tuple[dict[str, Any], str]:
        facts = json.loads(cli("doctor", "--json", "--db-url", db_url).stdout)
        return facts["fingerprints"], " ".join(cli("doctor", "--db-url", db_url, columns=200).stdout.split())

    file = tmp_path / "state" / "fingerprint.key"
    facts, text = doctor()
    assert facts == {"on": True, "key": str(file), "key_made": False, "key_error": None}
    assert "misses explained: fingerprints are on" in text
    assert f"secret key: {file}, created by the first call" in text
    assert not file.exists()

    secret = installation_key(file.parent)
    facts, text = doctor()
    assert facts["key_made"] is True
    assert f"secret key: {file}" in text
    assert secret.hex() not in text

    file.write_bytes(b"short")
    facts, text = doctor()
    assert facts["key_error"] == "expected 32 bytes, found 5; delete it to get a new one"
    assert "the secret key of the fingerprints cannot be used: expected 32 bytes, found 5" in text
    assert cli("doctor", "--db-url", db_url).exit_code == 1

    monkeypatch.setenv("RLM_CACHETRACK_FINGERPRINT_KEY", "shared among machines")
    facts, text = doctor()
    assert facts == {
        "on": True,
        "key": "RLM_CACHETRACK_FINGERPRINT_KEY",
        "key_made": True,
        "key_error": None,
    }
    assert "shared among machines" not in text
    monkeypatch.setenv("RLM_CACHETRACK_FINGERPRINTS", "0")
    facts, text = doctor()
    assert facts["on"] is False
    assert "not explained: fingerprints are off (RLM_CACHETRACK_FINGERPRINTS is 0)" in text


def test_doctor_does_not_migrate_an_empty_database(empty_db_url: str) -> None:
    for _ in range(2):
        facts = json.loads(cli("doctor", "--json", "--db-url", empty_db_url).stdout)
        assert facts["ok"] is True
        assert "core/0001_initial" in facts["database"]["migrations_pending"]
    assert "pending" in cli("doctor", "--db-url", empty_db_url).stdout


OBSTACLES = {
    "read-only": ("ALTER DATABASE {database} SET default_transaction_read_only = on", "read-only"),
    "trigger": (
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER nothing BEFORE INSERT ON llm_interactions FOR EACH ROW EXECUTE FUNCTION nothing()",
        "a trigger of llm_interactions dropped",
    ),
    "trigger of runs": (
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER nothing BEFORE UPDATE ON query_run_summaries FOR EACH ROW EXECUTE FUNCTION nothing()",
        "a trigger of query_run_summaries dropped",
    ),
    "constraint": ("ALTER TABLE llm_interactions ADD CHECK (false) NOT VALID", "violates check constraint"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_doctor_tries_to_store_a_call(db_url: str, obstacle: str) -> None:
    if obstacle != "read-only":  # a connection that is open stays writable
        healthy = cli("doctor", "--db-url", db_url)
        assert healthy.exit_code == 0, healthy.stdout
        assert "a call was stored and rolled back" in healthy.stdout
    statement, reason = OBSTACLES[obstacle]
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute(statement.format(database=connection.info.dbname))
    found = cli("doctor", "--json", "--db-url", db_url)
    assert found.exit_code in (1, 3)
    assert reason in " ".join(json.loads(found.stdout)["problems"])
    text = cli("doctor", "--db-url", db_url, columns=300)
    assert reason in text.stdout
    assert "Everything is in order" not in text.stdout
    with psycopg.connect(db_url) as connection:
        assert connection.execute("SELECT count(*) FROM llm_interactions").fetchone() == (0,)


def test_doctor_tells_that_an_empty_database_cannot_be_migrated(empty_db_url: str) -> None:
    assert cli("doctor", "--db-url", empty_db_url).exit_code == 0
    with psycopg.connect(empty_db_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    result = cli("doctor", "--json", "--db-url", empty_db_url)
    assert result.exit_code == 1
    assert "default_transaction_read_only" in json.loads(result.stdout)["database"]["write_error"]


def test_doctor_counts_the_events_in_journals(db_url: str, tmp_path: Path) -> None:
    folder = Path(json.loads(cli("doctor", "--json", "--db-url", db_url).stdout)["journal"])
    for journal, content in ((folder / "1-a.jsonl", b"x" * 1500), (folder.parent / "other" / "1-b.jsonl", b"y" * 7)):
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_bytes(content)
    facts = json.loads(cli("doctor", "--json", "--db-url", db_url).stdout)
    assert facts["waiting"] == {"files": 1, "events": 1, "bytes": 1500}
    assert facts["waiting_for_other_stores"] == {"files": 1, "events": 1, "bytes": 7}
    assert "1 event in 1 journal (1.5 kB) not stored yet" in cli("doctor", "--db-url", db_url).stdout
    for journal in folder.parent.glob("*/*.jsonl"):
        journal.unlink()


def test_delete_and_prune_refuse_without_a_terminal_or_yes(stored: str) -> None:
    for arguments in (["delete", "bench"], ["prune", "--before", "2027-01-01"]):
        result = cli(*arguments, "--db-url", stored)
        assert result.exit_code == 2
        assert "--yes" in result.stderr
    assert len(json.loads(cli("runs", "--json", "--db-url", stored).stdout)) == 3


def test_delete_takes_one_run_or_the_query(disposable: str) -> None:
    def left() -> list[tuple[str, datetime]]:
        rows = json.loads(cli("runs", "--json", "--db-url", disposable).stdout)
        return [(row["query_id"], datetime.fromisoformat(row["run_id"])) for row in rows]

    one = cli("delete", "bench", "--run", "2026-01-10T09", "--yes", "--db-url", disposable)
    assert "2 calls, 1 run" in one.stdout
    assert left() == [("bench", NOON), ("silent", NOON)]
    assert cli("delete", "bench", "-y", "--db-url", disposable).exit_code == 0
    assert left() == [("silent", NOON)]


def test_prune_deletes_older_calls(disposable: str) -> None:
    nothing = cli("prune", "--before", "2026-01-10", "--db-url", disposable)
    assert nothing.exit_code == 0
    assert "0 calls" in nothing.stdout
    result = cli("prune", "--before", "2026-01-10T12:00:00Z", "--yes", "--db-url", disposable)
    assert "Deleted: 2 calls, 1 run" in result.stdout
    assert len(json.loads(cli("runs", "--json", "--db-url", disposable).stdout)) == 2


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 3), ("y", 0, 1)])
def test_delete_asks_at_a_terminal(disposable: str, answer: str, code: int, left: int) -> None:
    controller, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            [*COMMAND, "delete", "bench", "--db-url", disposable],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(controller, f"{answer}\n".encode())
        shown, _ = process.communicate(timeout=180)
    finally:
        os.close(controller)
        os.close(terminal)
    assert process.returncode == code
    assert "3 calls, 2 runs" in shown
    assert len(json.loads(cli("runs", "--json", "--db-url", disposable).stdout)) == left


def test_db_status_and_stop_if_no_server_was_ever_started() -> None:
    result = cli("db", "status", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["running"] is False
    assert cli("db", "status").exit_code == 1
    stopped = cli("db", "stop")
    assert stopped.exit_code == 0
    assert "was not running" in stopped.stdout


# -- the process ----------------------------------------------------------------------------------


def test_help_and_version_load_neither_sdk_nor_driver_nor_price_table() -> None:
    program = """
import sys
from rlm_cachetrack.fingerprint.secret_key import installation_key
from rlm_cachetrack.cli import app
for argument in ("--help", "--version"):
    try:
        app([argument])
    except SystemExit as exc:
        assert exc.code == 0
heavy = {"openai", "psycopg", "genai_prices", "yaml", "httpx", "httpx2"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    assert "doctor" in result.stdout
    assert f"rlm_cachetrack {__version__}" in result.stdout


def test_a_closed_pipe_causes_no_error_message(stored: str) -> None:
    for arguments in (["runs"], ["show", "bench", "--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            result = subprocess.run(
                [*COMMAND, *arguments, "--db-url", stored], stdout=writer, stderr=subprocess.PIPE, timeout=240
            )
        finally:
            os.close(writer)
        assert result.stderr == b""


def test_piped_output_is_plain_in_any_encoding(stored: str) -> None:
    env = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "ascii", "TERM": "xterm-256color"}
    command = [*COMMAND, "show", "bench", "--run", "2026-01-10T09", "--db-url", stored]
    result = subprocess.run(command, env=env, capture_output=True, timeout=180)
    assert result.returncode == 0, result.stderr
    assert b"\x1b" not in result.stdout
    assert b"####" in result.stdout
    assert result.stdout.isascii()
