"""A server is restarted and killed and cuts connections while processes record: every call is stored once."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import psycopg
import pytest

from rlm_cachetrack.simulator import SimulatedEndpoint
from rlm_cachetrack.store import embedded
from tests.faults.conftest import environment_for, stored_requests
from tests.faults.load import Load

PROCESSES = 2


def cut(url: str) -> int:
    """Cut each connection of the processes with a probability of one half; return how many."""
    with psycopg.connect(url, autocommit=True) as connection:
        return len(
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'rlm_cachetrack' AND random() < 0.5"
            ).fetchall()
        )


@pytest.mark.parametrize("restarts", [3, pytest.param(20, marks=pytest.mark.faults)])
def test_restarts_and_cut_connections_under_load_store_every_call_once(
    stoppable_server: Path, stoppable_url: str, endpoint: SimulatedEndpoint, tmp_path: Path, restarts: int
) -> None:
    pause = threading.Event().wait
    ended = 0
    with Load(endpoint.base_url, environment_for(stoppable_url, tmp_path), tmp_path / "returned") as load:
        pids = load.start(PROCESSES)
        for number in range(restarts):
            for _ in range(4):
                pause(random.uniform(0.05, 0.3))
                ended += cut(stoppable_url)
            while not ended:  # on a busy machine the processes take seconds to connect
                pause(0.05)
                ended += cut(stoppable_url)
            if number % 2:
                server = embedded.status(stoppable_server).pid
                assert server is not None
                os.kill(server, signal.SIGKILL)
                while embedded.status(stoppable_server).running:  # until the kernel has ended the process
                    pass
            else:
                embedded.stop(stoppable_server)
            pause(random.uniform(0, 0.5))
            assert embedded.ensure_running(stoppable_server) == stoppable_url
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        assert load.wait() == [0] * PROCESSES, load.errors()
        returned = load.returned()
    stored = stored_requests(stoppable_url)
    assert len(returned) > 20 * restarts
    assert [request for request in returned if stored[request] != 1] == []
    assert max(stored.values()) == 1
    assert set(stored) == set(returned)
