"""Turn token usage into cost: price book, built-in price table, pricing file."""

from .costs import Cost, amounts
from .names import snapshot_names
from .price_book import PriceBook, Quote, example, schema_path
from .rates import Period, Rates
from .schedules import Schedule

__all__ = [
    "Cost",
    "Period",
    "PriceBook",
    "Quote",
    "Rates",
    "Schedule",
    "amounts",
    "example",
    "schema_path",
    "snapshot_names",
]
