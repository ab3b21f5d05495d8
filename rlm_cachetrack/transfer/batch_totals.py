"""Replace the total of a batch, which ``batches.retrieve`` recorded, by the calls of its imported output file.

An output file does not name its batch. The batch is found by its id in the name of the file (``batch_…_output.jsonl``,
as OpenAI names it), or by the sums of input and output tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.usage import read_usage

if TYPE_CHECKING:
    from .importing import Importer

_ID = re.compile(r"batch_[0-9A-Za-z]{6,}")


def batch_id_in(name: str) -> str | None:
    """Return the id of the batch in the name of its output file; None if there is none."""
    found = _ID.search(name)
    return None if found is None else found[0]


class BatchCalls:
    """Adds up the calls of a batch that a file contains.

    Args:
        batch_id: The id of the batch, if it is known.
    """

    def __init__(self, batch_id: str | None) -> None:
        self._batch_id = batch_id
        self._prompt = self._completion = 0
        self._times: list[datetime] = []

    def add(self, event: Mapping[str, Any]) -> None:
        """Add a call, if it is one of a batch."""
        if (event.get("metadata") or {}).get("imported_from") != "openai-batch":
            return
        usage = read_usage(event.get("usage"))
        self._prompt += usage.prompt_tokens or 0
        self._completion += usage.completion_tokens or 0
        time = datetime.fromisoformat(event["time"])
        self._times = [min([*self._times[:1], time]), max([*self._times[1:], time])]

    def replace_total(self, importer: Importer) -> int:
        """Delete the total of the batch, if the store has it, and update the run that contained it. Blocks.

        Returns:
            The number of deleted totals.

        Raises:
            StoreError: The store failed.
        """
        if not self._times:
            return 0
        store = importer.store()
        first, last = self._times
        replaced = [row for row in store.query("batch_totals", first_time=first, last_time=last) if self._is_total(row)]
        for row in replaced:
            key = {name: row[name] for name in ("query_id", "run_id", "time", "interaction_id")}
            store.delete_call(**key)
            run_id = row["run_id"].astimezone(UTC).isoformat()
            importer.import_events([{"kind": "optimization", "query_id": row["query_id"], "run_id": run_id}])
        return len(replaced)

    def _is_total(self, row: Mapping[str, Any]) -> bool:
        if self._batch_id is not None:
            return bool(row["response_id"] == self._batch_id)
        return self._prompt > 0 and (row["prompt_tokens"], row["completion_tokens"]) == (self._prompt, self._completion)
