"""``query_run``: the run that calls belong to, its iterations and recursion, and what became of it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from rlm_cachetrack._process import guard as _guard
from rlm_cachetrack.capture import context
from rlm_cachetrack.config import disabled
from rlm_cachetrack.errors import CacheTrackError, RecordError, StoreError
from rlm_cachetrack.formatting import facts_as_html
from rlm_cachetrack.pipeline import Runtime, runtimes
from rlm_cachetrack.records import aware, checked_json, checked_query_id

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import TokenCacheOptimization, TokenCacheSummary
    from rlm_cachetrack.analytics.explain import CacheExplanation

__all__ = ["QueryRun", "Recursion", "active_run", "query_run"]

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class _Level:
    """What a run and a level of recursion share: a frame, an iteration, and the way deeper."""

    def __init__(self) -> None:
        self._frame: context.Frame | None = None

    @property
    def iteration(self) -> int | None:
        """The number of the step that calls belong to, as seen from here (task or thread); None before the first."""
        return None if self._frame is None else context.get_iteration(self._frame)

    @iteration.setter
    def iteration(self, number: int | None) -> None:
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
            raise RecordError(f"iteration={number!r}: expected a whole number of at least 0, or None")
        context.set_iteration(self._open(), number)

    def iterations(self, items: Iterable[T], start: int = 1) -> Iterator[T]:
        """Yield ``items``, numbering the iteration of each from ``start``."""
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
        """Go one level deeper: calls inside have ``current_depth`` + 1, a ``recursion_id`` of their own and the
        present one as their parent.

        Args:
            model_type: The caller's own word for who is called there, such as ``sub``; None: as outside.
            model_index: Which of several models; None: as outside.
            max_depth: How deep the caller lets it go; None: as outside.

        Returns:
            A context manager, also an async one.
        """  # noqa: D205
        return Recursion(self, model_type, model_index, max_depth)

    def _open(self) -> context.Frame:
        if self._frame is None:
            raise CacheTrackError("not open: use it inside `with query_run(...) as run:`")
        return self._frame

    def _check_closed(self) -> None:
        if self._frame is not None and not self._frame.over:
            raise CacheTrackError("already open: make another query_run(...) for another run")

    def _enter(self, frame: context.Frame) -> None:
        self._frame = frame
        frame.handle = self
        context.enter(frame)

    def _leave(self) -> None:
        if self._frame is not None:
            context.leave(self._frame)


class Recursion(_Level):
    """One level deeper in a run; made by ``run.recursion(...)``."""

    def __init__(self, outer: _Level, model_type: str | None, model_index: int | None, max_depth: int | None) -> None:
        super().__init__()
        self._outer = outer
        self._model_type = model_type
        self._model_index = model_index
        self._max_depth = max_depth

    @property
    def depth(self) -> int:
        """1 for the first level below the run."""
        return int(self._open().fixed["current_depth"])

    @property
    def recursion_id(self) -> str:
        """Names this level."""
        return str(self._open().fixed["recursion_id"])

    @property
    def parent_recursion_id(self) -> str | None:
        """Names the level above."""
        return cast("str | None", self._open().fixed["parent_recursion_id"])

    def __enter__(self) -> Self:
        self._check_closed()
        top = self._outer._open()
        # Recursing from within an inner level through the run's own handle still goes one deeper than where we are.
        here = context.active()
        outer = here if here is not None and here.shared is top.shared else top
        frame = context.Frame(
            outer.fixed["query_id"],
            outer.run_id,
            outer=outer,
            recursive=True,
            model_type=self._model_type,
            model_index=self._model_index,
            max_depth=self._max_depth,
        )
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
    """A run: everything between entering and leaving it. Made by :func:`query_run`.

    Attributes:
        query_id: What is asked or benchmarked.
        run_id: When it began (UTC); set on entering where it was not given.
    """

    def __init__(
        self, query_id: str, run_id: datetime | str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.query_id = checked_query_id(query_id)
        self._given_run_id = None if run_id is None else aware(run_id, "run_id")
        self._run_id = self._given_run_id
        self._metadata = checked_json(metadata, "metadata")
        self._runtime: Runtime | None = None
        self._disabled = False

    @property
    def run_id(self) -> datetime:
        """When the run began, in UTC; with ``query_id`` it names the run."""
        if self._run_id is None:
            raise CacheTrackError("the run has not begun: run_id is set on entering `with query_run(...) as run:`")
        return self._run_id

    def __repr__(self) -> str:
        if self._run_id is None:
            return f"<QueryRun {self.query_id!r}, not begun>"
        if self._frame is None:
            return f"<QueryRun {self.query_id!r}, run {self._run_id.isoformat()}, not begun>"
        over = "over" if self._frame.over else "open"
        return f"<QueryRun {self.query_id!r}, run {self._run_id.isoformat()}, {over}>"

    def _repr_html_(self) -> str | None:
        """The totals, for a notebook; blocks like :meth:`summary`. None where there are none: the plain repr then."""
        if self._frame is None:
            return None
        try:
            return facts_as_html(self.summary())
        except CacheTrackError:
            return None

    def __enter__(self) -> Self:
        self._check_closed()
        self._disabled = disabled()
        self._runtime = None if self._disabled else self._find_runtime()  # first, because it may raise
        self._run_id = self._given_run_id or context.new_run_id()
        # Not what other threads have open: a run begun beside theirs is not nested in it.
        self._enter(context.Frame(self.query_id, self._run_id, outer=context.inherited()))
        self._append("run_start", metadata=self._metadata)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        # A generator that nobody reads to its end is closed, which is no failure of its.
        fine = kind is None or issubclass(kind, GeneratorExit)
        self._append("run_end", status="completed" if fine else "error")

    async def __aenter__(self) -> Self:
        return self.__enter__()  # a write to the journal: nothing here waits

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, exc, traceback)

    def __call__(self, function: FunctionT) -> FunctionT:
        """Use it as a decorator: each call of ``function`` is a run of its own.

        A generator stays in its run whichever thread asks for the next item, as a web server does that streams it.
        """

        def fresh() -> QueryRun:
            return QueryRun(self.query_id, self._given_run_id, self._metadata)

        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def async_generator(*args: Any, **kwargs: Any) -> Any:
                with fresh():
                    async with contextlib.aclosing(function(*args, **kwargs)) as items:
                        async for item in items:
                            yield item

            return cast("FunctionT", async_generator)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                async with fresh():
                    return await function(*args, **kwargs)

            return cast("FunctionT", coroutine)
        if inspect.isgeneratorfunction(function):

            def items(*args: Any, **kwargs: Any) -> Any:
                with fresh():
                    return (yield from function(*args, **kwargs))

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                return (yield from context.carried(items(*args, **kwargs)))

            return cast("FunctionT", generator)

        @functools.wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            with fresh():
                return function(*args, **kwargs)

        return cast("FunctionT", plain)

    def summary(self) -> TokenCacheSummary:
        """The totals of this run so far: the dict of ``get_token_cache_summary``. Flushes first; blocks.

        With ``RLM_CACHETRACK_DISABLED=1`` it is the summary of a run without calls.

        Raises:
            StoreError: The store cannot be read, or the run was deleted from it.
        """
        from rlm_cachetrack import analytics

        if self._disabled:
            return analytics.empty_summary(self.query_id, self.run_id)
        found = analytics.token_cache_summary(self._reader(), self.query_id, self.run_id)
        if found is None:
            raise StoreError(f"the run {self.query_id!r} of {self.run_id.isoformat()} is not in the store any more")
        return found

    def optimization(self) -> TokenCacheOptimization | None:
        """What the cache saved: the dict of ``get_token_cache_optimization``; None before the run has ended.

        Flushes first; blocks. With ``RLM_CACHETRACK_DISABLED=1`` it is that of a run without calls.

        Raises:
            StoreError: The store cannot be read.
        """
        from rlm_cachetrack import analytics

        if self._disabled:
            return analytics.empty_optimization(self.query_id, self.run_id)
        return analytics.stored_optimization(self._reader(), self.query_id, self.run_id)

    def explain(self) -> CacheExplanation | None:
        """Why the calls so far read from the cache what they read: the dict of ``explain_cache``; None without calls.

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
            raise  # a wrong setting: the user can act here
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
    query_id: str, run_id: datetime | str | None = None, metadata: Mapping[str, Any] | None = None
) -> QueryRun:
    """Group the calls made inside: a context manager (``with`` or ``async with``) and a decorator.

    Entering and leaving never wait for the database. On a clean exit the run is ``completed``, on an exception its
    status is ``error`` and the exception goes on; what the cache saved is computed and stored after its last record.
    Runs may nest; calls belong to the innermost.

    Args:
        query_id: What is asked or benchmarked; groups runs.
        run_id: When the run began: an aware datetime, or ISO 8601 text with an offset. None: now, in UTC.
        metadata: Anything JSON can hold, stored with the run.

    Raises:
        RecordError: ``query_id`` is empty, ``run_id`` is naive, or ``metadata`` is no mapping.
    """
    return QueryRun(query_id, run_id, metadata)


def active_run() -> QueryRun | None:
    """The run that a call made here and now would belong to, for code that was not handed it.

    Returns:
        What ``with query_run(...) as run:`` gave, also from within ``run.recursion(...)``, and in a thread that falls
        back to the process's one active run. None outside any run.
    """
    frame = context.active()
    return None if frame is None else cast("QueryRun", frame.shared.handle)
