"""Tags, call sites and trace ids reach the row of their call, in nested scopes, tasks and threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from openai import AsyncOpenAI, OpenAI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from psycopg.rows import dict_row

from rlm_cachetrack import (
    ContextThreadPoolExecutor,
    LLMInteractionRecord,
    TimescaleDBClient,
    flush,
    instrument,
    query_run,
    shutdown,
    tags,
)
from rlm_cachetrack.errors import RecordError
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.client_calls import T0


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(latency=False) as server:
        yield server
    shutdown()


@pytest.fixture
def client(endpoint: SimulatedEndpoint) -> Iterator[OpenAI]:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as made:
        yield made


def ask(client: OpenAI, text: str = "hi") -> None:
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}])


def rows(url: str, order: str = "time") -> list[dict[str, Any]]:
    assert flush(120)
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM llm_interactions ORDER BY {order}").fetchall()  # type: ignore[arg-type]


def test_tags_of_client_run_and_scopes_nest(reused_db_url: str, client: OpenAI) -> None:
    instrument(client, store=reused_db_url, tags={"app": "shop", "user": "nobody"})
    ask(client)
    with tags(user="u-1"):
        ask(client)
        with query_run("q", tags={"agent": "planner"}) as run:
            ask(client)
            with tags(feature="search", user="u-2"):
                ask(client)
                with run.recursion("sub"):
                    ask(client)
            with tags(agent="critic"):
                ask(client)
        ask(client)
    ask(client)
    assert [row["tags"] for row in rows(reused_db_url)] == [
        {"app": "shop", "user": "nobody"},
        {"app": "shop", "user": "u-1"},
        {"app": "shop", "user": "u-1", "agent": "planner"},
        {"app": "shop", "user": "u-2", "agent": "planner", "feature": "search"},
        {"app": "shop", "user": "u-2", "agent": "planner", "feature": "search"},
        {"app": "shop", "user": "u-1", "agent": "critic"},
        {"app": "shop", "user": "u-1"},
        {"app": "shop", "user": "nobody"},
    ]


def test_a_call_without_tags_has_none(reused_db_url: str, client: OpenAI) -> None:
    instrument(client, store=reused_db_url)
    with query_run("q"):
        ask(client)
    (row,) = rows(reused_db_url)
    assert (row["tags"], row["call_site"], row["trace_id"], row["span_id"]) == (None, None, None, None)


def test_tags_follow_threads_of_the_context_executor_and_of_the_only_run(reused_db_url: str, client: OpenAI) -> None:
    instrument(client, store=reused_db_url)
    with query_run("q", tags={"agent": "a"}), tags(user="u-1"):
        with ContextThreadPoolExecutor(1) as pool:
            pool.submit(ask, client, "inherits the context").result()
        with ThreadPoolExecutor(1) as plain:
            plain.submit(ask, client, "belongs to the only open run").result()
    assert [row["tags"] for row in rows(reused_db_url)] == [{"agent": "a", "user": "u-1"}, {"agent": "a"}]


def test_fifty_tasks_with_runs_tags_and_outcomes_of_their_own(reused_db_url: str, endpoint: SimulatedEndpoint) -> None:
    async def task(number: int, client: AsyncOpenAI) -> None:
        async with query_run(f"q-{number:02}", tags={"task": number}) as run:
            for step in run.iterations(range(3)):
                with tags(step=step):
                    await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
            run.record_outcome(success=number % 2 == 0, score=number / 50)

    async def main() -> None:
        async with AsyncOpenAI(base_url=endpoint.base_url, api_key="k") as client:
            instrument(client, store=reused_db_url)
            await asyncio.gather(*(task(number, client) for number in range(50)))

    asyncio.run(main())
    found = rows(reused_db_url, "query_id, iteration")
    assert [(row["query_id"], row["iteration"], row["tags"]) for row in found] == [
        (f"q-{number:02}", step + 1, {"task": str(number), "step": str(step)})
        for number in range(50)
        for step in range(3)
    ]
    with psycopg.connect(reused_db_url) as connection:
        outcomes = connection.execute("SELECT success, score FROM query_run_summaries ORDER BY query_id").fetchall()
    assert outcomes == [(number % 2 == 0, pytest.approx(number / 50)) for number in range(50)]


def test_a_hand_made_record_has_the_tags_of_its_context(reused_db_url: str) -> None:
    with TimescaleDBClient(reused_db_url) as db:
        with tags(user="u-1"):
            db.record_llm_interaction(LLMInteractionRecord("q", T0, "m"))
            db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", tags={"user": "own"}))
        assert sorted(row["tags"]["user"] for row in db.get_llm_interactions("q", T0)) == ["own", "u-1"]


def test_more_than_sixteen_merged_tags_keep_the_inner_ones(reused_db_url: str, client: OpenAI) -> None:
    instrument(client, store=reused_db_url, tags={f"outer-{number}": 1 for number in range(16)})
    with tags(inner=1):
        ask(client)
    (row,) = rows(reused_db_url)
    assert len(row["tags"]) == 16
    assert row["tags"]["inner"] == "1"


def test_tags_that_cannot_be_stored_are_refused_where_they_are_given(client: OpenAI, reused_db_url: str) -> None:
    with pytest.raises(RecordError, match="tag user="):
        tags(user=object())
    with pytest.raises(RecordError, match="tag user="):
        instrument(client, store=reused_db_url, tags={"user": []})


class Agent:
    def answer(self, client: OpenAI) -> None:
        ask(client)


def test_the_call_site_is_the_function_outside_the_sdk(reused_db_url: str, client: OpenAI) -> None:
    instrument(client, store=reused_db_url, call_site=True)
    Agent().answer(client)
    (row,) = rows(reused_db_url)
    assert row["call_site"] == f"{__name__}:ask"


def test_frames_of_frameworks_are_not_the_call_site(reused_db_url: str, client: OpenAI) -> None:
    framework: dict[str, Any] = {"__name__": "langchain_openai.chat_models"}
    exec("def invoke(call, **arguments): return call(**arguments)", framework)
    instrument(client, store=reused_db_url, call_site=True)
    create = client.chat.completions.create
    framework["invoke"](create, model="gpt-5", messages=[{"role": "user", "content": "hi"}])
    (row,) = rows(reused_db_url)
    assert row["call_site"] == f"{__name__}:test_frames_of_frameworks_are_not_the_call_site"


def test_the_current_span_is_stored_with_the_call(reused_db_url: str, client: OpenAI) -> None:
    tracer = TracerProvider().get_tracer("test")
    instrument(client, store=reused_db_url)
    with tracer.start_as_current_span("step") as span:
        ask(client)
    ask(client)
    inside, outside = rows(reused_db_url)
    context = span.get_span_context()
    assert (inside["trace_id"], inside["span_id"]) == (
        trace.format_trace_id(context.trace_id),
        trace.format_span_id(context.span_id),
    )
    assert (outside["trace_id"], outside["span_id"]) == (None, None)
