"""Helpers for the columnstore of TimescaleDB."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg

__all__ = ["to_columnstore"]


def to_columnstore(connection: psycopg.Connection[Any], older_than: str | None = None) -> int:
    """Move chunks of calls to the columnstore, as the policy does later, and return the number of chunks.

    Args:
        connection: In autocommit mode.
        older_than: An interval: only chunks that end before ``now()`` minus this interval. None: every chunk.
    """
    query = "SELECT c::text FROM show_chunks('llm_interactions', older_than => %s::interval) AS c"
    chunks = connection.execute(query, [older_than]).fetchall()
    for chunk in chunks:
        # The policy runs in the background. If it moves the chunk while this statement waits for the lock,
        # TimescaleDB raises this error in spite of if_not_columnstore.
        with contextlib.suppress(psycopg.errors.DuplicateObject):
            connection.execute("CALL convert_to_columnstore(%s::regclass, if_not_columnstore => TRUE)", chunk)
    return len(chunks)
