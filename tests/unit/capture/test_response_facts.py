"""Facts are read from the chunks of a stream, whatever the server leaves out."""

from __future__ import annotations

from typing import Any

import pytest
from openai._models import construct_type
from openai.types.chat import ChatCompletionChunk

from rlm_cachetrack.capture.response_facts import ResponseFacts

STATED = {"id": "chatcmpl-1", "model": "gpt-5-2025-08-07", "service_tier": "flex"}


def chunk(text: str, **fields: Any) -> Any:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return construct_type(type_=ChatCompletionChunk, value={"choices": [choice], **fields})


@pytest.mark.parametrize("missing", [None, *STATED])
def test_text_counts_once_if_the_first_chunk_lacks_a_field(missing: str | None) -> None:
    facts = ResponseFacts()
    facts.api = "chat.completions"
    sent = {name: value for name, value in STATED.items() if name != missing}
    for text in ("four", "fives"):
        assert facts.chunk(chunk(text, **sent)) is False
    assert facts.length == 9
    assert (facts._response_id, facts._model, facts._tier) == tuple(map(sent.get, STATED))
