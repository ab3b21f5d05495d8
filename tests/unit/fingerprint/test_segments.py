"""The segments of a prompt: their order, their kinds, and when two are equal."""

from __future__ import annotations

from typing import Any

from rlm_cachetrack.fingerprint.segments import Digests, Fingerprint, fingerprint_request

KEY = b"k" * 32


def fingerprint(body: dict[str, Any], api: str = "chat.completions", key: bytes = KEY) -> Fingerprint:
    return fingerprint_request(api, body, Digests(key))


def kinds(body: dict[str, Any], api: str = "chat.completions") -> list[tuple[str, int | None, int]]:
    return [(segment.kind, segment.message, segment.size) for segment in fingerprint(body, api).segments]


def test_the_segments_of_a_chat_are_in_rendering_order() -> None:
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


def test_a_response_includes_references_to_text_that_the_server_has() -> None:
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
    first = fingerprint_request("responses", {"input": "hi"}, Digests(KEY), "resp_1")
    assert first.response == fingerprint(body, "responses").segments[2].digest
    assert kinds({"input": "hello"}, "responses") == [("user", 0, 5)]
    assert kinds({"prompt": ["ab", "c"]}, "completions") == [("user", 0, 2), ("user", 1, 1)]


def test_equal_texts_have_equal_digests_in_any_form_but_not_across_roles() -> None:
    plain = fingerprint({"messages": [{"role": "user", "content": "hi"}]}).segments[0]
    wrapped = fingerprint({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}).segments[0]
    other = fingerprint({"messages": [{"role": "system", "content": "hi"}]}).segments[0]
    named = fingerprint({"messages": [{"role": "user", "content": "hi", "name": "bob"}]}).segments[0]
    assert plain == wrapped
    assert len({plain.digest, other.digest, named.digest}) == 3


def test_digests_and_installation_depend_on_the_key() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    mine, theirs = fingerprint(body), fingerprint(body, key=b"x" * 32)
    assert mine.segments[0].digest != theirs.segments[0].digest
    assert mine.installation != theirs.installation


def test_breakpoints_cache_keys_and_options_are_not_part_of_the_text() -> None:
    marked = {"type": "text", "text": "hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": [marked, {"type": "text", "text": "ho"}]}],
        "prompt_cache_key": "team",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "explicit"},
    }
    found = fingerprint(body)
    assert [segment.breakpoint for segment in found.segments] == [True, False]
    assert found.segments[0].digest == fingerprint({"messages": [{"role": "user", "content": "hi"}]}).segments[0].digest
    assert (found.retention, found.explicit) == ("24h", True)
    assert found.cache_key is not None
    assert b"team" not in found.cache_key
    anthropic = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    assert fingerprint({"messages": [{"role": "user", "content": [anthropic]}]}).segments[0].breakpoint


def test_unusual_texts_have_a_fingerprint() -> None:
    assert kinds({"messages": [{"role": "user", "content": "\ud800 \0"}, {"role": "user", "content": ""}, "odd"]}) == [
        ("user", 0, 3),
        ("user", 1, 0),
        ("other", 2, 3),
    ]
    assert kinds({}) == []
