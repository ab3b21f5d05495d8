"""The HTTP server of the simulated endpoint. It listens on loopback only and ends all its threads when stopped."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .wire_format import WireResponse

_THREAD_NAME = "rlm-cachetrack-simulator"
Serve = Callable[[str, str, Message, bytes | None], WireResponse]  # method, path, headers, body (None: unknown size)


class Server(ThreadingHTTPServer):
    """A server with one thread per connection; :meth:`stop` ends all of them.

    Args:
        serve: Returns the response to a request. Called on the threads of the connections.
        record_error: Receives an error that ended a connection, unless the client disconnected. Called on the same
            threads.
        port: The port to listen on; 0 picks a free one.

    Raises:
        OSError: The port is in use.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, serve: Serve, record_error: Callable[[BaseException], None], port: int) -> None:
        self.serve, self.record_error = serve, record_error
        self.stopping = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self._acceptor = threading.Thread(target=self._accept, name=_THREAD_NAME, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        self.serve_forever(poll_interval=0.02)  # stop() may wait this long

    def stop(self) -> None:
        """Stop listening, close open connections, and wait up to 2 s for the threads to end."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._open_lock:
            still_open = dict(self._open)
        for connection in still_open:
            with suppress(OSError):  # its thread may have closed it already
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 2.0
        for thread in (self._acceptor, *still_open.values()):
            thread.join(max(0.0, deadline - time.monotonic()))

    def server_bind(self) -> None:
        """Bind the socket without the DNS lookup of :class:`http.server.HTTPServer`."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection on a separate thread."""
        serve, arguments = self.process_request_thread, (request, client_address)
        thread = threading.Thread(target=serve, args=arguments, name=_THREAD_NAME, daemon=True)
        with self._open_lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that has been handled."""
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Record the error of a handler, unless the client disconnected."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.record_error(error)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = _THREAD_NAME, ""
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        length = self.headers.get("content-length", "")
        raw = self.rfile.read(int(length)) if length.isdigit() else None
        if raw is None and self.command == "POST":
            self.close_connection = True  # a body of unknown size is left unread
        try:
            self._send(self.server.serve(self.command, self.path, self.headers, raw))
        except ConnectionError:
            self.close_connection = True

    do_GET = do_POST = _handle  # noqa: N815 - the names that http.server looks for

    def _send(self, response: WireResponse) -> None:
        self._wait(response.wait_s)
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("x-request-id", response.request_id)
        self.send_header("openai-processing-ms", str(round(response.wait_s * 1000)))
        cut = response.cut_after
        if response.events is None:
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body if cut is None else response.body[: len(response.body) // 2])
        else:
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for index, event in enumerate(response.events[:cut]):
                self._wait(response.gap_s if index else 0.0)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        if cut is not None:
            self.close_connection = True

    def _wait(self, seconds: float) -> None:
        if seconds > 0 and self.server.stopping.wait(seconds):
            raise ConnectionAbortedError("the endpoint is closing")
