"""The types are correct for a user's type checker: ``consumer.py`` passes mypy --strict, and a mistake fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONSUMER = Path(__file__).with_name("consumer.py")


@pytest.fixture
def mypy(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return the command, with a cache that is kept between runs: reading the SDK's types takes ten seconds."""
    kept = getattr(request.config, "cache", None)
    cache = tmp_path / "cache" if kept is None else kept.mkdir("mypy")
    return [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "--no-error-summary"]


def check(command: list[str], program: Path, cwd: Path) -> tuple[int, str]:
    # Run outside the checkout, so that the types come from the installed package and its py.typed.
    done = subprocess.run([*command, program], cwd=cwd, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def test_a_users_program_is_strictly_typed(mypy: list[str], tmp_path: Path) -> None:
    code, output = check(mypy, CONSUMER, tmp_path)
    assert code == 0, output


def test_a_wrong_expectation_of_the_types_is_an_error(mypy: list[str], tmp_path: Path) -> None:
    program = tmp_path / "mistaken.py"
    program.write_text(
        "from openai import AsyncOpenAI, OpenAI\n"
        "from rlm_cachetrack import instrument\n"
        "client: AsyncOpenAI = instrument(OpenAI())\n",
        encoding="utf-8",
    )
    code, output = check(mypy, program, tmp_path)
    assert code == 1
    assert "mistaken.py:3: error" in output
