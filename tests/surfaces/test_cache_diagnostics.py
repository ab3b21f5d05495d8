"""``cache_diagnostics=True`` names the previous response of the same prefix, and the provider's reason is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from rlm_cachetrack import instrument, query_run
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import MODES, client_of, entering, items, run

MODEL = "gpt-5.6-sol"
SYSTEM = "You are brief."
Ask = Callable[..., Any]


def compared(server: ScriptedServer) -> list[str | None]:
    """Return the response that each request named."""
    return [
        (request.body.get("prompt_cache_options") or {}).get("comparison_response_id") for request in server.requests
    ]


def asking(server: ScriptedServer, client: Any) -> Ask:
    """Return a function that asks a question; the ids of the responses are resp_1, resp_2, …"""
    count = 0

    async def ask(*question: Any, fault: str | None = None, **more: Any) -> Any:
        nonlocal count
        count += 1
        server.salt = str(count)
        arguments = {"model": MODEL, "instructions": SYSTEM, "input": list(question), **more}
        if fault is not None:
            arguments["extra_headers"] = {"x-fault": fault}
        found = client.responses.create(**arguments)
        found = await found if hasattr(found, "__await__") else found
        if more.get("stream"):
            await items(found)
        return found

    return ask


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def play(
    server: ScriptedServer, sink: MemorySink, act: Callable[[Ask], Any], mode: str = "sync", **options: Any
) -> None:
    """Run ``act`` in one run with a recorded client."""

    async def recorded() -> None:
        async with entering(client_of(server, mode)) as client:
            instrument(client, store=sink, **{"cache_diagnostics": True, **options})
            with query_run("q"):
                await act(asking(server, client))

    run(mode, recorded())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_names_the_previous_response_of_its_prefix(
    server: ScriptedServer, sink: MemorySink, mode: str, stream: bool
) -> None:
    async def act(ask: Ask) -> None:
        talk = [user("one"), {"role": "assistant", "content": "1"}, user("two")]
        await ask(*talk[:1], stream=stream)
        await ask(user("another conversation"), stream=stream)
        await ask(*talk, stream=stream)  # continues the first one
        await ask(user("a third"), stream=stream)  # shares the instructions with all
        await ask(user("one"), stream=stream, instructions="You are another agent.")

    play(server, sink, act, mode)
    assert compared(server) == [None, "resp_1", "resp_1", "resp_3", None]
    assert [row["success"] for row in sink.rows] == [True] * 5
    assert all("comparison" not in str(row["request_options"]) for row in sink.rows)


def test_other_runs_and_failed_calls_are_not_compared(server: ScriptedServer, sink: MemorySink) -> None:
    async def act(ask: Ask) -> None:
        with pytest.raises(Exception, match="something is wrong"):
            await ask(user("one"), fault="400")
        await ask(user("one"))
        with query_run("q"):
            await ask(user("one"))
        await ask(user("one"))

    play(server, sink, act)
    assert compared(server) == [None, None, None, "resp_2"]


def test_a_continued_response_is_the_one_to_compare_with(server: ScriptedServer, sink: MemorySink) -> None:
    async def act(ask: Ask) -> None:
        await ask(user("one"))
        await ask(user("two"), previous_response_id="resp_of_another_run")

    play(server, sink, act)
    assert compared(server) == [None, "resp_of_another_run"]


@pytest.mark.parametrize("model", ["gpt-5.5", "gpt-5-2025-08-07", "gpt-4.1", "o3", "claude-opus-5"])
def test_models_without_diagnosis_are_not_asked(server: ScriptedServer, sink: MemorySink, model: str) -> None:
    async def act(ask: Ask) -> None:
        for _ in range(2):
            await ask(user("one"), model=model)

    play(server, sink, act)
    assert ["prompt_cache_options" in request.body for request in server.requests] == [False, False]


@pytest.mark.parametrize("model", ["gpt-5.6", "gpt-5.10-mini", "gpt-6", "openai/gpt-5.6-sol", "ft:gpt-5.6:acme::1"])
def test_later_models_are_asked(server: ScriptedServer, sink: MemorySink, model: str) -> None:
    async def act(ask: Ask) -> None:
        for _ in range(2):
            await ask(user("one"), model=model)

    play(server, sink, act)
    assert compared(server) == [None, "resp_1"]


@pytest.mark.skipif(
    int(openai.__version__.partition(".")[0]) < 3, reason=f"openai {openai.__version__} does not know these arguments"
)
@pytest.mark.parametrize(
    "options", [{"comparison_response_id": "resp_x", "ttl": "12h"}, {"comparison_response_id": None}]
)
@pytest.mark.parametrize("place", ["argument", "extra_body"])
def test_what_the_caller_named_stays(server: ScriptedServer, sink: MemorySink, options: Any, place: str) -> None:
    given = {"prompt_cache_options": options}

    async def act(ask: Ask) -> None:
        await ask(user("one"))
        await ask(user("one"), **(given if place == "argument" else {"extra_body": given}))

    play(server, sink, act)
    assert server.requests[1].body["prompt_cache_options"] == options


@pytest.mark.skipif(
    int(openai.__version__.partition(".")[0]) < 3, reason=f"openai {openai.__version__} does not know these arguments"
)
def test_other_cache_options_of_the_caller_are_kept(server: ScriptedServer, sink: MemorySink) -> None:
    given = {"ttl": "12h", "mode": "explicit"}

    async def act(ask: Ask) -> None:
        for _ in range(2):
            await ask(user("one"), prompt_cache_options=given)

    play(server, sink, act)
    sent = [request.body["prompt_cache_options"] for request in server.requests]
    assert sent == [given, {**given, "comparison_response_id": "resp_1"}]
    assert given == {"ttl": "12h", "mode": "explicit"}


def test_without_the_option_nothing_is_added(server: ScriptedServer, sink: MemorySink) -> None:
    async def act(ask: Ask) -> None:
        for _ in range(2):
            await ask(user("one"))

    play(server, sink, act, cache_diagnostics=False)
    assert ["prompt_cache_options" in request.body for request in server.requests] == [False, False]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["no diagnosis", "no diagnosis 422"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_rejects_the_field_is_asked_once(
    server: ScriptedServer, sink: MemorySink, mode: str, fault: str, stream: bool
) -> None:
    async def act(ask: Ask) -> None:
        for _ in range(4):
            await ask(user("one"), fault=fault, stream=stream)

    play(server, sink, act, mode)
    assert compared(server) == [None, "resp_1", None, None, None]
    assert [row["success"] for row in sink.rows] == [True] * 4
    assert [row["metadata"].get("cache_diagnostics") for row in sink.rows] == [None, "refused", None, None]


def test_an_error_that_only_quotes_the_field_is_raised(server: ScriptedServer, sink: MemorySink) -> None:
    async def act(ask: Ask) -> None:
        await ask(user("one"))
        with pytest.raises(Exception, match="cannot read"):
            await ask(user("one"), fault="quotes the request")
        await ask(user("one"))

    play(server, sink, act)
    assert compared(server) == [None, "resp_1", None, "resp_1"]
    assert [row["success"] for row in sink.rows] == [True, False, True]


DIAGNOSIS = {"type": "cache_miss", "reason": "tools_changed", "cache_missed_tokens": 1900}
CLAUDE = {"cache_miss_reason": {"type": "system_changed", "cache_missed_input_tokens": 900}}


@pytest.mark.parametrize("stream", [False, True])
def test_the_diagnosis_of_a_response_is_stored(server: ScriptedServer, sink: MemorySink, stream: bool) -> None:
    server.facts = {"prompt_cache_diagnostics": DIAGNOSIS}

    async def act(ask: Ask) -> None:
        await ask(user("one"), stream=stream)

    play(server, sink, act)
    assert sink.row["cache_diagnostics"] == DIAGNOSIS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("given", "stored"), [(CLAUDE, CLAUDE), ({"latency": 3}, None), ("text", None)])
def test_the_diagnosis_of_claude_is_stored(
    server: ScriptedServer, sink: MemorySink, stream: bool, given: Any, stored: Any
) -> None:
    server.facts = {"diagnostics": given}

    async def act(client: Any) -> None:
        found = client.chat.completions.create(model="claude-opus-5", messages=[user("one")], stream=stream)
        if stream:
            await items(found)

    async def recorded() -> None:
        async with entering(client_of(server, "sync")) as client:
            instrument(client, store=sink)
            await act(client)

    run("sync", recorded())
    assert sink.row["cache_diagnostics"] == stored
