"""The segments of a prompt: their order, their kinds, and when two are equal."""

from __future__ import annotations

from typing import Any

from rlm_cachetrack.fingerprint.segments import Digests, Fingerprint, fingerprint_request

KEY = b"k" * 32


def fingerprint(body: dict[str, Any], api: str = "chat.completions", key: bytes = KEY) -> Fingerprint:
    return fingerprint_request(api, body, Digests(key)).decoded()


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
        ("media", 1),
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
    first = fingerprint_request("responses", {"input": "hi"}, Digests(KEY), "resp_1").decoded()
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
        "prompt_cache_options": {"mode": "explicit"},
    }
    found = fingerprint(body)
    assert [segment.breakpoint for segment in found.segments] == [True, False]
    assert found.segments[0].digest == fingerprint({"messages": [{"role": "user", "content": "hi"}]}).segments[0].digest
    assert found.cache_key is not None
    assert b"team" not in found.cache_key
    anthropic = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    assert fingerprint({"messages": [{"role": "user", "content": [anthropic]}]}).segments[0].breakpoint


def pieces(text: str, role: str = "system") -> list[tuple[int, bytes, bool]]:
    found = fingerprint({"messages": [{"role": role, "content": text}]}).segments
    assert sum(segment.size for segment in found) == len(text)
    return [(segment.size, segment.digest, segment.continues) for segment in found]


def test_a_long_text_shares_pieces_with_its_edited_form() -> None:
    long = " ".join(f"word{number}" for number in range(3_000))
    digests = [digest for _, digest, _ in pieces(long)]
    assert [continues for _, _, continues in pieces(long)] == [False] + [True] * (len(digests) - 1)
    for edited in (f"It is 12:00. {long}", f"{long} It is 12:00.", long[:9_000] + "an insertion" + long[9_000:]):
        shared = sum(size for size, digest, _ in pieces(edited) if digest in digests)
        assert shared >= len(long) / 4
    assert not {digest for _, digest, _ in pieces(long[::-1])} & set(digests)


def test_only_long_texts_are_cut() -> None:
    assert len(pieces("x" * 511)) == 1
    assert len(pieces("x" * 512)) == 2
    assert len(pieces("x" * 4_095, "user")) == 1
    assert len(pieces("x" * 4_096, "user")) > 2


def test_the_order_of_keys_changes_two_bytes_of_a_digest() -> None:
    one = {"type": "function", "function": {"name": "a", "description": "b"}}
    other = {"function": {"description": "b", "name": "a"}, "type": "function"}
    first, second = (fingerprint({"tools": [tool]}).segments[0].digest for tool in (one, other))
    assert first[:3] == second[:3]
    assert first != second
    assert fingerprint({"tools": [{**one, "type": "custom"}]}).segments[0].digest[:3] != first[:3]


def test_the_size_of_media_and_ciphertext_is_not_their_characters() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:" + "x" * 5_000}}]}
    assert kinds({"messages": [image]}) == [("media", 0, 0)]
    items = [{"type": "compaction", "id": "c", "encrypted_content": "x" * 900}]
    assert kinds({"input": items}, "responses") == [("compaction", 0, 0)]
    reasoning = {"type": "reasoning", "summary": [], "encrypted_content": "x" * 900}
    assert kinds({"input": [reasoning]}, "responses")[0][2] < 100


def test_unusual_texts_have_a_fingerprint() -> None:
    assert kinds({"messages": [{"role": "user", "content": "\ud800 \0"}, {"role": "user", "content": ""}, "odd"]}) == [
        ("user", 0, 3),
        ("user", 1, 0),
        ("other", 2, 3),
    ]
    assert kinds({}) == []


def test_a_message_that_was_sent_before_has_the_same_segments() -> None:
    long = "all that matters " * 300
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": long},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function"}]},
        {"role": "user", "content": "hi"},
        {"role": "user", "content": long},
    ]
    digests = Digests(KEY)
    for count in range(1, len(messages) + 1):
        body = {"messages": messages[:count]}
        known = fingerprint_request("chat.completions", body, digests)
        assert known == fingerprint_request("chat.completions", body, Digests(KEY))
        assert [each.message for each in known.decoded().segments if not each.continues] == list(range(count))
