"""The options of a request that affect price or cache are recorded on every surface with a prompt cache."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rlm_cachetrack import instrument
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.support.socket_server import SocketServer, answer_all
from tests.surfaces import sockets
from tests.surfaces.calls import MODES, Json, Surface, call, cells, client_of, entering, require, run, settled

PROMPT_APIS = ("chat.completions", "responses", "responses.compact", "completions")
SENT: Json = {
    "parallel_tool_calls": False,
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "explicit", "ttl": "12h", "prewarm": True},
    "service_tier": "flex",
    "context_management": [{"type": "compaction", "compact_threshold": 1_000}],
}
OF_THE_API: dict[str, Json] = {
    "chat.completions": {"reasoning_effort": "low", "verbosity": "high"},
    "completions": {"reasoning_effort": "low", "verbosity": "high"},
    "responses": {"reasoning": {"effort": "low"}, "text": {"verbosity": "high"}},
    "responses.compact": {"reasoning": {"effort": "low"}, "text": {"verbosity": "high"}},
}
STORED: Json = {
    "reasoning_effort": "low",
    "verbosity": "high",
    "service_tier": "flex",
    "parallel_tool_calls": False,
    "cache_retention": "24h",
    "cache_ttl": "12h",
    "cache_mode": "explicit",
    "prewarm": True,
    "context_management": True,
}
OF_PRICE_AND_CACHE: list[tuple[str, Any, Json]] = [
    ("service_tier", "flex", {"service_tier": "flex"}),
    ("prompt_cache_retention", "24h", {"cache_retention": "24h"}),
    ("prompt_cache_options", {"ttl": "12h", "prewarm": True}, {"cache_ttl": "12h", "prewarm": True}),
    ("context_management", [{"type": "compaction"}], {"context_management": True}),
    ("cache_control", {"type": "ephemeral", "ttl": "1h"}, {"cache_mode": "automatic", "cache_ttl": "1h"}),
]
CELLS = [cell for cell in cells("plain", "stream") if cell.values[0].api in PROMPT_APIS]


def with_options(surface: Surface) -> Surface:
    """Return a surface whose calls send the options, as a program sends fields that its SDK does not know."""
    from dataclasses import replace

    sent = {**SENT, **OF_THE_API[surface.api]}
    given = surface.arguments
    if surface.method == "post":
        return replace(surface, arguments={**given, "body": {**given["body"], **sent}})
    if surface.method == "parse":  # the SDK sends the response format itself
        sent.pop("text", None)
    return replace(surface, arguments={**given, "extra_body": sent})


@pytest.mark.parametrize("fingerprints", [True, False], ids=["fingerprints", "without"])
@pytest.mark.parametrize(("surface", "mode", "form"), CELLS)
def test_the_options_of_a_request_are_recorded(
    server: ScriptedServer, sink: MemorySink, surface: Surface, mode: str, form: str, fingerprints: bool
) -> None:
    require(surface, form, mode)

    async def act() -> Any:
        client = instrument(client_of(server, mode), store=sink, fingerprints=fingerprints)
        try:
            return await call(client, with_options(surface), form)
        finally:
            await settled(client.close())

    run(mode, act())
    found = dict(sink.row["request_options"])
    has_format = found.pop("text_format", None)
    assert (has_format is not None) == (fingerprints and surface.method == "parse")
    expected = dict(STORED)
    if surface.method == "parse" and surface.api == "responses":
        expected.pop("verbosity")
    assert found == expected


@pytest.mark.parametrize(
    ("field", "value", "stored"), OF_PRICE_AND_CACHE, ids=[field for field, _, _ in OF_PRICE_AND_CACHE]
)
def test_options_of_price_and_cache_do_not_need_the_fingerprint(
    server: ScriptedServer, sink: MemorySink, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, stored: Json
) -> None:
    monkeypatch.setattr("rlm_cachetrack.fingerprint.hash_queue._MAX_WAITING_TOKENS", 0)  # the queue is always full
    with client_of(server, "sync") as client:
        instrument(client, store=sink)
        client.responses.create(model="gpt-5", input="hello", extra_body={field: value})
    assert sink.row["fingerprint"] is None
    assert sink.row["request_options"] == stored


@pytest.mark.parametrize("fingerprints", [True, False], ids=["fingerprints", "without"])
def test_the_options_of_a_request_over_a_websocket_are_recorded(
    socket_server: SocketServer, sink: MemorySink, fingerprints: bool
) -> None:
    socket_server.script = answer_all
    client = instrument(sockets.client_of(socket_server, "sync"), store=sink, fingerprints=fingerprints)

    async def act() -> None:
        async with entering(sockets.resource_of(client, "responses").connect()) as connection:
            request = {"type": "response.create", "model": "gpt-5", "input": "hello", **SENT, **OF_THE_API["responses"]}
            connection.send(request)
            await sockets.read(connection, "recv")

    asyncio.run(act())
    client.close()
    assert sink.row["request_options"] == STORED


def test_a_usual_request_has_no_options(server: ScriptedServer, sink: MemorySink) -> None:
    for fingerprints in (True, False):
        with client_of(server, "sync") as client:
            instrument(client, store=sink, fingerprints=fingerprints)
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    assert [row["request_options"] for row in sink.rows] == [None, None]


@pytest.mark.parametrize("fingerprints", [True, False], ids=["fingerprints", "without"])
@pytest.mark.parametrize("mode", MODES)
def test_preparing_the_cache_over_http_is_a_successful_call(
    server: ScriptedServer, sink: MemorySink, mode: str, fingerprints: bool
) -> None:
    server.usage = {
        "input_tokens": 4000,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 3968},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 4000,
    }
    server.facts = {"output": []}

    async def act() -> None:
        client = instrument(client_of(server, mode), store=sink, fingerprints=fingerprints)
        sent = {"prompt_cache_options": {"prewarm": True, "ttl": "12h"}}
        await settled(client.responses.create(model="gpt-5", input="hello", extra_body=sent))
        await settled(client.close())

    run(mode, act())
    row = sink.row
    assert (row["api"], row["success"], row["error_type"]) == ("responses", True, None)
    assert (row["completion_tokens"], row["cache_write_tokens"]) == (0, 3968)
    assert row["request_options"] == {"prewarm": True, "cache_ttl": "12h"}
    assert "usage" not in (row["metadata"] or {})
