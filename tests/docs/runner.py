"""Run the code blocks of one page in order, in one folder, as a reader who pastes them would."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import psycopg
import yaml

from tests.support import forked

from .blocks import ROOT, Block

STAND_INS = ("rlm-cachetrack", "pip", "make", "docker", "uvicorn", "gunicorn")
LANGUAGES = {"python", "sh", "text", "yaml", "json", "toml", "sql", "ini"}
_DISTRIBUTIONS = {"rlm": "rlms", "agents": "openai-agents", "langchain_openai": "langchain-openai"}
LOCAL_MODULES = {"app", "tasks", "agent", "sample", "handler"}
"""Files that pages create and import."""


class SampleError(AssertionError):
    """A block does not behave as the page describes."""


class Reader:
    """Acts like a reader who pastes the blocks of a page, one after the other, in an empty folder.

    Attributes:
        not_run: What was not run, and why.

    Args:
        folder: The working directory; also the home directory.
        url: The database, in which :mod:`.seed` has recorded runs.
        base_url: The simulated endpoint, which ``OpenAI()`` calls.
    """

    def __init__(self, folder: Path, url: str, base_url: str) -> None:
        self.not_run: list[str] = []
        self._folder = folder
        self._url = url
        self._notes = folder / ".not-run"
        self._python = ""
        self._output = ""
        self._missing: list[str] = []
        programs = folder / ".programs"
        programs.mkdir()
        for name in STAND_INS:
            path = programs / name
            command = f'"{sys.executable}" -I -S "{ROOT / "tests/support/forked_client.py"}" "{forked.address()}"'
            path.write_text(f'#!/bin/sh\nexec {command} "{ROOT / "tests/docs/stand_in.py"}" {name} "$@"\n')
            path.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLM_", "OPENAI_"))}
        self._environment = {
            **kept,
            "PATH": os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))),
            "HOME": str(folder),
            "BROWSER": "true",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "DATABASE_URL": url,
            "COLUMNS": "110",
            "PYTHONIOENCODING": "utf-8",
            "NOT_RUN": str(self._notes),
            "TEST_DB_URL": url,
            "RLM_CACHETRACK_DB_URL": url,
            "RLM_CACHETRACK_STATE_DIR": str(folder / "state"),
            "RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S": "180",
            "RLM_CACHETRACK_DATA_DIR": str(folder / "no-embedded-here"),
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": "any",
        }
        write_files(folder)

    def run(self, block: Block) -> None:
        """Run one block.

        Raises:
            SampleError: It fails, or prints something else than the page shows.
        """
        if block.note.startswith("not run: "):
            self.not_run.append(f"{block.place}: {block.note.removeprefix('not run: ')}")
            return
        if block.language not in LANGUAGES:
            raise SampleError(f"{block.place}: no test runs blocks of the language {block.language!r}")
        getattr(self, f"_run_{block.language}")(block)
        if self._notes.exists():
            self.not_run += [f"{block.place}: {line}" for line in self._notes.read_text("utf-8").splitlines()]
            self._notes.unlink()

    def seed(self) -> None:
        """Record the runs that the commands of the pages name."""
        self._python_process(["-m", "tests.docs.seed"], "seed.py")

    def _python_process(self, arguments: list[str], place: str) -> subprocess.CompletedProcess[str]:
        return self._ended(forked.run(arguments, cwd=self._folder, env=self._environment), place)

    def _ended(self, ended: subprocess.CompletedProcess[str], place: str) -> subprocess.CompletedProcess[str]:
        if ended.returncode:
            raise SampleError(f"{place}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        self._output = ended.stdout
        return ended

    def _run_python(self, block: Block) -> None:
        code = f"{self._python}\n{block.code}" if block.note == "continues" else block.code
        self._python = code
        self._missing = missing_packages(code)
        if self._missing:
            self._leave_out(block)
            return
        file = self._folder / (block.title or "sample.py")
        file.write_text(code, encoding="utf-8")
        if file.name.startswith("test_"):
            self._python_process(["-m", "pytest", "-q", "-p", "no:cacheprovider", file.name], block.place)
        else:
            self._python_process([file.name], block.place)

    def _leave_out(self, block: Block) -> None:
        self.not_run.append(f"{block.place}: needs {', '.join(self._missing)}, which nox installs in a session")

    def _run_sh(self, block: Block) -> None:
        if self._missing and "pip install" not in block.code:
            self._leave_out(block)  # it reads what the block before it would have recorded
            return
        command = ["bash", "-eu", "-c", block.code]
        ended = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, encoding="utf-8", timeout=400
        )
        done = self._ended(ended, block.place)
        if "internal error" in done.stderr:
            raise SampleError(f"{block.place}: {done.stderr}")

    def _run_text(self, block: Block) -> None:
        if block.note == "figure":
            return
        if not self._output:
            raise SampleError(f"{block.place}: no block before it prints anything")
        shape = label if block.note == "labels" else figures_replaced
        printed = [shape(line) for line in self._output.splitlines()]
        for line in filter(str.strip, block.code.splitlines()):
            if line.strip() == "…":
                continue
            if shape(line) not in printed:
                raise SampleError(f"{block.place}: {line!r} is not in the output:\n{self._output}")
            printed = printed[printed.index(shape(line)) + 1 :]

    def _run_yaml(self, block: Block) -> None:
        self._save(block)
        found = yaml.safe_load(block.code)
        if not isinstance(found, dict):
            raise SampleError(f"{block.place}: not a mapping")
        if "models" in found:
            file = self._folder / "checked.yaml"
            file.write_text(block.code, encoding="utf-8")
            self._python_process(["-m", "rlm_cachetrack", "prices", "check", str(file)], block.place)
        elif "jobs" in found:
            for job in found["jobs"].values():
                if not job["steps"] or "runs-on" not in job:
                    raise SampleError(f"{block.place}: not a workflow")

    def _run_json(self, block: Block) -> None:
        json.loads(block.code)
        self._save(block)

    def _run_toml(self, block: Block) -> None:
        tomllib.loads(block.code)
        self._save(block)

    def _run_ini(self, block: Block) -> None:
        self._save(block)

    def _save(self, block: Block) -> None:
        if block.title:
            (self._folder / block.title).write_text(block.code, encoding="utf-8")

    def _run_sql(self, block: Block) -> None:
        if "citus_" in block.code or "citus." in block.code:
            self.not_run.append(f"{block.place}: needs Citus; tests/integration/store/test_citus.py runs it")
            return
        with psycopg.connect(self._url) as connection:
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute(block.code.encode())
            connection.rollback()


def imported_packages(code: str) -> set[str]:
    """Return the top-level packages that the code imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module.split(".")[0]}
            if node.module == "rlm_cachetrack.integrations":
                names |= {alias.name for alias in node.names} & {"litellm", "dspy"}
    return names


def missing_packages(code: str) -> list[str]:
    """Return the packages that the code imports and that are not installed, by the names of their distributions."""
    names = imported_packages(code) - LOCAL_MODULES
    return sorted(_DISTRIBUTIONS.get(name, name) for name in names if importlib.util.find_spec(name) is None)


def figures_replaced(line: str) -> str:
    """Return a line with its numbers replaced, so that other figures and widths do not matter."""
    return re.sub(r"-?\d[\d,.:TZ]*", "0", " ".join(re.sub(r"[─│▁-█░]+", " ", line).split()))


def label(line: str) -> str:
    """Return the first word of a line; an empty text for a line that continues another."""
    return "" if line.startswith(" ") else line.partition(" ")[0]


def write_files(folder: Path) -> None:
    """Write the files that commands of the pages read."""
    (folder / "next-year.yaml").write_text("version: 1\nper: 1M\nmodels:\n  gpt-5.4: {prompt: 2, completion: 12}\n")
    (folder / "prices.yaml").write_text("version: 1\nper: 1M\nmodels:\n  gpt-5.4: {prompt: 2, completion: 12}\n")
    (folder / "costs.csv").write_text(
        "start_time,end_time,amount_value,amount_currency,line_item\n"
        '1764547200,1764633600,1.25,usd,"gpt-5.4-2026-03-05, input"\n'
    )
    write_agent_sessions(folder)
    response = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1764547200,
        "model": "gpt-5.4-2026-03-05",
        "choices": [],
        "usage": {"prompt_tokens": 2000, "completion_tokens": 20, "total_tokens": 2020},
    }
    line = {"id": "batch_req_1", "custom_id": "a", "error": None, "response": {"status_code": 200, "body": response}}
    (folder / "batch_output.jsonl").write_text(f"{json.dumps(line)}\n")
    spent = {
        "request_id": "chatcmpl-2",
        "call_type": "acompletion",
        "model": "gpt-5.4",
        "startTime": "2026-12-01T08:00:00Z",
        "endTime": "2026-12-01T08:00:01Z",
        "spend": 0.002,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 110,
        "metadata": {"usage_object": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}},
    }
    with gzip.open(folder / "spend_logs.json.gz", "wt") as file:
        json.dump([spent], file)


def write_agent_sessions(home: Path) -> None:
    """Write a session of Codex and one of Claude Code where these programs keep them."""
    usage = {"input_tokens": 4000, "cached_input_tokens": 3072, "output_tokens": 100, "total_tokens": 4100}
    counted = {"type": "token_count", "info": {"last_token_usage": usage, "total_token_usage": usage}}
    codex = [
        ("session_meta", {"id": "s-1", "cwd": "/home/me/shop"}),
        ("turn_context", {"model": "gpt-5.4"}),
        ("event_msg", counted),
    ]
    lines = [{"type": kind, "timestamp": "2026-12-01T08:00:00Z", "payload": payload} for kind, payload in codex]
    message = {
        "id": "msg_1",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "done"}],
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 2000, "output_tokens": 5},
    }
    answer = {
        "type": "assistant",
        "sessionId": "s-2",
        "cwd": "/home/me/shop",
        "timestamp": "2026-12-01T09:00:00Z",
        "requestId": "req_1",
        "message": message,
    }
    for name, content in (
        (".codex/sessions/2026/12/01/rollout-s-1.jsonl", lines),
        (".claude/projects/shop/s-2.jsonl", [answer]),
    ):
        path = home / name
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in content), encoding="utf-8")
