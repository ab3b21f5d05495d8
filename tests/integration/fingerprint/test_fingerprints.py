"""Fingerprints from real calls to the column: for every kind of call, without content, and without delaying calls."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from openai import APIConnectionError, AsyncOpenAI, OpenAI

from rlm_cachetrack import flush, instrument, query_run, stats
from rlm_cachetrack.fingerprint.delta_codec import decode_run
from rlm_cachetrack.fingerprint.hash_queue import Fingerprints
from rlm_cachetrack.fingerprint.secret_key import installation_key
from rlm_cachetrack.fingerprint.segments import Digests, Fingerprint, fingerprint_request
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.memory import MemorySink

SECRET = "the eagle lands at noon"
MESSAGES = [
    {"role": "system", "content": f"you know that {SECRET}"},
    {"role": "user", "content": f"does it? {SECRET}"},
]


def stored(url: str) -> list[Fingerprint | None]:
    assert flush(120)
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT interaction_id, fingerprint FROM llm_interactions ORDER BY time").fetchall()
    known = decode_run(rows)
    return [known.get(str(identity)) for identity, _ in rows]


def expected(api: str, body: dict[str, Any], state: Path) -> tuple[Any, ...]:
    return fingerprint_request(api, body, Digests(installation_key(state))).decoded().segments


def test_every_kind_of_call_has_the_same_fingerprint(endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        chat: Any = client.chat.completions
        asked = {"model": "gpt-5", "messages": MESSAGES}
        chat.create(**asked)
        for _ in chat.create(**asked, stream=True):
            pass
        chat.with_raw_response.create(**asked).parse()
        with chat.stream(**asked) as stream:
            stream.until_done()
        client.responses.create(model="gpt-5", input=MESSAGES)
    found = stored(db_url)
    assert len(found) == 5
    wanted = expected("chat.completions", asked, tmp_path / "state")
    assert [one and one.segments for one in found] == [wanted] * 5
    assert found[4] is not None
    assert found[4].response is not None


async def test_async_calls_have_theirs(endpoint: SimulatedEndpoint, db_url: str) -> None:
    async with AsyncOpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        calls = (
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": f"n {number}"}])
            for number in range(20)
        )
        await asyncio.gather(*calls)
    found = await asyncio.to_thread(stored, db_url)
    assert len({one.segments for one in found if one is not None}) == 20


def test_a_message_list_that_grows_is_hashed_as_it_was_sent(endpoint: SimulatedEndpoint, db_url: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "first"}]
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        with query_run("growing"):
            for _ in range(30):
                reply = client.chat.completions.create(model="gpt-5", messages=messages)
                messages.append(reply.choices[0].message)
                messages.append({"role": "user", "content": "and then?"})
    found = stored(db_url)
    assert [len(one.segments) if one else None for one in found] == [1 + 2 * turn for turn in range(30)]
    assert all(b.segments[: len(a.segments)] == a.segments for a, b in pairwise(found) if a and b)


def test_a_failed_call_has_a_fingerprint(endpoint: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client:
        instrument(client, store=db_url)
        nobody = client.with_options(base_url="http://127.0.0.1:9/v1")
        with pytest.raises(APIConnectionError):
            nobody.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    found = stored(db_url)
    assert found[-1] is not None
    assert len(found[-1].segments) == 2


def test_no_text_is_stored_anywhere(endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
        held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert flush(120)
    held += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with psycopg.connect(db_url) as connection:
        (row,) = connection.execute("SELECT llm_interactions::text, fingerprint FROM llm_interactions").fetchall()
    held += row[0].encode() + row[1]
    for word in SECRET.split()[1:3]:
        assert word.encode() not in held


def test_an_argument_switches_fingerprints_off(endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url, fingerprints=False)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    assert stored(db_url) == [None]
    assert not list(tmp_path.rglob("fingerprint.key"))


def test_the_environment_switches_fingerprints_off(
    endpoint: SimulatedEndpoint, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_FINGERPRINTS", "0")
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    assert stored(db_url) == [None]


def test_a_damaged_key_is_logged_once_and_loses_no_record(
    endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "fingerprint.key").write_bytes(b"damaged")
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for _ in range(3):
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
            assert flush(120)
    assert stored(db_url) == [None] * 3
    assert [record.message for record in caplog.records if "fingerprint" in record.message] == [
        "calls are recorded without fingerprints, so cache misses cannot be explained: "
        f"{tmp_path / 'state' / 'fingerprint.key'}: expected 32 bytes, found 7; delete it to get a new one"
    ]


def test_a_record_sink_gets_fingerprints(endpoint: SimulatedEndpoint) -> None:
    sink = MemorySink()
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=sink)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    row = sink.row
    assert len(decode_run([(row["interaction_id"], row["fingerprint"])])) == 1


# -- the queue ----------------------------------------------------------------------------------------------------


def test_the_queue_is_bounded_and_drops_are_counted(tmp_path: Path) -> None:
    queue = Fingerprints(tmp_path)
    run_context = '{"query_id":"q","run_id":"2026-03-02T00:00:00+00:00"}'
    body = {"messages": [{"role": "user", "content": "x"}]}
    for number in range(5_000):
        queue.add(number, "chat.completions", run_context, body, None, None, None)
    assert queue.dropped == 5_000 - 4_096
    assert queue.get(0) is not None
    assert queue.get(4_999) is None
    queue.add(5_000, "chat.completions", run_context, body, None, None, None)
    assert queue.get(5_000) is not None


def test_a_retried_call_has_the_same_fingerprint(tmp_path: Path) -> None:
    queue = Fingerprints(tmp_path)
    run_context = '{"query_id":"q","run_id":"2026-03-02T00:00:00+00:00"}'
    for number in range(3):
        body = {"messages": [{"role": "user", "content": f"{n}"} for n in range(number + 1)]}
        queue.add(number, "chat.completions", run_context, body, None, None, None)
    first = [queue.get(number) for number in range(3)]
    queue.discard_stored()
    assert [queue.get(number) for number in range(3)] == first


def test_stats_include_the_number_of_dropped_fingerprints(endpoint: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    assert stats()["fingerprints_dropped"] == 0
