"""The estimate of the time that the interpreter needs to end."""

import time

import pytest

from rlm_cachetrack._process import exit_time, exit_time_s


def test_an_idle_machine_needs_the_cpu_time_and_a_busy_one_a_multiple(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"cpu": 0.0}

    class Clock:
        """A clock on which CPU time passes at a quarter of the speed of wall time."""

        def thread_time(self) -> float:
            clock["cpu"] += 0.01
            return clock["cpu"]

        def monotonic(self) -> float:
            return clock["cpu"] * 4

    monkeypatch.setattr(exit_time, "time", Clock())
    assert exit_time_s() >= 0.3 * 4


def test_the_estimate_takes_a_sample_only() -> None:
    began = time.thread_time()
    assert exit_time_s() >= 0.3
    assert time.thread_time() - began < 0.2
