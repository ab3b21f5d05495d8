"""The embedded PostgreSQL server, used when no database is named."""

from .server import EmbeddedStatus

__all__ = [
    "EmbeddedStatus",
]
