"""Reading a JSON array one element at a time gives the same elements as the ``json`` module."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from rlm_cachetrack.transfer import json_array
from rlm_cachetrack.transfer.json_array import elements


def value(random_: random.Random, depth: int = 0) -> Any:
    kind = random_.randrange(7 if depth < 3 else 5)
    if kind == 0:
        return random_.choice([None, True, False])
    if kind == 1:
        return random_.randrange(-(10**12), 10**12)
    if kind == 2:
        return random_.uniform(-1e6, 1e6)
    if kind < 5:
        return "".join(random_.choices('ab"\\,[]{}: \né🎭ש', k=random_.randrange(30)))
    if kind == 5:
        return [value(random_, depth + 1) for _ in range(random_.randrange(4))]
    return {str(number): value(random_, depth + 1) for number in range(random_.randrange(4))}


@pytest.mark.parametrize("chunk", [1, 2, 7, 65_536])
def test_elements_are_the_same_wherever_a_chunk_ends(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "_CHUNK", chunk)
    random_ = random.Random(8)
    for number in range(60):
        whole = [value(random_) for _ in range(number % 9)]
        for text in (
            json.dumps(whole),
            json.dumps(whole, indent=2, ensure_ascii=False),
            f"\ufeff \r\n{json.dumps(whole)}\n ",
        ):
            assert list(elements(io.BytesIO(text.encode()))) == whole, text


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1]]", "[1] x", '["a', "[12", b"[\xff]", "[1}", "nothing"],
)
def test_a_damaged_array_is_an_error(text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ValueError, match=r"no |not an array|after the array|codec"):
        list(elements(io.BytesIO(raw)))


def test_elements_before_the_damage_are_yielded() -> None:
    reading = elements(io.BytesIO(b'[1, {"a": 2}, 3, x'))
    assert [next(reading) for _ in range(3)] == [1, {"a": 2}, 3]
    with pytest.raises(ValueError, match="no end"):
        next(reading)
