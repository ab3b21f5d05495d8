"""What groups of runs achieved and cost, on PostgreSQL and, if it is available, on TimescaleDB."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError
from tests.support.client_calls import T0

# agent, model, solved, score, cost in USD, cost with nothing cached
RUNS = [
    ("small", "model-a", True, 0.8, 0.10, 0.40),
    ("small", "model-a", False, 0.2, 0.30, 0.40),
    ("small", "model-a", None, None, 0.05, 0.05),
    ("large", "model-b", True, 0.9, 1.00, 1.50),
    ("large", "model-b", True, 0.7, 2.00, 2.50),
    ("poor", "model-b", False, 0.1, 1.20, 1.20),
    (None, "model-a", None, None, 0.02, 0.02),
]


def fill(db: TimescaleDBClient) -> None:
    for number, (agent, model, solved, score, cost, original) in enumerate(RUNS):
        run_id = T0 + timedelta(hours=number)
        db.initialize_query_run("bench", run_id, None if agent is None else {"agent": agent, "deep": {"er": number}})
        db.record_llm_interaction(
            LLMInteractionRecord(
                "bench",
                run_id,
                model,
                prompt_tokens=1_000,
                completion_tokens=100,
                cached_tokens=500,
                total_cost=cost,
                original_cost=original,
                start_time=run_id,
                end_time=run_id + timedelta(seconds=10),
            )
        )
        db.complete_query_run("bench", run_id)
        if solved is not None or score is not None:
            db.record_outcome("bench", run_id, solved, score)
    assert db.flush()


def groups(db: TimescaleDBClient, by: str, **more: Any) -> dict[str | None, Any]:
    return {group["group"]: group for group in db.get_experiments(by, **more)}


def test_the_cost_per_success_includes_the_failed_runs(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
        found = groups(db, "metadata.agent")
    assert set(found) == {"small", "large", "poor", None}
    small = found["small"]
    assert (small["runs"], small["judged_runs"], small["successful_runs"]) == (3, 2, 1)
    assert small["success_rate"] == 0.5
    assert small["avg_score"] == pytest.approx(0.5)
    assert small["total_cost"] == pytest.approx(0.45)
    assert small["avg_cost"] == pytest.approx(0.15)
    assert small["avg_original_cost"] == pytest.approx(0.85 / 3)
    assert small["cost_savings"] == pytest.approx(0.40)
    assert small["cost_per_success"] == pytest.approx(0.40)  # 0.10 + 0.30 for one success; the third is not judged
    assert small["tokens_per_success"] == pytest.approx(2_200)
    assert small["cache_hit_rate"] == pytest.approx(0.5)
    large = found["large"]
    assert (large["cost_per_success"], large["success_rate"]) == (pytest.approx(1.50), 1.0)
    assert large["cost_per_success_low"] == pytest.approx(1.00)
    assert large["cost_per_success_high"] == pytest.approx(2.00)
    assert found["poor"]["cost_per_success"] is None  # nothing was solved
    assert found[None]["success_rate"] is None  # nothing was judged


def test_groups_that_no_other_beats_are_on_the_pareto_front(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
        found = groups(db, "metadata.agent")
    # small: 0.15 USD for a score of 0.5; large: 1.50 for 0.8; poor: 1.20 for 0.1, which small beats in both
    assert {name for name, group in found.items() if group["is_pareto"]} == {"small", "large"}


def test_runs_are_grouped_by_model_query_tag_and_nested_metadata(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
        assert {name: group["runs"] for name, group in groups(db, "model").items()} == {"model-a": 4, "model-b": 3}
        assert {name: group["runs"] for name, group in groups(db, "query").items()} == {"bench": 7}
        assert set(groups(db, "metadata.deep.er")) == {"0", "1", "2", "3", "4", "5", None}
        assert set(groups(db, "tag:user")) == {None}
        recent = groups(db, "query", since=T0 + timedelta(hours=5), until=T0 + timedelta(hours=6))
        assert recent["bench"]["total_cost"] == pytest.approx(1.20)
        with pytest.raises(ConfigError, match="by='agent': expected query, model"):
            db.get_experiments("agent")


def test_a_comparison_of_groups_includes_their_outcomes(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
        runs = [("bench", T0 + timedelta(hours=number)) for number in range(7)]
        found = {metric["name"]: metric for metric in db.compare_runs(runs[:3], runs[3:5])["metrics"]}
        assert (found["success_rate"]["a"], found["success_rate"]["b"]) == (0.5, 1.0)
        assert found["score"]["difference"] == pytest.approx(0.3)
        unjudged = {metric["name"] for metric in db.compare_runs(runs[2], runs[6])["metrics"]}
    assert not unjudged & {"success_rate", "score"}


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--db-url", url], env={"COLUMNS": "140"})


def test_experiments_on_the_command_line(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
    printed = run(db_url, "experiments", "--by", "metadata.agent")
    assert printed.exit_code == 0
    small = next(line for line in printed.stdout.splitlines() if " small " in line)
    assert small.startswith("*")
    assert "50.0%" in small
    assert "$0.40" in small
    assert "2 runs without an outcome" in printed.stdout
    found = json.loads(run(db_url, "experiments", "--by", "model", "--json").stdout)
    assert [group["group"] for group in found] == ["model-a", "model-b"]
    assert run(db_url, "experiments", "--by", "nothing").exit_code == 2


def test_an_outcome_is_recorded_on_the_command_line(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
    assert run(db_url, "outcome", "bench", "--failure", "--label", "timeout").exit_code == 0
    assert run(db_url, "outcome", "bench@2026-03-01T14", "--success", "--score", "1").exit_code == 0
    with TimescaleDBClient(db_url) as db:
        found = groups(db, "label")
        assert (found["timeout"]["judged_runs"], found["timeout"]["successful_runs"]) == (1, 0)
        assert groups(db, "metadata.agent")["small"]["successful_runs"] == 2
    assert run(db_url, "outcome", "bench").exit_code == 2
    assert run(db_url, "outcome", "nowhere", "--success").exit_code == 1
