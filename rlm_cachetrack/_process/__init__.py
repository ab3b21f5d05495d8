"""Process-level building blocks: error reports, fork hooks, locked files, ids, signal-safe events."""

from . import guard, locked_files
from .exit_time import exit_time_s
from .fork_gate import no_fork
from .http_client import import_httpx2
from .ids import is_named, new_id, number_of, uuid7
from .signal_event import SignalSafeEvent

__all__ = [
    "SignalSafeEvent",
    "exit_time_s",
    "guard",
    "import_httpx2",
    "is_named",
    "locked_files",
    "new_id",
    "no_fork",
    "number_of",
    "uuid7",
]
