"""Queries of the dashboard: usage over time, pages of runs, and pages of calls. Read-only; every function blocks.

A range of time is a :class:`.Span`. Buckets of a minute are summed from the calls, wider ones from the hourly sums.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack, cast

from rlm_cachetrack.errors import ConfigError

from .figures import ListedRun
from .filters import CallFilters, ContentFilters, needs_calls, query_parameters
from .run_figures import complete_figures
from .run_report import run_bounds
from .time_ranges import Span
from .usage_groups import UsageGroup, without_unreported

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

SORTS = ("start", "duration", "calls", "tokens", "cost", "saved", "hit_rate")
"""The columns that runs can be sorted by."""
OUTCOMES = ("succeeded", "failed", "not recorded")
"""The outcomes that runs can be filtered by; a run with only a score or a label has none of them."""


class _UsageKeys(TypedDict):
    bucket: datetime | None
    provider: str | None
    model: str | None


class UsageRow(_UsageKeys, UsageGroup):
    """The figures of a bucket, or of a model and its provider (None if unknown). See :class:`.UsageGroup`."""


class Choices(TypedDict):
    """The models and providers that were called in a range, sorted."""

    models: list[str]
    providers: list[str]


class Usage(TypedDict):
    """Usage in a range: in total, by bucket (oldest first, without empty ones), and by model.

    ``choices`` are the models and providers to filter by, whatever filter is set.
    """

    since: datetime | None
    until: datetime | None
    unit: str
    total: UsageRow
    buckets: list[UsageRow]
    models: list[UsageRow]
    choices: Choices


class Percentiles(TypedDict):
    """Percentiles of the durations (milliseconds) of ``calls`` calls; None without any."""

    calls: int
    p50_duration_ms: float | None
    p95_duration_ms: float | None


class FailedCall(TypedDict):
    """One failed call; ``duration_ms``: milliseconds."""

    time: datetime
    interaction_id: str
    query_id: str
    run_id: datetime
    model: str
    provider: str | None
    error_type: str | None
    error_message: str | None
    duration_ms: float | None
    trace_id: str | None


class RunRow(ListedRun):
    """One row of a page of runs. ``duration_ms`` is None until the run ends."""

    duration_ms: float | None
    total_cached_tokens: int | None


class RunsPage(TypedDict):
    """A page of runs, and the value of ``after`` for the next page; None on the last page."""

    runs: list[RunRow]
    next: str | None


class Call(TypedDict):
    """One call, without its raw usage and metadata. Costs: USD; ``*_ms``: milliseconds."""

    time: datetime
    interaction_id: str
    model: str
    model_type: str | None
    provider: str | None
    api: str | None
    service_tier: str | None
    iteration: int | None
    current_depth: int | None
    recursion_id: str | None
    parent_recursion_id: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    uncached_prompt_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    total_cost: float | None
    original_cost: float | None
    cost_savings: float | None
    duration_ms: float | None
    time_to_first_token_ms: float | None
    success: bool
    error_type: str | None
    finish_reason: str | None
    tool_call_count: int | None
    price_source: str | None
    usage_anomaly: str | None
    trace_id: str | None


class CallsPage(TypedDict):
    """A page of a run's calls in order of time, and the value of ``after`` for the next page."""

    calls: list[Call]
    next: str | None


class _After(NamedTuple):
    """The last row of the previous page, decoded from a cursor."""

    key: Any
    query_id: str
    run_id: str


def usage_percentiles(
    store: PostgresStore, within: Span, *, limit: int = 10_000, **filters: Unpack[ContentFilters]
) -> Percentiles:
    """Return percentiles of the durations of the newest calls of a range. Blocks for one query.

    Args:
        store: The store to read.
        within: The range.
        limit: Only this number of calls, the newest.
        filters: See :class:`.ContentFilters`.
    """
    chosen = query_parameters({**filters, "since": within.since, "until": within.until})
    return cast("Percentiles", store.query("usage_percentiles", **chosen, limit=limit)[0])


def failed_calls(
    store: PostgresStore, within: Span, *, limit: int = 200, **filters: Unpack[ContentFilters]
) -> list[FailedCall]:
    """Return the newest failed calls of a range. Blocks for one query."""
    chosen = query_parameters({**filters, "since": within.since, "until": within.until})
    return cast("list[FailedCall]", store.query("failed_calls", **chosen, limit=limit))


def usage(store: PostgresStore, within: Span, **filters: Unpack[ContentFilters]) -> Usage:
    """Return the usage in a range. Blocks for one query, which reads the calls if filtered by query or tags."""
    begin, end = within.since, within.until
    chosen: CallFilters = {**filters, "since": begin, "until": end}
    rows = store.query(
        "usage_breakdown",
        unit=within.unit,
        time_zone=within.zone,
        from_calls=within.unit == "minute" or needs_calls(chosen),
        **query_parameters(chosen),
    )
    kinds: dict[str, list[UsageRow]] = {"total": [], "bucket": [], "model": [], "choice": []}
    for row in rows:
        kind = row.pop("kind")
        kinds[kind].append(cast("UsageRow", row if kind == "choice" else without_unreported(row)))
    return {
        "since": begin,
        "until": end,
        "unit": within.unit,
        "total": kinds["total"][0],
        "buckets": kinds["bucket"],
        "models": kinds["model"],
        "choices": {
            "models": sorted({row["model"] for row in kinds["choice"] if row["model"]}),
            "providers": sorted({row["provider"] for row in kinds["choice"] if row["provider"]}),
        },
    }


def runs_page(
    store: PostgresStore,
    *,
    search: str | None = None,
    state: str | None = None,
    outcome: str | None = None,
    sort: str = "start",
    ascending: bool = False,
    after: str | None = None,
    limit: int = 50,
    **filters: Unpack[CallFilters],
) -> RunsPage:
    """Return a page of the list of runs. Blocks for one or two queries.

    Args:
        store: The store to read.
        search: A part of the query's id, in upper or lower case.
        state: Only runs of this state: a status, or ``never completed``.
        outcome: Only runs of this outcome, one of :data:`OUTCOMES`.
        sort: One of :data:`SORTS`. Runs are sorted by the figures stored at their end; runs in progress come last.
        ascending: Whether the lowest comes first.
        after: ``next`` of the previous page; None for the first page.
        limit: The maximum number of runs to return.
        filters: See :class:`.CallFilters`.

    Raises:
        ConfigError: ``sort`` or ``outcome`` is unknown, or ``after`` is not the ``next`` of a page.
    """
    if sort not in SORTS:
        raise ConfigError(f"sort={sort!r}: expected one of {', '.join(SORTS)}")
    last = _after(after)
    shared: dict[str, Any] = {
        **_run_filters(search, state, outcome, filters),
        "after_query_id": last.query_id if last else None,
        "after_run_id": last.run_id if last else None,
        "limit": limit + 1,
    }
    newest = sort == "start" and not ascending
    if newest:
        rows = store.query("runs_newest_page", after_time=last.key if last else None, **shared)
    else:
        shared |= {"direction": -1 if ascending else 1, "after_key": float(last.key) if last else None}
        rows = store.query("runs_page_saved" if sort == "saved" else "runs_page", sort=sort, **shared)
    more, rows = len(rows) > limit, rows[:limit]
    following = None
    if more:
        end = rows[-1]
        # the repr of a float is exact, and PostgreSQL parses it exactly
        following = _pack(
            (end["start_time"].isoformat() if newest else repr(end["key"])), end["query_id"], end["run_id"]
        )
    for row in complete_figures(store, rows):
        del row["key"], row["metadata"]
        if row["cache_hit_rate"] is None and row["total_interactions"]:
            row["total_cached_tokens"] = None  # not reported
    return {"runs": cast("list[RunRow]", rows), "next": following}


def count_runs(
    store: PostgresStore,
    *,
    search: str | None = None,
    state: str | None = None,
    outcome: str | None = None,
    limit: int = 10_000,
    **filters: Unpack[CallFilters],
) -> int:
    """Return how many runs :func:`runs_page` lists with these filters, at most ``limit``. Blocks for one query."""
    return int(store.query("runs_count", **_run_filters(search, state, outcome, filters), limit=limit)[0]["runs"])


def _run_filters(search: str | None, state: str | None, outcome: str | None, filters: CallFilters) -> dict[str, Any]:
    if outcome and outcome not in OUTCOMES:
        raise ConfigError(f"outcome={outcome!r}: expected one of {', '.join(OUTCOMES)}")
    pattern = f"%{_literally(search)}%" if search else None
    return {"search": pattern, "state": state or None, "outcome": outcome or None, **query_parameters(filters)}


def calls_of_run(
    store: PostgresStore, query_id: str, run_id: datetime, *, after: str | None = None, limit: int = 100
) -> CallsPage:
    """Return a page of the calls of a run, in order of time. Blocks for two queries.

    Raises:
        ConfigError: ``after`` is not the ``next`` of a page.
    """
    last = _after(after)
    rows = store.query(
        "run_calls",
        **run_bounds(store, query_id, run_id),
        after_time=last.key if last else None,
        after_id=last.query_id if last else None,
        limit=limit + 1,
    )
    more, rows = len(rows) > limit, rows[:limit]
    following = _pack(rows[-1]["time"].isoformat(), rows[-1]["interaction_id"], run_id) if more else None
    return {"calls": cast("list[Call]", rows), "next": following}


def marker(store: PostgresStore) -> str:
    """Return a string that changes whenever calls are stored, or runs begin or end."""
    return str(store.query("dashboard_marker")[0]["marker"])


def _literally(text: str) -> str:
    """Escape text, so that it matches itself as a LIKE pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("\0", "")


def _pack(key: str, query_id: str, run_id: datetime) -> str:
    text = json.dumps([key, query_id, run_id.isoformat()], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _after(text: str | None) -> _After | None:
    if not text:
        return None
    try:
        key, query_id, run_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        datetime.fromisoformat(run_id)
        if not (isinstance(key, str) and isinstance(query_id, str)) or "\0" in query_id:
            raise ValueError
        if not _is_float(key):
            datetime.fromisoformat(key)
        return _After(key, query_id, run_id)
    except (ValueError, TypeError):
        raise ConfigError("after: expected the `next` of the previous page") from None


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
