"""Use a context manager of runs or tags as a decorator of any kind of function."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, cast

from .context import VARIABLES

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def entering(function: FunctionT, new_scope: Callable[[], contextlib.AbstractContextManager[Any]]) -> FunctionT:
    """Return ``function`` so that each call of it runs in a new scope.

    A generator has its own runs, iterations and tags; see :class:`_OwnContext`.

    Args:
        function: A function, a coroutine function, or a generator function of either kind.
        new_scope: Makes the scope to enter for each call.
    """
    if inspect.isasyncgenfunction(function):

        async def async_items(*args: Any, **kwargs: Any) -> Any:
            with new_scope():
                async with contextlib.aclosing(function(*args, **kwargs)) as items:
                    async for item in items:
                        yield item

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> Any:
            async with contextlib.aclosing(_in_own_context_async(async_items(*args, **kwargs))) as items:
                async for item in items:
                    yield item

        return cast("FunctionT", async_generator)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with new_scope():
                return await function(*args, **kwargs)

        return cast("FunctionT", coroutine)
    if inspect.isgeneratorfunction(function):

        def items(*args: Any, **kwargs: Any) -> Any:
            with new_scope():
                return (yield from function(*args, **kwargs))

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Any:
            return (yield from _in_own_context(items(*args, **kwargs)))

        return cast("FunctionT", generator)

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        with new_scope():
            return function(*args, **kwargs)

    return cast("FunctionT", plain)


class _OwnContext:
    """The runs, iterations and tags of a generator: ``with own:`` puts them into effect while it computes an item.

    A generator runs in the context of the code that requests the next item. A streaming web server does so from several
    threads, and two generators in one thread would share their runs.
    """

    def __init__(self) -> None:
        self._own: list[Any] = []
        self._outside: list[Any] = []

    def __enter__(self) -> None:
        self._outside = [variable.get() for variable in VARIABLES]
        for variable, value in zip(VARIABLES, self._own, strict=False):
            variable.set(value)

    def __exit__(self, *_: object) -> None:
        self._own = [variable.get() for variable in VARIABLES]
        for variable, value in zip(VARIABLES, self._outside, strict=True):
            variable.set(value)


def _in_own_context(generator: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    own = _OwnContext()
    step: Callable[[Any], Any] = generator.send
    given: Any = None
    while True:
        try:
            with own:
                item = step(given)
        except StopIteration as stop:
            return cast("T", stop.value)
        try:
            step, given = generator.send, (yield item)
        except BaseException as exc:  # including GeneratorExit, which the generator may handle
            step, given = generator.throw, exc


async def _in_own_context_async(generator: AsyncGenerator[T, Any]) -> AsyncGenerator[T, Any]:
    own = _OwnContext()
    step: Callable[[Any], Any] = generator.asend
    given: Any = None
    while True:
        try:
            with own:
                item = await step(given)
        except StopAsyncIteration:
            return
        try:
            step, given = generator.asend, (yield item)
        except BaseException as exc:  # including GeneratorExit, which the generator may handle
            step, given = generator.athrow, exc
