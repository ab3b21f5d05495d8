"""Tests with third-party programs and frameworks, over real HTTP against the simulated endpoint.

A module is skipped if the package that it tests is not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack import TimescaleDBClient, instrument
from rlm_cachetrack.simulator import SimulatedEndpoint, SimulatedRequest

# Long enough to be cached: 4 tokens for the role and 1,500 for 6,000 characters; the cache reads 1,408 (11 x 128).
SYSTEM = "You are brief. " * 400


def hints_of(program: str, folder: Path) -> list[str]:
    """Run a program that records every client, and return the log lines that name an integration.

    Args:
        program: The code after ``instrument()``.
        folder: The home folder of the program.
    """
    code = (
        "from rlm_cachetrack import instrument\nfrom tests.support.memory import MemorySink\n"
        f"instrument(store=MemorySink())\n{program}\n"
    )
    names = ("HOME", "RLM_CACHETRACK_STATE_DIR", "CREWAI_STORAGE_DIR", "DSPY_CACHEDIR")
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **dict.fromkeys(names, str(folder)), "OPENAI_API_KEY": "sk-test"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [line for line in ended.stderr.splitlines() if "rlm_cachetrack.integrations" in line]


@dataclass
class Recorder:
    """Compares the records in the database with the requests that the endpoint received."""

    endpoint: SimulatedEndpoint
    db: TimescaleDBClient

    def instrument(self) -> None:
        """Record every client of the process."""
        instrument(store=self.db)

    def rows(self) -> list[dict[str, Any]]:
        """Return the records of all runs, in order of time."""
        found = [
            row
            for run in self.db.list_query_runs()
            for row in self.db.get_llm_interactions(run["query_id"], run["run_id"])
        ]
        return sorted(found, key=lambda row: row["time"])

    def check_only(self, requests: list[SimulatedRequest]) -> None:
        """Assert that each of these requests has one record, with the numbers that the endpoint counted."""
        known = {request.request_id for request in requests}
        rows = [row for row in self.rows() if row["request_id"] in known]
        assert sorted(map(read, rows), key=str) == sorted(map(counted, requests), key=str)

    def check(self, calls: int) -> list[dict[str, Any]]:
        """Assert that ``calls`` requests reached the endpoint, and that each has one record with the same numbers.

        Returns:
            The records, in order of time.
        """
        assert len(self.endpoint.requests) == calls
        rows = self.rows()
        assert len(rows) == calls
        self.check_only(self.endpoint.requests)
        return rows


def read(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that the endpoint counts too."""
    return {
        "request_id": row["request_id"],
        "api": row["api"],
        "model": row["model"],
        "stream": bool((row["metadata"] or {}).get("stream")),
        "prompt_tokens": row["prompt_tokens"],
        "cached_tokens": row["cached_tokens"],
        "completion_tokens": row["completion_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        "tool_calls": row["tool_call_count"],
        "success": row["success"],
    }


def counted(request: Any) -> dict[str, Any]:
    """Return the same fields of a request, as the endpoint counted them."""
    return {
        "request_id": request.request_id,
        "api": {"chat": "chat.completions"}.get(request.api, request.api),
        "model": request.model,
        "stream": request.stream,
        "prompt_tokens": request.prompt_tokens,
        "cached_tokens": request.cached_tokens,
        "completion_tokens": request.completion_tokens,
        "reasoning_tokens": request.reasoning_tokens,
        "tool_calls": request.tool_calls,
        "success": request.status == 200,
    }


@pytest.fixture
def db(reused_db_url: str) -> Iterator[TimescaleDBClient]:
    with TimescaleDBClient(reused_db_url) as client:
        yield client


@pytest.fixture
def idle_recorder(endpoint: SimulatedEndpoint, db: TimescaleDBClient, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Return a recorder that has not instrumented any client; the environment points clients to the endpoint."""
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    return Recorder(endpoint, db)


@pytest.fixture
def recorder(idle_recorder: Recorder) -> Recorder:
    """Return a recorder that has instrumented every client of the process."""
    idle_recorder.instrument()
    return idle_recorder
