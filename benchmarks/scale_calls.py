"""Calls for benchmarks of stored data: runs of 50 calls (CALLS_PER_RUN) like those of agents.

Prompts grow by the responses and by tool output. Most of a prompt is read from the cache in steps of 128 tokens; some
calls miss, some providers do not report, some calls fail, and one in four is streamed. Lengths, durations and costs
vary like real ones, because constant values take no space in a columnstore. A few hundred runs are generated once
and reused with other times, ids and queries, so that filling measures the server.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rlm_cachetrack import RecordBatch
from rlm_cachetrack._process import uuid7
from rlm_cachetrack.journal import kept_ms
from rlm_cachetrack.pricing import amounts
from rlm_cachetrack.records import COLUMNS, RunEnd

CALLS_PER_RUN = int(os.environ.get("CALLS_PER_RUN", "50"))
RUNS_PER_BATCH, QUERIES, USERS, TEMPLATES = max(2500 // CALLS_PER_RUN, 1), 200, 100, 400
# Model, provider, USD per 1,000 tokens of prompt, cached, written, completion; whether it reasons; share of the runs.
_MODELS = (
    ("gpt-5-2025-08-07", "openai", 0.00125, 0.000125, 0.00125, 0.01, True, 40),
    ("gpt-5-mini-2025-08-07", "openai", 0.00025, 0.000025, 0.00025, 0.002, True, 30),
    ("gpt-4.1-2025-04-14", "openai", 0.002, 0.0005, 0.002, 0.008, False, 15),
    ("deepseek-chat", "deepseek", 0.00027, 0.00007, 0.00027, 0.0011, False, 10),
    ("qwen3-32b", "unknown", 0.0, 0.0, 0.0, 0.0, False, 5),  # self-hosted: unpriced, and reports no cache use
)
_INDEX = {name: COLUMNS.index(name) for name in COLUMNS}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Kept:
    """Optional parts of a call that are stored."""

    usage: bool = False
    request_id: bool = False
    fingerprint: bool = False
    tags: bool = False


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a template: begin and end in microseconds after the start of its run, and its row."""

    begin: int
    end: int
    row: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """``rows`` calls, distributed evenly over ``days`` days up to ``until``."""

    rows: int
    days: float
    until: datetime
    kept: Kept = Kept()

    @property
    def runs(self) -> int:
        """Return the number of runs, of CALLS_PER_RUN calls each."""
        return self.rows // CALLS_PER_RUN

    def run(self, number: int) -> tuple[str, datetime]:
        """Return the key of a run by its number; 0 is the oldest."""
        begun = self.until - timedelta(days=self.days) + number * (timedelta(days=self.days) / self.runs)
        return f"query-{number % QUERIES}", begun

    def part(self, first: int, last: int) -> Iterator[RecordBatch]:
        """Yield batches of the runs ``first`` to ``last``, like those of the writer."""
        templates = _templates(self.kept)
        rng = random.Random(first)
        for begin in range(first, last, RUNS_PER_BATCH):
            calls, ends = [], []
            for number in range(begin, min(begin + RUNS_PER_BATCH, last)):
                key = self.run(number)
                template = templates[rng.randrange(TEMPLATES)]
                start = (key[1] - _EPOCH) // _MICROSECOND
                calls += _rows(template, key, start, rng)
                ends.append(RunEnd(*key, key[1] + timedelta(microseconds=template[-1].end)))
            calls.sort(key=lambda call: call[0])  # ordered by the end of the calls, like a journal
            yield RecordBatch([row for _, row in calls], run_ends=ends)

    def batches(self) -> Iterator[RecordBatch]:
        """Yield batches of all runs."""
        return self.part(0, self.runs)


def _rows(
    template: list[_Call], key: tuple[str, datetime], start: int, rng: random.Random
) -> list[tuple[int, tuple[Any, ...]]]:
    """Return when each call of a run ended, and its row."""
    number = rng.getrandbits(61)  # the counter in the ids of a process starts at a random number
    tags = f'{{"user": "u-{rng.randrange(USERS)}", "feature": "f-{rng.randrange(7)}"}}'
    found = []
    for index, call in enumerate(template):
        moment = _EPOCH + (start + call.begin) * _MICROSECOND
        row = list(call.row)
        row[_INDEX["time"]] = row[_INDEX["start_time"]] = moment
        row[_INDEX["end_time"]] = _EPOCH + (start + call.end) * _MICROSECOND
        row[_INDEX["query_id"]], row[_INDEX["run_id"]] = key
        row[_INDEX["interaction_id"]] = uuid7((start + call.begin) * 1000, number + index)
        if row[_INDEX["tags"]] is not None:
            row[_INDEX["tags"]] = tags
        if row[_INDEX["request_id"]] is not None:
            row[_INDEX["request_id"]] = f"req_{rng.getrandbits(96):024x}"
        found.append((start + call.end, tuple(row)))
    return found


def _templates(kept: Kept) -> list[list[_Call]]:
    rng = random.Random(11)
    return [_template(rng, kept) for _ in range(TEMPLATES)]


def _template(rng: random.Random, kept: Kept) -> list[_Call]:
    model, provider, prompt_price, cached_price, write_price, completion_price, reasons, _ = rng.choices(
        _MODELS, weights=[entry[-1] for entry in _MODELS]
    )[0]
    priced = prompt_price > 0
    prompt, clock, before = int(rng.lognormvariate(7.6, 0.5)), rng.randrange(2_000_000), 0
    recursion = f"01a21e43-04b2-7{rng.getrandbits(12):03x}-8a7f-{rng.getrandbits(48):012x}"
    calls = []
    for index in range(CALLS_PER_RUN):
        failed = rng.random() < 0.01
        thought = 64 * rng.randrange(0, 30) if reasons else None
        answer = max(1, int(rng.lognormvariate(5.2, 0.9))) + (thought or 0)
        hit = 0 if index == 0 or rng.random() < 0.08 else before // 128 * 128
        cached = hit if priced else None
        first_token = max(80.0, rng.gauss(420, 90) + 0.05 * (prompt - hit) / 10) + rng.random()
        duration = first_token + answer * rng.gauss(11, 2)
        prices = (prompt_price, cached_price, write_price, completion_price)
        cost, original = amounts(prompt, answer, hit, 0, prices)
        tools = rng.choices((0, 1, 2, 3), (55, 35, 8, 2))[0]
        values: dict[str, Any] = {
            "model": model,
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "cached_tokens": cached,
            "uncached_prompt_tokens": None if cached is None else prompt - cached,
            "cache_write_tokens": None if cached is None else 0,
            "reasoning_tokens": thought,
            "prompt_token_price": prompt_price if priced else None,
            "cached_token_price": cached_price if priced else None,
            "cache_write_token_price": write_price if priced else None,
            "completion_token_price": completion_price if priced else None,
            "total_cost": cost if priced else None,
            "original_cost": original if priced else None,
            "duration_ms": kept_ms(int(duration * 1e6)),
            "time_to_first_token_ms": kept_ms(int(first_token * 1e6)) if index % 4 == 0 else None,
            "context_messages": 2 * index + 2,
            "response_length": int(answer * rng.uniform(2.5, 4.5)),
            "iteration": index + 1,
            "recursion_id": recursion,
            "current_depth": 0,
            "has_tool_calls": tools > 0,
            "tool_call_count": tools,
            "success": True,
            "metadata": f'{{"requested_model": "{model[:9]}", "host": "api.{provider}.com"}}',
            "provider": provider,
            "api": "chat.completions",
            "service_tier": "default" if provider == "openai" else None,
            "finish_reason": "tool_calls" if tools else "stop",
            "price_source": "genai-prices:0.2.3" if priced else None,
            "request_id": "req_" + "0" * 24 if kept.request_id else None,
            "usage": _usage(prompt, answer, cached, thought) if kept.usage else None,
            "tags": "{}" if kept.tags else None,
            "fingerprint": rng.randbytes(8 if index else 40 + rng.randrange(60)) if kept.fingerprint else None,
        }
        if failed:
            spent = [name for name in values if name.endswith(("_tokens", "_cost", "_reason"))]
            values.update(dict.fromkeys([*spent, "response_length", "time_to_first_token_ms", "usage"]))
            values.update(
                success=False, error_type="RateLimitError", error_message="Error code: 429", tool_call_count=0
            )
        row = tuple([values.get(name) for name in COLUMNS])
        calls.append(_Call(clock, clock + int(duration * 1000), row))
        clock += int(duration * 1000) + int(rng.expovariate(1 / 900_000))
        if not failed:
            before, prompt = prompt, prompt + answer - (thought or 0) + int(rng.lognormvariate(5.0, 1.2))
    return calls


def _usage(prompt: int, answer: int, cached: int | None, thought: int | None) -> str:
    return (
        f'{{"prompt_tokens": {prompt}, "completion_tokens": {answer}, "total_tokens": {prompt + answer}, '
        f'"prompt_tokens_details": {{"cached_tokens": {cached or 0}, "audio_tokens": 0}}, "completion_tokens_details": '
        f'{{"reasoning_tokens": {thought or 0}, "audio_tokens": 0, "accepted_prediction_tokens": 0, '
        '"rejected_prediction_tokens": 0}}'
    )
