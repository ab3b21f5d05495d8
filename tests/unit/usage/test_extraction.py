"""The usage is found in objects of the SDK and copied as plain JSON."""

from __future__ import annotations

import json
import math
import re
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import wrapt
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseTextDeltaEvent,
)

from rlm_cachetrack.usage import locate_usage, plain
from tests.unit.usage.samples import CHAT_USAGE, RESPONSES_USAGE, chat_chunk


def test_usage_is_found_in_responses_of_the_sdk() -> None:
    completion = ChatCompletion.construct(**chat_chunk(usage=CHAT_USAGE))
    assert locate_usage(completion) is completion.usage
    response = Response.construct(id="r", output=[], usage=RESPONSES_USAGE)
    assert locate_usage(response) is response.usage


def test_usage_is_found_only_in_final_events_of_the_responses_api() -> None:
    created = ResponseCreatedEvent.construct(type="response.created", response={"id": "r", "usage": None})
    delta = ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta="hi")
    completed = ResponseCompletedEvent.construct(
        type="response.completed", response={"id": "r", "usage": RESPONSES_USAGE}
    )
    assert locate_usage(created) is None
    assert locate_usage(delta) is None
    assert plain(locate_usage(completed)) == RESPONSES_USAGE


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("usage", chat_chunk(usage=CHAT_USAGE)),
        ("x_groq", chat_chunk(x_groq={"id": "req", "usage": CHAT_USAGE})),
        (
            "x_groq beside a null",
            chat_chunk(usage=None, x_groq={"id": "req", "usage": CHAT_USAGE}, service_tier="on_demand"),
        ),
        ("choices[0]", chat_chunk(choices=[{"index": 0, "delta": {}, "usage": CHAT_USAGE}])),
    ],
)
def test_usage_is_found_in_every_field_of_a_chunk_that_can_hold_it(where: str, body: dict[str, Any]) -> None:
    assert plain(locate_usage(ChatCompletionChunk.construct(**body))) == CHAT_USAGE
    assert plain(locate_usage(body)) == CHAT_USAGE


@pytest.mark.parametrize(
    "body",
    [
        chat_chunk(),
        chat_chunk(usage=None),
        chat_chunk(usage={}),
        chat_chunk(usage="none"),
        chat_chunk(choices=[]),
        chat_chunk(choices=None),
        chat_chunk(choices=[None]),
        chat_chunk(x_groq={"id": "req"}),
        chat_chunk(x_groq=None),
        chat_chunk(response="text"),
    ],
)
def test_a_chunk_without_usage_has_none(body: dict[str, Any]) -> None:
    assert locate_usage(body) is None
    assert locate_usage(ChatCompletionChunk.construct(**body)) is None


def test_usage_is_found_in_wrapped_and_foreign_objects() -> None:
    completion = ChatCompletion.construct(**chat_chunk(usage=CHAT_USAGE))
    assert plain(locate_usage(wrapt.ObjectProxy(completion))) == CHAT_USAGE
    assert locate_usage(SimpleNamespace(usage=CHAT_USAGE)) is CHAT_USAGE

    class Computed:
        @property
        def usage(self) -> dict[str, Any]:
            return CHAT_USAGE

    assert locate_usage(Computed()) is CHAT_USAGE
    for nothing in (None, "text", 3, object(), [], b""):
        assert locate_usage(nothing) is None


# -- plain copies -----------------------------------------------------------------------------------------------------


def test_plain_holds_exactly_the_fields_the_server_sent() -> None:
    sent = {
        **CHAT_USAGE,
        "prompt_tokens_details": None,
        "cost": 0.25,
        "cost_details": {"upstream_inference_cost": None},
        "notes": [1, "two", {"three": 3.5}, None, True],
    }
    got = plain(ChatCompletion.construct(id="1", choices=[], usage=sent).usage)
    assert got == sent


def test_plain_is_a_copy_that_later_changes_do_not_reach() -> None:
    source = {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}
    got = plain(source)
    source["prompt_tokens_details"]["cached_tokens"] = 99  # type: ignore[index]
    assert got == {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}


def test_plain_is_none_for_objects_without_usage() -> None:
    for thing in (None, 3, "text", [1], object(), SimpleNamespace(prompt_tokens=1)):
        assert plain(thing) is None
    assert plain(MappingProxyType({"prompt_tokens": 1})) == {"prompt_tokens": 1}


def test_plain_never_raises() -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("boom")

    assert plain(Hostile(a=1)) is None


def test_plain_is_strict_json_that_postgresql_takes() -> None:
    got = plain(
        {
            "nan": math.nan,
            "inf": -math.inf,
            "huge": 2**70,
            "nul": "a\0b",
            "surrogate": "x\ud800",
            "key\0": 1,
            7: "number as key",
            "object": {1},
        }
    )
    text = json.dumps(got, allow_nan=False)
    assert "\\u0000" not in text
    assert not re.search(r"\\ud[89a-f]", text)
    assert got is not None
    assert got["huge"] == str(2**70)
    assert got["7"] == "number as key"


def test_plain_limits_deep_nesting() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"in": deep}
    got, depth = plain(deep), 0
    while got:
        got, depth = got["in"], depth + 1
    assert depth <= 8
