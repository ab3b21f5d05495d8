"""Python processes that start in milliseconds: they are forked from one that has imported the SDK and this library.

A new interpreter imports for more than a second before a program's first line runs, and the tests run hundreds of
programs. A forked process has its own working directory, environment, arguments, standard streams and ``__main__``, and
ends like any other, with its ``atexit`` functions. Tests about imports, warnings and interpreters start real ones.

Run as a program, this module is the prepared process: ``python -m tests.support.forked SOCKET``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from tests.support.forked_client import LENGTH_BYTES, ask, read_number

ROOT = Path(__file__).resolve().parents[2]
PREPARED = "PREPARED_PROCESS"
"""The environment variable with the socket of the prepared process, for processes that were forked from it."""
_IMPORTS = (
    *("openai.resources.chat", "openai.resources.responses", "openai.resources.embeddings", "genai_prices.data"),
    *("rlm_cachetrack.capture", "rlm_cachetrack.client", "rlm_cachetrack.cli", "rlm_cachetrack.pipeline.writer"),
    *("rlm_cachetrack.store.postgres", "rlm_cachetrack.web", "rich.live", "tenacity", "uvicorn", "tests.docs.stand_in"),
)


class Forked:
    """A process that was forked from the prepared one; like ``subprocess.Popen``.

    Args:
        arguments: What follows ``python`` on a command line: ``[-W error]``, then ``FILE …``, ``-m MODULE …`` or
            ``-c CODE …``.
        cwd: Its working directory; None: that of this process.
        env: Its environment; None: that of this process.
        streams: The file descriptors of its standard input, output and error.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        streams: tuple[int, int, int] = (0, 1, 2),
    ) -> None:
        path = os.environ.get(PREPARED) or address()
        self._connection = ask(path, arguments, str(cwd or Path.cwd()), os.environ if env is None else env, streams)
        self.pid = read_number(self._connection)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """Wait until the process ends, and return its exit code; a negative one is the number of a signal."""
        if not select.select([self._connection], [], [], timeout_s)[0]:
            raise subprocess.TimeoutExpired("a forked process", timeout_s)
        with self._connection:
            return read_number(self._connection)


def run(arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program without input; return its exit code and what it printed, like ``subprocess.run``."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, Path(os.devnull).open() as nothing:
        process = Forked(arguments, cwd=cwd, env=env, streams=(nothing.fileno(), output.fileno(), errors.fileno()))
        return subprocess.CompletedProcess(list(arguments), process.wait(240), _content(output), _content(errors))


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@functools.cache
def address() -> str:
    """Start the prepared process, which ends with this one, and return the path of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="rlmct-forked-", dir="/tmp"))
    path = folder / "socket"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RLM_CACHETRACK_", "OPENAI_"))}
    command = [sys.executable, "-m", "tests.support.forked", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE)

    def end() -> None:
        process.communicate()  # closes its standard input
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return str(path)


# -- the prepared process ----------------------------------------------------------------------------------------------


def main(path: str) -> None:
    """Serve requests; in a forked process, run the program that was asked for."""
    for name in _IMPORTS:
        with contextlib.suppress(ModuleNotFoundError):  # an extra that is not installed
            importlib.import_module(name)
    assert threading.active_count() == 1
    gc.freeze()
    _become(_serve(path), path)


def _serve(path: str) -> dict[str, Any]:
    """Fork a process for each request; return the request in that process."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(64)
        Path(f"{path}.new").rename(path)
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                sys.exit()  # the end of the tests
            connection, _ = listener.accept()
            if os.fork() == 0:
                return _fork_and_report(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
                    pass


def _fork_and_report(connection: socket.socket) -> dict[str, Any]:
    """Fork the process of a request, and report its id and exit code; return the request in that process."""
    length, streams, _, _ = socket.recv_fds(connection, LENGTH_BYTES, 3)
    missing, text = int.from_bytes(length, "big"), b""
    while len(text) < missing:
        text += connection.recv(missing - len(text))
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        request: dict[str, Any] = json.loads(text)
        return request
    for stream in (*streams, 0, 1, 2):
        os.close(stream)
    with contextlib.suppress(OSError):  # the client no longer reads the response
        connection.sendall(b"%d\n" % pid)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _become(request: dict[str, Any], path: str) -> None:
    """Run the program of a request."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({**request["env"], PREPARED: path})
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    arguments = request["arguments"]
    if arguments[:2] == ["-W", "error"]:
        warnings.simplefilter("error")
        arguments = arguments[2:]
    first, *rest = arguments
    folder = str(Path.cwd() if first.startswith("-") else Path(first).resolve().parent)
    sys.path[:0] = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    code, name = (rest[0], "<string>") if first == "-c" else (Path(first).read_text(encoding="utf-8"), first)
    sys.argv = ["-c", *rest[1:]] if first == "-c" else [first, *rest]
    sys.modules["__main__"] = program = ModuleType("__main__")
    if first != "-c":
        program.__file__ = first
    exec(compile(code, name, "exec", dont_inherit=True), program.__dict__)


if __name__ == "__main__":
    main(sys.argv[1])
