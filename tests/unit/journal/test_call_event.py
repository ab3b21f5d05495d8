"""A finished call is written as a journal event and decoded again."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

import pytest
from openai._models import construct_type
from openai.types import CompletionUsage
from openai.types.completion_usage import PromptTokensDetails

from rlm_cachetrack.journal import call_event, next_number

START = 1_767_225_600_250_000_000  # 2026-01-01 00:00:00.25 UTC
RUN_CONTEXT = '{"query_id":"q","run_id":"2026-01-01T00:00:00+00:00","iteration":3}'


def line(usage: Any = None, **changed: Any) -> bytes:
    values: dict[str, Any] = {
        **dict.fromkeys(call_event.FIELDS),
        "number": 7,
        "api": "chat.completions",
        "provider": "openai",
        "model": "gpt-5-2025-08-07",
        "requested_model": "gpt-5-2025-08-07",
        "start_ns": START,
        "duration_ns": 1_500_000_000,
        "tool_call_count": 0,
        **changed,
    }
    return call_event.encode(RUN_CONTEXT, tuple(values[name] for name in call_event.FIELDS), usage)


def event(usage: Any = None, **changed: Any) -> dict[str, Any]:
    return call_event.expand(json.loads(line(usage, **changed)))


def test_an_event_is_decoded_with_its_run_its_names_and_the_derived_fields() -> None:
    got = event(finish_reason="stop", tool_call_count=2)

    assert got["kind"] == "call"
    assert (got["query_id"], got["run_id"], got["iteration"]) == ("q", "2026-01-01T00:00:00+00:00", 3)
    assert (got["model"], got["finish_reason"]) == ("gpt-5-2025-08-07", "stop")
    assert (got["start_time"], got["end_time"]) == (1_767_225_600.25, 1_767_225_601.75)
    assert (got["duration_ms"], got["time_to_first_token_ms"]) == (1500.0, None)
    assert (got["has_tool_calls"], got["tool_call_count"]) == (True, 2)
    assert got["success"] is True
    assert got["metadata"] is None


def test_measured_times_are_kept_to_about_a_microsecond_in_steps_that_compress() -> None:
    got = event(duration_ns=9_235_579, time_to_first_token_ns=1_234_567_891)

    for name, measured in (("duration_ms", 9.235579), ("time_to_first_token_ms", 1234.567891)):
        assert abs(got[name] - measured) <= 0.0005
        assert (got[name] * 1024).is_integer()
    assert event(time_to_first_token_ns=None)["time_to_first_token_ms"] is None


def test_an_event_is_one_line_whatever_text_it_holds() -> None:
    hostile = 'a\nb\r\n"c"\x00\u2028\ud83d'  # the last character is half of a surrogate pair

    encoded = line(error_type="E", error_message=hostile)

    assert encoded.count(b"\n") == 1
    assert encoded.endswith(b"\n")
    assert call_event.expand(json.loads(encoded))["error_message"] == hostile


def test_a_call_with_an_error_failed() -> None:
    assert event(error_type="RateLimitError", error_message="")["success"] is False


def test_the_served_model_is_stored_and_the_requested_one_is_kept() -> None:
    got = event(requested_model="gpt-5", metadata={"stream": True})

    assert got["model"] == "gpt-5-2025-08-07"
    assert got["metadata"] == {"stream": True, "requested_model": "gpt-5"}


def test_a_call_without_a_response_has_the_requested_model() -> None:
    got = event(model=None, requested_model="gpt-5")

    assert (got["model"], got["metadata"]) == ("gpt-5", None)


@pytest.mark.parametrize("sent", [7, True, 1e300, ["gpt-5"], {"name": "gpt-5"}])
def test_a_text_field_of_another_type_is_omitted(sent: Any) -> None:
    got = event(
        model=sent, requested_model="gpt-5", request_id=sent, response_id=sent, service_tier=sent, finish_reason=sent
    )

    assert got["model"] == "gpt-5"
    assert (got["request_id"], got["response_id"]) == (None, None)
    assert (got["service_tier"], got["finish_reason"]) == (None, None)


def test_the_usage_is_what_the_server_sent_with_its_nulls_and_its_own_fields() -> None:
    usage = CompletionUsage.model_validate(
        {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 12,
            "prompt_tokens_details": None,
            "cost": 0.25,
            "cost_details": {"upstream": [1, None]},
        }
    )

    assert event(usage)["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "prompt_tokens_details": None,
        "cost": 0.25,
        "cost_details": {"upstream": [1, None]},
    }


def test_fields_that_the_server_did_not_send_are_not_added() -> None:
    details = PromptTokensDetails.model_validate({"cached_tokens": 8})
    usage = CompletionUsage(prompt_tokens=10, completion_tokens=2, total_tokens=12, prompt_tokens_details=details)

    assert event(usage)["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}
    assert "completion_tokens_details" not in event(usage)["usage"]


@pytest.mark.filterwarnings("error")
def test_a_usage_with_field_types_the_sdk_does_not_declare_is_kept_silently() -> None:
    usage = CompletionUsage.construct(prompt_tokens="10", completion_tokens=None, total_tokens=[12])

    assert event(usage)["usage"] == {"prompt_tokens": "10", "completion_tokens": None, "total_tokens": [12]}


def test_a_usage_that_is_a_plain_dict_is_kept() -> None:
    assert event({"prompt_tokens": 10, "x": {"y": 1}})["usage"] == {"prompt_tokens": 10, "x": {"y": 1}}


def test_half_a_surrogate_pair_in_a_usage_loses_nothing_else() -> None:
    usage = CompletionUsage.construct(prompt_tokens=10, completion_tokens=2, total_tokens=12, note="\ud83d")

    assert event(usage)["usage"]["prompt_tokens"] == 10


def test_ids_are_uuids_of_version_7_that_sort_by_quarter_hour_and_number() -> None:
    steps = ((0, 9), (10_000, 10), (3_600 * 10**9, 1))
    ids = [event(start_ns=START + step, number=number)["interaction_id"] for step, number in steps]

    assert [uuid.UUID(each).version for each in ids] == [7] * 3
    assert [uuid.UUID(each).variant for each in ids] == [uuid.RFC_4122] * 3
    assert 0 <= 1_767_225_600_250 - int(uuid.UUID(ids[0]).hex[:12], 16) < 2**20  # milliseconds since 1970
    assert ids == sorted(ids)


def test_calls_of_the_same_moment_have_different_ids() -> None:
    numbers = [next_number() for _ in range(1000)]

    assert len({event(number=number)["interaction_id"] for number in numbers}) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_has_its_own_numbers() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(next_number()).encode())
        os._exit(0)
    os.close(writing)
    theirs = int(os.read(reading, 100))
    os.close(reading)
    os.waitpid(child, 0)

    assert abs(theirs - next_number()) > 1_000_000


def test_an_event_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        call_event.expand({"call": [1, 2], "usage": None, "in": "{}"})


# -- what a server may send ------------------------------------------------------------------------------------------


def sent(**fields: Any) -> CompletionUsage:
    """Return the usage object that the SDK builds from the JSON of a server."""
    return construct_type(type_=CompletionUsage, value=fields)  # type: ignore[return-value]


COUNTS = {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100}
USAGES: list[dict[str, Any]] = [
    COUNTS,
    {**COUNTS, "prompt_tokens_details": {"cached_tokens": 1920}},
    {**COUNTS, "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0}},
    {**COUNTS, "prompt_tokens_details": None},
    {**COUNTS, "prompt_tokens_details": {}, "completion_tokens_details": {"reasoning_tokens": 64}},
    {**COUNTS, "prompt_tokens": 2**70, "total_tokens": -1},
    {"total_tokens": 3},
    {**COUNTS, "prompt_tokens": None},
    {**COUNTS, "prompt_tokens_details": {"cached_tokens": None}},
    {**COUNTS, "prompt_tokens_details": {"cached_tokens": 1920, "more": 1}},
    {**COUNTS, "cost": 0.25},
    {**COUNTS, "details": [1]},
    {**COUNTS, "prompt_tokens": True},
    {**COUNTS, "prompt_tokens": 2000.5},
    {**COUNTS, "prompt_tokens": "2000"},
    {**COUNTS, "prompt_tokens_details": {"cached_tokens": "many"}},
    {**COUNTS, "prompt_tokens_details": {"cached_tokens": {"of": 1}}},
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["object", "dict"])  # a raw response contains the JSON itself
@pytest.mark.parametrize("fields", USAGES, ids=str)
def test_a_usage_is_kept_as_the_server_sent_it(fields: dict[str, Any], form: str) -> None:
    encoded = line(sent(**fields) if form == "object" else fields)

    assert json.loads(encoded)["usage"] == fields


HOSTILE = ["100 %", "%s%d", '"quoted"\\', "a\nb\r\0", "\u00fc\u2028\U0001f600", "\ud83d", ""]


@pytest.mark.parametrize("text", [*HOSTILE, None], ids=repr)
def test_the_texts_of_an_event_may_contain_any_characters(text: str | None) -> None:
    encoded = line(sent(**COUNTS), model=text, provider=text, request_id=text, service_tier=text, finish_reason=text)

    assert encoded.count(b"\n") == 1
    values = dict(zip(call_event.FIELDS, json.loads(encoded)["call"], strict=True))
    assert [values[name] for name in ("model", "request_id", "service_tier", "finish_reason")] == [text] * 4


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_the_fields_of_a_usage_may_have_any_name(name: str) -> None:
    encoded = line({**COUNTS, name: 1, "details": {name: 2}})

    kept = name.encode("utf-8", "replace").decode() if name == "\ud83d" else name
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["usage"] == {**COUNTS, kept: 1, "details": {kept: 2}}


def test_a_streams_first_token_and_metadata_are_written() -> None:
    encoded = line(
        sent(**COUNTS), time_to_first_token_ns=250_000_000, requested_model="gpt-5", metadata={"stream": True}
    )

    got = call_event.expand(json.loads(encoded))
    assert (got["time_to_first_token_ms"], got["context_messages"], got["request_id"]) == (250.0, None, None)
    assert got["metadata"] == {"stream": True, "requested_model": "gpt-5"}
