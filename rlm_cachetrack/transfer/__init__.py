"""Export calls to files and import calls from files."""

from .export_formats import FORMATS, Format
from .exporting import count_exported, export_calls
from .importing import Imported, Importer, Rejected, import_file

__all__ = [
    "FORMATS",
    "Format",
    "Imported",
    "Importer",
    "Rejected",
    "count_exported",
    "export_calls",
    "import_file",
]
