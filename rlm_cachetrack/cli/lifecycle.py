"""``models --lifecycle``: when the models in use shut down, and what their calls would have cost on another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlm_cachetrack.formatting import NONE, clean, number, usd

from .output import Column, Figure, counted, stdout, table

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.planning.lifecycle import ModelLifecycle


def print_lifecycle(rows: Sequence[ModelLifecycle]) -> None:
    """Print one line per model, the earliest shutdown first."""
    console = stdout()
    if not rows:
        console.print("No calls to models of this provider are stored.")
        return
    columns: list[Column] = [
        Column("Model", "model", flexible=True, style="bold"),
        Figure("Calls", "total_interactions", number, optional=1),
        Column("Shuts down", lambda row: row, _shutdown),
        Figure("Cost", "total_cost", usd),
    ]
    replacement = next((row["replacement"] for row in rows if row["replacement"] is not None), None)
    if replacement is not None:
        columns += [
            Figure("Compared", "compared_cost", usd, optional=2),
            Figure(f"On {clean(replacement)}", "replacement_cost", usd),
        ]
    console.print(table(columns, rows, console.width))
    if replacement is not None:
        console.print("Compared: cost of the calls that have a price on both models.", style="dim")
    ending = [row for row in rows if row["shutdown_date"] is not None]
    if ending and replacement is None:
        console.print("--replacement MODEL shows what these calls would have cost on another model.", style="dim")


def _shutdown(row: ModelLifecycle) -> str:
    day, days = row["shutdown_date"], row["days_left"]
    if day is None or days is None:
        return NONE if row["is_listed"] else "not in the list"
    return f"{day} (in {counted(days, 'day')})" if days >= 0 else f"{day} (past)"
