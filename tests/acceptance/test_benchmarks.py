"""The benchmarks run without errors, on little data: `pytest -m benchmarks`. `make bench` runs the measurements.

Some are not tested: `scale`, `dashboard`, `transfer` and `explain` take minutes even with little data, the work of
`import_time` cannot be reduced, and `peers` installs another package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.benchmarks


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("cpu", {"CALLS": "40", "ROUNDS": "1"}),
        ("fingerprints", {"CONVERSATIONS": "3"}),
        ("ingest", {"RECORDS": "500", "ROUNDS": "1"}),
        ("memory", {"CALLS": "80"}),
        ("overhead", {"CALLS": "60"}),
        ("pricing", {"CALLS": "200", "ROUNDS": "2"}),
        ("repricing", {"ROWS": "1000"}),
        ("sockets", {"RESPONSES": "20"}),
        ("surroundings", {"BATCHES": "3"}),
    ],
)
def test_the_benchmark_prints_a_table(name: str, size: dict[str, str]) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RLM_CACHETRACK_")}
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py"],
        cwd=ROOT,
        env={**environment, **size},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "|---" in done.stdout
