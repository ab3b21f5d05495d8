"""The keys that several results share. Costs: USD over the priced calls; ``*_ms``: milliseconds."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict


class RunKey(TypedDict):
    """The query and the start of a run, which identify it."""

    query_id: str
    run_id: datetime


class CallCounts(TypedDict):
    """The number of calls, by their cache use; ``unpriced_interactions`` used tokens and have no cost."""

    total_interactions: int
    interactions_with_cache: int
    interactions_without_cache: int
    interactions_not_reported: int
    unpriced_interactions: int


class UsageFigures(CallCounts):
    """The figures of any group of calls; means are over the calls that have the value."""

    failed_interactions: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_cost: float | None
    original_cost: float | None
    cost_savings: float | None
    avg_duration_ms: float | None
    avg_time_to_first_token_ms: float | None


class ListedRun(RunKey):
    """The figures of a run in a list of runs.

    ``state`` is the status, but ``never completed`` for a run whose end is not stored and that made no call for an
    hour: its process was killed or is waiting, or its calls were made outside any run. ``cache_hit_rate`` is 0-1.
    ``success``, ``score`` and ``outcome_label`` are its outcome, None if not recorded; ``tags`` are those of the run.
    """

    start_time: datetime
    end_time: datetime | None
    status: str
    state: str
    total_interactions: int
    failed_interactions: int
    total_prompt_tokens: int
    total_completion_tokens: int
    cache_hit_rate: float | None
    total_cost: float | None
    cost_savings: float | None
    success: bool | None
    score: float | None
    outcome_label: str | None
    tags: dict[str, str] | None
