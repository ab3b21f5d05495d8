"""Send calls of the real SDK over HTTP to a loopback server in place of the provider's host, and read their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import MappingProxyType
from typing import Any, NamedTuple

import openai
import pytest

from rlm_cachetrack import flush, instrument
from tests.support.memory import MemorySink
from tests.support.transport import httpx

HOSTS = {
    "openai": "https://api.openai.com/v1",
    "residency": "https://eu.api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai",
    "xai": "https://api.x.ai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "perplexity": "https://api.perplexity.ai",
    "openrouter": "https://openrouter.ai/api/v1",
    "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1",
    "mantle": "https://bedrock-mantle.us-east-2.api.aws/openai/v1",
    "govcloud": "https://bedrock-mantle.us-gov-west-1.api.aws/openai/v1",
    "vertex": "https://aiplatform.googleapis.com/v1/projects/acme/locations/global/endpoints/openapi",
    "region": "https://europe-west4-aiplatform.googleapis.com/v1/projects/acme/locations/europe-west4/endpoints/openapi",
    "regions": "https://aiplatform.eu.rep.googleapis.com/v1/projects/acme/locations/eu/endpoints/openapi",
    "azure": "https://acme.openai.azure.com/openai/v1",
    "minimax": "https://api.minimax.io/v1",
    "novita": "https://api.novita.ai/openai/v1",
    "baseten": "https://inference.baseten.co/v1",
    "moonshot": "https://api.moonshot.ai/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "cohere": "https://api.cohere.ai/compatibility/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "together": "https://api.together.xyz/v1",
    "proxy": "http://litellm.internal:4000",
}


class Invoice(NamedTuple):
    """A call: its price page or host, model, usage as the server sends it, cost in USD, and other fields."""

    source: str
    model: str
    usage: dict[str, Any]
    total: float | None
    fields: Mapping[str, Any] = MappingProxyType({})
    request: Mapping[str, Any] = MappingProxyType({})
    host: str | None = None


def chat(prompt: int, completion: int, cached: int = 0, **more: Any) -> dict[str, Any]:
    given = {"cached_tokens": cached, **more.pop("given", {})}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": given,
        **more,
    }


def responses(prompt: int, completion: int, cached: int = 0, written: int = 0, long: int = 0) -> dict[str, Any]:
    details: dict[str, Any] = {"cached_tokens": cached, "cache_write_tokens": written}
    if long:
        details["cache_write_tokens_details"] = {"ttl_12h_tokens": long, "ttl_30m_tokens": written - long}
    return {
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        "input_tokens_details": details,
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def heard(prompt: int, completion: int, audio: int, cached: int, from_cache: int, spoken: int = 0) -> dict[str, Any]:
    """Return a usage with ``audio`` tokens in the prompt, of which ``from_cache`` are among the cached ones."""
    details = {"audio_tokens": from_cache, "text_tokens": cached - from_cache}
    given = {"audio_tokens": audio, "cached_tokens_details": details}
    return chat(prompt, completion, cached, given=given, completion_tokens_details={"audio_tokens": spoken})


def audio(prompt: int, spoken: int, completion: int, heard: int) -> dict[str, Any]:
    return chat(prompt, completion, given={"audio_tokens": heard}, completion_tokens_details={"audio_tokens": spoken})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(self.server.reply).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


class LoopbackServer:
    """A server that responds to every request with ``reply``."""

    def __init__(self) -> None:
        self._server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.port: int = self._server.server_port

    def __enter__(self) -> LoopbackServer:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer_with(self, reply: dict[str, Any]) -> None:
        """Set the body of the responses."""
        self._server.reply = reply


class _Redirected(httpx.HTTPTransport):  # type: ignore[misc]
    """Sends requests for any host to the loopback server."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def handle_request(self, request: Any) -> Any:
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return super().handle_request(request)


def _reply_to(invoice: Invoice) -> dict[str, Any]:
    message = {
        "id": "msg", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
    }  # fmt: skip
    if "input_tokens" in invoice.usage:
        reply = {
            "id": "resp", "object": "response", "created_at": 1_764_550_000, "status": "completed",
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], **invoice.fields,
            "output": [*invoice.fields.get("output", ()), message],
        }  # fmt: skip
    else:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done."}}
        reply = {
            "id": "chat", "object": "chat.completion", "created": 1_764_550_000, "choices": [choice], **invoice.fields
        }  # fmt: skip
    return {**reply, "model": invoice.model, "usage": invoice.usage}


def client_for(server: LoopbackServer, base_url: str) -> openai.OpenAI:
    """Return a client of ``base_url`` whose requests go to the loopback server."""
    http_client = httpx.Client(transport=_Redirected(server.port))
    return openai.OpenAI(api_key="sk-test", base_url=base_url, http_client=http_client, max_retries=0)


def recorded(sink: MemorySink, server: LoopbackServer, invoice: Invoice) -> dict[str, Any]:
    """Make the call of an invoice and return its row."""
    server.answer_with(_reply_to(invoice))
    client = client_for(server, HOSTS[invoice.host or invoice.source])
    instrument(client, store=sink, fingerprints=False)
    with client:
        if "input_tokens" in invoice.usage:
            client.responses.create(model=invoice.model, input="hi", **invoice.request)
        else:
            client.chat.completions.create(
                model=invoice.model, messages=[{"role": "user", "content": "hi"}], **invoice.request
            )
    row = sink.row
    flush(120)
    return row


def assert_cost(row: dict[str, Any], total: float | None) -> None:
    """Assert that a row has the cost of an invoice; None: the row is unpriced and names the missing price."""
    if total is None:
        assert row["total_cost"] is None
        assert row["unpriced_reason"].startswith("no price for ")
    else:
        assert row["unpriced_reason"] is None
        assert row["total_cost"] == pytest.approx(total, rel=0, abs=1e-9)
