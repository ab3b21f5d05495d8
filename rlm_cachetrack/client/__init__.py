"""TimescaleDBClient: a thin facade over recording and analytics, one module per topic."""

from .facade import ReadingClient, TimescaleDBClient, runtime_for

__all__ = ["ReadingClient", "TimescaleDBClient", "runtime_for"]
