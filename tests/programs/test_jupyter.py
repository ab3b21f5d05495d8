"""A real Jupyter kernel: cells are run again and interrupted, and the kernel is restarted or shut down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.simulator import Reply, SimulatedEndpoint
from tests.faults.conftest import environment_for

pytest.importorskip("ipykernel", reason="the package ipykernel is not installed")
manager = pytest.importorskip("jupyter_client.manager", reason="the package jupyter_client is not installed")

CONNECT = """
from openai import OpenAI
from rlm_cachetrack import flush, instrument, query_run
client = instrument(OpenAI(max_retries=0))
def call():
    return client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
"""


class Notebook:
    """A kernel, as its front end sees it."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.kernel = manager.KernelManager(kernel_name="python3")
        self.kernel.start_kernel(env=environment, cwd=str(folder))
        self._connect()

    def _connect(self) -> None:
        self._client = self.kernel.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=180)

    def begin(self, cell: str) -> str:
        """Start a cell. Returns the argument for :meth:`end`."""
        started: str = self._client.execute(cell)
        return started

    def end(self, started: str) -> tuple[str, str]:
        """Wait for a cell. Returns its status (``ok`` or the name of the exception) and its output."""
        output = ""
        while True:
            message: Any = self._client.get_iopub_msg(timeout=180)
            if message["parent_header"].get("msg_id") != started:
                continue
            if message["msg_type"] == "stream":
                output += message["content"]["text"]
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        while (reply := self._client.get_shell_msg(timeout=180))["parent_header"]["msg_id"] != started:
            pass  # replies to the client's readiness checks
        return reply["content"].get("ename", "ok"), output

    def run(self, cell: str) -> tuple[str, str]:
        return self.end(self.begin(cell))

    def restart(self) -> None:
        """Restart as the button does: ask the kernel to end, and kill it if it does not."""
        self._client.stop_channels()
        self.kernel.restart_kernel(now=False)
        self._connect()

    def close(self, *, now: bool) -> None:
        """Shut the kernel down; with ``now``, kill it."""
        self._client.stop_channels()
        if self.kernel.has_kernel:
            self.kernel.shutdown_kernel(now=now)


@pytest.fixture
def notebook(reused_db_url: str, endpoint: SimulatedEndpoint, tmp_path: Path) -> Iterator[Notebook]:
    environment = {
        **environment_for(reused_db_url, tmp_path),
        "OPENAI_BASE_URL": endpoint.base_url,
        "OPENAI_API_KEY": "x",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    notebook = Notebook(environment, tmp_path)
    yield notebook
    notebook.close(now=True)


# zmq does not close its sockets, nor jupyter_client its event loop.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_an_interrupted_restarted_and_killed_kernel_loses_no_call(
    notebook: Notebook, endpoint: SimulatedEndpoint, reused_db_url: str, tmp_path: Path
) -> None:
    endpoint.script(Reply(), Reply(), Reply(delay_s=30))
    for _ in range(2):  # the same cell again
        assert notebook.run(CONNECT) == ("ok", "")
        assert notebook.run("answer = call()") == ("ok", "")
    slow = notebook.begin("call()")
    while len(endpoint.requests) < 3:
        time.sleep(0.01)
    notebook.kernel.interrupt_kernel()
    assert notebook.end(slow)[0] == "KeyboardInterrupt"
    with_run = "with query_run('notebook') as run:\n    answer = call()\nprint(run.summary()['total_interactions'])"
    assert notebook.run(with_run) == ("ok", "1\n")
    assert notebook.run("print(flush(120))") == ("ok", "True\n")
    assert notebook.run("answer = call()") == ("ok", "")
    notebook.restart()
    assert notebook.run(CONNECT + "answer = call()") == ("ok", "")
    assert notebook.run("never_left = query_run('open').__enter__(); answer = call()") == ("ok", "")
    notebook.close(now=True)
    with TimescaleDBClient(reused_db_url) as next_start:
        assert next_start.flush(120)
        rows = [
            row
            for run in next_start.list_query_runs()
            for row in next_start.get_llm_interactions(run["query_id"], run["run_id"])
        ]
    assert sorted(str(row["error_type"]) for row in rows) == ["KeyboardInterrupt", *["None"] * 6]
    assert len({row["interaction_id"] for row in rows}) == 7
    assert list((tmp_path / "state").rglob("*.jsonl")) == []
