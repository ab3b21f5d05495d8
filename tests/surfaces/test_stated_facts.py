"""What a response states about cache and tools is recorded on every surface of the Responses API, in every form."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_cachetrack import instrument
from rlm_cachetrack.capture.billed_facts import svg_usage_of, tool_usage_of
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import Json, Surface, call, cells, client_of, require, with_and_without

STATED: Json = {
    "prompt_cache_options": {"mode": "explicit", "ttl": "12h"},
    "prompt_cache_retention": "24h",
    "prompt_cache_diagnostics": {"type": "cache_miss", "reason": "tools_changed", "cache_missed_tokens": 512},
    "tool_usage": {"web_search": {"num_requests": 2}, "image_gen": {"total_tokens": 0}},
}
RESPONSES = [cell for cell in cells() if cell.values[0].api == "responses"]


@pytest.mark.parametrize(("surface", "mode", "form"), RESPONSES)
def test_stated_facts_are_recorded_in_every_form(
    server: ScriptedServer, sink: MemorySink, surface: Surface, mode: str, form: str
) -> None:
    require(surface, form, mode)
    server.facts = STATED
    with_us, without = with_and_without(
        server,
        mode,
        lambda: client_of(server, mode),
        lambda client: instrument(client, store=sink),
        lambda client: call(client, surface, form),
    )
    assert without[0] == "returned"
    assert with_us == without
    row = sink.row
    assert row["cache_diagnostics"] == STATED["prompt_cache_diagnostics"]
    options = {name: row["request_options"].get(name) for name in ("cache_mode", "cache_ttl", "cache_retention")}
    assert options == {"cache_mode": "explicit", "cache_ttl": "12h", "cache_retention": "24h"}
    assert row["tool_usage"] == {"web_search": 2}
    assert row["response_id"] == f"resp_{server.salt}"


@pytest.mark.parametrize("number", [10**400, 10**30, 2**31, -5, 1.5, "3", True], ids=repr)
def test_an_absurd_number_of_tool_uses_is_not_charged(number: Any) -> None:
    tokens = {"total_tokens": number, "input_tokens": number, "output_tokens": number}
    searched = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
    stated = {"tool_usage": {"web_search": {"num_requests": number}, "image_gen": tokens}}
    assert tool_usage_of(stated, [], {}) is None
    assert tool_usage_of(stated, [searched], {}) == {"web_search": 1}
    assert svg_usage_of(tokens) == {"calls": 1, "model": None}
