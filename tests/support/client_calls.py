"""Calls of one run with given prices, for tests that compute each expected number next to its input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient

__all__ = ["PRICES", "T0", "at", "call", "record_the_mixed_run"]

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PRICES: dict[str, float] = {
    "prompt_token_price": 0.002,
    "cached_token_price": 0.0005,
    "cache_write_token_price": 0.0025,
    "completion_token_price": 0.008,
}
"""USD per 1,000 tokens, given by hand, so that no table can change what is expected."""


def at(seconds: float) -> datetime:
    """Return the time ``seconds`` after the start of the run."""
    return T0 + timedelta(seconds=seconds)


def call(seconds: float, **fields: Any) -> LLMInteractionRecord:
    """Return a call of query "q", run T0, ``seconds`` after T0, with given prices unless ``priced=False``."""
    priced = fields.pop("priced", True)
    given: dict[str, Any] = {"query_id": "q", "run_id": T0, "model": "model-a", "start_time": at(seconds)}
    return LLMInteractionRecord(**{**given, **(PRICES if priced else {}), **fields})


def record_the_mixed_run(db: TimescaleDBClient) -> None:
    """Record five calls: a cache write, a cache read, one without reported cache use, an unpriced and a failed one."""
    db.initialize_query_run("q", T0, {"suite": "mixed"})
    for record in (
        # total 1000 x .002 + 1000 x .0025 + 500 x .008 = 8.5 thousandths of a dollar; original 2000 x .002 + 4 = 8.0
        call(0, iteration=1, prompt_tokens=2000, cache_write_tokens=1000, completion_tokens=500, duration_ms=100),
        # total 1000 x .002 + 2000 x .0005 + 100 x .008 = 3.8; original 3000 x .002 + .8 = 6.8
        call(1, iteration=2, prompt_tokens=3000, cached_tokens=2000, completion_tokens=100, duration_ms=300),
        # cache use not reported, so all uncached: 1000 x .002 + 50 x .008 = 2.4; original 2.4
        call(2, iteration=2, prompt_tokens=1000, cached_tokens=None, completion_tokens=50, duration_ms=200),
        # a model in no price list: no price, no cost
        call(
            3,
            iteration=3,
            model="nobody/none",
            priced=False,
            prompt_tokens=500,
            cached_tokens=100,
            completion_tokens=10,
        ),
        # failed without any tokens
        call(4, iteration=3, priced=False, cached_tokens=None, success=False, error_type="APIConnectionError"),
    ):
        db.record_llm_interaction(record)
