"""What pages and JSON read, a moment long from memory: however many pages are open, a query is at work at most once.

An answer is kept until there is news (:meth:`Reading.look`), but for four times as long as it took at most, and never
for more than five seconds. After news a query is asked anew once as much time has passed as it took, and not until its
time is over where it takes long: so pages that refresh themselves do not keep a database busy that is slow already. Who
asks in the meantime waits: what is answered after news knows of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from rlm_cachetrack.analytics import RunReport, TokenCacheOptimization, TokenCacheSummary, run_report, usage_views
from rlm_cachetrack.analytics import summaries as analytics
from rlm_cachetrack.analytics.explain import report as explain

if TYPE_CHECKING:
    from .source import DashboardStore

__all__ = ["Reading"]

T = TypeVar("T")

_LEAST_S = 0.25
_MOST_S = 5.0
_TIMES = 4
_QUICK_S = 1.0
"""A query that takes longer cannot show what is new within two seconds, and is spared instead."""
_LARGE_S, _TURN_S = 0.1, 2.0
"""What takes longer takes turns with its like, which would only take from each other: until this much was waited."""
_LOOKED_S = 0.5
"""How old what is known of news may be."""
_MANY = 256
_EXPLAINED = 2_000
"""Of a larger run its newest calls are explained: a page is made in a second, and leaves time to the others."""
_EXPLAINING_S = 0.1
_EXPLAINING_TIMES = 10
_MANY_EXPLAINED = 16


class _Answer:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.began = self.rested = self.until = self.took = 0.0
        self.value: Any = None


class _Explained:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.state: Any = None
        self.until = 0.0
        self.value: explain.CacheExplanation | None = None


class Reading:
    """The queries behind the pages. Each method blocks for its query; safe for several threads."""

    def __init__(self, source: DashboardStore) -> None:
        self.source = source
        self._answers: dict[Any, _Answer] = {}
        self._lock = threading.Lock()
        self._turn = threading.Semaphore()
        self._looking = threading.Lock()
        self._looked = self._news = 0.0
        self._explained: dict[Any, _Explained] = {}
        self._marker: str | None = None

    def usage(self, span: usage_views.Span, model: str | None = None, provider: str | None = None) -> usage_views.Usage:
        """See :func:`.usage`."""
        model, provider = _storable(model), _storable(provider)
        key = ("usage", span, model, provider)
        return self._kept(key, lambda: usage_views.usage(self.source.store, span, model, provider))

    def runs(self, **which: Any) -> usage_views.RunsPage:
        """See :func:`.runs_page`."""
        which = {name: _storable(value) if isinstance(value, str) else value for name, value in which.items()}
        key = ("runs", *sorted(which.items()))
        return self._kept(key, lambda: usage_views.runs_page(self.source.store, **which))

    def top_savings(self, limit: int) -> list[TokenCacheOptimization]:
        """The runs in which the cache saved most."""
        return self._kept(("top", limit), lambda: analytics.top_cache_savings(self.source.store, limit))

    def run(self, query_id: str, run_id: datetime) -> RunReport | None:
        """See :func:`.run_report`."""
        return self._kept(("run", query_id, run_id), lambda: run_report(self.source.store, query_id, run_id))

    def calls(self, query_id: str, run_id: datetime, after: str | None, limit: int) -> usage_views.CallsPage:
        """See :func:`.calls_of_run`."""
        return self._kept(
            ("calls", query_id, run_id, after, limit),
            lambda: usage_views.calls_of_run(self.source.store, query_id, run_id, after=after, limit=limit),
        )

    def explanation(
        self, query_id: str, run_id: datetime, summary: TokenCacheSummary, limit: int = _EXPLAINED
    ) -> explain.CacheExplanation | None:
        """Why the calls of a run missed; None where it has no calls.

        Made anew when calls came in or were re-priced; where that takes more than a tenth of a second, only once ten
        times as long has passed, so that a large run that is going on does not keep the processor busy.

        Args:
            query_id: The query.
            run_id: The run of it.
            summary: Its summary, which tells whether something changed.
            limit: Only so many calls, the newest.
        """
        state = [summary["total_interactions"], summary["total_prompt_tokens"], summary["total_cost"]]
        with self._lock:
            key = (query_id, run_id, limit)
            explained = self._explained.pop(key, None) or _Explained()
            self._explained[key] = explained
            while len(self._explained) > _MANY_EXPLAINED:
                del self._explained[next(iter(self._explained))]
        with explained.lock:
            began = time.monotonic()
            if explained.state is None or (explained.state != state and began >= explained.until):
                explained.value = explain.explain_cache(self.source.store, query_id, run_id, limit=limit)
                explained.state, took = state, time.monotonic() - began
                explained.until = began + (took if took < _EXPLAINING_S else _EXPLAINING_TIMES * took)
            return explained.value

    def forecast(self, days: int, model: str | None) -> dict[str, Any]:
        """``forecast``: what the next days will cost; ``budgets``: how they stand."""

        def read() -> dict[str, Any]:
            return {"forecast": self.source.forecast(days, model), "budgets": self.source.budgets()}

        model = _storable(model)
        return self._kept(("forecast", days, model), read)

    def health(self) -> dict[str, Any]:
        """What waits in journals, and what is connected."""
        return self._kept(("health",), self.source.health)

    def look(self, *, oldest_s: float = 0.0) -> str:
        """Look for news: what calls and runs there are, as a text that differs when they changed.

        Args:
            oldest_s: How long ago, in seconds, somebody else may have looked.
        """
        with self._looking:
            if self._marker is None or time.monotonic() - self._looked > oldest_s:
                marker = usage_views.marker(self.source.store)
                self._looked = time.monotonic()
                if marker != self._marker:
                    # Not when the query began: what is read from here on is as new as the marker.
                    self._marker, self._news = marker, self._looked
            return self._marker

    def _kept(self, key: Any, read: Callable[[], T]) -> T:
        with self._lock:
            if len(self._answers) > _MANY:
                now = time.monotonic()
                self._answers = {key: kept for key, kept in self._answers.items() if kept.until > now}
            answer = self._answers.setdefault(key, _Answer())
        with answer.lock:
            if answer.until > time.monotonic():
                self.look(oldest_s=_LOOKED_S)
                if answer.began >= self._news:
                    return cast("T", answer.value)
                time.sleep(max(0.0, answer.rested - time.monotonic()))
            mine = answer.took > _LARGE_S and self._turn.acquire(timeout=_TURN_S)
            try:
                began = time.monotonic()
                answer.value = read()
                ended = time.monotonic()
            finally:
                if mine:
                    self._turn.release()
            answer.began, answer.took = began, ended - began
            answer.until = ended + min(max(_LEAST_S, _TIMES * answer.took), _MOST_S)
            answer.rested = ended + answer.took if answer.took <= _QUICK_S else answer.until
            return cast("T", answer.value)


def _storable(text: str | None) -> str | None:
    """Without NUL, which no stored text has and no query may name."""
    return text.replace("\0", "\ufffd") if text else text
