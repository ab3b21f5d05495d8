"""Count the calls that a statement reads, from its executed plan: ``EXPLAIN (ANALYZE, FORMAT JSON)``.

Nodes that were never executed count as zero. In TimescaleDB's columnstore a node reads the batches that it
decompresses, without those excluded by their minimum and maximum values. On Citus a plan contains the
plans of all tasks, and of the subplans before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

__all__ = ["Reading", "explain", "raw_relations"]

_COLUMNAR = ("ColumnarScan", "DecompressChunk")  # DecompressChunk until TimescaleDB 2.19


@dataclass(frozen=True, slots=True)
class Reading:
    """A node of a plan that read calls.

    Attributes:
        relation: The table or chunk.
        rows: Number of calls that it read, including those that it filtered out.
        sequential: Whether it read the table without an index.
    """

    relation: str
    rows: int
    sequential: bool


def raw_relations(connection: psycopg.Connection[Any]) -> frozenset[str]:
    """Return the names of the table of calls, of its chunks on TimescaleDB, and of its shards on Citus."""
    found = {"llm_interactions"}
    if connection.execute("SELECT FROM pg_extension WHERE extname = 'citus'").fetchone() is not None:
        shards = connection.execute(
            "SELECT shardid::text FROM pg_dist_shard WHERE logicalrelid = 'llm_interactions'::regclass"
        )
        found.update(f"llm_interactions_{row[0]}" for row in shards.fetchall())
    there = connection.execute("SELECT to_regclass('timescaledb_information.chunks') IS NOT NULL").fetchone()
    if there and there[0]:
        chunks = connection.execute(
            "SELECT chunk_name::text FROM timescaledb_information.chunks WHERE hypertable_name = 'llm_interactions'"
        )
        found.update(row[0] for row in chunks.fetchall())
    return frozenset(found)


def explain(
    connection: psycopg.Connection[Any], statement: str, parameters: Mapping[str, Any], raw: frozenset[str]
) -> tuple[list[Reading], dict[str, Any]]:
    """Return what a statement read of the calls, and its plan; its changes are rolled back."""
    with connection.transaction(force_rollback=True):
        connection.execute(
            "SELECT set_config('citus.explain_all_tasks', 'on', TRUE)"
        )  # by default, it explains one task
        # With server-side parameters, Citus would explain a generic plan, which it never uses.
        row = (
            psycopg.ClientCursor(connection)
            .execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", parameters)  # type: ignore[arg-type]
            .fetchone()
        )
    assert row is not None
    (plan,) = row[0]
    return list(_readings(plan["Plan"], raw)), plan["Plan"]


def _readings(node: dict[str, Any], raw: frozenset[str]) -> Iterator[Reading]:
    children = [*node.get("Plans", []), *_of_tasks(node.get("Distributed Query"))]
    loops = node.get("Actual Loops", 0)
    if loops and node.get("Relation Name") in raw:
        rows = loops * sum(
            node.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        )
        if node.get("Custom Plan Provider") in _COLUMNAR:
            yield Reading(node["Relation Name"], round(rows), any("Seq Scan" in c["Node Type"] for c in children))
            return
        if (
            node["Node Type"].endswith("Scan") and node["Node Type"] != "Custom Scan"
        ):  # the children of ChunkAppend read
            yield Reading(node["Relation Name"], round(rows), node["Node Type"] == "Seq Scan")
    for child in children:
        yield from _readings(child, raw)


def _of_tasks(part: Any) -> Iterator[dict[str, Any]]:
    """Yield the plans of the tasks and subplans of a distributed query."""
    if isinstance(part, list):
        for one in part:
            yield from _of_tasks(one)
    elif isinstance(part, dict):
        for name, inner in part.items():
            if name == "Plan":
                yield inner
            else:
                yield from _of_tasks(inner)
