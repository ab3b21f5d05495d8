"""The part of :class:`~rlm_cachetrack.TimescaleDBClient` that is about prices and plans: re-pricing to reconciling."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from rlm_cachetrack.errors import PricingError
from rlm_cachetrack.records import aware, clean_text

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.planning import budgets, forecast, reconcile, repricing, what_if
    from rlm_cachetrack.pipeline import runtime as _runtime
    from rlm_cachetrack.pricing import PriceBook
    from rlm_cachetrack.store import PostgresStore

__all__ = ["Planning"]


class Planning:
    """Mixed into the client, which has the store and the prices. Every method blocks."""

    _runtime: _runtime.Runtime
    pricing_error: PricingError | None

    def _reader(self) -> PostgresStore:
        raise NotImplementedError

    # -- prices of what is stored --------------------------------------------------------------------------------------

    def reprice(
        self,
        pricing: str | os.PathLike[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        model: str | None = None,
        query_id: str | None = None,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> repricing.Repricing:
        """Give calls that are stored other prices, and sum their runs up again. Blocks: some 20 s a million calls.

        Calls whose prices were given by hand keep them; a cost that a provider returned stays. What is stopped is
        continued when the same is asked for again.

        Args:
            pricing: A pricing YAML laid over the built-in prices; None: the prices that this client records with.
            since: Only calls from this moment on; None: from the first.
            until: Only calls before this moment; None: to the last.
            model: Only calls of this model.
            query_id: Only calls of this query.
            dry_run: Only say what would change.
            progress: Called after every batch with how many calls are done and how many there are.

        Returns:
            ``difference`` (by model; empty where a stopped one was continued) and ``change`` (None for a dry run).

        Raises:
            PricingError: The file cannot be used.
            ConfigError: Another re-pricing was stopped before its end.
        """
        from rlm_cachetrack.analytics.planning import repricing

        store, book = self._reader(), self._runtime.priced_by(pricing)
        which = repricing.scope(
            None if since is None else aware(since, "since"),
            None if until is None else aware(until, "until"),
            model,
            None if query_id is None else clean_text(query_id),
        )
        difference = repricing.difference(store, book, which)
        change = None if dry_run else repricing.apply(store, book, which, progress=progress)
        return {"difference": difference, "change": change}

    def resume_repricing(self, progress: Callable[[int, int], None] | None = None) -> repricing.PriceChange:
        """Continue the re-pricing, or the undoing of one, that was stopped.

        Raises:
            NotStoredError: None was.
        """
        from rlm_cachetrack.analytics.planning import repricing

        return repricing.resume(self._reader(), progress=progress)

    def undo_repricing(
        self, change_id: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> repricing.PriceChange:
        """Give calls back what they had before a re-pricing: every price and cost as it was. Blocks.

        Args:
            change_id: Which; None: the newest that is not undone.
            progress: As for :meth:`reprice`.

        Raises:
            NotStoredError: There is no such re-pricing.
            ConfigError: A newer one is to be undone first.
        """
        from rlm_cachetrack.analytics.planning import repricing

        return repricing.undo(self._reader(), change_id, progress=progress)

    def list_price_changes(self, limit: int = 100) -> list[repricing.PriceChange]:
        """The re-pricings, newest first."""
        from rlm_cachetrack.analytics.planning import repricing

        return repricing.changes(self._reader(), limit)

    # -- planning ------------------------------------------------------------------------------------------------------

    def what_if(
        self,
        *,
        model: str | None = None,
        tier: str | None = None,
        hit_rate: float | None = None,
        pricing: str | os.PathLike[str] | None = None,
        provider: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        of_model: str | None = None,
        query_id: str | None = None,
    ) -> what_if.WhatIf:
        """What the calls would have cost: the same tokens otherwise. See ``WhatIf``; ``assumptions`` says how.

        Args:
            model: By this model.
            tier: At this service tier.
            hit_rate: With this share (0-1) of the input from the cache.
            pricing: By this price list.
            provider: Whose prices of ``model``; None: those of each call's provider, else of its vendor.
            since: Only calls from this moment on.
            until: Only calls before this moment.
            of_model: Only calls of this model.
            query_id: Only calls of this query.

        Raises:
            ConfigError: Nothing is asked, or no price is known.
        """
        from rlm_cachetrack.analytics.planning import repricing, what_if

        which = repricing.scope(
            None if since is None else aware(since, "since"),
            None if until is None else aware(until, "until"),
            of_model,
            None if query_id is None else clean_text(query_id),
        )
        return what_if.what_if(
            self._reader(),
            lambda: self._prices(pricing),
            which,
            model=model,
            provider=provider,
            tier=tier,
            hit_rate=hit_rate,
            other_prices=pricing is not None,
        )

    def forecast_cost(
        self, days: int = 30, *, model: str | None = None, hit_rate: float | None = None, confidence: float = 0.8
    ) -> forecast.Forecast:
        """What the next days will cost, from the days before, with an interval. See ``Forecast``.

        Args:
            days: How many, today among them.
            model: Only calls of this model.
            hit_rate: Also: what it would be with this share (0-1) of the input from the cache.
            confidence: The share of times in which the interval is to hold the cost.
        """
        from rlm_cachetrack.analytics.planning import forecast

        return forecast.forecast_cost(self._reader(), days, model=model, hit_rate=hit_rate, confidence=confidence)

    def set_budget(
        self, amount_usd: float, period: str = "month", name: str = "default", model: str | None = None
    ) -> None:
        """Set what may be spent in a day, week or month (UTC), or change it."""
        from rlm_cachetrack.analytics.planning import budgets

        budgets.set_budget(self._reader(), amount_usd, period, name, model)

    def check_budget(self, name: str = "default") -> budgets.BudgetCheck:
        """How a budget stands: what is spent, what is expected, and when it runs out. See ``BudgetCheck``.

        Raises:
            NotStoredError: There is none of this name.
        """
        from rlm_cachetrack.analytics.planning import budgets

        return budgets.check_budget(self._reader(), name)

    def list_budgets(self) -> list[budgets.Budget]:
        """The budgets, by name."""
        from rlm_cachetrack.analytics.planning import budgets

        return budgets.budgets(self._reader())

    def remove_budget(self, name: str = "default") -> None:
        """Forget a budget.

        Raises:
            NotStoredError: There is none of this name.
        """
        from rlm_cachetrack.analytics.planning import budgets

        budgets.remove_budget(self._reader(), name)

    def reconcile(self, path: str | os.PathLike[str], provider: str = "openai") -> reconcile.Reconciliation:
        """Compare OpenAI's export of costs or usage (CSV, or the Usage API's JSON) with what is recorded.

        See ``Reconciliation``: by day, model and tier, coverage in percent and what is unexplained in USD.

        Raises:
            ConfigError: The file is no such export.
        """
        from rlm_cachetrack.analytics.planning import reconcile

        return reconcile.reconcile(self._reader(), lambda: self._prices(None), path, provider)

    def _prices(self, pricing: str | os.PathLike[str] | None) -> PriceBook:
        if self.pricing_error is not None and pricing is None:
            raise self.pricing_error
        return self._runtime.priced_by(pricing)
