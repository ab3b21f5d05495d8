"""The figures of listed runs: the stored ones of an ended run, otherwise computed from its calls."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

_COUNTS = (
    "total_interactions",
    "failed_interactions",
    "total_prompt_tokens",
    "total_completion_tokens",
    "total_cached_tokens",
)
_OTHERS = ("cache_hit_rate", "total_cost", "cost_savings")
_NO_CALLS: dict[str, Any] = {**dict.fromkeys(_COUNTS, 0), **dict.fromkeys(_OTHERS)}


def complete_figures(store: PostgresStore, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fill in figures computed from the calls for the runs that have no stored figures; return the same rows.

    Blocks for one query if there are such runs. The calls are read by a separate query, because a plan that knows
    the time range of all of them contains only the chunks of its days, however many days are stored.

    Args:
        store: The store of the runs.
        rows: Rows with the columns of ``fragments/run_figure_columns.sql``. Columns that are not figures are removed.
    """
    ranges = [(row.pop("is_stored"), row.pop("first_call"), row.pop("last_call")) for row in rows]
    counted = [(row, first, last) for row, (is_stored, first, last) in zip(rows, ranges, strict=True) if not is_stored]
    if not counted:
        return rows
    found = store.query(
        "runs_counted",
        query_ids=[row["query_id"] for row, _, _ in counted],
        run_ids=[row["run_id"] for row, _, _ in counted],
        first_calls=[first for _, first, _ in counted],
        last_calls=[last for _, _, last in counted],
        first_call=_least([first for _, first, _ in counted]),
        last_call=_greatest([last for _, _, last in counted]),
    )
    figures = {(row["query_id"], row["run_id"]): row for row in found}
    for row, _, _ in counted:
        row.update(figures.get((row["query_id"], row["run_id"]), _NO_CALLS))
    return rows


def _least(moments: list[datetime | None]) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return min(known) if len(known) == len(moments) else None


def _greatest(moments: list[datetime | None]) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return max(known) if len(known) == len(moments) else None
