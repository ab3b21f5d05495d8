"""When the models in use shut down, and what their calls would have cost on another model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, TypedDict

from rlm_cachetrack.pricing import snapshot_names


class ModelLifecycle(TypedDict):
    """A model in use. Costs: USD.

    Attributes:
        model: The model.
        total_interactions: Its calls.
        total_cost: Their cost, over the priced calls.
        is_listed: False if the provider does not list the model: it was shut down, or belongs to another provider.
        shutdown_date: The day on which it shuts down; None: not announced.
        days_left: Days until then, negative if it is past.
        replacement: The model whose prices ``replacement_cost`` has; None if none was named.
        compared_cost: The actual cost of the calls whose cost is known on both models.
        replacement_cost: What they would have cost on the replacement.
    """

    model: str
    total_interactions: int
    total_cost: float | None
    is_listed: bool
    shutdown_date: date | None
    days_left: int | None
    replacement: str | None
    compared_cost: float | None
    replacement_cost: float | None


def lifecycle(
    used: Iterable[Mapping[str, Any]],
    provider: str,
    shutdown_dates: Mapping[str, date | None],
    replacement: str | None,
    what_if: Callable[[str], Mapping[str, Any]],
) -> list[ModelLifecycle]:
    """Return the models in use, the earliest shutdown first.

    Args:
        used: Calls and cost by ``model`` and ``provider``, as from ``get_usage``.
        provider: The provider of the list.
        shutdown_dates: Its models.
        replacement: A model to compare with; None for no comparison.
        what_if: Returns the cost of a model's calls on the replacement.
    """
    today = datetime.now(UTC).date()
    by_model: dict[str, tuple[int, float | None]] = {}
    for row in used:
        if not _may_be_of(row["provider"], provider):
            continue
        calls, cost = by_model.get(row["model"], (0, None))
        more = row["total_cost"]
        by_model[row["model"]] = (
            calls + row["total_interactions"],
            cost if more is None else more + (cost or 0.0),
        )
    found: list[ModelLifecycle] = []
    for model, (calls, cost) in by_model.items():
        listed = next((name for name in snapshot_names(model) if name in shutdown_dates), None)
        day = None if listed is None else shutdown_dates[listed]
        ends = day is not None or listed is None
        other = what_if(model) if replacement is not None and ends and model != replacement else None
        found.append(
            {
                "model": model,
                "total_interactions": calls,
                "total_cost": cost,
                "is_listed": listed is not None,
                "shutdown_date": day,
                "days_left": None if day is None else (day - today).days,
                "replacement": replacement if other is not None else None,
                "compared_cost": None if other is None else other["actual_cost"],
                "replacement_cost": None if other is None else other["what_if_cost"],
            }
        )
    return sorted(found, key=lambda row: (row["shutdown_date"] or date.max, row["is_listed"], row["model"]))


def _may_be_of(provider: str | None, listing: str) -> bool:
    """Return True if the list can belong to the provider of the calls; an unknown provider matches any list."""
    known = provider is not None and not provider.startswith("unknown")
    return not known or listing.startswith("unknown") or provider == listing
