"""A real gunicorn that forks its workers after loading the application; a worker is killed and replaced."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.faults.conftest import environment_for, stored_requests

pytest.importorskip("gunicorn", reason="the package gunicorn is not installed")

APPLICATION = """
import os
from openai import OpenAI
from rlm_cachetrack import instrument
instrument()  # once, in the master: the workers are forked from here
client = OpenAI(max_retries=0)
def app(environ, start_response):
    answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {answer._request_id}".encode()]
"""


@pytest.fixture
def environment(reused_db_url: str, endpoint: SimulatedEndpoint, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "application.py").write_text(APPLICATION)
    return {
        **environment_for(reused_db_url, tmp_path),
        "OPENAI_BASE_URL": endpoint.base_url,
        "OPENAI_API_KEY": "x",
        "PYTHONPATH": str(tmp_path),
    }


class Server:
    """The running server, as an HTTP client sees it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}/"

    def visit(self) -> tuple[int, str]:
        """Return the worker that responded and the id of its request to the model. Waits until the server is up."""
        deadline = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(self._url, timeout=120) as answer:
                    pid, request = answer.read().decode().split()
                    return int(pid), request
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline
                assert self.process.poll() is None
                time.sleep(0.05)  # gunicorn does not announce when it listens


@pytest.fixture(params=["sync", "gthread"])
def server(request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--preload", "--workers", "2", "--worker-class", request.param, "--graceful-timeout", "10"]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *options, "application:app"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        yield Server(process, port)
    finally:
        process.kill()
        process.wait()


def test_calls_of_gunicorn_workers_are_stored_also_of_a_killed_one(
    server: Server, reused_db_url: str, tmp_path: Path
) -> None:
    requests, workers = [], set()
    while len(requests) < 40 or len(workers) < 2:
        pid, request = server.visit()
        workers.add(pid)
        requests.append(request)
    os.kill(pid, signal.SIGKILL)  # the worker that has just responded
    while len(workers) < 3:
        pid, request = server.visit()
        workers.add(pid)
        requests.append(request)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(120) == 0
    with TimescaleDBClient(reused_db_url) as next_start:
        assert next_start.flush(120)
    assert stored_requests(reused_db_url) == dict.fromkeys(requests, 1)
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert list((tmp_path / "state").rglob("*.jsonl")) == []
