"""A JSON array read an element at a time gives what the standard library gives for the whole."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from rlm_cachetrack.transfer import json_array as _json_array
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
def test_it_is_what_the_whole_is_wherever_chunks_end(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json_array, "_CHUNK", chunk)
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
def test_what_is_none_is_told(text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ValueError, match=r"no |after it|codec"):
        list(elements(io.BytesIO(raw)))


def test_what_stands_before_a_mistake_is_given() -> None:
    reading = elements(io.BytesIO(b'[1, {"a": 2}, 3, x'))
    assert [next(reading) for _ in range(3)] == [1, {"a": 2}, 3]
    with pytest.raises(ValueError, match="no end"):
        next(reading)
