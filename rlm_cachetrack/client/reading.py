"""The part of :class:`~rlm_cachetrack.TimescaleDBClient` that reads, counts and deletes records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from rlm_cachetrack.errors import ConfigError, safe_repr

from .base import ClientBase, checked_filters, clean_optional, optional_moment

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import (
        CallFilters,
        ContentFilters,
        Experiment,
        LevelGrouping,
        ModelEffectiveness,
        RunLevel,
        RunListing,
        TokenCacheOptimization,
        TokenCacheSummary,
        UnpricedModel,
    )
    from rlm_cachetrack.formatting import Table


class Reading(ClientBase):
    """Methods that read records. Every method first waits until earlier records are stored, then blocks for queries.

    Methods with ``filters`` accept ``since``, ``until``, ``model``, ``provider``, ``query_id`` and ``tags``; see
    :class:`~rlm_cachetrack.analytics.filters.CallFilters`.
    """

    def get_token_cache_summary(self, query_id: str, run_id: datetime | str) -> TokenCacheSummary | None:
        """Return the totals of one run; None for an unknown run. ``TokenCacheSummary`` documents keys and units."""
        from rlm_cachetrack import analytics

        key = self._key(query_id, run_id)
        return analytics.token_cache_summary(self.reader(), *key)

    def calculate_and_store_cache_optimization(
        self, query_id: str, run_id: datetime | str
    ) -> TokenCacheOptimization | None:
        """Compute, store and return the cache savings of one run; None for an unknown run. Idempotent."""
        from rlm_cachetrack import analytics

        key = self._key(query_id, run_id)
        store = self.reader()
        store.finalize(*key)
        return analytics.stored_optimization(store, *key)

    def get_token_cache_optimization(self, query_id: str, run_id: datetime | str) -> TokenCacheOptimization | None:
        """Return the cache savings of one run as stored at its end; None if nothing is stored."""
        from rlm_cachetrack import analytics

        key = self._key(query_id, run_id)
        return analytics.stored_optimization(self.reader(), *key)

    def get_top_cache_savings(self, limit: int = 10, **filters: Unpack[CallFilters]) -> Table[TokenCacheOptimization]:
        """Return the finished runs with the largest cache savings, highest ``cost_savings`` (USD) first."""
        from rlm_cachetrack import analytics

        return analytics.top_cache_savings(self.reader(), _checked_limit(limit), **checked_filters(filters))

    def list_unpriced_models(self, **filters: Unpack[CallFilters]) -> list[UnpricedModel]:
        """Return the models of calls without a cost, and why they have none. ``UnpricedModel`` documents the keys."""
        from rlm_cachetrack import analytics

        return analytics.unpriced_models(self.reader(), **checked_filters(filters))

    def get_cache_effectiveness_by_model(
        self, since: datetime | None = None, until: datetime | None = None, **filters: Unpack[ContentFilters]
    ) -> Table[ModelEffectiveness]:
        """Return the cache effectiveness by provider and model.

        Args:
            since: Only calls from this moment on; None: from the first.
            until: Only calls before this moment; None: to the last.
            filters: Only calls with these ``model``, ``provider``, ``query_id`` and ``tags``.
        """
        from rlm_cachetrack import analytics

        chosen = checked_filters({**filters, "since": since, "until": until})
        return analytics.cache_effectiveness_by_model(self.reader(), **chosen)

    def get_experiments(self, by: str = "query", **filters: Unpack[CallFilters]) -> Table[Experiment]:
        """Return groups of finished runs with success rate, cost per run and cost per success.

        ``Experiment`` documents keys and units.

        Args:
            by: ``query``, ``model``, ``label``, ``metadata.KEY`` or ``tag:NAME``.
            filters: Only runs that began in this time, and have such a call.

        Raises:
            ConfigError: ``by`` is none of these.
        """
        from rlm_cachetrack import analytics

        return analytics.experiments(self.reader(), by, **checked_filters(filters))

    def get_usage(
        self, group_by: str | Sequence[str] = "model", *, time_zone: str = "UTC", **filters: Unpack[CallFilters]
    ) -> Table[dict[str, Any]]:
        """Return calls, tokens, hit rate, cost and savings by group; ``UsageGroup`` documents the keys and units.

        Args:
            group_by: One or more of ``model``, ``provider``, ``query``, ``depth``, ``call_site``, ``tag:NAME``,
                ``metadata.KEY`` (of the run), and one of ``hour``, ``day``, ``week`` and ``month``.
            time_zone: The zone of days, weeks and months, such as ``Europe/Berlin``.
            filters: Only such calls.

        Raises:
            ConfigError: A grouping or the time zone is unknown.
        """
        from rlm_cachetrack import analytics

        return analytics.usage_groups(
            self.reader(),
            (group_by,) if isinstance(group_by, str) else tuple(group_by),
            time_zone=time_zone,
            **checked_filters(filters),
        )

    def get_run_levels(self, query_id: str, run_id: datetime | str, by: LevelGrouping = "depth") -> Table[RunLevel]:
        """Return cost, calls and hit rate of one run by recursion ``depth`` or by ``subtree``.

        ``RunLevel`` documents keys and units.

        Raises:
            ConfigError: ``by`` is neither.
        """
        from rlm_cachetrack import analytics

        key = self._key(query_id, run_id)
        return analytics.run_levels(self.reader(), *key, by)

    def get_llm_interactions(self, query_id: str, run_id: datetime | str) -> Table[dict[str, Any]]:
        """Return every call of one run in order of time, keyed by the columns of ``llm_interactions``."""
        from rlm_cachetrack import analytics

        key = self._key(query_id, run_id)
        return analytics.interactions(self.reader(), *key)

    def list_query_runs(self, limit: int = 100, **filters: Unpack[CallFilters]) -> Table[RunListing]:
        """Return the newest runs, newest first."""
        from rlm_cachetrack import analytics

        return analytics.list_runs(self.reader(), _checked_limit(limit), **checked_filters(filters))

    def get_query_run_summary(self, query_id: str, run_id: datetime | str) -> dict[str, Any] | None:
        """Return the start, end and status of a run, its totals and latency percentiles; None for an unknown run."""
        from rlm_cachetrack import analytics

        key = self._key(query_id, run_id)
        return analytics.run_summary(self.reader(), *key)

    def count(
        self, *, query_id: str | None = None, run_id: datetime | str | None = None, before: datetime | str | None = None
    ) -> dict[str, int]:
        """Count the ``interactions`` and ``runs`` that :meth:`delete` with the same arguments would delete."""
        moments = {"run_id": optional_moment(run_id, "run_id"), "before": optional_moment(before, "before")}
        return self.reader().query("query_counts", query_id=clean_optional(query_id), **moments)[0]

    def delete(
        self, *, query_id: str | None = None, run_id: datetime | str | None = None, before: datetime | str | None = None
    ) -> dict[str, int]:
        """Delete calls, and the runs that have no calls left.

        Args:
            query_id: Only calls of this query.
            run_id: Only calls of this run.
            before: Only calls before this moment.

        Returns:
            How many ``interactions`` and ``runs`` were deleted.

        Raises:
            ConfigError: Neither ``query_id`` nor ``before`` is given.
        """
        moments = {"run_id": optional_moment(run_id, "run_id"), "before": optional_moment(before, "before")}
        return self.reader().delete(query_id=clean_optional(query_id), **moments)


def _checked_limit(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"limit={safe_repr(limit)}: expected a whole number of at least 1")
    return limit
