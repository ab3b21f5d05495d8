"""Process-level building blocks: error reports, fork hooks, locked files, signal-safe events."""

from . import guard, locked_files
from .fork_gate import no_fork
from .http_client import import_httpx2
from .signal_event import SignalSafeEvent

__all__ = [
    "SignalSafeEvent",
    "guard",
    "import_httpx2",
    "locked_files",
    "no_fork",
]
