"""The writer thread: journal events become rows, rows are stored in batches."""

from .runtime import flush, shutdown, stats

__all__ = [
    "flush",
    "shutdown",
    "stats",
]
