"""Process CPU that recording adds to a call, everything included: calling thread, writer thread, driver.

Blocks of 4 KB chat calls over an in-process transport, alternating with and without recording. A recorded block ends
when all of it is committed to a real PostgreSQL (the embedded one, whose own process is not counted). The figure is the
CPU time of this process, user and system. Two rates: call after call without a pause, and 100 calls/s in small batches.
Blocks cannot be as small as one call, because the writer stores calls in batches.
"""

from __future__ import annotations

import os
import statistics
import time

import httpx2
from openai import OpenAI
from sdk_calls import SMALL, own_server, transport

import rlm_cachetrack
from rlm_cachetrack import instrument

CALLS = int(os.environ.get("CALLS", "2000"))
ROUNDS = int(os.environ.get("ROUNDS", "9"))


def block(client: OpenAI, calls: int, pause_s: float) -> float:
    """Return the CPU microseconds per call, including the storing of the records."""
    began = time.process_time()
    for _ in range(calls):
        client.chat.completions.create(**SMALL)
        if pause_s:
            time.sleep(pause_s)
    if not rlm_cachetrack.flush(60):
        raise SystemExit("the store did not take the records")
    return (time.process_time() - began) / calls * 1e6


def main() -> None:
    """Measure, and print the table."""
    with (
        OpenAI(api_key="x", http_client=httpx2.Client(transport=transport())) as without,
        OpenAI(api_key="x", http_client=httpx2.Client(transport=transport())) as with_us,
    ):
        instrument(with_us)
        block(with_us, min(200, CALLS), 0)
        block(without, min(200, CALLS), 0)
        print("| rate | SDK alone, µs CPU per call | added by us | ratio |")
        print("|---|---:|---:|---:|")
        for name, calls, pause in (("as fast as they go", CALLS, 0.0), ("100 calls/s", CALLS // 10, 0.01)):
            pairs = [(block(without, calls, pause), block(with_us, calls, pause)) for _ in range(ROUNDS)]
            alone = statistics.median(a for a, _ in pairs)
            added = statistics.median(b - a for a, b in pairs)
            print(f"| {name} | {alone:.0f} | {added:+.0f} | {(alone + added) / alone:.3f} |")
        rlm_cachetrack.uninstrument()
    rlm_cachetrack.shutdown()


if __name__ == "__main__":
    with own_server():
        main()
