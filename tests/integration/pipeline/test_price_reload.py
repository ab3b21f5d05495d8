"""A running program reloads its pricing file when it changes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openai import OpenAI

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, instrument, query_run
from rlm_cachetrack.simulator import SimulatedEndpoint

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)


def price_list(path: Path, prompt: str) -> None:
    path.write_text(f"version: 1\nper: 1M\nmodels:\n  mine: {{prompt: {prompt}, completion: 2}}\n")


def test_records_after_a_change_of_the_file_get_its_new_prices(
    db_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prices.yaml"
    price_list(path, "1")
    with TimescaleDBClient(db_url, pricing=path) as db:

        def cost(query_id: str) -> tuple[float, str]:
            db.record_llm_interaction(
                LLMInteractionRecord(query_id, T0, "mine", prompt_tokens=1_000_000, completion_tokens=0)
            )
            (call,) = db.get_llm_interactions(query_id, T0)
            return call["total_cost"], call["price_source"]

        first, first_source = cost("before")
        price_list(path, "30")
        second, second_source = cost("after")
        assert (first, second) == (1.0, 30.0)
        assert first_source != second_source
        price_list(path, "cheap")
        with caplog.at_level(logging.WARNING, "rlm_cachetrack"):
            assert cost("broken") == (30.0, second_source)
            assert cost("still broken") == (30.0, second_source)
        messages = [record.getMessage() for record in caplog.records if "pricing file" in record.getMessage()]
        assert len(messages) == 1
        assert "prices.yaml:4: models.mine.prompt: is cheap" in messages[0]
        price_list(path, "4")
        assert cost("mended")[0] == 4.0


def test_instrumented_calls_after_a_change_get_the_new_prices(
    db_url: str, tmp_path: Path, endpoint: SimulatedEndpoint
) -> None:
    path = tmp_path / "prices.yaml"
    price_list(path, "1")
    with OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as openai:
        instrument(openai, store=db_url, pricing=path)
        with TimescaleDBClient(db_url) as db:
            prices = []
            for step, prompt in enumerate(("1", "5")):
                price_list(path, prompt)
                with query_run(f"step-{step}") as run:
                    openai.chat.completions.create(model="mine", messages=[{"role": "user", "content": "hello"}])
                (call,) = db.get_llm_interactions(run.query_id, run.run_id)
                prices.append(call["prompt_token_price"])
    assert prices == [0.001, 0.005]
