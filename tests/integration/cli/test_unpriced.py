"""``doctor``, ``models`` and the dashboard show the reason for unpriced calls, and the command that helps."""

from __future__ import annotations

import html
import json
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from tests.support.web import served

T0 = datetime(2026, 12, 1, 12, tzinfo=UTC)


def cli(*arguments: str, columns: int = 300) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)})


def record(db: TimescaleDBClient, model: str, **more: Any) -> None:
    given = {"start_time": T0, "prompt_tokens": 1_000_000, "cached_tokens": 0, "completion_tokens": 500_000}
    db.record_llm_interaction(LLMInteractionRecord("q", T0, model, **{**given, **more}))


@pytest.fixture
def stored(db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a database with priced and unpriced calls; the working directory has no pricing file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLM_CACHETRACK_PRICING", raising=False)
    with TimescaleDBClient(db_url) as db:
        record(db, "gpt-5", provider="openai")
        record(db, "gpt-9-nova", provider="openai")
        record(db, "gpt-9-nova", provider="openai")
        record(db, "gpt-5", provider="openai", service_tier="scale")
        record(db, "dall-e-3", provider="openai")
        record(db, "meta-llama/Llama-3.3-70B-Instruct")
    return db_url


EXPECTED = [
    "gpt-9-nova (openai): 2 unpriced calls, 3,000,000 tokens; no price: the price list has no model of this name",
    "prices add gpt-9-nova --provider openai --prompt USD --cached USD --completion USD --reprice`",
    "gpt-5 (openai, scale): 1 unpriced call, 1,500,000 tokens; no price for service tier scale of gpt-5",
    "--set tiers.scale=FACTOR --reprice`",
    "dall-e-3 (openai): 1 unpriced call, 1,500,000 tokens; no price: billed by the image or the second of video",
    "meta-llama/Llama-3.3-70B-Instruct (unknown): 1 unpriced call, 1,500,000 tokens; no price: its provider is not",
    "prices update --reprice`",
]


@pytest.mark.parametrize("command", ["doctor", "models"])
def test_why_calls_are_unpriced_and_which_command_helps(stored: str, command: str) -> None:
    result = cli(command, "--db-url", stored)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for expected in EXPECTED:
        assert expected in text


def health_page(url: str) -> str:
    with served(url) as address, urllib.request.urlopen(f"{address}/health", timeout=180) as answer:
        return html.unescape(answer.read().decode())


def test_the_page_health_counts_the_unpriced_calls_of_all_time(stored: str) -> None:
    with TimescaleDBClient(stored) as db:
        nothing = {"prompt_tokens": None, "cached_tokens": None, "completion_tokens": None}
        record(db, "gpt-9-nova", provider="openai", success=False, **nothing)  # a failed call that used nothing
        assert db.flush()
    assert "5 calls have no known cost" in health_page(stored)


@pytest.mark.parametrize(
    ("models", "words"), [([], "every call has a cost"), (["gpt-9-nova"], "1 call has no known cost")]
)
def test_the_page_health_says_whether_every_call_has_a_cost(db_url: str, models: list[str], words: str) -> None:
    with TimescaleDBClient(db_url) as db:
        for model in ["gpt-5", *models]:
            record(db, model, provider="openai")
        assert db.flush()
    assert words in health_page(db_url)


def test_doctor_has_the_reasons_as_json(stored: str) -> None:
    found = json.loads(cli("doctor", "--json", "--db-url", stored).stdout)["database"]["unpriced_models"]
    rows = {row["model"]: row for row in found}
    assert (rows["gpt-9-nova"]["interactions"], rows["gpt-9-nova"]["tokens"]) == (2, 3_000_000)
    assert rows["gpt-9-nova"]["unpriced_reason"] == "no price for gpt-9-nova (provider openai)"
    assert rows["gpt-5"]["service_tier"] == "scale"


def test_models_without_unpriced_calls_says_nothing_of_them(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        record(db, "gpt-5", provider="openai")
    assert "unpriced" not in cli("models", "--db-url", db_url).stdout.replace("Unpriced", "")


def test_the_range_of_models_selects_the_unpriced_calls(stored: str) -> None:
    assert "gpt-9-nova" not in cli("models", "--since", "2026-12-02", "--db-url", stored).stdout
    with TimescaleDBClient(stored) as db:
        assert db.list_unpriced_models(until=T0) == []
        assert len(db.list_unpriced_models(since=T0)) == 4


def test_a_call_without_reported_usage_needs_no_price(db_url: str) -> None:
    with TimescaleDBClient(db_url) as db:
        record(db, "gpt-5", provider="openai", prompt_tokens=None, cached_tokens=None, completion_tokens=None)
    text = " ".join(cli("doctor", "--db-url", db_url).stdout.split())
    assert "no token usage" in text
    assert "prices add" not in text


def test_one_command_gives_the_calls_a_price(stored: str, tmp_path: Path) -> None:
    arguments = ["--provider", "openai", "--prompt", "3", "--cached", "0.3", "--completion", "12", "--reprice"]
    result = cli("prices", "add", "gpt-9-nova", *arguments, "--db-url", stored)
    assert result.exit_code == 0, result.output
    assert "2 stored calls priced" in result.stdout
    assert (tmp_path / "rlm_cachetrack.yaml").exists()
    with TimescaleDBClient(stored) as db:
        costs = {call["model"]: call["total_cost"] for call in db.get_llm_interactions("q", T0)}
        assert costs["gpt-9-nova"] == pytest.approx(3 + 6)
        assert [row["model"] for row in db.list_unpriced_models()] == [
            "dall-e-3", "gpt-5", "meta-llama/Llama-3.3-70B-Instruct",
        ]  # fmt: skip


NO_TOKENS = {"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None}
AUDIO = {"audio_prompt_tokens": 1_000, "audio_completion_tokens": 500}


@pytest.mark.parametrize(
    ("model", "fields", "keys"),
    [
        ("gpt-4o-audio-preview", {"token_details": AUDIO}, ["audio.prompt=USD", "audio.completion=USD"]),
        ("gpt-5.4", {"tool_usage": {"deep_dive": 2}}, ["tools.deep_dive=USD"]),
        ("gpt-5.4", {"request_options": {"completion_window": "2h"}}, ["windows.2h=FACTOR"]),
        ("gpt-5.4", {"request_options": {"speed": "fast"}}, ["speeds.fast=FACTOR"]),
        (
            "gpt-5.4",
            {"cache_write_tokens": 1_000, "token_details": {"cache_write_1h_tokens": 1_000}},
            ["cache_write_1h=USD"],
        ),
        ("sora-2", {**NO_TOKENS, "token_details": {"seconds": 8}}, ["per_second=USD"]),
        ("gpt-9-voice", {**NO_TOKENS, "token_details": {"characters": 800}}, ["per_1m_characters=USD"]),
        ("dall-e-3", {**NO_TOKENS, "token_details": {"images": 2}}, ["per_image=USD"]),
        ("gpt-9-reader", {**NO_TOKENS, "token_details": {"pages": 2}}, ["per_page=USD"]),
        ("gpt-9-voice", {**NO_TOKENS, "token_details": {"text_messages": 2}}, ["per_text_message=USD"]),
        ("gpt-4o-mini-tts", {**NO_TOKENS, "token_details": {"seconds": 8}}, ["per_second=USD"]),
    ],
)
def test_one_command_prices_a_missing_component(
    db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, fields: dict[str, Any], keys: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLM_CACHETRACK_PRICING", raising=False)
    with TimescaleDBClient(db_url) as db:
        record(db, model, **{"provider": "openai", "prompt_tokens": 10_000, "completion_tokens": 1_000, **fields})
        (unpriced,) = db.list_unpriced_models()
        words = unpriced["remedy"]
    sets = [word for key in keys for word in ("--set", key)]
    assert words == ["prices", "add", model, "--provider", "openai", *sets, "--reprice"]
    filled = [word.replace("USD", "2").replace("FACTOR", "0.7") for word in words]
    result = cli(*filled, "--db-url", db_url)
    assert "1 stored call priced" in result.stdout, result.output
    with TimescaleDBClient(db_url) as db:
        assert db.list_unpriced_models() == []


def test_the_models_page_lists_unpriced_calls(stored: str) -> None:
    def page(address: str, query: str) -> str:
        with urllib.request.urlopen(f"{address}/models?{query}", timeout=180) as answer:
            return html.unescape(answer.read().decode())

    with served(stored) as address:
        text = page(address, "range=all")
        assert "the price list has no model of this name at openai" in text
        assert "rlm-cachetrack prices add gpt-9-nova --provider openai" in text
        table = page(address, "range=all&model=gpt-9-nova")
        assert "gpt-9-nova" in table
        assert "prices add dall-e-3" not in table
