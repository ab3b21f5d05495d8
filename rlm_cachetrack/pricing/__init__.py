"""Turn token usage into cost: price book, built-in price table, pricing file."""

from .costs import Cost, amounts
from .invoice import MODEL_TOOLS, Facts, cost_of, factor_of, image_model
from .names import snapshot_names
from .price_book import PriceBook, Quote, example, no_price_reason, schema_path
from .price_changes import ChangedPrice, ListDifference, compare
from .price_list import PriceList, fetch_address, installed, parse, sha8_of
from .rates import CACHE_WRITES, TOKEN_ITEMS, UNITS, Period, Rates
from .schedules import Schedule
from .unlisted import reason_unlisted, reason_unpriced, remedy

__all__ = [
    "CACHE_WRITES",
    "MODEL_TOOLS",
    "TOKEN_ITEMS",
    "UNITS",
    "ChangedPrice",
    "Cost",
    "Facts",
    "ListDifference",
    "Period",
    "PriceBook",
    "PriceList",
    "Quote",
    "Rates",
    "Schedule",
    "amounts",
    "compare",
    "cost_of",
    "example",
    "factor_of",
    "fetch_address",
    "image_model",
    "installed",
    "no_price_reason",
    "parse",
    "reason_unlisted",
    "reason_unpriced",
    "remedy",
    "schema_path",
    "sha8_of",
    "snapshot_names",
]
