"""The writer thread: journal events become rows, rows are stored in batches."""

from . import diagnostics
from .dead_letter_retry import RetriedDeadLetters, retry_dead_letters
from .price_updates import stored_price_list
from .registry import Registry, flush, runtimes, shutdown, stats
from .runtime import FLUSH_TIMEOUT_S, Runtime

__all__ = [
    "FLUSH_TIMEOUT_S",
    "Registry",
    "RetriedDeadLetters",
    "Runtime",
    "diagnostics",
    "flush",
    "retry_dead_letters",
    "runtimes",
    "shutdown",
    "stats",
    "stored_price_list",
]
