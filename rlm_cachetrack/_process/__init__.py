"""Process-level building blocks: guarding user code from our failures, fork hooks, locked files, signal-safe events."""

from .http_client import import_httpx2
from .signal_event import Event

__all__ = [
    "Event",
    "import_httpx2",
]
