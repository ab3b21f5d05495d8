"""Complete the calls of background responses that another process requested, from the store.

No response states the completion window of its request, which decides the price. The process that made the request has
stored a call without tokens, with the same response id and with the options of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.journal import FIELDS
from rlm_cachetrack.records import COLUMNS, RecordSink
from rlm_cachetrack.usage import UNKNOWN_WINDOW

if TYPE_CHECKING:
    from .batches import BatchBuilder, Built
    from .prefetch import PreparedBatch

_OPTIONS, _ID, _TIME = (COLUMNS.index(name) for name in ("request_options", "response_id", "time"))
_RESPONSE_ID = FIELDS.index("response_id")
_MARK = f'"{UNKNOWN_WINDOW}"'
_MARGIN = timedelta(hours=1)  # the stored call has the time of the client's clock, and the response that of the server


def with_stored_options(prepared: PreparedBatch, sink: RecordSink, builder: Callable[[], BatchBuilder]) -> Built:
    """Return the batch with the request options of retrieved background responses. Blocks for a query if there are any.

    A call whose tokens another process has stored is left out. If the store does not have the request, the window stays
    unknown, and ``cost_excludes`` says so.

    Args:
        prepared: The batch.
        sink: The store.
        builder: Returns the batch builder.

    Raises:
        StoreError: The store failed.
    """
    found = {
        row[_ID]: row[_TIME]
        for row in prepared.built.batch.interactions
        if row[_OPTIONS] is not None and _MARK in row[_OPTIONS] and row[_ID] is not None
    }
    if not found:
        return prepared.built
    from rlm_cachetrack.store import PostgresStore  # imports psycopg

    if not isinstance(sink, PostgresStore):
        return prepared.built
    sink.open()
    since, until = min(found.values()) - _MARGIN, max(found.values()) + _MARGIN
    rows = sink.query_as_writer("background_calls_stored", ids=list(found), since=since, until=until)
    counted = {row["response_id"] for row in rows if row["is_counted"]}
    requested = {row["response_id"]: row["request_options"] or {} for row in rows if not row["is_counted"]}
    if not counted and not requested:
        return prepared.built
    events = []
    for event in prepared.entries.decode():
        response_id = _retrieved_id(event)
        if response_id in counted:
            continue
        if response_id in requested:
            event["extra"]["request_options"] = {
                **{name: value for name, value in event["extra"]["request_options"].items() if value != UNKNOWN_WINDOW},
                **requested[response_id],
            }
        events.append(event)
    return builder().build(events)


def _retrieved_id(event: Mapping[str, Any]) -> str | None:
    """Return the response id of a retrieved call whose window is unknown; None for other events."""
    options = (event.get("extra") or {}).get("request_options") or {}
    if "call" not in event or options.get("completion_window") != UNKNOWN_WINDOW:
        return None
    return str(event["call"][_RESPONSE_ID])
