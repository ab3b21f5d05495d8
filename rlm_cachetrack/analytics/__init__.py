"""Read the store and return typed results: summaries, usage over time, comparisons, gates, latency."""

from .compare import Comparison, ComparisonMetric, ComparisonSide, compare_rows, rows_of_calls
from .formatting import NONE, clean, clean_lines, duration, moment, number, percentage, rate, size, usd, verdict
from .gate import Gate
from .latency import LatencyDividend, LatencyPair
from .results import facts_as_html
from .summaries import RunListing, TokenCacheOptimization, TokenCacheSummary
from .usage_views import Call, Iteration, Usage, UsageRow

__all__ = [
    "NONE",
    "Call",
    "Comparison",
    "ComparisonMetric",
    "ComparisonSide",
    "Gate",
    "Iteration",
    "LatencyDividend",
    "LatencyPair",
    "RunListing",
    "TokenCacheOptimization",
    "TokenCacheSummary",
    "Usage",
    "UsageRow",
    "clean",
    "clean_lines",
    "compare_rows",
    "duration",
    "facts_as_html",
    "moment",
    "number",
    "percentage",
    "rate",
    "rows_of_calls",
    "size",
    "usd",
    "verdict",
]
