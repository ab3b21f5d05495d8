"""Export calls from a store to a file, a few rows at a time, so that memory use does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Unpack

from rlm_cachetrack.analytics.filters import CallFilters, query_parameters

from .export_formats import Format, open_writer

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_ROWS = 500


def count_exported(store: PostgresStore, **filters: Unpack[CallFilters]) -> int:
    """Return how many calls :func:`export_calls` writes with the same filters. Blocks for one query."""
    return int(store.query("export_count", **query_parameters(filters))[0]["interactions"])


def export_calls(
    store: PostgresStore,
    file: BinaryIO,
    form: Format = "jsonl",
    *,
    progress: Callable[[int], object] = lambda _: None,
    **filters: Unpack[CallFilters],
) -> int:
    """Write calls to ``file``, oldest first. Blocks; memory use does not grow with their number.

    Args:
        store: The store to read.
        file: A file open for binary writing; it stays open.
        form: ``csv``, ``jsonl`` or ``parquet``.
        progress: Called with the number of calls written so far, after each part.
        filters: See :class:`.CallFilters`.

    Returns:
        The number of calls written.

    Raises:
        ConfigError: The format is unknown, or it is Parquet and pyarrow is not installed.
        StoreError: The database failed; the file is incomplete.
    """
    chosen = query_parameters(filters)
    writer = open_writer(form, file)
    done = 0
    for rows in store.stream("export_interactions", _ROWS, **chosen):
        writer.write({**row, "interaction_id": str(row["interaction_id"])} for row in rows)
        done += len(rows)
        progress(done)
    writer.close()
    return done
