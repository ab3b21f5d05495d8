"""``track(rlm)``: run, iteration and depth of a recursive language model (the package ``rlms`` on PyPI).

::

    from rlm import RLM
    from rlm_cachetrack import instrument
    from rlm_cachetrack.integrations.rlm import track

    instrument()
    rlm = track(RLM(backend="openai", backend_kwargs={"model_name": "gpt-6.1-sol"}, max_depth=2))
    rlm.completion(document)

An ``RLM`` makes its calls on threads that do not inherit the run context: ``llm_query`` goes through a socket to a
server that starts a thread for each request, ``rlm_query_batched`` to a thread pool. ``RLM`` takes four callbacks, but
no release calls ``on_iteration_start`` and ``on_iteration_complete``, and ``on_subcall_start`` and
``on_subcall_complete`` are not called for sub-calls at ``max_depth``, which start no child. Therefore this module
leaves the callbacks to the program, and wraps the three methods that run every completion, turn and sub-call.

Source: https://pypi.org/project/rlms/ 0.1.0, 0.1.1, 0.1.2 and 0.1.3, ``rlm/core/rlm.py``, ``rlm/core/lm_handler.py``
(read 2026-11-23).
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol, TypeVar

from rlm_cachetrack import ConfigError, QueryRun, active_run, query_run
from rlm_cachetrack.capture import active_integrations

__all__ = ["track"]

RlmT = TypeVar("RlmT")

_ROOT = "root"
_SUB = "sub"  # as in rlms' sub_sampling_args and custom_sub_tools
_METHODS = ("completion", "_completion_turn", "_subcall")


class _Level(Protocol):
    """A run, or a level of recursion in it."""

    iteration: int | None

    def recursion(
        self, model_type: str | None = None, *, model_index: int | None = None, max_depth: int | None = None
    ) -> AbstractContextManager[_Level]: ...


class _Position:
    """The recursion level of one completion, and the context of its current turn.

    Attributes:
        depth: The RLM's own depth.
        owner: The RLM; None for a sub-call whose child has not begun.
        numbered: True if turns set the iteration.
    """

    __slots__ = ("__weakref__", "context", "depth", "level", "max_depth", "numbered", "owner", "turn")

    def __init__(self, level: _Level, depth: int, max_depth: int, *, owner: Any = None, numbered: bool) -> None:
        self.level = level
        self.depth = depth
        self.max_depth = max_depth
        self.owner = owner
        self.numbered = numbered
        self.turn = 0
        self.context: Context = copy_context()

    def is_for_child(self, rlm: Any) -> bool:
        """Return True if ``rlm`` was created for this sub-call and has not begun its first turn."""
        return self.owner is None and self.depth == rlm.depth

    def deeper(self) -> AbstractContextManager[_Level]:
        return self.level.recursion(_SUB, max_depth=self.max_depth)


_current: ContextVar[_Position | None] = ContextVar("rlm_cachetrack_rlm", default=None)
_lock = threading.Lock()
_tracked: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_open_positions: weakref.WeakKeyDictionary[Any, list[_Position]] = weakref.WeakKeyDictionary()
_ours: weakref.WeakSet[QueryRun] = weakref.WeakSet()  # opened by this module, for completions outside any run


def track(rlm: RlmT, query_id: str = "rlm") -> RlmT:
    """Record the run, iteration and depth of every call that an ``RLM`` and its children make.

    :func:`~.instrument` records the calls; this function sets their run context. A completion inside a ``query_run``
    belongs to it; elsewhere each completion is a separate run. Its turns set the iteration, counting from 1, unless
    the program sets the iteration of its run itself, and have the ``model_type`` ``"root"``. ``llm_query`` and
    ``rlm_query`` go one level deeper (``current_depth`` + 1, ``model_type`` ``"sub"``, the iteration of the turn that
    made the sub-call); a child counts its own turns. Each call has the RLM's ``max_depth``. Results, errors and
    callbacks of the ``RLM`` are unchanged. Does not block.

    Args:
        rlm: An ``rlm.RLM``; tracking it again changes only ``query_id``.
        query_id: The query id for the runs of completions outside any ``query_run``.

    Returns:
        ``rlm`` itself.

    Raises:
        ConfigError: ``rlm`` is not an ``RLM``, or of an unknown release of ``rlms``.
        RecordError: ``query_id`` is empty.
    """
    query_run(query_id)  # raises for an invalid name now, not in the middle of the program
    kind = next((kind for kind in reversed(type(rlm).__mro__) if "_completion_turn" in vars(kind)), None)
    if kind is None or "completion" not in vars(kind):
        raise ConfigError(
            f"track() was given a {type(rlm).__name__}; expected an RLM of the package rlms (known: 0.1.0 to 0.1.3)"
        )
    active_integrations.add("rlm")
    with _lock:
        _follow_class(kind)
        _tracked[rlm] = query_id
    return rlm


def _follow_class(kind: type[Any]) -> None:
    """Wrap the methods of ``RLM`` once. Instances that are not tracked are unaffected.

    The class is wrapped because the children of a tracked instance are made inside one of its methods.
    """
    makers: tuple[Callable[..., Any], ...] = (_completion, _completion_turn, _Subcall)
    for name, make in zip(_METHODS, makers, strict=True):
        method = vars(kind).get(name)
        if method is not None and not hasattr(method, "_rlm_cachetrack"):
            wrapper: Any = functools.update_wrapper(make(method), method)
            wrapper._rlm_cachetrack = True
            setattr(kind, name, wrapper)


# -- the three methods -----------------------------------------------------------------------------------------------


def _completion(method: Callable[..., Any]) -> Callable[..., Any]:
    def completion(rlm: Any, *args: Any, **kwargs: Any) -> Any:
        query_id = _tracked.get(rlm)
        if query_id is None:
            return method(rlm, *args, **kwargs)
        with _root(rlm, query_id) as position, _occupied(position):
            return method(rlm, *args, **kwargs)

    return completion


def _completion_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    def turn(rlm: Any, *args: Any, **kwargs: Any) -> Any:
        position = _current.get()
        if position is not None and position.is_for_child(rlm):
            position.owner = rlm  # the child of the current sub-call
            with _lock:
                _open_positions.setdefault(rlm, []).append(position)
        if position is not None and position.owner is rlm:
            position.turn += 1
            if position.numbered:
                position.level.iteration = position.turn
            position.context = copy_context()
            _follow_server(kwargs["lm_handler"] if "lm_handler" in kwargs else args[1], position)
        return method(rlm, *args, **kwargs)

    return turn


class _Subcall:
    """A descriptor for ``RLM._subcall`` that records in which completion the method was bound.

    An environment gets ``rlm._subcall`` when a completion begins, and calls it on its own threads. If one RLM runs two
    completions at once, only the binding shows which of them a call belongs to.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        functools.update_wrapper(self, method)

    def __get__(self, rlm: Any, kind: type[Any] | None = None) -> Any:
        if rlm is None:
            return self
        position = _current.get()
        if position is not None and position.owner is not rlm and not position.is_for_child(rlm):
            position = None
        return functools.partial(self._call, rlm, position)

    def __call__(self, rlm: Any, *args: Any, **kwargs: Any) -> Any:
        return self.__get__(rlm)(*args, **kwargs)

    def _call(self, rlm: Any, taken: _Position | None, /, *args: Any, **kwargs: Any) -> Any:
        position = _current.get()
        inside = position is not None and position.owner is rlm
        if not inside:  # on a thread of the environment
            with _lock:
                standing = _open_positions.get(rlm, [])
                # An environment may outlive the completion in which its method was bound.
                position = taken if taken in standing else standing[0] if len(standing) == 1 else None
        if position is None:
            return self._method(rlm, *args, **kwargs)

        def below(outer: _Position) -> Any:
            with (
                outer.deeper() as level,
                _occupied(_Position(level, outer.depth + 1, outer.max_depth, numbered=outer.numbered)),
            ):
                return self._method(rlm, *args, **kwargs)

        return below(position) if inside else position.context.copy().run(below, position)


def _follow_server(lm_handler: Any, position: _Position) -> None:
    """Place the threads that serve ``llm_query`` one recursion level below the turn that called it."""
    # Each completion has its own server; socketserver's ThreadingMixIn starts a thread for each request here.
    server: Any = getattr(lm_handler, "_server", None)
    process_request = getattr(type(server), "process_request_thread", None)
    if process_request is None or "process_request_thread" in vars(server):
        return
    # rlms drops its server without closing it, so this closure must not keep the socket open.
    serving = weakref.ref(server)

    def below(*args: Any) -> None:
        with position.deeper():
            process_request(serving(), *args)

    server.process_request_thread = lambda *args: position.context.copy().run(below, *args)


# -- the position of a completion --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _root(rlm: Any, query_id: str) -> Iterator[_Position]:
    """Open the run or recursion level of a tracked RLM's completion while it lasts."""
    run = active_run()
    outer = _current.get()
    if run is None or (
        outer is None and run in _ours
    ):  # a run that this module opened on another thread belongs to another completion
        run = query_run(query_id)
        _ours.add(run)
        with run, run._in_role(_ROOT, rlm.max_depth) as level:
            yield _Position(level, rlm.depth, rlm.max_depth, owner=rlm, numbered=True)
    elif outer is not None:  # a tool of a tracked RLM that calls another RLM
        with outer.deeper() as level:
            yield _Position(level, rlm.depth, rlm.max_depth, owner=rlm, numbered=outer.numbered)
    else:
        numbered = run.iteration is None  # False if the program sets the iteration itself
        with run._in_role(_ROOT, rlm.max_depth) as level:
            yield _Position(level, rlm.depth, rlm.max_depth, owner=rlm, numbered=numbered)


@contextlib.contextmanager
def _occupied(position: _Position) -> Iterator[None]:
    """Make ``position`` the current one of this thread and of the RLM that owns it."""
    token = _current.set(position)
    if position.owner is not None:
        with _lock:
            _open_positions.setdefault(position.owner, []).append(position)
    try:
        yield
    finally:
        _current.reset(token)
        with _lock:
            standing = _open_positions.get(position.owner, []) if position.owner is not None else []
            if position in standing:
                standing.remove(position)
