"""Record usage that a server reports only as a total: batches, eval runs, graders, and turns of agent sessions.

Such a total is recorded when the program retrieves it, or when an event of a stream has it: once per object. This
process remembers the ids of recorded objects, and the writer checks the store for those of other processes. The record
has the time of the object, not that of the retrieval.

Source: ``batch.py``, ``evals/run_retrieve_response.py``, ``fine_tuning/alpha/grader_run_response.py`` and
``beta/agents/sessions/turn.py`` of openai 3.57.0, read 2026-12-01.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from rlm_cachetrack._process import number_of, uuid7
from rlm_cachetrack.pipeline import runtimes
from rlm_cachetrack.records import merge_tags
from rlm_cachetrack.usage import plain, read_cache_options

from . import context
from .fields import fields_of, get_field, list_of, seconds_of, text_of

_MAX_REMEMBERED = 10_000
_counted: OrderedDict[str, None] = OrderedDict()
_sessions: OrderedDict[str, tuple[str, str | None]] = OrderedDict()  # the model and service tier of each agent session


class _Total(NamedTuple):
    """The usage of one object and model.

    Attributes:
        object_id: The id of the object; None if it has none.
        model: The model; None if the object does not name it.
        usage: The usage as the server sent it.
        start: When the work began, in seconds since 1970.
        end: When it ended, if this gives the duration of a call.
        tier: The service tier whose prices apply.
        status: The final status.
        error: The code of the error of a failed object.
        options: Request options in the object.
    """

    object_id: str | None
    model: str | None
    usage: Any
    start: float
    end: float | None = None
    tier: str | None = None
    status: str | None = None
    error: str | None = None
    options: Mapping[str, Any] | None = None


class TotalsReader:
    """Reads the totals in the objects and events of one request, and records them.

    Args:
        kind: ``batches``, ``evals``, ``graders`` or ``agents``.
        provider: The provider that returns them.
        tags: The tags of the client.
    """

    def __init__(self, kind: str, provider: str, tags: Mapping[str, str] | None) -> None:
        self._kind = kind
        self._provider = provider
        self._tags = tags
        self._find = _FINDERS[kind]

    def read(self, value: Any) -> None:
        """Record the totals of an object or event that were not recorded before."""
        for total in self._find(value):
            identity = f"{total.object_id}/{total.model}"
            if total.object_id is not None:
                if identity in _counted:
                    continue
                _remember(_counted, identity, None)
            self._record(total, identity)

    def _record(self, total: _Total, identity: str) -> None:
        seed = identity if total.object_id is not None else f"{identity}/{time.time_ns()}"
        number = number_of(seed)
        usage = plain(total.usage)
        current = runtimes.peek_default() or runtimes.default()
        provider, _, host = self._provider.partition("@")
        current.append(
            {
                "kind": "call",
                **context.current(),
                "tags": merge_tags(context.current_tags(), self._tags),
                "interaction_id": str(uuid7(int(total.start * 1_000) * 1_000_000, number)),
                "api": self._kind,
                "provider": provider,
                "model": total.model or "unknown",
                "response_id": total.object_id,
                "service_tier": total.tier,
                "finish_reason": total.status,
                "start_time": total.start,
                "end_time": total.end,
                "duration_ms": None if total.end is None else (total.end - total.start) * 1_000,
                "usage": usage,
                "success": total.error is None,
                "error_type": total.error,
                "request_options": total.options or None,
                "metadata": {"total": True, **({"host": host} if host else {})},
            }
        )


def _remember(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    if len(kept) > _MAX_REMEMBERED:
        kept.popitem(last=False)


# -- the kinds of objects ---------------------------------------------------------------------------------------------


def _batch(batch: Any) -> Iterator[_Total]:
    """Read a batch that has ended; one that was cancelled or expired is billed for its completed requests."""
    fields = fields_of(batch)
    usage = fields.get("usage")
    if fields.get("status") in ("completed", "cancelled", "expired") and get_field(usage, "total_tokens"):
        start, batch_id = _time(fields, "created_at"), text_of(fields.get("id"))
        yield _Total(batch_id, text_of(fields.get("model")), usage, start, tier="batch", status=fields.get("status"))


def _eval(run: Any) -> Iterator[_Total]:
    fields = fields_of(run)
    if fields.get("status") in ("completed", "failed", "canceled"):
        for usage in list_of(fields.get("per_model_usage")):
            if get_field(usage, "total_tokens"):
                model = text_of(get_field(usage, "model_name"))
                start = _time(fields, "created_at")
                yield _Total(text_of(fields.get("id")), model, usage, start, status=fields.get("status"))


def _grader(result: Any) -> Iterator[_Total]:
    """Read the result of a grader; one that asks no model has no usage."""
    fields = fields_of(result)
    name = "model_grader_token_usage_per_model"
    by_model = fields.get(f"api_{name}") or fields.get(name)  # the SDK's name, and the server's
    for model, usage in fields_of(by_model).items():
        if plain(usage):
            yield _Total(None, str(model), usage, time.time())


def _agents(value: Any) -> Iterator[_Total]:
    """Read a session, a turn, a page of turns, or an event of a session."""
    fields = fields_of(value)
    kind = fields.get("object")
    if kind == "agent.session":
        _learn_session(fields)
    elif kind == "agent.session.turn":
        yield from _turn(fields, None)
    elif kind == "list" or fields.get("data") is not None:
        for item in list_of(fields.get("data")):
            yield from _agents(item)
    elif (turn := fields.get("turn")) is not None:
        yield from _turn(fields_of(turn), fields.get("usage"))
    elif (session := fields.get("session")) is not None:
        _learn_session(fields_of(session))


def _learn_session(session: Mapping[str, Any]) -> None:
    agent = fields_of(session.get("agent"))
    model, tier = text_of(agent.get("model")), text_of(agent.get("service_tier"))
    if model is not None:
        _remember(_sessions, str(session.get("id")), (model, None if tier == "auto" else tier))


def _turn(turn: Mapping[str, Any], event_usage: Any) -> Iterator[_Total]:
    """Read a turn that has ended.

    Args:
        turn: The fields of the turn.
        event_usage: The usage in the event that contains the turn; it may arrive before the turn's own usage.
    """
    status, usage = turn.get("status"), turn.get("usage") or event_usage
    if status != "failed" and (status not in ("completed", "cancelled") or not get_field(usage, "total_tokens")):
        return
    model, tier = _sessions.get(str(turn.get("session_id")), (None, None))
    start = _time(turn, "started_at", "created_at")
    error = turn.get("error")
    code = (text_of(get_field(error, "code")) or "turn_failed") if status == "failed" else None
    end = seconds_of(turn.get("completed_at"))
    options = read_cache_options({"prompt_cache_options": turn.get("prompt_cache_options")})
    yield _Total(
        text_of(turn.get("id")),
        model,
        usage,
        start,
        end=None if end is None else max(end, start),
        tier=tier,
        status=text_of(status),
        error=code,
        options=options,
    )


_FINDERS: Mapping[str, Callable[[Any], Iterator[_Total]]] = {
    "batches": _batch,
    "evals": _eval,
    "graders": _grader,
    "agents": _agents,
}


def _time(fields: Mapping[str, Any], *names: str) -> float:
    """Return the first of the times that is valid, in seconds since 1970; now if none is."""
    stated = (seconds_of(fields.get(name)) for name in names)
    return next((moment for moment in stated if moment is not None), None) or time.time()
