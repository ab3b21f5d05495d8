"""The database is down during all calls of a program, then up: every call is stored once, in order.

The responses come from an in-process transport instead of HTTP, so that 100,000 calls take one minute, not ten.
"""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import psycopg
import pytest
from openai import OpenAI

from rlm_cachetrack import flush, instrument, query_run, stats
from rlm_cachetrack.store import embedded
from tests.integration.pipeline.test_writer import in_time
from tests.support.transport import httpx

BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-5-2025-08-07",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word"}}],
        "usage": {"prompt_tokens": 2000, "completion_tokens": 1, "total_tokens": 2001},
    }
).encode()


@pytest.mark.parametrize("calls", [3_000, pytest.param(100_000, marks=pytest.mark.faults)])
def test_calls_made_while_the_database_is_down_are_stored_once_and_in_order(
    stoppable_server: Path, stoppable_url: str, caplog: pytest.LogCaptureFixture, calls: int
) -> None:
    caplog.set_level(logging.INFO, "rlm_cachetrack")
    numbers = itertools.count()

    def answer(request: Any) -> Any:
        headers = {"content-type": "application/json", "x-request-id": f"req_{next(numbers):06}"}
        return httpx.Response(200, content=BODY, headers=headers)

    embedded.stop(stoppable_server)
    try:
        with OpenAI(api_key="x", http_client=httpx.Client(transport=httpx.MockTransport(answer))) as client:
            instrument(client, store=stoppable_url)
            with query_run("outage"):
                for _ in range(calls):
                    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
        assert not flush(0.3)
        assert in_time(lambda: caplog.records)
        counts = stats()
        assert (counts["pending"], counts["dropped"]) == (calls + 2, {})  # the run's start and end are events too
    finally:
        embedded.ensure_running(stoppable_server)
    assert flush(180 + calls / 200)  # 100,000 calls take 7 s on a quiet machine
    assert stats()["pending"] == 0
    with psycopg.connect(stoppable_url) as connection:
        rows = connection.execute("SELECT request_id FROM llm_interactions ORDER BY time, interaction_id").fetchall()
        run = connection.execute("SELECT status, total_interactions FROM query_run_summaries").fetchall()
    assert [row[0] for row in rows] == [f"req_{number:06}" for number in range(calls)]
    assert run == [("completed", calls)]
    assert [record.levelname for record in caplog.records if record.name == "rlm_cachetrack"] == ["WARNING", "INFO"]
