"""The part of :class:`~rlm_cachetrack.TimescaleDBClient` that is about runs beside each other, and about time saved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.errors import ConfigError, NotStoredError
from rlm_cachetrack.records import aware, checked_query_id, clean_text

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import compare, gate, latency
    from rlm_cachetrack.analytics.explain import report as explain
    from rlm_cachetrack.store import PostgresStore

__all__ = ["Comparing"]

RunOrRuns = Any
"""A query id (its newest run), a pair of ``query_id`` and ``run_id``, or a list of these."""


class Comparing:
    """Mixed into the client, which has the store. Every method blocks."""

    def _reader(self) -> PostgresStore:
        raise NotImplementedError

    def compare_runs(self, a: RunOrRuns, b: RunOrRuns, *, confidence: float = 0.95) -> compare.Comparison:
        """Two runs, or two groups of runs, beside each other at equal iteration. See ``Comparison``.

        Args:
            a: A query id (its newest run), a pair ``(query_id, run_id)``, or a list of these: a group.
            b: Likewise; differences are ``b`` minus ``a``.
            confidence: Of the intervals that groups have, between 0 and 1.

        Raises:
            NotStoredError: There is no such run, or it has no calls.
            ConfigError: A side is empty, or a run is on both.
        """
        from rlm_cachetrack.analytics import compare

        store = self._reader()
        return compare.compare(store, _runs(store, a), _runs(store, b), confidence)

    def check_run(
        self,
        run: RunOrRuns,
        *,
        baseline: RunOrRuns | str | os.PathLike[str] | None = None,
        **limits: float | str | None,
    ) -> gate.Gate:
        """Whether a run, or the mean of runs, keeps its limits. See ``Gate``.

        Args:
            run: A query id (its newest run), a pair ``(query_id, run_id)``, or a list of these.
            baseline: Likewise, or the path of a file that :meth:`save_baseline` wrote; None: none.
            limits: ``min_hit_rate`` (0-1 or ``"60%"``), ``max_cost`` (USD), ``max_uncached_tokens``. Beside the
                baseline, at equal iteration: ``max_cost_delta``, ``max_uncached_delta``, ``max_ttft_delta`` (fractions
                of the baseline's: 0.05 or ``"5%"``), ``max_hit_rate_drop`` (0.02 is two points).

        Raises:
            NotStoredError: There is no such run, or it has no calls.
            ConfigError: No limit is given, one cannot be used, or the file is no baseline.
        """
        from rlm_cachetrack.analytics import compare, gate

        store = self._reader()
        keys = _runs(store, run)
        rows = compare.rows_of(store, keys)
        before: Sequence[Any] | None = None
        if isinstance(baseline, os.PathLike):
            before = gate.read_baseline(baseline, keys[0][0])
        elif baseline is not None:
            before = compare.rows_of(store, _runs(store, baseline))
        return gate.check_rows(rows, before, **limits)

    def save_baseline(self, path: str | os.PathLike[str], run: RunOrRuns) -> None:
        """Write the figures of a run, or of a group of runs, into a file of baselines, under the query's id.

        Raises:
            NotStoredError: There is no such run, or it has no calls.
            ConfigError: The file cannot be written, or is something else.
        """
        from rlm_cachetrack.analytics import compare, gate

        store = self._reader()
        keys = _runs(store, run)
        gate.write_baseline(path, keys[0][0], compare.rows_of(store, keys))

    def explain_cache(self, query_id: str, run_id: datetime | str | None = None) -> explain.CacheExplanation | None:
        """Why the calls of a run read from the cache what they read, what was possible, and what would help.

        See ``CacheExplanation``. Blocks; some 0.3 ms a call.

        Args:
            query_id: The query.
            run_id: The run of it; None: its newest.

        Returns:
            None for an unknown run, or one without calls.
        """
        from rlm_cachetrack.analytics import summaries as analytics
        from rlm_cachetrack.analytics.explain import report as explain

        store = self._reader()
        query_id = checked_query_id(query_id)
        if run_id is None:
            newest = analytics.list_runs(store, 1, query_id)
            if not newest:
                return None
            run_id = newest[0]["run_id"]
        return explain.explain_cache(store, query_id, aware(run_id, "run_id"))

    def get_latency_dividend(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        model: str | None = None,
        query_id: str | None = None,
        confidence: float = 0.95,
    ) -> latency.LatencyDividend:
        """What the cache saved in time: first token and duration, cached against uncached calls that are alike.

        See ``LatencyDividend``. Blocks for one read of the calls.

        Args:
            since: Only calls from this moment on.
            until: Only calls before this moment.
            model: Only calls of this model.
            query_id: Only calls of this query.
            confidence: Of the intervals, between 0 and 1.
        """
        from rlm_cachetrack.analytics import latency
        from rlm_cachetrack.analytics.planning import repricing

        which = repricing.scope(
            None if since is None else aware(since, "since"),
            None if until is None else aware(until, "until"),
            model,
            None if query_id is None else clean_text(query_id),
        )
        return latency.latency_dividend(self._reader(), which, confidence)


def _runs(store: PostgresStore, given: RunOrRuns) -> list[tuple[str, datetime]]:
    from rlm_cachetrack.analytics import summaries as analytics

    if isinstance(given, str):
        query_id = checked_query_id(given)
        newest = analytics.list_runs(store, 1, query_id)
        if not newest:
            raise NotStoredError(f"no run of query {query_id!r} is stored")
        return [(query_id, newest[0]["run_id"])]
    if isinstance(given, tuple) and len(given) == 2:
        return [(checked_query_id(given[0]), aware(given[1], "run_id"))]
    if isinstance(given, list):
        found = [run for each in given for run in _runs(store, each)]
        return list(dict.fromkeys(found))
    raise ConfigError(
        f"{given!r}: expected a query id, a pair (query_id, run_id), or a list of these, not {type(given).__name__}"
    )
