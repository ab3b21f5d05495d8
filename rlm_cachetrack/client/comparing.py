"""The part of :class:`~rlm_cachetrack.TimescaleDBClient` that compares, checks and explains runs."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from rlm_cachetrack.errors import ConfigError, NotStoredError, safe_repr
from rlm_cachetrack.records import aware, checked_query_id

from .base import ClientBase, checked_filters, optional_moment

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters, Comparison, Gate, LatencyDividend
    from rlm_cachetrack.analytics.explain import CacheExplanation
    from rlm_cachetrack.store import PostgresStore

RunOrRuns = Any
"""A query id (its newest run), a pair of ``query_id`` and ``run_id``, or a list of these."""


class Comparing(ClientBase):
    """Methods that compare, check and explain runs. Every method first flushes, then blocks for its queries."""

    def compare_runs(self, a: RunOrRuns, b: RunOrRuns, *, confidence: float = 0.95) -> Comparison:
        """Compare two runs, or two groups of runs, iteration by iteration. See ``Comparison``.

        Args:
            a: A query id (its newest run), a pair ``(query_id, run_id)``, or a list of these: a group.
            b: In the same form; differences are ``b`` minus ``a``.
            confidence: The confidence level of the intervals that groups have, between 0 and 1.

        Raises:
            NotStoredError: A run is not stored, or has no calls.
            ConfigError: A side is empty, or a run is on both sides.
        """
        from rlm_cachetrack import analytics

        store = self.reader()
        return analytics.compare_runs(store, _runs(store, a), _runs(store, b), confidence)

    def check_run(
        self,
        run: RunOrRuns,
        *,
        baseline: RunOrRuns | str | os.PathLike[str] | None = None,
        **limits: float | str | None,
    ) -> Gate:
        """Check a run, or the mean of several runs, against limits. See ``Gate``.

        Args:
            run: A query id (its newest run), a pair ``(query_id, run_id)``, or a list of these.
            baseline: In the same form, or the path of a file that :meth:`save_baseline` wrote; None: no baseline.
            limits: ``min_hit_rate`` (0-1 or ``"60%"``), ``max_cost`` (USD), ``max_uncached_tokens``. Against the
                baseline, iteration by iteration: ``max_cost_delta``, ``max_uncached_delta``, ``max_ttft_delta``
                (fractions of the baseline's: 0.05 or ``"5%"``), ``max_hit_rate_drop`` (0.02 is two percentage points).

        Raises:
            NotStoredError: A run is not stored, or has no calls.
            ConfigError: No limit is given, one cannot be used, or the file is not a baseline file.
        """
        from rlm_cachetrack import analytics

        store = self.reader()
        keys = _runs(store, run)
        rows = analytics.rows_of_runs(store, keys)
        before: Any = None
        if isinstance(baseline, os.PathLike):
            before = analytics.read_baseline(baseline, keys[0][0])
        elif baseline is not None:
            before = analytics.rows_of_runs(store, _runs(store, baseline))
        return analytics.check_rows(rows, before, **limits)

    def save_baseline(self, path: str | os.PathLike[str], run: RunOrRuns) -> None:
        """Write the figures of a run, or of a group of runs, into a baseline file, under the query's id.

        Raises:
            NotStoredError: A run is not stored, or has no calls.
            ConfigError: The file cannot be written, or is not a baseline file.
        """
        from rlm_cachetrack import analytics

        store = self.reader()
        keys = _runs(store, run)
        analytics.write_baseline(path, keys[0][0], analytics.rows_of_runs(store, keys))

    def explain_cache(self, query_id: str, run_id: datetime | str | None = None) -> CacheExplanation | None:
        """Explain the cache use of a run: miss reasons, the achievable hit rate, and recommendations.

        See ``CacheExplanation``. Blocks for about 0.3 ms per call.

        Args:
            query_id: The query.
            run_id: The run of the query; None: the newest.

        Returns:
            None for an unknown run, or one without calls.
        """
        from rlm_cachetrack import analytics
        from rlm_cachetrack.analytics import explain

        query_id = checked_query_id(query_id)
        moment = optional_moment(run_id, "run_id")
        store = self.reader()
        if moment is None:
            newest = analytics.run_records(store, query_id)
            if not newest:
                return None
            moment = newest[0]["run_id"]
        return explain.explain_cache(store, query_id, moment)

    def get_latency_dividend(self, *, confidence: float = 0.95, **filters: Unpack[CallFilters]) -> LatencyDividend:
        """Compute the time that the cache saved, from cached and comparable uncached calls.

        See ``LatencyDividend``. Blocks for one query over the calls.

        Args:
            confidence: The confidence level of the intervals, between 0 and 1.
            filters: Only such calls.
        """
        from rlm_cachetrack import analytics

        return analytics.latency_dividend(self.reader(), confidence, **checked_filters(filters))


def _runs(store: PostgresStore, given: RunOrRuns) -> list[tuple[str, datetime]]:
    from rlm_cachetrack import analytics

    if isinstance(given, str):
        query_id = checked_query_id(given)
        newest = analytics.run_records(store, query_id)
        if not newest:
            raise NotStoredError(f"no run of query {safe_repr(query_id)} is stored")
        return [(query_id, newest[0]["run_id"])]
    if isinstance(given, tuple) and len(given) == 2:
        return [(checked_query_id(given[0]), aware(given[1], "run_id"))]
    if isinstance(given, list):
        found = [run for each in given for run in _runs(store, each)]
        return list(dict.fromkeys(found))
    raise ConfigError(
        f"{safe_repr(given)}: expected a query id, a pair (query_id, run_id), or a list of these, "
        f"not {type(given).__name__}"
    )
