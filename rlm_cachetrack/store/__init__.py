"""PostgreSQL: connections, COPY, migrations, engines. The only package that knows psycopg."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .postgres import PostgresStore
    from .session import Session

__all__ = [
    "PostgresStore",
    "Session",
]


def __getattr__(name: str) -> Any:
    # psycopg is imported by the first use of the store, not by an import of the embedded server.
    if name in ("PostgresStore", "Session"):
        module = "postgres" if name == "PostgresStore" else "session"
        return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
