"""Sessions of Codex CLI and Claude Code: every call once, with its tokens and its fingerprint, and no content."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from typer.testing import CliRunner, Result

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.cli import app
from rlm_cachetrack.transfer.agent_sessions import read_session

INSTRUCTIONS = "SECRET instructions of the agent. " * 400


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "140"})


def write(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def rows(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM llm_interactions ORDER BY time, interaction_id").fetchall()


# -- Codex ------------------------------------------------------------------------------------------------------------


def at(second: int) -> str:
    return f"2026-09-04T08:00:{second:02}.000Z"


def item(second: int, kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": at(second), "type": "response_item", "payload": {"type": kind, **payload}}


def message(second: int, role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return item(second, "message", role=role, content=[{"type": kind, "text": text}])


def tokens(second: int, last: tuple[int, int, int] | None, total: tuple[int, int, int]) -> dict[str, Any]:
    def usage(counts: tuple[int, int, int]) -> dict[str, int]:
        prompt, cached, completion = counts
        return {
            "input_tokens": prompt,
            "cached_input_tokens": cached,
            "output_tokens": completion,
            "reasoning_output_tokens": 1,
            "total_tokens": prompt + completion,
        }

    info: dict[str, Any] = {"total_token_usage": usage(total)}
    if last is not None:
        info["last_token_usage"] = usage(last)
    return {"timestamp": at(second), "type": "event_msg", "payload": {"type": "token_count", "info": info}}


def codex_session(session: str = "s-1") -> list[dict[str, Any] | str]:
    return [
        {"timestamp": at(0), "type": "session_meta", "payload": {
            "id": session, "cwd": "/home/me/shop", "model_provider": "openai", "instructions": INSTRUCTIONS}},
        {"timestamp": at(1), "type": "turn_context", "payload": {"model": "gpt-5.4", "cwd": "/home/me/shop"}},
        message(2, "user", "SECRET question"),
        {"timestamp": at(3), "type": "event_msg", "payload": {"type": "token_count", "info": None}},
        item(4, "function_call", name="shell", arguments="SECRET", call_id="c"),
        tokens(5, (4_000, 0, 100), (4_000, 0, 100)),
        tokens(6, (4_000, 0, 100), (4_000, 0, 100)),  # repeated
        item(7, "function_call_output", call_id="c", output="SECRET output"),
        message(8, "assistant", "SECRET answer"),
        tokens(9, (4_200, 3_968, 50), (8_200, 3_968, 150)),
        message(10, "user", "SECRET second question"),
        tokens(12, None, (12_700, 8_192, 250)),  # an older version: only the total
        '{"timestamp": "2026-09-04T08:00:13.000Z", "type": "event_msg", "payl',
    ]  # fmt: skip


@pytest.fixture
def codex(tmp_path: Path) -> Path:
    write(tmp_path / "sessions/2026/09/04/rollout-2026-09-04T08-00-00-s-1.jsonl", codex_session())
    return tmp_path / "sessions"


def test_each_call_of_codex_is_stored_once(reused_db_url: str, codex: Path) -> None:
    first = cli("import", "--from", "codex", str(codex), "--db-url", reused_db_url)
    assert first.exit_code == 0, first.output
    assert "1 session: 3 new calls." in first.stdout
    again = cli("import", "--from", "codex", str(codex), "--db-url", reused_db_url)
    assert "0 new calls, 3 already stored" in again.stdout
    found = rows(reused_db_url)
    counts = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    assert [tuple(row[name] for name in counts) for row in found] == [
        (4_000, 0, 100, 1),
        (4_200, 3_968, 50, 1),
        (4_500, 4_224, 100, 0),
    ]
    assert {(row["query_id"], row["model"], row["provider"], row["api"]) for row in found} == {
        ("codex: shop", "gpt-5.4", "openai", "responses")
    }
    assert [row["duration_ms"] for row in found] == [3_000.0, 2_000.0, 2_000.0]
    assert all(row["total_cost"] is not None for row in found)
    assert "SECRET" not in str(found)


def test_explain_works_on_imported_sessions(reused_db_url: str, codex: Path) -> None:
    assert cli("import", "--from", "codex", str(codex), "--db-url", reused_db_url).exit_code == 0
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        explained = db.explain_cache(run["query_id"], run["run_id"])
    assert run["state"] == "imported"
    assert explained is not None
    assert [call["verdict"] for call in explained["interactions"]] == ["first_call", "hit", "hit"]


# -- Claude Code ------------------------------------------------------------------------------------------------------


def claude_line(
    uuid: str, parent: str | None, second: int, content: Any, *, reply: str | None = None, **usage: Any
) -> dict[str, Any]:
    line: dict[str, Any] = {
        "uuid": uuid,
        "parentUuid": parent,
        "sessionId": "cs-1",
        "cwd": "/home/me/shop",
        "timestamp": at(second),
        "isSidechain": False,
        "type": "user" if reply is None else "assistant",
        "message": {"role": "user" if reply is None else "assistant", "content": content},
    }
    if reply is not None:
        line["requestId"] = f"req-{reply}"
        line["message"] |= {
            "id": reply,
            "model": "claude-sonnet-4-5-20250929",
            "usage": usage,
            "stop_reason": "end_turn",
        }
    return line


def claude_session() -> list[dict[str, Any] | str]:
    first = {"input_tokens": 5, "cache_creation_input_tokens": 6_000, "cache_read_input_tokens": 0}
    second = {"input_tokens": 7, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 6_000}
    return [
        {"type": "summary", "summary": "SECRET"},
        claude_line("u1", None, 1, INSTRUCTIONS),
        # One response in two lines; the second has the final count of output.
        claude_line("a1", "u1", 3, [{"type": "text", "text": "SECRET"}], reply="msg-1", output_tokens=1, **first),
        claude_line("a2", "a1", 4, [{"type": "tool_use", "id": "t", "name": "Read", "input": {}}], reply="msg-1",
                    output_tokens=90, **first),
        claude_line("u2", "a2", 5, [{"type": "tool_result", "tool_use_id": "t", "content": "SECRET"}]),
        claude_line("a3", "u2", 8, [{"type": "text", "text": "SECRET"}], reply="msg-2", output_tokens=30, **second),
        {**claude_line("a4", "a3", 9, "", reply="none", input_tokens=0), "message": {
            "role": "assistant", "model": "<synthetic>", "content": [], "usage": {"input_tokens": 0}}},
    ]  # fmt: skip


def test_each_response_of_claude_code_is_stored_once(reused_db_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "projects/-home-me-shop"
    write(folder / "cs-1.jsonl", claude_session())
    write(folder / "cs-2.jsonl", claude_session())  # a resumed session repeats the lines of the earlier one
    result = cli("import", "--from", "claude-code", str(tmp_path / "projects"), "--db-url", reused_db_url)
    assert result.exit_code == 0, result.output
    found = rows(reused_db_url)
    counts = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "tool_call_count")
    assert [tuple(row[name] for name in counts) for row in found] == [
        (6_005, 0, 6_000, 90, 1),
        (6_207, 6_000, 200, 30, 0),
    ]
    assert [row["duration_ms"] for row in found] == [3_000.0, 3_000.0]
    # USD per 1M of Claude Sonnet 4.5: 3 input, 3.75 written, 0.30 read, 15 output (Anthropic's price list, 2026-12-01)
    first = (5 * 3 + 6_000 * 3.75 + 90 * 15) / 1e6
    assert found[0]["total_cost"] == pytest.approx(first, abs=1e-12)
    assert {row["query_id"] for row in found} == {"claude-code: shop"}
    assert "SECRET" not in str(found)
    with TimescaleDBClient(reused_db_url) as db:
        (run,) = db.list_query_runs()
        explained = db.explain_cache(run["query_id"], run["run_id"])
    assert explained is not None
    assert [call["verdict"] for call in explained["interactions"]] == ["first_call", "hit"]


@pytest.mark.parametrize(
    ("stated", "options", "factor"),
    [
        ({"speed": "standard", "inference_geo": "global", "service_tier": "standard"}, None, 1),
        ({"speed": "fast", "inference_geo": "not_available"}, {"speed": "fast"}, 2),
        ({"speed": "fast", "inference_geo": "us"}, {"speed": "fast", "region": "us"}, 2.2),
    ],
)
def test_speed_and_region_of_claude_code_decide_the_cost(
    reused_db_url: str, tmp_path: Path, stated: dict[str, str], options: dict[str, str] | None, factor: float
) -> None:
    # claude-opus-5-5: 4 and 20 USD per 1M; fast: 2 times, US only: 1.1 times as much (Anthropic, 2026-12-01)
    counts = {"input_tokens": 1_000, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    line = claude_line("a1", "u1", 3, "SECRET", reply="msg-1", output_tokens=100, **counts, **stated)
    line["message"]["model"] = "claude-opus-5-5"
    write(tmp_path / "projects/-home-me-shop/cs-1.jsonl", [claude_line("u1", None, 1, INSTRUCTIONS), line])
    result = cli("import", "--from", "claude-code", str(tmp_path / "projects"), "--db-url", reused_db_url)
    assert result.exit_code == 0, result.output
    (row,) = rows(reused_db_url)
    assert row["total_cost"] == pytest.approx((1_000 * 4 + 100 * 20) * factor / 1e6, abs=1e-12)
    assert row["request_options"] == options


def test_a_program_that_is_not_known_and_a_folder_without_sessions(reused_db_url: str, tmp_path: Path) -> None:
    assert cli("import", "--from", "cursor", "--db-url", reused_db_url).exit_code == 2
    empty = cli("import", "--from", "codex", str(tmp_path), "--db-url", reused_db_url)
    assert empty.exit_code == 2
    assert "contains no session of codex" in empty.stderr
    assert cli("import", "--db-url", reused_db_url).exit_code == 2


def test_a_response_that_is_being_written_waits_for_the_next_import(reused_db_url: str, tmp_path: Path) -> None:
    lines: list[Any] = claude_session()[:4]
    for line in lines[2:]:
        line["message"]["stop_reason"] = None
    path = tmp_path / "projects/-home-me-shop/cs-1.jsonl"
    arguments = ("import", "--from", "claude-code", str(path.parent), "--db-url", reused_db_url)
    write(path, lines[:3])
    assert cli(*arguments).exit_code == 0
    assert rows(reused_db_url) == []
    write(path, lines)
    os.utime(path, (time.time() - 3_600,) * 2)  # the program was ended
    assert cli(*arguments).exit_code == 0
    assert [row["completion_tokens"] for row in rows(reused_db_url)] == [90]
    assert cli(*arguments).exit_code == 0
    assert len(rows(reused_db_url)) == 1


# -- damaged files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("agent", "lines"), [("codex", codex_session()), ("claude-code", claude_session())])
def test_a_session_cut_off_at_any_byte_yields_the_calls_before(agent: Any, lines: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path / "rollout-1.jsonl", lines)
    whole = path.read_bytes()
    expected = [call.number for call in read_session(agent, path, set())]
    assert len(expected) >= 2
    counts = set()
    for size in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:size])
        found = [call.number for call in read_session(agent, path, set())]
        assert found == expected[: len(found)]
        counts.add(len(found))
    assert counts == set(range(len(expected) + 1))


def test_a_damaged_total_of_codex_costs_no_other_call(tmp_path: Path) -> None:
    lines = codex_session()
    damaged = json.loads(json.dumps(lines[9]))
    damaged["payload"]["info"]["total_token_usage"]["input_tokens"] = {"a": 1}
    path = write(tmp_path / "rollout-1.jsonl", [*lines[:9], damaged, *lines[10:]])
    assert len(list(read_session("codex", path, set()))) == 3
