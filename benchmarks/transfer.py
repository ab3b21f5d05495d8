"""Export and import ROWS calls (1,000,000) in each format: calls per second, and memory, which must not grow.

The calls are those of `scale.py`, in the embedded PostgreSQL. Each command is a process of its own; "grown" is its peak
resident memory minus that of the same command with 1,000 calls, which excludes the memory of libraries. "stored before"
imports a file whose calls are all in the store already, so nothing is added.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import scale
from psycopg.conninfo import make_conninfo

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.store import embedded

FORMATS = ("jsonl", "csv", "parquet")
FEW = 1_000
TARGET_MB = 40
PROGRAM = """
import resource, sys
from pathlib import Path
from rlm_cachetrack.cli import main
try: main()
except SystemExit as done: assert not done.code, done.code
status = Path("/proc/self/status")
if status.exists():  # getrusage counts the memory of the parent before exec
    [peak] = [int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"peak {peak}", file=sys.stderr)
"""


def run(*arguments: str) -> tuple[float, float]:
    """Run a command. Returns its seconds and its peak resident memory in MB."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    took = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr
    return took, int(done.stderr.rsplit("peak ", 1)[1]) / 1e6


def count(url: str) -> int:
    """Return the number of stored calls."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM llm_interactions").fetchone()
    return int(row[0]) if row else 0


def row(name: str, took: float, peak: float, before: float, note: str = "") -> None:
    """Print a row of the table."""
    print(
        f"| {name} | {scale.ROWS / took:,.0f} | {peak:.0f} | {peak - before:.0f} | ≤ {TARGET_MB} | {note} |", flush=True
    )


def measure(url: str, folder: Path, until: datetime) -> None:
    """Print a row for each command and format."""
    # Runs are evenly distributed in time, so the first FEW calls are those before this time.
    few_until = until - timedelta(days=scale.DAYS) * (1 - FEW / scale.ROWS)
    for form in FORMATS:
        few, whole = folder / f"few.{form}", folder / f"whole.{form}"
        _, few_mb = run("export", "--output", str(few), "--until", few_until.isoformat(), "--db-url", url)
        took, peak = run("export", "--output", str(whole), "--db-url", url)
        row(f"export {form}", took, peak, few_mb, f"{whole.stat().st_size / 1e6:,.0f} MB")
    for form in FORMATS:
        other = make_conninfo(url, dbname=f"other_{form}")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE other_{form}")
        _, few_mb = run("import", str(folder / f"few.{form}"), "--db-url", other)
        took, peak = run("import", str(folder / f"whole.{form}"), "--db-url", other)
        row(f"import {form}", took, peak, few_mb)
        assert count(other) == scale.ROWS
        if form == "jsonl":
            took, peak = run("import", str(folder / f"whole.{form}"), "--db-url", other)
            row(f"import {form}, stored before", took, peak, few_mb)
            assert count(other) == scale.ROWS
        (folder / f"whole.{form}").unlink()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE other_{form} WITH (FORCE)")


def main() -> None:
    """Print the table."""
    calls = scale.data()
    folder = Path(
        tempfile.mkdtemp(prefix="rlmct-", dir="/tmp")
    )  # the user of the PostgreSQL server must be able to enter the folder
    folder.chmod(0o711)
    try:
        url = embedded.ensure_running(folder)
        with TimescaleDBClient(url) as client:
            scale.fill(client.runtime.store(), calls)
        with psycopg.connect(url, autocommit=True) as connection:
            scale.settle(connection, timescale=False)
        print(f"{scale.ROWS:,} calls\n")
        print("| what | calls/s | memory, MB | grown, MB | target | |")
        print("|---|--:|--:|--:|--:|---|")
        measure(url, folder, calls.until)
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as state:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = state
        main()
