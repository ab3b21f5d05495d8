"""Re-price calls with more components than the four prices, and undo it: tools, audio, writes, regions, fees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.analytics.planning import repricing
from rlm_cachetrack.pricing import PriceBook

T0 = datetime(2026, 11, 2, 12, tzinfo=UTC)
# Prices that lack all further components, so that most of the calls below are unpriced or too cheap.
OLD = """\
version: 1
per: 1M
models:
  gpt-6.1-terra: {prompt: 9, completion: 9}
  gpt-6.1-sol: {prompt: 9, completion: 9}
  gpt-audio: {prompt: 9, completion: 9}
  gpt-5-mini: {prompt: 9, completion: 9}
  sonar: {prompt: 9, completion: 9}
  whisper-1: {per_minute: 0.009}
  claude-opus-5-5: {prompt: 9, completion: 9}
  claude-sonnet-5-5: {prompt: 9, completion: 9, speeds: {fast: 3}}
"""
NEW = """\
version: 1
per: 1M
models:
  film: {per_second: 0.1}
  speaker: {per_1m_characters: 15}
"""  # the others from the built-in table
COSTS = (
    *("prompt_token_price", "cached_token_price", "cache_write_token_price", "completion_token_price"),
    *("total_cost", "original_cost", "price_source", "charges", "unpriced_reason", "cost_excludes"),
)
IMAGE = {"calls": 1, "model": "gpt-image-1.5", "prompt_tokens": 200, "completion_tokens": 4_160, "total_tokens": 4_360}
FAST_US = {"speed": "fast", "region": "us"}
NO_TOKENS = {"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None}

# (model, fields, total at NEW); USD per 1M tokens in the comments
CALLS: dict[str, tuple[str, dict[str, Any], float | None]] = {
    # 900 x 1 + 100 x 0.05 + 100 x 5
    "usual": ("gpt-6.1-terra", {"cached_tokens": 100}, 0.001405),
    # 0 x 1 + 600 x 2.50 + 400 x 1.25 + 100 x 5
    "writes": (
        "gpt-6.1-terra",
        {"cache_write_tokens": 1_000, "token_details": {"cache_write_12h_tokens": 600}},
        0.0025,
    ),
    "region": ("gpt-6.1-terra", {"request_options": {"region": "eu"}}, 0.00165),  # (1,000 x 1 + 100 x 5) x 1.1
    "region and tool": (
        "gpt-6.1-terra",
        {"request_options": {"region": "eu"}, "tool_usage": {"web_search": 1}},
        0.01165,
    ),
    "window": ("gpt-6.1-sol", {"request_options": {"completion_window": "8h"}}, 0.0018),  # (1,000 x 2 + 100 x 10) x 0.6
    "no such window": ("gpt-6.1-sol", {"request_options": {"completion_window": "9h"}}, None),
    "other options": ("gpt-6.1-sol", {"request_options": {"verbosity": "low"}}, 0.003),
    # (1,000 x 4 + 100 x 20) x 2 x 1.1
    "speed and region": ("claude-opus-5-5", {"provider": "anthropic", "request_options": FAST_US}, 0.0132),
    "no such speed": ("claude-sonnet-5-5", {"provider": "anthropic", "request_options": {"speed": "fast"}}, None),
    "neither": ("gpt-6.1-sol", {"request_options": {"completion_window": "9h", "speed": "fast"}}, None),
    # 12.5 s at 4.80 an hour, 3 messages at 0.004
    "voice": (
        "grok-voice-latest",
        {"provider": "xai", "token_details": {"audio_prompt_tokens": 50, "seconds": 12.5, "text_messages": 3}},
        12.5 * 4.8 / 3600 + 0.012,
    ),
    # 100 x 2.50 + 900 x 32 + 20 x 10 + 80 x 64
    "audio": (
        "gpt-audio",
        {"token_details": {"audio_prompt_tokens": 900, "audio_completion_tokens": 80}},
        0.03437,
    ),
    # 1,000 x 0.25 + 100 x 2 = 0.00045
    "tools": ("gpt-5-mini", {"tool_usage": {"web_search": 2, "file_search": 1, "code_interpreter": 1}}, 0.02295),
    "image": ("gpt-5-mini", {"tool_usage": {"image_generation": IMAGE}}, 0.13457),  # 200 x 5 + 4,160 x 32
    "unknown tool": ("gpt-5-mini", {"tool_usage": {"teleport": 1}}, None),
    "predictions": ("gpt-5-mini", {"token_details": {"rejected_prediction_tokens": 20}}, 0.00045),
    "fee": ("sonar", {"provider": "perplexity"}, 0.0061),  # 1,000 x 1 + 100 x 1, and 0.005
    "fee of a large search": (  # and 0.012
        "sonar",
        {"provider": "perplexity", "request_options": {"search_context_size": "high"}},
        0.0131,
    ),
    "returned": ("gpt-5-mini", {"tool_usage": {"web_search": 2}, "total_cost": 0.5, "price_source": "provider"}, 0.5),
    "unknown model": ("nobody", {}, None),
    "seconds": ("film", {**NO_TOKENS, "token_details": {"seconds": 8}}, 0.8),
    "characters": ("speaker", {**NO_TOKENS, "token_details": {"characters": 2_000}}, 0.03),
    "listed seconds": ("whisper-1", {**NO_TOKENS, "token_details": {"seconds": 60}}, 0.006),
    "not reported": ("gpt-5-mini", NO_TOKENS, None),
    "failed": ("gpt-5-mini", {**NO_TOKENS, "success": False}, None),
}


def fill(db: TimescaleDBClient) -> None:
    for number, (model, fields, _) in enumerate(CALLS.values()):
        given = {
            "prompt_tokens": 1_000,
            "completion_tokens": 100,
            "cached_tokens": 0,
            "provider": "openai",
            "start_time": T0 + timedelta(minutes=number),
            **fields,
        }
        db.record_llm_interaction(LLMInteractionRecord("q", T0, model, **given))
    db.complete_query_run("q", T0)
    assert db.flush()


def costs(db: TimescaleDBClient) -> dict[str, dict[str, Any]]:
    rows = sorted(db.get_llm_interactions("q", T0), key=lambda row: row["time"])
    return {name: {column: row[column] for column in COSTS} for name, row in zip(CALLS, rows, strict=True)}


def test_re_pricing_gives_detailed_calls_the_cost_of_a_new_recording(
    db_url: str, empty_db_url: str, old: Path, new: Path
) -> None:
    with TimescaleDBClient(empty_db_url, pricing=new) as fresh:
        fill(fresh)
        expected = costs(fresh)
    for name, (_, _, total) in CALLS.items():
        assert expected[name]["total_cost"] == (None if total is None else pytest.approx(total, abs=1e-9)), name
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        before = costs(db)
        assert before["audio"]["unpriced_reason"] == (
            "no price for audio input tokens and audio output tokens of gpt-audio"
        )
        done = db.reprice(new)
        assert costs(db) == expected
        change = done["change"]
        assert change is not None
        changed = [name for name in CALLS if before[name] != expected[name]]
        assert change["changed_interactions"] == len(changed)
        assert sum(row["changed_interactions"] for row in done["difference"]) == len(changed)
        assert sum(row["total_interactions"] for row in done["difference"]) == len(CALLS)
        after = sum(row["cost_after"] or 0 for row in done["difference"])
        assert after == pytest.approx(sum(cost["total_cost"] or 0 for cost in expected.values()), abs=1e-12)
        again = db.reprice(new)
        assert sum(row["changed_interactions"] for row in again["difference"]) == 0


def test_undo_restores_every_column_of_detailed_calls(db_url: str, old: Path, new: Path) -> None:
    def snapshot() -> list[tuple[Any, ...]]:
        with psycopg.connect(db_url) as connection:
            return connection.execute("SELECT * FROM llm_interactions ORDER BY interaction_id").fetchall()

    with TimescaleDBClient(db_url, pricing=new) as db:
        fill(db)
        before = snapshot()
        db.reprice(old)
        assert snapshot() != before
        db.undo_repricing()
        assert snapshot() == before


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_of_any_size_give_the_same_costs(
    db_url: str, old: Path, new: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repricing, "BATCH", batch)  # the pages of the difference
    with TimescaleDBClient(db_url, pricing=old) as db:
        fill(db)
        store, book = db.reader(), PriceBook.load(new)
        which = repricing.selection()
        difference = repricing.difference(store, book, which)
        done = repricing.apply(store, book, which, batch=batch)
        totals = [cost["total_cost"] for cost in costs(db).values()]
    assert totals == [None if total is None else pytest.approx(total, abs=1e-9) for *_, total in CALLS.values()]
    assert done["changed_interactions"] == sum(row["changed_interactions"] for row in difference)
