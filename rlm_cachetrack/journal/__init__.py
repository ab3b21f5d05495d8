"""The durable queue on disk between the calling thread and the writer thread."""

from .batch import Batch
from .call_event import FIELDS, encode, extra_columns, kept_ms, next_number, served_model
from .dead_letters import DeadLetter, DeadLetters
from .encoding import expand_event
from .inspection import JournalFile, journal_files
from .journal import Journal

__all__ = [
    "FIELDS",
    "Batch",
    "DeadLetter",
    "DeadLetters",
    "Journal",
    "JournalFile",
    "encode",
    "expand_event",
    "extra_columns",
    "journal_files",
    "kept_ms",
    "next_number",
    "served_model",
]
