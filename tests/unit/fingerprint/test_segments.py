"""Fingerprints: what is a segment, what makes two equal, and that nothing of the text is in them; the codec."""

from __future__ import annotations

import random
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from rlm_cachetrack.fingerprint.delta_codec import Encoder, decode_run
from rlm_cachetrack.fingerprint.hash_queue import installation_key
from rlm_cachetrack.fingerprint.segments import Digests, Fingerprint, of_request

KEY = b"k" * 32


def taken(body: dict[str, Any], api: str = "chat.completions", key: bytes = KEY) -> Fingerprint:
    return of_request(api, body, Digests(key))


def kinds(body: dict[str, Any], api: str = "chat.completions") -> list[tuple[str, int | None, int]]:
    return [(segment.kind, segment.message, segment.size) for segment in taken(body, api).segments]


def test_a_chat_is_read_in_the_order_in_which_it_is_rendered() -> None:
    tools = [{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}]
    body = {
        "messages": [
            {"role": "system", "content": "be good"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "u"}}],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
            {"role": "tool", "tool_call_id": "1", "content": "sun"},
        ],
        "response_format": {"type": "json_object"},
        "tools": tools,
    }
    assert [(kind, message) for kind, message, _ in kinds(body)] == [
        ("tool_definition", None),
        ("tool_definition", None),
        ("response_format", None),
        ("system", 0),
        ("user", 1),
        ("user", 1),
        ("assistant", 2),
        ("tool", 3),
    ]
    assert kinds(body)[3] == ("system", 0, 7)


def test_a_response_is_read_with_what_is_at_the_server() -> None:
    body = {
        "instructions": "be good",
        "previous_response_id": "resp_1",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "function_call_output", "call_id": "c", "output": "sun"},
        ],
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}},
    }
    assert [(kind, message) for kind, message, _ in kinds(body, "responses")] == [
        ("response_format", None),
        ("system", None),
        ("previous_response", None),
        ("user", 0),
        ("tool", 1),
    ]
    first = of_request("responses", {"input": "hi"}, Digests(KEY), "resp_1")
    assert first.response == taken(body, "responses").segments[2].digest
    assert kinds({"input": "hello"}, "responses") == [("user", 0, 5)]
    assert kinds({"prompt": ["ab", "c"]}, "completions") == [("user", 0, 2), ("user", 1, 1)]


def test_equal_texts_are_equal_however_they_are_wrapped_and_other_roles_are_not() -> None:
    plain = taken({"messages": [{"role": "user", "content": "hi"}]}).segments[0]
    wrapped = taken({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}).segments[0]
    other = taken({"messages": [{"role": "system", "content": "hi"}]}).segments[0]
    named = taken({"messages": [{"role": "user", "content": "hi", "name": "bob"}]}).segments[0]
    assert plain == wrapped
    assert len({plain.digest, other.digest, named.digest}) == 3


def test_the_secret_decides_and_tells_installations_apart() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    mine, theirs = taken(body), taken(body, key=b"x" * 32)
    assert mine.segments[0].digest != theirs.segments[0].digest
    assert mine.installation != theirs.installation


def test_breakpoints_keys_and_options_are_kept_but_are_no_text() -> None:
    marked = {"type": "text", "text": "hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": [marked, {"type": "text", "text": "ho"}]}],
        "prompt_cache_key": "team",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "explicit"},
    }
    found = taken(body)
    assert [segment.breakpoint for segment in found.segments] == [True, False]
    assert found.segments[0].digest == taken({"messages": [{"role": "user", "content": "hi"}]}).segments[0].digest
    assert (found.retention, found.explicit) == ("24h", True)
    assert found.cache_key is not None
    assert b"team" not in found.cache_key
    anthropic = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    assert taken({"messages": [{"role": "user", "content": [anthropic]}]}).segments[0].breakpoint


def test_odd_texts_have_a_fingerprint_too() -> None:
    assert kinds({"messages": [{"role": "user", "content": "\ud800 \0"}, {"role": "user", "content": ""}, "odd"]}) == [
        ("user", 0, 3),
        ("user", 1, 0),
        ("other", 2, 3),
    ]
    assert kinds({}) == []


# -- the codec ---------------------------------------------------------------------------------------------------------


def identity(number: int) -> str:
    return str(UUID(int=0x7000_8000_0000_0000_0000 << 48 | number))


def test_every_fingerprint_comes_back_whatever_conversations_do() -> None:
    chance = random.Random(7)
    digests, encoder = Digests(KEY), Encoder()
    conversations: list[list[dict[str, str]]] = [[], [], []]
    rows, sent = [], {}
    for number in range(600):
        messages = chance.choice(conversations)
        act = chance.random()
        if messages and act < 0.1:
            messages[chance.randrange(len(messages))] = {"role": "user", "content": f"edited {number}"}
        elif messages and act < 0.15:
            del messages[chance.randrange(len(messages))]
        elif act < 0.2:
            chance.shuffle(messages)
        elif act < 0.22:
            messages.clear()
        else:
            messages += [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": f"a {number}"}]
        body = {"messages": messages, "prompt_cache_key": "k" if number % 50 == 0 else None}
        sent[identity(number)] = of_request("chat.completions", body, digests)
        rows.append((identity(number), encoder.encode("run", number, sent[identity(number)])))
    chance.shuffle(rows)
    assert decode_run(rows) == sent


def test_a_growing_conversation_costs_its_growth() -> None:
    digests, encoder = Digests(KEY), Encoder()
    messages, sizes = [], []
    for number in range(200):
        messages.append({"role": "user", "content": "x" * (1_000 + number)})
        sizes.append(
            len(encoder.encode("run", number, of_request("chat.completions", {"messages": messages}, digests)))
        )
    assert max(sizes[1:60]) <= 20
    assert max(size / (number + 1) for number, size in enumerate(sizes)) <= 12


def test_a_row_that_is_gone_takes_only_those_along_that_need_it() -> None:
    digests, encoder = Digests(KEY), Encoder()
    messages, rows = [], []
    for number in range(150):
        messages.append({"role": "user", "content": f"{number}"})
        made = of_request("chat.completions", {"messages": messages}, digests)
        rows.append((identity(number), encoder.encode("run", number, made)))
    known = decode_run(row for row in rows if row[0] != identity(10))
    assert identity(9) in known
    assert identity(11) not in known
    assert identity(149) in known
    assert len(known[identity(149)].segments) == 150


@pytest.mark.parametrize("data", [b"", b"\0", b"\x20", b"\xe0abc", b"\x21" + b"x" * 4, b"\x20ab\x01\x50\x03abc"])
def test_bytes_that_are_none_of_ours_are_no_fingerprint(data: bytes) -> None:
    assert decode_run([(identity(1), data)]) == {}


# -- the secret ----------------------------------------------------------------------------------------------------


def test_the_secret_is_made_once_and_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: installation_key(folder), range(32)))
    assert len(keys) == 1
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == keys.pop()


def test_a_secret_that_machines_share_needs_no_file(tmp_path: Path) -> None:
    assert installation_key(tmp_path, "s" * 16) == installation_key(tmp_path / "other", "s" * 16)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_secret_is_said(tmp_path: Path) -> None:
    (tmp_path / "fingerprint.key").write_bytes(b"short")
    with pytest.raises(OSError, match="expected 32 bytes, found 5"):
        installation_key(tmp_path)
