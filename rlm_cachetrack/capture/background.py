"""Responses that are answered later: ``responses.create(background=True)``, then ``retrieve`` until it is done.

One call, one record, its usage counted once. The record waits for the retrieval that shows the response finished; until
then what is known of it is parked beside the journal. If somebody reads the store first, or the process ends, it is
stored as it is known, without tokens; a retrieval that shows it finished after that makes a record with the usage.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from .call import RUNNING, Call, is_counted

__all__ = ["Retrieval", "finish_all", "park", "settle"]

_MOST_PARKED = 256

_lock = threading.RLock()  # reentrant: a signal handler may call the SDK, too
_parked: OrderedDict[str, tuple[Call, Any, object]] = OrderedDict()


def park(call: Call, response: Any, journal: Any) -> None:
    """Keep the record of a response that still runs until it is seen finished."""
    response_id = str(_get(response, "id"))
    with _lock:
        replaced = _parked.pop(response_id, None)  # the same id twice: two calls all the same
        _parked[response_id] = (call, journal, journal.park(call.unfinished_line()))
        if replaced is None and len(_parked) > _MOST_PARKED:
            replaced = _parked.popitem(last=False)[1]
    if replaced is not None:
        _store_unfinished(*replaced)


def settle(response: Any, make_call: Any) -> None:
    """A stored response was retrieved, or a stream of it ended: count it if it is finished and was not counted.

    Args:
        response: The SDK's Response.
        make_call: Gives a new Call for a background response that another process began.
    """
    status = _get(response, "status")
    if status is None or str(status) in RUNNING:
        return
    response_id = str(_get(response, "id"))
    with _lock:
        waiting = _parked.pop(response_id, None)
    if waiting is None:
        if is_counted(response_id) or _get(response, "background") is not True:
            return  # counted when it was created
        call = make_call()
        call.metadata["background"] = True
        call.result(response)
        return
    call, journal, parked = waiting
    call.parked = False
    call.result(response)
    journal.unpark(parked)


def finish_all() -> None:
    """Somebody reads the store, or the process ends: what nobody saw finish is stored as it is known."""
    with _lock:
        waiting = list(_parked.values())
        _parked.clear()
    for each in waiting:
        _store_unfinished(*each)


def after_fork_in_child() -> None:
    """What the parent began is the parent's."""
    global _lock
    _lock = threading.RLock()
    _parked.clear()


def _store_unfinished(call: Call, journal: Any, parked: object) -> None:
    if not call.done:
        call.done = True
        journal.append(call.unfinished_line())
    journal.unpark(parked)


def _get(value: Any, name: str) -> Any:
    """A field of an SDK object, or of the JSON that a caller has read without the SDK."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


class Retrieval:
    """Watches a retrieved stream in the place of a Call: it may show that a background response is finished."""

    api = "responses"

    def __init__(self, make_call: Any, *, stream: bool) -> None:
        self._make_call = make_call
        self.stream = stream
        self.pulling = False
        self.items: Any = None
        self.hide_usage = False
        self.length: int | None = None
        self.done = False

    def http(self, response: Any) -> None:
        """Nothing to note."""

    def chunk(self, event: Any) -> bool:
        """Look for the event that ends the response; nothing is kept from the caller."""
        response = _get(event, "response")
        if response is not None:
            settle(response, self._make_call)
        return False

    def stream_ended(self, how: str | None = None) -> None:
        """The retrieval is over, whatever became of the response."""
        self.done = True

    def failed(self, exc: BaseException) -> None:
        """A look that failed changes nothing."""
        self.done = True

    def result(self, response: Any) -> None:
        """A raw retrieval was parsed."""
        self.done = True
        settle(response, self._make_call)
