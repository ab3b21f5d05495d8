"""Measure how long it takes to explain a run. Targets: 0.5 s for 1,000 calls, 5 s for 10,000, 2 s for 300 long ones.

Reads from a temporary embedded PostgreSQL: three interleaved conversations of up to 50 messages, and a fault in every
third call. Once with nothing else in the database, and once with ten other runs of as many calls of the same model at
the same time, of which 5,000 calls are read, too. The long calls are 300 calls of one conversation, of 300 messages on
average. `fingerprints.py` measures the cost of fingerprints.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.store import embedded
from tests.support.scripted_faults import T0, Script, Shape

TIMES = 3
OTHERS = 10


def fill(url: str, query_id: str, calls: int, seed: int, conversations: int = 3, longest: int = 50) -> None:
    """Store a run."""
    script = Script(Shape(), seed, conversations, longest)
    rows: list[dict[str, Any]] = [call.row for call in script.run(calls)]
    columns = list(rows[0])
    statement = sql.SQL("COPY llm_interactions ({}) FROM STDIN").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with psycopg.connect(url) as connection, connection.cursor().copy(statement) as copy:
        for row in rows:
            values = {**row, "query_id": query_id, "request_options": json.dumps(row["request_options"])}
            copy.write_row([values[column] for column in columns])


def seconds(client: TimescaleDBClient, query_id: str) -> float:
    """Return the shortest of several times, because other processes use the machine, too."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        found = client.explain_cache(query_id, T0)
        taken.append(time.perf_counter() - began)
        if found is None or not found["tokens_lost"]:
            raise SystemExit(f"expected misses: {found}")
    return min(taken)


def main() -> None:
    folder = Path(
        tempfile.mkdtemp(prefix="rlmct-", dir="/tmp")
    )  # the user of the PostgreSQL server must be able to enter the folder
    folder.chmod(0o711)
    os.environ["RLM_CACHETRACK_STATE_DIR"] = str(folder / "state")
    try:
        url = embedded.ensure_running(folder)
        with TimescaleDBClient(url) as client:
            alone = {}
            for calls in (1_000, 10_000):
                fill(url, f"run of {calls}", calls, seed=calls)
                alone[calls] = seconds(client, f"run of {calls}")
                client.delete(query_id=f"run of {calls}")
            fill(url, "long", 300, seed=5, conversations=1, longest=700)
            long = seconds(client, "long")
            client.delete(query_id="long")
            fill(url, "busy", 1_000, seed=1)
            for number in range(OTHERS):
                fill(url, f"other {number}", 1_000, seed=2 + number)
            beside = seconds(client, "busy")
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)
    print("| explaining a run, s | 1,000 calls | 10,000 calls | 300 long calls | 1,000 calls beside 10 other runs |")
    print("|---|--:|--:|--:|--:|")
    print(f"| measured | {alone[1_000]:.2f} | {alone[10_000]:.2f} | {long:.2f} | {beside:.2f} |")
    print("| target | ≤ 0.5 | ≤ 5 | ≤ 2 | |")


if __name__ == "__main__":
    main()
