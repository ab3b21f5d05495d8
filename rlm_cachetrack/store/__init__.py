"""PostgreSQL: connections, COPY, migrations, engines. The only package that knows psycopg."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .postgres import PostgresStore
    from .schema_scripts import complete_sql
    from .session import Session

__all__ = [
    "PostgresStore",
    "Session",
    "complete_sql",
]

_LAZY = {"PostgresStore": "postgres", "Session": "session", "complete_sql": "schema_scripts"}


def __getattr__(name: str) -> Any:
    # psycopg is imported by the first use of the store, not by an import of the embedded server.
    if module := _LAZY.get(name):
        return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
