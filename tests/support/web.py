"""The dashboard as a separate process, and the calls that it shows in the tests."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from openai import OpenAI

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, flush, instrument, query_run
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.forked import Forked

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    " '; DROP TABLE llm_interactions;-- \x1b[31m\u202egnp.exe\u202c {{7*7}} ${7*7} שלום 🎭"
)
LONG = "x" * 10_240
BEGUN = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)


@contextlib.contextmanager
def served(url: str | None, *options: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Run ``rlm-cachetrack dashboard`` over a database (None: the embedded server); yields its address."""
    arguments = [
        "-m",
        "rlm_cachetrack",
        "dashboard",
        "--port",
        "0",
        *(() if url is None else ("--db-url", url)),
        *options,
    ]
    env = {**os.environ, "COLUMNS": "200", **(environment or {})}
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as errors:
        try:
            process = Forked(arguments, env=env, streams=(0, 1, writing))
        finally:
            os.close(writing)
        try:
            line = errors.readline()
            found = re.search(r"http://\S+", line)
            assert found, line + errors.read()
            yield found[0].rstrip("/")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            process.wait(180)


def fetch(address: str, path: str, **query: str) -> str:
    """Return the response of a dashboard: a page, or the JSON of a path under /api."""
    with urllib.request.urlopen(f"{address}{path}?{urlencode(query)}", timeout=180) as answer:
        return str(answer.read().decode())


def record(query_id: str, run_id: datetime, number: int = 0, **more: object) -> LLMInteractionRecord:
    """Return a call at USD 0.01 / 0.001 / 0.02 per 1,000 prompt / cached / completion tokens."""
    given: dict[str, object] = {
        "model": "tuned",
        "provider": "openai",
        "completion_tokens": 100,
        "prompt_token_price": 0.01,
        "cached_token_price": 0.001,
        "completion_token_price": 0.02,
        "start_time": run_id + timedelta(seconds=number),
        "duration_ms": 400.0 + number,
        "iteration": number + 1,
    }
    return LLMInteractionRecord(query_id, run_id, **{**given, **more})  # type: ignore[arg-type]


def store_missed(url: str, calls: int = 6, run_id: datetime | None = None) -> None:
    """Make calls through the SDK whose system prompt starts with a counter: all but the first miss."""
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=url)
        with query_run("missed", run_id) as run:
            for number in run.iterations(range(calls)):
                system = f"Call {number}. " + "All that the model must know of the matter. " * 150
                messages: list[Any] = [{"role": "system", "content": system}, {"role": "user", "content": "And now?"}]
                client.chat.completions.create(model="gpt-4.1", messages=messages)
        assert flush(timeout_s=120)


def store_runs(url: str) -> None:
    """Store six calls of ``bench``, two with hostile names, and forty small runs 40 days ago.

    bench: 1,000 prompt tokens each, with 0, 500, 500, 500, 500 and 500 of them cached: 2,500 of 6,000. A call without
    the cache costs 1 x 0.01 + 0.1 x 0.02 = USD 0.012, with 500 cached 0.5 x 0.01 + 0.5 x 0.001 + 0.002 = 0.0075.
    So 0.012 + 5 x 0.0075 = 0.0495 instead of 0.072: 0.0225 saved.
    """
    with TimescaleDBClient(url) as db:
        for number in range(6):
            cached = 500 if number else 0
            depth = number % 2
            db.record_llm_interaction(
                record("bench", BEGUN, number, prompt_tokens=1000, cached_tokens=cached, current_depth=depth)
            )
        db.complete_query_run("bench", BEGUN)
        db.record_llm_interaction(
            LLMInteractionRecord(HOSTILE, BEGUN, HOSTILE, prompt_tokens=10, cached_tokens=None, start_time=BEGUN)
        )
        db.record_llm_interaction(
            LLMInteractionRecord(
                HOSTILE,
                BEGUN,
                LONG,
                prompt_tokens=10,
                start_time=BEGUN + timedelta(seconds=1),  # calls with the same time have no order
                success=False,
                error_type=HOSTILE,
            )
        )
        for number in range(40):
            moment = BEGUN - timedelta(days=40, hours=number // 2)  # two runs begin at each time
            name = f"old_{number % 7}%" if number % 2 else f"old-{number}"
            prompt = 100 * (1 + number % 5)
            db.record_llm_interaction(record(name, moment, prompt_tokens=prompt, cached_tokens=prompt // 2))
            if number % 3:
                db.complete_query_run(name, moment)
