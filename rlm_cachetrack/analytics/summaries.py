"""Summaries over all runs: savings, models, usage over time, and lists of runs and calls. Read-only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, cast

from rlm_cachetrack.formatting import Table
from rlm_cachetrack.records import shifted

from .figures import ListedRun, UsageFigures
from .filters import CallFilters, needs_calls, query_parameters
from .run_figures import complete_figures
from .run_report import TokenCacheOptimization, run_bounds, with_evolution

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

__all__ = [
    "ModelEffectiveness",
    "RunListing",
    "cache_effectiveness_by_model",
    "interactions",
    "list_runs",
    "queries_beginning",
    "top_cache_savings",
]


RowT = TypeVar("RowT")

_HOUR = timedelta(hours=1)


class _ModelKeys(TypedDict):
    model: str
    provider: str | None


class ModelEffectiveness(_ModelKeys, UsageFigures):
    """The cache effectiveness of one model of one provider, which is None if not known.

    Costs: USD over the priced calls; ``*_ms``: milliseconds.
    ``avg_cache_hit_rate`` (0-1) is weighted by tokens.
    """

    total_cached_tokens: int
    total_uncached_tokens: int
    avg_cache_hit_rate: float | None
    avg_cost_per_interaction: float | None


class RunListing(ListedRun):
    """One row of the list of runs."""

    total_cached_tokens: int
    metadata: Any


def top_cache_savings(
    store: PostgresStore, limit: int, **filters: Unpack[CallFilters]
) -> Table[TokenCacheOptimization]:
    """Return the finished runs with the largest cache savings in USD."""
    rows = store.query("top_cache_savings", limit=limit, **query_parameters(filters))
    return _all([with_evolution(row) for row in rows], TokenCacheOptimization)


def cache_effectiveness_by_model(store: PostgresStore, **filters: Unpack[CallFilters]) -> Table[ModelEffectiveness]:
    """Return the cache effectiveness by provider and model. Blocks for one query.

    Filters by query and tags read the calls, all others the hourly sums.
    """
    from .usage_groups import group_rows

    chosen = query_parameters(filters)
    if needs_calls(filters):
        rows = group_rows(store, ("model", "provider"), **filters)
        rows = [{**row, "avg_cache_hit_rate": row["cache_hit_rate"]} for row in rows]
        rows.sort(key=lambda row: -row["total_prompt_tokens"])
    else:
        hours = whole_hours(chosen["since"], chosen["until"])
        rows = store.query("cache_effectiveness_by_model", model=chosen["model"], provider=chosen["provider"], **hours)
    return _all(rows, ModelEffectiveness)


def interactions(store: PostgresStore, query_id: str, run_id: datetime) -> Table[dict[str, Any]]:
    """Return every call of one run in order of time, keyed by column. Blocks for two queries."""
    rows = store.query("interactions_of_run", **run_bounds(store, query_id, run_id))
    return Table(map(_call, rows))


def list_runs(store: PostgresStore, limit: int, **filters: Unpack[CallFilters]) -> Table[RunListing]:
    """Return the newest runs, newest first. Blocks for one or two queries."""
    first_page = dict.fromkeys(("search", "outcome", "state", "after_time", "after_query_id", "after_run_id"))
    rows = store.query("runs_newest_page", limit=limit, **first_page, **query_parameters(filters))
    complete_figures(store, rows)
    return _all(rows, RunListing)


def queries_beginning(store: PostgresStore, beginning: str, limit: int) -> list[str]:
    """Return the ids of the queries that begin with a text, in alphabetical order."""
    return [row["query_id"] for row in store.query("queries_beginning", beginning=beginning, limit=limit)]


def _call(row: dict[str, Any]) -> dict[str, Any]:
    """Convert the values of a row for users: ids to text, bytes to hexadecimal digits."""
    fingerprint = row.get("fingerprint")
    return {
        **row,
        "interaction_id": str(row["interaction_id"]),
        "fingerprint": None if fingerprint is None else bytes(fingerprint).hex(),
    }


def whole_hours(since: datetime | None, until: datetime | None) -> dict[str, datetime | None]:
    """Return the parameters of a query over time: its bounds, and the whole hours between them."""
    first, last = since, until
    if since is not None:
        first = _hour(since)
        first = first if first == since else shifted(first, _HOUR)
    if until is not None:
        last = _hour(until)
        if first is not None and first > last:
            first = last = max(until, since or until)
    return {"since": since, "until": until, "first_hour": first, "last_hour": last}


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _all(rows: list[dict[str, Any]], kind: type[RowT]) -> Table[RowT]:
    columns = tuple(kind.__annotations__)
    return Table(cast("list[RowT]", [{name: row[name] for name in columns} for row in rows]), columns=columns)
