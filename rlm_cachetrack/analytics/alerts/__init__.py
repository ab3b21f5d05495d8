"""Alert rules over the stored calls: read the rules, evaluate them, and notify of changes."""

from .evaluation import Reading, evaluate
from .rules import AlertFile, read_alerts
from .states import AlertChange, update_states

__all__ = ["AlertChange", "AlertFile", "Reading", "evaluate", "read_alerts", "update_states"]
