"""Bad input raises a clear error where the user can act, loses no record, and never shows a password."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
import pytest
from openai import OpenAI
from psycopg.conninfo import conninfo_to_dict

import rlm_cachetrack
from rlm_cachetrack import (
    CacheTrackError,
    ConfigError,
    LLMInteractionRecord,
    PricingError,
    RecordError,
    StoreError,
    StoreUnreachableError,
    TimescaleDBClient,
    instrument,
    query_run,
)
from rlm_cachetrack.errors import SchemaTooNewError
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.integration.pipeline.test_writer import in_time
from tests.support.transport import httpx

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAIVE = datetime(2026, 3, 1, 12, 0)
SECRET = "hunter2-is-secret"
TOO_LONG = "".join(
    hashlib.sha256(bytes([i])).hexdigest() for i in range(50)
)  # 3,200 bytes that an index cannot compress
MESSAGES: list[Any] = [{"role": "user", "content": "an unmistakable prompt"}]


@pytest.fixture
def db(reused_db_url: str) -> Iterator[TimescaleDBClient]:
    with TimescaleDBClient(reused_db_url) as client:
        yield client


@pytest.fixture
def openai(endpoint: SimulatedEndpoint) -> Iterator[OpenAI]:
    with OpenAI(base_url=endpoint.base_url, api_key="sk-test") as client:
        yield client


@pytest.fixture
def dead_port() -> Iterator[int]:
    """Yield a port that is bound, so that no other process uses it, but has no listening server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def whole_text(exc: BaseException) -> str:
    """Return the text that a log with a traceback would contain: the error and its causes."""
    error, text = exc, ""
    while error is not None:
        text += f"{error!r} {error}\n"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)  # type: ignore[assignment]
    return text


def ask(client: OpenAI) -> str | None:
    return client.chat.completions.create(model="gpt-5", messages=MESSAGES).choices[0].message.content


# -- the address ------------------------------------------------------------------------------------------------------


def test_an_unreachable_server_is_named_without_its_password(dead_port: int) -> None:
    with pytest.raises(StoreUnreachableError) as caught:
        TimescaleDBClient(f"postgresql://me:{SECRET}@127.0.0.1:{dead_port}/calls")
    assert f"me:***@127.0.0.1:{dead_port}/calls" in str(caught.value)
    assert SECRET not in whole_text(caught.value)


def test_a_database_that_does_not_exist_is_named(server_url: str) -> None:
    with pytest.raises(StoreUnreachableError, match="nowhere_to_be_found"):
        TimescaleDBClient(psycopg.conninfo.make_conninfo(server_url, dbname="nowhere_to_be_found"))


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://me:{SECRET}@localhost/calls",
        f"http://me:{SECRET}@localhost/calls",
        "localhost:5432/calls",
        "",
        "   ",
        f"postgresql://me:{SECRET}@localhost:port/calls",
        f"postgresql://me:{SECRET}@localhost:99999/calls",
        f"postgresql://me:{SECRET}@localhost/calls?no_such_option=1",
        f"password={SECRET} no_such_key=1",
        f"host=localhost password={SECRET} port",
        42,
        Path("/tmp/calls.db"),
    ],
)
def test_an_invalid_address_is_a_config_error(url: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        TimescaleDBClient(url)
    assert SECRET not in whole_text(caught.value)


def test_the_variable_that_holds_a_wrong_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESCALE_DB_URL", f"redis://:{SECRET}@localhost")
    with pytest.raises(ConfigError, match="TIMESCALE_DB_URL") as caught:
        TimescaleDBClient()
    assert SECRET not in whole_text(caught.value)


@pytest.mark.parametrize("pool_size", [0, -1, True, "10", 2.5])
def test_a_pool_needs_a_whole_number_of_connections(reused_db_url: str, pool_size: Any) -> None:
    with pytest.raises(ConfigError, match="pool_size"):
        TimescaleDBClient(reused_db_url, pool_size=pool_size)


class _AsksForPassword(socketserver.BaseRequestHandler):
    """Requests a clear-text password, as ``pg_hba.conf`` can configure, and proxies the session if it is correct."""

    server: _PasswordProxy

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            startup = self._message()
            self.request.sendall(b"R" + struct.pack("!ii", 8, 3))
            if self.request.recv(1) != b"p":
                return
            if self._message()[4:-1].decode() != SECRET:
                fields = b'SFATAL\0C28P01\0Mpassword authentication failed for user "me"\0\0'
                self.request.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)
                return
            with self.server.connect() as upstream:
                upstream.sendall(startup)
                back = threading.Thread(target=_copy, args=(upstream, self.request))
                back.start()
                _copy(self.request, upstream)
                back.join()

    def _message(self) -> bytes:
        length = self._exactly(4)
        return length + self._exactly(struct.unpack("!i", length)[0] - 4)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.request.recv(size - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class _PasswordProxy(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _AsksForPassword)
        self._parts = conninfo_to_dict(url)

    def connect(self) -> socket.socket:
        host, port = str(self._parts["host"]), self._parts.get("port", 5432)
        if host.startswith("/"):
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(f"{host}/.s.PGSQL.{port}")
            return upstream
        return socket.create_connection((host, int(port)))

    def url(self, password: str) -> str:
        parts, port = self._parts, self.server_address[1]
        return (
            f"postgresql://{parts['user']}:{password}@127.0.0.1:{port}/{parts['dbname']}"
            "?sslmode=disable&gssencmode=disable"
        )


@pytest.fixture
def password_proxy(reused_db_url: str) -> Iterator[_PasswordProxy]:
    with _PasswordProxy(reused_db_url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        yield proxy
        rlm_cachetrack.shutdown(5)
        proxy.shutdown()
        thread.join()


def test_a_wrong_password_is_rejected_and_the_right_one_then_works(password_proxy: _PasswordProxy) -> None:
    wrong = "not-" + SECRET
    with pytest.raises(StoreUnreachableError, match="password authentication failed") as caught:
        TimescaleDBClient(password_proxy.url(wrong))
    assert wrong not in whole_text(caught.value)
    with TimescaleDBClient(password_proxy.url(SECRET)) as db:
        db.initialize_query_run("q", T0)
        assert [run["query_id"] for run in db.list_query_runs()] == ["q"]
        assert SECRET not in str(rlm_cachetrack.stats())


# -- instrument: the user's calls go on -------------------------------------------------------------------------------


def test_instrument_reports_an_unreachable_store_once_and_calls_go_on(
    openai: OpenAI, dead_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rlm_cachetrack")
    instrument(openai, store=f"postgresql://me:{SECRET}@127.0.0.1:{dead_port}/calls")
    with query_run("q"):
        assert ask(openai)
        assert in_time(lambda: caplog.records)
        assert not rlm_cachetrack.flush(timeout_s=1.5)  # usually long enough for more than one attempt
        assert ask(openai)
    assert len(caplog.records) == 1
    assert f"127.0.0.1:{dead_port}" in caplog.text
    assert SECRET not in caplog.text
    counts = rlm_cachetrack.stats()
    assert (counts["recorded"], counts["stored"], counts["pending"]) == (4, 0, 4)  # start, two calls, end
    assert counts["dropped"] == {}
    assert SECRET not in str(counts)
    rlm_cachetrack.shutdown(timeout_s=0.1)  # as at the end of the process, but with a shorter timeout


def test_records_of_an_unreachable_store_wait_in_a_journal_without_the_prompt(
    openai: OpenAI, dead_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_STATE_DIR", str(tmp_path / "journals"))
    instrument(openai, store=f"postgresql://me:{SECRET}@127.0.0.1:{dead_port}/x")
    with query_run("q", run_id=T0):
        ask(openai)
    assert rlm_cachetrack.shutdown(timeout_s=0.1) is False
    text = "".join(path.read_text() for path in (tmp_path / "journals").rglob("*.jsonl"))
    assert len(text.splitlines()) == 3  # the run's start, the call, the run's end
    assert MESSAGES[0]["content"] not in text
    assert SECRET not in text


@pytest.mark.parametrize("thing", [object(), "sk-test", OpenAI, {"api_key": "x"}, 0])
def test_instrument_rejects_objects_that_are_not_openai_clients(thing: Any, reused_db_url: str) -> None:
    with pytest.raises(ConfigError, match="openai"):
        instrument(thing, store=reused_db_url)
    assert not hasattr(OpenAI.request, "__wrapped__")  # nothing was patched


@pytest.mark.parametrize("store", [object(), 5, b"postgresql://localhost/x", "sqlite:///x.db", dict])
def test_instrument_rejects_objects_that_are_not_stores(store: Any, openai: OpenAI) -> None:
    with pytest.raises(ConfigError):
        instrument(openai, store=store)
    assert not hasattr(OpenAI.request, "__wrapped__")


def test_a_second_store_in_one_process_raises(openai: OpenAI, db_url: str, reused_db_url: str) -> None:
    instrument(openai, store=reused_db_url)
    with pytest.raises(ConfigError, match="second store"):
        instrument(openai, store=db_url)


# -- pricing ----------------------------------------------------------------------------------------------------------

GOOD_PRICES = "version: 1\nper: 1M\nmodels:\n  mine: {prompt: 1, completion: 2}\n"


@pytest.mark.parametrize(
    ("price", "line_and_key"),
    [("-1", "prices.yaml:4: models.mine.prompt"), ("cheap", "prices.yaml:4: models.mine.prompt")],
)
def test_a_bad_price_is_reported_with_file_line_key_and_what_was_expected(
    reused_db_url: str, openai: OpenAI, tmp_path: Path, price: str, line_and_key: str
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(f"version: 1\nper: 1M\nmodels:\n  mine: {{prompt: {price}, completion: 2}}\n")
    for attempt in (
        lambda: TimescaleDBClient(reused_db_url, pricing=path),
        lambda: instrument(openai, store=reused_db_url, pricing=path),
    ):
        with pytest.raises(PricingError, match=r"expected USD per 1M tokens") as caught:
            attempt()
        assert line_and_key in str(caught.value)
        assert price in str(caught.value)


def test_a_pricing_file_that_is_missing_is_named(reused_db_url: str, tmp_path: Path) -> None:
    with pytest.raises(PricingError, match=r"nowhere\.yaml"):
        TimescaleDBClient(reused_db_url, pricing=tmp_path / "nowhere.yaml")


def test_after_a_bad_pricing_file_a_good_one_works(reused_db_url: str, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text("version: 1\nper: 1M\nmodels: {mine: {prompt: none, completion: 2}}\n")
    good.write_text(GOOD_PRICES)
    with pytest.raises(PricingError):
        TimescaleDBClient(reused_db_url, pricing=bad)
    with TimescaleDBClient(reused_db_url, pricing=good) as db:
        db.record_llm_interaction(LLMInteractionRecord("q", T0, "mine", prompt_tokens=1000, completion_tokens=0))
        assert db.get_llm_interactions("q", T0)[0]["total_cost"] == pytest.approx(0.001)


def test_after_instrumenting_with_a_bad_pricing_file_a_good_one_works(
    reused_db_url: str, openai: OpenAI, tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text("version: 1\nper: 1M\nmodels: {mine: {prompt: none, completion: 2}}\n")
    good.write_text(GOOD_PRICES)
    with pytest.raises(PricingError):
        instrument(openai, store=reused_db_url, pricing=bad)
    assert instrument(openai, store=reused_db_url, pricing=good) is openai


def test_a_second_price_list_for_one_store_raises(reused_db_url: str, openai: OpenAI, tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(GOOD_PRICES)
    with TimescaleDBClient(reused_db_url):
        with pytest.raises(ConfigError, match="second price list"):
            TimescaleDBClient(reused_db_url, pricing=good)
        with pytest.raises(ConfigError, match="second price list"):
            instrument(openai, store=reused_db_url, pricing=good)


def test_instrument_never_ignores_a_price_list(
    reused_db_url: str, openai: OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is open already, priced by the built-in table, and is found through the environment."""
    good = tmp_path / "good.yaml"
    good.write_text(GOOD_PRICES)
    monkeypatch.setenv("RLM_CACHETRACK_DB_URL", reused_db_url)
    with TimescaleDBClient(), pytest.raises(ConfigError, match="second price list"):
        instrument(openai, pricing=good)


# -- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_tokens": -1}, "prompt_tokens=-1"),
        ({"completion_tokens": -5}, "completion_tokens=-5"),
        ({"cached_tokens": -1}, "cached_tokens=-1"),
        ({"cache_write_tokens": -1}, "cache_write_tokens=-1"),
        ({"reasoning_tokens": -1}, "reasoning_tokens=-1"),
        ({"total_tokens": 2**31}, "total_tokens=2147483648"),
        ({"prompt_tokens": 10.5}, "prompt_tokens=10.5"),
        ({"prompt_tokens": "10"}, "prompt_tokens='10'"),
        ({"prompt_tokens": True}, "prompt_tokens=True"),
        ({"prompt_tokens": 10, "cached_tokens": 11}, "cached_tokens=11 is more than prompt_tokens=10"),
        ({"prompt_tokens": 10, "cached_tokens": 4, "uncached_prompt_tokens": 7}, "uncached_prompt_tokens=7"),
        ({"prompt_token_price": -0.1}, "prompt_token_price=-0.1"),
        ({"total_cost": float("nan")}, "total_cost=nan"),
        ({"total_cost": float("inf")}, "total_cost=inf"),
        ({"original_cost": "1"}, "original_cost='1'"),
        ({"duration_ms": -1}, "duration_ms=-1"),
        ({"iteration": -1}, "iteration=-1"),
        ({"tool_call_count": -1}, "tool_call_count=-1"),
        ({"run_id": NAIVE}, "naive"),
        ({"run_id": "2026-03-01T12:00:00"}, "naive"),
        ({"run_id": "yesterday"}, "ISO 8601"),
        ({"run_id": date(2026, 3, 1)}, "expected a datetime"),
        ({"run_id": None}, "run_id"),
        ({"start_time": NAIVE}, "start_time"),
        ({"end_time": NAIVE}, "end_time"),
        ({"time": NAIVE}, "time"),
        ({"query_id": ""}, "query_id"),
        ({"query_id": None}, "query_id"),
        ({"query_id": 5}, "query_id"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"interaction_id": "not-a-uuid"}, "interaction_id"),
        ({"success": "yes"}, "success"),
        ({"success": None}, "success"),
        ({"has_tool_calls": "no"}, "has_tool_calls"),
        ({"metadata": "text"}, "metadata"),
        ({"metadata": [1, 2]}, "metadata"),
        ({"metadata": {(1, 2): 3}}, "metadata"),
        ({"usage": "text"}, "usage"),
        ({"query_id": TOO_LONG}, "query_id"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else None,
)
def test_an_inconsistent_record_raises_and_nothing_is_recorded(
    db: TimescaleDBClient, fields: dict[str, Any], message: str
) -> None:
    record = LLMInteractionRecord(**{"query_id": "q", "run_id": T0, "model": "m", **fields})
    with pytest.raises(RecordError) as caught:
        db.record_llm_interaction(record)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert db.list_query_runs() == []


def test_naive_run_ids_raise_with_the_reason_everywhere(db: TimescaleDBClient) -> None:
    for attempt in (
        lambda: query_run("q", run_id=NAIVE),
        lambda: db.initialize_query_run("q", NAIVE),
        lambda: db.complete_query_run("q", NAIVE),
        lambda: db.set_context(run_id=NAIVE),
        lambda: db.get_token_cache_summary("q", NAIVE),
        lambda: db.get_token_cache_optimization("q", NAIVE),
        lambda: db.calculate_and_store_cache_optimization("q", NAIVE),
        lambda: db.get_llm_interactions("q", NAIVE),
        lambda: db.get_query_run_summary("q", NAIVE),
        lambda: db.get_cache_effectiveness_by_model(since=NAIVE),
        lambda: db.get_cache_effectiveness_by_model(until=NAIVE),
        lambda: db.delete(query_id="q", run_id=NAIVE),
        lambda: db.delete(before=NAIVE),
    ):
        with pytest.raises(RecordError, match=r"is naive, .*timezone\.utc"):
            attempt()


def test_an_error_about_a_record_is_a_value_error_too(db: TimescaleDBClient) -> None:
    with pytest.raises(ValueError, match="prompt_tokens"):
        db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", prompt_tokens=-1))
    with pytest.raises(CacheTrackError):
        db.record_llm_interaction({"query_id": "q"})  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, 2.5, "10", None, True])
def test_a_limit_must_be_a_whole_number_of_at_least_one(db: TimescaleDBClient, limit: Any) -> None:
    for method in (db.get_top_cache_savings, db.list_query_runs):
        with pytest.raises(ConfigError, match="limit"):
            method(limit)


@pytest.mark.parametrize("query_id", ["", None, 5, TOO_LONG])
def test_a_run_needs_a_name(db: TimescaleDBClient, query_id: Any) -> None:
    for attempt in (
        lambda: query_run(query_id),
        lambda: db.initialize_query_run(query_id, T0),
        lambda: db.complete_query_run(query_id, T0),
        lambda: db.get_token_cache_summary(query_id, T0),
    ):
        with pytest.raises(RecordError, match="query_id"):
            attempt()


@pytest.mark.parametrize("metadata", ["text", [1, 2], 5, {(1, 2): 3}])
def test_run_metadata_must_be_a_mapping(db: TimescaleDBClient, metadata: Any) -> None:
    for attempt in (
        lambda: query_run("q", metadata=metadata),
        lambda: db.initialize_query_run("q", T0, metadata),
    ):
        with pytest.raises(RecordError, match="metadata"):
            attempt()


@pytest.mark.parametrize("status", ["", None, 5])
def test_a_status_must_be_a_word(db: TimescaleDBClient, status: Any) -> None:
    with pytest.raises(RecordError, match="status"):
        db.complete_query_run("q", T0, status)


@pytest.mark.parametrize("number", [-1, 1.5, "2", True])
def test_context_numbers_must_be_whole(db: TimescaleDBClient, number: Any) -> None:
    for name in ("iteration", "current_depth", "max_depth", "model_index"):
        with pytest.raises(RecordError, match=name):
            db.set_context(**{name: number})
    with query_run("q") as run, pytest.raises(RecordError, match="iteration"):
        run.iteration = number


def test_text_that_postgresql_rejects_is_stored_in_a_cleaned_form(db: TimescaleDBClient) -> None:
    """Real responses may contain NUL and half a surrogate pair; their calls must be stored."""
    strange = "a\x00b\ud800c"
    record = LLMInteractionRecord(
        strange, T0, strange, error_message=strange, metadata={strange: [strange, float("nan")]}, prompt_tokens=1
    )
    db.record_llm_interaction(record)
    db.initialize_query_run(strange, T0, {strange: strange})
    db.complete_query_run(strange, T0, strange)
    summary = db.get_token_cache_summary(strange, T0)
    (row,) = db.get_llm_interactions(strange, T0)
    (run,) = db.list_query_runs()
    assert summary is not None
    assert summary["total_prompt_tokens"] == 1
    assert row["query_id"] == row["model"] == row["error_message"] == run["query_id"]
    assert row["query_id"][0::2] == "abc"
    assert list(row["metadata"].values()) == [[row["query_id"], None]]
    assert len(db.list_query_runs(query_id=strange)) == 1
    assert db.count(query_id=strange) == db.delete(query_id=strange) == {"interactions": 1, "runs": 1}


NAMES = ("model", "provider", "service_tier", "finish_reason", "error_type", "request_id", "response_id")
"""What a server, or a record made by hand, may name as it likes."""


def incompressible(characters: int) -> str:
    """Return text that PostgreSQL cannot compress to the size of an entry of an index."""
    return "".join(chr(0x4E00 + random.randrange(0x5000)) for _ in range(characters))


def test_names_of_any_length_are_stored_in_a_shortened_form(db: TimescaleDBClient) -> None:
    long = {name: incompressible(5_000) for name in NAMES}
    whole = {name: incompressible(500) for name in NAMES}
    for number, names in enumerate((long, whole)):
        db.record_llm_interaction(LLMInteractionRecord("q", T0 + timedelta(hours=number), **names, prompt_tokens=1))
    assert db.flush()
    assert db.stats()["dead_letters"] == 0
    (shortened,), (kept,) = (db.get_llm_interactions("q", T0 + timedelta(hours=number)) for number in range(2))
    assert {name: shortened[name] for name in NAMES} == {name: f"{long[name][:499]}…" for name in NAMES}
    assert {name: kept[name] for name in NAMES} == whole


def test_names_and_a_usage_of_any_length_from_a_server_are_stored(db: TimescaleDBClient, reused_db_url: str) -> None:
    name, usage = incompressible(5_000), {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    answer = {"id": name, "object": "chat.completion", "model": name, "service_tier": name, "choices": []}
    answers = [{**answer, "usage": usage}, {**answer, "usage": {**usage, "more": "x" * 2_000_000}}]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answers.pop()))
    with OpenAI(api_key="k", http_client=httpx.Client(transport=transport)) as client:
        instrument(client, store=reused_db_url)
        with query_run("long", T0):
            for _ in range(2):
                ask_anything(client)
    assert db.flush()
    assert db.stats()["dead_letters"] == 0
    first, second = db.get_llm_interactions("long", T0)
    assert first["model"] == second["model"] == f"{name[:499]}…"
    assert (first["prompt_tokens"], second["prompt_tokens"]) == (3, 3)
    assert (first["usage"], second["usage"]) == (None, usage)


def ask_anything(client: OpenAI) -> None:
    client.chat.completions.create(model="gpt-5", messages=MESSAGES)


def test_one_bad_record_does_not_delay_the_others(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", metadata={"object": object(), "when": T0}))
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m" * 100_000))
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", error_message="e" * 1_000_000, success=False))
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", recursion_id=12, error_type=5))  # type: ignore[arg-type]
    assert len(db.get_llm_interactions("q", T0)) == 4


def test_metadata_may_be_any_mapping(db: TimescaleDBClient) -> None:
    db.record_llm_interaction(LLMInteractionRecord("q", T0, "m", metadata=MappingProxyType({"a": [1, T0]})))
    db.initialize_query_run("q", T0, MappingProxyType({"b": None}))
    (row,), run = db.get_llm_interactions("q", T0), db.get_query_run_summary("q", T0)
    number, moment = row["metadata"]["a"]
    assert (number, datetime.fromisoformat(moment)) == (1, T0)
    assert run is not None
    assert run["metadata"] == {"b": None}


# -- the database -----------------------------------------------------------------------------------------------------


@pytest.fixture
def newer_db_url(db_url: str) -> str:
    with psycopg.connect(db_url) as connection:
        connection.execute(
            "INSERT INTO rlm_cachetrack_migrations (engine, version, name, checksum)"
            " VALUES ('core', 9999, 'from_the_future', 'x')"
        )
    return db_url


def test_a_newer_schema_raises_with_what_to_do(newer_db_url: str) -> None:
    with pytest.raises(SchemaTooNewError, match=r"core/9999_from_the_future.*pip install -U rlm_cachetrack"):
        TimescaleDBClient(newer_db_url)


def test_instrument_reports_a_newer_schema_once_and_keeps_the_records(
    newer_db_url: str, openai: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rlm_cachetrack")
    instrument(openai, store=newer_db_url)
    assert ask(openai)
    assert in_time(lambda: caplog.records)
    assert not rlm_cachetrack.flush(timeout_s=0.5)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "from_the_future" in caplog.text
    with psycopg.connect(newer_db_url) as connection:  # as after an upgrade of the library
        connection.execute("DELETE FROM rlm_cachetrack_migrations WHERE version = 9999")
    assert rlm_cachetrack.flush(timeout_s=120)
    with psycopg.connect(newer_db_url) as connection:
        assert connection.execute("SELECT count(*) FROM llm_interactions").fetchone() == (1,)


def test_a_role_that_may_not_create_tables_gets_a_clear_error(empty_db_url: str) -> None:
    with psycopg.connect(empty_db_url, autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM public")
        connection.execute("CREATE ROLE rlm_test_reader LOGIN")
    try:
        with pytest.raises(StoreError, match="permission denied"):
            TimescaleDBClient(psycopg.conninfo.make_conninfo(empty_db_url, user="rlm_test_reader"))
    finally:
        with psycopg.connect(empty_db_url, autocommit=True) as connection:
            connection.execute("DROP ROLE rlm_test_reader")


# -- a client that is closed ------------------------------------------------------------------------------------------


def test_a_closed_client_raises_with_that_reason(reused_db_url: str) -> None:
    db = TimescaleDBClient(reused_db_url)
    db.close()
    for attempt in (
        lambda: db.record_llm_interaction(LLMInteractionRecord("q", T0, "m")),
        lambda: db.initialize_query_run("q", T0),
        lambda: db.complete_query_run("q", T0),
        lambda: db.set_context(iteration=1),
        lambda: db.get_token_cache_summary("q", T0),
        lambda: db.get_top_cache_savings(),
        lambda: db.get_cache_effectiveness_by_model(),
        lambda: db.list_query_runs(),
        lambda: instrument(store=db),
    ):
        with pytest.raises(StoreError, match="closed"):
            attempt()


def test_delete_without_a_filter_raises(db: TimescaleDBClient) -> None:
    with pytest.raises(ConfigError, match="delete needs"):
        db.delete()
