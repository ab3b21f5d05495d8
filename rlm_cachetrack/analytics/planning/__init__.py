"""Plan costs: re-pricing, what-if, forecast, budgets, reconciliation with an invoice."""

from .budgets import BudgetCheck
from .forecast import Forecast
from .repricing import ModelDifference, PriceChange
from .what_if import WhatIf

__all__ = [
    "BudgetCheck",
    "Forecast",
    "ModelDifference",
    "PriceChange",
    "WhatIf",
]
