"""The losses of runs through avoidable cache misses, explained in the background and cached for each run."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from rlm_cachetrack.analytics.explain import CacheLoss, explain_cache, losses_of, merge_losses

if TYPE_CHECKING:
    from .source import DashboardStore

logger = logging.getLogger("rlm_cachetrack")

MAX_RUNS = 1_000
"""The limit of runs per range that are explained, the newest first. A run of a few calls takes 15 ms of CPU time."""
_MAX_CALLS = 10_000
"""The limit of calls per range that are explained."""
_MAX_CALLS_OF_RUN = 2_000
"""The limit of calls per run that are explained, the newest first; the page of a run has the same limit."""
_KEPT_RUNS = 4_000  # two ranges of MAX_RUNS for each of two views, a few kilobytes per run
_MAX_WAITING = 4_000
_AGAIN_S = 60.0  # a run in progress changes with each call; it is explained again at most once per minute
_AGAIN_SHARE = 20.0  # and for at most one twentieth of the time


class DayOfLosses(TypedDict):
    """The losses of the runs that began on one day (UTC), in USD."""

    day: date
    usd_lost: float


class LossReport(TypedDict):
    """The losses of the runs of a range, by query and reason, most money first.

    ``uncertain`` are losses that are less likely than not. ``usd_uncertain`` is their sum in USD, None if none is
    priced; no other figure contains them.
    ``usd_lost`` is their sum in USD, None if none is priced or no reason is known; ``by_day`` is sorted.
    Of ``all_runs`` in the range (10,000 stands for 10,000 or more) the newest ``chosen_runs`` are explained: those
    with the newest 10,000 calls, at most 1,000 runs. ``explained_runs`` of them are explained as they are now,
    ``pending_runs`` wait for it, and ``failed_runs`` could not be explained. ``left_out_interactions`` are the calls
    of the chosen runs beyond the newest 2,000 of each run. ``is_complete`` is True if every call of every run of the
    range is explained. Of the ``explained_interactions``, the ``unknown_interactions`` have no fingerprint, so their
    miss reasons are not known.
    """

    losses: list[CacheLoss]
    uncertain: list[CacheLoss]
    usd_lost: float | None
    usd_uncertain: float | None
    tokens_lost: int
    by_day: list[DayOfLosses]
    all_runs: int
    chosen_runs: int
    explained_runs: int
    pending_runs: int
    failed_runs: int
    left_out_interactions: int
    is_complete: bool
    explained_interactions: int
    unknown_interactions: int


@dataclass(frozen=True, slots=True)
class _Explained:
    version: tuple[Any, ...]
    again_at: float
    losses: list[CacheLoss]
    interactions: int
    unknown: int
    has_failed: bool = False


_Key = tuple[str, datetime]


class Losses:
    """Explains runs on a separate thread, one at a time, the newest first. Thread-safe."""

    def __init__(self, source: DashboardStore) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._kept: OrderedDict[_Key, _Explained] = OrderedDict()
        self._waiting: dict[_Key, tuple[Any, ...]] = {}
        self._is_working = self._is_closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rlm-cachetrack-losses")

    def report(
        self,
        runs: Sequence[Mapping[str, Any]],
        all_runs: int,
        models: Collection[str] | None = None,
        wait_s: float = 0.0,
    ) -> LossReport:
        """Return the known losses of some runs, and begin to explain the other runs.

        Args:
            runs: Rows of the list of runs, the newest of a range first.
            all_runs: The number of runs in the range.
            models: Only losses of these models; None: all.
            wait_s: Blocks for at most this time until all runs are explained.
        """
        chosen = _within_limit(runs)
        keys = {_key(run) for run in chosen}
        with self._changed:
            for run in chosen:
                self._begin(run)
            self._changed.wait_for(lambda: self._is_closed or self._waiting.keys().isdisjoint(keys), wait_s)
            pending = sum(map(self._is_pending, chosen))
            known = [self._kept[key] for run in chosen if (key := _key(run)) in self._kept]
        all_losses = [loss for each in known for loss in each.losses]
        merged = merge_losses((loss for loss in all_losses if loss["is_likely"]), models)
        uncertain = merge_losses((loss for loss in all_losses if not loss["is_likely"]), models)
        by_day: dict[date, float] = {run["run_id"].date(): 0.0 for run in chosen}
        for loss in all_losses:
            is_shown = loss["is_likely"] and (models is None or loss["models"][0] in models)
            if is_shown and loss["usd_lost"] is not None:
                by_day[loss["run_id"].date()] += loss["usd_lost"]
        costs, doubtful = (
            [loss["usd_lost"] for loss in part if loss["usd_lost"] is not None] for part in (merged, uncertain)
        )
        calls, unknown = sum(each.interactions for each in known), sum(each.unknown for each in known)
        failed = sum(each.has_failed for each in known)
        left_out = sum(max(0, run["total_interactions"] - _MAX_CALLS_OF_RUN) for run in chosen)
        return {
            "losses": merged,
            "uncertain": uncertain,
            "usd_lost": sum(costs) if costs or (calls > unknown and not merged) else None,
            "usd_uncertain": sum(doubtful) if doubtful else None,
            "tokens_lost": sum(loss["tokens_lost"] for loss in merged),
            "by_day": [{"day": day, "usd_lost": usd} for day, usd in sorted(by_day.items())],
            "all_runs": all_runs,
            "chosen_runs": len(chosen),
            "explained_runs": len(chosen) - pending - failed,
            "pending_runs": pending,
            "failed_runs": failed,
            "left_out_interactions": left_out,
            "is_complete": len(chosen) == all_runs and not (pending or failed or left_out),
            "explained_interactions": calls,
            "unknown_interactions": unknown,
        }

    def _is_pending(self, run: Mapping[str, Any]) -> bool:
        kept = self._kept.get(_key(run))
        if kept is None:
            return bool(run["total_interactions"])
        return not kept.has_failed and kept.version != _version(run)

    def _begin(self, run: Mapping[str, Any]) -> None:
        key, version = _key(run), _version(run)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            if time.monotonic() < kept.again_at or (kept.version == version and not kept.has_failed):
                return
        if not run["total_interactions"] or (len(self._waiting) >= _MAX_WAITING and key not in self._waiting):
            return
        self._waiting[key] = version
        if not self._is_working and not self._is_closed:
            self._is_working = True
            self._executor.submit(self._work)

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._is_closed or not self._waiting:
                    self._is_working = False
                    return
                key = max(self._waiting, key=lambda waiting: waiting[1])
                version = self._waiting[key]
            found = self._explain(key, version)
            with self._changed:
                del self._waiting[key]
                self._kept[key] = found
                self._kept.move_to_end(key)
                while len(self._kept) > _KEPT_RUNS:
                    self._kept.popitem(last=False)
                self._changed.notify_all()

    def _explain(self, key: _Key, version: tuple[Any, ...]) -> _Explained:
        began = time.monotonic()
        losses: list[CacheLoss] = []
        calls = unknown = 0
        try:
            found = explain_cache(self._source.store, *key, limit=_MAX_CALLS_OF_RUN)
        except Exception:  # the other runs are still explained; the pages state how many runs could not be
            logger.warning("the run %s of query %r cannot be explained", key[1], key[0], exc_info=True)
            return _Explained(version, time.monotonic() + _AGAIN_S, losses, calls, unknown, has_failed=True)
        if found is not None:
            losses, calls, unknown = losses_of(found), found["total_interactions"], found["unknown_interactions"]
        now = time.monotonic()
        return _Explained(version, now + max(_AGAIN_S, _AGAIN_SHARE * (now - began)), losses, calls, unknown)

    def close(self) -> None:
        """Discard the runs that are not explained yet."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _within_limit(runs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the newest runs that together have at most ``_MAX_CALLS`` calls to explain."""
    calls = 0
    for number, run in enumerate(runs):
        calls += min(run["total_interactions"], _MAX_CALLS_OF_RUN)
        if calls > _MAX_CALLS:
            return runs[:number]
    return runs


def _key(run: Mapping[str, Any]) -> _Key:
    return run["query_id"], run["run_id"]


def _version(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the figures of a run that change with its calls. Costs are rounded, because their last digits vary."""
    cost = run["total_cost"]
    return run["total_interactions"], run["total_prompt_tokens"], None if cost is None else round(cost, 9)
