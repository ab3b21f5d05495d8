"""Complete the calls of background responses from the store, where another process may have stored them.

No response contains the completion window of its request, which affects the price. The process that made the request
has stored a call without tokens, with the same response id and with the options of the request.

Each process that retrieves a finished response reports its tokens. Those that are stored first are kept: a later
retrieval is left out, and the call of the request itself is stored without tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from rlm_cachetrack._process import is_named, number_of
from rlm_cachetrack.journal import FIELDS
from rlm_cachetrack.records import COLUMNS, RecordBatch, RecordSink
from rlm_cachetrack.usage import UNKNOWN_WINDOW

_OPTIONS, _ID, _TIME, _METADATA, _TOKENS, _DETAILS = (
    COLUMNS.index(name)
    for name in ("request_options", "response_id", "time", "metadata", "prompt_tokens", "token_details")
)
_NUMBER, _RESPONSE_ID, _EVENT_METADATA = (FIELDS.index(name) for name in ("number", "response_id", "metadata"))
_UNKNOWN = f'"{UNKNOWN_WINDOW}"'
_BACKGROUND = '"background":true'
# The stored call has the time of the client's clock, and the response has the server's time.
_MARGIN_OF_REQUEST = timedelta(hours=1)
_MARGIN_OF_RETRIEVAL = timedelta(minutes=5)  # shorter, because every finished response is looked up


def completed_events(
    batch: RecordBatch, events: Callable[[], Iterable[dict[str, Any]]], sink: RecordSink
) -> Iterator[dict[str, Any]] | None:
    """Complete the events of a batch with stored data about its background responses; return None if there is none.

    Blocks for a query if there are any. If the store does not have the request of a retrieved response, its window
    stays unknown, and ``cost_excludes`` names its discount.

    Args:
        batch: The batch that was built from the events.
        events: Returns the events.
        sink: The store.

    Raises:
        StoreError: The store failed.
    """
    margins = {row[_ID]: (row[_TIME], margin) for row in batch.interactions if (margin := _margin(row))}
    if not margins:
        return None
    from rlm_cachetrack.store import PostgresStore  # imports psycopg

    if not isinstance(sink, PostgresStore):
        return None
    sink.open()
    since = min(time - margin for time, margin in margins.values())
    until = max(time + margin for time, margin in margins.values())
    rows = sink.query_as_writer("background_calls_stored", ids=list(margins), since=since, until=until)
    counted = {row["response_id"]: False for row in rows if row["is_counted"]}
    for row in rows:
        if row["is_counted"] and is_named(row["interaction_id"], row["response_id"]):
            counted[row["response_id"]] = True
    requested = {row["response_id"]: row["request_options"] or {} for row in rows if not row["is_counted"]}
    if not counted and not requested:
        return None
    return (
        changed
        for event in events()
        if (changed := _completed(event, counted, requested) if "call" in event else event) is not None
    )


def _margin(row: tuple[Any, ...]) -> timedelta | None:
    """Return how far the times of the stored calls of a response can be from this call; None for other calls."""
    metadata, options = row[_METADATA], row[_OPTIONS]
    if metadata is None or row[_ID] is None or _BACKGROUND not in metadata:
        return None
    if options is not None and _UNKNOWN in options:
        return _MARGIN_OF_REQUEST
    is_counted = row[_TOKENS] is not None or row[_DETAILS] is not None
    return _MARGIN_OF_RETRIEVAL if is_counted else None


def _completed(
    event: dict[str, Any], counted: Mapping[str, bool], requested: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Complete the event of a call with the stored data of its response; return None if the event adds nothing.

    Args:
        event: The event of the request, or of a retrieval by another process.
        counted: The responses that are counted, each with whether a retrieval by another process counted it.
        requested: The options of stored requests without tokens, by response.
    """
    call, extra = event["call"], event.get("extra") or {}
    response_id, options = call[_RESPONSE_ID], extra.get("request_options") or {}
    if not isinstance(response_id, str):
        return event
    if response_id in counted and call[_NUMBER] == number_of(response_id):
        return None
    if counted.get(response_id):
        return _without_tokens(event)
    if response_id in requested and options.get("completion_window") == UNKNOWN_WINDOW:
        known = {name: value for name, value in options.items() if value != UNKNOWN_WINDOW}
        event["extra"] = {**extra, "request_options": {**known, **requested[response_id]}}
    return event


def _without_tokens(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event of a request whose response another process has counted."""
    call = list(event["call"])
    call[_EVENT_METADATA] = {**(call[_EVENT_METADATA] or {}), "usage": "pending"}
    extra = {
        name: value for name, value in (event.get("extra") or {}).items() if name not in ("token_details", "tool_usage")
    }
    return {**event, "call": call, "usage": None, "extra": extra}
