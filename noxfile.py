"""Test sessions with other versions and packages: ``make nox ARGS=-l`` lists them.

``make test`` uses the newest SDK and the current Python. The sessions here cover versions of the SDK and of Python
(``capture``), frameworks that use the SDK, and other instrumentations next to ours, each in its own virtualenv.
A Python that is not installed is skipped with that reason; none is downloaded.

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

# The oldest supported version, the last of each major version, and the newest.
SDKS = {
    "1.66.0": "openai==1.66.0",
    "1.109.1": "openai==1.109.1",
    "2.54.0": "openai==2.54.0",
    "newest": "openai>=3,<4",
}

# The versions between which the SDK's websockets changed: the first with `responses.connect`, the first that queues
# messages and reconnects, and the newest.
# openai 2.22 accepts websockets 13, too, but passes an argument to `recv` that only websockets 14 has: each read of a
# sync connection raises TypeError, and closing it then waits for 10 s, with and without recording.
SOCKET_SDKS = {"2.22.0": "openai==2.22.0", "2.32.0": "openai==2.32.0", "newest": "openai>=3,<4"}
SOCKETS = ("tests/surfaces/test_responses_socket.py", "tests/surfaces/test_realtime_socket.py")

# The capture tests; tests/surfaces covers every way to make a call.
CAPTURE = (
    "tests/integration/capture/test_capture.py",
    "tests/integration/capture/test_corpus.py",
    "tests/integration/capture/test_http_client.py",
    "tests/surfaces",
)

# The first version of the SDK with each of the younger resources, and the tests of that resource.
FIRST_WITH = {
    "videos": ("openai==2.2.0", "tests/surfaces/test_media.py"),
    "live": ("openai==3.12.0", "tests/surfaces/test_live_socket.py"),
    "agents": ("openai==3.13.0", "tests/surfaces/test_totals.py"),
    "decisions": ("openai==3.26.0", "tests/surfaces/test_media.py"),
}

WEB = ("fastapi", "starlette")

# Session name: the packages it installs, and its tests. Older versions than the lower bounds may work, untested.
PROGRAMS = {
    "rlms": (["rlms>=0.1.3"], "tests/programs/test_rlms.py"),
    "langchain": (["langchain-openai>=1.7"], "tests/programs/test_langchain.py"),
    # LiteLLM's own cache needs FastAPI, orjson and soundfile, which it does not declare.
    "litellm": (["litellm>=1.110", "fastapi", "orjson", "soundfile"], "tests/programs/test_litellm.py"),
    "openai_agents": (
        ["openai-agents>=0.24"],
        "tests/programs/test_openai_agents.py tests/programs/test_openai_agents_track.py",
    ),
    "instructor": (["instructor>=1.17"], "tests/programs/test_instructor.py"),
    "pydantic_ai": (["pydantic-ai-slim[openai]>=2.68"], "tests/programs/test_pydantic_ai.py"),
    "dspy": (["dspy[numpy]>=3.4", "litellm>=1.110"], "tests/programs/test_dspy.py"),
    "crewai": (["crewai>=1.15", "litellm>=1.110"], "tests/programs/test_crewai.py"),
    "smolagents": (["smolagents>=1.26", "litellm>=1.110"], "tests/programs/test_smolagents.py"),
    "langgraph": (["langgraph>=1.0", "langchain-openai>=1.7"], "tests/programs/test_langgraph.py"),
    "fastapi": (["fastapi>=0.165", "uvicorn>=0.54"], "tests/programs/test_fastapi.py"),
    "gunicorn": (["gunicorn>=27.0"], "tests/programs/test_gunicorn.py"),
    "jupyter": (["ipykernel>=7.4", "jupyter-client>=8.10"], "tests/programs/test_jupyter.py"),
    "celery": (["celery>=5.7"], "tests/programs/test_celery.py"),
}
# The sessions that `.ci/run` runs as one: a virtualenv for each takes longer than its tests.
IN_CI = ("rlms", "langchain", "litellm", "openai_agents")

BESIDE = {
    # Version 2.4b0 needs a module that opentelemetry-util-genai removed in 1.2b0, without declaring that bound.
    "opentelemetry": (
        ["opentelemetry-instrumentation-openai-v2>=2.4b0", "opentelemetry-util-genai<1.2", "opentelemetry-sdk"],
        "tests/programs/test_beside_opentelemetry.py",
    ),
    "langfuse": (["langfuse>=5.0.4"], "tests/programs/test_beside_langfuse.py"),
    "logfire": (["logfire>=5.2"], "tests/programs/test_beside_logfire.py"),
}


def _activate_pyenv_versions() -> None:
    """Select all versions that pyenv has installed; pyenv runs only selected versions by name."""
    pyenv = shutil.which("pyenv")
    if pyenv is None or "PYENV_VERSION" in os.environ:
        return
    # HOME may be empty in CI, so derive pyenv's root from its directory on the PATH.
    roots = [Path(folder).parent for folder in os.get_exec_path() if Path(folder).name == "shims"]
    environment = {**os.environ, **({"PYENV_ROOT": str(roots[-1])} if roots else {})}
    listed = subprocess.run([pyenv, "versions", "--bare"], env=environment, capture_output=True, text=True, check=False)
    chosen = [name for name in listed.stdout.split() if re.fullmatch(r"3\.\d+\.\d+", name)]
    if chosen:
        os.environ["PYENV_VERSION"] = ":".join(reversed(chosen))


_activate_pyenv_versions()


def _test(session: nox.Session, packages: list[str], tests: list[str], *options: str) -> None:
    session.install("--quiet", "--editable", ".[test]", *packages)
    session.run("python", "-c", "import openai, sys; print('openai', openai.__version__, 'Python', sys.version)")
    session.run("python", "-m", "pytest", *options, *(session.posargs or tests))


@nox.session(python=PYTHONS)
@nox.parametrize("openai", [nox.param(name, id=f"openai={name}") for name in SDKS])
def capture(session: nox.Session, openai: str) -> None:
    """Run the capture tests with one version of the SDK and one of Python."""
    tests = [test for test in CAPTURE if Path(test).exists()]
    _test(session, [SDKS[openai], "pytest-xdist"], tests, "--numprocesses=3", "--dist=loadfile")  # as in the Makefile


@nox.session
def oldest_web(session: nox.Session) -> None:
    """Run the dashboard's tests on the oldest allowed FastAPI and Starlette."""
    lower = [package.replace(">=", "==") for package in _extra("dashboard") if package.startswith(WEB)]
    session.install("--quiet", "--editable", ".[test,dashboard]", *lower)
    session.env["RLM_CACHETRACK_TEST_OLDEST_WEB"] = "1"
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/integration/web"]))


def _extra(name: str) -> list[str]:
    """Return the requirements of one extra of pyproject.toml."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    return list(project["optional-dependencies"][name])


@nox.session
@nox.parametrize("websockets", ["14.0", "newest"])
@nox.parametrize("openai", [nox.param(name, id=f"openai={name}") for name in SOCKET_SDKS])
def sockets(session: nox.Session, openai: str, websockets: str) -> None:
    """Run the tests of websockets with one version of the SDK and one of the package `websockets` that it accepts."""
    package = "websockets<16" if websockets == "newest" else f"websockets=={websockets}"
    _test(session, [SOCKET_SDKS[openai], package], list(SOCKETS))


@nox.session
@nox.parametrize("resource", list(FIRST_WITH))
def first_with(session: nox.Session, resource: str) -> None:
    """Run the tests of one resource with the first version of the SDK that has it."""
    package, tests = FIRST_WITH[resource]
    _test(session, [package], [tests])


# These programs keep connections open until the interpreter exits.
_LEFT_OPEN = ("-Wignore::ResourceWarning", "-Wignore::pytest.PytestUnraisableExceptionWarning")


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the tests of the frameworks of `.ci/run` in one virtualenv."""
    chosen = [PROGRAMS[name] for name in IN_CI]
    packages = [package for packages, _ in chosen for package in packages]
    tests = [test for _, tests in chosen for test in tests.split()]
    parallel = ("--numprocesses", "2", "--dist", "loadfile")
    _test(session, [*packages, "pytest-xdist>=3.6"], tests, *_LEFT_OPEN, *parallel)


def _session(name: str, packages: list[str], tests: str) -> None:
    def run(session: nox.Session) -> None:
        _test(session, packages, tests.split(), *_LEFT_OPEN)
        recipe = f"recipes-{name.replace('_', '-')}"
        if Path("docs/recipes", f"{recipe.removeprefix('recipes-')}.md").exists() and not session.posargs:
            session.run("python", "-m", "pytest", "-rs", "tests/docs/test_samples.py", "-k", recipe)

    run.__doc__ = f"{tests} and the samples of its recipe, with {', '.join(packages)}."
    nox.session(name=name)(run)


for _name, (_packages, _tests) in {**PROGRAMS, **BESIDE}.items():
    _session(_name, _packages, _tests)
