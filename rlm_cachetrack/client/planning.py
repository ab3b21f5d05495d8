"""The part of :class:`~rlm_cachetrack.TimescaleDBClient` on prices and plans."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from .base import ClientBase, checked_filters

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters
    from rlm_cachetrack.analytics.planning import budgets, forecast, lifecycle, reconcile, repricing, what_if
    from rlm_cachetrack.pricing import PriceBook


class PriceUpdate(TypedDict):
    """The result of :meth:`Planning.update_prices`, described there."""

    in_use: str
    is_stored: bool
    origin: str
    changed: list[dict[str, Any]]
    added: list[tuple[str, str]]
    removed: list[tuple[str, str]]


class Planning(ClientBase):
    """Methods for re-pricing, what-if, forecast, budgets and reconciling. Each flushes, then blocks for queries."""

    def reprice(
        self,
        pricing: str | os.PathLike[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        model: str | None = None,
        query_id: str | None = None,
        unpriced: bool = False,
        include_given: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> repricing.Repricing:
        """Re-price stored calls, and update the totals of their runs. Blocks for about 20 s per million calls.

        Costs that the provider returned do not change, and prices that were given by hand only with
        ``include_given``. A re-pricing that was interrupted continues when it is called with the same arguments.

        Args:
            pricing: A pricing YAML whose prices override the built-in ones; None: the prices this client records with.
            since: Only calls from this moment on; None: from the first.
            until: Only calls before this moment; None: to the last.
            model: Only calls of this model.
            query_id: Only calls of this query.
            unpriced: Only calls without a cost.
            include_given: Also calls whose prices were given by hand, in records and legacy tables.
            dry_run: Compute what would change, and change nothing.
            progress: Called after every batch with the number of calls done and of all calls.

        Returns:
            ``difference`` (by model; empty if an interrupted one was resumed), ``kept_interactions`` (calls whose
            prices were given by hand) and ``change`` (None for a dry run).

        Raises:
            PricingError: The file cannot be used.
            ConfigError: Another re-pricing was interrupted and not continued.
        """
        from rlm_cachetrack.analytics.planning import repricing

        store, book = self.reader(), self._runtime.priced_by(pricing)
        chosen = checked_filters({"since": since, "until": until, "model": model, "query_id": query_id})
        which = repricing.selection(unpriced=unpriced, include_given=include_given, **chosen)
        difference = repricing.difference(store, book, which)
        kept = repricing.count_kept(store, which)
        change = None if dry_run else repricing.apply(store, book, which, progress=progress)
        return {"difference": difference, "kept_interactions": kept, "change": change}

    def update_prices(
        self, origin: str | None = None, *, accept_implausible: bool = False, dry_run: bool = False
    ) -> PriceUpdate:
        """Fetch the newest price list of genai-prices, and store it for all processes that use this store. Blocks.

        Running programs use it within a minute. Stored calls keep their prices until they are re-priced.

        Args:
            origin: An http address or a file; None: ``RLM_CACHETRACK_PRICES_URL``, else where genai-prices publishes.
            accept_implausible: Store the list even if a price changes by a factor of 10 or more.
            dry_run: Only compare.

        Returns:
            ``in_use`` (the price source of the list in use now), ``is_stored``, ``origin``, ``changed`` (each provider,
            model, item, before and after in USD per 1M tokens or 1,000 uses), ``added`` and ``removed`` models (each
            provider and id).

        Raises:
            PriceListError: The list cannot be read, has another format, or is not plausible.
        """
        from rlm_cachetrack.pipeline import price_updates

        store = self.reader()
        fetched = price_updates.read_list(origin or self._runtime.settings.prices_url)
        result = price_updates.update(store, fetched, accept_implausible=accept_implausible, dry_run=dry_run)
        self._runtime.use_newest_price_list()
        return {
            "in_use": result.in_use,
            "is_stored": result.is_stored,
            "origin": fetched.origin,
            "changed": [one._asdict() for one in result.difference.changed],
            "added": result.difference.added,
            "removed": result.difference.removed,
        }

    def model_lifecycle(
        self, replacement: str | None = None, **filters: Unpack[CallFilters]
    ) -> list[lifecycle.ModelLifecycle]:
        """Ask the provider for its list of models, and return when each model in use shuts down. Blocks for a request.

        ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL`` select the provider.

        Args:
            replacement: Also compute what the calls of a model that shuts down would have cost on this one.
            filters: Only such calls.

        Raises:
            ConfigError: No API key is set, or no price is known for the replacement.
        """
        from rlm_cachetrack.analytics import usage_groups
        from rlm_cachetrack.analytics.planning import lifecycle
        from rlm_cachetrack.capture import list_models

        listed = list_models()
        chosen = checked_filters(filters)
        used = usage_groups(self.reader(), ("model", "provider"), **chosen)

        def cost_on_replacement(model: str) -> what_if.WhatIf:
            which: CallFilters = {**chosen, "model": model}
            return self.what_if(to_model=replacement, **which)

        return lifecycle.lifecycle(
            used,
            listed.provider,
            listed.shutdown_dates,
            replacement,
            cost_on_replacement,
        )

    def resume_repricing(self, progress: Callable[[int, int], None] | None = None) -> repricing.PriceChange:
        """Resume the re-pricing, or the undo, that was interrupted.

        Raises:
            NotStoredError: None was interrupted.
        """
        from rlm_cachetrack.analytics.planning import repricing

        return repricing.resume(self.reader(), progress=progress)

    def undo_repricing(
        self, change_id: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> repricing.PriceChange:
        """Restore every price and cost to what it was before a re-pricing. Blocks.

        Args:
            change_id: The re-pricing to undo; None: the newest that is not undone.
            progress: As for :meth:`reprice`.

        Raises:
            NotStoredError: There is no such re-pricing.
            ConfigError: A newer one must be undone first.
        """
        from rlm_cachetrack.analytics.planning import repricing

        return repricing.undo(self.reader(), change_id, progress=progress)

    def list_price_changes(self, limit: int = 100) -> list[repricing.PriceChange]:
        """Return the re-pricings, newest first."""
        from rlm_cachetrack.analytics.planning import repricing

        return repricing.changes(self.reader(), limit)

    def what_if(
        self,
        *,
        to_model: str | None = None,
        to_provider: str | None = None,
        tier: str | None = None,
        hit_rate: float | None = None,
        pricing: str | os.PathLike[str] | None = None,
        **filters: Unpack[CallFilters],
    ) -> what_if.WhatIf:
        """Compute what the same tokens would have cost under other conditions. See ``WhatIf`` and its ``assumptions``.

        Args:
            to_model: As if made with this model.
            to_provider: The provider whose prices of ``to_model`` apply; None: each call's provider, else the model's
                vendor.
            tier: At this service tier.
            hit_rate: With this share (0-1) of the input read from the cache.
            pricing: At the prices of this pricing YAML.
            filters: Only such calls.

        Raises:
            ConfigError: No condition is given, or a price is not known.
        """
        from rlm_cachetrack.analytics.planning import what_if

        return what_if.what_if(
            self.reader(),
            lambda: self._prices(pricing),
            to_model=to_model,
            to_provider=to_provider,
            tier=tier,
            hit_rate=hit_rate,
            other_prices=pricing is not None,
            **checked_filters(filters),
        )

    def forecast_cost(
        self,
        days: int = 30,
        *,
        hit_rate: float | None = None,
        confidence: float = 0.8,
        **filters: Unpack[CallFilters],
    ) -> forecast.Forecast:
        """Forecast the cost of the next days from the past ones, with an interval. See ``Forecast``.

        Args:
            days: How many days, including today.
            hit_rate: Also forecast the cost with this share (0-1) of the input read from the cache.
            confidence: The confidence level of the interval, between 0 and 1.
            filters: Only such calls. With ``since``, the history begins with the first whole day (UTC).

        Raises:
            ConfigError: A number is out of range, or ``until`` is given: the history always ends yesterday.
        """
        from rlm_cachetrack.analytics.planning import forecast

        chosen = checked_filters(filters)
        return forecast.forecast_cost(self.reader(), days, hit_rate=hit_rate, confidence=confidence, **chosen)

    def set_budget(
        self, amount_usd: float, period: str = "month", name: str = "default", model: str | None = None
    ) -> None:
        """Set or change the USD that may be spent in a day, week or month (UTC)."""
        from rlm_cachetrack.analytics.planning import budgets

        budgets.set_budget(self.reader(), amount_usd, period, name, model)

    def check_budget(self, name: str = "default") -> budgets.BudgetCheck:
        """Check a budget: the amount spent, the expected amount, and the day on which it runs out. See ``BudgetCheck``.

        Raises:
            NotStoredError: There is no budget of this name.
        """
        from rlm_cachetrack.analytics.planning import budgets

        return budgets.check_budget(self.reader(), name)

    def list_budgets(self) -> list[budgets.Budget]:
        """Return the budgets, by name."""
        from rlm_cachetrack.analytics.planning import budgets

        return budgets.budgets(self.reader())

    def remove_budget(self, name: str = "default") -> None:
        """Remove a budget.

        Raises:
            NotStoredError: There is no budget of this name.
        """
        from rlm_cachetrack.analytics.planning import budgets

        budgets.remove_budget(self.reader(), name)

    def reconcile(self, path: str | os.PathLike[str], provider: str | None = None) -> reconcile.Reconciliation:
        """Compare OpenAI's export of costs or usage (CSV, or the Usage API's JSON) with the recorded calls.

        See ``Reconciliation``: by day, model and tier, with the coverage in percent and the unexplained USD.

        Raises:
            ConfigError: The file is not such an export.
        """
        from rlm_cachetrack.analytics.planning import reconcile

        return reconcile.reconcile(self.reader(), lambda: self._prices(None), path, provider)

    def _prices(self, pricing: str | os.PathLike[str] | None) -> PriceBook:
        if self.pricing_error is not None and pricing is None:
            raise self.pricing_error
        return self._runtime.priced_by(pricing)
