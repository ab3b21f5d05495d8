"""Measure the memory that recording takes: a fixed amount, and its growth over 100,000 calls. Target: below 15 MB.

A program makes CALLS calls of the real SDK over an in-process transport (no HTTP, so that it takes minutes) and reads
its resident memory after each part: imports, `instrument`, the first 1,000 calls, all calls, a flush. Three programs:
without us, with a database, and with one that is down from the first call to the last and then comes up. The time of a
call is the median of the calls 1,001 to 2,000, and of the last thousand, with all threads of the library running.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CALLS = int(os.environ.get("CALLS", "100000"))
FIRST = min(1_000, CALLS // 4)
TARGET_MB = 15

PROGRAM = r"""
import gc, json, os, resource, statistics, sys, time
state, calls, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
url = sys.argv[4]
body = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-5-2025-08-07",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 100}}],
    "usage": {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100,
              "prompt_tokens_details": {"cached_tokens": 1920}},
}).encode()

def mb():
    gc.collect()
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except FileNotFoundError:  # macOS: the highest so far
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

import httpx2
from openai import OpenAI
found = {"openai": mb()}
headers = {"content-type": "application/json", "x-request-id": "req_1"}
transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=body, headers=headers))
client = OpenAI(api_key="x", http_client=httpx2.Client(transport=transport))
messages = [{"role": "user", "content": "x" * 4096}]
if state != "without us":
    import rlm_cachetrack
    found["import"] = mb()
    rlm_cachetrack.instrument(client, store=url)
times = []
for number in range(calls):
    began = time.perf_counter()
    client.chat.completions.create(model="gpt-5", messages=messages)
    if first <= number < 2 * first or number >= calls - first:
        times.append((time.perf_counter() - began) * 1e6)
    if number + 1 == first:
        if state != "without us":
            rlm_cachetrack.flush(1.0 if state == "database down" else 60)  # its writer has done what it can
        found["first"] = mb()
found["all"] = mb()
found["early_us"], found["late_us"] = statistics.median(times[:first]), statistics.median(times[-first:])
found["stored"] = 0
if state != "without us":
    if state == "database down":
        assert rlm_cachetrack.stats()["pending"] == calls, rlm_cachetrack.stats()
        print("begin", flush=True)
        sys.stdin.readline()
    assert rlm_cachetrack.flush(300), rlm_cachetrack.stats()
    assert not rlm_cachetrack.stats()["dropped"], rlm_cachetrack.stats()
    found["stored"] = rlm_cachetrack.stats()["stored"]
    found["flushed"] = mb()
print(json.dumps(found), flush=True)
"""


def measure(state: str, folder: Path) -> dict[str, Any]:
    """Run the program with the database in one state."""
    from rlm_cachetrack.store import embedded

    data = folder / "data"
    url = embedded.ensure_running(data)
    if state == "database down":
        embedded.stop(data)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RLM_CACHETRACK_")}
    environment["RLM_CACHETRACK_STATE_DIR"] = str(folder / state.replace(" ", "-"))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, state, str(CALLS), str(FIRST), url],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if state == "database down" else None,  # the warning that records wait in the journal
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        line = process.stdout.readline()
        if line == "begin\n":
            embedded.ensure_running(data)
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{state}: the program failed")
    found: dict[str, Any] = json.loads(line)
    return found


def main() -> None:
    """Measure, and print a table."""
    from rlm_cachetrack.store import embedded

    folder = Path(
        tempfile.mkdtemp(prefix="rlmct-", dir="/tmp")
    )  # the user of the PostgreSQL server must be able to enter the folder
    folder.chmod(0o711)
    states = ("without us", "with a database", "database down")
    try:
        found = {state: measure(state, folder) for state in states}
    finally:
        embedded.stop(folder / "data")
        shutil.rmtree(folder, ignore_errors=True)
    base = found["without us"]
    print(
        f"| resident memory in MB | fixed: imported | fixed: after {FIRST:,} calls | growth to {CALLS:,} | target"
        " | after flush | stored | call p50 early | late |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for state, values in found.items():
        ours = state != "without us"
        cells = [
            f"{values['import'] - values['openai']:+.1f}" if ours else f"{values['openai']:.1f} (openai)",
            f"{values['first'] - base['first']:+.1f}" if ours else f"{values['first']:.1f}",
            f"{values['all'] - values['first']:+.1f}",
            f"< {TARGET_MB}" if ours else "",
            f"{values['flushed'] - values['all']:+.1f}" if ours else "",
            f"{values['stored']:,}" if ours else "",
            f"{values['early_us']:.0f} µs",
            f"{values['late_us']:.0f} µs",
        ]
        print(f"| {state} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
