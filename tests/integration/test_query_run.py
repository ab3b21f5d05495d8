"""``query_run`` around real calls: what is stored of a run, and what ``summary`` and ``optimization`` return."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

import rlm_cachetrack
from rlm_cachetrack import QueryRun, TimescaleDBClient, instrument, query_run
from rlm_cachetrack.simulator import Reply, SimulatedEndpoint

SYSTEM = "You are brief. " * 400  # 6,000 characters: 4 + 1,500 tokens by the simulator's rules
MODEL = "gpt-5"


@pytest.fixture
def db(reused_db_url: str) -> Iterator[TimescaleDBClient]:
    with TimescaleDBClient(reused_db_url) as client:
        yield client


@pytest.fixture
def openai(endpoint: SimulatedEndpoint, db: TimescaleDBClient) -> Iterator[OpenAI]:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test", max_retries=0) as client:
        yield instrument(client, store=db)


@pytest.fixture
async def async_openai(endpoint: SimulatedEndpoint, db: TimescaleDBClient) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=endpoint.base_url, api_key="sk-test", max_retries=0) as client:
        yield instrument(client, store=db)


def messages(user: str = "hello") -> list[Any]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def ask(client: OpenAI, user: str = "hello", **more: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=messages(user), **more)


async def ask_async(client: AsyncOpenAI, user: str = "hello") -> Any:
    return await client.chat.completions.create(model=MODEL, messages=messages(user))


def only_run(db: TimescaleDBClient) -> dict[str, Any]:
    (run,) = db.list_query_runs()
    return dict(run)


# -- summary and optimization -----------------------------------------------------------------------------------------


def test_a_run_reports_what_the_cache_saved(openai: OpenAI, db: TimescaleDBClient) -> None:
    # Each prompt: 4 + 1500 tokens of the system message, 4 + 2 of "hello" = 1510. The first call caches it in steps of
    # 128 from 1024 on, and each later call reads 1024 + 3 x 128 = 1408.
    with query_run("benchmark-001", metadata={"suite": "demo"}) as run:
        answers = [ask(openai, max_completion_tokens=50) for _ in run.iterations(range(3))]
        inside = run.summary()
        assert run.optimization() is None  # stored at the end of the run
    summary, optimization = run.summary(), run.optimization()
    assert inside == summary
    assert summary is not None
    assert optimization is not None
    assert summary == db.get_token_cache_summary("benchmark-001", run.run_id)
    assert optimization == db.get_token_cache_optimization("benchmark-001", run.run_id)
    assert summary["total_interactions"] == 3
    assert summary["total_prompt_tokens"] == 3 * 1510
    assert summary["total_cached_tokens"] == 2 * 1408
    assert summary["cache_hit_rate"] == pytest.approx(2816 / 4530)
    completion = sum(answer.usage.completion_tokens for answer in answers)
    assert summary["total_completion_tokens"] == completion
    assert optimization["cache_evolution"] == [
        {"iteration": 1, "prompt_tokens": 1510, "cached_tokens": 0, "cache_hit_rate": 0.0},
        {"iteration": 2, "prompt_tokens": 1510, "cached_tokens": 1408, "cache_hit_rate": pytest.approx(1408 / 1510)},
        {"iteration": 3, "prompt_tokens": 1510, "cached_tokens": 1408, "cache_hit_rate": pytest.approx(1408 / 1510)},
    ]
    # gpt-5: USD 1.25, 0.125 and 10 per 1M tokens; reading costs 1.125 less than processing.
    assert optimization["cost_savings"] == pytest.approx(2816 * 1.125e-6)
    assert optimization["original_cost"] == pytest.approx(4530 * 1.25e-6 + completion * 10e-6)
    listed = only_run(db)
    assert (listed["status"], listed["metadata"]) == ("completed", {"suite": "demo"})
    assert listed["start_time"] <= listed["end_time"]


def test_a_run_without_calls_is_listed_and_empty(openai: OpenAI, db: TimescaleDBClient) -> None:
    with query_run("q") as run:
        summary = run.summary()
        assert summary is not None
        assert summary["total_interactions"] == 0
        assert only_run(db)["status"] == "running"
    assert only_run(db)["status"] == "completed"
    optimization = run.optimization()
    assert optimization is not None
    assert optimization["cache_evolution"] == []


def test_a_run_records_into_the_environments_store(reused_db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", reused_db_url)
    with query_run("q") as run:
        pass
    summary = run.summary()
    assert summary is not None
    assert summary["query_id"] == "q"
    rlm_cachetrack.shutdown(5)
    assert run.summary() == summary  # the query opens the store again


def test_entering_and_leaving_a_run_do_not_wait_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", "postgresql://127.0.0.1:1/nobody")
    with query_run("q"):
        assert rlm_cachetrack.stats()["recorded"] == 1
    assert rlm_cachetrack.stats()["recorded"] == 2
    rlm_cachetrack.shutdown(0.1)


# -- how a run ends ---------------------------------------------------------------------------------------------------


class OwnError(Exception):
    pass


def test_an_exception_makes_the_run_an_error_and_propagates(openai: OpenAI, db: TimescaleDBClient) -> None:
    error = OwnError("the user's")
    with pytest.raises(OwnError) as caught, query_run("q") as run:  # noqa: PT012
        ask(openai)
        raise error
    assert caught.value is error
    assert only_run(db)["status"] == "error"
    optimization = run.optimization()
    assert optimization is not None
    assert optimization["total_interactions"] == 1


async def test_a_cancelled_run_is_an_error_too(db: TimescaleDBClient) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with query_run("q"):
            begun.set()
            await asyncio.Event().wait()

    instrument(store=db)
    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only_run(db)["status"] == "error"


def test_a_failed_call_that_the_program_handles_leaves_the_run_completed(
    openai: OpenAI, endpoint: SimulatedEndpoint, db: TimescaleDBClient
) -> None:
    endpoint.script(Reply(status=429))
    with query_run("q") as run:
        with pytest.raises(Exception, match="Rate limit"):
            ask(openai)
        ask(openai)
    summary = run.summary()
    assert summary is not None
    assert only_run(db)["status"] == "completed"
    assert (summary["total_interactions"], summary["failed_interactions"]) == (2, 1)
    assert summary["interactions_not_reported"] == 0  # a failed call is a failure
    assert summary["unpriced_interactions"] == 0


def test_a_call_that_ends_after_its_run_is_in_the_stored_optimization(openai: OpenAI, db: TimescaleDBClient) -> None:
    with query_run("q") as run:
        ask(openai)
        stream = ask(openai, stream=True)
    first = run.optimization()
    assert first is not None
    assert first["total_interactions"] == 1
    for _ in stream:
        pass
    second = run.optimization()
    assert second is not None
    assert second["total_interactions"] == 2
    assert second["total_prompt_tokens"] == 2 * 1510


# -- run contexts -----------------------------------------------------------------------------------------------------


def test_recursion_is_stored_with_each_call(openai: OpenAI, db: TimescaleDBClient) -> None:
    with query_run("q") as run:
        run.iteration = 1
        ask(openai)
        with run.recursion(model_type="sub", max_depth=2) as level:
            ask(openai)
            with level.recursion():
                ask(openai)
        ask(openai)
    top, sub, subsub, last = db.get_llm_interactions("q", run.run_id)
    assert [row["current_depth"] for row in (top, sub, subsub, last)] == [0, 1, 2, 0]
    assert [row["model_type"] for row in (top, sub, subsub, last)] == [None, "sub", "sub", None]
    assert [row["max_depth"] for row in (top, sub, subsub, last)] == [None, 2, 2, None]
    assert {row["iteration"] for row in (top, sub, subsub, last)} == {1}
    assert sub["parent_recursion_id"] == top["recursion_id"] == last["recursion_id"]
    assert subsub["parent_recursion_id"] == sub["recursion_id"] == level.recursion_id
    assert top["parent_recursion_id"] is None


def test_nested_runs_do_not_mix_their_calls(openai: OpenAI, db: TimescaleDBClient) -> None:
    with query_run("outer") as outer:
        ask(openai)
        with query_run("inner") as inner:
            ask(openai)
            ask(openai)
        ask(openai)
    totals = [run.summary() for run in (outer, inner)]
    assert [total and total["total_interactions"] for total in totals] == [2, 2]
    assert {run["query_id"]: run["status"] for run in db.list_query_runs()} == {
        "outer": "completed",
        "inner": "completed",
    }


def test_calls_of_worker_threads_belong_to_the_one_active_run(openai: OpenAI, db: TimescaleDBClient) -> None:
    with query_run("q") as run, ThreadPoolExecutor(4) as pool:
        run.iteration = 2
        list(pool.map(lambda n: ask(openai, str(n)), range(6)))
    rows = db.get_llm_interactions("q", run.run_id)
    assert len(rows) == 6
    assert {row["iteration"] for row in rows} == {2}


def test_runs_in_two_threads_do_not_mix_and_a_third_is_ad_hoc(openai: OpenAI, db: TimescaleDBClient) -> None:
    opened, done = threading.Barrier(3), threading.Barrier(3)
    runs: dict[str, QueryRun] = {}

    def work(name: str) -> None:
        with query_run(name) as run:
            runs[name] = run
            opened.wait(120)
            ask(openai, name)
            done.wait(120)

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, name) for name in ("one", "two")]
        opened.wait(120)
        pool.submit(ask, openai, "three").result()
        done.wait(120)
        for worker in workers:
            worker.result()
    counts = {run["query_id"]: run["total_interactions"] for run in db.list_query_runs()}
    assert counts == {"one": 1, "two": 1, "adhoc": 1}


async def test_gathered_calls_are_stored_in_their_own_iteration(
    async_openai: AsyncOpenAI, db: TimescaleDBClient
) -> None:
    async def step(number: int) -> int:
        run.iteration = number
        await asyncio.sleep(0)
        return int((await ask_async(async_openai, "x" * 4 * number)).usage.prompt_tokens)

    async with query_run("q") as run:
        tokens = await asyncio.gather(*(step(number) for number in (1, 2, 3)))
    rows = await asyncio.to_thread(db.get_llm_interactions, "q", run.run_id)
    stored = {row["iteration"]: row["prompt_tokens"] for row in rows}
    # 4 + 1500 of the system message, 4 + one token for each 4 characters: 1508 + number
    assert stored == {1: 1509, 2: 1510, 3: 1511} == dict(zip((1, 2, 3), tokens, strict=True))


async def test_calls_by_to_thread_belong_to_the_task_that_made_them(openai: OpenAI, db: TimescaleDBClient) -> None:
    async def one(name: str) -> QueryRun:
        async with query_run(name) as run:
            run.iteration = 1
            await asyncio.to_thread(ask, openai, name)
        return run

    runs = await asyncio.gather(one("a"), one("b"), one("c"))
    for run in runs:
        (row,) = await asyncio.to_thread(db.get_llm_interactions, run.query_id, run.run_id)
        assert row["iteration"] == 1


async def test_a_stream_belongs_to_the_run_that_requested_it(async_openai: AsyncOpenAI, db: TimescaleDBClient) -> None:
    async with query_run("asked") as run:
        stream = await async_openai.chat.completions.create(model=MODEL, messages=messages(), stream=True)
    async with query_run("read"):
        async for _ in stream:
            pass
    counts = {item["query_id"]: item["total_interactions"] for item in await asyncio.to_thread(db.list_query_runs)}
    assert counts == {"asked": 1, "read": 0}
    summary = await asyncio.to_thread(run.summary)
    assert summary is not None
    assert summary["total_prompt_tokens"] == 1510


# -- decorator --------------------------------------------------------------------------------------------------------


def test_each_call_of_a_decorated_function_is_stored_as_a_run(openai: OpenAI, db: TimescaleDBClient) -> None:
    @query_run("q", metadata={"by": "decorator"})
    def work(fail: bool) -> str:
        answer = ask(openai)
        if fail:
            raise OwnError
        return str(answer.choices[0].message.content)

    assert work(False)
    with pytest.raises(OwnError):
        work(True)
    failed, fine = db.list_query_runs()
    assert [run["status"] for run in (fine, failed)] == ["completed", "error"]
    assert [run["total_interactions"] for run in (fine, failed)] == [1, 1]
    assert fine["metadata"] == failed["metadata"] == {"by": "decorator"}
    assert fine["run_id"] < failed["run_id"]


async def test_decorated_coroutines_and_generators_are_stored_as_runs(
    openai: OpenAI, async_openai: AsyncOpenAI, db: TimescaleDBClient
) -> None:
    @query_run("coroutine")
    async def coroutine() -> None:
        await ask_async(async_openai)

    @query_run("generator")
    def generator() -> Iterator[int]:
        for number in range(2):
            ask(openai)
            yield number

    @query_run("async generator")
    async def async_generator() -> AsyncIterator[int]:
        for number in range(2):
            await ask_async(async_openai)
            yield number

    await asyncio.gather(coroutine(), coroutine())
    assert list(generator()) == [0, 1]
    assert [number async for number in async_generator()] == [0, 1]
    runs = await asyncio.to_thread(db.list_query_runs)
    assert sorted((run["query_id"], run["status"], run["total_interactions"]) for run in runs) == [
        ("async generator", "completed", 2),
        ("coroutine", "completed", 1),
        ("coroutine", "completed", 1),
        ("generator", "completed", 2),
    ]


def test_a_generator_that_is_not_exhausted_is_not_an_error(openai: OpenAI, db: TimescaleDBClient) -> None:
    @query_run("q")
    def work() -> Iterator[int]:
        for number in range(5):
            ask(openai)
            yield number

    for number in work():
        if number == 1:
            break
    run = only_run(db)
    assert (run["status"], run["total_interactions"]) == ("completed", 2)


# -- turned off, and by hand ------------------------------------------------------------------------------------------


def test_disabled_runs_record_nothing(
    db: TimescaleDBClient, endpoint: SimulatedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "1")
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as client:
        assert instrument(client, store=db) is client
        with query_run("q") as run:
            assert [ask(client).usage.prompt_tokens for _ in run.iterations(range(2))] == [1510, 1510]
    assert db.list_query_runs() == []


def test_the_same_run_can_be_joined_by_its_id(openai: OpenAI, db: TimescaleDBClient) -> None:
    """Two processes of one benchmark can share a run in this way."""
    run_id = datetime(2026, 3, 1, tzinfo=UTC)
    with query_run("q", run_id=run_id):
        ask(openai)
    with query_run("q", run_id=run_id.isoformat()):
        ask(openai)
    run = only_run(db)
    assert (run["run_id"], run["status"], run["total_interactions"]) == (run_id, "completed", 2)
