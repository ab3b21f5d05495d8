"""Worker processes that make calls with the real SDK over real HTTP. The tests of this folder run it as a program.

Each line on standard input is a number of workers to fork from this process, which has imported everything and recorded
nothing; it prints their pids. A worker writes the id of each request to a file after the call has returned, until
SIGTERM; then it flushes, and its exit code is 0 if everything is stored. After all workers have ended, their exit codes
are printed (the negative signal for one that was killed).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]


def work(endpoint: str, notes: int) -> int:
    """Make calls until SIGTERM. Return the exit code."""
    from openai import OpenAI

    from rlm_cachetrack import flush, instrument, stats

    stopped: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    with OpenAI(base_url=endpoint, api_key="x", max_retries=0, timeout=120) as client:
        instrument(client)
        while not stopped:
            answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
            os.write(notes, f"{answer._request_id}\n".encode())
    if not flush(120):
        print(f"not all is stored: {stats()}", file=sys.stderr)
        return 1
    return 1 if stats()["dropped"] or stats()["internal_errors"] else 0


def main(endpoint: str, notes_file: str) -> None:
    """Fork workers for every line of standard input."""
    import openai.resources.chat  # noqa: F401 - imported once before the forks

    import rlm_cachetrack  # noqa: F401

    notes = os.open(notes_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for line in sys.stdin:
        pids = []
        for _ in range(int(line)):
            pid = os.fork()
            if pid == 0:
                code = 2
                try:
                    code = work(endpoint, notes)
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            pids.append(pid)
        print(*pids, flush=True)
        print(*[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids], flush=True)


class Load:
    """Context manager that runs this program for a test.

    Args:
        endpoint: The address of the simulated endpoint.
        environment: The environment of the processes.
        notes: The file to which they write the ids of requests whose calls returned.
    """

    def __init__(self, endpoint: str, environment: dict[str, str], notes: Path) -> None:
        self._notes = notes
        self._errors = notes.with_suffix(".stderr")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.faults.load", endpoint, str(notes)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # a new process group, because the workers inherit the pipes
            )

    def start(self, workers: int) -> list[int]:
        """Start workers and return their pids."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{workers}\n")
        self._process.stdin.flush()
        return self._numbers()

    def wait(self) -> list[int]:
        """Wait until all workers have ended and return their exit codes."""
        return self._numbers()

    def _numbers(self) -> list[int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the load ended: {self.errors()}"
        return [int(word) for word in line.split()]

    def returned(self) -> list[str]:
        """Return the ids of the requests whose calls returned; an incomplete last line does not count."""
        lines = self._notes.read_bytes().splitlines(keepends=True) if self._notes.exists() else []
        return [line.decode().strip() for line in lines if line.endswith(b"\n")]

    def errors(self) -> str:
        """Return what the workers wrote to standard error."""
        return self._errors.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
