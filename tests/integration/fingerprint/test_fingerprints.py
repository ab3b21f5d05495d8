"""Fingerprints from a real call to the column: on every way, never in the way, and without any content."""

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
from rlm_cachetrack.fingerprint.hash_queue import Fingerprints, installation_key
from rlm_cachetrack.fingerprint.segments import Digests, Fingerprint, of_request
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.memory import MemorySink

SECRET = "the eagle lands at noon"
MESSAGES = [
    {"role": "system", "content": f"you know that {SECRET}"},
    {"role": "user", "content": f"does it? {SECRET}"},
]


def stored(url: str) -> list[Fingerprint | None]:
    assert flush(20)
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT interaction_id, fingerprint FROM llm_interactions ORDER BY time").fetchall()
    known = decode_run(rows)
    return [known.get(str(identity)) for identity, _ in rows]


def expected(api: str, body: dict[str, Any], state: Path) -> tuple[Any, ...]:
    return of_request(api, body, Digests(installation_key(state))).segments


def test_every_way_to_call_gives_the_same_fingerprint(endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path) -> None:
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


def test_a_list_that_goes_on_growing_is_as_it_was_sent(endpoint: SimulatedEndpoint, db_url: str) -> None:
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


def test_a_failed_call_has_one(endpoint: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k", max_retries=0) as client:
        instrument(client, store=db_url)
        nobody = client.with_options(base_url="http://127.0.0.1:9/v1")
        with pytest.raises(APIConnectionError):
            nobody.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    found = stored(db_url)
    assert found[-1] is not None
    assert len(found[-1].segments) == 2


def test_nothing_of_the_text_is_kept_anywhere(endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
        held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert flush(20)
    held += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with psycopg.connect(db_url) as connection:
        (row,) = connection.execute("SELECT llm_interactions::text, fingerprint FROM llm_interactions").fetchall()
    held += row[0].encode() + row[1]
    for word in SECRET.split()[1:3]:
        assert word.encode() not in held


def test_they_can_be_switched_off(endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url, fingerprints=False)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    assert stored(db_url) == [None]
    assert not list(tmp_path.rglob("fingerprint.key"))


def test_the_environment_switches_them_off(
    endpoint: SimulatedEndpoint, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_FINGERPRINTS", "0")
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    assert stored(db_url) == [None]


def test_a_secret_that_cannot_be_kept_costs_no_record_and_is_said_once(
    endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "fingerprint.key").write_bytes(b"damaged")
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for _ in range(3):
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
            assert flush(20)
    assert stored(db_url) == [None] * 3
    assert [record.message for record in caplog.records if "fingerprint" in record.message] == [
        "calls are recorded without fingerprints, so that misses of the cache cannot be explained: "
        f"{tmp_path / 'state' / 'fingerprint.key'}: expected 32 bytes, found 7; delete it to have a new one made"
    ]


def test_a_sink_of_the_users_gets_them_too(endpoint: SimulatedEndpoint) -> None:
    sink = MemorySink()
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=sink)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    row = sink.row
    assert len(decode_run([(row["interaction_id"], bytes.fromhex(row["fingerprint"]))])) == 1


# -- the queue ----------------------------------------------------------------------------------------------------


def test_what_waits_is_bounded_and_counted(tmp_path: Path) -> None:
    queue = Fingerprints(tmp_path)
    place = b'{"query_id":"q","run_id":"2026-03-02T00:00:00+00:00"}'
    body = {"messages": [{"role": "user", "content": "x"}]}
    for number in range(5_000):
        queue.add(number, "chat.completions", place, body, None, None)
    assert queue.dropped == 5_000 - 4_096
    assert queue.of(0) is not None
    assert queue.of(4_999) is None
    queue.add(5_000, "chat.completions", place, body, None, None)
    assert queue.of(5_000) is not None


def test_one_that_is_offered_again_is_the_same(tmp_path: Path) -> None:
    queue = Fingerprints(tmp_path)
    place = b'{"query_id":"q","run_id":"2026-03-02T00:00:00+00:00"}'
    for number in range(3):
        body = {"messages": [{"role": "user", "content": f"{n}"} for n in range(number + 1)]}
        queue.add(number, "chat.completions", place, body, None, None)
    first = [queue.of(number) for number in range(3)]
    queue.stored()
    assert [queue.of(number) for number in range(3)] == first


def test_stats_say_how_many_were_dropped(endpoint: SimulatedEndpoint, db_url: str) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)  # type: ignore[arg-type]
    assert stats()["fingerprints_dropped"] == 0
