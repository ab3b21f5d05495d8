"""Calls packed straight from their journal lines are stored as the rows that the careful way stores."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from rlm_cachetrack.journal import Journal, expand_event, next_number
from rlm_cachetrack.journal import call_event as _call_line
from rlm_cachetrack.pipeline import fast_rows as _packing
from rlm_cachetrack.pipeline.rows import Rows
from rlm_cachetrack.pricing.price_book import PriceBook
from rlm_cachetrack.records import COLUMNS
from rlm_cachetrack.store import binary_copy as _binary
from rlm_cachetrack.usage.reading import read_usage, simple_counts
from tests.integration.pipeline.test_writer import pipeline

START = 1_768_035_600_123_456_789  # 2026-01-10T09:00:00.123456789Z
USAGE = {
    "prompt_tokens": 2000,
    "completion_tokens": 100,
    "total_tokens": 2100,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
}
PLACE = {"query_id": "q", "run_id": "2026-01-10T09:00:00+00:00", "iteration": 3}


def line(usage: Any = USAGE, place: Mapping[str, Any] = PLACE, **more: Any) -> bytes:
    values = {
        "number": next_number(),
        "api": "chat.completions",
        "provider": "openai",
        "model": "gpt-5-2025-08-07",
        "requested_model": "gpt-5",
        "start_ns": START,
        "duration_ns": 1_500_500_000,
        "time_to_first_token_ns": None,
        "context_messages": 4,
        "response_length": 400,
        "request_id": "req_1",
        "service_tier": "default",
        "finish_reason": "stop",
        "tool_call_count": 0,
        "error_type": None,
        "error_message": None,
        "metadata": None,
        **more,
    }
    return _call_line.encode(json.dumps(place), tuple(values[name] for name in _call_line.FIELDS), usage)


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return PriceBook()


def decoded(written: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(written)
    return value


def fields(row: bytes, columns: tuple[str, ...]) -> dict[str, bytes | None]:
    """A row of binary COPY, taken apart as its documentation says."""
    assert struct.unpack_from("!h", row)[0] == len(columns)
    place, found = 2, {}
    for name in columns:
        (size,) = struct.unpack_from("!i", row, place)
        place += 4
        found[name] = None if size < 0 else row[place : place + size]
        place += max(size, 0)
    assert place == len(row)
    return found


def comparable(row: bytes, columns: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = fields(row, columns)
    for name in ("usage", "metadata"):
        if (text := found[name]) is not None:
            assert text[:1] == b"\1"
            found[name] = json.loads(text[1:])
    return found


# -- one row ----------------------------------------------------------------------------------------------------------


def test_lines_are_those_that_the_fast_way_was_written_for() -> None:
    assert _packing.USABLE, "FIELDS of _call_line changed: change _packing with it, or every call takes the slow way"
    assert sorted(_packing.PACKED_COLUMNS) == sorted(COLUMNS)


def test_a_usual_call_is_packed_with_its_tokens_times_and_cost(prices: PriceBook) -> None:
    packer = _packing.Packer(prices)
    written = line()
    row = packer.pack(decoded(written))
    assert row is not None
    found = fields(row, _packing.PACKED_COLUMNS)

    def number(name: str, form: str) -> Any:
        value = found[name]
        assert value is not None
        return struct.unpack(form, value)[0]

    # 2026-01-10T09:00:00.123456Z: 9,506 days, 9 hours and 0.123456 s after 2000.
    began = (9506 * 86_400 + 9 * 3600) * 1_000_000 + 123_456
    assert number("time", "!q") == number("start_time", "!q") == began
    assert number("end_time", "!q") == began + 1_500_500
    assert number("run_id", "!q") == began - 123_456
    assert [number(name, "!i") for name in ("prompt_tokens", "cached_tokens", "uncached_prompt_tokens")] == [
        2000,
        1920,
        80,
    ]
    assert found["cache_write_tokens"] is None
    # USD a million: 1.25, cached 0.125, completion 10. 80 x 1.25 + 1,920 x 0.125 + 100 x 10 = 1,340 millionths.
    assert number("total_cost", "!d") == pytest.approx(0.00134, rel=1e-12)
    assert number("original_cost", "!d") == pytest.approx(0.0035, rel=1e-12)
    assert (found["query_id"], found["model"], found["request_id"]) == (b"q", b"gpt-5-2025-08-07", b"req_1")
    assert (number("iteration", "!i"), number("success", "!?"), number("has_tool_calls", "!?")) == (3, True, False)
    assert found["interaction_id"] == UUID(expand_event(decoded(written))["interaction_id"]).bytes
    assert (found["error_type"], found["error_message"], found["context_tokens"]) == (None, None, None)
    taken = packer.take([row])
    [(run, (first, last))] = taken.runs.items()
    assert run == ("q", datetime(2026, 1, 10, 9, tzinfo=UTC))
    assert first == last == datetime(2026, 1, 10, 9, 0, 0, 123_456, tzinfo=UTC)
    assert taken.hours == [datetime(2026, 1, 10, 9, tzinfo=UTC)]


UNUSUAL: list[dict[str, Any]] = [
    {"error_type": "RateLimitError", "error_message": "slow down"},
    {"usage": None},
    {"usage": {}},
    {"usage": {**USAGE, "total_tokens": 2099}},
    {"usage": {**USAGE, "prompt_tokens": -1}},
    {"usage": {**USAGE, "prompt_tokens": 2000.0}},
    {"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 2001}}},
    {"usage": {**USAGE, "cost": 0.5}},
    {"usage": {"prompt_tokens": 5, "total_tokens": 5}},
    {"metadata": {"attempts": 2}},
]
USUAL: list[dict[str, Any]] = [
    {},
    {"model": None},
    {"model": "gpt-5"},
    {"model": "nobody-knows-it", "requested_model": "nobody-knows-it"},
    {"service_tier": "flex"},
    {"service_tier": "no-such-tier"},
    {"time_to_first_token_ns": 12_250_001},
    {"context_messages": None},
    {"response_length": None},
    {"request_id": None},
    {"request_id": "r\0q \u00fc"},
    {"finish_reason": None, "service_tier": None, "provider": None},
    {"provider": "azure"},
    {"provider": "unknown@llm.example.org:8000"},
    {"metadata": {"stream": True}},
    {"metadata": {"stream": True}, "model": "gpt-5", "provider": "unknown@llm.example.org"},
    {"tool_call_count": 3},
    {"start_ns": START + 500},
    {"start_ns": 1_700_000_000_999_999_999},
    {"duration_ns": 999, "start_ns": 1_700_000_000_999_999_999},
    {"duration_ns": 0},
    {"duration_ns": 9_235_579, "time_to_first_token_ns": 3_141_592},
    {"place": {**PLACE, "query_id": "\u00fcber\0"}},
    {"place": {**PLACE, "recursion_id": "r1", "parent_recursion_id": "r0", "current_depth": 1, "max_depth": 4}},
    {"place": {**PLACE, "model_type": "root", "model_index": 0}},
    {"usage": {**USAGE, "prompt_tokens_details": None}},
    {"usage": {**USAGE, "completion_tokens_details": {}}},
    {"usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 2000}}},
    {"usage": {**USAGE, "note": '\u00fc\u2028\\ " \n'}},
    {"usage": {**USAGE, "large": 2**70, "small": 1e-300}},
    {
        "usage": {
            "input_tokens": 9,
            "output_tokens": 1,
            "total_tokens": 10,
            "input_tokens_details": {"cached_tokens": 8},
        }
    },
    {"usage": {"prompt_tokens": 300_000, "completion_tokens": 1, "total_tokens": 300_001}, "model": "gpt-5.4"},
]


@pytest.mark.parametrize("more", USUAL, ids=str)
def test_both_ways_make_the_same_row_of_a_usual_call(more: dict[str, Any], prices: PriceBook) -> None:
    written = decoded(line(**more))
    row = _packing.Packer(prices).pack(written)
    assert row is not None
    [careful] = Rows(prices).build([written]).batch.interactions
    assert comparable(row, _packing.PACKED_COLUMNS) == comparable(_binary.pack_row(careful), COLUMNS)


@pytest.mark.parametrize("more", UNUSUAL, ids=str)
def test_an_unusual_call_is_left_to_the_careful_way(more: dict[str, Any], prices: PriceBook) -> None:
    assert _packing.Packer(prices).pack(decoded(line(**more))) is None


@pytest.mark.parametrize("place", [{**PLACE, "run_id": "yesterday"}, {**PLACE, "colour": "red"}])
def test_a_damaged_line_is_told_as_unreadable(place: dict[str, Any], prices: PriceBook) -> None:
    built = Rows(prices, packed=True).build([decoded(line(place=place)), decoded(line())])
    assert built.batch.calls == 2 - len(built.unreadable)
    assert len(built.unreadable) == ("colour" not in place)


# -- usages -----------------------------------------------------------------------------------------------------------

SHAPES: list[dict[str, Any]] = [
    USAGE,
    {"input_tokens": 50, "output_tokens": 5, "total_tokens": 55, "output_tokens_details": {"reasoning_tokens": 2}},
    {**USAGE, "prompt_cache_hit_tokens": 7, "prompt_cache_miss_tokens": 1993},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cached_tokens": 4},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "num_cached_tokens": 4},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cache_read_input_tokens": 4},
    {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "queue_time": 0.1},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cost": 0.1, "is_byok": False},
    {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cost_in_usd_ticks": 0, "num_sources_used": 1},
    {"prompt_tokens": 9, "total_tokens": 9},
]


def damaged(rng: random.Random, value: Any) -> Any:
    """The usage with some of its values replaced."""
    if isinstance(value, dict):
        return {key: damaged(rng, item) for key, item in value.items()}
    odd = [None, 0, 1, value + 1 if isinstance(value, int) else 2, -3, 2**31 - 1, 2**31, 5.0, 5.5, "7", True, {}, []]
    return rng.choice(odd) if rng.random() < 0.15 else value


@pytest.mark.parametrize("provider", [None, "openai", "azure", "mistral", "xai", "Anthropic", "gemini"])
def test_simple_counts_are_those_of_read_usage(provider: str | None) -> None:
    rng, simple = random.Random(provider), 0
    for number in range(3000):
        raw = SHAPES[number % len(SHAPES)] if number < 100 else damaged(rng, rng.choice(SHAPES))
        counts = simple_counts(raw, provider)
        if counts is None:
            continue
        simple += 1
        usage = read_usage(raw, provider=provider)
        assert usage.anomaly is None, raw
        assert usage.provider_cost_usd is None, raw
        assert counts == (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        ), raw
    assert simple > 500


# -- in the database --------------------------------------------------------------------------------------------------


def lines_of_every_kind() -> Iterator[bytes]:
    """Lines in which everything that may vary does."""
    rng = random.Random(3)
    for number in range(400):
        more: dict[str, Any] = {}
        for some in rng.sample([*USUAL, *UNUSUAL], 3):
            more.update(some)
        place = {**more.pop("place", PLACE), "iteration": number}
        if number % 7 == 0:
            place["query_id"] = "other"
        yield line(place=place, **more)


def rows_of(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM llm_interactions ORDER BY iteration").fetchall()


def stored_by(url: str, lines: list[bytes]) -> list[dict[str, Any]]:
    with pipeline(url) as runtime:
        for written in lines:
            runtime.journal.append(written)
        assert runtime.flush(30)
        assert runtime.dead_letters.read() == []
    rows = rows_of(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE llm_interactions, token_cache_optimization, query_run_summaries")
    return rows


def test_both_ways_store_the_same_rows(reused_db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = list(lines_of_every_kind())
    packed: list[bytes | None] = []
    pack = _packing.Packer.pack

    def counting(self: _packing.Packer, written: Mapping[str, Any]) -> bytes | None:
        packed.append(pack(self, written))
        return packed[-1]

    monkeypatch.setattr(_packing.Packer, "pack", counting)
    fast = stored_by(reused_db_url, lines)
    assert sum(row is not None for row in packed) > 100
    monkeypatch.setattr(_packing.Packer, "pack", lambda *_: None)
    careful = stored_by(reused_db_url, lines)
    assert len(fast) == len(lines)
    assert fast == careful


def test_a_journal_is_read_to_its_end_whatever_the_size_of_the_batches(tmp_path: Any) -> None:
    journal = Journal(tmp_path)
    for number in range(257):
        journal.append({"kind": "x" * (number % 50), "number": number})
    seen: list[int] = []
    while True:
        batch = journal.read(10, 300)
        if not batch.entries:
            break
        seen += [event["number"] for event in batch.decode()]
        assert batch.own == len(batch.entries)
        journal.ack(batch)
    assert seen == list(range(257))
    assert journal.pending == 0
    journal.close()
