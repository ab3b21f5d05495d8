"""Turn token usage into cost: price book, built-in price table, pricing file."""

from .builtin_table import snapshot_names
from .price_book import Cost, Period, PriceBook, Quote, Rates, Schedule, amounts, example, schema_path

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
