"""A loopback server with Anthropic's Messages API, for calls that LiteLLM does not send through the OpenAI SDK."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE: dict[str, Any] = {
    "input_tokens": 12,
    "cache_read_input_tokens": 2048,
    "cache_creation_input_tokens": 256,
    "output_tokens": 30,
}
TEXT = "the answer"


class AnthropicServer:
    """Responds to every request with the same message, plain or streamed.

    Attributes:
        requests: The bodies of the requests.
        status: The HTTP status of the next responses.
        cut: Whether streams end before their last event.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.status = 200
        self.cut = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests.append(body)
                payload, kind = server.answer(body)
                self.send_response(server.status)
                self.send_header("content-type", kind)
                self.send_header("request-id", f"req_{len(server.requests)}")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def __enter__(self) -> AnthropicServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def base_url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, body: dict[str, Any]) -> tuple[bytes, str]:
        """Return the body of a response and its content type."""
        if self.status != 200:
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": "not like this"}}
            return json.dumps(error).encode(), "application/json"
        message = {
            "id": f"msg_{len(self.requests)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }
        if not body.get("stream"):
            return json.dumps(message).encode(), "application/json"
        begun = {**message, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
                for text in ("the ", "answer")
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": USAGE["output_tokens"]},
            },
            {"type": "message_stop"},
        ]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
        return "".join(lines[:3] if self.cut else lines).encode(), "text/event-stream"
