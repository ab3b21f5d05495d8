"""Exports of every kind of usage and cost are compared with the calls of that kind, or refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.errors import ConfigError

T0 = datetime(2026, 3, 2, tzinfo=UTC)
DAY = int(T0.timestamp())
PRICES = """\
version: 1
per: 1M
models:
  big: {prompt: 10, cached: 1, cache_write: 12.5, completion: 40}
  embed: {prompt: 0.1, completion: 0}
"""


@pytest.fixture
def db(db_url: str, tmp_path: Path) -> Any:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    with TimescaleDBClient(db_url, pricing=path) as client:
        yield client


def call(model: str, prompt: int, **more: Any) -> LLMInteractionRecord:
    given = {"cached_tokens": 0, "start_time": T0, "provider": "openai", **more}
    return LLMInteractionRecord("q", T0, model, prompt_tokens=prompt, completion_tokens=0, **given)


def export(folder: Path, *results: dict[str, Any]) -> Path:
    path = folder / "export.json"
    path.write_text(json.dumps({"object": "page", "data": [{"start_time": DAY, "results": list(results)}]}))
    return path


def usage(kind: str, **values: Any) -> dict[str, Any]:
    return {"object": f"organization.usage.{kind}.result", "num_model_requests": 1, **values}


def test_embeddings_are_compared_with_embeddings_alone(db: TimescaleDBClient, tmp_path: Path) -> None:
    db.record_llm_interaction(call("embed", 1_000, api="embeddings"))
    db.record_llm_interaction(call("big", 50_000, api="chat.completions"))
    found = db.reconcile(export(tmp_path, usage("embeddings", model="embed", input_tokens=1_000)))
    (row,) = found["rows"]
    assert (row["model"], row["recorded_tokens"], row["coverage_percentage"]) == ("embed", 1_000, 100.0)
    assert row["exported_cost"] == pytest.approx(0.0001, abs=1e-12)


def test_completions_are_compared_without_embeddings(db: TimescaleDBClient, tmp_path: Path) -> None:
    db.record_llm_interaction(call("embed", 1_000, api="embeddings"))
    db.record_llm_interaction(call("big", 3_000, api="responses.compact"))
    (row,) = db.reconcile(export(tmp_path, usage("completions", model="big", input_tokens=3_000)))["rows"]
    assert (row["model"], row["coverage_percentage"]) == ("big", 100.0)


def test_an_export_without_tokens_is_compared_by_requests(db: TimescaleDBClient, tmp_path: Path) -> None:
    db.record_llm_interaction(call("painter", 0, api="images.generate"))
    result = usage("images", model="painter", images=4) | {"num_model_requests": 2}
    (row,) = db.reconcile(export(tmp_path, result))["rows"]
    assert (row["exported_requests"], row["recorded_requests"], row["coverage_percentage"]) == (2, 1, 50.0)
    assert row["exported_cost"] is None  # images have no price here


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (usage("vector_stores", usage_bytes=5), "bytes in vector stores"),
        (usage("code_interpreter_sessions", num_sessions=5), "sessions of the code interpreter"),
        (usage("oracles", input_tokens=5), "cannot tell which calls it counts"),
    ],
)
def test_usage_that_no_call_states_is_refused(
    db: TimescaleDBClient, tmp_path: Path, result: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        db.reconcile(export(tmp_path, result))


@pytest.mark.parametrize(
    ("columns", "values", "model"),
    [
        ("num_model_requests,model,input_tokens", "1,text-embedding-3-small,1000", "text-embedding-3-small"),
        ("num_model_requests,model,input_tokens", "1,omni-moderation-latest,1000", "omni-moderation-latest"),
        ("num_model_requests,model,input_tokens,output_tokens", "1,big,1000,0", "big"),
        ("num_model_requests,model,characters", "1,tts-1,900", "tts-1"),
    ],
)
def test_the_columns_of_a_csv_file_tell_what_it_counts(
    db: TimescaleDBClient, tmp_path: Path, columns: str, values: str, model: str
) -> None:
    apis = {"text-embedding-3-small": "embeddings", "omni-moderation-latest": "moderations", "tts-1": "audio.speech"}
    for name in (*apis, "big"):
        db.record_llm_interaction(call(name, 1_000, api=apis.get(name, "responses")))
    path = tmp_path / "export.csv"
    path.write_text(f"start_time,{columns}\n{DAY},{values}\n")
    assert [row["model"] for row in db.reconcile(path)["rows"]] == [model]


def test_a_csv_file_that_does_not_tell_what_it_counts_is_refused(db: TimescaleDBClient, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(f"start_time,num_model_requests,input_tokens\n{DAY},1,1000\n")
    with pytest.raises(ConfigError, match="cannot tell which calls it counts"):
        db.reconcile(path)


def test_each_component_of_a_usage_has_its_own_price(db_url: str, tmp_path: Path) -> None:
    result = usage(
        "completions",
        model="gpt-audio-2025-08-28",
        input_tokens=1_000,
        input_audio_tokens=400,
        output_tokens=500,
        output_audio_tokens=100,
    )
    with TimescaleDBClient(db_url) as db:
        (row,) = db.reconcile(export(tmp_path, result))["rows"]
    # Text 2.50 and 10, audio 32 and 64 USD per 1M: https://developers.openai.com/api/docs/pricing, read 2026-12-01.
    # 600 x 2.5 + 400 x 32 + 400 x 10 + 100 x 64
    assert row["exported_cost"] == pytest.approx(0.0247, abs=1e-9)


def test_writes_with_long_retention_have_their_own_price(db_url: str, tmp_path: Path) -> None:
    result = usage("completions", model="gpt-6.1-terra", input_tokens=100_000, output_tokens=0)
    result |= {"input_cache_write_tokens": 100_000, "input_cache_write_12h_tokens": 60_000}
    with TimescaleDBClient(db_url) as db:
        (row,) = db.reconcile(export(tmp_path, result))["rows"]
    # Input 1 USD per 1M, 12-hour writes 2.5 times that, others 1.25 times: 60,000 x 2.5 + 40,000 x 1.25
    assert row["exported_cost"] == pytest.approx(0.2, abs=1e-9)


def costs(folder: Path, items: dict[str, float]) -> Path:
    return export(
        folder,
        *({"amount": {"value": cost, "currency": "usd"}, "line_item": item} for item, cost in items.items()),
    )


def test_hosted_tools_are_compared_with_the_charges_of_calls(db: TimescaleDBClient, tmp_path: Path) -> None:
    charges = [
        {"item": "web_search", "quantity": 2, "unit": "call", "price": 0.01, "amount": 0.02},
        {"item": "audio_prompt", "quantity": 1_000, "unit": "1K tokens", "price": 0.001, "amount": 0.001},
    ]
    db.record_llm_interaction(call("big", 1_000, total_cost=0.031, charges=charges))
    found = db.reconcile(costs(tmp_path, {"big, input": 0.011, "web search tool calls": 0.02}))
    assert [(row["model"], row["coverage_percentage"], row["unexplained_cost"]) for row in found["rows"]] == [
        ("big", 100.0, 0.0),
        ("web_search", 100.0, 0.0),
    ]


def test_fine_tuned_models_and_regions_are_compared_by_their_model(db: TimescaleDBClient, tmp_path: Path) -> None:
    db.record_llm_interaction(call("ft:gpt-4o-2024-08-06:org::id", 1_000, total_cost=0.3))
    db.record_llm_interaction(call("big", 1_000, total_cost=0.2, service_tier="priority"))
    items = {
        "ft-gpt-4o-2024-08-06, input": 0.1,
        "ft-gpt-4o-2024-08-06, output": 0.2,
        "priority | eu | big, output": 0.2,
    }
    found = db.reconcile(costs(tmp_path, items))
    assert [(row["model"], row["service_tier"], row["coverage_percentage"]) for row in found["rows"]] == [
        ("big", "priority", 100.0),
        ("ft-gpt-4o-2024-08-06", "default", 100.0),
    ]


def test_sums_of_floats_are_whole(db: TimescaleDBClient, tmp_path: Path) -> None:
    for number in range(10):
        db.record_llm_interaction(call("big", 0, total_cost=0.1, start_time=T0 + timedelta(minutes=number)))
    found = db.reconcile(costs(tmp_path, {"big, input": 1.0}))
    assert (found["coverage_percentage"], found["unexplained_cost"]) == (100.0, 0.0)


def test_an_export_of_days_without_usage_says_so(db: TimescaleDBClient, tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"object": "page", "data": [{"start_time": DAY, "results": []}], "has_more": False}))
    with pytest.raises(ConfigError, match="contains no usage and no costs"):
        db.reconcile(path)


OPENROUTER = """\
generation_id,created_at,cost_total,cost_web_search,cost_cache,tokens_prompt,tokens_completion,model_permaslug,provider_name
gen-1,2026-03-02 02:37:51.271,0.01,0,0,100,200,openai/gpt-5,OpenAI
gen-2,2026-03-02 03:37:51.271,0.02,0,-0.005,150,250,openai/gpt-5,OpenAI
gen-3,2026-03-02 04:37:51.271,,,,,,,
"""
AZURE = """\
Date,MeterCategory,MeterSubCategory,MeterName,Quantity,CostInBillingCurrency,BillingCurrency
03/02/2026,Cognitive Services,Azure OpenAI,gpt-4o 1120 Inp glbl Tokens,20,0.05,USD
03/02/2026,Foundry Models,Azure OpenAI GPT5,GPT 5 outpt Glbl 1M Tokens,1,0.25,USD
03/02/2026,Storage,Tiered Block Blob,LRS Data Stored,1,7.50,USD
"""


def test_the_activity_of_openrouter_is_compared_with_its_calls(db: TimescaleDBClient, tmp_path: Path) -> None:
    db.record_llm_interaction(call("openai/gpt-5", 250, provider="openrouter", total_cost=0.03))
    db.record_llm_interaction(call("openai/gpt-5", 250, total_cost=9.0))  # a call of another provider
    path = tmp_path / "activity.csv"
    path.write_text(OPENROUTER)
    (row,) = db.reconcile(path)["rows"]
    assert (row["model"], row["exported_cost"], row["recorded_cost"]) == ("openai/gpt-5", pytest.approx(0.03), 0.03)
    assert row["unexplained_cost"] == 0.0


def test_the_cost_export_of_azure_is_compared_by_day(db: TimescaleDBClient, tmp_path: Path) -> None:
    db.record_llm_interaction(call("gpt-4o", 250, provider="azure", total_cost=0.15))
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    (row,) = db.reconcile(path)["rows"]
    assert (row["day"], row["model"], row["coverage_percentage"]) == (T0.date(), None, pytest.approx(50.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AZURE.replace("USD", "EUR"), ":2: the cost is in EUR; expected USD"),
        (AZURE.replace("03/02/2026", "yesterday"), ":2: 'yesterday' is not a date"),
        (OPENROUTER.replace("0.01,", "much,"), ":2: 'much' is not a number"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(db: TimescaleDBClient, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "export.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        db.reconcile(path)
