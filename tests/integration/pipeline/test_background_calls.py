"""A background response that another process retrieves is charged with the completion window of its request."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run, shutdown, uninstrument
from rlm_cachetrack.capture import background
from rlm_cachetrack.pipeline import runtimes
from tests.integration.pipeline.test_writer import call, in_time, reject_model, sql
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import client_of

PRICES = """\
version: 1
per: 1M
models:
  gpt-5: {prompt: 1.25, cached: 0.125, completion: 10, windows: {2h: 0.7, 8h: 0.6}}
"""
NO_WINDOWS = PRICES.replace(", windows: {2h: 0.7, 8h: 0.6}", "")
USAGE = {
    "input_tokens": 1_000,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 1_100,
}
FULL_USD = (1_000 * 1.25 + 100 * 10) / 1e6


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        server.salt = uuid.uuid4().hex
        created = time.time() - 60
        server.usage = USAGE
        server.facts = {"created_at": created, "completed_at": created + 45}
        yield server


class Process:
    """Acts as several processes, one after the other."""

    def __init__(self, server: ScriptedServer, db_url: str, folder: Path, prices: str) -> None:
        self._server = server
        self._db_url = db_url
        self._prices = folder / "prices.yaml"
        self._prices.write_text(prices)

    def create(self, query_id: str = "asks", **options: Any) -> str:
        def act(client: Any) -> str:
            body = {"background": True, **({"background_options": options} if options else {})}
            return str(client.responses.create(model="gpt-5", input="hello", extra_body=body).id)

        return self._run(act, query_id)

    def retrieve(self, response_id: str, query_id: str = "polls") -> None:
        def act(client: Any) -> str:
            while client.responses.retrieve(response_id).status != "completed":
                pass
            return response_id

        self._run(act, query_id)

    def _run(self, act: Any, query_id: str) -> str:
        for known in (background._counted, background._options, background._parked):
            known.clear()
        with client_of(self._server, "sync") as client:
            instrument(client, store=self._db_url, pricing=self._prices)
            with query_run(query_id):
                response_id: str = act(client)
            assert flush(120)
        uninstrument()
        shutdown()
        return response_id

    def rows(self, query_id: str) -> list[dict[str, Any]]:
        with TimescaleDBClient(self._db_url) as db:
            return [
                row
                for run in db.list_query_runs()
                if run["query_id"] == query_id
                for row in db.get_llm_interactions(query_id, run["run_id"])
            ]


@contextmanager
def in_another_process() -> Iterator[None]:
    """Clear the state of this process about background responses inside the block, and restore it afterwards."""
    states = (background._counted, background._options, background._parked)
    known = [dict(state) for state in states]
    for state in states:
        state.clear()
    try:
        yield
    finally:
        for state, values in zip(states, known, strict=True):
            state.clear()
            state.update(values)


@pytest.fixture
def process(server: ScriptedServer, db_url: str, tmp_path: Path) -> Process:
    return Process(server, db_url, tmp_path, PRICES)


@pytest.mark.parametrize(("window", "factor"), [("8h", 0.6), ("2h", 0.7), ("soonest", 1), (None, 1)])
def test_the_window_of_the_request_is_charged(process: Process, window: str | None, factor: float) -> None:
    response_id = process.create(**({} if window is None else {"completion_window": window}))
    process.retrieve(response_id)
    (row,) = process.rows("polls")
    assert float(row["total_cost"]) == pytest.approx(FULL_USD * factor, rel=1e-12)
    assert (row["request_options"] or {}).get("completion_window", "soonest") == (window or "soonest")
    assert row["cost_excludes"] is None


def test_its_time_is_that_of_the_response(process: Process, server: ScriptedServer) -> None:
    process.retrieve(process.create())
    (row,) = process.rows("polls")
    assert row["time"].timestamp() == pytest.approx(server.facts["created_at"], abs=1e-3)
    assert row["duration_ms"] == pytest.approx(45_000, abs=100)
    assert "requested_model" not in row["metadata"]


def test_a_response_that_several_processes_retrieve_is_charged_once(process: Process) -> None:
    response_id = process.create(completion_window="8h")
    for query_id in ("first", "second", "first"):
        process.retrieve(response_id, query_id)
    assert [len(process.rows(query_id)) for query_id in ("first", "second")] == [1, 0]


def test_a_rejected_record_does_not_charge_a_response_of_its_batch_again(process: Process, db_url: str) -> None:
    response_id = process.create(completion_window="8h")
    process.retrieve(response_id, "first")
    sql(db_url, reject_model("bad"))
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def retrieve_beside_a_rejected_record(client: Any) -> str:
        journal = runtimes.default().journal
        with psycopg.connect(db_url) as other:
            other.execute("LOCK TABLE llm_interactions IN ACCESS EXCLUSIVE MODE")
            journal.append(call(model="good"))
            journal.wake.set()
            assert in_time(lambda: sql(db_url, waits))  # the writer; what follows is in one batch
            journal.append(call(model="bad"))
            while client.responses.retrieve(response_id).status != "completed":
                pass
        return response_id

    process._run(retrieve_beside_a_rejected_record, "second")
    assert [len(process.rows(query_id)) for query_id in ("first", "second", "q")] == [1, 0, 1]


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
def test_a_video_that_several_processes_retrieve_is_charged_once(process: Process) -> None:
    video_id = f"video_{uuid.uuid4().hex}"

    def retrieve(client: Any) -> str:
        assert client.videos.retrieve(video_id).status == "completed"
        return video_id

    for query_id in ("first", "second"):
        process._run(retrieve, query_id)
    assert [row["token_details"] for row in process.rows("first")] == [{"seconds": 8}]
    assert process.rows("second") == []


def test_a_response_that_its_own_process_retrieved_is_not_charged_again(process: Process) -> None:
    def create_and_retrieve(client: Any) -> str:
        made = client.responses.create(model="gpt-5", input="hello", extra_body={"background": True})
        while client.responses.retrieve(made.id).status != "completed":
            pass
        return str(made.id)

    response_id = process._run(create_and_retrieve, "asks")
    process.retrieve(response_id)
    assert [row["prompt_tokens"] for row in process.rows("asks")] == [1_000]
    assert process.rows("polls") == []


@pytest.mark.parametrize("is_stored", [False, True], ids=["its request waits", "its request is stored"])
def test_a_response_that_another_process_counted_is_not_charged_to_its_own_again(
    process: Process, server: ScriptedServer, is_stored: bool
) -> None:
    server.facts = {"created_at": time.time()}

    def create_retrieve_elsewhere_and_retrieve(client: Any) -> str:
        body = {"background": True, "background_options": {"completion_window": "8h"}}
        response_id = str(client.responses.create(model="gpt-5", input="hello", extra_body=body).id)
        if is_stored:
            assert flush(120)
        with in_another_process(), query_run("polls"):
            while client.responses.retrieve(response_id).status != "completed":
                pass
            assert flush(120)
        assert client.responses.retrieve(response_id).status == "completed"
        return response_id

    process._run(create_retrieve_elsewhere_and_retrieve, "asks")
    (asked,) = process.rows("asks")
    assert (asked["prompt_tokens"], asked["total_cost"], asked["metadata"]["usage"]) == (None, None, "pending")
    assert asked["request_options"]["completion_window"] == "8h"
    assert [row["prompt_tokens"] for row in process.rows("polls")] == [1_000]


def test_a_request_that_is_not_stored_leaves_the_discount_open(process: Process, db_url: str) -> None:
    process.retrieve(f"resp_{uuid.uuid4().hex}")
    (row,) = process.rows("polls")
    assert float(row["total_cost"]) == pytest.approx(FULL_USD, rel=1e-12)
    assert row["cost_excludes"] == ["completion_window_discount"]


@pytest.mark.parametrize(
    ("prices", "factor", "excludes"),
    [
        (PRICES, 1, ["completion_window_discount"]),
        (PRICES.replace("1.25", "2.5").replace(" 10,", " 20,"), 2, ["completion_window_discount"]),
        (NO_WINDOWS, 1, None),
    ],
    ids=["same prices", "other prices", "no windows"],
)
def test_a_repricing_knows_the_open_discount(
    process: Process, db_url: str, tmp_path: Path, prices: str, factor: float, excludes: list[str] | None
) -> None:
    process.retrieve(f"resp_{uuid.uuid4().hex}")
    path = tmp_path / "other.yaml"
    path.write_text(prices)
    with TimescaleDBClient(db_url, pricing=path) as db:
        (difference,) = db.reprice()["difference"]
    assert difference["changed_interactions"] == (prices != PRICES)
    (row,) = process.rows("polls")
    assert float(row["total_cost"]) == pytest.approx(FULL_USD * factor, rel=1e-12)
    assert row["cost_excludes"] == excludes


def test_a_model_without_windows_has_its_cost(server: ScriptedServer, db_url: str, tmp_path: Path) -> None:
    process = Process(server, db_url, tmp_path, NO_WINDOWS)
    process.retrieve(f"resp_{uuid.uuid4().hex}")
    (row,) = process.rows("polls")
    assert float(row["total_cost"]) == pytest.approx(FULL_USD, rel=1e-12)
    assert row["cost_excludes"] is None


def test_several_responses_of_a_batch_get_their_own_windows(process: Process, server: ScriptedServer) -> None:
    ids = []
    for window in ("8h", "2h"):
        server.salt = uuid.uuid4().hex
        ids.append(process.create(completion_window=window))
    unknown, server.salt = f"resp_{uuid.uuid4().hex}", uuid.uuid4().hex

    def act(client: Any) -> str:
        for response_id in (*ids, unknown):
            while client.responses.retrieve(response_id).status != "completed":
                pass
            client.responses.create(model="gpt-5", input="hello")
        return ""

    process._run(act, "polls")
    found = {row["response_id"]: row for row in process.rows("polls")}
    costs = [float(found[response_id]["total_cost"]) / FULL_USD for response_id in (*ids, unknown)]
    assert costs == pytest.approx([0.6, 0.7, 1])
    assert len(process.rows("polls")) == 6
