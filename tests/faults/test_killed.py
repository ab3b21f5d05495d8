"""``kill -9`` at random times: every call that returned is stored once by the next process."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.faults.conftest import environment_for, stored_requests
from tests.faults.load import Load

PROCESSES = 4


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.faults)])
def test_calls_that_returned_before_kill_9_are_stored_once_by_the_next_process(
    db_url: str, endpoint: SimulatedEndpoint, tmp_path: Path, rounds: int
) -> None:
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    print(f"seed {seed}")  # pytest shows it if the test fails
    with Load(endpoint.base_url, environment_for(db_url, tmp_path), tmp_path / "returned") as load:
        for number in range(rounds):
            pids = load.start(PROCESSES)
            # Counted from the fork, so that some are killed before their first call, or while they recover the journals
            # of the round before. On a busy machine that may be all of them, so the last round waits for a call.
            while number == rounds - 1 and not load.returned():
                threading.Event().wait(0.01)
            timers = [threading.Timer(rng.uniform(0.05, 1.0), os.kill, (pid, signal.SIGKILL)) for pid in pids]
            for timer in timers:
                timer.start()
            assert load.wait() == [-signal.SIGKILL] * PROCESSES, load.errors()
            for timer in timers:
                timer.join()
        returned, errors = load.returned(), load.errors()
    with TimescaleDBClient(db_url) as next_start:
        assert next_start.flush(120)
        # A torn record belongs to a call that had not returned before the kill.
        assert next_start.stats()["dead_letters"] == 0
    stored = stored_requests(db_url)
    assert returned
    assert [request for request in returned if stored[request] != 1] == []
    assert max(stored.values()) == 1
    assert set(stored) <= {request.request_id for request in endpoint.requests}
    assert errors == ""
    assert list((tmp_path / "state").rglob("*.jsonl")) == []
