"""The tags of a call made in nested scopes, runs, tasks and generators. Nothing is stored here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest

from rlm_cachetrack import ContextThreadPoolExecutor, query_run, tags
from rlm_cachetrack.capture import context
from rlm_cachetrack.journal import call_event


@pytest.fixture(autouse=True)
def recording_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "1")


def here(client_tags: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the tags of a call made now, as its event contains them."""
    run_context, scope_tags = context.current_encoded(client_tags)
    event = call_event.encode(
        run_context, (1, "chat.completions", None, "m", "m", 0, 0, *[None] * 7, 0, *[None] * 3), None, None, scope_tags
    )
    tags: dict[str, str] | None = call_event.expand(json.loads(event)).get("tags")
    assert tags is None or tags
    return tags or {}


def test_the_tags_of_a_run_replace_those_around_it_also_inside_another_scope() -> None:
    with tags(user="outer", team="a"), query_run("q", tags={"user": "run"}) as run:
        assert here() == {"user": "run", "team": "a"}
        with tags(feature="search"):
            assert here() == {"user": "run", "team": "a", "feature": "search"}
            with run.recursion("sub"):
                assert here() == {"user": "run", "team": "a", "feature": "search"}
            with tags(user="inner"):
                assert here() == {"user": "inner", "team": "a", "feature": "search"}
        assert here() == {"user": "run", "team": "a"}


def test_each_scope_run_and_client_has_its_own_tags_in_alternating_calls() -> None:
    shop, desk = {"app": "shop"}, {"app": "desk"}
    with query_run("q") as run:
        for number in run.iterations(range(3)):
            with tags(user=number):
                assert here(shop) == {"app": "shop", "user": str(number)}
                assert here(desk) == {"app": "desk", "user": str(number)}
                assert here() == {"user": str(number)}
                assert run.iteration == number + 1
            assert here(shop) == {"app": "shop"}
            assert here() == {}


def test_of_more_than_sixteen_tags_the_innermost_are_kept() -> None:
    outer = {f"outer-{number}": "0" for number in range(16)}
    with tags(**{"outer-0": "again", "inner": "1"}):
        found = here(outer)
        assert len(found) == 16
        assert (found["outer-0"], found["inner"]) == ("again", "1")
    with query_run("q", tags=outer), tags(**{"outer-0": "again", "inner": "1"}):
        for found in (here(), context.current_tags() or {}):
            assert len(found) == 16
            assert (found["outer-0"], found["inner"]) == ("again", "1")


def test_text_that_json_must_escape_reaches_the_event() -> None:
    odd = {'a "quoted" name': "C:\\temp\n", "emoji": "\U0001f600", "nul": "a\0b", "surrogate": "a\ud800b", "": ""}
    del odd[""]
    with query_run("q"), tags(**odd):
        assert here() == {**odd, "nul": "a\ufffdb", "surrogate": "a?b"}


def test_a_scope_can_be_used_again_also_nested_and_in_concurrent_tasks() -> None:
    scope = tags(user="u-1")
    for _ in range(2):
        with scope:
            assert here() == {"user": "u-1"}
    with scope:
        with scope:
            assert here() == {"user": "u-1"}
        assert here() == {"user": "u-1"}
    assert here() == {}

    async def task(number: int) -> None:
        for _ in range(5):
            with tags(task=number), scope:
                await asyncio.sleep(0)
                assert here() == {"task": str(number), "user": "u-1"}
            assert here() == {}

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(10)))

    asyncio.run(main())


def test_generators_that_end_in_another_order_leave_no_tags() -> None:
    def tagged(**given: str) -> Iterator[dict[str, str]]:
        with tags(**given):
            yield here()

    first, second = tagged(user="first"), tagged(feature="second")
    assert next(first) == {"user": "first"}
    assert next(second) == {"user": "first", "feature": "second"}
    first.close()
    assert here() == {"feature": "second"}
    second.close()
    assert here() == {}


def test_a_task_keeps_the_tags_of_the_code_that_started_it() -> None:
    async def child(go: asyncio.Event) -> dict[str, str]:
        await go.wait()
        with tags(part="child"):
            pass
        return here()

    async def main() -> dict[str, str]:
        go = asyncio.Event()
        with tags(user="u-1"):
            task = asyncio.create_task(child(go))
            await asyncio.sleep(0)
        go.set()
        return await task

    assert asyncio.run(main()) == {"user": "u-1"}


def test_a_thread_of_the_context_executor_ends_its_own_scopes_only() -> None:
    def inner() -> dict[str, str]:
        with tags(part="thread"):
            return here()

    with tags(user="u-1"), ContextThreadPoolExecutor(1) as pool:
        assert pool.submit(inner).result() == {"user": "u-1", "part": "thread"}
        assert pool.submit(here).result() == {"user": "u-1"}


def test_a_decorated_function_generator_or_coroutine_runs_with_the_tags() -> None:
    @tags(user="u-1")
    def plain() -> dict[str, str]:
        return here()

    @tags(user="u-1")
    def items() -> Iterator[dict[str, str]]:
        for _ in range(2):
            yield here()

    @tags(user="u-1")
    async def coroutine() -> dict[str, str]:
        await asyncio.sleep(0)
        return here()

    @tags(user="u-1")
    async def async_items() -> AsyncIterator[dict[str, str]]:
        for _ in range(2):
            await asyncio.sleep(0)
            yield here()

    async def collected() -> list[dict[str, str]]:
        return [await coroutine()] + [item async for item in async_items()]

    assert plain() == {"user": "u-1"}
    found = []
    for item in items():
        found.append(item)
        assert here() == {}
    assert found == [{"user": "u-1"}] * 2
    assert asyncio.run(collected()) == [{"user": "u-1"}] * 3
    assert here() == {}
