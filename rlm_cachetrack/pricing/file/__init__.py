"""Read, validate and compile the YAML pricing file."""

from .loader import read_pricing

__all__ = ["read_pricing"]
