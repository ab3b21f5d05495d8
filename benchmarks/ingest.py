"""How fast one writer stores priced records, against raw binary COPY of the same rows into the same indexed table.

Three parts, each on an emptied table of a throw-away server with its settings as they come (synchronous commit, fsync):

* raw COPY: the finished rows, encoded beforehand by psycopg, in one `COPY … FROM STDIN (FORMAT BINARY)` a batch, straight
  into the table. It prices nothing, and stores a row twice when a batch is sent twice.
* ingest: events in memory become rows, are priced, and are stored exactly once; to commit.
* drain: the same from a journal that a dead process left, by a fresh writer; from its start until all is acknowledged.

RECORDS=200000 and ROUNDS=3 change the size and how often the parts take turns; the fastest round of each part counts.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rlm_cachetrack import _call_line, _runtime, context, embedded
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.outbox import Outbox
from rlm_cachetrack.records import COLUMNS

RECORDS = int(os.environ.get("RECORDS", "200000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
RAW_BATCH = 20_000
START = datetime(2026, 1, 10, 9, tzinfo=UTC).timestamp()
TABLE = sql.Identifier("llm_interactions")
NAMES = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))


def lines(count: int) -> Iterator[bytes]:
    """Journal lines as capture writes them: agents' runs of 50 calls, four models, cached prompts."""
    rng = random.Random(7)
    models = (
        ("gpt-5", "gpt-5-2025-08-07"),
        ("gpt-5-mini", "gpt-5-mini-2025-08-07"),
        ("gpt-4.1", None),
        ("gpt-4o", None),
    )
    place = b""
    for number in range(count):
        if number % 10 == 0:
            run = datetime.fromtimestamp(START + number // 50 * 60, UTC)
            iteration = number % 50 // 10 + 1
            values = {
                "query_id": f"benchmark-{number // 50 % 20:03}",
                "run_id": run.isoformat(),
                "iteration": iteration,
            }
            place = _encoded(values)
        requested, served = models[number % 4]
        prompt = rng.randrange(800, 12_000)
        cached = rng.choice((0, prompt // 128 * 128 // 2, prompt // 128 * 128))
        completion = rng.randrange(20, 900)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": completion // 2,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
        values_of_call = {
            "number": _call_line.next_number(),
            "api": "chat.completions",
            "provider": "openai",
            "model": served or requested,
            "requested_model": requested,
            "start_time": START + number * 1.2345,
            "duration_ms": rng.random() * 9000,
            "time_to_first_token_ms": None,
            "context_messages": number % 10 + 1,
            "response_length": completion * 4,
            "request_id": f"req_{rng.getrandbits(128):032x}",
            "service_tier": "default",
            "finish_reason": "stop",
            "tool_call_count": 0,
            "error_type": None,
            "error_message": None,
            "metadata": None,
        }
        call = tuple(values_of_call[name] for name in _call_line.FIELDS)
        yield _call_line.encode(place, call, usage)


def _encoded(values: dict[str, Any]) -> bytes:
    import json

    return json.dumps(values).encode()


@contextmanager
def server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="rlmctb-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield embedded.ensure_running(folder)
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def pipeline(url: str) -> Iterator[_runtime.Runtime]:
    runtime = _runtime.open_runtime(load_settings(url))
    try:
        yield runtime
    finally:
        runtime.close(5)


def emptied(connection: psycopg.Connection[Any]) -> None:
    connection.execute("TRUNCATE llm_interactions, token_cache_optimization, query_run_summaries")
    connection.execute("CHECKPOINT")
    gc.collect()


def encoded(connection: psycopg.Connection[Any]) -> list[bytes]:
    """The stored rows as blocks for COPY: what another COPY gives, cut into batches by the server."""
    blocks = []
    connection.execute(sql.SQL("CREATE TEMP TABLE kept AS SELECT * FROM {}").format(TABLE))
    connection.execute("ALTER TABLE kept ADD COLUMN place bigint GENERATED ALWAYS AS IDENTITY")
    for first in range(1, RECORDS + 1, RAW_BATCH):
        some = sql.SQL("COPY (SELECT {} FROM kept WHERE place BETWEEN {} AND {}) TO STDOUT (FORMAT BINARY)")
        with connection.cursor().copy(some.format(NAMES, first, first + RAW_BATCH - 1)) as copy:
            blocks.append(b"".join(copy))
    connection.execute("DROP TABLE kept")
    return blocks


def raw_copy(connection: psycopg.Connection[Any], blocks: list[bytes]) -> float:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(TABLE, NAMES)
    began = time.perf_counter()
    for block in blocks:
        with connection.cursor().copy(statement) as copy:
            copy.write(block)
    return time.perf_counter() - began


def drain(url: str, journal: list[bytes]) -> float:
    with pipeline(url) as runtime:
        folder = runtime.outbox.directory
        dead = Outbox(folder)
        for line in journal:
            dead.append(line)
        dead.close()
        gc.collect()
        began = time.perf_counter()
        runtime.start()
        assert runtime.flush(600)
        return time.perf_counter() - began


def main() -> None:
    context.set_manual(None)
    journal = list(lines(RECORDS))
    size = sum(map(len, journal)) / len(journal)
    times: dict[str, list[float]] = {"raw COPY": [], "drain": []}
    with server() as url:
        drain(url, journal[:1000])  # migrates, and reads the price table
        with psycopg.connect(url, autocommit=True) as connection:

            def measured(name: str, part: Callable[[], float]) -> None:
                emptied(connection)
                times[name].append(part())
                [(count,)] = connection.execute("SELECT count(*) FROM llm_interactions").fetchall()
                assert count == RECORDS, f"{name}: {count} of {RECORDS} rows"

            measured("drain", lambda: drain(url, journal))
            [(priced,)] = connection.execute("SELECT count(total_cost) FROM llm_interactions").fetchall()
            assert priced == RECORDS, f"only {priced} are priced"
            blocks = encoded(connection)
            for _ in range(ROUNDS):
                measured("raw COPY", lambda: raw_copy(connection, blocks))
                measured("drain", lambda: drain(url, journal))
    raw = min(times["raw COPY"])
    print(f"{RECORDS:,} records, {size:.0f} bytes of journal each; the fastest of {ROUNDS} rounds\n")
    print("| | records/s | of raw COPY |")
    print("|---|---:|---:|")
    for name, taken in times.items():
        print(f"| {name} | {RECORDS / min(taken):,.0f} | {raw / min(taken):.0%} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as state:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = state
        main()
