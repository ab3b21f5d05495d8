"""The codec of the fingerprint column restores every fingerprint; a conversation takes space only for its growth."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from rlm_cachetrack.fingerprint.delta_codec import Encoder, decode_run
from rlm_cachetrack.fingerprint.segments import Digests, fingerprint_request

KEY = b"k" * 32


def identity(number: int) -> str:
    return str(UUID(int=0x7000_8000_0000_0000_0000 << 48 | number))


def test_every_fingerprint_is_decoded_after_any_change_of_a_conversation() -> None:
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
        made = fingerprint_request("chat.completions", body, digests)
        sent[identity(number)] = made.decoded()
        rows.append((identity(number), encoder.encode("run", number, made)))
    chance.shuffle(rows)
    assert decode_run(rows) == sent


def test_the_pieces_of_a_long_text_are_decoded() -> None:
    part = {"type": "text", "text": "all that matters " * 200, "prompt_cache_breakpoint": {"mode": "explicit"}}
    body = {"messages": [{"role": "system", "content": [part]}, {"role": "user", "content": "hi"}]}
    made = fingerprint_request("chat.completions", body, Digests(KEY))
    segments = made.decoded().segments
    assert [segment.continues for segment in segments][:3] == [False, True, True]
    assert [segment.breakpoint for segment in segments][-3:] == [False, True, False]
    assert decode_run([(identity(1), Encoder().encode("run", 1, made))]) == {identity(1): made.decoded()}


def test_the_bytes_of_a_growing_conversation_are_those_of_its_new_segments() -> None:
    digests, encoder = Digests(KEY), Encoder()
    messages, sizes = [], []
    for number in range(200):
        messages.append({"role": "user", "content": "x" * (1_000 + number)})
        sizes.append(
            len(encoder.encode("run", number, fingerprint_request("chat.completions", {"messages": messages}, digests)))
        )
    assert max(sizes[1:60]) <= 20
    assert max(size / (number + 1) for number, size in enumerate(sizes)) <= 12


def test_a_deleted_row_loses_only_fingerprints_that_depend_on_it() -> None:
    digests, encoder = Digests(KEY), Encoder()
    messages, rows = [], []
    for number in range(150):
        messages.append({"role": "user", "content": f"{number}"})
        made = fingerprint_request("chat.completions", {"messages": messages}, digests)
        rows.append((identity(number), encoder.encode("run", number, made)))
    known = decode_run(row for row in rows if row[0] != identity(10))
    assert identity(9) in known
    assert identity(11) not in known
    assert identity(149) in known
    assert len(known[identity(149)].segments) == 150


@pytest.mark.parametrize("data", [b"", b"\0", b"\x20", b"\xe0abc", b"\x21" + b"x" * 4, b"\x20ab\x01\x50\x03abc"])
def test_unknown_bytes_are_ignored(data: bytes) -> None:
    assert decode_run([(identity(1), data)]) == {}
