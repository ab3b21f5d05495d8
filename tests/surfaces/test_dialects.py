"""Each dialect as its server sends it, through the real SDK: plain and streamed, sync and async, one record each.

The examples and their expected values are those of ``tests/unit/usage/test_reading.py``.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import instrument
from rlm_cachetrack.usage.reading import TokenUsage
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import BY_NAME, MODES, TOKENS, call, entering, run
from tests.unit.usage.test_reading import READINGS

ADDRESSES = {  # addresses of the providers that select between equal dialects; vLLM has no fixed address
    "voyageai": "https://api.voyageai.com/v1",
    "openai": "https://api.openai.com/v1",
    "azure": "https://someone.openai.azure.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "bedrock": "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1",
}


def rerouted(server: ScriptedServer, mode: str, provider: str | None) -> Any:
    """Return a client of a provider's address whose requests go to the scripted server instead."""
    origin = httpx.URL(server.origin)

    def reroute(request: httpx.Request) -> None:
        path = "/v1/" + request.url.path.rpartition("/v1beta/openai/")[2].rpartition("/v1/")[2]
        request.url = request.url.copy_with(scheme="http", host=origin.host, port=origin.port, path=path)

    class Transport(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            reroute(request)
            return super().handle_request(request)

    class AsyncTransport(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            reroute(request)
            return await super().handle_async_request(request)

    address = ADDRESSES.get(provider or "", server.url)
    if mode == "sync":
        return OpenAI(api_key="k", base_url=address, http_client=httpx.Client(transport=Transport(verify=False)))
    http = httpx.AsyncClient(transport=AsyncTransport(verify=False))
    return AsyncOpenAI(api_key="k", base_url=address, http_client=http)


def examples() -> list[Any]:
    """Return every example in every form that its API has."""
    found = []
    for example in READINGS:
        raw, provider, reading = example.values
        name = "chat.completions.create"
        if reading.dialect in ("embeddings", "voyage"):  # type: ignore[union-attr]
            name = "embeddings.create"
        elif "input_tokens" in raw:  # type: ignore[operator]
            name = "responses.create"
        found += [
            pytest.param(raw, provider, reading, name, form, mode, id=f"{example.id}-{mode}-{form}")
            for form in (("plain",) if name == "embeddings.create" else ("plain", "stream"))
            for mode in MODES
        ]
    return found


def check(row: dict[str, Any], raw: dict[str, Any], reading: TokenUsage) -> None:
    assert {name: row[name] for name in TOKENS} == {name: getattr(reading, name) for name in TOKENS}
    assert row["usage_anomaly"] == reading.anomaly
    assert row["usage"] == raw
    assert row["success"] is True
    if reading.provider_cost_usd is not None:
        assert (row["total_cost"], row["price_source"]) == (pytest.approx(reading.provider_cost_usd), "provider")


@pytest.mark.parametrize(("raw", "provider", "reading", "name", "form", "mode"), examples())
def test_a_dialect_is_read_through_the_sdk(
    server: ScriptedServer,
    sink: MemorySink,
    raw: dict[str, Any],
    provider: str | None,
    reading: TokenUsage,
    name: str,
    form: str,
    mode: str,
) -> None:
    async def act() -> None:
        async with entering(rerouted(server, mode, provider)) as client:
            instrument(client, store=sink)
            await call(client, BY_NAME[name], form)

    server.usage = raw
    run(mode, act())
    check(sink.row, raw, reading)
    if provider in ADDRESSES:
        assert sink.row["provider"] == provider


USAGE_POSITIONS = [
    pytest.param(usage_at, example.values[0], example.values[2], mode, id=f"{usage_at}-{mode}")
    for usage_at, dialect in (("x_groq", "groq"), ("choices[0]", "moonshot"))
    for example in READINGS
    for mode in MODES
    if example.values[2].dialect == dialect  # type: ignore[union-attr]
]


@pytest.mark.parametrize(("usage_at", "raw", "reading", "mode"), USAGE_POSITIONS)
def test_a_usage_is_found_where_a_stream_has_it(
    server: ScriptedServer, sink: MemorySink, usage_at: str, raw: dict[str, Any], reading: TokenUsage, mode: str
) -> None:
    async def act() -> None:
        async with entering(rerouted(server, mode, None)) as client:
            instrument(client, store=sink)
            await call(client, BY_NAME["chat.completions.create"], "stream")

    server.usage, server.usage_at = raw, usage_at
    run(mode, act())
    check(sink.row, raw, reading)
