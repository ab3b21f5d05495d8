"""Ask the prepared process of :mod:`.forked` for a process; imports little, because shell scripts run it often.

As a program: ``python forked_client.py SOCKET FILE|-m|-c …`` behaves like ``python FILE|-m|-c …``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

LENGTH_BYTES = 8


def ask(
    path: str, arguments: Sequence[str], cwd: str, env: Mapping[str, str], streams: tuple[int, int, int]
) -> socket.socket:
    """Send a request. The response is a line with the process id and, when the process ends, one with its exit code."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = json.dumps({"arguments": list(arguments), "cwd": cwd, "env": dict(env)}).encode()
    socket.send_fds(connection, [len(request).to_bytes(LENGTH_BYTES, "big")], streams)
    connection.sendall(request)
    return connection


def read_number(connection: socket.socket) -> int:
    """Return the number on the next line of the response."""
    line = b""
    while not line.endswith(b"\n"):
        received = connection.recv(1)
        if not received:
            raise ConnectionError("the prepared process ended")
        line += received
    return int(line)


def main(path: str, arguments: Sequence[str]) -> int:
    """Run a program with the environment, folder and streams of this process; return its exit code."""
    connection = ask(path, arguments, os.getcwd(), os.environ, (0, 1, 2))  # noqa: PTH109 - pathlib is not imported
    pid = read_number(connection)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    return read_number(connection)


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2:])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
