"""A user's program that is checked by mypy --strict and never run; ``assert_type`` states what an editor shows.

Each ``type: ignore`` marks a mistake that the types must detect. If they no longer do, the unused ignore is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, assert_type

from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletion

import rlm_cachetrack
from rlm_cachetrack import (
    LLMInteractionRecord,
    QueryRun,
    RecordBatch,
    RecordSink,
    TimescaleDBClient,
    instrument,
    query_run,
    uninstrument,
)
from rlm_cachetrack.analytics import (
    CacheEvolutionStep,
    ModelEffectiveness,
    RunListing,
    TokenCacheOptimization,
    TokenCacheSummary,
)
from rlm_cachetrack.formatting.tables import Table

RUN_ID = datetime(2026, 1, 2, tzinfo=UTC)


class MyClient(OpenAI):
    """A user's own client class."""


def instrument_returns_the_type_that_it_was_given() -> None:
    assert_type(instrument(OpenAI()), OpenAI)
    assert_type(instrument(AsyncOpenAI()), AsyncOpenAI)
    assert_type(instrument(AzureOpenAI()), AzureOpenAI)
    assert_type(instrument(AsyncAzureOpenAI()), AsyncAzureOpenAI)
    assert_type(instrument(MyClient()), MyClient)
    client = instrument(OpenAI(), store="postgresql://localhost/db", pricing="prices.yaml")
    answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    assert_type(answer, ChatCompletion)
    instrument(OpenAI(), pricing=5)  # type: ignore[arg-type]
    uninstrument()
    uninstrument(client)


class MySink:
    """A user's own store."""

    def store(self, batch: RecordBatch) -> None:
        """Store the batch."""

    def close(self) -> None:
        """Release all resources."""


def a_sink_and_a_client_are_stores(db: TimescaleDBClient) -> None:
    sink: RecordSink = MySink()
    instrument(OpenAI(), store=sink)
    instrument(OpenAI(), store=db)


def a_run_is_a_context_manager() -> None:
    with query_run("benchmark-001", metadata={"commit": "abc"}) as run:
        assert_type(run, QueryRun)
        assert_type(run.query_id, str)
        assert_type(run.run_id, datetime)
        for question in run.iterations(["a", "b"]):
            assert_type(question, str)
        assert_type(run.iteration, int | None)
        run.iteration = 3
        run.iteration = "3"  # type: ignore[assignment]
        with run.recursion(model_type="sub") as deeper:
            assert_type(deeper.depth, int)
            with deeper.recursion():
                pass
    assert_type(run.summary(), TokenCacheSummary)
    assert_type(run.optimization(), TokenCacheOptimization | None)
    query_run()  # type: ignore[call-arg]


async def a_run_is_an_async_context_manager() -> None:
    async with query_run("benchmark-001", run_id=RUN_ID) as run:
        assert_type(run, QueryRun)
        async with run.recursion() as deeper:
            assert_type(deeper.recursion_id, str)


@query_run("benchmark-001")
def decorated(question: str, times: int = 1) -> list[str]:
    return [question] * times


@query_run("benchmark-001")
async def decorated_coroutine(question: str) -> bytes:
    return question.encode()


@query_run("benchmark-001")
def decorated_generator(count: int) -> Iterator[int]:
    yield from range(count)


@query_run("benchmark-001")
async def decorated_async_generator(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def a_decorated_function_keeps_its_signature() -> None:
    assert_type(decorated("a", times=2), list[str])
    assert_type(await decorated_coroutine("a"), bytes)
    assert_type(decorated_generator(2), Iterator[int])
    assert_type(decorated_async_generator(2), AsyncIterator[int])
    decorated(1)  # type: ignore[arg-type]


def results_are_typed_key_by_key(db: TimescaleDBClient) -> None:
    summary = db.get_token_cache_summary("q", RUN_ID)
    summary["total_tokens"]  # type: ignore[index]
    assert summary is not None
    assert_type(summary["total_cached_tokens"], int)
    assert_type(summary["cache_hit_rate"], float | None)
    assert_type(summary["total_cost"], float | None)
    summary["total_csot"]  # type: ignore[typeddict-item]

    optimization = db.calculate_and_store_cache_optimization("q", RUN_ID)
    assert_type(optimization, TokenCacheOptimization | None)
    assert optimization is not None
    assert_type(optimization["cost_savings"], float | None)
    assert_type(optimization["cache_evolution"], list[CacheEvolutionStep])
    assert_type(optimization["cache_evolution"][0]["iteration"], int)

    assert_type(db.get_token_cache_optimization("q", "2026-01-02T00:00:00+00:00"), TokenCacheOptimization | None)
    assert_type(db.get_top_cache_savings(limit=3), Table[TokenCacheOptimization])
    assert_type(db.get_cache_effectiveness_by_model(since=RUN_ID), Table[ModelEffectiveness])
    assert_type(db.list_query_runs(), Table[RunListing])
    assert_type(db.get_llm_interactions("q", RUN_ID), Table[dict[str, Any]])
    assert_type(db.get_query_run_summary("q", RUN_ID), dict[str, Any] | None)


def records_are_made_by_hand() -> None:
    record = LLMInteractionRecord(query_id="q", run_id=RUN_ID, model="gpt-5", prompt_tokens=2048, cached_tokens=None)
    assert_type(record.cached_tokens, int | None)
    LLMInteractionRecord(query_id="q", run_id=RUN_ID)  # type: ignore[call-arg]
    LLMInteractionRecord(query_id="q", run_id=RUN_ID, model="gpt-5", prompt_token=1)  # type: ignore[call-arg]
    with TimescaleDBClient("postgresql://localhost/db", pool_size=2) as db:
        assert_type(db, TimescaleDBClient)
        assert_type(db.record_llm_interaction(record), str)
    assert_type(rlm_cachetrack.flush(timeout_s=1.0), bool)
