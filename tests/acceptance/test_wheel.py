"""The published package works: sdist, wheel, a new environment, and a program that runs in ``/``.

The dependencies come from the environment that runs the suite, so nothing is downloaded; the library comes from the
wheel only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import rlm_cachetrack
from rlm_cachetrack.simulator import SimulatedEndpoint
from rlm_cachetrack.store import complete_sql

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = REPOSITORY / "schema"

PROGRAM = """
import json
import os

import rlm_cachetrack
from openai import OpenAI
from rlm_cachetrack import TimescaleDBClient, instrument, query_run

client = instrument(OpenAI(base_url=os.environ["ENDPOINT"], api_key="sk-test"))
with query_run("from-the-wheel") as run:
    answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x" * 8192}])
with TimescaleDBClient() as db:
    (row,) = db.get_llm_interactions(run.query_id, run.run_id)
print(json.dumps({
    "file": rlm_cachetrack.__file__,
    "version": rlm_cachetrack.__version__,
    "query_id": row["query_id"],
    "model": row["model"],
    "prompt_tokens": row["prompt_tokens"],
    "cached_tokens": row["cached_tokens"],
    "success": row["success"],
    "priced": row["total_cost"] is not None,
    "summary_prompt_tokens": run.summary()["total_prompt_tokens"],
}))
"""


def run(command: Sequence[str | Path], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command without a terminal; returns its output."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY], cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new environment with the wheel, followed by the packages of this environment."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", folder], cwd=folder.parent)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder, "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], cwd=folder.parent)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # A path in a .pth file adds a folder but not its own .pth files, and so excludes the editable install.
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "dependencies.pth").write_text("\n".join(sorted(shared)) + "\n", encoding="utf-8")
    return folder


def outside(home: Path, **settings: str) -> dict[str, str]:
    """Return the minimal environment variables of a user."""
    return {"PATH": os.defpath, "HOME": str(home), "RLM_CACHETRACK_STATE_DIR": str(home / "state"), **settings}


def test_the_wheel_contains_every_file_of_schema(wheel: Path) -> None:
    on_disk = {path.relative_to(SCHEMA).as_posix(): path.read_bytes() for path in SCHEMA.rglob("*") if path.is_file()}
    prefix = "rlm_cachetrack/_schema/"
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(prefix)]
        packaged = {name.removeprefix(prefix): archive.read(name) for name in names}
    assert packaged == on_disk
    assert {name.partition("/")[0] for name in packaged} >= {"migrations", "timescale", "citus", "upgrade", "queries"}


def test_the_wheel_contains_the_pages_of_the_dashboard(wheel: Path) -> None:
    folder = REPOSITORY / "rlm_cachetrack" / "web"
    with zipfile.ZipFile(wheel) as archive:
        for path in (*folder.glob("templates/*.html"), *folder.glob("static/*")):
            name = f"rlm_cachetrack/web/{path.relative_to(folder).as_posix()}"
            assert archive.read(name) == path.read_bytes()


def test_the_wheel_contains_schema_and_example_of_the_pricing_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert (
            json.loads(archive.read("rlm_cachetrack/pricing/file/pricing.schema.json"))["title"]
            == "Prices of rlm_cachetrack"
        )
        assert b"our-own-model" in archive.read("rlm_cachetrack/pricing/file/pricing.example.yaml")


def test_the_wheel_contains_package_types_and_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = REPOSITORY / "rlm_cachetrack"
    modules = {path.relative_to(REPOSITORY).as_posix() for path in package.rglob("*.py")}
    info = f"rlm_cachetrack-{rlm_cachetrack.__version__}.dist-info"
    assert modules | {"rlm_cachetrack/py.typed", f"{info}/licenses/LICENSE"} <= names
    assert {name.partition("/")[0] for name in names} == {"rlm_cachetrack", info}


def test_the_sdist_contains_what_the_wheel_and_the_suite_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "LICENSE", "README.md", "Makefile", "CHANGELOG.md", "tests/conftest.py"}
    assert wanted | {path.relative_to(REPOSITORY).as_posix() for path in SCHEMA.rglob("*.sql")} <= names


def test_the_console_script_of_the_wheel_prints_its_version(environment: Path, tmp_path: Path) -> None:
    script = environment / "bin" / "rlm-cachetrack"
    result = run([script, "--version"], cwd=Path("/"), env=outside(tmp_path))
    assert rlm_cachetrack.__version__ in result.split()


@pytest.mark.parametrize("engine", ["postgresql", "timescaledb", "citus"])
def test_the_wheel_prints_the_complete_schema(environment: Path, tmp_path: Path, engine: str) -> None:
    script = environment / "bin" / "rlm-cachetrack"
    printed = run([script, "migrate", "--print-sql", "--engine", engine], cwd=Path("/"), env=outside(tmp_path))
    assert printed == complete_sql(engine)
    assert (SCHEMA / "migrations" / "0001_initial.sql").read_text(encoding="utf-8") in printed


def test_a_program_outside_the_checkout_records_a_call_with_the_wheel(
    environment: Path, db_url: str, endpoint: SimulatedEndpoint, tmp_path: Path
) -> None:
    settings = outside(tmp_path, RLM_CACHETRACK_DB_URL=db_url, ENDPOINT=endpoint.base_url)
    result = json.loads(run([environment / "bin" / "python", "-c", PROGRAM], cwd=Path("/"), env=settings))
    assert Path(result.pop("file")).resolve().is_relative_to(environment.resolve())
    # One message: 4 tokens for the role, and one token for every 4 of its 8,192 characters.
    assert result == {
        "version": rlm_cachetrack.__version__,
        "query_id": "from-the-wheel",
        "model": "gpt-5-2025-08-07",
        "prompt_tokens": 2052,
        "cached_tokens": 0,
        "success": True,
        "priced": True,
        "summary_prompt_tokens": 2052,
    }


def test_the_wheel_migrates_an_empty_database(environment: Path, empty_db_url: str, tmp_path: Path) -> None:
    program = (
        "from rlm_cachetrack import TimescaleDBClient\nwith TimescaleDBClient() as db:\n    print(db.list_query_runs())"
    )
    settings = outside(tmp_path, RLM_CACHETRACK_DB_URL=empty_db_url)
    assert run([environment / "bin" / "python", "-c", program], cwd=Path("/"), env=settings) == "[]\n"
