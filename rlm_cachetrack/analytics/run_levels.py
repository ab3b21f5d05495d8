"""Cost, calls and hit rate of one run by recursion depth, and by subtree of its recursion levels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import Table

from .run_report import run_bounds

if TYPE_CHECKING:
    from rlm_cachetrack.store import PostgresStore

LevelGrouping = Literal["depth", "subtree"]

_SUMMED = (
    "total_interactions",
    "failed_interactions",
    "unpriced_interactions",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "rated_cached_tokens",
    "reported_prompt_tokens",
    "total_cost",
    "original_cost",
    "compared_cost",
)


class RunLevel(TypedDict):
    """The calls of a run at one depth, or of one recursion level and all levels below it.

    ``depth`` is 0 for the run itself; ``level`` is the id of the recursion level, None when grouped by depth.
    ``levels`` counts the recursion levels. Costs: USD over the priced calls; ``cost_share`` and ``cache_hit_rate`` 0-1.
    """

    depth: int | None
    level: str | None
    model_type: str | None
    levels: int
    total_interactions: int
    failed_interactions: int
    unpriced_interactions: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_cached_tokens: int
    cache_hit_rate: float | None
    total_cost: float | None
    cost_savings: float | None
    cost_share: float | None


def run_levels(store: PostgresStore, query_id: str, run_id: datetime, by: LevelGrouping = "depth") -> Table[RunLevel]:
    """Return the calls of one run by depth, or by subtree: each level followed by the levels below it.

    Blocks for two queries.

    Args:
        store: The store to read.
        query_id: The query.
        run_id: The run of the query.
        by: ``depth``, whose rows add up to the run; or ``subtree``, whose rows include the levels below.

    Raises:
        ConfigError: ``by`` is neither of these.
    """
    if by not in ("depth", "subtree"):
        raise ConfigError(f"by={by!r}: expected depth or subtree")
    rows = store.query("run_levels", **run_bounds(store, query_id, run_id))
    total = sum(row["total_cost"] or 0.0 for row in rows)
    groups = _by_depth(rows) if by == "depth" else _by_subtree(rows)
    found = [_level(head, level, members, total) for head, level, members in groups]
    return Table(found, columns=tuple(RunLevel.__annotations__))


_Group = tuple[dict[str, Any], str | None, list[dict[str, Any]]]


def _by_depth(rows: Iterable[dict[str, Any]]) -> Iterator[_Group]:
    depths: dict[int | None, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        depths[row["depth"]].append(row)
    for depth in sorted(depths, key=lambda depth: (depth is None, depth)):
        kinds = {row["model_type"] for row in depths[depth]}
        yield {"depth": depth, "model_type": kinds.pop() if len(kinds) == 1 else None}, None, depths[depth]


def _by_subtree(rows: Iterable[dict[str, Any]]) -> Iterator[_Group]:
    rows = list(rows)
    below: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    known = {row["recursion_id"] for row in rows}
    for row in rows:
        parent = row["parent_recursion_id"]
        below[parent if parent in known and parent != row["recursion_id"] else None].append(row)
    waiting = [*reversed(below[None])]
    while waiting:  # not recursive: the depth of a run is not limited
        head = waiting.pop()
        members, open_levels = [], [head]
        while open_levels:
            member = open_levels.pop()
            members.append(member)
            open_levels += below[member["recursion_id"]] if member["recursion_id"] is not None else []
        yield head, head["recursion_id"], members
        if head["recursion_id"] is not None:
            waiting += reversed(below[head["recursion_id"]])


def _level(head: dict[str, Any], level: str | None, members: list[dict[str, Any]], total: float) -> RunLevel:
    sums: dict[str, Any] = {}
    for name in _SUMMED:
        values = [member[name] for member in members if member[name] is not None]
        sums[name] = sum(values) if values else None
    reported = sums["reported_prompt_tokens"]
    compared = sums["compared_cost"]
    return {
        "depth": head["depth"],
        "level": level,
        "model_type": head["model_type"],
        "levels": len({member["recursion_id"] for member in members}),
        "total_interactions": sums["total_interactions"],
        "failed_interactions": sums["failed_interactions"],
        "unpriced_interactions": sums["unpriced_interactions"],
        "total_prompt_tokens": sums["prompt_tokens"] or 0,
        "total_completion_tokens": sums["completion_tokens"] or 0,
        "total_cached_tokens": sums["cached_tokens"] or 0,
        "cache_hit_rate": (sums["rated_cached_tokens"] or 0) / reported if reported else None,
        "total_cost": sums["total_cost"],
        "cost_savings": None if compared is None else sums["original_cost"] - compared,
        "cost_share": sums["total_cost"] / total if total and sums["total_cost"] is not None else None,
    }
