"""A loopback websocket server whose connections run a script, and the events that scripts send."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

Json = dict[str, Any]
Script = Callable[["Peer"], None]

USAGE: Json = {
    "input_tokens": 2300,
    "input_tokens_details": {"cached_tokens": 2048, "cache_write_tokens": 128},
    "output_tokens": 45,
    "output_tokens_details": {"reasoning_tokens": 40},
    "total_tokens": 2345,
}
TEXT = "the answer"


class Peer:
    """The server's side of one connection.

    Args:
        socket: The connection.
        messages: Receives every message of the client.
    """

    def __init__(self, socket: ServerConnection, messages: list[Any]) -> None:
        self.socket = socket
        self._messages = messages

    def get(self) -> Json:
        """Wait for the next message of the client."""
        message = self.socket.recv(timeout=120)
        event = cast("Json", json.loads(message))
        self._messages.append(event)
        return event

    def send(self, *events: Json | str | bytes) -> None:
        """Send events as JSON, and text or bytes as they are."""
        for event in events:
            self.socket.send(json.dumps(event, separators=(",", ":")) if isinstance(event, dict) else event)

    def drop(self) -> None:
        """End the connection without a closing handshake."""
        self.socket.socket.shutdown(2)
        self.socket.socket.close()


class SocketServer:
    """Serves websockets at any path. Each connection runs :attr:`script`, then stays open until the client closes it.

    Attributes:
        script: What the server does with a new connection; the second connection of a list takes the second script.
        messages: What all clients have sent.
        paths: The paths of the connections.
    """

    def __init__(self) -> None:
        self.script: Script | list[Script] = lambda peer: None
        self.messages: list[Any] = []
        self.paths: list[str] = []
        self.failures: list[BaseException] = []
        self._sockets: list[ServerConnection] = []
        self._server = serve(self._handle, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> SocketServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for socket in self._sockets:  # of tests that failed; their threads would keep the interpreter alive
            socket.close()
        self._server.shutdown()
        self._thread.join()

    @property
    def address(self) -> str:
        """The host and port."""
        return f"127.0.0.1:{self._server.socket.getsockname()[1]}"

    def rewind(self) -> None:
        """Forget what was received."""
        self.messages, self.paths, self.failures = [], [], []

    def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self._sockets.append(socket)
        self.paths.append(socket.request.path)
        script = self.script
        if isinstance(script, list):
            script = script[min(len(self.paths), len(script)) - 1]
        try:
            script(Peer(socket, self.messages))
            for _ in socket:  # until the client closes it
                pass
        except (ConnectionClosed, OSError):
            pass
        except BaseException as exc:
            self.failures.append(exc)
            raise


# -- events of the Responses API --------------------------------------------------------------------------------------


def response(response_id: str, status: str, **more: Any) -> Json:
    """Return a response of the Responses API, as events contain it."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1_780_000_000.0,
        "status": status,
        "model": "gpt-5-2025-08-07",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "auto",
        "usage": None,
        "error": None,
        "incomplete_details": None,
        "previous_response_id": None,
        **more,
    }


def created(response_id: str, lane: str | None = None, **more: Any) -> Json:
    """Return the event that begins a response."""
    event = {"type": "response.created", "sequence_number": 0, "response": response(response_id, "in_progress", **more)}
    return _in_lane(event, lane)


def delta(text: str = "the", lane: str | None = None, item_id: str = "msg_1") -> Json:
    """Return a piece of text."""
    event = {
        "type": "response.output_text.delta",
        "item_id": item_id,
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        "logprobs": [],
        "sequence_number": 4,
    }
    return _in_lane(event, lane)


def message(text: str = TEXT) -> Json:
    """Return an output item with text."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def function_call() -> Json:
    """Return an output item with a tool call."""
    return {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}


def item_done(item: Json, lane: str | None = None) -> Json:
    """Return the event that ends an output item."""
    return _in_lane({"type": "response.output_item.done", "output_index": 0, "item": item, "sequence_number": 5}, lane)


def completed(response_id: str, lane: str | None = None, **more: Any) -> Json:
    """Return the event that ends a response."""
    given = {"output": [message(), function_call()], "usage": USAGE, "service_tier": "priority", **more}
    return ended(response_id, "completed", lane, **given)


def ended(response_id: str, status: str, lane: str | None = None, **more: Any) -> Json:
    """Return the event that ends a response with any status."""
    event = {"type": f"response.{status}", "sequence_number": 9, "response": response(response_id, status, **more)}
    return _in_lane(event, lane)


def whole(response_id: str, lane: str | None = None, **more: Any) -> Iterator[Json]:
    """Yield the events of a response with two pieces of text and a tool call."""
    chained = {name: value for name, value in more.items() if name == "previous_response_id"}
    yield created(response_id, lane, **chained)
    yield delta("the ", lane)
    yield delta("answer", lane)
    yield item_done(message(), lane)
    yield item_done(function_call(), lane)
    yield completed(response_id, lane, **more)


def error(code: str, text: str = "no", lane: str | None = None, status: int = 400) -> Json:
    """Return an error event of the Responses API."""
    inner = {"type": "invalid_request_error", "code": code, "message": text, "param": None}
    return _in_lane({"type": "error", "status": status, "error": inner}, lane)


def answer_all(peer: Peer) -> None:
    """Send a complete response for every ``response.create``."""
    number = 0
    while True:
        event = peer.get()
        if event["type"] == "response.create":
            number += 1
            peer.send(*whole(f"resp_{number}", event.get("stream_id")))


def _in_lane(event: Json, lane: str | None) -> Json:
    return event if lane is None else {**event, "stream_id": lane}
