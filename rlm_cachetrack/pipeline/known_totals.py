"""Leave out totals that are stored already: a batch or a turn may be retrieved by several processes."""

from __future__ import annotations

from dataclasses import replace

from rlm_cachetrack.records import COLUMNS, RecordBatch, RecordSink

TOTAL_APIS = frozenset(("batches", "evals", "agents"))
"""The APIs whose records are totals that a server summed up."""

_API, _ID, _TIME, _MODEL = (COLUMNS.index(name) for name in ("api", "response_id", "time", "model"))


def without_known_totals(batch: RecordBatch, sink: RecordSink) -> RecordBatch:
    """Return the batch without totals that are stored, or whose calls are stored. Blocks for a query if needed.

    Raises:
        StoreError: The store failed.
    """
    totals = [row for row in batch.interactions if row[_API] in TOTAL_APIS and row[_ID] is not None]
    if not totals:
        return batch
    from rlm_cachetrack.store import PostgresStore  # imports psycopg

    if not isinstance(sink, PostgresStore):
        return batch
    sink.open()
    ids, times = [row[_ID] for row in totals], [row[_TIME] for row in totals]
    known = {(row["response_id"], row["model"]) for row in sink.query_as_writer("totals_stored", ids=ids, times=times)}
    kept = [
        row
        for row in batch.interactions
        if row[_API] not in TOTAL_APIS or not {(row[_ID], row[_MODEL]), (row[_ID], None)} & known
    ]
    return replace(batch, interactions=kept)
