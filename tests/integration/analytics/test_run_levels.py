"""A recursive run by depth and by subtree."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError
from tests.support.client_calls import T0

# level, level above, depth, cost: a root with two branches, one of which has two leaves
CALLS = [
    ("root", None, 0, 1.0),
    ("left", "root", 1, 2.0),
    ("leaf-1", "left", 2, 4.0),
    ("leaf-2", "left", 2, 8.0),
    ("right", "root", 1, 16.0),
    ("root", None, 0, 32.0),
]


@pytest.fixture
def db(db_url: str) -> Any:
    with TimescaleDBClient(db_url) as client:
        for number, (level, above, depth, cost) in enumerate(CALLS):
            client.record_llm_interaction(
                LLMInteractionRecord(
                    "q",
                    T0,
                    "m",
                    "root" if depth == 0 else "sub",
                    recursion_id=level,
                    parent_recursion_id=above,
                    current_depth=depth,
                    prompt_tokens=100,
                    cached_tokens=10 * depth,
                    total_cost=cost,
                    original_cost=cost + 1,
                    start_time=T0 + timedelta(seconds=number),
                )
            )
        client.complete_query_run("q", T0)
        yield client


def test_depths_add_up_to_the_run(db: TimescaleDBClient) -> None:
    found = db.get_run_levels("q", T0)
    assert [(row["depth"], row["levels"], row["total_interactions"], row["total_cost"]) for row in found] == [
        (0, 1, 2, 33.0),
        (1, 2, 2, 18.0),
        (2, 2, 2, 12.0),
    ]
    assert [row["cache_hit_rate"] for row in found] == [0.0, 0.1, 0.2]
    assert sum(row["cost_share"] or 0 for row in found) == pytest.approx(1)
    assert [row["cost_savings"] for row in found] == [2.0, 2.0, 2.0]


def test_a_subtree_includes_the_levels_below_it(db: TimescaleDBClient) -> None:
    found = db.get_run_levels("q", T0, by="subtree")
    assert [(row["level"], row["depth"], row["levels"], row["total_cost"]) for row in found] == [
        ("root", 0, 5, 63.0),
        ("left", 1, 3, 14.0),
        ("leaf-1", 2, 1, 4.0),
        ("leaf-2", 2, 1, 8.0),
        ("right", 1, 1, 16.0),
    ]


def test_another_grouping_is_refused(db: TimescaleDBClient) -> None:
    with pytest.raises(ConfigError, match="by='model': expected depth or subtree"):
        db.get_run_levels("q", T0, by="model")  # type: ignore[arg-type]


def test_show_by_depth_and_subtree(db: TimescaleDBClient, db_url: str) -> None:
    assert db.flush()
    printed = CliRunner().invoke(app, ["show", "q", "--by", "depth", "--db-url", db_url], env={"COLUMNS": "100"})
    assert printed.exit_code == 0
    assert "52.4%" in printed.stdout  # 33 of 63
    tree = CliRunner().invoke(app, ["show", "q", "--by", "subtree", "--json", "--db-url", db_url])
    assert [row["level"] for row in json.loads(tree.stdout)] == ["root", "left", "leaf-1", "leaf-2", "right"]
    assert CliRunner().invoke(app, ["show", "q", "--by", "x", "--db-url", db_url]).exit_code == 2
