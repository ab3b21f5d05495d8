"""The cost of fingerprints: bytes per record for conversations of 50 messages, and CPU on the writer thread.

Bytes are those of the column before compression and, if PostgreSQL with TimescaleDB is installed, in the columnstore:
its size with the column minus its size without. A conversation grows by two messages per call, from 2 to 50.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rlm_cachetrack.fingerprint.delta_codec import Encoder
from rlm_cachetrack.fingerprint.segments import Digests, fingerprint_request
from tests.support import clusters

CONVERSATIONS = int(os.environ.get("CONVERSATIONS", "400"))
MESSAGES = 50


def rows() -> list[tuple[str, int, bytes]]:
    """Return conversation, number and fingerprint of each call."""
    digests, encoder, found, number = Digests(b"k" * 32), Encoder(), [], 0
    for conversation in range(CONVERSATIONS):
        messages: list[dict[str, str]] = []
        while len(messages) < MESSAGES:
            for role in ("user", "assistant") if messages else ("system", "user"):
                messages.append({"role": role, "content": f"{conversation} {len(messages)} " + "x" * (number % 900)})
            number += 1
            fingerprint = fingerprint_request("chat.completions", {"messages": messages}, digests)
            found.append((f"q{conversation}", number, encoder.encode(conversation, number, fingerprint)))
    return found


def columnstore(made: list[tuple[str, int, bytes]]) -> float | None:
    """Return the column's bytes per record in the columnstore; None without TimescaleDB."""
    programs = clusters.installation_with("timescaledb")
    if programs is None:
        return None
    sizes = []
    with clusters.cluster(programs, "timescaledb") as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        for name, kept in (("without", False), ("with_it", True)):
            connection.execute(f"CREATE TABLE {name} (time timestamptz NOT NULL, query_id text, fingerprint bytea)")
            connection.execute(f"SELECT create_hypertable('{name}', 'time', chunk_time_interval => INTERVAL '1 year')")
            connection.execute(
                f"ALTER TABLE {name} SET (timescaledb.enable_columnstore, timescaledb.orderby = 'query_id, time')"
            )
            with connection.cursor().copy(f"COPY {name} FROM STDIN") as copy:
                for query, number, data in made:
                    moment = f"2026-03-02 00:00:00+00:{number % 2:02}"
                    copy.write_row((moment, query, data if kept else None))
            chunk: Any = connection.execute(f"SELECT show_chunks('{name}')::text").fetchone()
            connection.execute(f"CALL convert_to_columnstore('{chunk[0]}')")
            size: Any = connection.execute(
                f"SELECT pg_total_relation_size(format('%I.%I', c.schema_name, c.table_name)::regclass)"
                f" FROM _timescaledb_catalog.chunk AS c JOIN _timescaledb_catalog.chunk AS u"
                f" ON u.compressed_chunk_id = c.id WHERE format('%I.%I', u.schema_name, u.table_name)::regclass"
                f" = '{chunk[0]}'::regclass"
            ).fetchone()
            sizes.append(size[0])
    return (sizes[1] - sizes[0]) / len(made)


def cpu(characters: int, messages: int) -> float:
    """Return microseconds of writer CPU per call; each call repeats the messages of the last one and adds two."""
    digests, encoder = Digests(b"k" * 32), Encoder()
    sent = [{"role": "user", "content": f"{n} " + "x" * (characters // messages)} for n in range(messages)]
    times = 400
    began = time.process_time()
    for number in range(times):
        sent = [
            *sent[2:],
            *({"role": "user", "content": f"{number}.{n} " + "y" * (characters // messages)} for n in (1, 2)),
        ]
        encoder.encode("run", number, fingerprint_request("chat.completions", {"messages": sent}, digests))
    return (time.process_time() - began) / times * 1e6


def main() -> None:
    made = rows()
    raw = sum(len(data) for _, _, data in made) / len(made)
    stored = columnstore(made)
    print("| fingerprints | |")
    print("|---|---:|")
    print(f"| bytes per record, conversations of {MESSAGES} messages | {raw:.1f} |")
    print(f"| the same in the columnstore | {'no TimescaleDB here' if stored is None else f'{stored:.1f}'} |")
    print(f"| writer's CPU per call, 4 KB in 4 messages, µs | {cpu(4_000, 4):.0f} |")
    print(f"| writer's CPU per call, 200 KB in 100 messages, µs | {cpu(200_000, 100):.0f} |")


if __name__ == "__main__":
    main()
