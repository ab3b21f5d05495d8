"""Recorded responses of real providers, replayed to the real SDK and read back from the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from rlm_cachetrack import TimescaleDBClient, instrument, query_run
from tests.support.recorded import ABSENT, FIELDS, FILE, expected_tokens, load, replay_server

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=ABSENT)


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return load()


@pytest.fixture(scope="module")
def replayed() -> Iterator[Any]:
    with replay_server() as server:
        yield server


def send(client: OpenAI, case: dict[str, Any]) -> None:
    """Call as the recorded program did, as far as the response depends on it."""
    request = case["request"] if isinstance(case["request"], dict) else {}
    model = request.get("model") or "asked-for"
    stream: Any = case.get("response_sse") is not None
    headers = {"x-case": case["id"]}
    if case["api"] == "chat":
        messages: Any = request.get("messages") or [{"role": "user", "content": "hello"}]
        answer = client.chat.completions.create(model=model, messages=messages, stream=stream, extra_headers=headers)
    elif case["api"] == "responses":
        answer = client.responses.create(model=model, input="hello", stream=stream, extra_headers=headers)
    elif case["api"] == "completions":
        answer = client.completions.create(model=model, prompt="hello", stream=stream, extra_headers=headers)
    else:
        answer = client.embeddings.create(model=model, input="hello", extra_headers=headers)
    if stream:
        for _ in answer:
            pass


def test_every_recorded_call_is_one_row_with_the_numbers_the_provider_sent(
    db_url: str, replayed: Any, cases: list[dict[str, Any]]
) -> None:
    raised = {}
    client = instrument(OpenAI(base_url=replayed.base_url, api_key="x", max_retries=0), store=db_url)
    with client, query_run("corpus") as run:
        for number, case in enumerate(cases, 1):
            run.iteration = number
            try:
                send(client, case)
            except openai.OpenAIError as exc:
                raised[case["id"]] = exc
    with TimescaleDBClient(db_url) as db:
        rows = db.get_llm_interactions(run.query_id, run.run_id)
        summary = db.get_token_cache_summary(run.query_id, run.run_id)
    assert [row["iteration"] for row in sorted(rows, key=lambda row: row["iteration"])] == list(
        range(1, len(cases) + 1)
    )

    by_number = {row["iteration"]: row for row in rows}
    wrong, exceptions = [], Counter[str]()
    for number, case in enumerate(cases, 1):
        row = by_number[number]
        want, kind = expected_tokens(case)
        exceptions[kind] += 1
        expected = case["expected"]
        want["has_tool_calls"] = expected["has_tool_calls"]
        want["tool_call_count"] = expected["tool_call_count"]
        request = case["request"] if isinstance(case["request"], dict) else {}
        want["model"] = expected["model"] or request.get("model") or "asked-for"
        got = {name: row[name] for name in want}
        if usage_after_error(case):
            exceptions["usage sent after an error"] += 1
            want |= dict.fromkeys(FIELDS)  # the SDK stops reading at the error event
        if got != want:
            wrong.append({"id": case["id"], "provider": case["provider"], "got": got, "want": want})
        assert row["success"] is (case["id"] not in raised and not is_error_body(case)), case["id"]
    assert wrong == [], "\n".join(map(str, wrong))
    assert exceptions["usage sent after an error"] == 1
    assert summary is not None
    assert summary["total_interactions"] == len(cases)
    assert 0 <= summary["cache_hit_rate"] <= 1  # type: ignore[operator]


def usage_after_error(case: dict[str, Any]) -> bool:
    """Return True for a stream that continues after an error event: the SDK raises there and reads no further."""
    events = [line for line in (case.get("response_sse") or "").splitlines() if line.startswith("data: {")]
    errors = [number for number, event in enumerate(events) if '"error":{' in event]
    usages = [number for number, event in enumerate(events) if '"usage":{' in event]
    return case["api"] == "chat" and bool(errors and usages) and errors[0] < usages[0]


def is_error_body(case: dict[str, Any]) -> bool:
    """Return True for a response with status 200 whose body is an error."""
    body = case.get("response_json")
    return isinstance(body, dict) and bool(body.get("error"))
