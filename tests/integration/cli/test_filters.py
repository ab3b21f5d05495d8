"""The same filters on every reading command: time, model, provider, query and tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError
from tests.support.clock import today

RUNS = {
    "alpha": {"model": "big", "provider": "openai", "tags": {"user": "u1"}, "first_day": 6, "calls": 2},
    "beta": {"model": "small", "provider": "azure", "tags": {"user": "u2"}, "first_day": 3, "calls": 3},
}
FILTERS = {
    "model": ("--model", "big", "small"),
    "provider": ("--provider", "openai", "azure"),
    "query": ("--query", "alpha", "beta"),
    "tag": ("--tag", "user=u1", "user=u2"),
}


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"})


@pytest.fixture(scope="module")
def day() -> datetime:
    """Return the beginning of the day on which all tests of this module run."""
    return today(timedelta(minutes=5))


@pytest.fixture(scope="module")
def stored(module_db_url: str, day: datetime) -> str:
    with TimescaleDBClient(module_db_url) as db:
        for query_id, run in RUNS.items():
            for number in range(run["calls"]):
                begun = day - timedelta(days=run["first_day"]) + timedelta(hours=1)
                record = LLMInteractionRecord(
                    query_id,
                    begun,
                    run["model"],
                    provider=run["provider"],
                    tags=run["tags"],
                    iteration=number + 1,
                    prompt_tokens=2_000,
                    completion_tokens=100,
                    cached_tokens=1_000,
                    total_cost=0.01,
                    original_cost=0.02,
                    prompt_token_price=0.01,
                    cached_token_price=0.001,
                    completion_token_price=0.02,
                    duration_ms=500,
                    start_time=begun + timedelta(minutes=number),
                )
                db.record_llm_interaction(record)
            db.complete_query_run(query_id, begun)
    return module_db_url


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["query_id"] for row in rows}


def calls(of: str) -> int:
    return int(RUNS[of]["calls"])


# What a command returns as JSON, and what it must return for the calls of one query.
COMMANDS: dict[str, tuple[Callable[[Any], Any], Callable[[str], Any]]] = {
    "runs": (ids, lambda of: {of}),
    "top": (ids, lambda of: {of}),
    "experiments": (lambda rows: [row["group"] for row in rows], lambda of: [of]),
    "experiments --by model": (lambda rows: [row["group"] for row in rows], lambda of: [RUNS[of]["model"]]),
    "models": (
        lambda rows: [(row["model"], row["total_interactions"], row["avg_cost_per_interaction"]) for row in rows],
        lambda of: [(RUNS[of]["model"], calls(of), pytest.approx(0.01))],
    ),
    "usage --by provider --range all": (
        lambda rows: [(row["provider"], row["total_interactions"]) for row in rows],
        lambda of: [(RUNS[of]["provider"], calls(of))],
    ),
    "latency": (lambda found: found["partly_cached_calls"] + found["unmatched_calls"], calls),
    "what-if --hit-rate 80%": (
        lambda found: [row["model"] for row in found["by_model"]],
        lambda of: [RUNS[of]["model"]],
    ),
    "forecast": (lambda found: found["history_days"], lambda of: RUNS[of]["first_day"]),
    "show": (lambda found: found["run"]["query_id"], str),
    "explain": (lambda found: found["query_id"], str),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", FILTERS)
def test_every_reading_command_has_the_same_filters(command: str, name: str, stored: str) -> None:
    read, wanted = COMMANDS[command]
    option, *values = FILTERS[name]
    query_id, value = list(zip(RUNS, values, strict=True))[list(FILTERS).index(name) % 2]
    result = cli(*command.split(), option, value, "--json", "--db-url", stored)
    assert result.exit_code == 0, result.output
    assert read(json.loads(result.stdout)) == wanted(query_id)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "forecast"])
def test_every_reading_command_selects_by_time(command: str, stored: str, day: datetime) -> None:
    read, wanted = COMMANDS[command]
    between = day - timedelta(days=4)
    for query_id, option in (("alpha", "--until"), ("beta", "--since")):
        result = cli(
            *command.replace("--range all", "").split(), option, f"{between:%Y-%m-%d}", "--json", "--db-url", stored
        )
        assert result.exit_code == 0, result.output
        assert read(json.loads(result.stdout)) == wanted(query_id), (command, option)


def test_export_and_report_have_the_same_filters(stored: str) -> None:
    for number, query_id in enumerate(RUNS):
        for option, *values in FILTERS.values():
            exported = cli("export", option, values[number], "--db-url", stored).stdout.splitlines()
            assert [json.loads(line)["query_id"] for line in exported] == [query_id] * calls(query_id), option
            assert query_id in cli("report", option, values[number], "--db-url", stored).stdout.splitlines()[0]


def test_filters_leave_out_runs_of_a_comparison(stored: str) -> None:
    assert cli("compare", "alpha", "beta", "--db-url", stored).exit_code == 0
    refused = cli("compare", "alpha", "beta", "--model", "big", "--db-url", stored)
    assert refused.exit_code == 1
    assert "no stored run matches the filters of query 'beta'" in refused.stderr.replace("\n", " ")
    assert cli("check", "alpha@*", "--max-cost", "1", "--tag", "user=u1", "--db-url", stored).exit_code == 0
    assert cli("check", "alpha@*", "--max-cost", "1", "--tag", "user=u2", "--db-url", stored).exit_code == 1


def test_tags_can_be_combined_with_other_filters(stored: str) -> None:
    for more in (["--model", "small"], ["--tag", "user=u2"], ["--tag", "team=a"]):
        result = cli(
            "usage", "--by", "model", "--range", "all", "--tag", "user=u1", *more, "--json", "--db-url", stored
        )
        assert json.loads(result.stdout) == [] or more == ["--tag", "user=u2"]
    assert cli("runs", "--tag", "u1", "--db-url", stored).exit_code == 2


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("forecast --until 1d", "the history of a forecast always ends yesterday"),
        ("live --since 1d", "live shows today and the last hour"),
        ("reprice --tag a=b", "a re-pricing selects calls by"),
        ("reconcile costs.csv --model big", "an export covers all calls of its days"),
    ],
)
def test_a_filter_that_a_command_cannot_apply_is_refused(command: str, reason: str) -> None:
    result = cli(*command.split())
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["runs", "models", "top", "usage", "show", "explain"])
def test_nothing_matches_is_not_nothing_is_stored(command: str, stored: str) -> None:
    result = cli(command, "--model", "none-such", "--db-url", stored)
    assert "match" in result.output
    assert "is stored" not in result.output


def test_the_query_is_named_once(stored: str) -> None:
    result = cli("show", "alpha", "--query", "alpha", "--db-url", stored)
    assert (result.exit_code, "names a query, and so does --query" in result.stderr) == (2, True)


def test_the_history_of_a_forecast_begins_with_a_whole_day(stored: str, day: datetime) -> None:
    since = day - timedelta(days=5, hours=1)
    found = json.loads(cli("forecast", "--since", since.isoformat(), "--json", "--db-url", stored).stdout)
    assert found["history_days"] == 3  # the calls of beta alone: alpha's day is not whole
    with TimescaleDBClient(stored) as db, pytest.raises(ConfigError, match="until"):
        db.forecast_cost(until=day)


def test_methods_of_the_client_have_the_same_filters(stored: str) -> None:
    with TimescaleDBClient(stored) as db:
        for filters in ({"model": "big"}, {"provider": "openai"}, {"query_id": "alpha"}, {"tags": {"user": "u1"}}):
            assert ids(db.list_query_runs(**filters)) == {"alpha"}, filters  # type: ignore[arg-type]
            assert ids(db.get_top_cache_savings(**filters)) == {"alpha"}  # type: ignore[arg-type]
            assert [row["group"] for row in db.get_experiments(**filters)] == ["alpha"]  # type: ignore[arg-type]
            assert [row["model"] for row in db.get_cache_effectiveness_by_model(**filters)] == ["big"]  # type: ignore[arg-type]
            assert db.list_unpriced_models(**filters) == []  # type: ignore[arg-type]
            assert db.what_if(hit_rate=0.8, **filters)["total_interactions"] == 2  # type: ignore[arg-type]
            assert db.get_latency_dividend(**filters)["partly_cached_calls"] == 0  # type: ignore[arg-type]
