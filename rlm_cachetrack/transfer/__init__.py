"""Export calls to files and import calls from files."""

from .agent_sessions import AGENTS, Agent
from .export_formats import FORMATS, Format
from .exporting import count_exported, export_calls
from .importing import Imported, Importer, Rejected, import_file, import_sessions

__all__ = [
    "AGENTS",
    "FORMATS",
    "Agent",
    "Format",
    "Imported",
    "Importer",
    "Rejected",
    "count_exported",
    "export_calls",
    "import_file",
    "import_sessions",
]
