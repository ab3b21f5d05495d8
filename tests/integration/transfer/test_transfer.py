"""Export and import with a real PostgreSQL: files, counts, sums, and lines that cannot be imported."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from rlm_cachetrack import LLMInteractionRecord, TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.records import COLUMNS
from tests.support import recorded

START = datetime(2026, 3, 1, 8, 30, 0, 123_456, tzinfo=UTC)
HOSTILE = '=cmd|"x"!A1, \x1b[31m\u202eזה, "quoted"\nline two 🎭'


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def rows_of(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT * FROM llm_interactions ORDER BY time, interaction_id").fetchall()


def store_some(url: str) -> None:
    """Store a priced call, one without cache counts, one of an unknown model, and one that failed."""
    with TimescaleDBClient(url) as db:
        for number, more in enumerate(
            [
                {"model": "gpt-5", "prompt_tokens": 4000, "cached_tokens": 1024, "completion_tokens": 200},
                {"model": "gpt-5", "prompt_tokens": 4000, "cached_tokens": None, "metadata": {"a": [1, HOSTILE]}},
                {"model": HOSTILE, "prompt_tokens": 10, "cached_tokens": 0, "current_depth": 2, "recursion_id": "x"},
                {"model": "gpt-5", "success": False, "cached_tokens": None, "error_type": "RateLimitError"},
            ]
        ):
            moment = START + timedelta(hours=number)
            db.record_llm_interaction(
                LLMInteractionRecord("bench", START, start_time=moment, duration_ms=1.5, iteration=number, **more)
            )
        db.complete_query_run("bench", START)


# -- our own export ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_export_imported_into_another_store_gives_the_same_rows(
    form: str, db_url: str, reused_db_url: str, tmp_path: Path
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    store_some(db_url)
    file = tmp_path / f"calls.{form}"
    assert cli("export", "--output", str(file), "--db-url", db_url).exit_code == 0
    result = cli("import", str(file), "--json", "--db-url", reused_db_url)
    assert result.exit_code == 0, result.stdout + result.stderr
    facts = json.loads(result.stdout)[0]
    assert (facts["read"], facts["stored"], facts["added"], facts["rejected"]) == (4, 4, 4, 0)
    assert rows_of(reused_db_url) == rows_of(db_url)
    again = json.loads(cli("import", str(file), "--json", "--db-url", reused_db_url).stdout)[0]
    assert (again["stored"], again["added"]) == (4, 0)
    assert rows_of(reused_db_url) == rows_of(db_url)
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        assert (run["status"], run["end_time"]) == ("imported", START + timedelta(hours=3))
        assert db.get_token_cache_optimization("bench", START) is not None


def test_an_import_keeps_the_status_of_a_known_run(db_url: str, tmp_path: Path) -> None:
    store_some(db_url)
    file = tmp_path / "calls.jsonl"
    cli("export", "--output", str(file), "--db-url", db_url)
    cli("import", str(file), "--db-url", db_url)
    with TimescaleDBClient(db_url) as db:
        assert [run["status"] for run in db.list_query_runs()] == ["completed"]


def test_an_export_writes_only_the_calls_that_match_its_filters(db_url: str) -> None:
    store_some(db_url)
    bounds = ["--since", (START + timedelta(hours=1)).isoformat(), "--until", (START + timedelta(hours=3)).isoformat()]
    done = cli("export", "--format", "csv", *bounds, "--query", "bench", "--db-url", db_url)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["iteration"] for row in rows] == ["1", "2"]
    assert rows[1]["model"] == HOSTILE
    assert list(rows[0]) == list(COLUMNS)
    only = cli("export", "--model", HOSTILE, "--db-url", db_url)
    assert [json.loads(line)["prompt_tokens"] for line in only.stdout.splitlines()] == [10]
    assert cli("export", "--query", "nobody", "--db-url", db_url).stdout == ""


def test_parquet_to_stdout_is_a_usage_error(db_url: str) -> None:
    result = cli("export", "--format", "parquet", "--db-url", db_url)
    assert result.exit_code == 2
    assert "--output" in result.stderr


def test_an_export_that_fails_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    assert cli("export", "--output", str(file), "--db-url", "postgresql://x@127.0.0.1:1/none").exit_code == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "state"] or not any(tmp_path.glob("*calls*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_an_export_writes_into_a_pipe_or_device_and_replaces_only_files(reused_db_url: str, tmp_path: Path) -> None:
    store_some(reused_db_url)
    pipe, file, link = tmp_path / "pipe", tmp_path / "calls.jsonl", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(file)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli("export", "--output", str(pipe), "--db-url", reused_db_url).exit_code == 0
        piped = os.read(reader, 1 << 16)
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert cli("export", "--output", str(link), "--db-url", reused_db_url).exit_code == 0
    assert link.is_symlink()
    assert piped == file.read_bytes()
    assert piped.count(b"\n") == 4


PEAK = """
import resource, sys
from pathlib import Path
from rlm_cachetrack.cli import main
try: main()
except SystemExit as done: assert not done.code, done.code
status = Path("/proc/self/status")
if status.exists():  # getrusage counts the memory of the parent before exec
    [peak] = [int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"peak {peak}", file=sys.stderr)
"""


def peak(*arguments: str) -> int:
    """Run a command and return its highest resident memory, in bytes."""
    command = [sys.executable, "-c", PEAK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rsplit("peak ", 1)[1])


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_the_memory_of_an_export_and_an_import_is_bounded(
    form: str, db_url: str, reused_db_url: str, tmp_path: Path
) -> None:
    """10,000 rows of 3 kB have more than 25 MB, by which memory use may exceed that of 100 rows."""
    with psycopg.connect(db_url) as connection:
        connection.execute(
            "INSERT INTO llm_interactions (time, query_id, run_id, model, metadata) "
            "SELECT %s::timestamptz + n * interval '1 s', 'big', %s, 'm', "
            "jsonb_build_object('pad', repeat(md5(n::text), 94)) FROM generate_series(1, 10000) n",
            (START, START),
        )
    few, whole = tmp_path / f"few.{form}", tmp_path / f"whole.{form}"
    until = (START + timedelta(seconds=101)).isoformat()
    export = ("export", "--format", form, "--db-url", db_url, "--output")
    exported = -peak(*export, str(few), "--until", until) + peak(*export, str(whole))
    load = ("import", "--db-url", reused_db_url)
    imported = -peak(*load, str(few)) + peak(*load, str(whole))
    assert max(imported, exported) < 25_000_000, f"import {imported:,}, export {exported:,} bytes"
    with psycopg.connect(reused_db_url) as connection:
        assert connection.execute("SELECT count(*) FROM llm_interactions").fetchone() == (10_000,)


def test_the_memory_of_an_import_of_an_array_is_bounded(reused_db_url: str, tmp_path: Path) -> None:
    """10,000 elements of 3 kB have more than 25 MB, by which memory use may exceed that of 100 elements."""
    few, whole = tmp_path / "few.json", tmp_path / "whole.json"
    for file, count in ((few, 100), (whole, 10_000)):
        calls = ({**CHAT, "id": f"c-{number}", "pad": f"{number:08}" * 375} for number in range(count))
        file.write_text(f"[{','.join(map(json.dumps, calls))}]")
    load = ("import", "--db-url", reused_db_url)
    imported = -peak(*load, str(few)) + peak(*load, str(whole))
    assert imported < 25_000_000, f"{imported:,} bytes"
    assert len(rows_of(reused_db_url)) == 10_100


def test_an_incomplete_array_is_imported_up_to_its_end(reused_db_url: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    calls = [json.dumps({**CHAT, "id": f"chatcmpl-{number}"}) for number in range(3)]
    file.write_text("[" + ",".join(calls) + ',{"id": "chatc')
    result = cli("import", str(file), "--db-url", reused_db_url)
    assert "4: the JSON array is damaged here" in result.stderr + result.stdout
    assert len(rows_of(reused_db_url)) == 3
    file.write_text("[nothing")
    assert cli("import", str(file), "--db-url", reused_db_url).exit_code == 2


# -- files of other software ---------------------------------------------------------------------------------------

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_770_000_000,
    "model": "gpt-5-2025-08-07",
    "service_tier": "default",
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "SECRET ANSWER"}}],
    "usage": {
        "prompt_tokens": 2000,
        "completion_tokens": 100,
        "total_tokens": 2100,
        "prompt_tokens_details": {"cached_tokens": 1024},
    },
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_770_000_060,
    "completed_at": 1_770_000_062,
    "status": "completed",
    "model": "gpt-5-2025-08-07",
    "output": [{"type": "function_call", "name": "f", "arguments": "SECRET"}],
    "usage": {
        "input_tokens": 1000,
        "output_tokens": 50,
        "total_tokens": 1050,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 20},
    },
}


def test_stored_openai_responses_are_read_and_priced(reused_db_url: str, tmp_path: Path) -> None:
    """gpt-5 costs USD 1.25 / 0.125 / 10 per 1M prompt / cached / completion tokens."""
    file = tmp_path / "january.jsonl"
    file.write_text("\n".join(map(json.dumps, [CHAT, RESPONSE])) + "\n")
    for _ in range(2):
        assert cli("import", str(file), "--db-url", reused_db_url).exit_code == 0
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        chat, response = db.get_llm_interactions(run["query_id"], run["run_id"])
    assert (run["query_id"], run["run_id"]) == ("january", datetime.fromtimestamp(1_770_000_000, UTC))
    assert (chat["prompt_tokens"], chat["cached_tokens"], chat["completion_tokens"]) == (2000, 1024, 100)
    assert chat["total_cost"] == pytest.approx((976 * 1.25 + 1024 * 0.125 + 100 * 10) / 1e6, abs=1e-12)
    assert (response["api"], response["duration_ms"], response["tool_call_count"]) == ("responses", 2000.0, 1)
    assert response["reasoning_tokens"] == 20
    assert "SECRET" not in str(rows_of(reused_db_url))


def test_batch_output_files_are_read(reused_db_url: str, tmp_path: Path) -> None:
    """The Batch API costs half of USD 1.25 / 0.125 / 10 per 1M prompt / cached / completion tokens."""
    # The built-in price list has this tier only since the autumn of 2026.
    body = {**CHAT, "created": 1_795_200_000}
    good = {"id": "batch_req_1", "custom_id": "q-1", "error": None}
    lines = [
        {**good, "response": {"status_code": 200, "request_id": "req_1", "body": body}},
        {**good, "custom_id": "q-2", "response": {"status_code": 400, "body": {"error": {"message": "SECRET"}}}},
        {**good, "custom_id": "q-3", "response": None, "error": {"code": "batch_expired", "message": "SECRET"}},
        {**good, "custom_id": "q-4", "response": {"status_code": 200, "body": {"object": "list", "data": []}}},
    ]
    file = tmp_path / "batch_out.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    result = cli("import", str(file), "--db-url", reused_db_url)
    assert result.exit_code == 1
    assert f"{file}:2: the request failed with status 400" in result.stderr
    assert f"{file}:3: the request has no response (batch_expired)" in result.stderr
    assert f"{file}:4: the response has no usage" in result.stderr
    assert "SECRET" not in result.stderr
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        (call,) = db.get_llm_interactions(run["query_id"], run["run_id"])
    assert run["query_id"] == "batch_out"
    assert (call["service_tier"], call["request_id"], call["metadata"]["custom_id"]) == ("batch", "req_1", "q-1")
    assert call["duration_ms"] is None
    assert call["total_cost"] == pytest.approx((976 * 1.25 + 1024 * 0.125 + 100 * 10) / 2e6, abs=1e-12)


def test_embeddings_of_a_batch_have_the_batch_price(reused_db_url: str, tmp_path: Path) -> None:
    """text-embedding-3-small costs USD 0.02 per 1M tokens, in a batch half (OpenAI's price list, 2026-12-01)."""
    usage = {"prompt_tokens": 8_000, "total_tokens": 8_000}
    body = {"object": "list", "data": [{"embedding": [0.1]}], "model": "text-embedding-3-small", "usage": usage}
    lines = [
        {"id": f"batch_req_{n}", "custom_id": f"e-{n}", "error": None, "response": {"status_code": 200, "body": body}}
        for n in range(2)
    ]
    file = tmp_path / "embeddings.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    for _ in range(2):  # the second import adds nothing
        assert cli("import", str(file), "--db-url", reused_db_url).exit_code == 0
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        calls = db.get_llm_interactions(run["query_id"], run["run_id"])
    assert [(call["api"], call["service_tier"], call["prompt_tokens"]) for call in calls] == [
        ("embeddings", "batch", 8_000)
    ] * 2
    assert [call["total_cost"] for call in calls] == [pytest.approx(8_000 * 0.01 / 1e6, abs=1e-12)] * 2


@pytest.mark.parametrize("indent", [None, 2])
def test_a_page_of_spend_logs_is_read(reused_db_url: str, tmp_path: Path, indent: int | None) -> None:
    file = tmp_path / "page.json"
    rows = [SPEND, {**SPEND, "request_id": "chatcmpl-def"}]
    file.write_text(json.dumps({"data": rows, "total": 2, "page": 1, "page_size": 50}, indent=indent))
    assert cli("import", str(file), "--db-url", reused_db_url).exit_code == 0
    assert len(rows_of(reused_db_url)) == 2


def test_the_activity_of_openrouter_is_read(reused_db_url: str, tmp_path: Path) -> None:
    file = tmp_path / "activity.csv"
    file.write_text(
        "generation_id,created_at,cost_total,tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,"
        "model_permaslug,provider_name,generation_time_ms,time_to_first_token_ms,finish_reason_normalized\n"
        "gen-1,2026-03-02 02:37:51.271,0.0123,1000,200,50,600,openai/gpt-5,OpenAI,1500,250,stop\n"
        "gen-2,2026-03-02 02:38:51.271,0.5,10,20,,,private/model,Own,,,\n"
        "gen-3,,0.5,10,20,,,private/model,Own,,,\n"
    )
    result = cli("import", str(file), "--db-url", reused_db_url)
    assert f"{file}:4: created_at is missing" in result.stderr
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        first, second = db.get_llm_interactions(run["query_id"], run["run_id"])
    names = ("provider", "model", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    assert [first[name] for name in names] == ["openrouter", "openai/gpt-5", 1000, 600, 200, 50]
    assert (first["total_cost"], first["duration_ms"], first["time_to_first_token_ms"]) == (0.0123, 1500.0, 250.0)
    assert (second["total_cost"], second["cached_tokens"]) == (0.5, None)


SPEND = {
    "request_id": "chatcmpl-abc",
    "call_type": "acompletion",
    "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
    "spend": 0.0042,
    "total_tokens": 2100,
    "prompt_tokens": 2000,
    "completion_tokens": 100,
    "startTime": "2026-02-02T02:40:00.500000",
    "endTime": "2026-02-02T02:40:02.000000",
    "completionStartTime": "2026-02-02T02:40:01.000000",
    "model": "openai/gpt-5",
    "custom_llm_provider": "openai",
    "cache_hit": "False",
    "status": "success",
    "messages": [{"content": "SECRET"}],
    "metadata": {
        "usage_object": {
            "prompt_tokens": 2000,
            "completion_tokens": 100,
            "total_tokens": 2100,
            "prompt_tokens_details": {"cached_tokens": 1024},
        }
    },
}


def spend_logs(form: str) -> str:
    rows = [SPEND, {**SPEND, "request_id": "hit", "cache_hit": "True", "spend": 0}]
    if form == "array":
        return json.dumps(rows)
    if form == "jsonl":
        return "\n".join(map(json.dumps, rows))
    out = io.StringIO()
    table = csv.DictWriter(out, list(SPEND))
    table.writeheader()
    table.writerows({**row, "metadata": json.dumps(row["metadata"]), "messages": "line\nbreak"} for row in rows)
    return out.getvalue()


@pytest.mark.parametrize("form", ["array", "jsonl", "csv"])
def test_litellm_spend_logs_are_read(form: str, reused_db_url: str, tmp_path: Path) -> None:
    """LiteLLM's spend is the stored cost; the original cost is 1,024 x (1.25 - 0.125) / 1M higher."""
    file = tmp_path / "spend.txt"
    file.write_text(spend_logs(form))
    result = cli("import", str(file), "--query", "proxy", "--db-url", reused_db_url)
    assert result.exit_code == 1
    number = {"array": 2, "jsonl": 2, "csv": 4}[form]
    assert f"{file}:{number}: served from LiteLLM's own cache" in result.stderr
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        (call,) = db.get_llm_interactions("proxy", run["run_id"])
    assert (call["model"], call["provider"], call["cached_tokens"]) == ("gpt-5", "openai", 1024)
    assert (call["duration_ms"], call["time_to_first_token_ms"]) == (1500.0, 500.0)
    assert (call["total_cost"], call["price_source"]) == (0.0042, "litellm")
    assert call["original_cost"] == pytest.approx(0.0042 + 1024 * 1.125 / 1e6, abs=1e-12)
    stored = str(rows_of(reused_db_url))
    assert "SECRET" not in stored
    assert SPEND["api_key"] not in stored


@pytest.mark.parametrize(
    ("more", "cached", "written"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 800}, "completion_tokens_details": None}, 800, None),
        ({"cache_read_input_tokens": 800, "cache_creation_input_tokens": 100}, 800, 100),
        ({"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}, 0, 0),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, None, None),
    ],
)
def test_spend_logs_of_older_litellm_have_cache_counts_in_additional_values(
    more: dict[str, Any], cached: int | None, written: int | None, reused_db_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "spend.jsonl"
    row = {**SPEND, "metadata": {"usage_object": None, "additional_usage_values": more}}
    tool = {**row, "request_id": "tool", "call_type": "call_mcp_tool", "mcp_namespaced_tool_name": "github/search"}
    file.write_text(f"{json.dumps(row)}\n{json.dumps(tool)}\n")
    result = cli("import", str(file), "--query", "proxy", "--db-url", reused_db_url)
    assert f"{file}:2: a tool call" in result.stderr
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        (call,) = db.get_llm_interactions("proxy", run["run_id"])
    assert (call["prompt_tokens"], call["cached_tokens"], call["cache_write_tokens"]) == (2000, cached, written)
    assert call["usage_anomaly"] is None


@pytest.mark.skipif(not recorded.FILE.exists(), reason=recorded.ABSENT)
def test_recorded_responses_are_read_like_captured_calls(reused_db_url: str, tmp_path: Path) -> None:
    cases = [
        case
        for case in recorded.load()
        if case["status"] == 200
        and case["provider"] == "openai"
        and (case.get("response_json") or {}).get("object") in ("chat.completion", "response")
        and case["expected"].get("prompt_tokens") is not None
    ]
    assert len(cases) > 50
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(json.dumps(case["response_json"]) for case in cases))
    cli("import", str(file), "--db-url", reused_db_url)
    expected = {case["response_json"]["id"]: case["expected"] for case in cases}
    with psycopg.connect(reused_db_url) as connection:
        stored = connection.execute(
            "SELECT metadata->>'response_id', prompt_tokens, completion_tokens, cached_tokens FROM llm_interactions"
        ).fetchall()
    assert {row[0] for row in stored} == set(expected)
    for identity, *counts in stored:
        wanted = expected[identity]
        assert counts == [wanted["prompt_tokens"], wanted["completion_tokens"], wanted["cached_tokens"]], identity


# -- invalid lines -----------------------------------------------------------------------------------------------------


def test_bad_lines_are_reported_with_their_numbers_and_kept(reused_db_url: str, tmp_path: Path) -> None:
    own = {
        "time": START.isoformat(),
        "interaction_id": "019c0000-0000-7000-8000-000000000001",
        "query_id": "q",
        "run_id": START.isoformat(),
        "model": "m",
        "success": True,
    }
    lines = [
        json.dumps(CHAT).encode(),
        b"",
        b"{not json",
        b'{"id": "\xff"}',
        b"[1]",
        b'{"some": "thing"}',
        json.dumps({**CHAT, "created": None}).encode(),
        json.dumps({**CHAT, "model": ""}).encode(),
        json.dumps({**own, "prompt_tokens": -1}).encode(),
        json.dumps({**own, "interaction_id": "no-uuid"}).encode(),
        json.dumps({**own, "run_id": "yesterday"}).encode(),
        json.dumps({**own, "query_id": 7}).encode(),
        json.dumps(own).encode(),
    ]
    file = tmp_path / "mixed.jsonl"
    file.write_bytes(b"\n".join(lines))
    result = cli("import", str(file), "--json", "--db-url", reused_db_url)
    assert result.exit_code == 1
    (facts,) = json.loads(result.stdout)
    assert facts["added"] == 2
    assert [reason["line"] for reason in facts["reasons"]] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    reject_file = Path(facts["reject_file"])
    assert reject_file.read_bytes().splitlines() == lines[2:12]
    reject_file.write_text(json.dumps({**own, "interaction_id": "019c0000-0000-7000-8000-000000000002"}))
    corrected = cli("import", str(reject_file), "--rejects", str(tmp_path), "--db-url", reused_db_url)
    assert corrected.exit_code == 0, corrected.stderr


def test_a_line_that_the_database_rejects_stops_no_other(reused_db_url: str, tmp_path: Path) -> None:
    """One line has a time that PostgreSQL cannot store."""
    lines = [{**CHAT, "id": f"c-{number}"} for number in range(9)]
    own = {
        "time": "0001-01-01T00:00:00+00:00",
        "interaction_id": "019c0000-0000-7000-8000-000000000001",
        "query_id": "q" * 1999,
        "run_id": START.isoformat(),
        "model": "m",
        "metadata": {"number": 10**400},
    }
    file = tmp_path / "one.jsonl"
    file.write_text("\n".join(map(json.dumps, [*lines[:4], own, *lines[4:]])))
    result = cli("import", str(file), "--json", "--db-url", reused_db_url)
    (facts,) = json.loads(result.stdout)
    assert facts["added"] + facts["rejected"] == 10
    assert facts["added"] >= 9
    assert len(rows_of(reused_db_url)) == facts["added"]


def test_a_missing_file_is_a_usage_error(reused_db_url: str) -> None:
    assert cli("import", "nowhere.jsonl", "--db-url", reused_db_url).exit_code == 2
