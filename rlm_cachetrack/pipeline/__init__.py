"""The writer thread: journal events become rows, rows are stored in batches."""

from . import diagnostics
from .price_updates import stored_price_list
from .registry import Registry, flush, runtimes, shutdown, stats
from .runtime import FLUSH_TIMEOUT_S, Runtime

__all__ = [
    "FLUSH_TIMEOUT_S",
    "Registry",
    "Runtime",
    "diagnostics",
    "flush",
    "runtimes",
    "shutdown",
    "stats",
    "stored_price_list",
]
