"""The total of a batch is stored once, and an import of the output file replaces it by its calls."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run, shutdown, uninstrument
from rlm_cachetrack.capture import totals
from rlm_cachetrack.cli import app
from tests.support.scripted import ScriptedServer
from tests.support.scripted_media import CREATED
from tests.surfaces.calls import client_of


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def retrieve(server: ScriptedServer, db_url: str, batch_id: str) -> Any:
    """Retrieve a batch as a new process would, and return its run."""
    totals._counted.clear()
    with client_of(server, "sync") as client:
        instrument(client, store=db_url)
        with query_run("nightly") as run:
            client.batches.retrieve(batch_id)
        assert flush(120)
    uninstrument()
    shutdown()
    return run


def output_file(path: Path, prompts: tuple[int, int] = (4_000, 6_000)) -> Path:
    """Write the output file of the scripted batch: two calls, whose tokens are those of the batch."""
    lines = []
    for number, (prompt, completion) in enumerate(zip(prompts, (200, 300), strict=True)):
        usage = {
            "input_tokens": prompt, "input_tokens_details": {"cached_tokens": 2_000}, "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 50}, "total_tokens": prompt + completion,
        }  # fmt: skip
        body = {
            "id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": CREATED + 90 + number,
            "status": "completed", "model": "gpt-5-2025-08-07", "output": [], "usage": usage,
        }  # fmt: skip
        response = {"status_code": 200, "request_id": f"req_{number}", "body": body}
        lines.append(json.dumps({"id": f"batch_req_{number}", "custom_id": f"c{number}", "response": response}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def stored(db_url: str) -> list[tuple[Any, ...]]:
    with TimescaleDBClient(db_url) as db:
        rows = db.get_usage(since=datetime(2026, 1, 1, tzinfo=UTC), group_by=["model"])
        return [(row["model"], row["total_interactions"], row["total_prompt_tokens"]) for row in rows]


def import_it(db_url: str, path: Path) -> None:
    result = CliRunner().invoke(app, ["import", str(path), "--db-url", db_url])
    assert result.exit_code == 0, result.output


def test_a_batch_that_two_programs_retrieve_is_one_record(server: ScriptedServer, db_url: str) -> None:
    batch_id = f"batch_completed-{uuid.uuid4().hex}"
    retrieve(server, db_url, batch_id)
    retrieve(server, db_url, batch_id)
    assert stored(db_url) == [("gpt-5-2025-08-07", 1, 10_000)]
    retrieve(server, db_url, f"batch_completed-{uuid.uuid4().hex}")
    assert stored(db_url) == [("gpt-5-2025-08-07", 2, 20_000)]


def test_an_import_replaces_the_total_by_its_calls(server: ScriptedServer, db_url: str, tmp_path: Path) -> None:
    batch_id = f"batch_completed-{uuid.uuid4().hex}"
    run = retrieve(server, db_url, batch_id)
    path = output_file(tmp_path / "output.jsonl")
    import_it(db_url, path)
    assert stored(db_url) == [("gpt-5-2025-08-07", 2, 10_000)]
    import_it(db_url, path)
    assert stored(db_url) == [("gpt-5-2025-08-07", 2, 10_000)]
    with TimescaleDBClient(db_url) as db:
        assert db.get_llm_interactions("nightly", run.run_id) == []


def test_an_import_of_another_file_leaves_the_total(server: ScriptedServer, db_url: str, tmp_path: Path) -> None:
    retrieve(server, db_url, f"batch_completed-{uuid.uuid4().hex}")
    import_it(db_url, output_file(tmp_path / "output.jsonl", prompts=(4_000, 5_999)))
    assert stored(db_url) == [("gpt-5-2025-08-07", 3, 19_999)]


def test_a_file_named_after_its_batch_replaces_the_total_before_and_after(
    server: ScriptedServer, db_url: str, tmp_path: Path
) -> None:
    """The sums may differ, for example if the file has no line of a failed request."""
    retrieve(server, db_url, "batch_completed")
    retrieve(server, db_url, "batch_expired")
    import_it(db_url, output_file(tmp_path / "batch_completed_output.jsonl", prompts=(4_000, 5_000)))
    assert stored(db_url) == [("gpt-5-2025-08-07", 3, 19_000)]
    retrieve(server, db_url, "batch_completed")
    assert stored(db_url) == [("gpt-5-2025-08-07", 3, 19_000)]
