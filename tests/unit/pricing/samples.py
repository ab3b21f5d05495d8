"""Times, usages and pricing files that several tests of prices use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rlm_cachetrack.pricing import PriceBook
from rlm_cachetrack.usage import TokenUsage

# After every dated price that the tests rely on, so that a newer table cannot change the expected values.
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HEAD = "version: 1\nper: 1M\nmodels:\n"
DESIGN_FILE = """\
version: 1
per: 1M
models:
  gpt-5:
    provider: openai
    prompt: 1.25
    cached: 0.125
    cache_write: 1.5625
    completion: 10
    tiers: {flex: 0.5, priority: {prompt: 2.5, cached: 0.25, completion: 20}}
  my-azure-deployment: {alias: gpt-5}
"""
TEN_MISTAKES = """\
version: 1
per: 1M
prizes: {}
models:
  a: {prompt: -1, completion: 1}
  b: {prompt: 1, completon: 1, completion: 1}
  c: {prompt: 1}
  d: {alias: gpt-4oo}
  e: {alias: f}
  f: {alias: e}
  g: {prompt: 1, completion: 1, tiers: {flx: 0.5}}
  h:
    - {prompt: 1, completion: 1, valid_to: 2026-06-01}
    - {prompt: 2, completion: 1, valid_from: 2026-05-01}
  i: {prompt: 1, completion: 1, valid_from: 2026-13-01}
  i: {prompt: 1, completion: 1}
  /j(/: {prompt: 1, completion: 1}
discounts: {openai: ten percent}
"""


def used(
    prompt: int | None = None,
    completion: int | None = None,
    cached: int | None = None,
    written: int | None = None,
    provider_cost: float | None = None,
) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=None,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=None,
        provider_cost_usd=provider_cost,
        anomaly=None,
        dialect="test",
    )


def usd(value: float) -> object:
    return pytest.approx(value, rel=0, abs=1e-12)


def prompt_price(prices: PriceBook, model: str, **more: Any) -> float | None:
    """Return USD per 1M prompt tokens, None if unpriced."""
    rates = prices.rates(model=model, **{"at": NOW, **more})
    return None if rates is None else pytest.approx(rates.prompt * 1000).expected
