"""A loopback server whose response depends on the request alone, so that two test runs can be compared.

The package's simulator imitates a provider; this server follows a script and fails on request: a request names its
fault in the header ``x-fault``. The usage it reports is fixed, so that tests know it: :data:`CHAT`,
:data:`RESPONSES`, :data:`LEGACY`, :data:`EMBEDDINGS`.
"""

from __future__ import annotations

import email
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support import scripted_media

REQUEST_ID = "req_scripted"
MODEL = "gpt-5-2025-08-07"
TEXT = '{"a": 1}'  # 8 characters
CHAT = {
    "prompt_tokens": 1200,
    "completion_tokens": 34,
    "total_tokens": 1234,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
RESPONSES = {
    "input_tokens": 2300,
    "input_tokens_details": {"cached_tokens": 2048, "cache_write_tokens": 128},
    "output_tokens": 45,
    "output_tokens_details": {"reasoning_tokens": 40},
    "total_tokens": 2345,
}
LEGACY = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
EMBEDDINGS = {"prompt_tokens": 5, "total_tokens": 5}
ERROR = {"message": "something is wrong", "type": "invalid_request_error", "param": "model", "code": "wrong"}

Json = dict[str, Any]


@dataclass
class Reply:
    """A response: a body, or the pieces of a stream."""

    status: int = 200
    body: bytes = b""
    pieces: list[bytes] | None = None
    kind: str = "application/json"
    cut: bool = False
    hold_after: int | None = None


@dataclass
class ReceivedRequest:
    """A request as the server received it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Json = field(default_factory=dict)


class ScriptedServer:
    """The server; a context manager. ``usage``, ``facts`` and ``salt`` may be set before a request.

    Attributes:
        requests: Every request since :meth:`rewind`.
        usage: The usage to report; None for the fixed usage of the called API.
        usage_at: The position of the usage in a chat stream: a separate chunk if usage was requested (None), or always
            the last chunk, as ``x_groq`` (Groq) or in ``choices[0]`` (Moonshot).
        facts: Further fields of each chat completion, of its last chunk, and of each response.
        salt: A part of the ids of stored responses, which are otherwise the same in every run.
        held: Set while a fault holds a request, until its connection ends.
    """

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.usage: Json | None = None
        self.usage_at: str | None = None
        self.salt = ""
        self.facts: Json = {}
        self.held = threading.Event()
        self.release = threading.Event()
        self._looks: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        self._http = _Http(self)

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def url(self) -> str:
        """Return the ``base_url`` for a client."""
        return self.origin + "/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()

    def rewind(self) -> None:
        """Forget all requests, so that the next run gets the same responses."""
        self.requests.clear()
        self._looks.clear()
        self._tries.clear()
        self.held.clear()

    # -- responses ---------------------------------------------------------------------------------------------------

    def answer(self, request: ReceivedRequest) -> Reply:
        """Return the response to a request, by its path, body and fault."""
        fault = request.headers.get("x-fault", "")
        if (broken := self._refusal(fault, request)) is not None:
            return broken
        address = urlsplit(request.path)
        path = address.path.partition("/v1")[2] or "/" + address.path.rpartition("/openai/")[2]
        path = "/" + path.split("/deployments/")[-1].partition("/")[2] if "/deployments/" in path else path
        query = parse_qs(address.query)
        stream = request.body.get("stream") is True or query.get("stream") == ["true"]
        if path == "/embeddings":
            return _json(self._embeddings(request.body))
        if path in ("/chat/completions", "/completions"):
            chat = path.startswith("/chat")
            if not stream:
                return _json(self._completion(chat))
            return self._streamed(list(self._chunks(chat, request)), fault, b"data: [DONE]\n\n")
        if path == "/responses/compact":
            return _json(self._compacted())
        if path == "/responses":
            document = self._response(background=request.body.get("background") is True)
        elif path.startswith("/responses/"):
            document = self._stored(path.removeprefix("/responses/"), stream=stream)
        elif (media := scripted_media.answer(request.method, path, request.body)) is not None:
            kind, content = media
            return Reply(body=content, kind=kind)
        else:
            return _error(404)
        if not stream:
            if request.method == "POST" and document["background"] and path == "/responses":
                document = {**document, "status": "queued", "output": [], "usage": None}
            return _json(document)
        after = int(query.get("starting_after", ["-1"])[0])
        return self._streamed(list(_response_events(document))[after + 1 :], fault, b"")

    def _refusal(self, fault: str, request: ReceivedRequest) -> Reply | None:
        if fault.isdigit():
            return _error(int(fault))
        if fault.startswith("retry:"):  # "retry:2" fails the first two attempts
            self._tries[fault] += 1
            return _error(429, retry=True) if self._tries[fault] <= int(fault[6:]) else None
        if fault == "stream_options":
            refused = "stream_options" in request.body
            return _error(400, "Unrecognized request argument supplied: stream_options") if refused else None
        if fault == "stream_options 422":
            detail = {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}
            return Reply(422, json.dumps(detail).encode()) if "stream_options" in request.body else None
        if fault == "no diagnosis" and "comparison_response_id" in json.dumps(request.body):
            return _error(400, "Unknown parameter: 'prompt_cache_options.comparison_response_id'.")
        if fault == "no diagnosis 422" and "prompt_cache_options" in request.body:
            detail = {"detail": [{"loc": ["body", "prompt_cache_options"], "msg": "Extra inputs are not permitted"}]}
            return Reply(422, json.dumps(detail).encode())
        if fault == "quotes the request":
            return _error(400, f"cannot read {json.dumps(request.body)}")
        bodies = {
            "html": Reply(502, b"<html>bad gateway</html>", kind="text/html"),
            "html 200": Reply(200, b"<html>hello</html>", kind="text/html"),
            "error body": Reply(200, json.dumps({"error": ERROR}).encode()),
            "error text": Reply(200, json.dumps({"error": "overloaded"}).encode()),
            "broken json": Reply(200, b'{"id": "x", "choi'),
            "empty": Reply(200, b""),
            "cut body": Reply(200, b'{"id": "x", "choi', cut=True),
            "drop": Reply(0),
            "hold": Reply(200, b"{}", hold_after=0),
        }
        return bodies.get(fault)

    def _streamed(self, pieces: list[bytes], fault: str, end: bytes) -> Reply:
        if fault == "error chunk":
            pieces = [*pieces[:2], b"data: " + json.dumps({"error": ERROR}).encode() + b"\n\n"]
        elif fault == "usage behind an error":
            error = b"data: " + json.dumps({"error": ERROR}).encode() + b"\n\n"
            pieces = [*pieces[:2], error, *pieces[2:]]
        elif fault == "usage in an error":
            pieces = [*pieces[:2], b"data: " + json.dumps({"error": ERROR, "usage": CHAT}).encode() + b"\n\n"]
        elif fault == "error event":
            event = {**ERROR, "type": "error", "sequence_number": 2}
            pieces = [*pieces[:2], b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"]
        elif fault == "broken chunk":
            pieces = [*pieces[:2], b'data: {"id": \n\n']
        elif fault == "cut stream":
            return Reply(pieces=pieces[:2], cut=True, kind="text/event-stream")
        elif fault == "hold stream":
            return Reply(pieces=pieces, hold_after=2, kind="text/event-stream")
        elif fault == "text with a call":
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            both = json.loads(pieces[2].removeprefix(b"data: "))
            both["choices"][0]["delta"]["tool_calls"] = [call]
            pieces = [*pieces[:2], _sse(both), *pieces[3:]]
        elif fault == "no usage":
            pieces = [piece for piece in pieces if b'"usage": {' not in piece]
        return Reply(pieces=[*pieces, end] if end else pieces, kind="text/event-stream")

    def _completion(self, chat: bool) -> Json:
        message: Json = {"message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}}
        choice = {"index": 0, **(message if chat else {"text": TEXT}), "logprobs": None, "finish_reason": "stop"}
        return {
            "id": "chatcmpl-1" if chat else "cmpl-1",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1_700_000_000,
            "model": MODEL,
            "choices": [choice],
            "usage": self.usage or (CHAT if chat else LEGACY),
            "service_tier": "default",
            "system_fingerprint": "fp_1",
            "an_unknown_field": {"of": ["any", 1]},
            **self.facts,
        }

    def _chunks(self, chat: bool, request: ReceivedRequest) -> Iterator[bytes]:
        asked = (request.body.get("stream_options") or {}).get("include_usage") is True
        head = {
            "id": "chatcmpl-1" if chat else "cmpl-1",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1_700_000_000,
            "model": MODEL,
            "service_tier": "default",
            "system_fingerprint": "fp_1",
        }
        # If usage was requested, OpenAI sends null with every chunk but the last; otherwise it omits the key.
        null = {"usage": None} if asked else {}

        def chunk(delta: Json, reason: str | None = None) -> bytes:
            choice = {"index": 0, **({"delta": delta} if chat else {"text": delta.get("content", "")})}
            choice |= {"logprobs": None, "finish_reason": reason}
            more = {}
            if reason and self.usage_at == "choices[0]":
                choice["usage"] = self.usage
            elif reason and self.usage_at == "x_groq":
                more["x_groq"] = {"id": "req_1", "usage": self.usage}
            return _sse({**head, "choices": [choice], **null, **more})

        yield chunk({"role": "assistant", "content": "", "refusal": None} if chat else {})
        yield chunk({"content": TEXT[:5]})
        yield chunk({"content": TEXT[5:]})
        yield chunk({}, "stop")
        if asked and self.usage_at is None:
            yield _sse({**head, "choices": [], "usage": self.usage or (CHAT if chat else LEGACY), **self.facts})

    def _embeddings(self, body: Json) -> Json:
        # Without a format the SDK requests base64 and decodes it: two little-endian floats, 0.5 and -2.
        packed = body.get("encoding_format") == "base64"
        item = {"object": "embedding", "index": 0, "embedding": "AAAAPwAAAMA=" if packed else [0.5, -2.0]}
        return {"object": "list", "data": [item], "model": MODEL, "usage": self.usage or EMBEDDINGS}

    def _compacted(self) -> Json:
        item = {"id": "cmp_1", "type": "compaction", "encrypted_content": "abc"}
        head = {"id": "resp_compacted", "object": "response.compaction", "created_at": 1_700_000_000}
        return {**head, "output": [item], "usage": self.usage or RESPONSES}

    def _response(self, *, background: bool = False) -> Json:
        text = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        return {
            "id": f"resp_{self.salt}",
            "object": "response",
            "created_at": 1_700_000_000,
            "model": MODEL,
            "status": "completed",
            "background": background,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "output": [message],
            "parallel_tool_calls": True,
            "service_tier": "default",
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": self.usage or RESPONSES,
            "an_unknown_field": {"of": ["any", 1]},
            **self.facts,
        }

    def _stored(self, name: str, *, stream: bool) -> Json:
        """Poll a background response: it is in progress at first and then completed; a stream waits for its end."""
        response_id, _, action = name.partition("/")
        document = {**self._response(background="stored" not in response_id), "id": response_id}
        if action == "cancel":
            return {**document, "status": "cancelled", "output": [], "usage": None}
        self._looks[response_id] += 1
        if self._looks[response_id] == 1 and document["background"] and not stream:
            return {**document, "status": "in_progress", "output": [], "usage": None}
        return document


def _response_events(response: Json) -> Iterator[bytes]:
    number = -1

    def event(kind: str, **fields: object) -> bytes:
        nonlocal number
        number += 1
        return _sse({"type": kind, "sequence_number": number, **fields}, kind)

    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    (message,) = response["output"]
    (part,) = message["content"]
    position: Json = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    added = {**message, "status": "in_progress", "content": []}
    yield event("response.output_item.added", output_index=0, item=added)
    yield event("response.content_part.added", **position, part={**part, "text": ""})
    yield event("response.output_text.delta", **position, delta=TEXT[:5], logprobs=[])
    yield event("response.output_text.delta", **position, delta=TEXT[5:], logprobs=[])
    yield event("response.output_text.done", **position, text=TEXT, logprobs=[])
    yield event("response.content_part.done", **position, part=part)
    yield event("response.output_item.done", output_index=0, item=message)
    yield event("response.completed", response=response)


def _body_of(raw: bytes, headers: dict[str, str]) -> Json:
    """Return the body of a request: JSON, or the texts of a form."""
    kind = headers.get("content-type", "")
    if not kind.startswith("multipart/"):
        return json.loads(raw) if raw else {}
    form = email.message_from_bytes(f"content-type: {kind}\r\n\r\n".encode() + raw)
    parts = [part for part in form.walk() if not part.is_multipart() and part.get_filename() is None]
    names = [str(part.get_param("name", header="content-disposition")) for part in parts]
    return {name: bytes(part.get_payload(decode=True)).decode() for name, part in zip(names, parts, strict=True)}


def _json(document: Json) -> Reply:
    return Reply(body=json.dumps(document).encode())


def _error(status: int, message: str | None = None, *, retry: bool = False) -> Reply:
    error = ERROR if message is None else {**ERROR, "message": message}
    return Reply(status, json.dumps({"error": error}).encode(), kind="application/json" + ("; retry" if retry else ""))


def _sse(data: Json, event: str | None = None) -> bytes:
    return (f"event: {event}\n" if event else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: ScriptedServer) -> None:
        self.script = script
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected, which some tests do on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        script = self.server.script
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = ReceivedRequest(self.command, self.path, headers, _body_of(raw, headers))
        script.requests.append(request)
        reply = script.answer(request)
        if reply.status == 0:
            self._hang_up()
            return
        self.send_response_only(reply.status)
        self.send_header("x-request-id", REQUEST_ID)
        self.send_header("content-type", reply.kind.removesuffix("; retry"))
        if reply.kind.endswith("; retry"):
            self.send_header("retry-after-ms", "1")
        if reply.pieces is None:
            self.send_header("content-length", str(len(reply.body) + (100 if reply.cut else 0)))
            if reply.hold_after is None:
                self.end_headers()
                self.wfile.write(reply.body)
            else:
                self._hold()
        else:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for number, piece in enumerate(reply.pieces):
                if number == reply.hold_after:
                    self._hold()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if not reply.cut:
                self.wfile.write(b"0\r\n\r\n")
        if reply.cut:
            self._hang_up()

    do_GET = do_POST = _handle  # noqa: N815 - the names that http.server looks for

    def _hold(self) -> None:
        """Wait until the client disconnects, by its timeout or a cancelled task."""
        script = self.server.script
        script.held.set()
        with suppress(OSError):
            while not script.release.is_set() and self.connection.recv(1):
                pass
        raise ConnectionAbortedError

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
