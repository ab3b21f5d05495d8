"""The embedded PostgreSQL server, used if no database is named."""

from .server import EmbeddedStatus, available, ensure_running, require, running_url, status, stop

__all__ = ["EmbeddedStatus", "available", "ensure_running", "require", "running_url", "status", "stop"]
