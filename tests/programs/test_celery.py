"""A real Celery worker whose pool forks processes; they end after five tasks, are killed, and are stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.faults.conftest import environment_for, stored_requests

pytest.importorskip("celery", reason="the package celery is not installed")

# The broker is a folder, so no broker process is needed.
TASKS = """
import os, signal
from celery import Celery
from openai import OpenAI
from rlm_cachetrack import instrument, query_run
here = os.path.dirname(os.path.abspath(__file__))
app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": here + "/queue", "data_folder_out": here + "/queue", "control_folder": here + "/control",
}
app.conf.worker_max_tasks_per_child = 5
instrument()
client = OpenAI(max_retries=0)
@app.task
def ask(number):
    with query_run("celery"):
        answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    notes = os.open(here + "/returned", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(notes, f"{os.getpid()} {answer._request_id}\\n".encode())
    os.close(notes)
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
"""
SENDER = "import tasks; [tasks.ask.delay(number) for number in range(24)]"
TASKS_SENT = 24


def test_calls_of_celery_workers_are_stored_also_of_a_killed_one(
    reused_db_url: str, endpoint: SimulatedEndpoint, tmp_path: Path
) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "tasks.py").write_text(TASKS)
    environment = {
        **environment_for(reused_db_url, tmp_path),
        "OPENAI_BASE_URL": endpoint.base_url,
        "OPENAI_API_KEY": "x",
        "PYTHONPATH": str(tmp_path),
    }

    def returned() -> list[list[str]]:
        notes = tmp_path / "returned"
        return [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []

    command = [
        sys.executable,
        "-m",
        "celery",
        "--app",
        "tasks",
        "worker",
        "--concurrency",
        "2",
        "--loglevel",
        "warning",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        subprocess.run([sys.executable, "-c", SENDER], cwd=tmp_path, env=environment, check=True)
        deadline = time.monotonic() + 180
        while len(returned()) < TASKS_SENT:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    with TimescaleDBClient(reused_db_url) as next_start:
        assert next_start.flush(120)
        runs = next_start.list_query_runs()
    requests = [request for _, request in returned()]
    assert stored_requests(reused_db_url) == dict.fromkeys(requests, 1)
    assert len({pid for pid, _ in returned()}) >= 4  # every process is replaced after five tasks
    assert {(run["query_id"], run["status"], run["total_interactions"]) for run in runs} == {("celery", "completed", 1)}
    assert "rlm_cachetrack" not in (tmp_path / "log").read_text().replace(str(tmp_path), "")
    assert list((tmp_path / "state").rglob("*.jsonl")) == []
