"""Calls that are billed by seconds, pages and messages, with and without tokens, and modalities of Gemini.

Each expected cost is computed by hand, in USD, from the price pages of the provider; read on 2026-12-01.
"""

from __future__ import annotations

from typing import Any

import pytest

from rlm_cachetrack import flush, instrument
from tests.support import realtime_events as events
from tests.support.memory import MemorySink
from tests.support.socket_server import Peer, SocketServer, completed, created, item_done, message
from tests.surfaces.calls import MODES, entering, settled
from tests.surfaces.invoices import HOSTS, LoopbackServer, assert_cost, client_for
from tests.surfaces.sockets import compare, read, resource_of

M = 1_000_000
VOICE = {
    "input_tokens": 90,
    "output_tokens": 60,
    "total_tokens": 150,
    "input_token_details": {"text_tokens": 40, "audio_tokens": 50, "cached_tokens": 0},
    "output_token_details": {"text_tokens": 10, "audio_tokens": 50},
}


def sent(sink: MemorySink, server: LoopbackServer, provider: str, path: str, body: Any, reply: Any) -> dict[str, Any]:
    """Send a request to a path and return its row."""
    server.answer_with(reply)
    with instrument(client_for(server, HOSTS[provider]), store=sink, fingerprints=False) as client:
        client.post(path, body=body, cast_to=object)
    flush(120)
    return sink.row


def transcript(sink: MemorySink, server: LoopbackServer, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    """Transcribe a file with a model of Mistral and return its row."""
    server.answer_with({"model": model, "text": "Done.", "language": "en", "segments": [], "usage": usage})
    with instrument(client_for(server, HOSTS["mistral"]), store=sink, fingerprints=False) as client:
        client.audio.transcriptions.create(model=model, file=("a.mp3", b"bytes", "audio/mpeg"))
    flush(120)
    return sink.row


# $0.003 a minute (https://docs.mistral.ai/models/voxtral-mini-transcribe-26-02); the usage as
# https://docs.rs/crate/rig-core/latest/source/src/providers/mistral/transcription.rs reads it.
def test_a_transcription_of_mistral_is_billed_by_its_length_alone(sink: MemorySink, loopback: LoopbackServer) -> None:
    usage = {"prompt_audio_seconds": 203, "prompt_tokens": 4, "total_tokens": 3_264, "completion_tokens": 635}
    row = transcript(sink, loopback, "voxtral-mini-2602", usage)
    assert_cost(row, 203 / 60 * 0.003)
    assert row["token_details"] == {"seconds": 203}
    assert row["prompt_token_price"] is None


def test_a_chat_about_audio_is_billed_by_length_and_tokens(sink: MemorySink, loopback: LoopbackServer) -> None:
    # $0.10 and $0.40 per 1M tokens, $0.004 a minute (https://docs.mistral.ai/inference/pricing)
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done."}}
    usage = {"prompt_audio_seconds": 90, "prompt_tokens": 1_200, "completion_tokens": 300, "total_tokens": 1_500}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "voxtral-small-2507"}
    body = {"model": "voxtral-small-2507", "messages": [{"role": "user", "content": "hi"}]}
    row = sent(
        sink, loopback, "mistral", "/chat/completions", body, {**reply, "choices": [choice], "usage": usage}
    )  # fmt: skip
    assert_cost(row, (1_200 * 0.10 + 300 * 0.40) / M + 1.5 * 0.004)


@pytest.mark.parametrize(
    ("annotations", "each"),
    [
        ({}, 0.004),
        ({"document_annotation_format": {"type": "json_schema"}}, 0.005),
        ({"bbox_annotation_format": {"type": "json_schema"}}, 0.005),
        ({"document_annotation_format": None}, 0.004),
    ],
)
def test_pages_of_a_document_have_a_price(
    sink: MemorySink, loopback: LoopbackServer, annotations: dict[str, Any], each: float
) -> None:
    # $4 for 1,000 pages, $5 with annotations (https://mistral.ai/pricing#api-pricing)
    body = {"model": "mistral-ocr-latest", "document": {"type": "document_url", "document_url": "x"}, **annotations}
    reply = {"model": "mistral-ocr-4-1", "pages": [], "usage_info": {"pages_processed": 29, "doc_size_bytes": 9_999}}
    row = sent(sink, loopback, "mistral", "/ocr", body, reply)
    assert_cost(row, 29 * each)
    assert (row["api"], row["model"]) == ("ocr", "mistral-ocr-4-1")


@pytest.mark.parametrize("mode", MODES)
def test_a_voice_of_xai_is_billed_by_seconds_and_messages(
    socket_server: SocketServer, sink: MemorySink, mode: str
) -> None:
    # $0.08 a minute and $0.004 for a text message (https://docs.x.ai/developers/pricing#voice-pricing)
    usage = {**VOICE, "billable_audio_seconds": 12.5, "input_text_messages": 3}
    settings = {"type": "realtime", "id": "sess_1", "model": "grok-voice-latest"}

    def script(peer: Peer) -> None:
        peer.send({"type": "session.created", "event_id": "event_1", "session": settings})
        peer.get()
        peer.send(events.created("resp_1"), events.done("resp_1", usage=usage))

    socket_server.script = script

    async def act(client: Any) -> Any:
        async with entering(resource_of(client, "realtime").connect(model="grok-voice-latest")) as connection:
            await settled(connection.response.create())
            return await read(connection, "recv")

    compare(socket_server, sink, mode, act)
    assert_cost(sink.row, 12.5 / 60 * 0.08 + 3 * 0.004)
    assert {charge["item"]: charge["quantity"] for charge in sink.row["charges"]} == {
        "seconds": 12.5,
        "text_messages": 3,
    }


def test_searches_of_perplexity_are_charged_if_it_states_no_cost(sink: MemorySink, loopback: LoopbackServer) -> None:
    # sonar: $0.25 and $2.50 per 1M tokens, $2.50 for 1,000 searches
    # (https://docs.perplexity.ai/docs/agent-api/tools/web-search)
    message = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
    }
    usage = {
        "input_tokens": 1_000,
        "output_tokens": 200,
        "total_tokens": 1_200,
        "tool_calls_details": {"search_web": {"invocation": 3}},
    }
    reply = {"id": "resp", "object": "response", "created_at": 1, "status": "completed", "model": "perplexity/sonar"}
    row = sent(
        sink, loopback, "perplexity", "/v1/responses", {"model": "perplexity/sonar", "input": "hi"},
        {**reply, "output": [message], "usage": usage},
    )  # fmt: skip
    assert_cost(row, (1_000 * 0.25 + 200 * 2.50) / M + 3 * 0.0025)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", [{}, {"output": []}, {"output": None}], ids=["output", "no items", "no output"])
def test_tools_of_a_response_over_a_websocket_are_charged(
    socket_server: SocketServer, sink: MemorySink, mode: str, ending: dict[str, Any]
) -> None:
    # 1,000 x 0.25 + 200 x 2 per 1M, two searches at $0.01 and a file search at $0.0025, all at the standard tier
    # (https://developers.openai.com/api/docs/pricing)
    search = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
    files = {"id": "fs", "type": "file_search_call", "status": "completed", "queries": ["x"], "results": None}
    items = [{"id": "ws_1", **search}, {"id": "ws_2", **search}, files, message()]
    usage = {
        "input_tokens": 1_000,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 200,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1_200,
    }

    def script(peer: Peer) -> None:
        peer.get()
        peer.send(created("resp_1"), *map(item_done, items))
        stated = {"model": "gpt-5-mini", "output": items, "usage": usage, "service_tier": "default"}
        peer.send(completed("resp_1", **{**stated, **ending}))

    socket_server.script = script

    async def act(client: Any) -> Any:
        async with entering(resource_of(client, "responses").connect()) as connection:
            await settled(connection.response.create(model="gpt-5-mini", input="hi"))
            return await read(connection, "recv")

    compare(socket_server, sink, mode, act)
    assert_cost(sink.row, (1_000 * 0.25 + 200 * 2) / M + 2 * 0.01 + 0.0025)
    assert sink.row["cost_excludes"] == ["vector_store_storage"]


def test_tools_of_xai_are_excluded_if_it_states_no_cost(sink: MemorySink, loopback: LoopbackServer) -> None:
    # grok-4.7: $2 and $6 per 1M (https://docs.x.ai/developers/models); a tick is 1e-10 USD
    usage = {"input_tokens": 1_000, "output_tokens": 200, "total_tokens": 1_200, "num_server_side_tools_used": 3}
    reply = {"id": "resp", "object": "response", "created_at": 1, "status": "completed", "model": "grok-4.7"}
    body = {"model": "grok-4.7", "input": "hi"}
    row = sent(sink, loopback, "xai", "/responses", body, {**reply, "output": [message()], "usage": usage})
    assert_cost(row, (1_000 * 2 + 200 * 6) / M)
    assert row["cost_excludes"] == ["server_side_tools"]
    sink.rows.clear()
    stated = {**usage, "cost_in_usd_ticks": 182_000_000}
    row = sent(sink, loopback, "xai", "/responses", body, {**reply, "output": [message()], "usage": stated})
    assert_cost(row, 0.0182)
    assert row["cost_excludes"] is None


def test_embeddings_of_voyage_state_a_total_alone(sink: MemorySink, loopback: LoopbackServer) -> None:
    # voyage-3-large: $0.18 per 1M (https://docs.voyageai.com/docs/pricing)
    data = [{"object": "embedding", "embedding": [0.1], "index": 0}]
    reply = {"object": "list", "data": data, "model": "voyage-3-large", "usage": {"total_tokens": 12_000}}
    loopback.answer_with(reply)
    with instrument(client_for(loopback, "https://api.voyageai.com/v1"), store=sink, fingerprints=False) as client:
        client.embeddings.create(model="voyage-3-large", input="hi", encoding_format="float")
    flush(10)
    assert_cost(sink.row, 12_000 * 0.18 / M)
    assert (sink.row["prompt_tokens"], sink.row["completion_tokens"]) == (12_000, None)
