"""The pricing file: which entry applies and when, discounts, the schema, changes, and the prices commands."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from rlm_cachetrack.cli import app
from rlm_cachetrack.errors import PricingError
from rlm_cachetrack.pricing import price_book as pricing
from rlm_cachetrack.pricing.file import loader as _pricing_file
from rlm_cachetrack.pricing.price_book import PriceBook
from rlm_cachetrack.usage.reading import TokenUsage
from tests.unit.pricing.samples import HEAD, NOW, TEN_MISTAKES, prompt_price, usd


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


# -- which entry ------------------------------------------------------------------------------------------------------


def test_exact_names_precede_prefixes_and_prefixes_precede_expressions(book: Any) -> None:
    prices = book(
        HEAD + "  /house-.*/: {prompt: 1, completion: 1}\n"
        "  house-*: {prompt: 2, completion: 1}\n"
        "  house-big-*: {prompt: 3, completion: 1}\n"
        "  house-big-1: {prompt: 4, completion: 1}\n"
        "  /other-(a|b)/: {prompt: 5, completion: 1}\n"
    )
    names = ["house-big-1", "house-big-1-2026-01-31", "house-big-2", "house-small", "other-a", "other-ab", "a-other-a"]
    assert [prompt_price(prices, name) for name in names] == [4, 4, 3, 2, 5, None, None]


def test_a_prefix_for_one_provider_leaves_the_table_to_the_others(book: Any) -> None:
    prices = book(HEAD + "  'gpt-5*': {provider: azure, prompt: 99, completion: 1}\n")
    assert prompt_price(prices, "gpt-5-mini", provider="azure") == 99
    assert prompt_price(prices, "gpt-5-mini", provider="openai") == 0.25


def test_one_model_may_have_prices_for_several_providers(book: Any) -> None:
    prices = book(
        HEAD + "  m:\n"
        "    - {provider: azure, prompt: 1, completion: 1}\n"
        "    - {provider: openai, prompt: 2, completion: 1}\n"
        "    - {prompt: 3, completion: 1}\n"
    )
    assert [prompt_price(prices, "m", provider=p) for p in ("azure", "openai", "groq", None)] == [1, 2, 3, 3]


def test_prices_of_two_providers_leave_a_call_of_an_unknown_one_unpriced(book: Any) -> None:
    prices = book(
        HEAD + "  m: [{provider: azure, prompt: 1, completion: 1}, {provider: openai, prompt: 2, completion: 1}]\n"
    )
    assert prompt_price(prices, "m", provider=None) is None


def test_an_alias_finds_prefixes_and_may_be_one(book: Any) -> None:
    prices = book(
        HEAD + "  team-*: {alias: house-7}\n  house-*: {prompt: 2, completion: 1}\n  'gpt-5*': {alias: gpt-4o}\n"
    )
    assert prompt_price(prices, "team-a") == 2
    assert prompt_price(prices, "gpt-5-mini", provider="openai") == 2.5  # the table's gpt-4o


def test_a_dated_alias_takes_the_prices_of_the_model_of_the_day(book: Any) -> None:
    prices = book(
        HEAD + "  prod:\n    - {alias: gpt-4o, valid_to: 2026-06-01}\n    - {alias: gpt-4.1, valid_from: 2026-06-01}\n"
    )
    assert prompt_price(prices, "prod", provider="azure", at=datetime(2026, 5, 31, 23, 59, tzinfo=UTC)) == 2.5
    assert prompt_price(prices, "prod", provider="azure", at=datetime(2026, 6, 1, tzinfo=UTC)) == 2.0


def test_the_first_expression_that_matches_a_name_prices_it(book: Any) -> None:
    found = book(
        HEAD + "  /ours-a.*/: {prompt: 1, completion: 1}\n"
        "  /ours-.*/: {prompt: 2, completion: 1}\n"
        "  /ours-b.*/: {prompt: 3, completion: 1}\n"
    )
    assert [prompt_price(found, name) for name in ("ours-a-1", "ours-b-1", "other")] == [1, 2, None]


def test_an_expression_for_another_provider_leaves_the_call_to_the_next(book: Any) -> None:
    found = book(
        HEAD + "  /ours-.*/: {provider: azure, prompt: 1, completion: 1}\n"
        "  /.*-small/: {provider: openai, prompt: 2, completion: 1}\n"
    )
    assert [prompt_price(found, "ours-small", provider=name) for name in ("azure", "openai")] == [1, 2]


# -- dates and prompt sizes -------------------------------------------------------------------------------------------


def test_a_price_changes_at_its_moment(book: Any) -> None:
    prices = book(
        HEAD + "  m:\n"
        "    - {valid_to: 2026-03-01, prompt: 1, completion: 1}\n"
        "    - {valid_from: 2026-03-01, valid_to: '2026-03-02T12:00+01:00', prompt: 2, completion: 1}\n"
        "    - {valid_from: 2026-03-05, prompt: 3, completion: 1}\n"
    )

    def at(*moment: int, offset: int = 0) -> float | None:
        return prompt_price(prices, "m", at=datetime(*moment, tzinfo=timezone(timedelta(hours=offset))))

    assert at(2026, 2, 28, 23, 59, 59) == 1
    assert at(2026, 3, 1, 0, 30, offset=1) == 1  # still February in UTC
    assert at(2026, 3, 1) == 2
    assert at(2026, 3, 2, 10, 59) == 2
    assert at(2026, 3, 2, 11, 0) is None  # no price is listed in between
    assert at(2026, 3, 3, 9, 0) is None
    assert at(2026, 3, 4, 23, 59) is None
    assert at(2026, 3, 5) == 3
    assert at(2026, 3, 1, 15) == 2  # the second look-up reads the cache


def test_outside_the_dates_of_an_entry_the_table_applies(book: Any) -> None:
    # The table: o3 costs 10 until 2025-06-10, then 2.
    prices = book(HEAD + "  o3: {valid_from: 2026-01-01, valid_to: 2026-02-01, prompt: 7, completion: 1}\n")

    def at(*moment: int) -> float | None:
        return prompt_price(prices, "o3", provider="openai", at=datetime(*moment, tzinfo=UTC))

    assert [at(2025, 6, 9), at(2025, 6, 10), at(2025, 12, 31), at(2026, 1, 1), at(2026, 2, 1)] == [10, 2, 2, 7, 2]


def test_a_long_prompt_has_the_price_of_its_size_for_the_whole_call(book: Any) -> None:
    prices = book(
        HEAD + "  m:\n    prompt: 2\n    cached: 0.2\n    completion: 10\n"
        "    above: {200_000: {prompt: 4, cached: 0.4, completion: 15}, 1000000: {prompt: 8, completion: 30}}\n"
        "    tiers:\n      flex: 0.5\n      batch: {prompt: 1, completion: 5, above: "
        "{200000: {prompt: 3, completion: 6}}}\n"
    )

    def total(prompt: int, tier: str | None = None) -> float | None:
        usage = TokenUsage(prompt_tokens=prompt, completion_tokens=1_000, cached_tokens=100_000)
        return prices.cost(usage, model="m", service_tier=tier, at=NOW).total_cost

    assert total(200_000) == usd(0.2 + 0.02 + 0.01)  # 100,000 x 2 + 100,000 x 0.2 + 1,000 x 10
    assert total(200_001) == usd(0.400004 + 0.04 + 0.015)  # 100,001 x 4 + 100,000 x 0.4 + 1,000 x 15
    assert total(1_000_001) == usd(7.200008 + 0.8 + 0.03)  # no cached price: 1,000,001 x 8 + 1,000 x 30
    assert total(200_001, "flex") == usd((0.400004 + 0.04 + 0.015) / 2)
    assert total(200_001, "batch") == usd(0.600003 + 0.006)  # 200,001 x 3 + 1,000 x 6
    assert total(200_000, "batch") == usd(0.2 + 0.005)


# -- discounts --------------------------------------------------------------------------------------------------------


def test_a_discount_applies_to_all_prices_of_its_provider_and_is_in_the_source(book: Any) -> None:
    prices = book(HEAD + "  house: {prompt: 10, cached: 1, completion: 20}\ndiscounts: {azure: 0.8}\n")
    usage = TokenUsage(prompt_tokens=10_000, completion_tokens=500, cached_tokens=8_000)
    table = prices.cost(usage, model="gpt-5", provider="azure", at=NOW)
    assert table.total_cost == usd(0.0085 * 0.8)  # (2,000 x 1.25 + 8,000 x 0.125 + 500 x 10) x 0.8
    assert table.original_cost == usd(0.0175 * 0.8)
    assert re.fullmatch(r"yaml:[0-9a-f]{8}\+genai-prices:[\d.]+", table.price_source or "")
    own = prices.cost(usage, model="house", provider="azure-openai", at=NOW)
    assert own.total_cost == usd((0.02 + 0.008 + 0.01) * 0.8)  # 2,000 x 10 + 8,000 x 1 + 500 x 20
    assert re.fullmatch(r"yaml:[0-9a-f]{8}", own.price_source or "")
    assert prices.cost(usage, model="gpt-5", provider="openai", at=NOW).total_cost == usd(0.0085)


def test_a_discount_may_begin_and_end(book: Any) -> None:
    prices = book(
        HEAD + "  m: {prompt: 10, completion: 1}\n"
        "discounts:\n  openai:\n"
        "    - {factor: 0.9, valid_to: 2026-01-01}\n"
        "    - {factor: 0.5, valid_from: 2026-02-01}\n"
    )
    at = [datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)]
    assert [prompt_price(prices, "m", provider="openai", at=moment) for moment in at] == [
        pytest.approx(9),
        pytest.approx(10),
        pytest.approx(5),
    ]


def test_a_discount_does_not_touch_a_cost_that_the_provider_returned(book: Any) -> None:
    prices = book("version: 1\nper: 1M\nmodels: {}\ndiscounts: {openrouter: 0.5}\n")
    usage = TokenUsage(prompt_tokens=100, completion_tokens=1, cached_tokens=0, provider_cost_usd=0.25)
    cost = prices.cost(usage, model="openai/gpt-5", provider="openrouter", at=NOW)
    assert (cost.total_cost, cost.price_source) == (0.25, "provider")


# -- the schema, the example ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Any:
    return json.loads(pricing.schema_path().read_text())


def test_the_shipped_schema_is_that_of_the_models(schema: Any) -> None:
    assert schema == _pricing_file.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)


def uncommented() -> str:
    lines = [line for line in pricing.example().splitlines() if not line.lstrip().startswith("##")]
    return "\n".join(re.sub(r"^( *)# ", r"\1", line) for line in lines)


def test_the_example_is_valid_also_with_everything_uncommented(book: Any, schema: Any) -> None:
    assert prompt_price(book(pricing.example()), "our-own-model") == 0.2
    full = book(uncommented())
    assert prompt_price(full, "llama-3.1-8b", provider="vllm") == 0.1
    assert prompt_price(full, "gpt-4.1", provider="openai") == pytest.approx(1.8 * 0.85)
    for text in (pricing.example(), uncommented()):
        # An editor reads dates and names as text.
        jsonschema.validate(json.loads(json.dumps(yaml.safe_load(text), default=str)), schema)


@pytest.mark.parametrize(
    "mistake",
    [
        {"prompt": -1, "completion": 1},
        {"prompt": 1, "completion": 1, "cashed": 1},
        {"prompt": 1},
        {"prompt": 1, "completion": 1, "tiers": {"flx": 1}},
        {"prompt": 1, "completion": 1, "cached": None},
        {"alias": "a", "prompt": 1},
        {"prompt": 1, "completion": 1, "above": {"272K": {"prompt": 1, "completion": 1}}},
        {"prompt": 1, "completion": 1, "tiers": {"flex": {"prompt": 1, "completion": 1, "above": {"many": {}}}}},
        [],
    ],
)
def test_the_schema_rejects_mistakes(schema: Any, mistake: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1, "per": "1M", "models": {"m": mistake}}, schema)


# -- changes of the file ----------------------------------------------------------------------------------------------


def test_a_price_book_is_reloaded_only_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(HEAD + "  m: {prompt: 1, completion: 1}\n")
    first = PriceBook.load(path)
    assert first.refreshed() is first
    path.write_text(HEAD + "  m: {prompt: 22, completion: 1}\n")
    second = first.refreshed()
    assert (prompt_price(first, "m"), prompt_price(second, "m")) == (1, 22)
    replaced = tmp_path / "new.yaml"
    replaced.write_text(HEAD + "  m: {prompt: 33, completion: 1}\n")
    os.utime(replaced, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # with the same size and time
    replaced.replace(path)
    assert prompt_price(second.refreshed(), "m") == 33


def test_a_mistake_in_a_changed_file_is_raised_once_and_the_old_prices_stay(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(HEAD + "  m: {prompt: 1, completion: 1}\n")
    book = PriceBook.load(path)
    path.write_text(HEAD + "  m: {prompt: none, completion: 1}\n")
    with pytest.raises(PricingError, match="is none"):
        book.refreshed()
    assert book.refreshed() is book
    path.unlink()
    with pytest.raises(PricingError, match="no such file"):
        book.refreshed()
    path.write_text(HEAD + "  m: {prompt: 5, completion: 1}\n")
    assert prompt_price(book.refreshed(), "m") == 5


# -- the commands -----------------------------------------------------------------------------------------------------


def test_prices_shows_the_prices_of_a_model_and_their_source(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(HEAD + "  house: {prompt: 3, cached: 0.3, completion: 12, tiers: {batch: 0.5}}\n")
    result = cli("prices", "house", "gpt-5.4", "--provider", "openai", "--at", "2026-11-01", "--pricing", str(path))
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["house", "default", "$3.00", "$0.30", "$3.00", "$12.00"] in rows
    assert ["house", "batch", "$1.50", "$0.15", "$1.50", "$6.00"] in rows
    source = re.search(r"^from +(yaml:[0-9a-f]{8}): house$", result.stdout, re.MULTILINE)
    assert source
    assert re.search(r"^from +genai-prices:[0-9.]+: gpt-5\.4$", result.stdout, re.MULTILINE)
    long = next(row for row in rows if row[:3] == ["gpt-5.4", "default", "272,000"])
    assert (long[3], long[4], long[6]) == ("$5.00", "$0.50", "$22.50")
    facts = json.loads(cli("prices", "--json", "--pricing", str(path)).stdout)
    assert [model["model"] for model in facts["models"]] == ["house"]
    assert facts["models"][0]["prices"][0] == {
        "service_tier": "default",
        "above_prompt_tokens": 0,
        "prompt": 3.0,
        "cached": 0.3,
        "cache_write": 3.0,
        "completion": 12.0,
        "price_source": source[1],
    }


def test_prices_shows_prompt_sizes_and_sources_on_a_narrow_terminal(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "version: 1\nper: 1M\nmodels:\n"
        "  house: {prompt: 1, cached: 0.125, completion: 10, above: {272000: {prompt: 2, completion: 15}}}\n"
    )
    shown = CliRunner().invoke(app, ["prices", "house", "--pricing", str(path)], env={"COLUMNS": "60"}).stdout
    assert "272,000" in shown
    assert re.search(r"from +yaml:[0-9a-f]{8}: house", shown)


def test_prices_shows_further_components_and_factors() -> None:
    arguments = ("prices", "gpt-6.1-terra", "--provider", "openai")
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "250"}).stdout
    line = next(line for line in shown.splitlines() if line.startswith("also"))
    for expected in ("cache_write_12h $2.50", "file_search $0.0025 per use", "other regions x 1.1", "window 8h x 0.6"):
        assert expected in line
    facts = json.loads(cli(*arguments, "--tier", "flex", "--json").stdout)["models"][0]["prices"][0]
    assert facts["further_tokens"] == {"cache_write_12h": 1.25}
    assert facts["per_use"]["web_search"] == 0.01
    assert (facts["regions"], facts["windows"]) == ({"*": 1.1}, {"2h": 0.7, "8h": 0.6})


def test_prices_of_an_unknown_model_exits_with_1_and_says_what_to_do() -> None:
    result = cli("prices", "no-such-model")
    assert result.exit_code == 1
    assert "no price is known for no-such-model" in result.stderr
    assert "prices init" in result.stderr


def test_prices_of_an_unlisted_tier_names_the_tier() -> None:
    result = cli("prices", "gpt-5", "--provider", "openai", "--tier", "flexx")
    assert result.exit_code == 1
    assert "no price is known for gpt-5 at flexx" in result.stderr


def test_prices_check_lists_every_mistake_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(TEN_MISTAKES)
    result = cli("prices", "check", str(path))
    assert result.exit_code == 1
    assert result.stderr.count("; expected ") == 13
    facts = json.loads(cli("prices", "check", "--json", str(path)).stdout)
    assert (facts["ok"], len(facts["mistakes"])) == (False, 13)
    path.write_text(pricing.example())
    fine = cli("prices", "check", str(path))
    assert (fine.exit_code, fine.stderr) == (0, "")
    assert "No mistakes: prices.yaml (1 model, " in fine.stdout


def test_prices_init_writes_a_valid_file_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("prices", "init").exit_code == 0
    path = tmp_path / "rlm_cachetrack.yaml"
    assert cli("prices", "check", str(path)).exit_code == 0
    schema = re.search(r"\$schema=file://(\S+)", path.read_text())
    assert schema is not None
    assert json.loads(Path(schema[1]).read_text())["title"] == "Prices of rlm_cachetrack"
    path.write_text("mine")
    again = cli("prices", "init")
    assert again.exit_code == 2
    assert path.read_text() == "mine"
    assert cli("prices", "init", "--force").exit_code == 0
    assert cli("prices", "check", str(path)).exit_code == 0
    assert cli("prices", "init", "-").stdout == path.read_text()
