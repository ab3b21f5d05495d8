"""Invoices of many providers: calls of the real SDK over HTTP to a loopback server in place of the provider's host.

Each expected cost is computed by hand, in USD per 1M tokens, from the price page of the provider as named by the key in
``SOURCES`` or, where the page could not be read, by the list of LiteLLM 1.110.2, which names it; read on 2026-12-01.
"""

from __future__ import annotations

import openai
import pytest

from tests.support.memory import MemorySink
from tests.surfaces.invoices import Invoice, LoopbackServer, assert_cost, audio, chat, heard, recorded, responses

SOURCES = {
    "openai": "https://developers.openai.com/api/docs/pricing",
    "residency": "https://developers.openai.com/api/docs/guides/data-residency",
    "anthropic": "https://platform.claude.com/docs/en/about-claude/pricing",
    "google": "https://ai.google.dev/gemini-api/docs/pricing",
    "xai": "https://docs.x.ai/developers/models",
    "mistral": "https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching, https://mistral.ai/pricing",
    "groq": "https://groq.com/pricing",
    "perplexity": "https://docs.perplexity.ai/getting-started/pricing",
    "openrouter": "https://openrouter.ai/docs/use-cases/usage-accounting",
    "bedrock": "https://aws.amazon.com/bedrock/pricing/",
    # "Commercial In-Region prices include a 10% fee over OpenAI rates"
    "mantle": "https://docs.aws.amazon.com/bedrock/latest/userguide/model-card-openai-gpt-6-astra.html",
    "govcloud": "https://aws.amazon.com/bedrock/pricing/",
    "vertex": "https://cloud.google.com/gemini-enterprise-agent-platform/generative-ai/pricing",
    "azure": "https://prices.azure.com/api/retail/prices (Foundry Models, eastus)",
    "minimax": "https://platform.minimax.io/docs/guides/pricing",
    "novita": "https://novita.ai/pricing",
    "baseten": "https://www.baseten.co/pricing",
    "moonshot": "https://platform.moonshot.ai/docs/pricing/chat",
    "cerebras": "https://www.cerebras.ai/pricing",
    "cohere": "https://cohere.com/pricing",
    "fireworks": "https://fireworks.ai/pricing",
    "together": "https://www.together.ai/pricing",
}
M = 1_000_000


PRIORITY, FLEX = {"service_tier": "priority"}, {"service_tier": "flex"}
SEARCH = {"id": "w", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
FILES = {"id": "f", "type": "file_search_call", "status": "completed", "queries": ["x"], "results": None}
WINDOW = {"background": True, "extra_body": {"background_options": {"completion_window": "8h"}}}

INVOICES = [
    # -- OpenAI: tiers, written tokens, long prompts, region, window, tools, audio, fine-tuned models
    Invoice("openai", "gpt-6.1-terra", chat(7_310, 411, 4_096), (3_214 * 2 + 4_096 * 0.10 + 411 * 10) / M, PRIORITY),
    Invoice("openai", "gpt-6.1-terra", chat(7_310, 411, 4_096), (3_214 * 2 + 4_096 * 0.10 + 411 * 10) / M,
            {"service_tier": "fast"}),
    Invoice("openai", "gpt-6.1-terra", chat(300_001, 999), (300_001 * 1 + 999 * 3.75) / M, FLEX),
    Invoice("openai", "gpt-6.1-terra", chat(280_000, 10), (280_000 * 4 + 10 * 15) / M, PRIORITY),
    Invoice("openai", "gpt-6.1-terra", chat(272_000, 10), (272_000 * 1 + 10 * 5) / M),
    Invoice("openai", "gpt-6.1-sol", responses(9_000, 77, 2_000, 6_500, 4_500),
            (500 * 2 + 2_000 * 0.10 + 4_500 * 5 + 2_000 * 2.50 + 77 * 10) / M),
    Invoice("openai", "gpt-6.1-sol", responses(9_000, 77, 0, 6_500, 6_500),
            (2_500 * 4 + 6_500 * 10 + 77 * 20) / M, PRIORITY),
    Invoice("openai", "gpt-6.1-sol", responses(400_000, 77, 0, 300_000, 300_000),
            (100_000 * 4 + 300_000 * 10 + 77 * 15) / M),
    Invoice("openai", "gpt-6.1-sol", responses(1_000, 100, 0, 0), (1_000 * 12 + 100 * 60) / M,
            {"service_tier": "ultrafast"}),
    Invoice("openai", "gpt-6-astra", chat(50_000, 2_000, 49_920), (80 * 10 + 49_920 * 1 + 2_000 * 50) / M),
    Invoice("openai", "gpt-6-luna", responses(4_000, 900, 1_000, 2_000),
            (1_000 * 0.10 + 1_000 * 0.01 + 2_000 * 0.125 + 900 * 0.50) / M),
    Invoice("openai", "gpt-5.6-luna", chat(273_000, 100, 270_000), (3_000 * 0.40 + 270_000 * 0.04 + 100 * 1.80) / M),
    Invoice("openai", "gpt-5.5", chat(12_345, 678, 12_288), (57 * 12.50 + 12_288 * 1.25 + 678 * 75) / M, PRIORITY),
    Invoice("openai", "gpt-5.4-mini", chat(2_048, 64, 1_024), (1_024 * 0.75 + 1_024 * 0.075 + 64 * 4.50) / M),
    Invoice("openai", "gpt-5.1", chat(2_048, 64, 1_024), (1_024 * 1.25 + 1_024 * 0.125 + 64 * 10) / M),
    Invoice("openai", "gpt-4.1-nano", chat(2_048, 64, 1_024), (1_024 * 0.20 + 1_024 * 0.05 + 64 * 0.80) / M, PRIORITY),
    Invoice("openai", "gpt-4o-2024-08-06", chat(2_048, 64, 1_024), (1_024 * 2.50 + 1_024 * 1.25 + 64 * 10) / M),
    Invoice("openai", "o3-2025-04-16", chat(500, 5_000), (500 * 2 + 5_000 * 8) / M),
    Invoice("openai", "o4-mini", chat(500, 5_000, 256), (244 * 2 + 256 * 0.50 + 5_000 * 8) / M, PRIORITY),
    Invoice("openai", "o1-pro", responses(500, 50), (500 * 150 + 50 * 600) / M),
    Invoice("openai", "ft:gpt-4.1-mini-2025-04-14:acme::a1", chat(3_000, 300, 1_024),
            (1_976 * 0.80 + 1_024 * 0.20 + 300 * 3.20) / M),
    Invoice("openai", "gpt-audio", audio(900, 400, 500, 700),
            (200 * 2.50 + 700 * 32 + 100 * 10 + 400 * 64) / M),
    Invoice("openai", "gpt-audio-mini", audio(900, 400, 500, 700), (200 * 0.60 + 700 * 10 + 100 * 2.40 + 400 * 20) / M),
    Invoice("openai", "gpt-4o-mini-search-preview", chat(333, 44), (333 * 0.15 + 44 * 0.60) / M + 0.025),
    Invoice("openai", "gpt-5-search-api", chat(333, 44), (333 * 1.25 + 44 * 10) / M + 0.010),
    Invoice("openai", "gpt-5.4", responses(6_000, 250), (6_000 * 2.50 + 250 * 15) / M + 3 * 0.010,
            {"output": [SEARCH, SEARCH, SEARCH]}),
    Invoice("openai", "gpt-6.1-terra", responses(6_000, 250), (6_000 * 1 + 250 * 5) / M + 2 * 0.0025,
            {"output": [FILES, FILES]}),
    Invoice("residency", "gpt-6.1-sol", responses(8_000, 500, 4_000, 3_000),
            (1_000 * 2.20 + 4_000 * 0.11 + 3_000 * 2.75 + 500 * 11) / M),
    Invoice("residency", "gpt-5.1", chat(1_000, 500), (1_000 * 1.25 + 500 * 10) / M),
    Invoice("openai", "gpt-6.1-terra", responses(30_000, 700), 0.6 * (30_000 * 1 + 700 * 5) / M, {}, WINDOW),
    # -- Anthropic, directly and behind gateways
    Invoice("anthropic", "claude-sonnet-5-5", chat(1_000, 100), (1_000 * 2 + 100 * 10) / M),
    Invoice("anthropic", "claude-opus-5-5",
            {"prompt_tokens": 21_000, "completion_tokens": 100, "total_tokens": 21_100,
             "cache_read_input_tokens": 10_000, "cache_creation_input_tokens": 10_000,
             "cache_creation": {"ephemeral_5m_input_tokens": 4_000, "ephemeral_1h_input_tokens": 6_000},
             "prompt_tokens_details": {"cached_tokens": 10_000}},
            (1_000 * 4 + 10_000 * 0.20 + 4_000 * 5 + 6_000 * 8 + 100 * 20) / M),
    Invoice("anthropic", "anthropic/claude-haiku-4-5", chat(1_000, 100), (1_000 * 1 + 100 * 5) / M, host="proxy"),
    # -- Gemini: bands of the context, tiers, names with a path
    Invoice("google", "models/gemini-3.1-pro-preview", chat(200_000, 100), (200_000 * 2 + 100 * 12) / M),
    Invoice("google", "gemini-3.1-pro-preview", chat(200_001, 100, 100_000),
            (100_001 * 4 + 100_000 * 0.40 + 100 * 18) / M),
    Invoice("google", "gemini-2.5-pro", chat(10_000, 100, 5_000), (5_000 * 0.625 + 5_000 * 0.125 + 100 * 5) / M, FLEX),
    Invoice("google", "gemini-2.5-pro", chat(250_000, 100, 5_000),
            (245_000 * 4.50 + 5_000 * 0.45 + 100 * 27) / M, PRIORITY),
    Invoice("google", "gemini-2.5-flash-lite", chat(10_000, 100), (10_000 * 0.18 + 100 * 0.72) / M, PRIORITY),
    # -- xAI, Mistral, Groq, Perplexity, Moonshot, Cerebras, Cohere
    Invoice("xai", "grok-4.6", chat(200_001, 100, 1_000), (199_001 * 4 + 1_000 * 1 + 100 * 12) / M),
    Invoice("xai", "grok-4.20-reasoning", chat(1_000, 100, 500), (500 * 1.25 + 500 * 0.20 + 100 * 2.50) / M),
    Invoice("mistral", "mistral-small-latest", chat(1_000, 100, 500), (500 * 0.15 + 500 * 0.015 + 100 * 0.60) / M),
    Invoice("mistral", "devstral-small-latest", chat(1_000, 100, 500), (500 * 0.10 + 500 * 0.010 + 100 * 0.30) / M),
    Invoice("mistral", "mistral-medium", chat(1_000, 100), (1_000 * 1.50 + 100 * 7.50) / M),
    Invoice("groq", "openai/gpt-oss-120b", chat(1_000, 100, 512), (488 * 0.15 + 512 * 0.075 + 100 * 0.60) / M),
    Invoice("perplexity", "sonar-pro", chat(1_000, 100), (1_000 * 3 + 100 * 15) / M + 0.006),
    Invoice("perplexity", "sonar-pro", chat(1_000, 100), (1_000 * 3 + 100 * 15) / M + 0.014, {},
            {"web_search_options": {"search_context_size": "high"}}),
    Invoice("perplexity", "sonar", chat(1_000, 100, cost={"total_cost": 0.00612}), 0.00612),
    Invoice("moonshot", "kimi-k2.5", {**chat(1_000, 100), "cached_tokens": 512},
            (488 * 0.60 + 512 * 0.10 + 100 * 3) / M),
    Invoice("cerebras", "gpt-oss-120b", chat(1_000, 100), (1_000 * 0.35 + 100 * 0.75) / M),
    Invoice("cohere", "command-a-03-2025", chat(1_000, 100), (1_000 * 2.50 + 100 * 10) / M),
    # -- gateways and clouds
    Invoice("openrouter", "anthropic/claude-sonnet-4.5", chat(1_000, 100, cost=0.00123), 0.00123),
    Invoice("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", chat(1_000, 100),
            (1_000 * 3.30 + 100 * 16.50) / M),
    Invoice("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", chat(1_000, 100),
            (1_000 * 3 + 100 * 15) / M),
    Invoice("bedrock", "eu.amazon.nova-pro-v1:0", chat(1_000, 100), (1_000 * 1.05 + 100 * 4.20) / M),
    Invoice("bedrock", "openai.gpt-oss-120b-1:0", chat(1_000, 100), (1_000 * 0.15 + 100 * 0.60) / M),
    # A name without a prefix is served in the region of the endpoint, which costs as much as a profile of a region:
    # 10% more than a global one for models of OpenAI, and for Claude since Sonnet 4.5 (price page of Anthropic).
    Invoice("mantle", "openai.gpt-6-astra", chat(1_000, 100), (1_000 * 11 + 100 * 55) / M),
    Invoice("mantle", "openai.gpt-5.6-sol", chat(1_000, 100), (1_000 * 4.40 + 100 * 22) / M),
    Invoice("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", chat(1_000, 100),
            (1_000 * 3.30 + 100 * 16.50) / M),
    Invoice("bedrock", "anthropic.claude-sonnet-4-20250514-v1:0", chat(1_000, 100), (1_000 * 3 + 100 * 15) / M),
    # GovCloud, by the prefix or by the host
    Invoice("bedrock", "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", chat(1_000, 100),
            (1_000 * 3.60 + 100 * 18) / M),
    Invoice("govcloud", "us-gov.anthropic.claude-opus-5-5", chat(1_000, 100), (1_000 * 4.80 + 100 * 24) / M),
    Invoice("govcloud", "us-gov.amazon.nova-pro-v1:0", chat(1_000, 100), (1_000 * 0.96 + 100 * 3.84) / M),
    Invoice("govcloud", "openai.gpt-5.6-terra", chat(1_000, 100), (1_000 * 2.64 + 100 * 15.84) / M),
    Invoice("govcloud", "openai.gpt-5.4", chat(1_000, 100, 512), (488 * 3.30 + 512 * 0.33 + 100 * 19.80) / M),
    Invoice("govcloud", "anthropic.claude-opus-5-5", chat(1_000, 100), (1_000 * 4.80 + 100 * 24) / M),
    Invoice("govcloud", "anthropic.claude-3-5-sonnet-20240620-v1:0", chat(1_000, 100),
            (1_000 * 3.60 + 100 * 18) / M),
    # Gemini on Vertex AI: regions cost 10% more than the global endpoint, for models since Gemini 3.1 Flash-Lite
    Invoice("vertex", "google/gemini-3.5-flash", chat(1_000, 100), (1_000 * 1.50 + 100 * 9) / M),
    Invoice("vertex", "google/gemini-3.5-flash", chat(1_000, 100), (1_000 * 1.65 + 100 * 9.90) / M, host="region"),
    Invoice("vertex", "google/gemini-3.5-flash", chat(1_000, 100), (1_000 * 1.65 + 100 * 9.90) / M, host="regions"),
    Invoice("vertex", "google/gemini-2.5-flash", chat(1_000, 100), (1_000 * 0.30 + 100 * 2.50) / M, host="region"),
    Invoice("azure", "gpt-5.4-2026-03-05", chat(1_000, 100, 512), (488 * 2.50 + 512 * 0.25 + 100 * 15) / M),
    Invoice("azure", "deepseek-v4-pro", chat(1_000, 100, 512), (488 * 1.74 + 512 * 0.145 + 100 * 3.48) / M),
    Invoice("azure", "gpt-oss-120b", chat(1_000, 100), (1_000 * 0.15 + 100 * 0.60) / M),
    Invoice("azure", "deepseek-v9", chat(1_000, 100), None),
    Invoice("minimax", "MiniMax-M3", chat(513_000, 100, 512), (512_488 * 0.60 + 512 * 0.12 + 100 * 2.40) / M),
    Invoice("novita", "zai-org/glm-4.6", chat(1_000, 100, 512), (488 * 0.55 + 512 * 0.11 + 100 * 2.20) / M),
    Invoice("baseten", "zai-org/GLM-4.7", chat(1_000, 100, 512), (488 * 0.60 + 512 * 0.12 + 100 * 2.20) / M),
    Invoice("fireworks", "accounts/fireworks/models/gpt-oss-120b", chat(1_000, 100, 512),
            (488 * 0.15 + 512 * 0.015 + 100 * 0.60) / M),
    Invoice("together", "openai/gpt-oss-120b", chat(1_000, 100), (1_000 * 0.15 + 100 * 0.60) / M),
    # -- what the list of models or of components had lacked: audio at the rate of text, long prompts at Batch and Flex,
    #    tiers of Azure, long prompts of Grok on Azure, models of November 2026
    Invoice("google", "gemini-2.5-pro", audio(1_000, 0, 100, 600), (1_000 * 1.25 + 100 * 10) / M),
    Invoice("google", "gemini-2.5-pro", audio(200_001, 0, 100, 600), (200_001 * 2.50 + 100 * 15) / M),
    Invoice("google", "gemini-2.5-pro", chat(200_000, 100), (200_000 * 1.25 + 100 * 10) / M),
    Invoice("google", "gemini-3.8-flash", heard(1_000, 100, 600, 500, 300),
            (500 * 0.75 + 500 * 0.075 + 100 * 3.75) / M),
    Invoice("google", "gemini-2.5-flash", heard(1_000, 100, 600, 500, 300),
            (200 * 0.30 + 300 * 1 + 200 * 0.03 + 300 * 0.10 + 100 * 2.50) / M),
    Invoice("google", "gemini-2.5-flash", heard(1_000, 100, 600, 500, 300),
            (200 * 0.15 + 300 * 0.50 + 200 * 0.03 + 300 * 0.10 + 100 * 1.25) / M, FLEX),
    Invoice("google", "gemini-4-hydrogen", chat(1_000, 100, 400), (600 * 1.50 + 400 * 0.075 + 100 * 7.50) / M),
    Invoice("vertex", "google/gemini-4-hydrogen", chat(1_000, 100, 400),
            (600 * 1.50 + 400 * 0.075 + 100 * 7.50) * 1.1 / M, host="region"),
    Invoice("openai", "gpt-realtime", heard(1_000, 300, 600, 500, 400, 200),
            (300 * 4 + 200 * 32 + 100 * 0.40 + 400 * 0.40 + 100 * 16 + 200 * 64) / M),
    Invoice("openai", "gpt-realtime-mini", heard(1_000, 300, 600, 500, 400, 200),
            (300 * 0.60 + 200 * 10 + 100 * 0.06 + 400 * 0.30 + 100 * 2.40 + 200 * 20) / M),
    Invoice("residency", "gpt-realtime-2.1", audio(1_000, 200, 300, 600),
            (400 * 4 + 600 * 32 + 100 * 24 + 200 * 64) * 1.1 / M),
    Invoice("openai", "gpt-5.5-pro", responses(300_000, 100), (300_000 * 30 + 100 * 135) / M, FLEX),
    Invoice("openai", "gpt-6.2-astra", responses(10_000, 100, 2_000, 7_000, 3_000),
            (1_000 * 8 + 2_000 * 0.40 + 4_000 * 10 + 3_000 * 20 + 100 * 40) / M),
    Invoice("openai", "gpt-6.2-astra", responses(272_001, 100), (272_001 * 16 + 100 * 60) / M),
    Invoice("openai", "gpt-daybreak-blue-latest", chat(1_000, 100, 500), (500 * 4 + 500 * 0.40 + 100 * 20) / M),
    Invoice("azure", "gpt-5-mini", chat(1_000, 100, 500), (500 * 0.45 + 500 * 0.045 + 100 * 3.60) / M, PRIORITY),
    Invoice("azure", "gpt-6.1-sol", chat(1_000, 100, 500), (500 * 1 + 500 * 0.05 + 100 * 5) / M, FLEX),
    Invoice("azure", "grok-4.3", chat(200_001, 100, 500), (199_501 * 2.50 + 500 * 0.40 + 100 * 5) / M),
    Invoice("azure", "ft:gpt-4.1-mini-2025-04-14:a::b", chat(2_000, 100, 1_024),
            (976 * 0.80 + 1_024 * 0.20 + 100 * 3.20) / M),
    Invoice("xai", "grok-build-latest", chat(200_001, 100), (200_001 * 4 + 100 * 12) / M),
    Invoice("minimax", "MiniMax-M2.5-lightning", chat(10_000, 100, 8_000),
            (2_000 * 0.30 + 8_000 * 0.03 + 100 * 2.40) / M),
    Invoice("minimax", "MiniMax-M3", chat(512_000, 100), (512_000 * 0.30 + 100 * 1.20) / M),
    Invoice("bedrock", "us.anthropic.claude-opus-5-5",
            chat(20_100, 100, cache_creation_input_tokens=20_000,
                 cache_creation={"ephemeral_1h_input_tokens": 20_000}),
            (100 * 4.40 + 20_000 * 8.80 + 100 * 22) / M),
    # -- names behind a proxy
    Invoice("openai", "openai/gpt-6.1-terra", chat(1_000, 100), (1_000 * 1 + 100 * 5) / M, host="proxy"),
    Invoice("google", "gemini/gemini-2.5-pro", chat(1_000, 100), (1_000 * 1.25 + 100 * 10) / M, host="proxy"),
    Invoice("groq", "groq/openai/gpt-oss-120b", chat(1_000, 100), (1_000 * 0.15 + 100 * 0.60) / M, host="proxy"),
    Invoice("azure", "azure/gpt-5.4", chat(1_000, 100), (1_000 * 2.50 + 100 * 15) / M, host="proxy"),
    Invoice("openai", "openai/gpt-oss-120b", chat(1_000, 100), None, host="proxy"),
]  # fmt: skip


@pytest.mark.skipif(
    tuple(map(int, openai.__version__.split(".")[:2])) < (2, 0), reason="tools as typed in openai 2 and later"
)
@pytest.mark.parametrize(
    "invoice", INVOICES, ids=[f"{number:02}-{one.source}-{one.model}" for number, one in enumerate(INVOICES)]
)
def test_the_recorded_cost_is_that_of_the_invoice(sink: MemorySink, loopback: LoopbackServer, invoice: Invoice) -> None:
    assert_cost(recorded(sink, loopback, invoice), invoice.total)
