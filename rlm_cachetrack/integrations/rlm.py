"""``track(rlm)``: run, iteration and depth of a recursive language model (the package ``rlms`` on PyPI).

::

    from rlm import RLM
    from rlm_cachetrack import instrument
    from rlm_cachetrack.integrations.rlm import track

    instrument()
    rlm = track(RLM(backend="openai", backend_kwargs={"model_name": "gpt-5"}, max_depth=2))
    rlm.completion(document)

The calls of an ``RLM`` leave on threads that know nothing of who caused them: ``llm_query`` goes over a socket to a
server that starts a thread a request, ``rlm_query_batched`` to a pool. Of the four callbacks that ``RLM`` takes, none
of its releases calls ``on_iteration_start`` and ``on_iteration_complete``, and ``on_subcall_start`` and
``on_subcall_complete`` pass over the sub-calls at ``max_depth``, which start no child. So the callbacks are left to the
program, and what is followed are the three methods that every completion, turn and sub-call goes through.

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

__all__ = ["track"]

RlmT = TypeVar("RlmT")

_SUB = "sub"  # rlms' own word for the models below the root: sub_sampling_args, custom_sub_tools
_METHODS = ("completion", "_completion_turn", "_subcall")


class _Level(Protocol):
    """A run, or a level of recursion in it."""

    iteration: int | None

    def recursion(
        self, model_type: str | None = None, *, model_index: int | None = None, max_depth: int | None = None
    ) -> AbstractContextManager[_Level]: ...


class _Place:
    """Where one completion stands: its level of recursion, and the context of its present turn."""

    __slots__ = ("__weakref__", "context", "depth", "level", "max_depth", "numbered", "owner", "turn")

    def __init__(self, level: _Level, depth: int, max_depth: int, *, owner: Any = None, numbered: bool) -> None:
        self.level = level
        self.depth = depth  # the RLM's own count
        self.max_depth = max_depth
        self.owner = owner  # the RLM; None: a sub-call whose child has not begun
        self.numbered = numbered  # whether turns number the iterations
        self.turn = 0
        self.context: Context = copy_context()

    def is_of_child(self, rlm: Any) -> bool:
        """Whether this is the place of a sub-call for which ``rlm`` was made, and has not begun its first turn."""
        return self.owner is None and self.depth == rlm.depth

    def deeper(self) -> AbstractContextManager[_Level]:
        return self.level.recursion(_SUB, max_depth=self.max_depth)


_here: ContextVar[_Place | None] = ContextVar("rlm_cachetrack_rlm", default=None)
_lock = threading.Lock()
_tracked: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_places: weakref.WeakKeyDictionary[Any, list[_Place]] = weakref.WeakKeyDictionary()
_numbering: weakref.WeakKeyDictionary[QueryRun, tuple[int, int | None]] = weakref.WeakKeyDictionary()
_ours: weakref.WeakSet[QueryRun] = weakref.WeakSet()  # the runs that were opened here, for completions outside any


def track(rlm: RlmT, query_id: str = "rlm") -> RlmT:
    """Record the run, iteration and depth of every call that an ``RLM`` and its children make.

    Calls are recorded by :func:`~.instrument`; this says where they belong. A completion inside a
    ``query_run`` belongs to it; elsewhere each completion is a run of its own. Its turns number the iterations from 1,
    unless the program numbers the iterations of its run itself. ``llm_query`` and ``rlm_query`` go one level deeper
    (``current_depth`` + 1, ``model_type`` ``"sub"``, the iteration of the turn that asked); a child numbers its own
    turns. What the ``RLM`` answers, raises and calls back is as without us. Does not block.

    Args:
        rlm: An ``rlm.RLM``; tracking it again changes only ``query_id``.
        query_id: Names the runs of completions that are outside any ``query_run``.

    Returns:
        ``rlm`` itself.

    Raises:
        ConfigError: ``rlm`` is no ``RLM``, or of a release of ``rlms`` that this does not know.
        RecordError: ``query_id`` is empty.
    """
    query_run(query_id)  # says what is wrong with the name here, and not in the middle of the program
    kind = next((kind for kind in reversed(type(rlm).__mro__) if "_completion_turn" in vars(kind)), None)
    if kind is None or "completion" not in vars(kind):
        raise ConfigError(
            f"track() was given a {type(rlm).__name__}; expected an RLM of the package rlms (known: 0.1.0 to 0.1.3)"
        )
    with _lock:
        _follow_class(kind)
        _tracked[rlm] = query_id
    return rlm


def _follow_class(kind: type[Any]) -> None:
    """Wrap the methods of ``RLM``, once; its instances that are not tracked pass through.

    On the class, because the children of a tracked instance are made inside a method, where nobody else sees them.
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
        with _root(rlm, query_id) as place, _standing(place):
            return method(rlm, *args, **kwargs)

    return completion


def _completion_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    def turn(rlm: Any, *args: Any, **kwargs: Any) -> Any:
        place = _here.get()
        if place is not None and place.is_of_child(rlm):
            place.owner = rlm  # the child of the sub-call that we are in
            with _lock:
                _places.setdefault(rlm, []).append(place)
        if place is not None and place.owner is rlm:
            place.turn += 1
            if place.numbered:
                place.level.iteration = place.turn
            place.context = copy_context()
            _follow_server(kwargs["lm_handler"] if "lm_handler" in kwargs else args[1], place)
        return method(rlm, *args, **kwargs)

    return turn


class _Subcall:
    """``RLM._subcall``, which knows what completion it was taken in.

    An environment is given ``rlm._subcall`` when a completion begins, and calls it on threads of its own. Where one RLM
    runs two completions at once, only that moment tells whose it is.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        functools.update_wrapper(self, method)

    def __get__(self, rlm: Any, kind: type[Any] | None = None) -> Any:
        if rlm is None:
            return self
        place = _here.get()
        if place is not None and place.owner is not rlm and not place.is_of_child(rlm):
            place = None
        return functools.partial(self._call, rlm, place)

    def __call__(self, rlm: Any, *args: Any, **kwargs: Any) -> Any:
        return self.__get__(rlm)(*args, **kwargs)

    def _call(self, rlm: Any, taken: _Place | None, /, *args: Any, **kwargs: Any) -> Any:
        place = _here.get()
        inside = place is not None and place.owner is rlm
        if not inside:  # a thread of the environment's
            with _lock:
                standing = _places.get(rlm, [])
                # An environment that outlives its completion was given it in one that is over.
                place = taken if taken in standing else standing[0] if len(standing) == 1 else None
        if place is None:
            return self._method(rlm, *args, **kwargs)

        def below(outer: _Place) -> Any:
            with (
                outer.deeper() as level,
                _standing(_Place(level, outer.depth + 1, outer.max_depth, numbered=outer.numbered)),
            ):
                return self._method(rlm, *args, **kwargs)

        return below(place) if inside else place.context.copy().run(below, place)


def _follow_server(lm_handler: Any, place: _Place) -> None:
    """Have the threads that answer ``llm_query`` stand one level below the turn that asked."""
    # Each completion has a server of its own; socketserver's ThreadingMixIn starts a thread a request with this method.
    server: Any = getattr(lm_handler, "_server", None)
    answer = getattr(type(server), "process_request_thread", None)
    if answer is None or "process_request_thread" in vars(server):
        return
    # rlms drops its server without closing it, so nothing here may keep the socket open.
    serving = weakref.ref(server)

    def below(*args: Any) -> None:
        with place.deeper():
            answer(serving(), *args)

    server.process_request_thread = lambda *args: place.context.copy().run(below, *args)


# -- where a completion stands ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _root(rlm: Any, query_id: str) -> Iterator[_Place]:
    """Open what the completion of a tracked RLM belongs to, for as long as it lasts."""
    run = active_run()
    outer = _here.get()
    if run is None or (outer is None and run in _ours):  # ours, seen from another thread, is another completion's
        run = query_run(query_id)
        _ours.add(run)
        with run:
            yield _Place(run, rlm.depth, rlm.max_depth, owner=rlm, numbered=True)
    elif outer is not None:  # a tool of a tracked RLM that asks another one
        with outer.deeper() as level:
            yield _Place(level, rlm.depth, rlm.max_depth, owner=rlm, numbered=outer.numbered)
    else:
        with _numbered(run) as numbered:
            yield _Place(run, rlm.depth, rlm.max_depth, owner=rlm, numbered=numbered)


@contextlib.contextmanager
def _standing(place: _Place) -> Iterator[None]:
    """Make ``place`` the one that this thread, and the RLM that owns it, is in."""
    token = _here.set(place)
    if place.owner is not None:
        with _lock:
            _places.setdefault(place.owner, []).append(place)
    try:
        yield
    finally:
        _here.reset(token)
        with _lock:
            standing = _places.get(place.owner, []) if place.owner is not None else []
            if place in standing:
                standing.remove(place)


@contextlib.contextmanager
def _numbered(run: QueryRun) -> Iterator[bool]:
    """Whether the turns of a completion in ``run`` number its iterations: not where the program does it itself.

    What another thread sees of ``iteration`` may be our own number for a completion beside this one; so the answer is
    the one for the first of those that overlap.
    """
    with _lock:
        beside, given = _numbering.get(run, (0, None))
        if not beside:
            given = run.iteration
        _numbering[run] = (beside + 1, given)
    try:
        yield given is None
    finally:
        with _lock:
            beside = _numbering[run][0] - 1
            if beside:
                _numbering[run] = (beside, given)
            else:
                del _numbering[run]
        if given is None:
            run.iteration = None
