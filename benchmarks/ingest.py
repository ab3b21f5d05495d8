"""Measure how fast one writer stores priced records, compared with raw binary COPY of the same rows.

Three parts alternate, each with an empty table of a temporary server with default settings (fsync and synchronous
commit on) and the indexes of the schema:

* raw COPY: the rows, encoded by the server beforehand, are copied into the table by `COPY … (FORMAT BINARY)`, one
  transaction per batch. It prices nothing, a retry would store the rows twice, and the triggers that log changed hours
  are off.
* ingest: the same rows, priced beforehand, are encoded and stored exactly once, commit included.
* drain: a new writer reads, decodes, prices and stores the journal of a dead process exactly once, from the start of
  the writer until everything is acknowledged. This includes its connection and its check of the schema.

The ratio is that of the two times of one round; the table shows the round with the median ratio. RECORDS and ROUNDS
change their number, BATCH the number of records per transaction.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rlm_cachetrack.config import load_settings
from rlm_cachetrack.journal import Batch, Journal, next_number
from rlm_cachetrack.journal import call_event as _call_line
from rlm_cachetrack.pipeline import Runtime, runtimes
from rlm_cachetrack.records import COLUMNS
from rlm_cachetrack.store import embedded

RECORDS = int(os.environ.get("RECORDS", "100000"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
BATCH = int(os.environ.get("BATCH", "2500"))
START = int(datetime(2026, 1, 10, 9, tzinfo=UTC).timestamp())
TABLE = sql.Identifier("llm_interactions")
NAMES = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))


def lines(count: int) -> Iterator[bytes]:
    """Yield journal events as capture writes them: runs of agents with 50 calls, four models, cached prompts."""
    rng = random.Random(7)
    models = (
        ("gpt-5", "gpt-5-2025-08-07"),
        ("gpt-5-mini", "gpt-5-mini-2025-08-07"),
        ("gpt-4.1", None),
        ("gpt-4o", None),
    )
    run_context = ""
    for number in range(count):
        if number % 10 == 0:
            run = datetime.fromtimestamp(START + number // 50 * 60, UTC)
            iteration = number % 50 // 10 + 1
            values = {
                "query_id": f"benchmark-{number // 50 % 20:03}",
                "run_id": run.isoformat(),
                "iteration": iteration,
            }
            run_context = json.dumps(values)
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
            "number": next_number(),
            "api": "chat.completions",
            "provider": "openai",
            "model": served or requested,
            "requested_model": requested,
            "start_ns": START * 1_000_000_000 + number * 1_234_500_000,
            "duration_ns": rng.randrange(9_000_000_000),
            "time_to_first_token_ns": None,
            "context_messages": number % 10 + 1,
            "response_length": completion * 4,
            "request_id": f"req_{rng.getrandbits(128):032x}",
            "response_id": f"chatcmpl-{rng.getrandbits(160):040x}",
            "service_tier": "default",
            "finish_reason": "stop",
            "tool_call_count": 0,
            "error_type": None,
            "error_message": None,
            "metadata": None,
        }
        call = tuple(values_of_call[name] for name in _call_line.FIELDS)
        yield _call_line.encode(run_context, call, usage)


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
def pipeline(url: str) -> Iterator[Runtime]:
    runtime = runtimes.open(load_settings(url))
    try:
        yield runtime
    finally:
        runtime.close(5)


def emptied(connection: psycopg.Connection[Any]) -> None:
    connection.execute("TRUNCATE llm_interactions, token_cache_optimization, query_run_summaries")
    connection.execute("CHECKPOINT")
    gc.collect()


def encoded(connection: psycopg.Connection[Any]) -> list[bytes]:
    """Return the stored rows in batches, encoded for COPY by the server."""
    blocks = []
    connection.execute(sql.SQL("CREATE TEMP TABLE kept AS SELECT * FROM {}").format(TABLE))
    connection.execute("ALTER TABLE kept ADD COLUMN position bigint GENERATED ALWAYS AS IDENTITY")
    for first in range(1, RECORDS + 1, BATCH):
        some = sql.SQL("COPY (SELECT {} FROM kept WHERE position BETWEEN {} AND {}) TO STDOUT (FORMAT BINARY)")
        with connection.cursor().copy(some.format(NAMES, first, first + BATCH - 1)) as copy:
            blocks.append(b"".join(copy))
    connection.execute("DROP TABLE kept")
    return blocks


def raw_copy(connection: psycopg.Connection[Any], blocks: list[bytes]) -> float:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(TABLE, NAMES)
    connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(TABLE))
    began = time.perf_counter()
    for block in blocks:
        with connection.cursor().copy(statement) as copy:
            copy.write(block)
    taken = time.perf_counter() - began
    connection.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(TABLE))
    return taken


def ingest(url: str, journal: list[bytes]) -> float:
    with pipeline(url) as runtime:
        builder, store = runtime.batch_builder(), runtime.store()
        batches = [
            builder.build(Batch(journal[start : start + BATCH]).decode()).batch
            for start in range(0, len(journal), BATCH)
        ]
        store.open()
        gc.collect()
        began = time.perf_counter()
        for batch in batches:
            store.store(batch)
        return time.perf_counter() - began


def drain(url: str, journal: list[bytes]) -> float:
    with pipeline(url) as runtime:
        dead = Journal(runtime.journal.directory)
        for line in journal:
            dead.append(line)
        dead.close()
        gc.collect()
        began = time.perf_counter()
        runtime.start()
        assert runtime.flush(600)
        return time.perf_counter() - began


def main() -> None:
    journal = list(lines(RECORDS))
    with server() as url:
        drain(url, journal[:1000])  # migrates, and reads the price table
        with psycopg.connect(url, autocommit=True) as connection:

            def measured(part: Callable[[], float]) -> float:
                emptied(connection)
                taken = part()
                [count] = connection.execute("SELECT count(total_cost) FROM llm_interactions").fetchall()
                assert count == (RECORDS,), f"{count[0]} of {RECORDS} records are stored and priced"
                return taken

            measured(lambda: drain(url, journal))
            blocks = encoded(connection)
            parts: dict[str, Callable[[], float]] = {
                "raw COPY": lambda: raw_copy(connection, blocks),
                "ingest": lambda: ingest(url, journal),
                "drain": lambda: drain(url, journal),
            }
            rounds = [{name: measured(part) for name, part in parts.items()} for _ in range(ROUNDS)]
    size = sum(map(len, journal)) / len(journal)
    print(
        f"{RECORDS:,} records of {size:.0f} bytes in the journal, {BATCH:,} a transaction, median of {ROUNDS} rounds\n"
    )
    print("| | records/s | raw COPY in that round | ratio |")
    print("|---|---:|---:|---:|")
    for name in ("ingest", "drain"):
        ratios = [taken["raw COPY"] / taken[name] for taken in rounds]
        middle = rounds[ratios.index(statistics.median_low(ratios))]
        raw = middle["raw COPY"]
        print(f"| {name} | {RECORDS / middle[name]:,.0f} | {RECORDS / raw:,.0f} | {raw / middle[name]:.0%} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as state:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = state
        main()
