"""Unmodified ``rlms`` (recursive language models): each call has the right run context, whatever its thread."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from rlm_cachetrack import ConfigError, RecordError, query_run
from rlm_cachetrack.integrations.rlm import track
from rlm_cachetrack.simulator import Reply, SimulatedEndpoint
from tests.programs.conftest import Recorder, hints_of

rlm = pytest.importorskip("rlm", reason="the package rlms is not installed")
logger = pytest.importorskip("rlm.logger", reason="the package rlms is not installed")

# rlms does not close its servers and clients.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

MODEL = "gpt-5"
CONTEXT = "a document of some length"


@pytest.fixture(autouse=True)
def threads_share_the_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the local REPL from changing the process-wide directory, which breaks children that run concurrently."""
    from rlm.environments.local_repl import LocalREPL

    monkeypatch.setattr(LocalREPL, "_temp_cwd", lambda _self: contextlib.nullcontext())
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    yield
    gc.collect()


def make(recorder: Recorder, model: str = MODEL, **more: Any) -> Any:
    backend = {"model_name": model, "base_url": recorder.endpoint.base_url, "api_key": "sk-test"}
    return rlm.RLM(backend="openai", backend_kwargs=backend, **more)


def code(*lines: str) -> Reply:
    """Return a response of the model that runs code in the REPL."""
    return Reply(text="\n".join(["```repl", *lines, "```"]))


def done(answer: str = "42") -> Reply:
    return code(f"answer['content'] = '{answer}'", "answer['ready'] = True")


def run_context(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["iteration"], row["current_depth"], row["model_type"]


def test_turns_are_iterations_and_llm_queries_one_level_deeper(recorder: Recorder) -> None:
    recorder.endpoint.script(
        code("x = llm_query('one')"),
        Reply(text="sub"),
        code("x = llm_query_batched(['two', 'three'])"),
        Reply(text="sub"),
        Reply(text="sub"),
        done(),
    )
    tracked = track(make(recorder))
    with query_run("q") as run:
        assert tracked.completion(CONTEXT).response == "42"
    rows = recorder.check(calls=6)
    assert {(row["query_id"], row["run_id"]) for row in rows} == {("q", run.run_id)}
    assert [run_context(row) for row in rows] == [
        (1, 0, "root"),
        (1, 1, "sub"),
        (2, 0, "root"),
        (2, 1, "sub"),
        (2, 1, "sub"),
        (3, 0, "root"),
    ]
    root = rows[0]["recursion_id"]
    assert {row["recursion_id"] for row in rows if row["current_depth"] == 0} == {root}
    assert {row["parent_recursion_id"] for row in rows if row["current_depth"] == 1} == {root}
    assert (
        rows[1]["recursion_id"] != rows[3]["recursion_id"] == rows[4]["recursion_id"]
    )  # the calls of a batch share one level


def test_a_child_is_a_level_with_its_own_turns(recorder: Recorder) -> None:
    recorder.endpoint.script(
        Reply(text="thinking aloud"),
        code("x = rlm_query('think')"),
        code("y = llm_query('inner')"),  # the child's first turn
        Reply(text="sub"),
        code("y = rlm_query('deeper')"),  # at max_depth: a plain call, which starts no child
        Reply(text="plain"),
        done("from the child"),
        done(),
    )
    tracked = track(make(recorder, max_depth=2))
    with query_run("q"):
        assert tracked.completion(CONTEXT).response == "42"
    rows = recorder.check(calls=8)
    assert [run_context(row) for row in rows] == [
        (1, 0, "root"),
        (2, 0, "root"),
        (1, 1, "sub"),
        (1, 2, "sub"),
        (2, 1, "sub"),
        (2, 2, "sub"),
        (3, 1, "sub"),
        (3, 0, "root"),
    ]
    root, child = rows[0]["recursion_id"], rows[2]["recursion_id"]
    assert [row["parent_recursion_id"] for row in rows] == [None, None, root, child, root, child, root, None]
    assert len({row["recursion_id"] for row in rows}) == 4
    assert {row["max_depth"] for row in rows} == {2}


def test_concurrent_children_do_not_mix(recorder: Recorder) -> None:
    same = code("x = llm_query('inner ' + context)", "answer['content'] = 'c'", "answer['ready'] = True")
    # Inner queries and turns of the children get the same text, because the order of their calls varies.
    recorder.endpoint.script(code("x = rlm_query_batched(['a', 'b', 'c'])"), *[same] * 6, done())
    tracked = track(make(recorder, max_depth=3))
    with query_run("q") as run:
        assert tracked.completion(CONTEXT).response == "42"
    rows = recorder.check(calls=8)
    assert {row["run_id"] for row in rows} == {run.run_id}
    root = rows[0]["recursion_id"]
    children = [row for row in rows if row["current_depth"] == 1]
    inner = [row for row in rows if row["current_depth"] == 2]
    assert [run_context(row) for row in children] == [(1, 1, "sub")] * 3
    assert [run_context(row) for row in inner] == [(1, 2, "sub")] * 3
    assert {row["parent_recursion_id"] for row in children} == {root}
    assert {row["parent_recursion_id"] for row in inner} == {row["recursion_id"] for row in children}
    assert len({row["recursion_id"] for row in children}) == 3


def test_completions_in_two_threads_are_two_runs(recorder: Recorder) -> None:
    barrier = threading.Barrier(2)

    def wait_for_the_other() -> None:
        barrier.wait(120)

    turn = code("meet()", "x = llm_query('sub')", "meet()", "answer['content'] = 'c'", "answer['ready'] = True")
    recorder.endpoint.script(*[turn] * 4)
    tracked = [
        track(make(recorder, custom_tools={"meet": wait_for_the_other}), query_id=name) for name in ("left", "right")
    ]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda one: one.completion(CONTEXT).response, tracked))
    assert answers == ["c", "c"]
    recorder.check(calls=4)
    for name in ("left", "right"):
        (run,) = [run for run in recorder.db.list_query_runs() if run["query_id"] == name]
        rows = recorder.db.get_llm_interactions(name, run["run_id"])
        assert [run_context(row) for row in rows] == [(1, 0, "root"), (1, 1, "sub")]
        assert rows[1]["parent_recursion_id"] == rows[0]["recursion_id"]
        assert run["status"] == "completed"


def test_the_final_answer_after_the_last_turn_belongs_to_that_turn(recorder: Recorder) -> None:
    recorder.endpoint.script(Reply(text="hm"), Reply(text="hm"), Reply(text="all I know"))
    assert track(make(recorder, max_iterations=2)).completion(CONTEXT).response == "all I know"
    assert [run_context(row) for row in recorder.check(calls=3)] == [(1, 0, "root"), (2, 0, "root"), (2, 0, "root")]


def test_outside_any_run_each_completion_is_a_run_with_the_given_name(recorder: Recorder) -> None:
    recorder.endpoint.script(done("1"), done("2"))
    tracked = track(make(recorder), query_id="oolong")
    assert [tracked.completion(CONTEXT).response for _ in range(2)] == ["1", "2"]
    runs = recorder.db.list_query_runs()
    assert [(run["query_id"], run["status"], run["total_interactions"]) for run in runs] == [
        ("oolong", "completed", 1)
    ] * 2
    assert [row["iteration"] for row in recorder.rows()] == [1, 1]


def test_a_failed_completion_is_a_failed_run(recorder: Recorder) -> None:
    recorder.endpoint.script(Reply(text="hm"), Reply(status=400, error="the prompt is refused"))
    tracked = track(make(recorder))
    with pytest.raises(openai.BadRequestError, match="the prompt is refused"):
        tracked.completion(CONTEXT)
    (run,) = recorder.db.list_query_runs()
    assert (run["query_id"], run["status"]) == ("rlm", "error")
    rows = recorder.db.get_llm_interactions("rlm", run["run_id"])
    assert [(*run_context(row), row["success"], row["error_type"]) for row in rows] == [
        (1, 0, "root", True, None),
        (2, 0, "root", False, "BadRequestError"),
    ]


def test_iterations_that_the_program_sets_are_kept(recorder: Recorder) -> None:
    recorder.endpoint.script(Reply(text="hm"), done(), code("x = llm_query('sub')"), Reply(text="sub"), done())
    tracked = track(make(recorder))
    with query_run("q") as run:
        for question in run.iterations(["one", "two"]):
            tracked.completion(question)
            assert run.iteration == {"one": 1, "two": 2}[question]
    assert [row["iteration"] for row in recorder.check(calls=5)] == [1, 1, 2, 2, 2]


def test_each_completion_of_a_run_numbers_from_one_and_resets_the_iteration(recorder: Recorder) -> None:
    recorder.endpoint.script(Reply(text="hm"), done(), Reply(text="hm"), done())
    tracked = track(make(recorder))
    with query_run("q") as run:
        for question in ("one", "two"):
            tracked.completion(question)
            assert run.iteration is None
    assert [row["iteration"] for row in recorder.check(calls=4)] == [1, 2, 1, 2]


def test_concurrent_completions_in_one_run_number_their_own_turns(recorder: Recorder) -> None:
    """One completion is in its second turn while the other is in its first; a sub-call belongs to its caller's turn."""
    ahead, behind = threading.Event(), threading.Event()
    turns: dict[str, int] = {"ahead": 0, "behind": 0}

    def step_ahead() -> None:
        turns["ahead"] += 1
        if turns["ahead"] == 2:
            ahead.set()
            assert behind.wait(120)

    def step_behind() -> None:
        turns["behind"] += 1
        behind.set()

    # Turns and sub-calls get the same response. After the last turn, each completion requests a final answer.
    recorder.endpoint.script(*[code("step()", "x = llm_query('sub')")] * 10)
    first, second = (
        track(make(recorder, custom_tools={"step": step}, max_iterations=2)) for step in (step_ahead, step_behind)
    )
    with query_run("q") as run, ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.completion, CONTEXT)
        assert ahead.wait(120)
        other = pool.submit(second.completion, CONTEXT)
        assert one.result().response
        assert other.result().response
        assert run.iteration is None
    rows = recorder.check(calls=10)
    assert turns == {"ahead": 2, "behind": 2}
    assert {row["run_id"] for row in rows} == {run.run_id}
    assert sorted(run_context(row)[:2] for row in rows) == [(1, 0)] * 2 + [(1, 1)] * 2 + [(2, 0)] * 4 + [(2, 1)] * 2


def test_one_rlm_may_run_two_completions_at_once(recorder: Recorder) -> None:
    """A sub-call runs on a thread of an environment and belongs to the completion of that environment."""
    both = threading.Barrier(2)
    # Roots and children get the same response. The barrier keeps both completions open during all sub-calls.
    turn = code(
        "if len(context) > 1:",
        "    meet()",
        "    x = rlm_query_batched(['a', 'b'])",
        "    meet()",
        "answer['content'] = 'c'",
        "answer['ready'] = True",
    )
    recorder.endpoint.script(*[turn] * 6)
    tracked = track(make(recorder, custom_tools={"meet": lambda: both.wait(120)}, max_depth=2))
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(tracked.completion, CONTEXT) for _ in range(2)]
        assert [answer.result().response for answer in answers] == ["c", "c"]
    rows = recorder.check(calls=6)
    assert {row["query_id"] for row in rows} == {"rlm"}
    runs = {row["run_id"] for row in rows}
    assert len(runs) == 2
    for run_id in runs:
        mine = [row for row in rows if row["run_id"] == run_id]
        assert sorted(run_context(row)[:2] for row in mine) == [(1, 0), (1, 1), (1, 1)]
        (root,) = [row for row in mine if row["current_depth"] == 0]
        assert {row["parent_recursion_id"] for row in mine if row["current_depth"]} == {root["recursion_id"]}


def test_callbacks_and_responses_are_the_same_as_without_tracking(recorder: Recorder) -> None:
    def run_it(following: bool) -> tuple[Any, ...]:
        callbacks: list[tuple[Any, ...]] = []
        recorder.endpoint.script(code("print(rlm_query('think'))"), done("from the child"), done())
        made = make(
            recorder,
            model="gpt-4.1",  # not a reasoning model, so that the same text always has the same number of tokens
            max_depth=2,
            logger=logger.RLMLogger(),
            on_subcall_start=lambda *args: callbacks.append(("start", *args)),
            on_subcall_complete=lambda depth, model, _seconds, error: callbacks.append(("end", depth, model, error)),
        )
        result = (track(made) if following else made).completion(CONTEXT)
        trajectory = [(each["response"], each["final_answer"]) for each in result.metadata["iterations"]]
        return result.response, result.usage_summary.to_dict(), trajectory, callbacks

    plain = run_it(following=False)
    assert run_it(following=True) == plain
    assert len(plain[3]) == 2


def test_an_rlm_that_is_not_tracked_is_recorded_but_not_changed(recorder: Recorder) -> None:
    track(make(recorder))
    recorder.endpoint.script(code("x = llm_query('sub')"), Reply(text="sub"), done())
    with query_run("q"):
        make(recorder).completion(CONTEXT)
    assert [run_context(row) for row in recorder.check(calls=3)] == [(None, 0, None)] * 3


def test_a_persistent_rlm_is_tracked_over_several_completions(recorder: Recorder) -> None:
    recorder.endpoint.script(
        done("1"), code("x = rlm_query_batched(['a', 'b'])"), done("c"), done("c"), code("x = llm_query('s')")
    )
    recorder.endpoint.script(Reply(text="sub"), done("2"))
    with track(make(recorder, persistent=True, max_depth=2)) as tracked, query_run("q"):
        answers = [tracked.completion(CONTEXT).response for _ in range(2)]
    rows = recorder.check(calls=7)
    assert answers == ["1", "2"]
    assert [run_context(row)[:2] for row in rows] == [(1, 0), (1, 0), (1, 1), (1, 1), (2, 0), (2, 1), (3, 0)]


@pytest.mark.parametrize("thing", [object(), "RLM", None])
def test_an_object_that_is_not_an_rlm_raises_in_track(thing: Any) -> None:
    with pytest.raises(ConfigError, match="expected an RLM of the package rlms"):
        track(thing)


def test_an_invalid_name_raises_in_track(recorder: Recorder) -> None:
    with pytest.raises(RecordError, match="query_id"):
        track(make(recorder), query_id="")


def test_tracking_again_changes_only_the_name(recorder: Recorder, endpoint: SimulatedEndpoint) -> None:
    made = make(recorder)
    before = dict(vars(made))
    assert track(track(made), query_id="second") is made
    assert vars(made) == before
    endpoint.script(done())
    made.completion(CONTEXT)
    assert [(row["query_id"], *run_context(row)) for row in recorder.check(calls=1)] == [("second", 1, 0, "root")]


@pytest.mark.parametrize(("last", "expected"), [("", 1), ("rlm_cachetrack.integrations.rlm.track(made)", 0)])
def test_a_program_without_track_gets_one_log_line(tmp_path: Path, last: str, expected: int) -> None:
    program = (
        "import rlm, rlm_cachetrack.integrations.rlm\n"
        "made = rlm.RLM(backend='openai', backend_kwargs={'model_name': 'gpt-4.1'})"
    )
    found = hints_of(f"{program}\n{last}", tmp_path)
    assert len(found) == expected
    assert all("from rlm_cachetrack.integrations.rlm import track; rlm = track(RLM(...))" in line for line in found)
