"""TimescaleDBClient: a thin facade over recording and analytics, one module per topic."""

from .facade import DashboardStore, ReadingClient, TimescaleDBClient, unopened

__all__ = [
    "DashboardStore",
    "ReadingClient",
    "TimescaleDBClient",
    "unopened",
]
