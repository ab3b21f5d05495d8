"""TimescaleDBClient: a thin facade over recording and analytics, one module per topic."""

from .facade import ReadingClient, TimescaleDBClient, runtime_for
from .planning import PriceUpdate

__all__ = ["PriceUpdate", "ReadingClient", "TimescaleDBClient", "runtime_for"]
