"""Outcomes and costs of groups of runs, on PostgreSQL and, if it is available, on TimescaleDB."""

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


def test_costs_beside_an_outcome_are_those_of_the_runs_with_it(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
        db.record_outcome("bench", T0 + timedelta(hours=2), score=0.5)  # the third run of small: a score, not judged
        assert db.flush()
        found = groups(db, "metadata.agent")
    small = found["small"]
    assert (small["judged_runs"], small["scored_runs"]) == (2, 3)
    assert small["avg_judged_cost"] == pytest.approx(0.20)  # 0.10 + 0.30
    assert small["avg_judged_original_cost"] == pytest.approx(0.40)
    assert small["avg_judged_cost_low"] == pytest.approx(0.10)
    assert small["avg_judged_cost_high"] == pytest.approx(0.30)
    assert small["avg_scored_cost"] == pytest.approx(0.15)
    assert small["avg_scored_original_cost"] == pytest.approx(0.85 / 3)
    assert small["avg_judged_cost"] <= small["cost_per_success"]
    nobody = found[None]
    assert (nobody["judged_runs"], nobody["scored_runs"], nobody["avg_cost"]) == (0, 0, pytest.approx(0.02))
    assert (nobody["avg_judged_cost"], nobody["avg_scored_cost"]) == (None, None)


def test_a_success_without_a_price_is_not_in_the_cost_per_success(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for number, cost in enumerate([0.30, None]):
            run_id = T0 + timedelta(hours=number)
            given: dict[str, Any] = {} if cost is None else {"total_cost": cost, "original_cost": cost}
            db.record_llm_interaction(
                LLMInteractionRecord("bench", run_id, "no-such-model", prompt_tokens=10, start_time=run_id, **given)
            )
            db.record_outcome("bench", run_id, success=True)
        assert db.flush()
        found = groups(db, "query")["bench"]
    assert (found["avg_judged_cost"], found["cost_per_success"]) == (pytest.approx(0.30), pytest.approx(0.30))


def test_groups_without_a_cost_per_success_come_last(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
        found = db.get_experiments("metadata.agent")
    # small and large solved something; of the others, the run without an agent is cheaper
    assert [group["group"] for group in found] == ["small", "large", None, "poor"]


def test_a_group_names_its_query_unless_there_are_several(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db)
        assert {group["query_id"] for group in db.get_experiments("model")} == {"bench"}
        run_id = T0 + timedelta(days=1)
        db.record_llm_interaction(LLMInteractionRecord("other", run_id, "model-a", total_cost=0.5, start_time=run_id))
        db.record_outcome("other", run_id, success=True)
        assert db.flush()
        found = groups(db, "model")
    assert (found["model-a"]["query_id"], found["model-b"]["query_id"]) == (None, "bench")
    several = run(db_url, "experiments", "--by", "model").stdout
    assert "runs of several queries" in several
    assert "`--query`" in several
    for single in (["--by", "model", "--query", "bench"], ["--by", "query"]):
        assert "several queries" not in run(db_url, "experiments", *single).stdout


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
    assert "2 judged" in small
    assert "$0.20" in small  # the cost of a judged run
    assert "In groups with judged runs, cost per run and uncached cover these" in printed.stdout
    judged = run(
        db_url, "experiments", "--by", "metadata.agent", "--since", "2026-03-01T15", "--until", "2026-03-01T18"
    )
    assert "udged" not in judged.stdout.replace("covers judged runs", "")
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
