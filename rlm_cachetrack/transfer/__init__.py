"""Export calls to files and import calls from files."""

from .transfer import Imported

__all__ = [
    "Imported",
]
