"""``prices update``: price lists from a file or an address are stored for all processes, or refused with a reason."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from openai import OpenAI
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient, flush, instrument, query_run
from rlm_cachetrack.cli import app
from rlm_cachetrack.pipeline import price_updates
from rlm_cachetrack.simulator import SimulatedEndpoint

T0 = datetime(2026, 12, 1, 12, tzinfo=UTC)


def price_list(**models: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a price list in the published format: OpenAI's models by name, prices in USD per 1M tokens."""
    return [
        {
            "id": "openai",
            "name": "OpenAI",
            "api_pattern": r"https://api\.openai\.com",
            "models": [{"id": name, "match": {"equals": name}, "prices": prices} for name, prices in models.items()],
        }
    ]


NEW = price_list(
    **{
        "gpt-9-nova": {"input_mtok": 3, "cache_read_mtok": 0.3, "output_mtok": 12},
        "gpt-5": {"input_mtok": 1, "cache_read_mtok": 0.1, "output_mtok": 8, "web_searches_kcount": 10},
    }
)


class Publisher:
    """A server on which a price list is published.

    Attributes:
        body: The body of its responses.
        status: The status.
        delay_s: How long it waits in the middle of a response.
        released: Set it to end that wait early.
        requests: The number of requests that it received.
    """

    def __init__(self) -> None:
        self.body: bytes = json.dumps(NEW).encode()
        self.status = 200
        self.delay_s = 0.0
        self.released = threading.Event()
        self.requests = 0
        self.url = ""


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    published = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            published.requests += 1
            self.send_response(published.status)
            self.send_header("content-length", str(len(published.body)))
            self.end_headers()
            half = len(published.body) // 2
            self.wfile.write(published.body[:half])
            published.released.wait(published.delay_s)
            self.wfile.write(published.body[half:])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    published.url = f"http://127.0.0.1:{server.server_port}/v2/data.json"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield published
    server.shutdown()
    thread.join()
    server.server_close()


def cli(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"}, **more)


def record(db: TimescaleDBClient, query_id: str, model: str) -> dict[str, Any]:
    db.record_llm_interaction(
        LLMInteractionRecord(
            query_id, T0, model, provider="openai", start_time=T0,
            prompt_tokens=1_000_000, cached_tokens=0, completion_tokens=0,
        )
    )  # fmt: skip
    (call,) = db.get_llm_interactions(query_id, T0)
    return call


def stored_lists(url: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute("SELECT count(*) FROM price_lists WHERE data IS NOT NULL").fetchone() or (0,)
    return int(count)


def test_an_update_shows_the_changes_and_prices_calls_from_then_on(
    db_url: str, publisher: Publisher, today: datetime
) -> None:
    with TimescaleDBClient(db_url) as db:
        assert record(db, "before", "gpt-9-nova")["total_cost"] is None
    result = cli("prices", "update", "--from", publisher.url, "--db-url", db_url)
    assert result.exit_code == 0, result.output
    assert "1 model priced now: openai gpt-9-nova" in result.stdout
    assert ["openai", "gpt-5", "prompt", "$1.250", "$1.00"] in [line.split() for line in result.stdout.splitlines()]
    assert "1 stored call without a price has one now" in result.stdout
    assert "reprice --unpriced" in result.stdout
    with TimescaleDBClient(db_url) as db:
        call = record(db, "after", "gpt-9-nova")
        assert call["total_cost"] == pytest.approx(3.0)
        assert call["price_source"].startswith(f"genai-prices:{today.date()}-")
        # a model that the list lacks keeps the price of the installed release
        other = record(db, "other", "gpt-4.1")
        assert (other["total_cost"], other["price_source"][:15]) == (pytest.approx(2.0), "genai-prices:0.")


def test_an_update_can_re_price_what_had_no_price(db_url: str, publisher: Publisher) -> None:
    with TimescaleDBClient(db_url) as db:
        record(db, "new", "gpt-9-nova")
        record(db, "old", "gpt-5")
    result = cli("prices", "update", "--from", publisher.url, "--reprice", "--db-url", db_url)
    assert "1 call priced" in result.stdout, result.output
    with TimescaleDBClient(db_url) as db:
        (new,) = db.get_llm_interactions("new", T0)
        (old,) = db.get_llm_interactions("old", T0)
    assert new["total_cost"] == pytest.approx(3.0)
    assert old["total_cost"] == pytest.approx(1.25)  # it had a price, which it keeps


def test_an_update_from_a_file_needs_no_network(db_url: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(NEW))
    first = cli("prices", "update", "--from", str(path), "--db-url", db_url, "--json")
    assert first.exit_code == 0, first.output
    facts = json.loads(first.stdout)
    assert facts["is_stored"] is True
    assert {"provider": "openai", "model": "gpt-5", "item": "completion", "before": 10.0, "after": 8.0} in facts[
        "changed"
    ]
    again = cli("prices", "update", "--from", str(path), "--db-url", db_url)
    assert again.exit_code == 0
    assert "Up to date" in again.stdout
    assert stored_lists(db_url) == 1


def test_prices_shows_the_list_in_use(db_url: str, publisher: Publisher, today: datetime) -> None:
    assert cli("prices", "update", "--from", publisher.url, "--db-url", db_url).exit_code == 0
    shown = cli("prices", "gpt-9-nova", "gpt-5", "--provider", "openai", "--json", "--db-url", db_url)
    models = {row["model"]: row["prices"][0] for row in json.loads(shown.stdout)["models"]}
    assert (models["gpt-9-nova"]["prompt"], models["gpt-5"]["prompt"]) == (3.0, 1.0)
    assert models["gpt-5"]["price_source"].startswith(f"genai-prices:{today.date()}-")


def test_prices_needs_no_database() -> None:
    shown = cli("prices", "gpt-5", "--provider", "openai", "--db-url", "postgresql://nobody@127.0.0.1:1/x")
    assert shown.exit_code == 0, shown.output
    assert "installed release" in shown.stderr
    assert "$1.250" in shown.stdout


def test_doctor_names_the_list_in_use(db_url: str, publisher: Publisher) -> None:
    assert cli("prices", "update", "--from", publisher.url, "--db-url", db_url).exit_code == 0
    text = " ".join(cli("doctor", "--db-url", db_url).stdout.split())
    assert f"from {publisher.url} takes precedence" in text


def test_a_running_program_uses_a_list_that_another_one_stored(
    db_url: str, publisher: Publisher, endpoint: SimulatedEndpoint, today: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_updates, "_POLL_EVERY_S", 0.0)
    sources = []
    instrument(store=db_url)
    for number in range(2):
        call_once(endpoint, f"q{number}")
        assert flush()
        with psycopg.connect(db_url, autocommit=True) as connection:
            query = "SELECT price_source FROM llm_interactions WHERE query_id = %s"
            sources += [source for (source,) in connection.execute(query, [f"q{number}"])]
            if number == 0:  # what `prices update` in another process does
                connection.execute(
                    "INSERT INTO price_lists (origin, sha8, data) VALUES ('x', '12345678', %s)", [json.dumps(NEW)]
                )
    assert sources[0].startswith("genai-prices:0.")
    assert sources[1].startswith(f"genai-prices:{today.date()}-")


def test_a_dry_run_stores_nothing(db_url: str, publisher: Publisher) -> None:
    result = cli("prices", "update", "--from", publisher.url, "--dry-run", "--db-url", db_url)
    assert result.exit_code == 0
    assert "gpt-9-nova" in result.stdout
    assert stored_lists(db_url) == 0


def times(factor: float) -> bytes:
    return json.dumps(price_list(**{"gpt-5": {"input_mtok": 1.25 * factor, "output_mtok": 10}})).encode()


BAD = {
    "not JSON": (b'[{"id": "openai", "mod', "is not JSON"),
    "an HTML page": (b"<html>sign in</html>", "is not JSON"),
    "another encoding": (json.dumps(NEW).encode("utf-16"), "is not JSON in UTF-8"),
    "an object": (b'{"models": {}}', "expected a JSON array of providers"),
    "no providers": (b"[]", "it has no price"),
    "another schema": (b'[{"provider": "openai", "price": 3}]', "does not have the format|it has no price"),
    "providers without a name": (json.dumps([{**NEW[0], "name": None}]).encode(), "does not have the format"),
    "a text as price": (json.dumps(price_list(m={"input_mtok": "cheap"})).encode(), "is not a number"),
    "a negative price": (json.dumps(price_list(m={"input_mtok": -1})).encode(), "negative"),
    "an infinite price": (b'[{"id": "openai", "models": [{"prices": {"input_mtok": 1e999}}]}]', "not finite"),
    "100 times as high": (times(100), r"gpt-5: prompt changes from \$1.25 to \$125"),
    "a hundredth": (times(0.01), r"gpt-5: prompt changes from \$1.25 to \$0.0125"),
    "free": (times(0), r"gpt-5: prompt changes from \$1.25 to \$0"),
}


@pytest.mark.parametrize(("body", "reason"), BAD.values(), ids=BAD)
def test_a_bad_list_is_refused_with_the_reason(db_url: str, publisher: Publisher, body: bytes, reason: str) -> None:
    publisher.body = body
    result = cli("prices", "update", "--from", publisher.url, "--db-url", db_url)
    assert result.exit_code == 1, result.output
    assert re.search(reason, " ".join(result.stderr.split())), result.stderr
    assert stored_lists(db_url) == 0


def test_an_implausible_price_is_stored_if_it_is_confirmed(db_url: str, publisher: Publisher) -> None:
    publisher.body = times(100)
    refused = cli("prices", "update", "--from", publisher.url, "--db-url", db_url)
    assert "--accept-implausible" in refused.stderr
    result = cli("prices", "update", "--from", publisher.url, "--db-url", db_url, "--accept-implausible")
    assert result.exit_code == 0
    assert stored_lists(db_url) == 1


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_of_the_server_is_named(db_url: str, publisher: Publisher, status: int) -> None:
    publisher.status = status
    result = cli("prices", "update", "--from", publisher.url + "?token=hunter2", "--db-url", db_url)
    assert result.exit_code == 1
    assert f"status {status}" in result.stderr
    assert "hunter2" not in result.output


def test_without_a_network_the_message_says_what_to_do(db_url: str) -> None:
    result = cli("prices", "update", "--from", "http://127.0.0.1:9/data.json", "--db-url", db_url)
    assert result.exit_code == 1
    assert "prices update --from FILE" in " ".join(result.stderr.split())


def test_a_missing_file_is_named(db_url: str, tmp_path: Path) -> None:
    result = cli("prices", "update", "--from", str(tmp_path / "no.json"), "--db-url", db_url)
    assert result.exit_code == 1
    assert "no.json cannot be read" in " ".join(result.stderr.split())


def test_a_slow_server_is_given_up(db_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_updates, "_SOCKET_TIMEOUT_S", 0.2)
    publisher.delay_s = 120.0
    began = time.monotonic()
    result = cli("prices", "update", "--from", publisher.url, "--db-url", db_url)
    assert result.exit_code == 1
    assert "timed out" in result.stderr
    assert time.monotonic() - began < 60


def test_the_address_can_be_set_in_the_environment(
    db_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICES_URL", publisher.url)
    assert cli("prices", "update", "--db-url", db_url).exit_code == 0
    assert stored_lists(db_url) == 1


# -- daily updates by the writer ---------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def call_once(endpoint: SimulatedEndpoint, query_id: str) -> float:
    """Make one call within a run; return how long it took, in seconds."""
    with OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client, query_run(query_id):
        began = time.monotonic()
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
        return time.monotonic() - began


@pytest.fixture
def daily(db_url: str, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Set daily updates; afterwards wait for the update that still runs, which would log into another test."""
    monkeypatch.setenv("RLM_CACHETRACK_PRICES_UPDATE", "daily")
    monkeypatch.setenv("RLM_CACHETRACK_PRICES_URL", publisher.url)
    yield db_url
    publisher.released.set()
    for thread in threading.enumerate():
        if thread.name == "rlm_cachetrack-prices":
            thread.join(120)
            assert not thread.is_alive()


def test_the_writer_updates_once_a_day(daily: str, publisher: Publisher, endpoint: SimulatedEndpoint) -> None:
    instrument(store=daily)
    for number in range(3):
        call_once(endpoint, f"q{number}")
        assert flush()
    assert wait_for(lambda: stored_lists(daily) == 1)
    assert publisher.requests == 1


def test_a_slow_server_delays_neither_calls_nor_records(
    daily: str, publisher: Publisher, endpoint: SimulatedEndpoint
) -> None:
    publisher.delay_s = 120.0
    instrument(store=daily)
    began = time.monotonic()
    call_once(endpoint, "q0")
    assert flush()
    call_once(endpoint, "q1")
    assert flush()
    assert time.monotonic() - began < 60
    with TimescaleDBClient(daily) as db:
        assert len(db.list_query_runs()) == 2


def test_a_failed_daily_update_is_one_line_in_the_log(
    daily: str, publisher: Publisher, endpoint: SimulatedEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.body = times(100)
    with caplog.at_level(logging.INFO, "rlm_cachetrack"):
        instrument(store=daily)
        for number in range(3):
            call_once(endpoint, f"q{number}")
            assert flush()
        assert wait_for(lambda: any("daily update" in entry.getMessage() for entry in caplog.records))
    messages = [entry.getMessage() for entry in caplog.records if "daily update" in entry.getMessage()]
    assert len(messages) == 1
    assert "prompt changes from $1.25 to $125" in messages[0]
    assert publisher.requests == 1
    assert stored_lists(daily) == 0


def test_an_unknown_setting_is_an_error(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_PRICES_UPDATE", "hourly")
    result = cli("runs", "--db-url", db_url)
    assert result.exit_code == 2
    assert "expected daily or off" in " ".join(result.stderr.split())
