"""The cost of calls and records equals their invoice, computed by hand, to 1e-12 USD.

The responses come from a server in this file; their bodies have the format of the providers.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openai import AzureOpenAI, OpenAI

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, instrument, query_run

PRICES = """\
version: 1
per: 1M
models:
  half: {prompt: 2.5, cached: 1.25, completion: 10}
  gpt-4.1: {prompt: 2, cached: 0.5, completion: 8}
  gpt-5:
    prompt: 1.25
    cached: 0.125
    completion: 10
    tiers: {flex: 0.5, batch: 0.5, priority: {prompt: 2.5, cached: 0.25, completion: 20}}
  gpt-5.6-sol: {prompt: 4, cached: 0.4, cache_write: 5, completion: 20}
  gpt-5.4:
    prompt: 2.5
    cached: 0.25
    completion: 15
    above: {272000: {prompt: 5, cached: 0.5, completion: 22.5}}
    tiers: {flex: 0.5}
  grok-4: {prompt: 3, cached: 0.75, completion: 15}
"""
DEPLOYMENTS = """\
version: 1
per: 1M
models:
  gpt-5.6-sol:
    prompt: 5
    cached: 0.5
    cache_write: 6.25
    completion: 30
    above: {272000: {prompt: 10, cached: 1, cache_write: 12.5, completion: 45}}
    tiers: {flex: 0.5, priority: 2}
  our-deployment:
    - {valid_to: 2026-01-01, alias: gpt-4.1}
    - {valid_from: 2026-01-01, alias: gpt-5.6-sol}
discounts: {azure: 0.93}
"""


class Provider:
    """A server that returns the response that a test sets."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps(outer.answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    yield server
    server.close()


def chat(model: str, usage: dict[str, Any], tier: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": "ok"}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    return answer if tier is None else {**answer, "service_tier": tier}


def tokens(prompt: int, completion: int, cached: int, written: int | None = None, **more: Any) -> dict[str, Any]:
    details = {"cached_tokens": cached} if written is None else {"cached_tokens": cached, "cache_write_tokens": written}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
        **more,
    }


# (answer, asked tier, total, original, prices per 1M, source); the arithmetic stands above each, in USD per 1M tokens.
INVOICES = {
    # 2,000 x 2.50 + 8,000 x 1.25 + 500 x 10; without the cache 10,000 x 2.50 + 500 x 10
    "50 % off": (chat("half", tokens(10_000, 500, 8_000)), None, 0.020, 0.030, (2.5, 1.25, 2.5, 10), "yaml"),
    # 2,000 x 2 + 8,000 x 0.50 + 500 x 8; 10,000 x 2 + 500 x 8
    "75 % off": (chat("gpt-4.1", tokens(10_000, 500, 8_000)), None, 0.012, 0.024, (2, 0.5, 2, 8), "yaml"),
    # 2,000 x 1.25 + 8,000 x 0.125 + 500 x 10; 10,000 x 1.25 + 500 x 10
    "90 % off, a snapshot": (
        chat("gpt-5-2025-08-07", tokens(10_000, 500, 8_000), "default"),
        "auto",
        0.0085,
        0.0175,
        (1.25, 0.125, 1.25, 10),
        "yaml",
    ),
    # 1,000 x 4 + 6,000 x 0.40 + 3,000 x 5 + 500 x 20; 10,000 x 4 + 500 x 20
    "a write premium": (
        chat("gpt-5.6-sol", tokens(10_000, 500, 6_000, 3_000)),
        None,
        0.0314,
        0.050,
        (4, 0.4, 5, 20),
        "yaml",
    ),
    # flex was served, at half of all prices
    "flex": (
        chat("gpt-5", tokens(10_000, 500, 8_000), "flex"),
        "flex",
        0.00425,
        0.00875,
        (0.625, 0.0625, 0.625, 5),
        "yaml",
    ),
    # flex was requested, but the default tier was served and is billed
    "served, not asked": (
        chat("gpt-5", tokens(10_000, 500, 8_000), "default"),
        "flex",
        0.0085,
        0.0175,
        (1.25, 0.125, 1.25, 10),
        "yaml",
    ),
    # 2,000 x 2.50 + 8,000 x 0.25 + 500 x 20; 10,000 x 2.50 + 500 x 20
    "priority": (
        chat("gpt-5", tokens(10_000, 500, 8_000), "priority"),
        "priority",
        0.017,
        0.035,
        (2.5, 0.25, 2.5, 20),
        "yaml",
    ),
    # 72,000 x 2.50 + 200,000 x 0.25 + 1,000 x 15; 272,000 x 2.50 + 1,000 x 15
    "272,000 tokens": (
        chat("gpt-5.4", tokens(272_000, 1_000, 200_000)),
        None,
        0.245,
        0.695,
        (2.5, 0.25, 2.5, 15),
        "yaml",
    ),
    # 72,001 x 5 + 200,000 x 0.50 + 1,000 x 22.50; 272,001 x 5 + 1,000 x 22.50
    "272,001 tokens": (
        chat("gpt-5.4", tokens(272_001, 1_000, 200_000)),
        None,
        0.482505,
        1.382505,
        (5, 0.5, 5, 22.5),
        "yaml",
    ),
    # the same at flex: half of it
    "272,001 tokens at flex": (
        chat("gpt-5.4", tokens(272_001, 1_000, 200_000), "flex"),
        "flex",
        0.2412525,
        0.6912525,
        (2.5, 0.25, 2.5, 11.25),
        "yaml",
    ),
    # OpenRouter returns 0.0123; the original cost adds the table's difference: 8,000 x (1.25 - 0.125)
    "OpenRouter's cost": (
        chat("gpt-5", tokens(10_000, 500, 8_000, cost=0.0123, is_byok=False)),
        None,
        0.0123,
        0.0123 + 0.009,
        (1.25, 0.125, 1.25, 10),
        "provider",
    ),
    # with the caller's own key: OpenRouter's fee of 0.0005 plus 0.0100 of the upstream provider
    "OpenRouter with one's own key": (
        chat(
            "gpt-5",
            tokens(10_000, 500, 8_000, cost=0.0005, is_byok=True, cost_details={"upstream_inference_cost": 0.01}),
        ),
        None,
        0.0105,
        0.0195,
        (1.25, 0.125, 1.25, 10),
        "provider",
    ),
    # 158,500,000 ticks of 1e-10 USD; for the original cost, 1,000 cached tokens x 2.25 per 1M: + 0.00225
    "xAI's ticks": (
        chat("grok-4", tokens(3_000, 200, 1_000, cost_in_usd_ticks=158_500_000, num_sources_used=0)),
        None,
        0.01585,
        0.0181,
        (3, 0.75, 3, 15),
        "provider",
    ),
    # in no price list
    "an unknown model": (chat("nobody-lists-it", tokens(10, 5, 0)), None, None, None, (None,) * 4, None),
    # a known model at an unknown tier
    "a tier without a price": (
        chat("gpt-4.1", tokens(10, 5, 0), "priority"),
        "priority",
        None,
        None,
        (None,) * 4,
        None,
    ),
}


@pytest.mark.parametrize(("answer", "asked", "total", "original", "prices", "source"), INVOICES.values(), ids=INVOICES)
def test_a_call_costs_the_amount_of_its_invoice_and_keeps_its_prices(
    reused_db_url: str,
    provider: Provider,
    tmp_path: Path,
    answer: dict[str, Any],
    asked: Any,
    total: float | None,
    original: float | None,
    prices: tuple[float | None, ...],
    source: str | None,
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    provider.answer = answer
    more = {} if asked is None else {"service_tier": asked}
    with OpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as openai:
        instrument(openai, store=reused_db_url, pricing=path)
        with query_run("invoice") as run:
            openai.chat.completions.create(model="asked", messages=[{"role": "user", "content": "hi"}], **more)
        with TimescaleDBClient(reused_db_url) as db:
            (row,) = db.get_llm_interactions(run.query_id, run.run_id)
            summary = db.get_token_cache_summary(run.query_id, run.run_id)
    kept = [row[f"{kind}_price"] for kind in ("prompt_token", "cached_token", "cache_write_token", "completion_token")]
    assert kept == [None if price is None else pytest.approx(price / 1_000, rel=1e-12) for price in prices]
    assert (row["price_source"] or "").partition(":")[0] == (source or "")
    assert summary is not None
    if total is None:
        assert (row["total_cost"], row["original_cost"], row["price_source"]) == (None, None, None)
        assert (summary["total_cost"], summary["unpriced_interactions"]) == (None, 1)
        return
    assert row["total_cost"] == pytest.approx(total, abs=1e-12)
    assert row["original_cost"] == pytest.approx(original, abs=1e-12)
    assert (summary["total_cost"], summary["unpriced_interactions"]) == (pytest.approx(total, abs=1e-12), 0)
    if source == "yaml":  # the cost can be computed from the row alone
        written = row["cache_write_tokens"] or 0
        plain = row["prompt_tokens"] - row["cached_tokens"] - written
        counts = (plain, row["cached_tokens"], written, row["completion_tokens"])
        recomputed = sum(count * price for count, price in zip(counts, kept, strict=True)) / 1_000
        assert recomputed == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("prompt", "tier", "total", "original"),
    [
        # 0.93 x (2,000 x 5 + 5,000 x 0.50 + 3,000 x 6.25 + 500 x 30); 0.93 x (10,000 x 5 + 500 x 30)
        (10_000, None, 0.0430125, 0.06045),
        # 0.93 x 2 x the same
        (10_000, "priority", 0.086025, 0.1209),
        # 0.93 x 0.5 x (264,001 x 10 + 5,000 x 1 + 3,000 x 12.50 + 500 x 45); 0.93 x 0.5 x (272,001 x 10 + 500 x 45)
        (272_001, "flex", 1.25782965, 1.27526715),
    ],
)
def test_an_azure_deployment_costs_its_model_minus_the_discount(
    reused_db_url: str,
    provider: Provider,
    tmp_path: Path,
    prompt: int,
    tier: str | None,
    total: float,
    original: float,
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(DEPLOYMENTS)
    provider.answer = chat("our-deployment", tokens(prompt, 500, 5_000, 3_000), tier)
    endpoint = provider.base_url.removesuffix("/v1")
    with AzureOpenAI(azure_endpoint=endpoint, api_version="2026-01-01", api_key="k", max_retries=0) as azure:
        instrument(azure, store=reused_db_url, pricing=path)
        with query_run("deployment") as run:
            azure.chat.completions.create(model="our-deployment", messages=[{"role": "user", "content": "hi"}])
        with TimescaleDBClient(reused_db_url) as db:
            (row,) = db.get_llm_interactions(run.query_id, run.run_id)
    assert row["provider"] == "azure"
    assert row["total_cost"] == pytest.approx(total, abs=1e-12)
    assert row["original_cost"] == pytest.approx(original, abs=1e-12)


# (model, tier, moment, prompt, completion, cached, written, total, original), by the built-in table's dated prices
DATED = [
    # the day before the price fell: 1,000 x 5 + 6,000 x 0.50 + 3,000 x 6.25 + 500 x 30
    ("gpt-5.6-sol", None, datetime(2026, 8, 20, 23, 59, tzinfo=UTC), 10_000, 500, 6_000, 3_000, 0.04175, 0.065),
    # after it: 1,000 x 4 + 6,000 x 0.40 + 3,000 x 5 + 500 x 20
    ("gpt-5.6-sol", None, datetime(2026, 11, 1, tzinfo=UTC), 10_000, 500, 6_000, 3_000, 0.0314, 0.050),
    # o3: 10,000 x 10 + 500 x 40 until 2025-06-09, then 10,000 x 2 + 500 x 8
    ("o3", None, datetime(2025, 6, 9, 23, 59, tzinfo=UTC), 10_000, 500, 0, None, 0.120, 0.120),
    ("o3", None, datetime(2025, 6, 10, tzinfo=UTC), 10_000, 500, 0, None, 0.024, 0.024),
    # the Batch API: 2,000 x 0.625 + 8,000 x 0.0625 + 500 x 5
    ("gpt-5", "batch", datetime(2026, 11, 1, tzinfo=UTC), 10_000, 500, 8_000, None, 0.00425, 0.00875),
]


@pytest.mark.parametrize(
    ("model", "tier", "at", "prompt", "completion", "cached", "written", "total", "original"), DATED
)
def test_a_call_has_the_price_of_its_day(
    reused_db_url: str,
    model: str,
    tier: str | None,
    at: datetime,
    prompt: int,
    completion: int,
    cached: int,
    written: int | None,
    total: float,
    original: float,
) -> None:
    record = LLMInteractionRecord(
        "dated",
        at,
        model,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        service_tier=tier,
        provider="openai",
        start_time=at,
    )
    with TimescaleDBClient(reused_db_url) as db:
        db.record_llm_interaction(record)
        (row,) = db.get_llm_interactions("dated", at)
    assert row["total_cost"] == pytest.approx(total, abs=1e-12)
    assert row["original_cost"] == pytest.approx(original, abs=1e-12)
    assert row["price_source"].startswith("genai-prices:")


CHANGING = """\
version: 1
per: 1M
models:
  written:
    - valid_to: 2026-06-01
      prompt: 5
      cached: 0.5
      cache_write: 6.25
      completion: 30
      above: {272000: {prompt: 10, cached: 1, cache_write: 12.5, completion: 45}}
      tiers: {flex: 0.5, priority: 2, batch: {prompt: 2.4, cached: 0.24, cache_write: 3, completion: 14}}
    - {valid_from: 2026-06-01, prompt: 4, cached: 0.4, cache_write: 5, completion: 20}
discounts:
  azure: 0.93
  xai: {factor: 0.8, valid_from: 2026-09-01}
"""
JUNE, SEPTEMBER = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)


def by_hand(tier: str, at: datetime, provider: str, prompt: int) -> tuple[Decimal, ...] | None:
    """Return the prices of CHANGING, written independently: prompt, cached, written, completion, in USD per 1M."""
    long = prompt > 272_000
    if at >= JUNE:
        if tier != "default":
            return None
        prices = ("4", "0.4", "5", "20")
    elif tier == "batch":
        prices = ("2.4", "0.24", "3", "14")
    else:
        prices = {
            ("default", False): ("5", "0.5", "6.25", "30"),
            ("default", True): ("10", "1", "12.5", "45"),
            ("flex", False): ("2.5", "0.25", "3.125", "15"),
            ("flex", True): ("5", "0.5", "6.25", "22.5"),
            ("priority", False): ("10", "1", "12.5", "60"),
            ("priority", True): ("20", "2", "25", "90"),
        }[tier, long]
    discount = {"azure": "0.93", "xai": "0.8" if at >= SEPTEMBER else "1"}.get(provider, "1")
    return tuple(Decimal(price) * Decimal(discount) for price in prices)


def test_300_calls_of_all_tiers_sizes_days_and_discounts_match_decimal_arithmetic(
    reused_db_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(CHANGING)
    rng = random.Random(3)
    tiers, providers = ("default", "flex", "priority", "batch"), ("openai", "azure", "xai")
    second = timedelta(seconds=1)
    moments = (JUNE - second, JUNE, SEPTEMBER - second, SEPTEMBER)
    records = []
    for number in range(300):
        prompt = rng.choice((272_000, 272_001, rng.randrange(10, 900_000)))
        cached = rng.randrange(prompt)
        records.append(
            LLMInteractionRecord(
                "decimal",
                JUNE,
                "written",
                prompt_tokens=prompt,
                completion_tokens=rng.randrange(5_000),
                cached_tokens=cached,
                cache_write_tokens=rng.randrange(prompt - cached),
                service_tier=rng.choice(tiers),
                provider=rng.choice(providers),
                start_time=rng.choice((*moments, JUNE - 90 * second)),
                iteration=number,
            )
        )
    with TimescaleDBClient(reused_db_url, pricing=path) as db:
        for record in records:
            db.record_llm_interaction(record)
        rows = db.get_llm_interactions("decimal", JUNE)
    assert len(rows) == 300
    priced = 0
    for row in rows:
        prompt, cached, written = row["prompt_tokens"], row["cached_tokens"], row["cache_write_tokens"]
        prices = by_hand(row["service_tier"], row["time"], row["provider"], prompt)
        if prices is None:
            assert (row["total_cost"], row["price_source"]) == (None, None)
            continue
        priced += 1
        counts = (prompt - cached - written, cached, written, row["completion_tokens"])
        total = sum(count * price for count, price in zip(counts, prices, strict=True)) / 10**6
        original = (prompt * prices[0] + row["completion_tokens"] * prices[3]) / 10**6
        assert abs(Decimal(row["total_cost"]) - total) < Decimal("1e-12"), row
        assert abs(Decimal(row["original_cost"]) - original) < Decimal("1e-12"), row
    assert 150 < priced < 300
