"""What the newest runs lost by avoidable cache misses, explained in the background and kept for each run."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.analytics.explain import CacheLoss, explain_cache, losses_of, merge_losses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .source import DashboardStore

MAX_RUNS = 30
"""The number of runs that are explained, the newest of a range."""
_MAX_CALLS = 500
"""The number of calls of a run that are explained, the newest: at most about 0.2 s per run."""
_KEPT_RUNS = 500
_AGAIN_S = 60.0  # a run in progress changes with each call; it is explained again at most once a minute


class DayOfLosses(TypedDict):
    """What the runs that began on one day (UTC) lost, in USD."""

    day: date
    usd_lost: float


class LossReport(TypedDict):
    """The losses of the newest runs of a range, by query and reason, most money first.

    ``usd_lost`` is their sum in USD, None if none is priced or no reason is known; ``by_day`` is sorted.
    ``pending_runs`` are still being explained. Of the ``explained_interactions``, the ``unknown_interactions`` have no
    fingerprint, so their miss reasons are not known.
    """

    losses: list[CacheLoss]
    usd_lost: float | None
    tokens_lost: int
    by_day: list[DayOfLosses]
    explained_runs: int
    pending_runs: int
    explained_interactions: int
    unknown_interactions: int


@dataclass(frozen=True, slots=True)
class _Explained:
    version: tuple[Any, ...]
    at: float
    losses: list[CacheLoss]
    interactions: int
    unknown: int


_Key = tuple[str, datetime]


class Losses:
    """Explains runs on a thread of its own. Thread-safe."""

    def __init__(self, source: DashboardStore) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Explained] = OrderedDict()
        self._pending: dict[_Key, Future[None]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rlm-cachetrack-losses")

    def report(
        self, runs: Sequence[Mapping[str, Any]], models: Collection[str] | None = None, wait_s: float = 0.0
    ) -> LossReport:
        """Return what is known of the losses of some runs, and begin to explain the others.

        Args:
            runs: Rows of the list of runs.
            models: Only losses of these models; None: all.
            wait_s: Blocks for at most this time until all runs are explained.
        """
        with self._lock:
            for run in runs:
                self._begin(run)
            running = [future for run in runs if (future := self._pending.get(_key(run)))]
        if running and wait_s:
            wait(running, wait_s)
        with self._lock:
            known = [self._kept[key] for run in runs if (key := _key(run)) in self._kept]
            pending = sum(_key(run) in self._pending for run in runs)
        all_losses = [loss for each in known for loss in each.losses]
        merged = merge_losses(all_losses, models)
        by_day: dict[date, float] = {run["run_id"].date(): 0.0 for run in runs}
        for loss in all_losses:
            if loss["usd_lost"] is not None and (models is None or loss["models"][0] in models):
                by_day[loss["run_id"].date()] += loss["usd_lost"]
        costs = [loss["usd_lost"] for loss in merged if loss["usd_lost"] is not None]
        calls, unknown = sum(each.interactions for each in known), sum(each.unknown for each in known)
        return {
            "losses": merged,
            "usd_lost": sum(costs) if costs or (calls > unknown and not merged) else None,
            "tokens_lost": sum(loss["tokens_lost"] for loss in merged),
            "by_day": [{"day": day, "usd_lost": usd} for day, usd in sorted(by_day.items())],
            "explained_runs": len(known),
            "pending_runs": pending,
            "explained_interactions": calls,
            "unknown_interactions": unknown,
        }

    def _begin(self, run: Mapping[str, Any]) -> None:
        key, version = _key(run), (run["total_interactions"], run["total_prompt_tokens"], run["total_cost"])
        kept = self._kept.get(key)
        if key in self._pending or (kept and (kept.version == version or time.monotonic() - kept.at < _AGAIN_S)):
            return
        if run["total_interactions"]:
            self._pending[key] = self._executor.submit(self._explain, key, version)

    def _explain(self, key: _Key, version: tuple[Any, ...]) -> None:
        try:
            found = explain_cache(self._source.store, *key, limit=_MAX_CALLS)
            losses, calls, unknown = [], 0, 0
            if found is not None:
                losses, calls, unknown = losses_of(found), found["total_interactions"], found["unknown_interactions"]
            with self._lock:
                self._kept[key] = _Explained(version, time.monotonic(), losses, calls, unknown)
                while len(self._kept) > _KEPT_RUNS:
                    self._kept.popitem(last=False)
        finally:
            with self._lock:
                self._pending.pop(key, None)

    def close(self) -> None:
        """Forget the runs that are not explained yet."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _key(run: Mapping[str, Any]) -> _Key:
    return run["query_id"], run["run_id"]
