"""Prometheus reads the metrics, and they add up to today's calls."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

pytest.importorskip("prometheus_client", reason="metrics need their extra")
pytest.importorskip("fastapi", reason="the dashboard needs its extra")
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from typer.testing import CliRunner

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.web import create_app
from rlm_cachetrack.web.source import DashboardStore
from tests.support.client_calls import T0


def fill(db: TimescaleDBClient, today: datetime) -> None:
    for started, cost in ((today, 0.5), (today, None), (today - timedelta(days=1), 99.0)):
        db.record_llm_interaction(
            LLMInteractionRecord(
                "q",
                T0,
                'odd"model',
                provider="openai",
                prompt_tokens=1_000,
                completion_tokens=100,
                cached_tokens=400,
                total_cost=cost,
                original_cost=None if cost is None else 2 * cost,
                duration_ms=2_000,
                start_time=started,
            )
        )
    assert db.flush()


def values(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("gen_ai_token_type", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels["gen_ai_response_model"] == 'odd"model' and sample.labels["gen_ai_provider_name"] == "openai"
    }


def test_metrics_add_up_to_the_calls_of_today(db_url: str, today: datetime) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db, today)
    printed = CliRunner().invoke(app, ["metrics", "--db-url", db_url])
    assert printed.exit_code == 0, printed.output
    found = values(printed.stdout)
    assert found["gen_ai_client_token_usage_total", "input"] == 2_000
    assert found["gen_ai_client_token_usage_total", "input_cached"] == 800
    assert found["gen_ai_client_token_usage_total", "output"] == 200
    assert found["gen_ai_client_operation_duration_seconds_total", ""] == 4
    assert found["rlm_cachetrack_calls_total", ""] == 2
    assert found["rlm_cachetrack_unpriced_calls_total", ""] == 1
    assert found["rlm_cachetrack_cost_usd_total", ""] == 0.5
    assert found["rlm_cachetrack_saved_usd_total", ""] == 0.5


def test_the_dashboard_serves_the_metrics_to_those_who_may_see_it(db_url: str, today: datetime) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db, today)
    with TestClient(create_app(DashboardStore(db_url), token="t"), base_url="http://localhost") as client:
        assert client.get("/metrics").status_code in (401, 403, 303)
        answer = client.get("/metrics", headers={"Authorization": "Bearer t"})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert values(answer.text)["rlm_cachetrack_calls_total", ""] == 2


def test_a_model_whose_calls_reported_nothing_has_only_the_counters_that_are_known(
    db_url: str, today: datetime
) -> None:
    with TimescaleDBClient(db_url) as db:
        fill(db, today)
        db.record_llm_interaction(
            LLMInteractionRecord(
                "q", T0, "down", provider="openai", cached_tokens=None, success=False, start_time=today
            )
        )
        assert db.flush()
    with TestClient(create_app(DashboardStore(db_url))) as http:
        answer = http.get("/metrics")
    assert answer.status_code == 200
    assert values(answer.text)["gen_ai_client_token_usage_total", "input"] == 2_000
    assert {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.labels["gen_ai_response_model"] == "down"
    } == {
        "gen_ai_client_token_usage_total": 0,  # input_cache_write, which is 0 if no call reported it
        "rlm_cachetrack_calls_total": 1,
        "rlm_cachetrack_failed_calls_total": 1,
        "rlm_cachetrack_unpriced_calls_total": 0,
    }
