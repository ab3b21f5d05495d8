"""Each Python sample of the how-to pages that imports what it needs runs offline as it is pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def samples() -> list[tuple[str, str]]:
    found = []
    for page in sorted(DOCS.rglob("*.md")):
        blocks = [block for block in _BLOCK.findall(page.read_text(encoding="utf-8")) if "SimulatedEndpoint(" in block]
        found += [(f"{page.relative_to(DOCS)}-{number}", block) for number, block in enumerate(blocks, 1)]
    return found


@pytest.mark.parametrize(("name", "code"), samples(), ids=[name for name, _ in samples()])
def test_a_sample_runs_as_pasted(name: str, code: str, db_url: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "RLM_CACHETRACK_DB_URL": db_url, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout.strip(), "a sample prints what it shows"
