"""Run a command of the documentation in a test: ``python stand_in.py NAME ARGUMENTS``.

``rlm-cachetrack`` is the real program, but uses the test's database whatever the address in the sample, answers its
own confirmations, and ends servers and watchers as soon as they work. Commands that install packages, need Docker or
start the build are checked and not run; the file ``NOT_RUN`` lists them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import psycopg

from tests.support.forked import Forked

ROOT = Path(__file__).resolve().parents[2]
SERVES = {"dashboard", "live", "watch", "uvicorn", "gunicorn"}
CONFIRMS = {"reprice", "delete", "prune", "policy"}
CHECKS = {"check", "budget", "watch", "doctor"}  # exit code 1 is a result
PATIENCE_S = 180


def main(name: str, arguments: list[str]) -> int:
    """Run the command, or check it; return its exit code."""
    reason = _checked(name, arguments)
    if reason is None:
        return _run(name, arguments)
    with Path(os.environ["NOT_RUN"]).open("a", encoding="utf-8") as notes:
        notes.write(f"{name} {' '.join(arguments)}: {reason}\n")
    return 0


def _checked(name: str, arguments: list[str]) -> str | None:
    """Return why a command is not run, None if it is; exit if it is wrong."""
    if name == "rlm-cachetrack":
        return _why_ours_is_not_run(arguments)
    if name == "pip":
        for requirement in (each for each in arguments[1:] if not each.startswith("-")):
            _check_requirement(requirement)
        return "would install packages"
    if name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        named = [each for each in arguments if "=" not in each]
        if named and not set(named) <= set(targets):
            sys.exit(f"no target {named} in the Makefile")
        return "would build or test everything"
    if name == "docker":
        return "needs Docker"
    return None


def _why_ours_is_not_run(arguments: list[str]) -> str | None:
    if "--live" in arguments or "--lifecycle" in arguments:
        return "needs an API key"
    if "--install-completion" in arguments:
        return "would change the shell's settings"
    if arguments[:2] == ["prices", "update"] and "--from" not in arguments:
        return "needs the network"
    return None


def _check_requirement(requirement: str) -> None:
    """Exit unless the requirement is ours, with existing extras, or a package that pyproject.toml or nox names."""
    found = re.fullmatch(r"(?P<name>\.|[\w.-]+)(?:\[(?P<extras>[\w,]+)\])?(?:[><=].*)?", requirement)
    if found is None:
        sys.exit(f"not a requirement: {requirement}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if found["name"] in (".", "rlm_cachetrack"):
        wanted = set((found["extras"] or "").split(",")) - {""}
        if not wanted <= set(project["optional-dependencies"]):
            sys.exit(f"no such extra: {requirement}")
    elif not any(f'"{found["name"]}' in (ROOT / file).read_text("utf-8") for file in ("noxfile.py", "pyproject.toml")):
        sys.exit(f"neither noxfile.py nor pyproject.toml names {found['name']}")


def _run(name: str, arguments: list[str]) -> int:
    ours = name == "rlm-cachetrack"
    command = arguments[0] if ours and arguments else name
    line = ["-m", "rlm_cachetrack" if ours else name, *arguments]
    if ours:
        line = _with_test_database(line)
        if command in CONFIRMS and "--yes" not in line and not {"--resume", "--undo", "--log"} & set(line):
            line.append("--yes")
        if command == "dashboard":
            line += ["--port", "0"]
    if command in SERVES and "--once" not in arguments:
        return _serve(command, line)
    code = Forked(line).wait(PATIENCE_S)
    return 0 if code == 1 and command in CHECKS else code


def _serve(command: str, line: list[str]) -> int:
    """Start a server or watcher, wait until it works, and end it by Ctrl-C; return 0."""
    works = threading.Event()
    ours, its = os.openpty()  # `live` insists on a terminal
    threading.Thread(target=_drain, args=(ours, b"" if command == "live" else b"http://", works), daemon=True).start()
    process = Forked(line, streams=(its, its, its))
    if command == "watch":
        deadline = time.monotonic() + PATIENCE_S
        while not _has_alert_states() and time.monotonic() < deadline:
            time.sleep(0.05)
    elif not works.wait(PATIENCE_S):
        sys.exit(f"{command} did not start")
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
        return 0
    sys.exit(f"{command} did not end")


def _drain(terminal: int, wanted: bytes, works: threading.Event) -> None:
    """Read what a program shows, copy it to stderr unless it draws, and report when it shows the wanted text."""
    shown = b""
    with contextlib.suppress(OSError):
        while read := os.read(terminal, 1 << 16):
            shown += read
            if wanted:
                os.write(2, read)
            if wanted in shown:
                works.set()


def _has_alert_states() -> bool:
    with psycopg.connect(os.environ["TEST_DB_URL"]) as connection:
        return connection.execute("SELECT 1 FROM alert_states").fetchone() is not None


def _with_test_database(line: list[str]) -> list[str]:
    os.environ["RLM_CACHETRACK_DB_URL"] = url = os.environ["TEST_DB_URL"]
    for number, word in enumerate(line[:-1]):
        if word == "--db-url":
            line[number + 1] = url
    return line


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], sys.argv[2:])
    except SystemExit as exc:  # the command exits with a message
        print(exc, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the end of an interpreter that has imported everything takes as long as a command
