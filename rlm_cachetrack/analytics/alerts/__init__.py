"""Alert rules over the stored calls: read the rules, evaluate them, and notify of changes."""

from .evaluation import Reading, evaluate
from .rules import AlertFile, read_alerts
from .states import AlertChange, AlertState, alert_states, state_name, update_states

__all__ = [
    "AlertChange",
    "AlertFile",
    "AlertState",
    "Reading",
    "alert_states",
    "evaluate",
    "read_alerts",
    "state_name",
    "update_states",
]
