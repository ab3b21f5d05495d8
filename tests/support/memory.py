"""An in-memory store with the interface of the PostgreSQL store, for tests of calls."""

from __future__ import annotations

import json
from typing import Any

from rlm_cachetrack import flush
from rlm_cachetrack.records import COLUMNS, JSON_COLUMNS, RecordBatch


class MemorySink:
    """A :class:`~rlm_cachetrack.records.RecordSink` that keeps all batches in memory."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def store(self, batch: RecordBatch) -> None:
        """Keep the rows of a batch; as in the database, an id is stored once."""
        for values in batch.interactions:
            row = dict(zip(COLUMNS, values, strict=True))
            for name in JSON_COLUMNS:
                row[name] = None if row[name] is None else json.loads(row[name])
            if row["interaction_id"] not in {known["interaction_id"] for known in self._rows}:
                self._rows.append(row)

    def close(self) -> None:
        """Do nothing: the sink has no resources."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Flush, and return all calls as dicts with the columns of ``llm_interactions``."""
        assert flush(120)
        return self._rows

    @property
    def row(self) -> dict[str, Any]:
        """Return the only row."""
        (row,) = self.rows
        return row
