"""The time that the interpreter needs to end once its exit handlers have run."""

from __future__ import annotations

import time

# CPU time to free the objects of all modules with openai 3.57 imported, measured with Python 3.11.
_CPU_S = 0.3
_SAMPLE_S = 0.02


def exit_time_s() -> float:
    """Estimate, in seconds, how long the interpreter needs after its exit handlers under the current load.

    Blocks for 20 ms of CPU time.
    """
    began, cpu = time.monotonic(), time.thread_time()
    while (used := time.thread_time() - cpu) < _SAMPLE_S:
        pass
    return _CPU_S * max(1.0, (time.monotonic() - began) / used)
