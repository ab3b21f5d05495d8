"""Export calls from a store to a file, a few rows at a time, so that memory use does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from .export_formats import Format, open_writer

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_ROWS = 500


def count_exported(
    store: PostgresStore,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    query_id: str | None = None,
    model: str | None = None,
) -> int:
    """Return how many calls :func:`export_calls` writes with the same filters. Blocks for one query."""
    filters: dict[str, Any] = {"since": since, "until": until, "query_id": query_id, "model": model}
    return int(store.query("export_count", **filters)[0]["interactions"])


def export_calls(
    store: PostgresStore,
    file: BinaryIO,
    form: Format = "jsonl",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    query_id: str | None = None,
    model: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write calls to ``file``, oldest first. Blocks; memory use does not grow with their number.

    Args:
        store: The store to read.
        file: A file open for binary writing; it stays open.
        form: ``csv``, ``jsonl`` or ``parquet``.
        since: Only calls at or after this time.
        until: Only calls before this time.
        query_id: Only calls of this query.
        model: Only calls of this model.
        progress: Called with the number of calls written so far, after each part.

    Returns:
        The number of calls written.

    Raises:
        ConfigError: The format is unknown, or it is Parquet and pyarrow is not installed.
        StoreError: The database failed; the file is incomplete.
    """
    filters: dict[str, Any] = {"since": since, "until": until, "query_id": query_id, "model": model}
    writer = open_writer(form, file)
    done = 0
    for rows in store.stream("export_interactions", _ROWS, **filters):
        writer.write({**row, "interaction_id": str(row["interaction_id"])} for row in rows)
        done += len(rows)
        progress(done)
    writer.close()
    return done
