"""Pages of the reference agree with the program: commands, results, settings."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient, config, instrument, query_run
from rlm_cachetrack.analytics.alerts import rules
from rlm_cachetrack.cli import app
from rlm_cachetrack.config import Settings
from rlm_cachetrack.simulator import SimulatedEndpoint

from . import command_line_page, results_page
from .blocks import PAGES as PAGES_OF_DOCS
from .pages import PAGES, REFERENCE, out_of_date
from .result_types import keys_of, result_types, typed_dicts

PACKAGE = Path(__file__).resolve().parents[2] / "rlm_cachetrack"


def test_generated_pages_are_up_to_date() -> None:
    assert out_of_date() == [], "run `make pages`"


def test_the_command_line_page_has_every_command_and_option() -> None:
    text = next(page for page in PAGES if page.name == "command-line.md").read_text(encoding="utf-8")
    assert text.count("\n### ") > 35
    for words in ("### budget set", "`--min-hit-rate", "`--db-url URL`", "### journal dead-letters"):
        assert words in text


def test_every_key_of_every_result_has_a_meaning() -> None:
    known = typed_dicts()
    results = [*result_types(), "UsageGroup"]
    missing = [
        f"{name}.{key}" for name in results for key in keys_of(known[name]) if not results_page.meaning(name, key)
    ]
    assert missing == [], "add them to tests/docs/result_keys.yaml"
    assert len(results) > 35


def test_every_described_key_exists() -> None:
    known = typed_dicts()
    used = {key for name in [*result_types(), "UsageGroup"] for key in keys_of(known[name])} | {
        *results_page.RUN_SUMMARY
    }
    assert {name.rpartition(".")[2] for name in results_page.MEANINGS} <= used


def test_the_page_on_misses_shows_the_hit_rates_of_the_demo(db_url: str) -> None:
    run = CliRunner().invoke(app, ["demo", "--json", "--db-url", db_url])
    assert run.exit_code == 0, run.output
    shown = CliRunner().invoke(app, ["explain", "--db-url", db_url], env={"COLUMNS": "200"})
    (rates,) = (line.split(maxsplit=2)[2] for line in shown.output.splitlines() if line.startswith("hit rate"))
    assert f"`{rates}`" in (PACKAGE.parent / "docs" / "how-to" / "explain.md").read_text(encoding="utf-8")


def test_results_have_the_described_keys(endpoint: SimulatedEndpoint, db_url: str) -> None:
    from openai import OpenAI

    known = typed_dicts()
    client = instrument(OpenAI(base_url=endpoint.base_url, api_key="any"), store=db_url)
    with query_run("keys") as run:
        client.chat.completions.create(model="gpt-5.4", messages=[{"role": "user", "content": "hello"}])
    with TimescaleDBClient(db_url) as db:
        key = (run.query_id, run.run_id)
        db.set_budget(10.0)
        found = {
            "TokenCacheSummary": db.get_token_cache_summary(*key),
            "TokenCacheOptimization": db.get_token_cache_optimization(*key),
            "ModelEffectiveness": db.get_cache_effectiveness_by_model()[0],
            "RunListing": db.list_query_runs()[0],
            "CacheExplanation": db.explain_cache("keys"),
            "Experiment": db.get_experiments("query")[0],
            "Forecast": db.forecast_cost(),
            "BudgetCheck": db.check_budget(),
            "WhatIf": db.what_if(to_model="gpt-5.4-mini"),
            "LatencyDividend": db.get_latency_dividend(),
            "RunLevel": db.get_run_levels(*key)[0],
        }
        for name, result in found.items():
            assert list(result or {}) == list(keys_of(known[name])), name
        assert list(db.get_query_run_summary(*key) or {}) == list(results_page.RUN_SUMMARY)
        assert list(db.get_usage("model")[0]) == ["model", *keys_of(known["UsageGroup"])]


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table under a heading of the settings page, by their first cell."""
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    rows = [line.strip("| ").split(" | ") for line in text.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in rows}


def test_the_settings_page_has_every_variable_of_the_package() -> None:
    named = {
        found
        for path in PACKAGE.rglob("*.py")
        for found in re.findall(r"\b(?:RLM_CACHETRACK|TIMESCALE)_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    declared = {value for name, value in vars(config).items() if name.startswith("ENV_")}
    assert declared <= named
    assert set(table("Environment variables")) == named


def test_the_settings_page_has_the_defaults_of_the_settings() -> None:
    rows = table("Environment variables")
    defaults = {field.name: field.default for field in fields(Settings)}
    assert rows["RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S"][2] == f"`{defaults['shutdown_timeout_s']:g}`"
    assert rows["RLM_CACHETRACK_JOURNAL_MAX_BYTES"][2] == f"`{defaults['journal_max_bytes']}`"
    assert rows["RLM_CACHETRACK_FINGERPRINTS"][2] == f"`{int(defaults['fingerprints'])}`"
    assert rows["RLM_CACHETRACK_PRICES_UPDATE"][2] == "`off`"
    assert defaults["prices_update"] is None


def test_the_settings_page_has_the_arguments_of_instrument_and_their_defaults() -> None:
    described = {name: row[2].strip("`") for name, row in table("Arguments of `instrument`").items()}
    assert described == {name: str(one.default) for name, one in inspect.signature(instrument).parameters.items()}


@pytest.mark.parametrize("variable", ["RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "RLM_CACHETRACK_FINGERPRINTS"])
def test_a_wrong_value_is_reported_with_its_variable(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "perhaps")
    with pytest.raises(config.ConfigError, match=variable):
        config.load_settings()


def test_the_pages_are_the_same_for_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written = command_line_page.render()
    monkeypatch.setenv("COLUMNS", "40")
    assert command_line_page.render() == written


def test_the_commands_in_the_table_of_readme_exist() -> None:
    program = typer.main.get_command(app)
    context = typer.Context(program, info_name="rlm-cachetrack")
    options = {
        name: {one for parameter in command.params for one in parameter.opts}
        for name, command, _ in command_line_page.commands(program, context)
    }
    text = (PACKAGE.parent / "README.md").read_text(encoding="utf-8").partition("| question | command |")[2]
    rows = [line for line in text.partition("\n\n")[0].splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 10
    for command in (found for row in rows for found in re.findall(r"`([^`]+)`", row.split(" | ")[1])):
        if command.startswith("pip "):
            continue
        words = command.split()
        name = next((known for known in (" ".join(words[:2]), words[0], f"{words[0]} show") if known in options), None)
        assert name is not None, command
        assert {word for word in words if word.startswith("-")} <= options[name], command


def test_the_alerts_page_has_every_kind_of_rule_with_its_keys_and_defaults() -> None:
    page = (REFERENCE.parent / "how-to" / "alerts.md").read_text(encoding="utf-8")
    rows = {
        row[0].strip("`"): row[2]
        for row in (line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `"))
    }
    shared = {"name", "kind", "model", "provider", "query", "tags", "recover_below"}
    found: dict[str, str] = {}
    for rule in get_args(get_args(rules.Rule)[0]):
        (kind,) = get_args(rule.model_fields["kind"].annotation)
        keys = {name: field for name, field in rule.model_fields.items() if name not in shared}
        found[kind] = rows.get(kind, "")
        described = dict(part.strip("`").partition(": ")[::2] for part in found[kind].split(", "))
        assert set(described) <= set(keys), kind
        # `window` has no effect on budgets and journals.
        assert set(keys) - {"window"} <= set(described), kind
        for name, shown in described.items():
            default = keys[name].default
            if shown and isinstance(default, timedelta):
                assert shown == f"{default.total_seconds() / 3600:g}h"
            elif shown:
                assert shown == str(default).lower().removesuffix(".0"), (kind, name)
            else:
                assert keys[name].is_required(), (kind, name)
    assert set(found) == set(rows) - {"kind"}


def test_no_page_or_example_names_a_model_that_shuts_down() -> None:
    """OpenAI shuts these models down on 2026-12-11; the section for users of the old logger shows their old code."""
    shut_down = re.compile(r"(?<![\w./-])(?:gpt-5(?:-mini|-nano)?|o3)(?![\w*-]|\.\d)")
    files = [*PAGES_OF_DOCS, *sorted((PACKAGE.parent / "examples").rglob("*.py"))]
    found = {
        file.relative_to(PACKAGE.parent).as_posix(): shut_down.findall(
            file.read_text(encoding="utf-8").partition("## Coming from `rlm.logger`")[0]
        )
        for file in files
    }
    assert {name: models for name, models in found.items() if models} == {}
