"""``track()``: runs, turns, handoffs and websockets of the OpenAI Agents SDK (the package ``openai-agents``).

::

    from rlm_cachetrack import instrument
    from rlm_cachetrack.integrations import openai_agents

    instrument()
    openai_agents.track()

``instrument()`` records the calls that the package sends over HTTP. This module adds the calls of the
package's websocket transport and of its Realtime sessions, and the run context of all of them.

Hooks of a run are called in separate tasks, which cannot change the run context of the run. Therefore each run has
a frame, and the hooks change its values.

Source: ``run.py``, ``lifecycle.py``, ``models/openai_responses.py`` and ``realtime/openai_realtime.py`` of
openai-agents 0.24.0 (read 2026-12-01).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

from rlm_cachetrack import query_run
from rlm_cachetrack._process import guard, new_id
from rlm_cachetrack.capture import SocketClient, active_integrations, context, observe_socket, uninstrument_hooks
from rlm_cachetrack.config import disabled
from rlm_cachetrack.errors import CacheTrackError, ConfigError

from ._wrapping import wrap_method

__all__ = ["track"]


class _AgentRun:
    """The run context of one ``Runner.run``: its turns and its current agent.

    Args:
        outer: The frame that the run began in.
        agent: The name of the first agent.
        is_nested: Whether another agent runs this one as a tool.
        is_numbered: Whether turns set the iteration; False if the program does so itself.
    """

    def __init__(self, outer: context.Frame, agent: str, *, is_nested: bool, is_numbered: bool) -> None:
        self.frame = context.Frame(
            outer.fields["query_id"], outer.run_id, outer=outer, recursive=True, model_type=agent
        )
        self.is_numbered = is_numbered
        self._turn = 0
        if not is_nested:
            self.frame.stay_on_level(outer)

    def begin_turn(self, agent: str) -> None:
        """Set the iteration and the agent of the next call."""
        self._turn += 1
        if self.is_numbered:
            context.set_iteration(self.frame, self._turn)
        self._change(model_type=agent)

    def hand_off(self) -> None:
        """Go one level deeper: another agent continues the work of the current one."""
        fields = self.frame.fields
        self._change(
            current_depth=fields["current_depth"] + 1,
            parent_recursion_id=fields["recursion_id"],
            recursion_id=new_id(),
        )

    def _change(self, **fields: Any) -> None:
        self.frame.fields.update(fields)
        self.frame.encoded = None


_current: ContextVar[_AgentRun | None] = ContextVar("rlm_cachetrack_agent_run", default=None)
_query_id = "agents"
_undo: list[Callable[[], None]] = []


def track(query_id: str = "agents") -> None:
    """Record the websockets of openai-agents, and the run context of every run of an agent. Imports agents.

    ``instrument()`` records the calls; without it, nothing is recorded. A run inside a ``query_run`` belongs to it;
    elsewhere each run of an agent is a separate run. Its turns set the iteration, counting from 1, unless the program
    sets the iteration of its run itself. The agent's name is the ``model_type``. A handoff goes one level deeper
    (``current_depth`` + 1), as does an agent that another one uses as a tool. Results, hooks and errors are unchanged.
    ``uninstrument()`` ends it. Calling it again changes only ``query_id``. Does not block.

    Args:
        query_id: The query id for the runs of agents outside any ``query_run``.

    Raises:
        ConfigError: openai-agents is not installed, or too old.
        RecordError: ``query_id`` is empty.
    """
    global _query_id
    query_run(query_id)  # raises for an invalid name now, not in the middle of the program
    if disabled():
        return
    active_integrations.add("openai_agents")  # before the import, which may take seconds
    try:
        from agents import OpenAIResponsesWSModel, RunHooks
        from agents.realtime.openai_realtime import OpenAIRealtimeWebSocketModel
        from agents.run import AgentRunner
    except ImportError as exc:
        active_integrations.discard("openai_agents")
        raise ConfigError(f"track() needs openai-agents 0.24 or newer: {exc}") from exc
    _query_id = query_id
    if _undo:
        return
    _undo.append(lambda: active_integrations.discard("openai_agents"))
    hooks_class = _make_hooks_class(RunHooks)
    _wrap(AgentRunner, "run", functools.partial(_run, hooks_class))
    _wrap(AgentRunner, "run_streamed", functools.partial(_run_streamed, hooks_class))
    _wrap(OpenAIResponsesWSModel, "_open_websocket_connection", _open_responses)
    _wrap(OpenAIRealtimeWebSocketModel, "_create_websocket_connection", _open_realtime)
    uninstrument_hooks.append(_stop)


def _stop() -> None:
    while _undo:
        _undo.pop()()


def _wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    if getattr(owner, name, None) is None:
        raise ConfigError(f"track() does not know this release of openai-agents: {owner.__name__} has no {name}")
    _undo.append(wrap_method(owner, name, make))


# -- websockets --------------------------------------------------------------------------------------------------------


def _open_responses(method: Callable[..., Any]) -> Callable[..., Any]:
    async def open_connection(model: Any, *args: Any, **kwargs: Any) -> Any:
        socket = await method(model, *args, **kwargs)
        observe_socket(socket, "responses", model._client)
        return socket

    return open_connection


def _open_realtime(method: Callable[..., Any]) -> Callable[..., Any]:
    async def open_connection(model: Any, *args: Any, **kwargs: Any) -> Any:
        socket = await method(model, *args, **kwargs)
        url = kwargs["url"] if "url" in kwargs else args[0]
        observe_socket(socket, "realtime", SocketClient(str(url)), getattr(model, "model", None))
        return socket

    return open_connection


# -- runs --------------------------------------------------------------------------------------------------------------


def _run(hooks_class: type[Any], method: Callable[..., Any]) -> Callable[..., Any]:
    async def run(runner: Any, starting_agent: Any, *args: Any, **kwargs: Any) -> Any:
        with _opened(starting_agent) as agent_run:
            _add_hooks(hooks_class, agent_run, kwargs)
            return await method(runner, starting_agent, *args, **kwargs)

    return run


def _run_streamed(hooks_class: type[Any], method: Callable[..., Any]) -> Callable[..., Any]:
    """Run an agent whose work is done by a task, which ends after the method has returned."""

    def run_streamed(runner: Any, starting_agent: Any, *args: Any, **kwargs: Any) -> Any:
        opened = contextlib.ExitStack()
        inside = copy_context()  # so that the run is open in the task, but not in the calling code

        def begin() -> Any:
            _add_hooks(hooks_class, opened.enter_context(_opened(starting_agent)), kwargs)
            return method(runner, starting_agent, *args, **kwargs)

        try:
            result = inside.run(begin)
        except BaseException as exc:
            inside.run(opened.__exit__, type(exc), exc, exc.__traceback__)
            raise
        task = getattr(result, "run_loop_task", None)
        if task is None:
            inside.run(opened.close)
        else:
            task.add_done_callback(functools.partial(_end_streamed, opened), context=inside)
        return result

    return run_streamed


def _end_streamed(opened: contextlib.ExitStack, task: Any) -> None:
    try:
        exc = None if task.cancelled() else task.exception()
        with contextlib.suppress(BaseException):
            opened.__exit__(None if exc is None else type(exc), exc, None)
    except Exception as internal:
        guard.report("ending the run of an agent", internal)


@contextlib.contextmanager
def _opened(agent: Any) -> Iterator[_AgentRun]:
    """Open the run of an agent; outside any ``query_run``, open a run around it first."""
    with contextlib.ExitStack() as stack:
        outer, above = context.active(), _current.get()
        if outer is None:
            outer, above = stack.enter_context(_own_run()), None
        is_nested = above is not None and above.frame.run_frame is outer.run_frame
        is_numbered = above.is_numbered if above is not None and is_nested else context.get_iteration(outer) is None
        agent_run = _AgentRun(outer, _name_of(agent), is_nested=is_nested, is_numbered=is_numbered)
        agent_run.frame.is_private = outer.is_private
        context.enter(agent_run.frame)
        stack.callback(context.leave, agent_run.frame)
        token = _current.set(agent_run)
        try:
            yield agent_run
        finally:
            with contextlib.suppress(ValueError):  # in another context there is nothing to restore
                _current.reset(token)


@contextlib.contextmanager
def _own_run() -> Iterator[context.Frame]:
    with query_run(_query_id):
        frame = context.inherited()
        if frame is None:
            raise CacheTrackError("the run was not opened: RLM_CACHETRACK_DISABLED was set after track()")
        frame.is_private = True  # the program did not open it, so its other tasks and threads do not belong to it
        yield frame


def _name_of(agent: Any) -> str:
    return str(getattr(agent, "name", None) or "agent")


def _add_hooks(hooks_class: type[Any], agent_run: _AgentRun, kwargs: dict[str, Any]) -> None:
    given = kwargs.get("hooks")
    if given is None or isinstance(given, hooks_class.__mro__[1]):  # otherwise the package raises for a wrong type
        kwargs["hooks"] = hooks_class(agent_run, given)


def _make_hooks_class(base: type[Any]) -> type[Any]:
    """Return the class of our hooks, which call those of the program."""

    class CacheTrackHooks(base):  # type: ignore[misc]
        def __init__(self, agent_run: _AgentRun, given: Any) -> None:
            self._agent_run = agent_run
            self._given = given

        async def on_llm_start(self, wrapper: Any, agent: Any, *args: Any, **kwargs: Any) -> None:
            self._agent_run.begin_turn(_name_of(agent))
            if self._given is not None:
                await self._given.on_llm_start(wrapper, agent, *args, **kwargs)

        async def on_handoff(self, *args: Any, **kwargs: Any) -> None:
            self._agent_run.hand_off()
            if self._given is not None:
                await self._given.on_handoff(*args, **kwargs)

    for name in dir(base):
        if name.startswith("on_") and name not in vars(CacheTrackHooks):
            setattr(CacheTrackHooks, name, _passing_on(name, getattr(base, name)))
    return CacheTrackHooks


def _passing_on(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def hook(hooks: Any, *args: Any, **kwargs: Any) -> Any:
        if hooks._given is not None:
            return await getattr(hooks._given, name)(*args, **kwargs)
        return None

    return hook
