"""Plan costs: re-pricing, what-if, forecast, budgets, reconciliation with an invoice."""

from .budgets import Budget, BudgetCheck
from .forecast import Forecast
from .month import MonthOutlook, month_outlook, same_days_before
from .reconcile import Reconciliation, ReconciliationRow
from .repricing import ModelDifference, PriceChange
from .what_if import WhatIf, WhatIfModel

__all__ = [
    "Budget",
    "BudgetCheck",
    "Forecast",
    "ModelDifference",
    "MonthOutlook",
    "PriceChange",
    "Reconciliation",
    "ReconciliationRow",
    "WhatIf",
    "WhatIfModel",
    "month_outlook",
    "same_days_before",
]
