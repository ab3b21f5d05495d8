"""Calls through the real SDK over real HTTP, read back from a real PostgreSQL."""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import TimescaleDBClient, instrument, query_run
from rlm_cachetrack.simulator import SimulatedEndpoint

MESSAGES: list[Any] = [{"role": "system", "content": "You are brief. " * 400}, {"role": "user", "content": "hello"}]


def calls_of(db_url: str, run: Any) -> list[dict[str, Any]]:
    with TimescaleDBClient(db_url) as db:
        return db.get_llm_interactions(run.query_id, run.run_id)


def test_a_plain_chat_call_is_recorded_with_usage_timing_and_identity(
    db_url: str, endpoint: SimulatedEndpoint
) -> None:
    client = instrument(OpenAI(base_url=endpoint.base_url, api_key="sk-test"), store=db_url)
    with query_run("q") as run:
        answer = client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    (row,) = calls_of(db_url, run)
    assert answer.usage is not None
    assert row["prompt_tokens"] == answer.usage.prompt_tokens
    assert row["completion_tokens"] == answer.usage.completion_tokens
    assert row["total_tokens"] == answer.usage.total_tokens
    assert row["cached_tokens"] == 0
    assert row["uncached_prompt_tokens"] == answer.usage.prompt_tokens
    assert row["model"] == answer.model == "gpt-5-2025-08-07"
    assert row["metadata"] == {"requested_model": "gpt-5"}
    assert row["finish_reason"] == answer.choices[0].finish_reason
    assert row["request_id"] == answer._request_id
    assert row["api"] == "chat.completions"
    assert row["context_messages"] == 2
    assert row["success"] is True
    assert row["error_type"] is None
    assert row["has_tool_calls"] is False
    assert row["tool_call_count"] == 0
    assert row["duration_ms"] > 0
    assert row["time_to_first_token_ms"] is None
    assert row["usage"] == answer.usage.to_dict()
    assert row["time"] == row["start_time"]


async def test_async_and_stream_calls_are_recorded_alike(db_url: str, endpoint: SimulatedEndpoint) -> None:
    client = instrument(AsyncOpenAI(base_url=endpoint.base_url, api_key="sk-test"), store=db_url)
    async with query_run("q") as run:
        stream = await client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in stream]
    assert all(chunk.choices for chunk in chunks)
    (row,) = calls_of(db_url, run)
    assert row["prompt_tokens"] == endpoint.requests[0].prompt_tokens
    assert 0 < row["time_to_first_token_ms"] <= row["duration_ms"]
