"""Claude through compatible endpoints: region and speed, as the request asks for them and as in the usage.

Prices in USD per 1M tokens: https://platform.claude.com/docs/en/about-claude/pricing; US-only inference costs 1.1 times
as much in every category of tokens: https://platform.claude.com/docs/en/manage-claude/data-residency; fast mode:
https://platform.claude.com/docs/en/build-with-claude/fast-mode. Read on 2026-12-01.
"""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from rlm_cachetrack import flush, instrument
from tests.support.memory import MemorySink
from tests.support.transport import httpx
from tests.surfaces.invoices import Invoice, LoopbackServer, assert_cost, chat, recorded

M = 1_000_000
PROXY, OPUS, SONNET = "proxy", "claude-opus-5-5", "claude-sonnet-5-5"
# claude-opus-5-5, 1,000 plain, 6,000 cached and 3,000 written input tokens, 500 output tokens
TOKENS = (1_000 * 4 + 6_000 * 0.20 + 3_000 * 5 + 500 * 20) / M
US, FAST = {"inference_geo": "us"}, {"speed": "fast"}


def claude(**more: Any) -> dict[str, Any]:
    """Return a usage as LiteLLM sends it for Claude."""
    return chat(10_000, 500, 6_000, cache_creation_input_tokens=3_000, cache_read_input_tokens=6_000, **more)


def asked(**fields: str) -> dict[str, Any]:
    return {"extra_body": fields}


HOUR = {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 3_000}}
SEARCHES = {"server_tool_use": {"web_search_requests": 2}}

CODE = {"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 2, "code_execution_requests": 1}}

# the invoice and the request options of its row
CASES = {
    "global": (Invoice(PROXY, OPUS, claude(inference_geo="global", speed="standard"), TOKENS), None),
    "not available": (Invoice(PROXY, OPUS, claude(inference_geo="not_available"), TOKENS), None),
    "us": (Invoice(PROXY, OPUS, claude(**US), TOKENS * 1.1), {"region": "us"}),
    "us by its vendor's prefix": (
        Invoice(PROXY, f"anthropic/{OPUS}", claude(**US), TOKENS * 1.1),
        {"region": "us"},
    ),
    "us at Anthropic's own host": (Invoice("anthropic", OPUS, claude(**US), TOKENS * 1.1), {"region": "us"}),
    "us, written for an hour": (
        Invoice(PROXY, OPUS, claude(**US, **HOUR), (1_000 * 4 + 6_000 * 0.20 + 3_000 * 8 + 500 * 20) * 1.1 / M),
        {"region": "us"},
    ),
    "us, the fee of a search is the same": (
        Invoice(PROXY, OPUS, claude(**US, **SEARCHES), TOKENS * 1.1 + 2 * 0.01),
        {"region": "us"},
    ),
    "us, claude-opus-4-6": (
        Invoice(PROXY, "claude-opus-4-6", chat(10_000, 500, **US), (10_000 * 5 + 500 * 25) * 1.1 / M),
        {"region": "us"},
    ),
    "us, a model that only our supplement has": (
        Invoice(
            PROXY, "claude-mythos-5-1", claude(**US), (1_000 * 10 + 6_000 * 0.25 + 3_000 * 12.50 + 500 * 50) * 1.1 / M
        ),
        {"region": "us"},
    ),
    "us, before Opus 4.6": (
        Invoice(PROXY, "claude-sonnet-4-5", chat(10_000, 500, **US), (10_000 * 3 + 500 * 15) / M),
        {"region": "us"},
    ),
    "fast": (Invoice(PROXY, OPUS, claude(**FAST), TOKENS * 2), {"speed": "fast"}),
    "fast, claude-opus-4-6": (
        Invoice(PROXY, "claude-opus-4-6", chat(10_000, 500, **FAST), (10_000 * 30 + 500 * 150) / M),
        {"speed": "fast"},
    ),
    "fast and us": (
        Invoice(PROXY, OPUS, claude(**FAST, **US), TOKENS * 2 * 1.1),
        {"speed": "fast", "region": "us"},
    ),
    "fast without a price": (Invoice(PROXY, SONNET, claude(**FAST), None), {"speed": "fast"}),
    "fast by the name, Foundry": (
        Invoice("azure", f"{OPUS}-fast", chat(10_000, 500), (10_000 * 8 + 500 * 40) / M),
        None,
    ),
    "fast by the name, which the list takes for the standard speed": (
        Invoice("azure", "claude-opus-4-8-fast", chat(10_000, 500), (10_000 * 10 + 500 * 50) / M),
        None,
    ),
    "fast by the name, a gateway": (
        Invoice("openrouter", "anthropic/claude-opus-5.5-fast", chat(10_000, 500), (10_000 * 8 + 500 * 40) / M),
        None,
    ),
    "asked for us": (Invoice(PROXY, OPUS, claude(), TOKENS * 1.1, request=asked(**US)), {"region": "us"}),
    "asked for fast": (Invoice(PROXY, OPUS, claude(), TOKENS * 2, request=asked(**FAST)), {"speed": "fast"}),
    "asked for both, served otherwise": (
        Invoice(PROXY, OPUS, claude(inference_geo="global", speed="standard"), TOKENS, request=asked(**US, **FAST)),
        None,
    ),
    "asked another model": (
        Invoice("openai", "gpt-6.1-terra", chat(1_000, 200), 0.002, request=asked(**US, **FAST)),
        None,
    ),
    # "The inference_geo parameter is also not available via the OpenAI SDK compatibility endpoint", which ignores it.
    "asked Anthropic's own host": (Invoice("anthropic", OPUS, claude(), TOKENS, request=asked(**US, **FAST)), None),
}


@pytest.mark.parametrize(("invoice", "options"), CASES.values(), ids=CASES.keys())
def test_region_and_speed_decide_the_cost(
    sink: MemorySink, loopback: LoopbackServer, invoice: Invoice, options: dict[str, str] | None
) -> None:
    row = recorded(sink, loopback, invoice)
    assert_cost(row, invoice.total)
    assert row["request_options"] == options


def test_code_execution_is_billed_apart(sink: MemorySink, loopback: LoopbackServer) -> None:
    row = recorded(sink, loopback, Invoice(PROXY, OPUS, claude(**CODE), None))
    assert_cost(row, TOKENS + 0.01)  # a search; fetching a page is free
    assert row["cost_excludes"] == ["code_execution"]


def test_a_speed_without_a_price_is_named(sink: MemorySink, loopback: LoopbackServer) -> None:
    row = recorded(sink, loopback, Invoice(PROXY, SONNET, claude(**FAST), None))
    assert row["unpriced_reason"] == f"no price for speed fast of {SONNET}"


def test_the_last_chunk_of_a_stream_states_the_speed(sink: MemorySink) -> None:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1_764_550_000, "model": OPUS}
    text = {**head, "choices": [{"index": 0, "delta": {"content": "Done."}, "finish_reason": "stop"}]}
    last = {**head, "choices": [], "usage": claude(**FAST)}
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (text, last)) + "data: [DONE]\n\n"

    def answer(_: Any) -> Any:
        return httpx.Response(200, content=body.encode(), headers={"content-type": "text/event-stream"})

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    client = openai.OpenAI(api_key="sk-test", base_url="http://litellm.internal:4000", http_client=http_client)
    instrument(client, store=sink, fingerprints=False)
    list(client.chat.completions.create(model=OPUS, messages=[{"role": "user", "content": "hi"}], stream=True))
    flush(120)
    assert_cost(sink.row, TOKENS * 2)
