"""Turn token usage into cost: price book, built-in price table, pricing file."""

from .costs import Cost, amounts
from .names import snapshot_names
from .price_book import PriceBook, Quote, example, schema_path
from .rates import Period, Rates
from .schedules import Schedule
from .unlisted import reason_unlisted

__all__ = [
    "Cost",
    "Period",
    "PriceBook",
    "Quote",
    "Rates",
    "Schedule",
    "amounts",
    "example",
    "reason_unlisted",
    "schema_path",
    "snapshot_names",
]
