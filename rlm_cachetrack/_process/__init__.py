"""Process-level building blocks: guarding user code from our failures, fork hooks, locked files, signal-safe events."""

from .import_wait import waited_for
from .signal_event import Event

__all__ = [
    "Event",
    "waited_for",
]
