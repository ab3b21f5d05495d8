"""``query_run``: group calls into runs with iterations and recursion levels, and report on a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from rlm_cachetrack._process import guard as _guard
from rlm_cachetrack.capture import context, tag_scopes
from rlm_cachetrack.capture.decorating import FunctionT, entering
from rlm_cachetrack.capture.tag_scopes import get_innermost, set_innermost
from rlm_cachetrack.config import disabled
from rlm_cachetrack.errors import CacheTrackError, StoreError
from rlm_cachetrack.formatting import run_card, run_lines
from rlm_cachetrack.pipeline import Runtime, runtimes
from rlm_cachetrack.records import (
    MAX_TAG_LENGTH,
    MAX_TAG_NAME_LENGTH,
    MAX_TAGS,
    aware,
    check_count,
    checked_json,
    checked_outcome,
    checked_query_id,
    checked_tags,
    merge_tags,
)

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import RunReport, TokenCacheOptimization, TokenCacheSummary
    from rlm_cachetrack.analytics.explain import CacheExplanation

__all__ = ["QueryRun", "Recursion", "active_run", "query_run", "tags"]

T = TypeVar("T")


class _Level:
    """Base class of runs and recursion levels: a frame, an iteration, and nested levels."""

    def __init__(self) -> None:
        self._frame: context.Frame | None = None

    @property
    def iteration(self) -> int | None:
        """The iteration of calls made in this thread or task; None before the first."""
        return None if self._frame is None else context.get_iteration(self._frame)

    @iteration.setter
    def iteration(self, number: int | None) -> None:
        check_count("iteration", number)
        context.set_iteration(self._open(), number)

    def iterations(self, items: Iterable[T], start: int = 1) -> Iterator[T]:
        """Yield ``items`` and set the iteration for each, counting from ``start``."""
        for number, item in enumerate(items, start):
            self.iteration = number
            yield item

    def recursion(
        self,
        model_type: str | None = None,
        *,
        model_index: int | None = None,
        max_depth: int | None = None,
    ) -> Recursion:
        """Open a recursion level.

        Calls inside have ``current_depth`` + 1, a new ``recursion_id``, and the current level as their parent.

        Args:
            model_type: The caller's name for the role of the model at this level, such as ``sub``. None: as in the
                enclosing level.
            model_index: The number of the model, if there are several. None: as in the enclosing level.
            max_depth: The caller's limit on the depth. None: as in the enclosing level.

        Returns:
            A context manager for ``with`` and ``async with``.

        Raises:
            RecordError: A number is not a whole number of at least 0.
        """
        check_count("model_index", model_index)
        check_count("max_depth", max_depth)
        return Recursion(self, model_type, model_index, max_depth)

    def _in_role(self, model_type: str, max_depth: int | None) -> Recursion:
        """Return a context at the same depth whose calls have another model type and their own iteration."""
        return Recursion(self, model_type, None, max_depth, is_deeper=False)

    def _open(self) -> context.Frame:
        if self._frame is None:
            raise CacheTrackError("not open: use it inside `with query_run(...) as run:`")
        return self._frame

    def _check_closed(self) -> None:
        if self._frame is not None and not self._frame.is_closed:
            raise CacheTrackError("already open: make another query_run(...) for another run")

    def _enter(self, frame: context.Frame) -> None:
        self._frame = frame
        frame.handle = self
        context.enter(frame)

    def _leave(self) -> None:
        if self._frame is not None:
            context.leave(self._frame)


class Recursion(_Level):
    """A recursion level of a run. ``run.recursion(...)`` returns it."""

    def __init__(
        self,
        outer: _Level,
        model_type: str | None,
        model_index: int | None,
        max_depth: int | None,
        *,
        is_deeper: bool = True,
    ) -> None:
        super().__init__()
        self._is_deeper = is_deeper
        self._outer = outer
        self._model_type = model_type
        self._model_index = model_index
        self._max_depth = max_depth

    @property
    def depth(self) -> int:
        """The depth: 1 for the first level below the run."""
        return int(self._open().fields["current_depth"])

    @property
    def recursion_id(self) -> str:
        """The id of this level."""
        return str(self._open().fields["recursion_id"])

    @property
    def parent_recursion_id(self) -> str | None:
        """The id of the level above."""
        return cast("str | None", self._open().fields["parent_recursion_id"])

    def __enter__(self) -> Self:
        self._check_closed()
        top = self._outer._open()
        # Inside a level, `run.recursion()` of the run also opens a level below the current one.
        here = context.active()
        outer = here if here is not None and here.run_frame is top.run_frame else top
        frame = context.Frame(
            outer.fields["query_id"],
            outer.run_id,
            outer=outer,
            recursive=True,
            model_type=self._model_type,
            model_index=self._model_index,
            max_depth=self._max_depth,
        )
        if not self._is_deeper:
            frame.stay_on_level(outer)
        self._enter(frame)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()


class QueryRun(_Level):
    """A run: the calls between entering and leaving it. :func:`query_run` returns it.

    Attributes:
        query_id: The query or benchmark that the run belongs to.
        run_id: The start of the run in UTC. Set on entering, unless it was given.
    """

    def __init__(
        self,
        query_id: str,
        run_id: datetime | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.query_id = checked_query_id(query_id)
        self._given_run_id = None if run_id is None else aware(run_id, "run_id")
        self._run_id = self._given_run_id
        self._metadata = checked_json(metadata, "metadata")
        self._tags = checked_tags(tags)
        self._runtime: Runtime | None = None
        self._disabled = False

    @property
    def run_id(self) -> datetime:
        """The start of the run in UTC; with ``query_id`` it identifies the run."""
        if self._run_id is None:
            raise CacheTrackError("the run has not begun: run_id is set on entering `with query_run(...) as run:`")
        return self._run_id

    def __repr__(self) -> str:
        if self._run_id is None:
            return f"<QueryRun {self.query_id!r}, not begun>"
        if self._frame is None:
            return f"<QueryRun {self.query_id!r}, run {self._run_id.isoformat()}, not begun>"
        return f"<QueryRun {self.query_id!r}, run {self._run_id.isoformat()}, {self._state()}>"

    def __str__(self) -> str:
        """Return four lines on the calls so far; the repr if there are none. Blocks like :meth:`summary`."""
        report = self._report()
        if report is None:
            return repr(self)
        return run_lines(self.query_id, self._state(), report["summary"], report["optimization"]["cost_savings"])

    def _repr_html_(self) -> str | None:
        """Return a card for a notebook; None if there are no calls. Blocks like :meth:`summary`."""
        report = self._report()
        return None if report is None else run_card(self.query_id, self._state(), report)

    def _state(self) -> str:
        return "ended" if self._frame is not None and self._frame.is_closed else "open"

    def _report(self) -> RunReport | None:
        """Return the run as stored so far; None if it has not begun or cannot be read."""
        from rlm_cachetrack.analytics import run_report

        if self._frame is None or self._disabled:
            return None
        try:
            return run_report(self._reader(), self.query_id, self.run_id)
        except CacheTrackError:
            return None

    def __enter__(self) -> Self:
        self._check_closed()
        self._disabled = disabled()
        self._runtime = None if self._disabled else self._find_runtime()  # before entering, because it may raise
        self._run_id = self._given_run_id or context.new_run_id()
        # Only the inherited frame counts: a run is not nested in the runs of other threads.
        frame = context.Frame(self.query_id, self._run_id, outer=context.inherited())
        frame.tags = merge_tags(self._tags, frame.tags)
        self._enter(frame)
        self._append("run_start", metadata=self._metadata, tags=self._tags)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        # A generator that is closed before its end raises GeneratorExit, which is not an error.
        is_completed = kind is None or issubclass(kind, GeneratorExit)
        self._append("run_end", status="completed" if is_completed else "error")

    async def __aenter__(self) -> Self:
        return self.__enter__()  # a write to the journal does not block

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, exc, traceback)

    def __call__(self, function: FunctionT) -> FunctionT:
        """Decorate ``function`` so that each call of it is a run.

        A generator stays in its run even if different threads request its items, for example in a streaming web server.
        """
        return entering(function, lambda: QueryRun(self.query_id, self._given_run_id, self._metadata, self._tags))

    def record_outcome(self, success: bool | None = None, score: float | None = None, label: str | None = None) -> None:
        """Record what the run achieved; does not wait for the database. A later outcome replaces the values it gives.

        Args:
            success: Whether the task was solved.
            score: A finite number, higher is better.
            label: A label of your choice, such as ``timeout``.

        Raises:
            RecordError: A value has the wrong type, or all three are None.
        """
        self._append("run_outcome", **checked_outcome(success, score, label))

    def summary(self) -> TokenCacheSummary:
        """Return the totals of this run so far, as ``get_token_cache_summary`` does. Flushes first; blocks.

        With ``RLM_CACHETRACK_DISABLED=1`` it returns the summary of a run without calls.

        Raises:
            StoreError: The store cannot be read, or the run was deleted from it.
        """
        from rlm_cachetrack import analytics

        if self._disabled:
            return analytics.empty_summary(self.query_id, self.run_id)
        found = analytics.token_cache_summary(self._reader(), self.query_id, self.run_id)
        if found is None:
            raise StoreError(f"the run {self.query_id!r} of {self.run_id.isoformat()} was deleted from the store")
        return found

    def optimization(self) -> TokenCacheOptimization | None:
        """Return the cache savings of this run, as ``get_token_cache_optimization`` does; None before the run ended.

        Flushes first; blocks. With ``RLM_CACHETRACK_DISABLED=1`` it returns the result of a run without calls.

        Raises:
            StoreError: The store cannot be read.
        """
        from rlm_cachetrack import analytics

        if self._disabled:
            return analytics.empty_optimization(self.query_id, self.run_id)
        return analytics.stored_optimization(self._reader(), self.query_id, self.run_id)

    def explain(self) -> CacheExplanation | None:
        """Return the cache miss reasons of the calls so far, as ``explain_cache`` does; None without calls.

        Flushes first; blocks. With ``RLM_CACHETRACK_DISABLED=1`` there are no calls.

        Raises:
            StoreError: The store cannot be read.
        """
        from rlm_cachetrack.analytics.explain import explain_cache

        return None if self._disabled else explain_cache(self._reader(), self.query_id, self.run_id)

    def _reader(self) -> Any:
        runtime = self._runtime
        if runtime is None or runtime.closed:
            runtime = runtimes.default()
        return runtime.reader()

    @staticmethod
    def _find_runtime() -> Runtime | None:
        try:
            runtime = runtimes.default()
            runtime.check_pricing()
            return runtime
        except CacheTrackError:
            raise  # a wrong setting, which the user can correct
        except Exception as exc:
            _guard.report("opening the store of a run", exc)
            return None

    def _append(self, kind: str, **more: Any) -> None:
        runtime = self._runtime
        if runtime is None:
            return
        try:
            if runtime.closed:
                runtime = self._runtime = runtimes.default()
            runtime.append_run(kind, self.query_id, self.run_id, **more)
        except Exception as exc:
            _guard.report("recording a run", exc)


def query_run(
    query_id: str,
    run_id: datetime | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> QueryRun:
    """Group calls into a run. Use it as a context manager (``with`` or ``async with``) or as a decorator.

    Entering and leaving do not wait for the database. After a clean exit the status of the run is ``completed``; after
    an exception, which propagates, it is ``error``. The cache savings are computed and stored after the last record of
    the run. Runs may be nested; calls belong to the innermost.

    Args:
        query_id: The name of the query or benchmark; it groups runs.
        run_id: The start of the run: an aware datetime, or ISO 8601 text with an offset. None: now, in UTC.
        metadata: A mapping that JSON can represent, stored with the run.
        tags: At most 16 short texts by name, such as ``{"agent": "planner"}``, stored with the run and each of its
            calls.

    Raises:
        RecordError: ``query_id`` is empty, ``run_id`` is naive, or ``metadata`` or ``tags`` cannot be stored.
    """
    return QueryRun(query_id, run_id, metadata, tags)


class TagScope:
    """Add tags to the calls inside its ``with`` block; see :func:`tags`. Reentrant, also in concurrent tasks."""

    __slots__ = ("_own",)

    def __init__(self, own: Mapping[str, str]) -> None:
        self._own = own

    def __enter__(self) -> None:
        set_innermost((self._own, get_innermost()))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        scope = get_innermost()
        if scope is not None and scope[0] is self._own:
            set_innermost(scope[1])
        else:
            set_innermost(tag_scopes.without(scope, self._own))

    def __call__(self, function: FunctionT) -> FunctionT:
        """Decorate ``function`` so that its calls have the tags: a function, coroutine function or generator."""
        return entering(function, lambda: self)


def tags(**given: Any) -> TagScope:
    """Add tags to the calls inside the ``with`` block, or inside the decorated function.

    Used as ``with tags(user="u-17", feature="search"):`` or as a decorator. Scopes nest, and an inner scope overrides
    the values of outer ones. Asyncio tasks, ``asyncio.to_thread`` and a ``ContextThreadPoolExecutor`` inherit the tags,
    which are stored with each call.

    Args:
        **given: At most 16 short texts, numbers or booleans by name.

    Raises:
        RecordError: A tag cannot be stored.
    """
    # A program may set tags for each call, so the usual ones are checked without another function call.
    if len(given) <= MAX_TAGS:
        for name, value in given.items():
            if not (
                type(value) is str
                and len(value) <= MAX_TAG_LENGTH
                and value.isascii()
                and "\x00" not in value
                and len(name) <= MAX_TAG_NAME_LENGTH
                and name.isidentifier()
            ):
                break
        else:
            return TagScope(given)
    return TagScope(checked_tags(given) or {})


def active_run() -> QueryRun | None:
    """Return the active run, to which a call made now belongs, for code without a reference to it.

    Returns:
        The object of ``with query_run(...) as run:``, also inside ``run.recursion(...)``, and in a thread that falls
        back to the only active run of the process. None outside any run.
    """
    frame = context.active()
    return None if frame is None else cast("QueryRun", frame.run_frame.handle)
