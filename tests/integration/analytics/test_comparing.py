"""Comparing runs, checks for CI, and saved time, on a real PostgreSQL; the expected values are computed by hand."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, instrument, query_run
from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import ConfigError, NotStoredError
from rlm_cachetrack.simulator import SimulatedEndpoint

T0 = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
PRICES = """\
version: 1
per: 1M
models:
  big: {prompt: 10, cached: 1, cache_write: 12.5, completion: 40}
  small: {prompt: 2, cached: 0.5, completion: 8}
"""


@pytest.fixture
def db(db_url: str, tmp_path: Path) -> Any:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    with TimescaleDBClient(db_url, pricing=path) as client:
        yield client


def cli(*arguments: str, columns: int = 140) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)})


def put(
    db: TimescaleDBClient,
    query: str,
    run: datetime,
    iteration: int | None,
    prompt: int,
    cached: int | None,
    completion: int = 100,
    model: str = "big",
    **more: Any,
) -> None:
    db.record_llm_interaction(
        LLMInteractionRecord(
            query,
            run,
            model,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=cached,
            iteration=iteration,
            provider="openai",
            start_time=run + timedelta(minutes=iteration or 0),
            **more,
        )
    )


def metrics(found: Any) -> dict[str, Any]:
    return {metric["name"]: metric for metric in found["metrics"]}


# -- compare ----------------------------------------------------------------------------------------------------------


def test_runs_of_different_length_are_compared_over_common_iterations(db: TimescaleDBClient) -> None:
    for iteration, cached in ((1, 0), (2, 1500), (3, 2500)):
        put(db, "a", T0, iteration, 1000 * iteration, cached, time_to_first_token_ms=100.0 * iteration)
    for iteration, cached in ((1, 0), (2, 0)):
        put(db, "b", T0, iteration, 1000 * iteration, cached, time_to_first_token_ms=300.0)
    found = db.compare_runs("a", "b")
    assert [step["iteration"] for step in found["iterations"]] == [1, 2]
    by_name = metrics(found)
    assert by_name["cache_hit_rate"]["a"] == 0.5  # 1,500 of 3,000; the third iteration is A's alone
    assert by_name["cache_hit_rate"]["b"] == 0.0
    assert by_name["uncached_prompt_tokens"]["difference"] == 1500.0
    # A: (1,500 x 10 + 1,500 x 1 + 200 x 40) / 1M; B: (3,000 x 10 + 200 x 40) / 1M
    assert math.isclose(by_name["total_cost"]["a"], 0.0245, abs_tol=1e-12)
    assert math.isclose(by_name["total_cost"]["b"], 0.038, abs_tol=1e-12)
    assert by_name["time_to_first_token_ms"]["a"] == 150.0
    assert by_name["time_to_first_token_ms"]["b"] == 300.0
    assert by_name["total_cost"]["low"] is None
    assert found["worst_iterations"] == [2]
    assert "compared over the 2 of 3 iterations that every run has: B's run of 'b' has 2" in found["notes"]


def test_the_cost_effects_add_up_to_the_difference(db: TimescaleDBClient) -> None:
    for iteration in (1, 2):
        put(db, "a", T0, iteration, 2000, 1000)
        put(db, "b", T0, iteration, 2000, 0)
        put(db, "c", T0, iteration, 3000, 500, 400, model="small", cache_write_tokens=100)
    only_cache = db.compare_runs("a", "b")["effects"]
    assert only_cache is not None
    assert only_cache[0]["factor"] == "cache"
    assert math.isclose(only_cache[0]["effect"], 2 * 1000 * 9 / 1e6, rel_tol=1e-12)
    assert (only_cache[0]["a"], only_cache[0]["b"]) == (0.5, 0.0)
    assert all(abs(effect["effect"]) < 1e-15 for effect in only_cache[1:])
    all_at_once = db.compare_runs("a", "c")
    cost = metrics(all_at_once)["total_cost"]
    # a: 2 x (1,000 x 10 + 1,000 x 1 + 100 x 40) = 0.030; c: 2 x (2,400 x 2 + 500 x 0.5 + 100 x 2 + 400 x 8) = 0.0169
    assert math.isclose(cost["difference"], 0.0169 - 0.030, abs_tol=1e-12)
    effects = {effect["factor"]: effect["effect"] for effect in all_at_once["effects"] or []}
    assert math.isclose(math.fsum(effects.values()), cost["difference"], abs_tol=1e-12)
    assert effects["prices"] < 0 < effects["completion length"]
    assert effects["calls"] == pytest.approx(0, abs=1e-15)
    assert any(note.startswith("the models differ: big in A, small in B") for note in all_at_once["notes"])


def test_a_price_that_only_one_side_paid_is_not_a_price_difference(db: TimescaleDBClient) -> None:
    put(db, "a", T0, 1, 2000, 0)
    put(db, "b", T0, 1, 2000, 2000)
    effects = {effect["factor"]: effect["effect"] for effect in db.compare_runs("a", "b")["effects"] or []}
    assert effects["prices"] == pytest.approx(0, abs=1e-15)
    assert effects["cache"] == pytest.approx(-2000 * 9 / 1e6, rel=1e-12)


def test_a_cost_returned_by_the_provider_is_a_separate_effect(db: TimescaleDBClient) -> None:
    put(db, "a", T0, 1, 1000, 0, 0)
    put(db, "b", T0, 1, 1000, 0, 0, total_cost=0.5)
    effects = {effect["factor"]: effect["effect"] for effect in db.compare_runs("a", "b")["effects"] or []}
    assert effects["other"] == pytest.approx(0.49, abs=1e-12)


def test_groups_of_runs_have_an_interval_with_one_observation_per_run(db: TimescaleDBClient) -> None:
    for day, (a, b) in enumerate(((800, 500), (900, 400), (700, 600))):
        put(db, "a", T0 + day * DAY, 1, 1000, a)
        put(db, "b", T0 + day * DAY, 1, 1000, b)
    found = db.compare_runs([("a", T0 + day * DAY) for day in range(3)], [("b", T0 + day * DAY) for day in range(3)])
    rate = metrics(found)["cache_hit_rate"]
    assert (rate["a"], rate["b"]) == (pytest.approx(0.8), pytest.approx(0.5))
    # Both sides have the standard deviation 0.1: error sqrt(0.01/3 + 0.01/3), 4 degrees of freedom, t = 2.776.
    half = 2.7764 * math.sqrt(0.02 / 3)
    assert rate["low"] == pytest.approx(-0.3 - half, rel=0.01)
    assert rate["high"] == pytest.approx(-0.3 + half, rel=0.01)
    assert rate["clear"] is True
    assert len(found["a"]["runs"]) == 3


def test_calls_without_an_iteration_are_matched_in_their_order(db: TimescaleDBClient) -> None:
    for _ in range(3):
        for query in ("a", "b"):
            put(db, query, T0, None, 1000, 500 if query == "a" else 0)
    found = db.compare_runs("a", "b")
    assert [step["iteration"] for step in found["iterations"]] == [1, 2, 3]
    assert any("have no iteration" in note for note in found["notes"])


def test_a_figure_that_was_not_reported_is_not_zero(db: TimescaleDBClient) -> None:
    put(db, "a", T0, 1, 1000, None)
    put(db, "b", T0, 1, 1000, 500)
    rate = metrics(db.compare_runs("a", "b"))["cache_hit_rate"]
    assert rate["a"] is None
    assert rate["difference"] is None
    assert rate["b"] == 0.5


def test_unknown_runs_and_runs_on_both_sides_are_rejected(db: TimescaleDBClient) -> None:
    put(db, "a", T0, 1, 1000, 0)
    with pytest.raises(NotStoredError, match="no run of query 'nobody' is stored"):
        db.compare_runs("a", "nobody")
    with pytest.raises(NotStoredError, match="no calls of the run"):
        db.compare_runs("a", ("b", T0))
    with pytest.raises(ConfigError, match="on both sides"):
        db.compare_runs("a", "a")
    put(db, "a", T0 + DAY, 1, 1000, 0)
    with pytest.raises(ConfigError, match="confidence"):
        db.compare_runs(("a", T0), ("a", T0 + DAY), confidence=95)


def test_the_compare_command(db: TimescaleDBClient, db_url: str) -> None:
    for day in range(2):
        put(db, "a", T0 + day * DAY, 1, 2000, 1000)
        put(db, "b[/]\x1b[31m", T0 + day * DAY, 1, 2000, 0)
    db.flush()
    shown = cli("compare", "a", "b[/]\x1b[31m", "--db-url", db_url)
    assert shown.exit_code == 0, shown.output
    assert "\x1b" not in shown.output
    assert "hit rate" in shown.output
    assert "cache hit rate: 50.0% → 0.0%" in shown.output
    groups = json.loads(cli("compare", "a@*", "b[/]\x1b[31m@*", "--json", "--db-url", db_url).output)
    assert len(groups["a"]["runs"]) == 2
    one = json.loads(cli("compare", "a@2026-03-02", "a@2026-03-03", "--json", "--db-url", db_url).output)
    assert one["a"]["runs"][0]["run_id"].startswith("2026-03-02")
    missing = cli("compare", "a", "nobody@2026", "--db-url", db_url)
    assert missing.exit_code == 1
    narrow = cli("compare", "a", "b[/]\x1b[31m", "--db-url", db_url, columns=60)
    assert max(len(line) for line in narrow.output.splitlines()) <= 60


# -- the gate ------------------------------------------------------------------------------------------------------


def two_runs(db: TimescaleDBClient) -> None:
    """The new run costs 0.0145 + 0.0141, the baseline 0.015 twice; hit rates 0.55 and 0.5."""
    for iteration in (1, 2):
        put(db, "base", T0, iteration, 2000, 1000)
        put(db, "new", T0 + DAY, iteration, 2000, 1100)


def test_check_passes_and_fails_by_its_exit_code(db: TimescaleDBClient, db_url: str) -> None:
    two_runs(db)
    db.flush()
    beside = ("--baseline", "base", "--max-cost-delta", "5%", "--db-url", db_url)
    good = cli("check", "new", "--min-hit-rate", "55%", *beside)
    assert good.exit_code == 0, good.output
    bad = cli("check", "base", "--min-hit-rate", "0.6", "--db-url", db_url)
    assert bad.exit_code == 1
    assert "hit rate is 50.0% (limit: at least 60.0%)" in bad.output
    # base costs 0.030, new 0.0282: 6.38% above.
    dearer = cli("check", "base", "--baseline", "new", "--max-cost-delta", "5%", "--json", "--db-url", db_url)
    assert dearer.exit_code == 1
    (check,) = json.loads(dearer.output)["checks"]
    assert check["value"] == pytest.approx((0.030 - 0.0282) / 0.0282, rel=1e-9)
    assert cli("check", "base", "--baseline", "new", "--max-cost-delta", "7%", "--db-url", db_url).exit_code == 0
    assert cli("check", "nobody", "--min-hit-rate", "0.6", "--db-url", db_url).exit_code == 1
    assert cli("check", "new", "--max-cost-delta", "5%", "--db-url", db_url).exit_code == 2
    assert cli("check", "new", "--db-url", db_url).exit_code == 2
    assert cli("check", "new", "--min-hit-rate", "six", "--db-url", db_url).exit_code == 2


def test_a_baseline_file_gives_the_same_result_as_the_run(db: TimescaleDBClient, db_url: str, tmp_path: Path) -> None:
    two_runs(db)
    db.flush()
    file = tmp_path / "baseline.json"
    assert cli("check", "base", "--save", str(file), "--db-url", db_url).exit_code == 0
    by_run = db.check_run("new", baseline="base", max_cost_delta="0%", max_hit_rate_drop=0, max_uncached_delta="-9%")
    by_file = db.check_run("new", baseline=file, max_cost_delta="0%", max_hit_rate_drop=0, max_uncached_delta="-9%")
    assert by_run["passed"]
    assert by_file["checks"] == by_run["checks"]
    db.delete(query_id="base")
    assert cli("check", "new", "--baseline", str(file), "--max-cost-delta", "0", "--db-url", db_url).exit_code == 0
    text = file.read_text()
    assert "base" in text
    file.write_text(text.replace('"calls"', '"cools"'))
    damaged = cli("check", "new", "--baseline", str(file), "--max-cost-delta", "0", "--db-url", db_url)
    assert damaged.exit_code == 2
    assert "damaged" in damaged.output


def test_save_does_not_overwrite_a_file_of_another_kind(db: TimescaleDBClient, db_url: str, tmp_path: Path) -> None:
    two_runs(db)
    db.flush()
    file = tmp_path / "package.json"
    file.write_text('{"name": "mine"}')
    refused = cli("check", "base", "--save", str(file), "--db-url", db_url)
    assert refused.exit_code == 2
    assert file.read_text() == '{"name": "mine"}'


def test_a_failed_check_is_not_saved_as_the_baseline(db: TimescaleDBClient, db_url: str, tmp_path: Path) -> None:
    two_runs(db)
    db.flush()
    file = tmp_path / "baseline.json"
    command = ("check", "base", "--min-hit-rate", "0.9", "--save", str(file), "--db-url", db_url)
    assert cli(*command).exit_code == 1
    assert not file.exists()


def test_a_limit_on_an_unknown_figure_fails(db: TimescaleDBClient) -> None:
    put(db, "a", T0, 1, 1000, None, model="nobody")
    found = db.check_run("a", min_hit_rate=0.1, max_cost=5)
    assert not found["passed"]
    assert [check["words"] for check in found["checks"]] == [
        "hit rate is not known (limit: at least 10.0%)",
        "cost is not known (limit: at most $5.00)",
    ]


# -- latency ---------------------------------------------------------------------------------------------------------


def test_the_time_saved_is_computed_from_comparable_calls(db: TimescaleDBClient, db_url: str) -> None:
    # Only long prompts are mostly cached, so plain averages would suggest that the cache costs time.
    for ttft in (100.0, 400.0):  # geometric mean 200
        put(db, "q", T0, 1, 16_000, 15_000, time_to_first_token_ms=ttft, duration_ms=1000.0)
    put(db, "q", T0, 2, 16_000, 0, time_to_first_token_ms=800.0, duration_ms=2000.0)
    for _ in range(5):
        put(db, "q", T0, 3, 1_000, 0, time_to_first_token_ms=50.0, duration_ms=100.0)
    put(db, "q", T0, 4, 16_000, 5_000, time_to_first_token_ms=1.0, duration_ms=1.0)
    found = db.get_latency_dividend()
    assert found["compared_calls"] == 3
    assert found["unmatched_calls"] == 5
    assert found["partly_cached_calls"] == 1
    first = found["time_to_first_token"]
    assert first["cached_ms"] == pytest.approx(200)
    assert first["uncached_ms"] == pytest.approx(800)
    assert first["saved_ms"] == pytest.approx(600)
    assert first["saved_percentage"] == pytest.approx(75)
    assert found["saved_total_ms"] == pytest.approx(2000)
    (row,) = found["rows"]
    assert row["prompt_tokens_from"] <= 16_000 <= row["prompt_tokens_to"]
    # One degree of freedom: the variance is that of the two cached calls, ln 100 and ln 400.
    error = math.sqrt((2 * math.log(2) ** 2) * (1 / 2 + 1))
    half = math.tan(math.pi * 0.475) * error
    assert first["low_percentage"] == pytest.approx(100 * (1 - math.exp(math.log(0.25) + half)), rel=1e-6)
    shown = cli("latency", "--db-url", db_url)
    assert shown.exit_code == 0
    assert "200 ms cached, 800 ms uncached: 75.0% less; too few calls for an interval" in shown.output
    effect = "The effect of a cached prompt on the time to first token is not clear: 200 ms with it, 800 ms without."
    assert " ".join(shown.output.split()).startswith(effect)


def test_calls_that_are_slower_with_a_cached_prompt_are_called_slower(db: TimescaleDBClient, db_url: str) -> None:
    for late in range(10):
        put(db, "q", T0, 1, 16_000, 15_000, duration_ms=4990.0 + 2 * late)  # geometric mean about 5 s
        put(db, "q", T0, 2, 16_000, 0, duration_ms=3990.0 + 2 * late)  # about 4 s
    shown = cli("latency", "--db-url", db_url)
    assert shown.exit_code == 0, shown.output
    assert "5.0 s cached, 4.0 s uncached: 25.0% slower (95% interval: 24.8% to 25.2%)" in " ".join(shown.output.split())
    assert "in total 10.0 s longer" in " ".join(shown.output.split())
    longer = "With a cached prompt the duration is 25.0% longer: 5.0 s instead of 4.0 s."
    assert " ".join(shown.output.split()).startswith(longer)


def test_an_interval_of_time_saved_that_contains_zero_names_both_directions(db: TimescaleDBClient, db_url: str) -> None:
    for early, late in ((900.0, 1000.0), (1100.0, 900.0), (1000.0, 1200.0)):
        put(db, "q", T0, 1, 16_000, 15_000, duration_ms=early)
        put(db, "q", T0, 2, 16_000, 0, duration_ms=late)
    shown = " ".join(cli("latency", "--db-url", db_url).output.split())
    assert re.search(r"less \(95% interval: \d+\.\d% slower to \d+\.\d% less\)", shown), shown
    assert shown.startswith("The effect of a cached prompt on the duration is not clear: ")
    assert "shorter" not in shown


def test_streamed_calls_are_not_compared_with_others(db: TimescaleDBClient) -> None:
    put(db, "q", T0, 1, 16_000, 15_000, time_to_first_token_ms=100.0, duration_ms=1000.0)
    put(db, "q", T0, 2, 16_000, 0, duration_ms=2000.0)
    found = db.get_latency_dividend(query_id="q")
    assert found["compared_calls"] == 0
    assert found["saved_total_ms"] is None
    assert found["notes"] == ["no cached call has a comparable uncached call: same model, similar prompt length"]


def test_miss_reasons_explain_the_difference_between_fingerprinted_runs(db_url: str) -> None:
    long = "All that the model must know of the matter. " * 150
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for query, stamp, calls in (("steady", 0, 4), ("stamped", 100, 5), ("stamped", 200, 4)):
            with query_run(query) as run:
                for number in run.iterations(range(calls)):
                    system = f"{query} {stamp + number if stamp else 0}. {long}"
                    messages: list[Any] = [{"role": "system", "content": system}, {"role": "user", "content": "And?"}]
                    client.chat.completions.create(model="gpt-4.1", messages=messages)
    with TimescaleDBClient(db_url) as db:
        runs = [("stamped", each["run_id"]) for each in db.list_query_runs() if each["query_id"] == "stamped"]
        found = db.compare_runs("steady", runs)
        explained = [db.explain_cache(*run) for run in runs]
        put(db, "by hand", T0, 1, 5000, 100)
        assert db.compare_runs("steady", "by hand")["verdicts"] is None
    lost = [
        sum(call["tokens_lost"] for call in each["interactions"] if (call["iteration"] or 0) <= 4)
        for each in explained
        if each is not None
    ]
    assert found["verdicts"] is not None
    changed = found["verdicts"][0]
    assert (changed["verdict"], changed["segment"]) == ("prefix_changed", "system prompt")
    # One run of B has a fifth call, which is not compared. The first call of each run diverges from earlier runs.
    assert (changed["calls_a"], changed["calls_b"], changed["tokens_lost_a"]) == (0, 4, 0)
    assert changed["difference"] == changed["tokens_lost_b"] == sum(lost) / 2
    assert changed["usd_lost_b"] == pytest.approx(sum(lost) / 2 * (2 - 0.5) / 1e6)
    assert found["achievable"] is not None
    assert found["achievable"]["a"] > 0.5  # type: ignore[operator]
    assert found["achievable"]["b"] > 0.5  # type: ignore[operator]
    shown = " ".join(cli("compare", "steady", "stamped@*", "--db-url", db_url).stdout.split())
    assert f"tokens lost +{changed['difference']:,.0f} prompt changed (system prompt): 0 → 4 calls per run" in shown
    assert "achievable hit rate" in shown


def test_the_newest_runs_of_each_side_are_explained(db_url: str) -> None:
    """The first call of each run diverges from earlier runs; in the oldest two of twelve the second call does, too."""
    long = "All that the model must know of the matter. " * 150
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for number in range(13):
            with query_run("one" if number == 12 else "many", T0 + DAY * number) as run:
                for step in run.iterations(range(2)):
                    system = f"{number} {step if number < 2 else 0}. {long}"
                    messages: list[Any] = [{"role": "system", "content": system}, {"role": "user", "content": "And?"}]
                    client.chat.completions.create(model="gpt-4.1", messages=messages)
    with TimescaleDBClient(db_url) as db:
        runs = [("many", T0 + DAY * number) for number in range(12)]
        oldest = db.explain_cache(*runs[1])
        assert oldest is not None
        assert [call["verdict"] for call in oldest["interactions"]] == ["prefix_changed", "prefix_changed"]
        for given in (runs, runs[::-1]):
            found = db.compare_runs(("one", T0 + DAY * 12), given)
            assert found["verdicts"] is not None
            assert [each["calls_b"] for each in found["verdicts"] if each["verdict"] == "prefix_changed"] == [1]
            assert "cache misses were explained in the newest 10 runs of each side only" in found["notes"]
