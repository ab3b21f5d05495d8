"""The run context of calls in threads, tasks and generators. Nothing is stored here."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from rlm_cachetrack import CacheTrackError, ConfigError, ContextThreadPoolExecutor, RecordError, active_run, query_run
from rlm_cachetrack.capture import context

T = TypeVar("T")
T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def recording_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "1")


def here() -> tuple[str, int | None]:
    """Return query and iteration of a call made now."""
    values = context.current()
    return values["query_id"], values.get("iteration")


def in_a_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread that inherits no context, as ``threading.Thread`` and executors start them."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


class Elsewhere:
    """A thread that keeps a run open until it is released."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)

    def do(self, function: Callable[[], T]) -> T:
        return self._pool.submit(function).result()

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


# -- outside of runs --------------------------------------------------------------------------------------------------


def test_outside_any_run_there_is_one_ad_hoc_run_a_process() -> None:
    first, second = context.current(), in_a_thread(context.current)
    assert first["query_id"] == second["query_id"] == "adhoc"
    assert first["run_id"] == second["run_id"]
    assert datetime.fromisoformat(first["run_id"]).utcoffset() == timedelta(0)


def test_run_ids_never_collide() -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: context.new_run_id(), range(2000)))
    assert len(set(ids)) == 2000


# -- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_is_active_from_enter_to_exit() -> None:
    with query_run("q") as run:
        assert here() == ("q", None)
        assert context.current()["run_id"] == run.run_id.isoformat()
        assert (run.query_id, run.run_id.tzinfo) == ("q", UTC)
    assert here() == ("adhoc", None)


def test_a_given_run_id_is_converted_to_utc() -> None:
    with query_run("q", run_id="2026-03-01T14:00:00+02:00") as run:
        assert run.run_id == T0
        assert context.current()["run_id"] == T0.isoformat()


def test_a_run_has_no_run_id_before_it_begins() -> None:
    with pytest.raises(CacheTrackError, match="entering"):
        _ = query_run("q").run_id


def test_a_run_can_be_entered_again_but_not_twice_at_once() -> None:
    run = query_run("q")
    with run:
        first = run.run_id
        with pytest.raises(CacheTrackError, match="already open"), run:
            pass
        assert here() == ("q", None)
    with run:
        assert run.run_id > first
    assert here() == ("adhoc", None)


async def test_a_run_is_an_async_context_manager_too() -> None:
    async with query_run("q") as run:
        run.iteration = 2
        await asyncio.sleep(0)
        assert here() == ("q", 2)
    assert here() == ("adhoc", None)


def test_nested_runs_belong_to_the_innermost() -> None:
    with query_run("outer") as outer:
        outer.iteration = 3
        with query_run("inner"):
            assert here() == ("inner", None)  # the iteration of another run does not apply to this run
        assert here() == ("outer", 3)


# -- iterations -------------------------------------------------------------------------------------------------------


def test_iterations_yields_the_items_and_numbers_them_from_one() -> None:
    with query_run("q") as run:
        assert run.iteration is None
        assert [(item, run.iteration, here()) for item in run.iterations("ab")] == [
            ("a", 1, ("q", 1)),
            ("b", 2, ("q", 2)),
        ]
        assert [(item, here()[1]) for item in run.iterations(iter([7]), start=5)] == [(7, 5)]


def test_an_iteration_can_be_set_and_unset() -> None:
    with query_run("q") as run:
        run.iteration = 4
        assert here() == ("q", 4)
        run.iteration = None
        assert here() == ("q", None)


@pytest.mark.parametrize("number", [-1, 1.0, "1", True])
def test_an_iteration_must_be_a_whole_number(number: Any) -> None:
    with query_run("q") as run, pytest.raises(RecordError):
        run.iteration = number


def test_an_iteration_needs_an_open_run() -> None:
    run = query_run("q")
    with pytest.raises(CacheTrackError, match="not open"):
        run.iteration = 1


def test_a_new_run_of_the_same_handle_starts_without_iteration() -> None:
    run = query_run("q")
    with run:
        run.iteration = 9
    with run:
        assert here() == ("q", None)


# -- recursion --------------------------------------------------------------------------------------------------------


def levels() -> dict[str, Any]:
    names = ("current_depth", "max_depth", "recursion_id", "parent_recursion_id", "model_type", "model_index")
    values = context.current()
    return {name: values.get(name) for name in names}


def test_recursion_counts_depth_and_names_levels() -> None:
    with query_run("q") as run:
        top = levels()
        assert (top["current_depth"], top["parent_recursion_id"], top["model_type"]) == (0, None, None)
        with run.recursion(model_type="sub", model_index=1, max_depth=3) as first:
            one = levels()
            assert one == {
                "current_depth": 1,
                "max_depth": 3,
                "recursion_id": first.recursion_id,
                "parent_recursion_id": top["recursion_id"],
                "model_type": "sub",
                "model_index": 1,
            }
            assert (first.depth, first.parent_recursion_id) == (1, top["recursion_id"])
            with first.recursion() as second:  # omitted arguments have their values from outside the run
                assert levels() == {
                    **one,
                    "current_depth": 2,
                    "recursion_id": second.recursion_id,
                    "parent_recursion_id": first.recursion_id,
                }
            assert levels() == one
        assert levels() == top
        with run.recursion() as sibling:
            assert (sibling.depth, sibling.parent_recursion_id) == (1, top["recursion_id"])
            assert sibling.recursion_id != first.recursion_id
        assert {UUID(name).version for name in (first.recursion_id, second.recursion_id, top["recursion_id"])} == {7}


def test_recursion_of_the_run_inside_a_level_opens_a_level_below_that_one() -> None:
    with query_run("q") as run, run.recursion() as first, run.recursion() as second:
        assert (second.depth, second.parent_recursion_id) == (2, first.recursion_id)


def test_a_recursive_function_needs_only_the_run() -> None:
    values = []

    def solve(depth: int) -> None:
        values.append(context.current()["current_depth"])
        if depth < 3:
            with run.recursion():
                solve(depth + 1)

    with query_run("q") as run:
        solve(0)
    assert values == [0, 1, 2, 3]


def test_a_level_takes_the_iteration_of_the_run_until_it_has_its_own() -> None:
    with query_run("q") as run:
        run.iteration = 2
        with run.recursion() as level:
            assert here() == ("q", 2)
            level.iteration = 7
            assert here() == ("q", 7)
        assert here() == ("q", 2)


async def test_a_level_is_an_async_context_manager_too() -> None:
    async with query_run("q") as run, run.recursion(model_type="sub") as level:
        assert levels()["recursion_id"] == level.recursion_id
    assert here() == ("adhoc", None)


def test_recursion_needs_an_open_run() -> None:
    with pytest.raises(CacheTrackError, match="not open"), query_run("q").recursion():
        pass


# -- threads ----------------------------------------------------------------------------------------------------------


def test_a_thread_falls_back_to_the_one_active_run() -> None:
    with query_run("q") as run:
        run.iteration = 3
        assert in_a_thread(here) == ("q", 3)
    assert in_a_thread(here) == ("adhoc", None)


def test_nested_runs_count_as_one_the_innermost_for_other_threads() -> None:
    with query_run("outer"):
        with query_run("inner"):
            assert in_a_thread(here) == ("inner", None)
        assert in_a_thread(here) == ("outer", None)


def test_the_recursion_level_applies_to_other_threads() -> None:
    with query_run("q") as run, run.recursion(model_type="sub") as level:
        assert in_a_thread(levels)["recursion_id"] == level.recursion_id


def test_with_two_runs_in_two_threads_a_third_falls_back_to_ad_hoc() -> None:
    with Elsewhere() as one, Elsewhere() as two:
        first, second = query_run("first"), query_run("second")
        one.do(first.__enter__)
        two.do(second.__enter__)
        assert one.do(here) == ("first", None)
        assert two.do(here) == ("second", None)
        assert in_a_thread(here) == ("adhoc", None)
        one.do(lambda: first.__exit__(None, None, None))
        assert in_a_thread(here) == ("second", None)
        two.do(lambda: second.__exit__(None, None, None))
        assert one.do(here) == two.do(here) == in_a_thread(here) == ("adhoc", None)


def test_with_runs_here_and_in_a_thread_another_thread_is_ad_hoc() -> None:
    with query_run("main"), Elsewhere() as worker:
        run = query_run("worker")
        worker.do(run.__enter__)
        assert here() == ("main", None)
        assert worker.do(here) == ("worker", None)
        assert in_a_thread(here) == ("adhoc", None)
        worker.do(lambda: run.__exit__(None, None, None))
        assert in_a_thread(here) == ("main", None)


def test_two_threads_that_recurse_in_one_run_are_siblings() -> None:
    with query_run("q") as run, Elsewhere() as one, Elsewhere() as two:
        first, second = run.recursion(), run.recursion()
        one.do(first.__enter__)
        two.do(second.__enter__)
        assert (first.depth, second.depth) == (1, 1)
        assert first.parent_recursion_id == second.parent_recursion_id == levels()["recursion_id"]
        assert in_a_thread(here) == ("q", None)  # both threads use the same run
        one.do(lambda: first.__exit__(None, None, None))
        two.do(lambda: second.__exit__(None, None, None))


def test_threads_that_recurse_go_below_the_level_that_started_them() -> None:
    with query_run("q") as run, run.recursion() as level, Elsewhere() as one, Elsewhere() as two:
        first, second = run.recursion(), run.recursion()
        one.do(first.__enter__)
        two.do(second.__enter__)
        assert (first.depth, second.depth) == (2, 2)
        assert first.parent_recursion_id == second.parent_recursion_id == level.recursion_id
        deeper = run.recursion()
        one.do(deeper.__enter__)
        assert (deeper.depth, deeper.parent_recursion_id) == (3, first.recursion_id)
        assert (
            in_a_thread(levels)["recursion_id"] == level.recursion_id
        )  # a level opened in a thread applies only to that thread
        for thread, opened in ((one, deeper), (one, first), (two, second)):
            thread.do(functools.partial(opened.__exit__, None, None, None))


def test_a_forked_process_leaves_the_runs_of_other_threads_behind() -> None:
    def in_a_fork() -> str:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads
            child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.write(writing, f"{here()[0]} {in_a_thread(here)[0]}".encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text_read = pipe.read()
        os.waitpid(child, 0)
        return text_read

    with Elsewhere() as other:
        run = query_run("theirs")
        other.do(run.__enter__)
        assert in_a_fork() == "adhoc adhoc"
        with query_run("mine"):
            assert in_a_fork() == "mine mine"
        other.do(lambda: run.__exit__(None, None, None))


def test_a_thread_with_a_copied_context_stays_in_its_run() -> None:
    with query_run("q"):
        copied = contextvars.copy_context()
        with query_run("inner"):
            assert in_a_thread(lambda: copied.run(here)) == ("q", None)


def test_a_thread_started_before_the_run_falls_back_to_it_while_it_is_open() -> None:
    with Elsewhere() as early:
        assert early.do(here) == ("adhoc", None)
        with query_run("first") as run:
            run.iteration = 1
            assert early.do(here) == ("first", 1)
            with query_run("second"):
                assert early.do(here) == ("second", None)
            assert early.do(here) == ("first", 1)
        assert early.do(here) == ("adhoc", None)


# -- the executor that carries the context ----------------------------------------------------------------------------


def test_the_executor_passes_run_iteration_and_recursion_to_existing_threads() -> None:
    def all_of_it() -> tuple[Any, ...]:
        values = context.current()
        return tuple(values.get(name) for name in ("query_id", "run_id", "iteration", "current_depth", "recursion_id"))

    with ContextThreadPoolExecutor(1) as pool, Elsewhere() as other:
        assert pool.submit(here).result() == ("adhoc", None)  # its one thread is started
        beside = query_run("beside")
        other.do(beside.__enter__)  # with two active runs there is no fallback
        with query_run("q") as run:
            for _ in run.iterations("ab"):
                with run.recursion():
                    assert pool.submit(all_of_it).result() == all_of_it()
            assert in_a_thread(here) == ("adhoc", None)
        other.do(lambda: beside.__exit__(None, None, None))


def test_work_belongs_to_the_run_in_which_it_was_submitted() -> None:
    go = threading.Event()

    def later() -> tuple[str, int | None]:
        assert go.wait(120)
        return here()

    with ContextThreadPoolExecutor(4) as pool:
        with query_run("first") as run:
            futures = [pool.submit(later) for _ in run.iterations("ab")]
        with query_run("second"):
            futures.append(pool.submit(later))
            go.set()
            assert [future.result() for future in futures] == [("first", 1), ("first", 2), ("second", None)]


def test_the_executor_maps_and_leaves_no_context_in_its_threads() -> None:
    def numbered(number: int) -> tuple[str, int | None]:
        run = active_run()
        assert run is not None
        run.iteration = number
        return here()

    with ContextThreadPoolExecutor(1) as pool:
        with query_run("q") as run:
            assert list(pool.map(numbered, [3, 4])) == [("q", 3), ("q", 4)]
            run.iteration = 7
            assert pool.submit(here).result() == ("q", 7)
        assert pool.submit(here).result() == ("adhoc", None)


def test_the_executor_is_the_standard_one_otherwise() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("set")

    def fails() -> None:
        raise KeyError("as it was")

    with ContextThreadPoolExecutor(max_workers=2, thread_name_prefix="ours") as pool:
        assert isinstance(pool, ThreadPoolExecutor)
        assert pool.submit(variable.get).result() == "set"
        assert pool.submit(lambda: threading.current_thread().name).result().startswith("ours")
        assert pool.submit(dict, fn=1, self=2).result() == {"fn": 1, "self": 2}
        with pytest.raises(KeyError, match="as it was"):
            pool.submit(fails).result()
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(here)


async def test_the_executor_serves_an_event_loop_too() -> None:
    loop = asyncio.get_running_loop()
    with ContextThreadPoolExecutor(2) as pool:

        async def one(name: str) -> tuple[str, int | None]:
            async with query_run(name) as run:
                run.iteration = len(name)
                await arrived.wait()  # both runs are open
                return await loop.run_in_executor(pool, here)

        arrived = asyncio.Barrier(2)
        assert await asyncio.gather(one("a"), one("bb")) == [("a", 1), ("bb", 2)]


# -- asyncio ----------------------------------------------------------------------------------------------------------


async def test_gathered_tasks_each_have_their_own_iteration() -> None:
    arrived = asyncio.Barrier(3)

    async def step(number: int) -> tuple[str, int | None]:
        run.iteration = number
        await arrived.wait()  # all three tasks have set their iteration
        return here()

    async with query_run("q") as run:
        assert await asyncio.gather(step(1), step(2), step(3)) == [("q", 1), ("q", 2), ("q", 3)]
        assert run.iteration is not None


async def test_a_task_keeps_the_iteration_in_which_it_was_made() -> None:
    async with query_run("q") as run:
        go = asyncio.Event()

        async def later() -> tuple[str, int | None]:
            await go.wait()
            return here()

        tasks = [asyncio.create_task(later()) for _ in run.iterations(range(3))]
        go.set()
        assert await asyncio.gather(*tasks) == [("q", 1), ("q", 2), ("q", 3)]


async def test_gathered_runs_do_not_mix() -> None:
    arrived = asyncio.Barrier(2)

    async def one(name: str) -> tuple[str, int | None]:
        async with query_run(name) as run:
            run.iteration = len(name)
            await arrived.wait()
            values = here()
            await arrived.wait()
            return values

    assert await asyncio.gather(one("a"), one("bb")) == [("a", 1), ("bb", 2)]
    assert here() == ("adhoc", None)


async def test_to_thread_inherits_and_an_executor_falls_back() -> None:
    async with query_run("outer") as outer:
        outer.iteration = 1
        assert await asyncio.to_thread(here) == ("outer", 1)
        assert await asyncio.get_running_loop().run_in_executor(None, here) == ("outer", 1)
        async with query_run("inner"):
            assert await asyncio.to_thread(here) == ("inner", None)


async def test_nested_runs_in_gathered_tasks_and_their_threads_do_not_mix() -> None:
    arrived = asyncio.Barrier(2)

    async def one(name: str) -> list[tuple[str, int | None]]:
        values = []
        async with query_run(f"{name}-outer") as outer:
            outer.iteration = 1
            await arrived.wait()
            async with query_run(f"{name}-inner"), asyncio.TaskGroup() as group:
                await arrived.wait()
                values.append(await group.create_task(asyncio.to_thread(here)))
            await arrived.wait()
            values.append(await asyncio.to_thread(here))
        return values

    async with query_run("whole"):
        assert await asyncio.gather(one("a"), one("b")) == [
            [("a-inner", None), ("a-outer", 1)],
            [("b-inner", None), ("b-outer", 1)],
        ]
        assert here() == ("whole", None)


async def test_a_task_created_before_the_run_falls_back_to_it() -> None:
    asked, answers = asyncio.Queue[None](), asyncio.Queue[Any]()

    async def worker() -> None:
        while True:
            await asked.get()
            await answers.put(here())

    async def ask() -> Any:
        await asked.put(None)
        return await answers.get()

    task = asyncio.create_task(worker())
    async with query_run("q") as run:
        run.iteration = 2
        assert await ask() == ("q", 2)
    assert await ask() == ("adhoc", None)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_task_made_in_a_run_belongs_to_it_after_the_run_has_ended() -> None:
    over = asyncio.Event()

    async def late() -> tuple[str, int | None]:
        await over.wait()
        return here()

    async with query_run("q"):
        task = asyncio.create_task(late())
    assert here() == ("adhoc", None)
    over.set()
    assert await task == ("q", None)


# -- decorator --------------------------------------------------------------------------------------------------------


def test_each_call_of_a_decorated_function_is_a_run_of_its_own() -> None:
    @query_run("q")
    def work(text: str, *, times: int = 1) -> tuple[str, tuple[str, int | None], str]:
        """What it does."""
        return text * times, here(), context.current()["run_id"]

    first, second = work("ab", times=2), work("c")
    assert (first[0], second[0]) == ("abab", "c")
    assert first[1] == second[1] == ("q", None)
    assert first[2] != second[2]
    assert (work.__name__, work.__doc__) == ("work", "What it does.")
    assert here() == ("adhoc", None)


def test_a_decorated_function_may_recurse() -> None:
    run_ids = []

    @query_run("q")
    def work(depth: int) -> None:
        run_ids.append(context.current()["run_id"])
        if depth:
            work(depth - 1)

    work(2)
    assert len(set(run_ids)) == 3


async def test_each_call_of_a_decorated_coroutine_is_a_run() -> None:
    @query_run("q")
    async def work() -> tuple[str, str]:
        await asyncio.sleep(0)
        return here()[0], context.current()["run_id"]

    assert asyncio.iscoroutinefunction(work)
    first, second = await asyncio.gather(work(), work())
    assert first[0] == second[0] == "q"
    assert first[1] != second[1]


def test_a_decorated_generator_is_still_a_generator() -> None:
    @query_run("q")
    def work() -> Iterator[Any]:
        got = yield here()
        assert got == "sent"
        try:
            yield here()
        except KeyError:
            yield "caught"
        return "result"

    generator = work()
    assert here() == ("adhoc", None)  # the generator has not started
    assert next(generator) == ("q", None)
    assert generator.send("sent") == ("q", None)
    assert generator.throw(KeyError) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "result"
    assert here() == ("adhoc", None)


def test_two_interleaved_decorated_generators_leave_no_run_open() -> None:
    @query_run("q")
    def work() -> Iterator[str]:
        yield context.current()["run_id"]
        yield context.current()["run_id"]

    first, second = work(), work()
    one, two = next(first), next(second)
    assert one != two
    first.close()
    second.close()
    assert here() == ("adhoc", None)


def test_a_decorated_generator_stays_in_its_run_on_any_thread() -> None:
    @query_run("q")
    def work() -> Iterator[tuple[Any, ...]]:
        run = active_run()
        assert run is not None
        yield context.current()["run_id"], *here()
        for _ in run.iterations("ab"):
            yield context.current()["run_id"], *here()
            with run.recursion() as level:
                assert level.depth == 1
                yield context.current()["run_id"], *here()
        yield context.current()["run_id"], *here()

    with Elsewhere() as one, Elsewhere() as two:
        first, second = work(), work()
        steps_of: dict[Any, list[tuple[Any, ...]]] = {first: [], second: []}
        for number in range(6):
            for generator in (first, second):
                steps_of[generator].append((one, two)[number % 2].do(functools.partial(next, generator)))
            # With two open runs there is no fallback, and the threads keep neither run.
            assert one.do(here) == two.do(here) == in_a_thread(here) == ("adhoc", None)
        for generator in (first, second):
            assert len({run_id for run_id, *_ in steps_of[generator]}) == 1
            assert [position for _, *position in steps_of[generator]] == [
                ["q", number] for number in (None, 1, 1, 2, 2, 2)
            ]
            assert one.do(functools.partial(next, generator, "over")) == "over"
        assert one.do(here) == two.do(here) == here() == ("adhoc", None)


def test_a_decorated_generator_is_nested_in_the_run_that_began_it() -> None:
    @query_run("inner")
    def work() -> Iterator[tuple[str, int | None]]:
        yield here()
        yield here()

    with query_run("outer") as outer:
        outer.iteration = 1
        generator = work()
        assert next(generator) == ("inner", None)
        assert here() == ("outer", 1)
        outer.iteration = 2
        assert next(generator) == ("inner", None)
        assert here() == ("outer", 2)
        assert list(generator) == []
        assert here() == ("outer", 2)


def test_a_decorated_generator_that_is_abandoned_ends_its_run() -> None:
    @query_run("q")
    def work() -> Iterator[int]:
        yield from range(10)

    for number in work():
        if number == 2:
            break
    assert here() == ("adhoc", None)


async def test_a_decorated_async_generator_is_one_run_and_ends_with_its_inner_one() -> None:
    ended = []

    @query_run("q")
    async def work() -> AsyncIterator[tuple[str, int | None]]:
        try:
            yield here()
            await asyncio.sleep(0)
            yield here()
        finally:
            ended.append(here())

    assert [item async for item in work()] == [("q", None), ("q", None)]
    async with contextlib.aclosing(work()) as items:
        async for item in items:
            assert item == ("q", None)
            break
    assert ended == [("q", None), ("q", None)]
    assert here() == ("adhoc", None)


def test_a_run_that_could_not_begin_is_not_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_DISABLED", "0")
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", "mysql://localhost/x")
    with pytest.raises(ConfigError, match="RLM_CACHETRACK_DB_URL"), query_run("q"):
        pytest.fail("entered")
    assert here() == in_a_thread(here) == ("adhoc", None)


# -- odd orders -------------------------------------------------------------------------------------------------------


def test_runs_closed_out_of_order_leave_the_one_that_is_open() -> None:
    first, second = query_run("first"), query_run("second")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert here() == ("second", None)
    second.__exit__(None, None, None)
    assert here() == ("adhoc", None)


def test_a_run_can_be_exited_in_another_thread() -> None:
    run = query_run("q")
    in_a_thread(run.__enter__)
    run.__exit__(None, None, None)
    assert here() == in_a_thread(here) == ("adhoc", None)


async def test_a_run_can_be_exited_in_another_task() -> None:
    run = query_run("q")
    await asyncio.create_task(run.__aenter__())
    await asyncio.create_task(run.__aexit__(None, None, None))
    assert here() == ("adhoc", None)


def test_many_threads_open_and_close_runs_at_once_without_mixing() -> None:
    start = threading.Barrier(8)

    def work(name: str) -> bool:
        start.wait()
        for _ in range(200):
            with query_run(name) as run, run.recursion():
                run.iteration = 1
                if here()[0] != name:
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, [f"q{number}" for number in range(8)]))
    assert in_a_thread(here) == ("adhoc", None)
