"""The data source of the dashboard: a store that it only reads, except to retry dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm_cachetrack.client import runtime_for
from rlm_cachetrack.errors import CacheTrackError, ConfigError
from rlm_cachetrack.pipeline import diagnostics, retry_dead_letters

if TYPE_CHECKING:
    from collections.abc import Collection

    from rlm_cachetrack.analytics import ContentFilters
    from rlm_cachetrack.analytics.planning import budgets, forecast
    from rlm_cachetrack.pipeline import RetriedDeadLetters


_MAX_DEAD_LETTERS = 50


class DashboardStore:
    """A store for reads, which do not wait for records of this process. Connects at the first query.

    Args:
        db_url: As of :class:`~rlm_cachetrack.TimescaleDBClient`.
        timeout_s: How long, in seconds, a query waits for a connection before the page reports that there is none.

    Attributes:
        store: The store that holds calls and runs.
    """

    def __init__(self, db_url: str | None = None, *, timeout_s: float = 3.0) -> None:
        self._runtime = runtime_for(db_url)
        self._runtime.restarts_server = False
        self.store = self._runtime.store()
        self.store.read_timeout_s = timeout_s

    def health(self, *, lists_unpriced: bool = True) -> dict[str, Any]:
        """Return the state of the database and of the journals of this machine. Blocks.

        Args:
            lists_unpriced: False: the unpriced calls are not read; see :func:`.describe_store`.

        Returns:
            ``journal``, ``database`` and ``local`` as :mod:`.diagnostics` describes them; ``activity``, the row of that
            query; and ``dead_letters``, the newest of them.
        """
        return {
            "journal": diagnostics.describe_journals(self._runtime),
            "database": diagnostics.describe_store(self._runtime, lists_unpriced=lists_unpriced),
            "local": diagnostics.describe_local(self._runtime),
            "activity": self.store.query("activity")[0],
            "dead_letters": [
                {"id": letter.id, "time": letter.time, "reason": letter.reason}
                for letter in self._runtime.dead_letters.read()[-_MAX_DEAD_LETTERS:]
            ],
        }

    def forecast(self, days: int, filters: ContentFilters) -> forecast.Forecast:
        """Forecast the cost of the next days; see :meth:`~rlm_cachetrack.TimescaleDBClient.forecast_cost`. Blocks."""
        from rlm_cachetrack.analytics.planning import forecast

        return forecast.forecast_cost(self.store, days, **filters)

    def budgets(self) -> list[budgets.BudgetCheck]:
        """Check every budget; see :meth:`~rlm_cachetrack.TimescaleDBClient.check_budget`. Blocks."""
        from rlm_cachetrack.analytics.planning import budgets

        return [budgets.check_budget(self.store, budget["name"]) for budget in budgets.budgets(self.store)]

    def retry_dead_letters(self, ids: Collection[str]) -> RetriedDeadLetters:
        """Try to store dead letters; see :func:`.retry_dead_letters`. Blocks; starts the writer of this process.

        Raises:
            ConfigError: The role of the database may not store calls.
            CacheTrackError: The dead-letter file cannot be rewritten.
        """
        self._require_write_access()
        try:
            return retry_dead_letters(self._runtime, ids)
        except OSError as exc:
            raise _not_rewritten(exc) from exc

    def discard_dead_letters(self, ids: Collection[str]) -> int:
        """Delete dead letters and return how many were deleted. Blocks.

        Raises:
            ConfigError: The role of the database may not store calls.
            CacheTrackError: The dead-letter file cannot be rewritten.
        """
        self._require_write_access()
        try:
            return self._runtime.dead_letters.remove(ids)
        except OSError as exc:
            raise _not_rewritten(exc) from exc

    def _require_write_access(self) -> None:
        if not self.store.query("activity")[0]["may_write"]:
            raise ConfigError("the dashboard's database role may only read: it can neither retry nor discard records")

    def close(self) -> None:
        """Close the connections, unless this process records into the same store."""
        if not self._runtime.in_use:
            self._runtime.close(0)


def _not_rewritten(exc: OSError) -> CacheTrackError:
    return CacheTrackError(f"the dead-letter file cannot be rewritten ({exc.strerror}); all dead letters are kept")
