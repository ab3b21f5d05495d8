"""Embeddings in a raw response: everything but the vectors is read, wherever it is in the body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlm_cachetrack.capture.bodies import _without_vectors

VECTORS = [{"object": "embedding", "index": n, "embedding": [0.25, -1e-9, 7] * 40} for n in range(100)]
PACKED = [{"object": "embedding", "index": n, "embedding": "AAAAPwAAAMA=" * 40} for n in range(100)]
HEAD: dict[str, Any] = {"object": "list"}
END: dict[str, Any] = {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
WITHOUT = [
    {**HEAD, "data": VECTORS, **END},
    {**HEAD, "data": PACKED, **END},
    {"id": "emb-1", **HEAD, "created": 1_700_000_000, "model": "m/v-1.5", "data": VECTORS, "usage": END["usage"]},
    {"data": VECTORS, **END, "id": None},
    {**HEAD, "data": VECTORS, "meta": [1], **END},
]
"""Bodies as servers send them; the vectors are not read."""
WHOLE = [
    {**HEAD, **END, "data": VECTORS},
    {**HEAD, "data": VECTORS, **END, "meta": [1]},
    {**HEAD, "data": VECTORS, "model": "a ]", "usage": END["usage"]},
    {**HEAD, "data": VECTORS, "model": "m", "usage": {**END["usage"], "parts": [{"prompt_tokens": 7}]}},
    {"usage": {"data": [1], "prompt_tokens": 5}, "data": VECTORS, "model": "m"},
    {"model": 'a "data": [', "data": VECTORS, "usage": END["usage"]},
    {"error": {"message": "x" * 20_000}},
    {**HEAD, "data": VECTORS[:1], **END},
    {**HEAD, "data": [], **END},
    {**HEAD, "data": [], "model": "m", "usage": None, "more": VECTORS},
    [VECTORS],
    7,
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("answer", WITHOUT)
def test_vectors_are_left_out_and_everything_else_is_read(answer: dict[str, Any], indent: int | None) -> None:
    found = _without_vectors(json.dumps(answer, indent=indent).encode())
    assert found.pop("data") == [0]
    assert found == {name: value for name, value in answer.items() if name not in ("data", "meta")}


@pytest.mark.parametrize("answer", WHOLE, ids=range(len(WHOLE)))
def test_a_body_that_cannot_be_cut_safely_is_read_completely(answer: Any) -> None:
    assert _without_vectors(json.dumps(answer).encode()) == answer


@pytest.mark.parametrize("body", [b"", b"{", b"x" * 20_000, json.dumps(WITHOUT[0]).encode()[:-1]])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        _without_vectors(body)
