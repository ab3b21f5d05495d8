"""A store in memory behind the seam that PostgreSQL stands behind, for tests whose subject is the call."""

from __future__ import annotations

import json
from typing import Any

from rlm_cachetrack import flush
from rlm_cachetrack.records import COLUMNS, RecordBatch


class MemorySink:
    """A :class:`~rlm_cachetrack.records.RecordSink` that keeps what it is given."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def store(self, batch: RecordBatch) -> None:
        """Keep the rows of a batch; one id counts once, as in the database."""
        for values in batch.interactions:
            row = dict(zip(COLUMNS, values, strict=True))
            for name in ("metadata", "usage"):
                row[name] = None if row[name] is None else json.loads(row[name])
            if row["interaction_id"] not in {known["interaction_id"] for known in self._rows}:
                self._rows.append(row)

    def close(self) -> None:
        """Nothing is open."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows of calls, keyed by the columns of ``llm_interactions``, after all that was recorded came in."""
        assert flush(10)
        return self._rows

    @property
    def row(self) -> dict[str, Any]:
        """The only row."""
        (row,) = self.rows
        return row
