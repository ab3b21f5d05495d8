"""Process-level building blocks: error reports, fork hooks, locked files, ids, signal-safe events, Ctrl-C."""

from . import guard, locked_files
from .ctrl_c import CtrlC, handle_ctrl_c, is_ctrl_c_pressed
from .exit_time import exit_time_s
from .fork_gate import no_fork
from .http_client import import_httpx2
from .ids import is_named, new_id, number_of, uuid7
from .signal_event import SignalSafeEvent

__all__ = [
    "CtrlC",
    "SignalSafeEvent",
    "exit_time_s",
    "guard",
    "handle_ctrl_c",
    "import_httpx2",
    "is_ctrl_c_pressed",
    "is_named",
    "locked_files",
    "new_id",
    "no_fork",
    "number_of",
    "uuid7",
]
