"""Alert rules over the stored calls: read the rules, evaluate them, and notify of changes."""

from .evaluation import Reading, backlog_reading, evaluate
from .rules import AlertFile, JournalBacklog, read_alerts
from .states import AlertChange, AlertState, alert_states, state_name, update_states

__all__ = [
    "AlertChange",
    "AlertFile",
    "AlertState",
    "JournalBacklog",
    "Reading",
    "alert_states",
    "backlog_reading",
    "evaluate",
    "read_alerts",
    "state_name",
    "update_states",
]
