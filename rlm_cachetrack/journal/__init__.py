"""The durable queue on disk between the calling thread and the writer thread."""

from .call_event import FIELDS, encode, kept_ms, told_apart
from .dead_letters import DeadLetter, DeadLetters, offer_again
from .journal import Batch, Journal, journal_files, named, survey

__all__ = [
    "FIELDS",
    "Batch",
    "DeadLetter",
    "DeadLetters",
    "Journal",
    "encode",
    "journal_files",
    "kept_ms",
    "named",
    "offer_again",
    "survey",
    "told_apart",
]
