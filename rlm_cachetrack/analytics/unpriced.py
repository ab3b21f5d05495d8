"""Unpriced calls: their models, and the reasons."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

from rlm_cachetrack.pricing import reason_unpriced, remedy

from .filters import CallFilters, query_parameters

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore


class UnpricedModel(TypedDict):
    """Calls of one model, provider and service tier that are unpriced for one reason.

    Attributes:
        model: The model.
        provider: The provider, None if unknown.
        service_tier: The served tier, None if not reported.
        unpriced_reason: The reason as stored with the calls.
        unit: How calls without tokens are billed: by ``seconds``, ``characters``, ``images``, ``pages`` or
            ``text_messages``; None: by tokens.
        reason: The reason as a clause, with details about the model.
        remedy: The words after ``rlm-cachetrack`` of the command that gives them a price; ``USD`` and ``FACTOR`` stand
            for what to fill in. Empty if no price is missing.
        interactions: The number of calls.
        tokens: Their prompt and completion tokens.
        last_time: When the newest of them began.
    """

    model: str
    provider: str | None
    service_tier: str | None
    unpriced_reason: str | None
    unit: str | None
    reason: str
    remedy: list[str]
    interactions: int
    tokens: int
    last_time: datetime


def unpriced_models(store: PostgresStore, **filters: Unpack[CallFilters]) -> list[UnpricedModel]:
    """Return the models of unpriced calls, most calls first, at most 1,000 rows. Blocks for one query."""
    rows = store.query("unpriced_models", **query_parameters(filters))
    return [cast("UnpricedModel", {**row, "reason": reason_unpriced(row), "remedy": list(remedy(row))}) for row in rows]
