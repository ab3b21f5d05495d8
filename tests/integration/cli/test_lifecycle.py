"""``models --lifecycle``: shutdown dates of the models in use, from the provider's list."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Provider:
    def __init__(self, today: date) -> None:
        self.soon, self.past = str(today + timedelta(days=10)), str(today - timedelta(days=1))
        self.status = 200
        self.keys: list[str | None] = []
        self.models: list[dict[str, Any]] = [
            {"id": "gpt-5", "shutdown_date": self.soon},
            {"id": "gpt-5-mini", "shutdown_date": self.past},
            {"id": "gpt-6.1-terra", "shutdown_date": None},
            {"id": "not-in-use", "shutdown_date": self.soon},
        ]


@pytest.fixture
def provider(today: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    served = Provider(today.date())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.keys.append(self.headers.get("authorization"))
            models = [{"object": "model", "created": 1, "owned_by": "openai", **model} for model in served.models]
            body: dict[str, Any] = {"object": "list", "data": models}
            if served.status != 200:
                body = {"error": {"message": "Incorrect API key provided: sk-hunter2"}}
            data = json.dumps(body).encode()
            self.send_response(served.status if self.path == "/v1/models" else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def stored(db_url: str) -> str:
    """Return a database with calls of 200,000 prompt tokens, half of them cached, and 20,000 completion tokens."""
    with TimescaleDBClient(db_url) as db:
        for model in ("gpt-5-2025-08-07", "gpt-5-mini", "gpt-6.1-terra", "retired-model"):
            db.record_llm_interaction(
                LLMInteractionRecord(
                    "q", T0, model, provider="openai", start_time=T0,
                    prompt_tokens=200_000, cached_tokens=100_000, completion_tokens=20_000,
                )
            )  # fmt: skip
    return db_url


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def test_each_model_in_use_has_its_shutdown_date(stored: str, provider: Provider) -> None:
    result = cli("models", "--lifecycle", "--json", "--db-url", stored)
    assert result.exit_code == 0, result.output
    rows = {row["model"]: row for row in json.loads(result.stdout)}
    assert list(rows) == ["gpt-5-mini", "gpt-5-2025-08-07", "retired-model", "gpt-6.1-terra"]
    # the list names the alias, the calls its snapshot
    assert (rows["gpt-5-2025-08-07"]["shutdown_date"], rows["gpt-5-2025-08-07"]["days_left"]) == (provider.soon, 10)
    assert (rows["gpt-5-mini"]["days_left"], rows["gpt-6.1-terra"]["shutdown_date"]) == (-1, None)
    assert rows["retired-model"]["is_listed"] is False
    assert provider.keys == ["Bearer sk-hunter2"]


def test_the_table_says_how_many_days_are_left(stored: str, provider: Provider) -> None:
    text = cli("models", "--lifecycle", "--db-url", stored).stdout
    assert f"{provider.soon} (in 10 days)" in text
    assert f"{provider.past} (past)" in text
    assert "not in the list" in text


def test_a_replacement_shows_what_the_calls_would_have_cost(stored: str, provider: Provider) -> None:
    result = cli("models", "--lifecycle", "--replacement", "gpt-6.1-terra", "--json", "--db-url", stored)
    assert result.exit_code == 0, result.output
    rows = {row["model"]: row for row in json.loads(result.stdout)}
    # gpt-5: 0.1 x 1.25 + 0.1 x 0.125 + 0.02 x 10; gpt-6.1-terra: 0.1 x 1 + 0.1 x 0.05 + 0.02 x 5
    assert rows["gpt-5-2025-08-07"]["compared_cost"] == pytest.approx(0.3375)
    assert rows["gpt-5-2025-08-07"]["replacement_cost"] == pytest.approx(0.205)
    assert rows["gpt-6.1-terra"]["replacement_cost"] is None  # it stays


def test_without_a_key_the_message_names_the_variable(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = cli("models", "--lifecycle", "--db-url", stored)
    assert result.exit_code == 2
    assert "OPENAI_API_KEY" in result.stderr


def test_an_error_of_the_provider_does_not_show_the_key(stored: str, provider: Provider) -> None:
    provider.status = 401
    result = cli("models", "--lifecycle", "--db-url", stored)
    assert result.exit_code == 1
    assert "status 401" in result.stderr
    assert "hunter2" not in result.output


def test_a_date_that_is_not_iso_8601_counts_as_not_announced(stored: str, provider: Provider) -> None:
    provider.models[0]["shutdown_date"] = "soon"
    rows = json.loads(cli("models", "--lifecycle", "--json", "--db-url", stored).stdout)
    assert {row["model"]: row["shutdown_date"] for row in rows}["gpt-5-2025-08-07"] is None


def test_replacement_needs_lifecycle(stored: str) -> None:
    result = cli("models", "--replacement", "gpt-6.1-terra", "--db-url", stored)
    assert result.exit_code == 2
