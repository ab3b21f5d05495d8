"""Run a command of the documentation in a test: ``python stand_in.py NAME ARGUMENTS``.

``rlm-cachetrack`` is the real program, but uses the test's database whatever the address in the sample, answers its
own confirmations, and ends servers and watchers after some seconds. Commands that install packages, need Docker or
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
import tomllib
from pathlib import Path

from tests.support.forked import Forked

ROOT = Path(__file__).resolve().parents[2]
SERVES = {"dashboard", "live", "watch", "uvicorn", "gunicorn"}
CONFIRMS = {"reprice", "delete", "prune", "policy"}
CHECKS = {"check", "budget", "watch", "doctor"}  # exit code 1 is a result
SECONDS = 6


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
    serves = command in SERVES and "--once" not in arguments
    process = _in_terminal(line) if command == "live" else Forked(line)
    try:
        code = process.wait(SECONDS if serves else 180)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait(180)
        return int(not serves)
    return 0 if code == 1 and command in CHECKS else code


def _in_terminal(line: list[str]) -> Forked:
    """Start a program that insists on a terminal; what it draws is dropped."""
    ours, its = os.openpty()
    threading.Thread(target=_drain, args=(ours,), daemon=True).start()
    return Forked(line, streams=(its, its, its))


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 1 << 16):
            pass


def _with_test_database(line: list[str]) -> list[str]:
    os.environ["RLM_CACHETRACK_DB_URL"] = url = os.environ["TEST_DB_URL"]
    for number, word in enumerate(line[:-1]):
        if word == "--db-url":
            line[number + 1] = url
    return line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
