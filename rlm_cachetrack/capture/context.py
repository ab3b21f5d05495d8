"""Which query, run, iteration and recursion a call belongs to.

A frame is what ``query_run`` or ``run.recursion`` opens. It follows the code that opened it through a context variable,
so asyncio tasks and ``asyncio.to_thread`` inherit it. A thread that did not inherit one falls back to the process's one
active run; where there is none, or more than one, to what ``TimescaleDBClient.set_context`` said, and last to the
query ``adhoc`` and one run a process. A :class:`ContextThreadPoolExecutor` carries the context to its threads.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from rlm_cachetrack._process import new_id

__all__ = [
    "ADHOC",
    "ContextThreadPoolExecutor",
    "Frame",
    "carried",
    "current",
    "current_json",
    "enter",
    "leave",
    "new_run_id",
    "set_manual",
]

P = ParamSpec("P")
T = TypeVar("T")

ADHOC = "adhoc"

FIELDS = (
    "query_id",
    "run_id",
    "iteration",
    "current_depth",
    "max_depth",
    "recursion_id",
    "parent_recursion_id",
    "model_index",
    "model_type",
)


class Frame:
    """One open run, or one level of recursion in it. ``run_id`` is kept as text, ready for the journal."""

    __slots__ = (
        "__weakref__",
        "before",
        "fixed",
        "handle",
        "home",
        "iteration",
        "line",
        "outer",
        "over",
        "private",
        "run_id",
        "shared",
    )

    def __init__(
        self,
        query_id: str,
        run_id: datetime,
        *,
        outer: Frame | None = None,
        recursive: bool = False,
        model_type: str | None = None,
        model_index: int | None = None,
        max_depth: int | None = None,
    ) -> None:
        self.run_id = run_id
        self.outer = outer
        self.fixed: dict[str, Any]
        self.iteration: int | None = None
        fixed: dict[str, Any] = {"query_id": query_id, "run_id": run_id.isoformat()}
        if recursive and outer is not None:
            fixed["current_depth"] = outer.fixed.get("current_depth", 0) + 1
            fixed["recursion_id"] = new_id()
            fixed["parent_recursion_id"] = outer.fixed.get("recursion_id")
            fixed["max_depth"] = outer.fixed.get("max_depth") if max_depth is None else max_depth
            fixed["model_type"] = outer.fixed.get("model_type") if model_type is None else model_type
            fixed["model_index"] = outer.fixed.get("model_index") if model_index is None else model_index
        else:
            fixed.update(
                current_depth=0,
                recursion_id=new_id(),
                parent_recursion_id=None,
                max_depth=max_depth,
                model_type=model_type,
                model_index=model_index,
            )
        self.fixed = fixed
        self.before: Frame | None = None
        self.handle: Any = None  # what the user holds: a QueryRun or a Recursion
        self.over = False
        self.line: tuple[int | None, str] | None = None  # for an iteration, what `line()` gives
        self.private: bool
        self.home = _place()
        # A level that was opened in a thread that did not inherit its run is that thread's own business.
        here = inherited()
        self.private = (
            recursive and outer is not None and (outer.private or here is None or here.shared is not outer.shared)
        )
        # The outermost frame of the same run: recursion shares its run, a nested run does not.
        self.shared: Frame = outer.shared if recursive and outer is not None else self


_frame: ContextVar[Frame | None] = ContextVar("rlm_cachetrack_frame", default=None)
# The iteration is kept twice: in the context, so that concurrent tasks of one run can each be in their own, and on the
# frame, for threads that did not inherit the context.
_iterations: ContextVar[tuple[tuple[Frame, int | None], ...]] = ContextVar("rlm_cachetrack_iterations", default=())

_lock = threading.Lock()
_open: list[Frame] = []
_fallback: Frame | None = None
_manual: Mapping[str, Any] | None = None
_adhoc_run_id: str | None = None
_adhoc_line: str | None = None
_last_run_id = datetime.min.replace(tzinfo=UTC)


def new_run_id() -> datetime:
    """The present moment in UTC, a microsecond later than any given before in this process: run ids never collide."""
    global _last_run_id
    with _lock:
        moment = datetime.now(UTC)
        if moment <= _last_run_id:
            moment = _last_run_id + timedelta(microseconds=1)
        _last_run_id = moment
        return moment


def _place() -> tuple[int, weakref.ref[Any] | None]:
    """The thread, and the task where there is one, that runs this."""
    asyncio = sys.modules.get("asyncio")  # not imported: no task
    task = asyncio.current_task() if asyncio is not None and asyncio._get_running_loop() is not None else None
    return threading.get_ident(), None if task is None else weakref.ref(task)


def inherited() -> Frame | None:
    """The frame that this context is in, not counting what other threads have open."""
    frame = _frame.get()
    # A task that outlives its run still belongs to it. But where a run was entered it is over once it was left, also if
    # that happened out of order (generators side by side) or in another context (a generator closed by the event loop).
    while frame is not None and frame.over and frame.home == _place():
        frame = frame.before
    return frame


def active() -> Frame | None:
    """The frame that a call made here and now belongs to, or None."""
    return inherited() or _fallback


def enter(frame: Frame) -> None:
    """Make ``frame`` the innermost one of this context."""
    frame.before = inherited()
    _frame.set(frame)
    with _lock:
        _open.append(frame)
        _choose_fallback()


def leave(frame: Frame) -> None:
    """Close ``frame``; what was innermost before is so again."""
    frame.over = True
    with _lock:
        if frame in _open:
            _open.remove(frame)
        _choose_fallback()
    if _frame.get() is frame:
        _frame.set(frame.before)
        _frame.set(inherited())


def carried(generator: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Drive ``generator`` so that what it enters, leaves and numbers is its own, whoever steps it and in what thread.

    A generator runs in the context of whoever asks for its next item: a web server that streams one steps it from
    thread to thread, and two side by side would see each other's runs.
    """
    kept: tuple[Any, Any] | None = None
    step: Callable[[Any], Any] = generator.send
    given: Any = None
    while True:
        outside = _frame.get(), _iterations.get()
        if kept is not None:
            _frame.set(kept[0])
            _iterations.set(kept[1])
        try:
            item = step(given)
        except StopIteration as stop:
            return cast("T", stop.value)
        finally:
            kept = _frame.get(), _iterations.get()
            _frame.set(outside[0])
            _iterations.set(outside[1])
        try:
            step, given = generator.send, (yield item)
        except BaseException as exc:  # also GeneratorExit: it is for the generator to see
            step, given = generator.throw, exc


def _choose_fallback() -> None:
    global _fallback
    shown = [f for f in _open if not f.private]
    inner = {id(f.outer) for f in shown if f.outer is not None}
    leaves = [f for f in shown if id(f) not in inner]
    if len(leaves) == 1:
        _fallback = leaves[0]
    elif leaves and all(f.shared is leaves[0].shared for f in leaves):
        _fallback = leaves[0].shared  # recursion side by side is still one run
    else:
        _fallback = None


def set_iteration(frame: Frame, number: int | None) -> None:
    """Say which iteration calls of this frame belong to from now on, in this context."""
    frame.iteration = number
    outer: set[int] = set()
    level = frame.outer
    while level is not None:
        outer.add(id(level))
        level = level.outer
    kept = tuple(pair for pair in _iterations.get() if id(pair[0]) in outer)
    _iterations.set((*kept, (frame, number)))


def get_iteration(frame: Frame) -> int | None:
    """The iteration of ``frame`` as this context sees it; an inner level without one takes the outer's."""
    local = _iterations.get()
    level: Frame | None = frame
    while level is not None:
        for owner, number in local:
            if owner is level:
                return number
        if level.iteration is not None:
            return level.iteration
        if level.shared is level:
            return None
        level = level.outer
    return None


def set_manual(values: Mapping[str, Any] | None) -> None:
    """Use ``values`` for what no open run says. The mapping is read anew at each call."""
    global _manual
    _manual = values


def manual() -> Mapping[str, Any] | None:
    """What was last given to :func:`set_manual`."""
    return _manual


def of_same_run(said: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether ``said`` can be true of the run that ``values`` name: it names the same one, or none."""
    return all(said.get(name) is None or values.get(name) in (None, said[name]) for name in ("query_id", "run_id"))


def current() -> dict[str, Any]:
    """The fields of :data:`FIELDS` for a call made here and now, as a new dict with ``run_id`` in ISO 8601."""
    frame = active()
    if frame is not None:
        values = frame.fixed.copy()
        values["iteration"] = get_iteration(frame)
        if _manual and of_same_run(_manual, values):
            for name, value in _manual.items():
                if value is not None and values.get(name) is None and name in FIELDS:
                    values[name] = value
        return values
    values = {name: value for name, value in _manual.items() if value is not None} if _manual else {}
    if not values.get("query_id"):
        values["query_id"] = ADHOC
    if not values.get("run_id"):
        values["run_id"] = adhoc_run_id()
    return values


def current_json() -> str:
    """What :func:`current` gives, as JSON for the journal; encoded once a run and iteration."""
    if _manual:
        return _encoded(current())
    frame = _frame.get()
    if frame is None:
        frame = _fallback
    elif frame.over:
        frame = active()
    if frame is None:
        global _adhoc_line
        if _adhoc_line is None:
            _adhoc_line = _encoded(current())
        return _adhoc_line
    iteration = get_iteration(frame)
    known = frame.line
    if known is None or known[0] != iteration:
        frame.line = known = (iteration, _encoded({**frame.fixed, "iteration": iteration}))
    return known[1]


def _encoded(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"), default=str)


def adhoc_run_id() -> str:
    """The run of this process's calls outside any run, as ISO 8601 text."""
    global _adhoc_run_id
    if _adhoc_run_id is None:
        moment = new_run_id().isoformat()
        with _lock:
            _adhoc_run_id = _adhoc_run_id or moment
    return _adhoc_run_id


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A ``ThreadPoolExecutor`` whose work belongs to the run, iteration and recursion it was submitted in.

    It runs each piece of work (``submit``, ``map``, ``loop.run_in_executor``) in a copy of the context of the code that
    submitted it, as ``asyncio.to_thread`` does; so other context variables are carried too. Everything else is as in
    the standard library's: ``with ContextThreadPoolExecutor(max_workers=4) as pool: pool.map(ask, questions)``.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` run by a thread of the pool, in a copy of the present context.

        Returns:
            Its future. Does not block.

        Raises:
            RuntimeError: The pool is shut down.
        """
        return super().submit(partial(copy_context().run, fn, *args, **kwargs))


def _after_fork_in_child() -> None:
    """Give a forked process its own lock and ad-hoc run, and keep only the runs that it was forked in."""
    global _lock, _adhoc_run_id, _adhoc_line
    _lock = threading.Lock()
    _adhoc_run_id = _adhoc_line = None
    mine: list[Frame] = []
    frame = inherited()
    while frame is not None:
        mine.append(frame)
        frame = frame.outer
    _open[:] = [frame for frame in _open if frame in mine]  # the threads that opened the others are not here
    _choose_fallback()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
