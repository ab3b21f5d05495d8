"""The queries behind the pages and the JSON API, with a shared cache: each runs once for all open pages."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from rlm_cachetrack.analytics import (
    Experiment,
    Percentiles,
    QueryRow,
    RunReport,
    TokenCacheOptimization,
    TokenCacheSummary,
    UnpricedModel,
    experiments,
    query_rows,
    run_report,
    unpriced_models,
    usage_views,
)
from rlm_cachetrack.analytics import summaries as analytics
from rlm_cachetrack.analytics.explain import report as explain
from rlm_cachetrack.analytics.metrics import prometheus_text
from rlm_cachetrack.analytics.planning import MonthOutlook, month_outlook

from .losses import MAX_RUNS, Losses, LossReport

if TYPE_CHECKING:
    from .source import DashboardStore

T = TypeVar("T")

_TTL_S = 0.5
_SLOW_TTL_S = 15.0
"""For queries that read the calls of a whole range: they are not repeated at each change."""
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


class CachedQueries:
    """The queries behind the pages. Each method blocks for its query. Thread-safe.

    A result is kept for half a second, or until :meth:`refresh_marker` finds that calls or runs have changed. A page
    that was notified of a change therefore never gets a result from before it.
    """

    def __init__(self, source: DashboardStore) -> None:
        self.source = source
        self._cache = SingleFlightCache()
        self._marker: str | None = None
        self._losses = Losses(source)

    def close(self) -> None:
        """Stop the work in the background."""
        self._losses.close()

    def refresh_marker(self) -> str:
        """Read the marker of the stored calls and runs: a string that differs after each change."""
        self._marker = usage_views.marker(self.source.store)
        return self._marker

    def usage(self, span: usage_views.Span, model: str | None = None, provider: str | None = None) -> usage_views.Usage:
        """See :func:`.usage`."""
        model, provider = _without_nul(model), _without_nul(provider)
        key = ("usage", span, model, provider)
        return self._cached(key, lambda: usage_views.usage(self.source.store, span, model, provider))

    def unpriced(self, shown: usage_views.Usage, model: str | None, provider: str | None) -> list[UnpricedModel]:
        """Return the models of the unpriced calls among those of a usage, and why they have no price."""
        if not shown["total"]["unpriced_interactions"]:
            return []  # the query reads the calls themselves, so it is skipped if it would find none
        since, until = shown["since"], shown["until"]
        found = self._cached(
            ("unpriced", since, until), lambda: unpriced_models(self.source.store, since=since, until=until)
        )
        of_model = [row for row in found if not model or row["model"] == model]
        return [row for row in of_model if not provider or row["provider"] == provider]

    def runs(self, **filters: Any) -> usage_views.RunsPage:
        """See :func:`.runs_page`."""
        filters = {name: _without_nul(value) if isinstance(value, str) else value for name, value in filters.items()}
        tags = filters.pop("tags", None) or {}
        key = ("runs", *sorted(filters.items()), *sorted(tags.items()))
        return self._cached(key, lambda: usage_views.runs_page(self.source.store, **filters, tags=tags))

    def count_runs(self, **filters: Any) -> int:
        """See :func:`.count_runs`."""
        filters = {name: _without_nul(value) if isinstance(value, str) else value for name, value in filters.items()}
        tags = filters.pop("tags", None) or {}
        key = ("runs-count", *sorted(filters.items()), *sorted(tags.items()))
        return self._cached(key, lambda: usage_views.count_runs(self.source.store, **filters, tags=tags))

    def percentiles(self, span: usage_views.Span, model: str | None, provider: str | None) -> Percentiles:
        """See :func:`.usage_percentiles`."""
        model, provider = _without_nul(model), _without_nul(provider)
        return self._cached(
            ("percentiles", span, model, provider),
            lambda: usage_views.usage_percentiles(self.source.store, span, model, provider),
        )

    def month(self, model: str | None, provider: str | None) -> MonthOutlook:
        """See :func:`.month_outlook`."""
        model, provider = _without_nul(model), _without_nul(provider)
        return self._cached(("month", model, provider), lambda: month_outlook(self.source.store, model, provider))

    def losses(
        self, span: usage_views.Span, model: str | None, provider: str | None, wait_s: float = 0.0
    ) -> LossReport:
        """Return what the newest runs of a range lost by avoidable cache misses. Blocks for two queries and ``wait_s``.

        Args:
            span: The range in which the runs began.
            model: Only losses of this model.
            provider: Only runs with calls of this provider, and losses of its models.
            wait_s: How long to wait for runs that are not explained yet.
        """
        filters = {"since": span.since, "until": span.until, "model": model, "provider": provider, "limit": MAX_RUNS}
        chosen = None
        if model or provider:
            chosen = {str(row["model"]) for row in self.usage(span, model, provider)["models"]}
        return self._losses.report(self.runs(**filters)["runs"], chosen, wait_s)

    def failed_calls(
        self, span: usage_views.Span, model: str | None, provider: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return the newest failed calls of a range."""
        filters = {"since": span.since, "until": span.until, "model": _without_nul(model)}
        provider = _without_nul(provider)
        return self._cached(
            ("failed", span, filters["model"], provider, limit),
            lambda: self.source.store.query("failed_calls", **filters, provider=provider, limit=limit),
        )

    def query_rows(self, by: str, span: usage_views.Span, model: str | None, provider: str | None) -> list[QueryRow]:
        """See :func:`.query_rows`."""
        by, model, provider = _without_nul(by) or "", _without_nul(model), _without_nul(provider)
        filters: dict[str, Any] = {"since": span.since, "until": span.until, "time_zone": span.zone}
        return self._slowly(
            ("queries", by, span, model, provider),
            lambda: query_rows(self.source.store, by, model=model, provider=provider, **filters),
        )

    def experiments(self, by: str, span: usage_views.Span) -> list[Experiment]:
        """See :func:`.experiments`."""
        by = _without_nul(by) or ""
        return self._slowly(
            ("experiments", by, span),
            lambda: list(experiments(self.source.store, by, since=span.since, until=span.until)),
        )

    def groupings(self) -> list[str]:
        """Return the tags and metadata keys of the newest calls and runs, as ``tag:NAME`` and ``metadata.KEY``."""
        rows = self._slowly(("groupings",), lambda: self.source.store.query("grouping_names", limit=_NEWEST_TAGGED))
        return [f"tag:{row['name']}" if row["kind"] == "tag" else f"metadata.{row['name']}" for row in rows]

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

    def forecast(self, days: int, model: str | None) -> dict[str, Any]:
        """Return ``forecast``, the cost of the next days, and ``budgets``, the state of each."""
        model = _without_nul(model)
        return self._cached(
            ("forecast", days, model),
            lambda: {"forecast": self.source.forecast(days, model), "budgets": self.source.budgets()},
        )

    def health(self) -> dict[str, Any]:
        """Return the state of the journals and of the database."""
        return self._cached(("health",), self.source.health)

    def _slowly(self, key: Hashable, load: Callable[[], T]) -> T:
        return self._cache.get(key, lambda: None, _SLOW_TTL_S, load)

    def _cached(self, key: Hashable, load: Callable[[], T]) -> T:
        return self._cache.get(key, lambda: self._marker, _TTL_S, load)


def _without_nul(text: str | None) -> str | None:
    """Replace NUL, which no stored text contains and PostgreSQL rejects in a query."""
    return text.replace("\0", "\ufffd") if text else text
