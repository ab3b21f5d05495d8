"""Alert rules over the stored calls: what to watch, whether it holds, and who is told."""

from .evaluation import Reading, evaluate
from .rules import AlertFile, read_alerts
from .states import AlertChange, update_states

__all__ = ["AlertChange", "AlertFile", "Reading", "evaluate", "read_alerts", "update_states"]
