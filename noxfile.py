"""The same tests with other versions and beside other packages: ``make nox ARGS=-l`` lists the sessions.

``make test`` has the newest SDK and the present Python. Here are the SDK's versions and Python's (``capture``), the
programs that people really run, and the instrumentations that people have beside ours: each in a virtualenv of its own.
A Python that is not on this machine is skipped, with that reason; none is downloaded.

    make nox                                            everything, about half an hour
    make nox ARGS='-s rlms langchain'                   two sessions
    make nox ARGS="-s 'capture-3.12(openai=2.54.0)'"    one cell of the matrix
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.error_on_missing_interpreters = False  # also under CI
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"

PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# The oldest that we take, the last of each major version, and the newest there is.
SDKS = {
    "1.66.0": "openai==1.66.0",
    "1.109.1": "openai==1.109.1",
    "2.54.0": "openai==2.54.0",
    "newest": "openai>=3,<4",
}

# How calls are captured; tests/surfaces has every way to make one.
CAPTURE = ("tests/integration/capture/test_capture.py", "tests/integration/capture/test_corpus.py", "tests/surfaces")

# Session: what it installs, and its tests. The lower bounds are what the tests were written with; others may work.
PROGRAMS = {
    "rlms": (["rlms>=0.1.3"], "tests/programs/test_rlms.py"),
    "langchain": (["langchain-openai>=1.7"], "tests/programs/test_langchain.py"),
    "openai_agents": (["openai-agents>=0.24"], "tests/programs/test_openai_agents.py"),
    "instructor": (["instructor>=1.17"], "tests/programs/test_instructor.py"),
    "pydantic_ai": (["pydantic-ai-slim[openai]>=2.68"], "tests/programs/test_pydantic_ai.py"),
    "fastapi": (["fastapi>=0.165", "uvicorn>=0.54"], "tests/programs/test_fastapi.py"),
    "gunicorn": (["gunicorn>=27.0"], "tests/programs/test_gunicorn.py"),
    "jupyter": (["ipykernel>=7.4", "jupyter-client>=8.10"], "tests/programs/test_jupyter.py"),
    "celery": (["celery>=5.7"], "tests/programs/test_celery.py"),
}
BESIDE = {
    # Its 2.4b0 needs a module that opentelemetry-util-genai has only before 1.2b0, and does not say so.
    "opentelemetry": (
        ["opentelemetry-instrumentation-openai-v2>=2.4b0", "opentelemetry-util-genai<1.2", "opentelemetry-sdk"],
        "tests/programs/test_beside_opentelemetry.py",
    ),
    "langfuse": (["langfuse>=5.0.4"], "tests/programs/test_beside_langfuse.py"),
    "logfire": (["logfire>=5.2"], "tests/programs/test_beside_logfire.py"),
}


def _let_pyenv_show_its_pythons() -> None:
    """Of the Pythons that pyenv has, it runs by their names only those that are chosen."""
    pyenv = shutil.which("pyenv")
    if pyenv is None or "PYENV_VERSION" in os.environ:
        return
    # The folder is known to the scripts that pyenv puts on the PATH, whatever HOME is.
    roots = [Path(folder).parent for folder in os.get_exec_path() if Path(folder).name == "shims"]
    environment = {**os.environ, **({"PYENV_ROOT": str(roots[-1])} if roots else {})}
    listed = subprocess.run([pyenv, "versions", "--bare"], env=environment, capture_output=True, text=True, check=False)
    chosen = [name for name in listed.stdout.split() if re.fullmatch(r"3\.\d+\.\d+", name)]
    if chosen:
        os.environ["PYENV_VERSION"] = ":".join(reversed(chosen))


_let_pyenv_show_its_pythons()


def _test(session: nox.Session, packages: list[str], tests: list[str], *options: str) -> None:
    session.install("--quiet", "--editable", ".[test]", *packages)
    session.run("python", "-c", "import openai, sys; print('openai', openai.__version__, 'Python', sys.version)")
    session.run("python", "-m", "pytest", *options, *(session.posargs or tests))


@nox.session(python=PYTHONS)
@nox.parametrize("openai", [nox.param(name, id=f"openai={name}") for name in SDKS])
def capture(session: nox.Session, openai: str) -> None:
    """How calls are captured, by the SDK's version and Python's."""
    _test(session, [SDKS[openai]], [test for test in CAPTURE if Path(test).exists()])


def _session(name: str, packages: list[str], tests: str) -> None:
    def run(session: nox.Session) -> None:
        # The programs leave their connections to the end of the interpreter.
        left_open = ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
        _test(session, packages, [tests], *(f"-Wignore::{name}" for name in left_open))

    run.__doc__ = f"{tests}, with {', '.join(packages)}."
    nox.session(name=name)(run)


for _name, (_packages, _tests) in {**PROGRAMS, **BESIDE}.items():
    _session(_name, _packages, _tests)
