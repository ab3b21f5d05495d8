"""Track background responses: ``responses.create(background=True)``, then ``retrieve`` until they are done.

Videos are made in the same way.

Each call is one record, and its usage is counted once. The record waits for the retrieval of the finished response;
until then, the known values of the call are parked in the journal. If the store is read first, or the process ends, the
call is stored without tokens. A later retrieval of the finished response then creates a separate record, with the
usage. Its time and id follow from the response. The writer adds the facts that only the request has, and counts the
tokens once if several processes retrieve the response (:mod:`.pipeline.background_calls`).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlm_cachetrack._process import guard
from rlm_cachetrack.usage import UNKNOWN_WINDOW

from .fields import get_field

if TYPE_CHECKING:
    from .call import Call

RUNNING = frozenset({"queued", "in_progress"})
"""The states of a response that has not finished."""

_MAX_PARKED = 256
_MAX_COUNTED = 10_000

_lock = threading.RLock()  # reentrant: a signal handler may call the SDK, too
_parked: OrderedDict[str, tuple[Call, Any, object]] = OrderedDict()
_counted: dict[str, None] = {}
_options: dict[str, dict[str, str]] = {}  # request options by response id, for a retrieval after the call was stored


def remember_counted(response_id: str) -> None:
    """Remember that the usage of a background response is counted. The oldest ids are dropped."""
    _counted[response_id] = None
    if len(_counted) > _MAX_COUNTED:
        _counted.pop(next(iter(_counted)), None)


def park(call: Call, response: Any, journal: Any) -> None:
    """Keep the call of a running response until a retrieval returns the finished response."""
    response_id = str(get_field(response, "id"))
    _options[response_id] = call.request_options()
    if len(_options) > _MAX_COUNTED:
        _options.pop(next(iter(_options)), None)
    with _lock:
        replaced = _parked.pop(response_id, None)  # two calls that got the same id are two records
        _parked[response_id] = (call, journal, journal.park(call.unfinished_event()))
        if replaced is None and len(_parked) > _MAX_PARKED:
            replaced = _parked.popitem(last=False)[1]
    if replaced is not None:
        _store_unfinished(*replaced)


def settle(response: Any, make_call: Callable[[], Call]) -> None:
    """Count a retrieved response if it has finished and was not counted before.

    Args:
        response: The SDK's Response or Video, or its plain JSON.
        make_call: Makes the Call for a background response that another process created.
    """
    status = get_field(response, "status")
    if status is None or str(status) in RUNNING:
        return
    response_id = str(get_field(response, "id"))
    with _lock:
        parked = _parked.pop(response_id, None)
    if parked is None:
        is_job = get_field(response, "background") is True or get_field(response, "object") == "video"
        if response_id in _counted or not is_job:
            return  # counted when it was created
        call = make_call()
        unknown = {"completion_window": UNKNOWN_WINDOW} if call.api == "responses" else None
        call.known_options = _options.get(response_id, unknown)
        call.body = {"model": get_field(response, "model")}  # the requested name is not known
        call.metadata["background"] = True
        call.set_times(response_id, get_field(response, "created_at"), get_field(response, "completed_at"))
        call.result(response)
        return
    call, journal, parked_event = parked
    call.parked = False
    call.result(response)
    journal.unpark(parked_event)


def finish_all() -> None:
    """Store the parked calls with the values known so far, before the store is read or the process ends."""
    with _lock:
        parked = list(_parked.values())
        _parked.clear()
    for each in parked:
        _store_unfinished(*each)


def _after_fork_in_child() -> None:
    """Drop the calls of the parent process, which records them itself."""
    global _lock
    _lock = threading.RLock()
    _parked.clear()


def _store_unfinished(call: Call, journal: Any, parked_event: object) -> None:
    if not call.done:
        call.done = True
        journal.append(call.unfinished_event())
    journal.unpark(parked_event)


class Retrieved:
    """Observes a retrieved object, plain or streamed, to detect that the server finished its work.

    Args:
        api: The kind of the object.
        read: Reads the object, or an event of its stream.
        stream: Whether the caller asked for a stream.
    """

    def __init__(self, api: str, read: Callable[[Any], None], *, stream: bool) -> None:
        self.api = api
        self._read = read
        self.stream = stream
        self.pulling = False
        self.items: Any = None
        self.done = False

    def http(self, response: Any) -> None:
        """Ignore the HTTP response."""

    def chunk(self, event: Any) -> bool:
        """Detect the event that ends the work. No chunk is hidden from the caller."""
        try:
            self._read(event)
        except Exception as exc:
            guard.report("reading a chunk", exc)
        return False

    def stream_ended(self, ending: str | None = None) -> None:
        """End the observation, regardless of the object's state."""
        self.done = True

    def failed(self, exc: BaseException) -> None:
        """End the observation: a failed retrieval changes nothing."""
        self.done = True

    def result(self, response: Any) -> None:
        """Count a raw retrieval that was parsed."""
        self.done = True
        self._read(response)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
