"""Read, validate and compile the YAML pricing file."""

from .editing import with_entry
from .loader import read_pricing

__all__ = ["read_pricing", "with_entry"]
