"""Measure the response times of the dashboard's pages at ROWS stored calls (1,000,000). Targets: 400 ms, first 1 s.

The calls are those of `scale.py`, in the embedded PostgreSQL. The dashboard is a process of its own; its database is
warm, because the calls have just been stored. "first" is the first request for a page after the start, "again" the
median of 20 requests, none of which is served from the cache; Queries, Experiments and the choices of the filters are
kept for 15 s by design. "CPU" is the CPU time of server and database for such a request, which depends little on other
load. "KB" is the size of the compressed page. If Playwright and Chromium are installed, "painted" is the first
contentful paint of the overview in a new profile, "drawn" the moment when its charts in the window are complete, also
counted from the first byte of the page, and "news" the time from the end of a flush until an open page shows the call:
with one page of a run open, with 20 of them (until all show it), and with five different pages (overview and models
with several ranges and filters).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import scale
import scale_calls

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.store import embedded

REPEATS, NEWS, OPEN = int(os.environ.get("REPEATS", "20")), 10, 20
DIFFERENT = ("/", "/?range=24h", "/?range=30d", "/models", "/?model=gpt-4.1-2025-04-14")
DRAWN = (
    "(() => { const charts = Array.from(document.querySelectorAll('figure.chart'))"
    ".filter(one => one.getBoundingClientRect().top < innerHeight);"
    " return charts.length > 0 && charts.every(one => one.querySelector('canvas')); })()"
)
TTL_S = 0.51
"""A pause slightly longer than the server caches a result, in seconds."""


@contextlib.contextmanager
def dashboard(url: str) -> Iterator[tuple[str, int]]:
    """Start a dashboard; yields its address and process id."""
    command = [sys.executable, "-c", "from rlm_cachetrack.cli import main; main()", "dashboard", "--port", "0"]
    with subprocess.Popen([*command, "--db-url", url], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        try:
            yield found[0].rstrip("/"), process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def request(address: str) -> tuple[float, float]:
    """Return the milliseconds of one request, and the kilobytes of the compressed response."""
    asked = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})
    begun = time.perf_counter()
    with urllib.request.urlopen(asked, timeout=120) as response:
        size = len(response.read())
    return (time.perf_counter() - begun) * 1e3, size / 1e3


def cpu_ms(pid: int, database: int) -> float:
    """Return the CPU time of a process and of a database server, whose main process is ``database``."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, fields = int(file.parent.name), file.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # the process has ended
        if number in (pid, database) or int(fields[1]) == database:
            ticks += int(fields[11]) + int(fields[12])
        if number == database:
            ticks += int(fields[13]) + int(fields[14])  # the time of its children that have ended
    return ticks * 1e3 / os.sysconf("SC_CLK_TCK")


def main_process(url: str) -> int:
    """Return the id of the main process of a database server on this machine."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        return int(Path(f"/proc/{row[0]}/stat").read_text().rpartition(")")[2].split()[1])


def resident_mb(pid: int) -> float:
    """Return the memory of a process; NaN without /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def pages(calls: scale_calls.Data) -> dict[str, str]:
    """Return the paths of the pages to request, by name."""
    query_id, run_id = calls.run(calls.runs - 1)
    return {
        "overview, 7 days": "/",
        "overview, 7 days, one model": "/?model=gpt-4.1-2025-04-14",
        "overview, 24 hours": "/?range=24h",
        "overview, last hour": "/?range=1h",
        "overview, 30 days": "/?range=30d",
        "overview, all time": "/?range=all",
        "overview, one model": "/?range=30d&model=gpt-4.1-2025-04-14",
        "overview, one query, 30 days": f"/?range=30d&query={query_id}",
        "queries, 7 days": "/queries",
        "queries, 30 days": "/queries?range=30d",
        "losses": "/losses",
        "savings": "/savings",
        "models, 30 days": "/models?range=30d",
        "failed calls": "/failed",
        "experiments, by query": "/experiments",
        "experiments, by model": "/experiments?by=model&range=7d",
        "runs": "/runs",
        "runs of one model": "/runs?model=gpt-4.1-2025-04-14",
        "runs by cost": "/runs?sort=cost",
        "runs, searched": "/runs?search=query-7",
        "one run": f"/run?{urlencode({'query_id': query_id, 'run_id': run_id.isoformat()})}",
        "forecast": "/forecast",
        "forecast, one query": f"/forecast?query={query_id}",
        "alerts": "/alerts",
        "health": "/health",
    }


def measure_requests(address: str, pid: int, database: int, calls: scale_calls.Data) -> None:
    """Print a row for each page."""
    firsts = {name: request(address + path)[0] for name, path in pages(calls).items()}
    for name, path in pages(calls).items():
        times, before = [], cpu_ms(pid, database)
        for number in range(REPEATS):
            # Lets the cache expire, and varies the time within the server's polling interval.
            time.sleep(TTL_S + 0.001 * number)
            took, size = request(address + path)
            times.append(took)
        cpu = (cpu_ms(pid, database) - before) / REPEATS
        target = "first ≤ 1000, again ≤ 400" if name == "overview, 30 days" else "again ≤ 400"
        print(
            f"| {name} | {firsts[name]:.0f} | {statistics.median(times):.0f} | {cpu:.0f} | {size:.0f} | {target} |",
            flush=True,
        )


def until(page: Any, condition: str, timeout_s: float = 30) -> None:
    """Wait until a condition holds in the page."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(10)


def measure_browser(url: str) -> None:
    """Print rows of what a user sees in a browser."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("| in a browser: not measured, Playwright or Chromium is not installed | | | | | |")
        return
    with sync_playwright() as playwright, TimescaleDBClient(url) as client:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        painted, drawn, after_first_byte = [], [], []
        for _ in range(5):  # a new server and profile each time, with empty caches
            with dashboard(url) as (address, _), contextlib.closing(browser.new_context()) as context:
                page = context.new_page()
                page.goto(address)
                until(page, DRAWN)
                drawn.append(page.evaluate("performance.now()"))
                first_byte = page.evaluate("performance.getEntriesByType('navigation')[0].responseStart")
                after_first_byte.append(drawn[-1] - first_byte)
                paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                painted.append(page.evaluate(paint))
        for name, times, target in (
            ("painted, new server and profile", painted, ""),
            ("charts drawn, the same", drawn, ""),
            ("charts drawn, after the first byte", after_first_byte, "≤ 1000"),
        ):
            print(
                f"| {name}, worst and median | {max(times):.0f} | {statistics.median(times):.0f} | | | {target} |",
                flush=True,
            )
        run_id = datetime.now(UTC)
        one = f"/run?{urlencode({'query_id': 'news', 'run_id': run_id.isoformat()})}"
        several = (
            ("news", [one]),
            (f"news, {OPEN} pages open", [one] * OPEN),
            (f"news, {len(DIFFERENT)} different pages open", DIFFERENT),
        )
        client.record_llm_interaction(call(run_id, 0))
        client.flush()
        # The overview and a run show the number of calls in a card, the models in their seventh column.
        calls = (
            "(() => { const cards = Array.from(document.querySelectorAll('dl.cards .card'));"
            " const card = cards.find(one => one.querySelector('dt').textContent === 'Calls');"
            " const shown = card ? [card.querySelector('data')]"
            " : Array.from(document.querySelectorAll('table.models tbody td:nth-child(7) data'));"
            " return shown.reduce((sum, one) => sum + Number(one.value), 0); })()"
        )
        for name, paths in several:
            with dashboard(url) as (address, pid), contextlib.closing(browser.new_context()) as context:
                opened = [context.new_page() for _ in paths]
                for page, path in zip(opened, paths, strict=True):
                    page.goto(address + path)
                times = []
                for number in range(1, NEWS + 1):
                    time.sleep(0.37)  # varies the time within the server's polling interval of 0.25 s
                    before = [page.evaluate(calls) for page in opened]
                    client.record_llm_interaction(call(run_id, number))
                    client.flush()
                    begun = time.perf_counter()
                    for page, known in zip(opened, before, strict=True):
                        until(page, f"{calls} > {known}")
                    times.append((time.perf_counter() - begun) * 1e3)
                print(f"| {name}, worst and median | {max(times):.0f} | {statistics.median(times):.0f} | | | ≤ 2000 |")
                print(f"| memory of the server after it, MB | | {resident_mb(pid):.0f} | | | |", flush=True)
        client.delete(query_id="news")
        browser.close()


def call(run_id: datetime, number: int) -> LLMInteractionRecord:
    """Return one more call of the run that the pages show."""
    return LLMInteractionRecord(
        "news",
        run_id,
        "gpt-4.1-2025-04-14",
        provider="openai",
        prompt_tokens=100,
        iteration=number + 1,
        start_time=datetime.now(UTC),
    )


def main() -> None:
    """Measure, and print the table."""
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
        print(f"{scale.ROWS:,} calls in {calls.runs:,} runs; milliseconds\n")
        print("| page | first | again | CPU | KB | target |")
        print("|---|--:|--:|--:|--:|--:|")
        with dashboard(url) as (address, pid):
            measure_requests(address, pid, main_process(url), calls)
        measure_browser(url)
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as state:
        os.environ["RLM_CACHETRACK_STATE_DIR"] = state
        main()
