"""Read the store and return typed results: summaries, usage over time, comparisons, gates, latency."""

from .compare import Comparison, ComparisonMetric, ComparisonSide, compare_rows, rows_of_calls
from .gate import Gate
from .latency import LatencyDividend, LatencyPair
from .summaries import RunListing, TokenCacheOptimization, TokenCacheSummary
from .usage_views import Call, Iteration, Usage, UsageRow

__all__ = [
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
    "compare_rows",
    "rows_of_calls",
]
