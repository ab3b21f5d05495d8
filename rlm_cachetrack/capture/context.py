"""The run context of a call: its query, run, iteration, recursion level and tags.

``query_run`` and ``run.recursion`` open a frame. A frame follows the code that opened it through a context variable, so
asyncio tasks and ``asyncio.to_thread`` inherit it. A thread that did not inherit one falls back to the only active run
of the process. If there is none, or more than one, the values of ``TimescaleDBClient.set_context`` are used, and
otherwise the query ``adhoc`` with one run per process. A :class:`ContextThreadPoolExecutor` passes the run context on
to its threads.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ParamSpec, TypeVar

from pydantic_core import to_json

from rlm_cachetrack._process import new_id
from rlm_cachetrack.records import merge_tags

from . import tag_scopes
from .tag_scopes import get_innermost, tags_inside

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

_LEVEL = ("current_depth", "recursion_id", "parent_recursion_id")


class Frame:
    """One open run, or one recursion level in it.

    Attributes:
        run_id: The start of the run.
        outer: The frame that this one was opened in.
        fields: The values of :data:`FIELDS` except the iteration, with ``run_id`` as text.
        iteration: The iteration that was set last, in any thread; see :func:`get_iteration`.
        previous: The innermost frame of the context before this one was entered.
        handle: The object of the user: a QueryRun or a Recursion.
        is_closed: Whether the frame was left.
        encoded: The values that the run context was last encoded for, then its JSON.
        tags: The tags of the run and of the code that opened it; None if there are none.
        tag_scope: The innermost ``with tags(...)`` around the frame.
        entered_in: The thread and task that opened the frame.
        is_private: Whether only the thread that opened the frame uses it. True for a recursion level that was opened in
            a thread that did not inherit its run.
        run_frame: The outermost frame of the same run; recursion levels share it, nested runs do not.
    """

    __slots__ = (
        "__weakref__",
        "encoded",
        "entered_in",
        "fields",
        "handle",
        "is_closed",
        "is_private",
        "iteration",
        "outer",
        "previous",
        "run_frame",
        "run_id",
        "tag_scope",
        "tags",
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
        self.iteration: int | None = None
        self.fields: dict[str, Any] = {
            "query_id": query_id,
            "run_id": run_id.isoformat(),
            "current_depth": 0,
            "recursion_id": new_id(),
            "parent_recursion_id": None,
            "max_depth": max_depth,
            "model_type": model_type,
            "model_index": model_index,
        }
        self.previous: Frame | None = None
        self.handle: Any = None
        self.is_closed = False
        self.encoded: _Encoded | None = None
        self.entered_in = _thread_and_task()
        self.is_private = False
        self.run_frame: Frame = self
        self.tags = _tags_in(outer)
        self.tag_scope = get_innermost()
        if recursive and outer is not None:
            self._go_deeper(outer)

    def stay_on_level(self, outer: Frame) -> None:
        """Move this frame back to the level of ``outer``, and change only the model type."""
        self.fields.update({name: outer.fields.get(name) for name in _LEVEL})

    def _go_deeper(self, outer: Frame) -> None:
        """Make this frame a recursion level inside ``outer``."""
        self.fields["current_depth"] = outer.fields.get("current_depth", 0) + 1
        self.fields["parent_recursion_id"] = outer.fields.get("recursion_id")
        for name in ("max_depth", "model_type", "model_index"):
            if self.fields[name] is None:
                self.fields[name] = outer.fields.get(name)
        self.run_frame = outer.run_frame
        here = inherited()
        self.is_private = outer.is_private or here is None or here.run_frame is not outer.run_frame


RunContext = tuple[str, Mapping[str, str] | None]
"""A run context for the journal: JSON with the tags of run and client, and the tags of the scopes inside the run."""

# The iteration and the tags of the client, compared by identity, that a run context was encoded for; then its JSON.
_Encoded = tuple[int | None, Mapping[str, str] | None, str]

_frame: ContextVar[Frame | None] = ContextVar("rlm_cachetrack_frame", default=None)
# The iteration is kept twice: in the context, so that each of several concurrent tasks of a run has its own, and on the
# frame, for threads that did not inherit the context.
_iterations: ContextVar[tuple[tuple[Frame, int | None], ...]] = ContextVar("rlm_cachetrack_iterations", default=())

_lock = threading.Lock()
_open: list[Frame] = []
_fallback: Frame | None = None
_manual: Mapping[str, Any] | None = None
_adhoc_run_id: str | None = None
_adhoc_encoded: _Encoded | None = None
_last_run_id = datetime.min.replace(tzinfo=UTC)


def new_run_id() -> datetime:
    """Return the current time in UTC, at least a microsecond after the last one, so that run ids are unique."""
    global _last_run_id
    with _lock:
        moment = datetime.now(UTC)
        if moment <= _last_run_id:
            moment = _last_run_id + timedelta(microseconds=1)
        _last_run_id = moment
        return moment


def _thread_and_task() -> tuple[int, weakref.ref[Any] | None]:
    """Return the id of the current thread, and the current asyncio task if there is one."""
    asyncio = sys.modules.get("asyncio")  # without asyncio there is no task
    task = asyncio.current_task() if asyncio is not None and asyncio._get_running_loop() is not None else None
    return threading.get_ident(), None if task is None else weakref.ref(task)


def inherited() -> Frame | None:
    """Return the innermost open frame of this context, ignoring frames of other threads."""
    frame = _frame.get()
    # A task that outlives its run still belongs to it. In the thread and task that entered a run, however, the run ends
    # when it is left, even out of order (two generators) or in another context (a generator closed by the event loop).
    while frame is not None and frame.is_closed and frame.entered_in == _thread_and_task():
        frame = frame.previous
    return frame


def active() -> Frame | None:
    """Return the active frame, to which a call made now belongs, or None."""
    return inherited() or _fallback


def enter(frame: Frame) -> None:
    """Make ``frame`` the innermost one of this context."""
    frame.previous = inherited()
    _frame.set(frame)
    with _lock:
        _open.append(frame)
        _choose_fallback()


def leave(frame: Frame) -> None:
    """Close ``frame`` and make the previous one the innermost again."""
    frame.is_closed = True
    with _lock:
        if frame in _open:
            _open.remove(frame)
        _choose_fallback()
    if _frame.get() is frame:
        _frame.set(frame.previous)
        _frame.set(inherited())


VARIABLES: tuple[ContextVar[Any], ...] = (_frame, _iterations, tag_scopes.innermost)
"""All context variables of a run context."""


def _choose_fallback() -> None:
    global _fallback
    shown = [f for f in _open if not f.is_private]
    inner = {id(f.outer) for f in shown if f.outer is not None}
    leaves = [f for f in shown if id(f) not in inner]
    if len(leaves) == 1:
        _fallback = leaves[0]
    elif leaves and all(f.run_frame is leaves[0].run_frame for f in leaves):
        _fallback = leaves[0].run_frame  # concurrent recursion levels of one run
    else:
        _fallback = None


def set_iteration(frame: Frame, number: int | None) -> None:
    """Set the iteration for the next calls of this frame in this context."""
    frame.iteration = number
    outer: set[int] = set()
    level = frame.outer
    while level is not None:
        outer.add(id(level))
        level = level.outer
    kept = tuple(pair for pair in _iterations.get() if id(pair[0]) in outer)
    _iterations.set((*kept, (frame, number)))


def get_iteration(frame: Frame) -> int | None:
    """Return the iteration of ``frame`` in this context; a recursion level without one inherits its outer level's."""
    local = _iterations.get()
    level: Frame | None = frame
    while level is not None:
        for owner, number in local:
            if owner is level:
                return number
        if level.iteration is not None:
            return level.iteration
        if level.run_frame is level:
            return None
        level = level.outer
    return None


def set_manual(values: Mapping[str, Any] | None) -> None:
    """Use ``values`` for the fields that no open run sets. The mapping is read at each call."""
    global _manual
    _manual = values


def manual() -> Mapping[str, Any] | None:
    """Return the mapping of the last :func:`set_manual`."""
    return _manual


def of_same_run(given: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Return True unless ``given`` names a different query or run than ``values``."""
    return all(given.get(name) is None or values.get(name) in (None, given[name]) for name in ("query_id", "run_id"))


def _tags_inside(frame: Frame | None) -> Mapping[str, str] | None:
    """Return the tags of each ``with tags(...)`` inside a frame."""
    return tags_inside(get_innermost(), None if frame is None else frame.tag_scope)


def _tags_in(frame: Frame | None) -> Mapping[str, str] | None:
    return merge_tags(_tags_inside(frame), None if frame is None else frame.tags)


def current_tags() -> Mapping[str, str] | None:
    """Return the tags of a call made now, without those of its client; None if there are none."""
    return _tags_in(active())


def current() -> dict[str, Any]:
    """Return the run context of a call made now: a new dict of :data:`FIELDS`, with ``run_id`` in ISO 8601.

    Outside any run it has only the names that are known.
    """
    frame = active()
    if frame is not None:
        values = frame.fields.copy()
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


def current_encoded(client_tags: Mapping[str, str] | None = None) -> RunContext:
    """Return :func:`current` and the tags for the journal; encoded once for each run, iteration and client.

    Args:
        client_tags: The tags of the client that makes the call; tags of the context replace those of the same name.
    """
    global _adhoc_encoded
    frame = _frame.get()
    if frame is None:
        frame = _fallback
    elif frame.is_closed:
        frame = active()
    scope = get_innermost()
    around = None if frame is None else frame.tag_scope
    if scope is None or scope is around:
        scope_tags = None
    else:
        scope_tags = scope[0] if scope[1] is around else tags_inside(scope, around)  # usually one scope
    iteration = None if frame is None else get_iteration(frame)
    known = _adhoc_encoded if frame is None else frame.encoded
    if known is not None and known[0] == iteration and known[1] is client_tags and not _manual:
        return known[2], scope_tags
    run_context = _encode(current(), None if frame is None else frame.tags, client_tags)
    if not _manual:
        if frame is None:
            _adhoc_encoded = (iteration, client_tags, run_context)
        else:
            frame.encoded = (iteration, client_tags, run_context)
    return run_context, scope_tags


def encoded_of_session(run_id: str, client_tags: Mapping[str, str] | None) -> RunContext:
    """Return :func:`current_encoded`; outside any run, with ``run_id`` in place of the ad-hoc run of the process."""
    if active() is not None or (_manual and _manual.get("run_id") is not None):
        return current_encoded(client_tags)
    return _encode({**current(), "run_id": run_id}, None, client_tags), _tags_inside(None)


def with_client_tags(encoded: RunContext, client_tags: Mapping[str, str] | None) -> RunContext:
    """Add the tags of a client to a run context that :func:`current_encoded` returned without them."""
    if not client_tags:
        return encoded
    values = json.loads(encoded[0])
    return _encode(values, values.get("tags"), client_tags), encoded[1]


def _encode(values: dict[str, Any], run_tags: Mapping[str, str] | None, client_tags: Mapping[str, str] | None) -> str:
    if tags := merge_tags(run_tags, client_tags):
        values["tags"] = tags
    try:
        return to_json(values, fallback=str).decode()
    except ValueError:  # a lone surrogate, which the standard library escapes
        return json.dumps(values, default=str)


def adhoc_run_id() -> str:
    """Return the run id for the calls of this process outside any run, as ISO 8601 text."""
    global _adhoc_run_id
    if _adhoc_run_id is None:
        moment = new_run_id().isoformat()
        with _lock:
            _adhoc_run_id = _adhoc_run_id or moment
    return _adhoc_run_id


class ContextThreadPoolExecutor(ThreadPoolExecutor):
    """A ``ThreadPoolExecutor`` whose calls have the run context of the code that submitted them.

    Each function (``submit``, ``map``, ``loop.run_in_executor``) runs in a copy of the context of the submitting code,
    as with ``asyncio.to_thread``, so other context variables are passed on, too. Otherwise it is the standard executor:
    ``with ContextThreadPoolExecutor(max_workers=4) as pool: pool.map(ask, questions)``.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in a thread of the pool, in a copy of the current context. Does not block.

        Returns:
            Its future.

        Raises:
            RuntimeError: The pool is shut down.
        """
        return super().submit(partial(copy_context().run, fn, *args, **kwargs))


def _after_fork_in_child() -> None:
    """Give a forked process its own lock and ad-hoc run, and keep only the runs of the forking thread."""
    global _lock, _adhoc_run_id, _adhoc_encoded
    _lock = threading.Lock()
    _adhoc_run_id = _adhoc_encoded = None
    own: list[Frame] = []
    frame = inherited()
    while frame is not None:
        own.append(frame)
        frame = frame.outer
    _open[:] = [frame for frame in _open if frame in own]  # the threads that opened the other runs do not exist here
    _choose_fallback()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
