"""Every surface, form and mode returns the same with and without recording, and has exactly one correct record."""

from __future__ import annotations

import importlib
import re
from typing import Any

import openai
import pytest

from rlm_cachetrack import instrument, stats
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import REQUEST_ID, TEXT, ScriptedServer
from tests.surfaces.calls import (
    BY_NAME,
    MODES,
    SURFACES,
    TESTED,
    TOKENS,
    Surface,
    assert_recording_changes_nothing,
    call,
    cells,
    client_of,
    lacking,
    require,
    settled,
    with_and_without,
)

RESPONSE_IDS = {
    "chat.completions": "chatcmpl-1",
    "completions": "cmpl-1",
    "responses": "resp_",
    "responses.compact": "resp_compacted",
}


@pytest.mark.parametrize(("surface", "mode", "form"), cells())
def test_a_call_returns_the_same_with_and_without_recording_and_is_one_record(
    server: ScriptedServer, sink: MemorySink, surface: Surface, mode: str, form: str
) -> None:
    require(surface, form, mode)
    assert_recording_changes_nothing(server, sink, mode, lambda client: call(client, surface, form))
    assert stats()["recorded"] == 1  # counted before the store is read
    row = sink.row
    assert {name: row[name] for name in TOKENS} == surface.tokens
    assert row["usage"] == surface.usage
    assert (row["success"], row["error_type"], row["error_message"]) == (True, None, None)
    assert row["api"] == surface.api
    assert row["request_id"] == (None if surface.method == "post" else REQUEST_ID)  # a plain dict has no request id
    assert row["response_id"] == {**RESPONSE_IDS, "responses": f"resp_{server.salt}"}.get(surface.api)
    streamed = form in ("stream", "raw stream", "streaming response stream", "events")
    assert ((row["metadata"] or {}).get("stream") is True) == streamed
    assert (row["time_to_first_token_ms"] is not None) == streamed
    assert row["duration_ms"] > 0
    if surface.api not in ("embeddings", "responses.compact"):
        assert row["response_length"] == len(TEXT)
        assert row["finish_reason"] == ("completed" if surface.api == "responses" else "stop")


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


@pytest.mark.skipif(
    openai.__version__ not in TESTED and number(openai.__version__) < number(TESTED[-1]),
    reason="the table lists the methods of the tested versions and newer ones",
)
@pytest.mark.parametrize("mode", MODES)
def test_the_installed_sdk_has_the_surfaces_of_the_table(mode: str) -> None:
    installed = number(openai.__version__)
    has = {(s.name, form): lacking(s, form, mode) is None for s in SURFACES for form in s.forms}
    expected = {
        (s.name, form): installed >= number(s.raw_since if form not in ("plain", "stream", "events") else s.since)
        for s in SURFACES
        for form in s.forms
    }
    assert has == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("given", [{"include_usage": True}, {"include_usage": False}, {}])
@pytest.mark.parametrize("name", ["chat.completions.create", "completions.create"])
def test_stream_options_of_the_caller_are_respected(
    server: ScriptedServer, sink: MemorySink, name: str, given: Any, mode: str
) -> None:
    base = next(surface for surface in SURFACES if surface.name == name)
    surface = Surface(**{**vars(base), "arguments": {**base.arguments, "stream_options": given}})
    with_us, without = with_and_without(
        server,
        mode,
        lambda: client_of(server, mode),
        lambda client: instrument(client, store=sink),
        lambda client: call(client, surface, "stream"),
    )
    assert with_us == without
    assert sink.row["total_tokens"] == surface.tokens["total_tokens"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["", "html 200"])
def test_a_call_that_returns_the_http_response_is_one_record(
    server: ScriptedServer, sink: MemorySink, fault: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        kind = importlib.import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]).Response
        arguments = {"path": "/chat/completions", "body": BY_NAME["post"].arguments["body"]}
        options: Any = {"headers": {"x-fault": fault}}
        return describe(await settled(client.post(**arguments, cast_to=kind, options=options)))

    assert_recording_changes_nothing(server, sink, mode, act)
    row = sink.row
    if fault:
        assert (row["success"], row["error_type"], row["prompt_tokens"]) == (False, "UnexpectedResponse", None)
    else:
        assert {name: row[name] for name in TOKENS} == BY_NAME["post"].tokens
    assert row["request_id"] == "req_scripted"
