"""Format numbers, times and tables for notebooks, the command line and the dashboard."""

from .run_card import run_card, run_lines
from .tables import Facts, Sheet, Table, facts_as_html
from .text import (
    NONE,
    clean,
    clean_lines,
    clock,
    day,
    dropped_details,
    duration,
    hit_rates,
    large_number,
    moment,
    number,
    percentage,
    rate,
    same_decimals,
    size,
    usd,
    verdict,
)

__all__ = [
    "NONE",
    "Facts",
    "Sheet",
    "Table",
    "clean",
    "clean_lines",
    "clock",
    "day",
    "dropped_details",
    "duration",
    "facts_as_html",
    "hit_rates",
    "large_number",
    "moment",
    "number",
    "percentage",
    "rate",
    "run_card",
    "run_lines",
    "same_decimals",
    "size",
    "usd",
    "verdict",
]
