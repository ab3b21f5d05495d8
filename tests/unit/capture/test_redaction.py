"""Error messages are stored without quotes of the request, within a bounded time on the calling thread."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rlm_cachetrack.capture.redaction import safe_error

SECRET = "Zebra-4711 Quagga"
CONTEXT = "This model's maximum context length is 128000 tokens. However, your messages resulted in 150321 tokens."
BODIES: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": SECRET}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": SECRET}]}]},
    "input": {"input": SECRET},
    "prediction": {"prediction": {"type": "content", "content": SECRET}},
    "suffix": {"suffix": SECRET},
    "functions": {"functions": [{"name": SECRET, "parameters": {"properties": {SECRET: {"type": "string"}}}}]},
    "stop": {"stop": [SECRET, "x"]},
    "tool_choice": {"tool_choice": {"type": "function", "function": {"name": SECRET}}},
    "prompt_cache_key": {"prompt_cache_key": SECRET},
    "safety_identifier": {"safety_identifier": SECRET},
    "unknown field": {"my_field": {"deep": [[[[[[[[SECRET]]]]]]]]}},
    "unknown key": {"messages": [], SECRET: 1},
    "nested key": {"metadata": {SECRET: "v"}},
    "tuple": {"stop": (SECRET,)},
}


@pytest.mark.parametrize("name", BODIES)
def test_a_quote_of_any_field_is_cut(name: str) -> None:
    for message in (f"Invalid value: '{SECRET}'.", SECRET, f"x{SECRET}", f"…{SECRET[2:15]}…", f"{SECRET} and {SECRET}"):
        _, shown = safe_error(("BadRequestError", message), {"model": "gpt-5", **BODIES[name]})
        assert "Zebra" not in shown or SECRET[2:15] in message[:20], shown
        assert "Quagga" not in shown
        assert "4711" not in shown
    _, shown = safe_error(("BadRequestError", f"Invalid value: '{SECRET}'."), BODIES[name])
    assert shown == "Invalid value: '[…]'."


@pytest.mark.parametrize("value", ["END", "a-b_c", "Zebra", "o.O", "user-1"])
def test_a_short_value_is_cut_where_it_is_a_word(value: str) -> None:
    _, shown = safe_error(("E", f"stop {value!r} is wrong; xEND"), {"stop": [value]})
    assert shown == "stop '[…]' is wrong; xEND"


def test_words_of_the_api_and_the_model_are_kept() -> None:
    body = {"model": "gpt-9", "messages": [{"role": "user", "content": "hello there"}], "temperature": 9}
    message = "Invalid role 'user' in messages: the model `gpt-9` needs temperature and json_schema"
    assert safe_error(("E", message), body) == ("E", message)


def test_credentials_headers_and_query_are_cut() -> None:
    others = {"": ["my own Key/1", ["header-value-1"], [b"bytes-value"]]}
    for value in ("my own Key/1", "header-value-1", "bytes-value"):
        assert safe_error(("E", f"wrong key {value}!"), {}, others)[1] == "wrong key […]!"


def short_loop() -> float:
    """Return the CPU time of a loop of 50,000 steps in seconds: one to three milliseconds, more on a slow machine."""
    began = time.thread_time()
    for _ in range(50_000):
        pass
    return time.thread_time() - began


@pytest.mark.parametrize("size", [10_000, 10_000_000])
def test_a_long_request_costs_less_than_a_short_loop_and_keeps_common_words(size: int) -> None:
    text = f"{SECRET} " * (size // 18)
    bodies = [
        {"messages": [{"role": "user", "content": text}]},
        {"messages": [{"role": "user", "content": each} for each in text.split("Quagga")[:20_000]]},
    ]
    for body in bodies:
        times = []
        for _ in range(5):
            began = time.thread_time()
            shown = safe_error(("E", CONTEXT), body)
            times.append(time.thread_time() - began)
        assert shown == ("E", CONTEXT)
        assert min(times) < short_loop()
        assert safe_error(("E", f"Invalid prompt: {SECRET} {'9' * 12}"), body)[1] == "Invalid prompt: […]"


def test_the_longest_request_that_is_searched_costs_less_than_a_short_loop() -> None:
    body = {"messages": [{"role": "user", "content": "abcdefg " * 124} for _ in range(8)]}
    for message in ("abcdefg " * 62, "abcdefh " * 62, "x" * 500, "efg abcx" * 60):
        times = []
        for _ in range(5):
            began = time.thread_time()
            safe_error(("E", message), body)
            times.append(time.thread_time() - began)
        assert min(times) < short_loop()


def test_a_type_that_is_not_a_word_is_redacted() -> None:
    body = {"messages": [{"role": "user", "content": SECRET}], "stop": "Quagga"}
    assert safe_error((SECRET, "m"), body)[0] == "[…]"
    assert safe_error(("Quagga", "m"), body)[0] == "[…]"
    assert safe_error(("invalid_request_error", "m"), body)[0] == "invalid_request_error"
    assert len(safe_error(("x y" * 1000, "m"), body)[0]) <= 100
