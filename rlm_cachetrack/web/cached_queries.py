"""The queries behind the pages and the JSON API, with a shared cache: each runs once for all open pages."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from rlm_cachetrack.analytics import (
    ContentFilters,
    Experiment,
    FailedCall,
    Percentiles,
    QueryChange,
    QueryRow,
    RunReport,
    RunsPage,
    Span,
    TokenCacheOptimization,
    TokenCacheSummary,
    UnpricedModel,
    Usage,
    count_runs,
    experiments,
    failed_calls,
    partial_data,
    query_changes,
    query_rows,
    run_report,
    runs_page,
    time_ranges,
    unpriced_models,
    usage_groups,
    usage_percentiles,
    usage_views,
)
from rlm_cachetrack.analytics import summaries as analytics
from rlm_cachetrack.analytics.alerts import AlertState, alert_states
from rlm_cachetrack.analytics.explain import report as explain
from rlm_cachetrack.analytics.metrics import prometheus_text
from rlm_cachetrack.analytics.planning import MonthOutlook, month_outlook

from .background import BackgroundValues
from .losses import MAX_RUNS, Losses, LossReport

if TYPE_CHECKING:
    from .source import DashboardStore

T = TypeVar("T")

_TTL_S = 0.5
_KEPT_S = 30.0
"""The TTL of sums over a whole range while the marker is unchanged. The marker may miss a change of old calls."""
_SLOW_TTL_S = 15.0
"""The TTL of queries that read the calls of a whole range, which would be too slow to repeat at each change."""
_EXPLANATION_TTL_S = 300.0
_NEWEST_TAGGED = 1_000
_MAX_ENTRIES = 64
_MAX_EXPLAINED_CALLS = 2_000
"""Explaining this many calls takes up to a second; of a longer run the newest calls are explained."""


class _Entry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.version: Hashable = None
        self.expires_at = 0.0
        self.value: Any = None


class SingleFlightCache:
    """A cache with a TTL in which concurrent callers of one key share one load. Thread-safe.

    Args:
        max_entries: The limit of entries; beyond it the least recently used entry is evicted.
    """

    def __init__(self, max_entries: int = _MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, version: Callable[[], Hashable], ttl_s: float, load: Callable[[], T]) -> T:
        """Return the value of ``key``; load it if it has expired or belongs to another version. Blocks for the load.

        Args:
            key: Names the value.
            version: Returns the version of the data behind the value; called before the load.
            ttl_s: Seconds for which a loaded value is kept.
            load: Loads the value. If it raises, nothing is cached.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        with entry.lock:
            current = version()
            if entry.version != current or time.monotonic() >= entry.expires_at:
                entry.expires_at = 0.0
                entry.value = load()
                entry.version, entry.expires_at = current, time.monotonic() + ttl_s
            return cast("T", entry.value)


class Choices(NamedTuple):
    """Values to filter by, and ``tag:NAME`` and ``metadata.KEY`` to group by."""

    models: list[str]
    providers: list[str]
    queries: list[str]
    tags: list[str]
    groupings: list[str]


class CachedQueries:
    """The queries behind the pages. Each method blocks for its query. Thread-safe.

    A result is kept for half a second, or until :meth:`refresh_marker` finds that calls or runs have changed. Sums over
    a whole range, which take seconds at a million calls, are kept for longer while nothing changes. A page
    that was notified of a change therefore never gets a result from before it.
    """

    def __init__(self, source: DashboardStore) -> None:
        self.source = source
        self._cache = SingleFlightCache()
        self._marker: str | None = None
        self._losses = Losses(source)
        self._background = BackgroundValues()

    def close(self) -> None:
        """Stop the work in the background."""
        self._losses.close()
        self._background.close()

    def refresh_marker(self) -> str:
        """Read the marker of the stored calls and runs: a string that differs after each change."""
        self._marker = usage_views.marker(self.source.store)
        return self._marker

    def page(self, key: Sequence[object], render: Callable[[], T]) -> T:
        """Return a rendered page; open pages of one address share it, because all of them ask for it at a change."""
        return self._cached(("page", key), render)

    def usage(self, span: Span, filters: ContentFilters) -> Usage:
        """See :func:`.usage`."""
        return self._kept(("usage", span, filters), lambda: usage_views.usage(self.source.store, span, **filters))

    def unpriced(self, shown: Usage, filters: ContentFilters) -> list[UnpricedModel]:
        """Return the models of the unpriced calls among those of a usage, and why they have no price."""
        if not shown["total"]["unpriced_interactions"]:
            return []  # the query reads the calls themselves, so it is skipped if it would find none
        since, until = shown["since"], shown["until"]
        return self._kept(
            ("unpriced", since, until, filters),
            lambda: unpriced_models(self.source.store, since=since, until=until, **filters),
        )

    def runs(self, span: Span, filters: ContentFilters, **more: Any) -> RunsPage:
        """See :func:`.runs_page`; a run belongs to the range in which it began."""
        given = {"since": span.since, "until": span.until, **filters, **_without_nul(more)}
        return self._cached(("runs", given), lambda: runs_page(self.source.store, **given))

    def count_runs(self, span: Span, filters: ContentFilters, **more: Any) -> int:
        """See :func:`.count_runs`."""
        given = {"since": span.since, "until": span.until, **filters, **_without_nul(more)}
        return self._kept(("runs-count", given), lambda: count_runs(self.source.store, **given))

    def percentiles(self, span: Span, filters: ContentFilters) -> Percentiles:
        """See :func:`.usage_percentiles`."""
        return self._kept(("percentiles", span, filters), lambda: usage_percentiles(self.source.store, span, **filters))

    def month(self, filters: ContentFilters) -> MonthOutlook:
        """See :func:`.month_outlook`."""
        return self._kept(("month", filters), lambda: month_outlook(self.source.store, **filters))

    def losses(self, span: Span, filters: ContentFilters, wait_s: float = 0.0) -> LossReport:
        """Return the losses of the runs of a range through avoidable cache misses. Blocks for queries and ``wait_s``.

        Args:
            span: The range in which the runs began.
            filters: Only runs with such calls, and losses of their models.
            wait_s: How long to wait for runs that are not explained yet.
        """
        chosen = None
        if filters.get("model") or filters.get("provider"):
            chosen = {str(row["model"]) for row in self.usage(span, filters)["models"]}
        page = self._kept(
            ("losses", span, filters),
            lambda: runs_page(self.source.store, since=span.since, until=span.until, limit=MAX_RUNS, **filters),
        )
        all_runs = len(page["runs"]) if page["next"] is None else self.count_runs(span, filters)
        return self._losses.report(page["runs"], all_runs, chosen, wait_s)

    def failed_calls(self, span: Span, filters: ContentFilters, limit: int) -> list[FailedCall]:
        """See :func:`.failed_calls`."""
        return self._kept(
            ("failed", span, filters, limit), lambda: failed_calls(self.source.store, span, limit=limit, **filters)
        )

    def query_rows(self, by: str, span: Span, filters: ContentFilters) -> list[QueryRow]:
        """See :func:`.query_rows`."""
        by = by.replace("\0", "\ufffd")
        is_partial = self.partial_data(span.before()) is not None
        return self._slowly(
            ("queries", by, span, is_partial, filters),
            lambda: query_rows(self.source.store, by, span, is_partial=is_partial, **filters),
        )

    def query_changes(self, span: Span, filters: ContentFilters, wait_s: float) -> list[QueryChange] | None:
        """See :func:`.query_changes`; None while the calls of the range and of the one before are summed.

        Args:
            span: A range that has one before it.
            filters: Only such calls.
            wait_s: Blocks for at most this time.
        """

        def load() -> list[QueryChange]:
            after, before = (
                usage_groups(self.source.store, ["query"], since=each.since, until=each.until, **filters)
                for each in (span, span.before() or span)
            )
            return query_changes(before, after)

        return self._background.get(_hashable(("query changes", span, filters)), load, wait_s)

    def partial_data(self, period: Span | None) -> str | None:
        """See :func:`.partial_data`; None without a period."""
        if period is None:
            return None
        return self._slowly(("partial", period), lambda: partial_data(self.source.store, period))

    def experiments(self, by: str, span: Span, filters: ContentFilters) -> list[Experiment]:
        """See :func:`.experiments`."""
        by = by.replace("\0", "\ufffd")
        return self._slowly(
            ("experiments", by, span, filters),
            lambda: list(experiments(self.source.store, by, since=span.since, until=span.until, **filters)),
        )

    def choices(self, span: Span) -> Choices:
        """Return the filter values of a range, and the groupings of the newest runs and calls."""
        rows = self._slowly(("groupings",), lambda: self.source.store.query("grouping_names", limit=_NEWEST_TAGGED))
        usage = self._slowly(("choices", span), lambda: self.usage(span, {}))["choices"]
        names: dict[str, list[str]] = {"metadata": [], "tag": [], "value": [], "query": []}
        for row in rows:
            names[row["kind"]].append(row["name"])
        return Choices(
            models=usage["models"],
            providers=usage["providers"],
            queries=names["query"],
            tags=names["value"],
            groupings=[*(f"metadata.{key}" for key in names["metadata"]), *(f"tag:{name}" for name in names["tag"])],
        )

    def alerts(self) -> list[AlertState]:
        """See :func:`.alert_states`."""
        return self._cached(("alerts",), lambda: alert_states(self.source.store))

    def metrics(self) -> str:
        """See :func:`.prometheus_text`."""
        return self._cached(("metrics",), lambda: prometheus_text(self.source.store))

    def top_savings(self, limit: int) -> list[TokenCacheOptimization]:
        """Return the runs with the largest cache savings."""
        return self._cached(("top", limit), lambda: analytics.top_cache_savings(self.source.store, limit))

    def run(self, query_id: str, run_id: datetime) -> RunReport | None:
        """See :func:`.run_report`."""
        return self._cached(("run", query_id, run_id), lambda: run_report(self.source.store, query_id, run_id))

    def calls(self, query_id: str, run_id: datetime, after: str | None, limit: int) -> usage_views.CallsPage:
        """See :func:`.calls_of_run`."""
        return self._cached(
            ("calls", query_id, run_id, after, limit),
            lambda: usage_views.calls_of_run(self.source.store, query_id, run_id, after=after, limit=limit),
        )

    def explanation(
        self, query_id: str, run_id: datetime, summary: TokenCacheSummary, limit: int = _MAX_EXPLAINED_CALLS
    ) -> explain.CacheExplanation | None:
        """Explain the cache misses of a run; None for a run without calls.

        Args:
            query_id: The query.
            run_id: Its run.
            summary: Summary of the run. The explanation is kept until the summary changes, for five minutes at most.
            limit: Explain only this many calls, the newest.
        """
        return self._cache.get(
            ("explanation", query_id, run_id, limit),
            lambda: (summary["total_interactions"], summary["total_prompt_tokens"], summary["total_cost"]),
            _EXPLANATION_TTL_S,
            lambda: explain.explain_cache(self.source.store, query_id, run_id, limit=limit),
        )

    def forecast(self, days: int, filters: ContentFilters) -> dict[str, Any]:
        """Return ``forecast``, the cost of the next days, and ``budgets``, the state of each."""
        return self._kept(
            ("forecast", days, filters),
            lambda: {"forecast": self.source.forecast(days, filters), "budgets": self.source.budgets()},
        )

    def health(self) -> dict[str, Any]:
        """Return the state of the journals and of the database."""
        return self._cached(("health",), self.source.health)

    def health_of_page(self) -> tuple[dict[str, Any], int]:
        """Return the state of the journals and of the database, and the number of unpriced calls.

        The hourly sums have that number, so the unpriced calls themselves are not read.
        """
        found = self._cached(("health of page",), lambda: self.source.health(lists_unpriced=False))
        database = found["database"]
        if not database["migrations_applied"] or database["schema_error"]:
            return found, 0
        total = self.usage(time_ranges.span("all"), {})["total"]
        return found, total["unpriced_interactions"]

    def _slowly(self, key: Sequence[object], load: Callable[[], T]) -> T:
        return self._cache.get(_hashable(key), lambda: None, _SLOW_TTL_S, load)

    def _kept(self, key: Sequence[object], load: Callable[[], T]) -> T:
        return self._cache.get(_hashable(key), self._fresh_marker, _KEPT_S, load)

    def _fresh_marker(self) -> str | None:
        self._cache.get(("marker",), lambda: None, _TTL_S, self.refresh_marker)
        return self._marker

    def _cached(self, key: Sequence[object], load: Callable[[], T]) -> T:
        return self._cache.get(_hashable(key), lambda: self._marker, _TTL_S, load)


def _without_nul(given: dict[str, Any]) -> dict[str, Any]:
    """Replace NUL, which no stored text contains and PostgreSQL rejects in a query."""
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in given.items()}


def _hashable(value: object) -> Hashable:
    """Return sequences and mappings as tuples."""
    if isinstance(value, Mapping):
        return tuple((name, _hashable(value[name])) for name in sorted(value))
    return tuple(map(_hashable, value)) if isinstance(value, (tuple, list)) else value
