"""Scenarios about calls that are sent at the same moment."""

from __future__ import annotations

from typing import Any

from .provider import CLAUDE, DEEPSEEK, GPT56, Json
from .registry import CHAT, OLD, RESPONSES, breakpoint_at, scenario, user
from .script import Script


@scenario(*OLD, GPT56, sizes=(1800, 5000))
def _simultaneous(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    count = 3 + script.seed * 3
    key: Json = {} if script.rules.marks == "none" else {"prompt_cache_options": {"mode": "explicit"}}
    given = system if script.rules.marks == "none" else breakpoint_at(system)
    if script.api == RESPONSES and script.rules.marks != "none":
        return
    for number in range(count):
        body = script.body(given, user(script, 30), **key)
        wait = 4.0 if follow == "send_one_first" and number == 1 else 0.002
        if follow == "send_one_first" and number:
            script.call(body, pause=wait, took=2.0)
            continue
        expect = "concurrent" if number else "first_call"
        lost = None if not number else _shared_tokens(script, given)
        script.call(body, expect, pause=0.002 if number else 1.0, took=2.0, lost=lost)


@scenario(DEEPSEEK, apis=(CHAT,), sizes=(1800, 5000))
def _simultaneous_units(script: Script, size: int, follow: str | None) -> None:
    """DeepSeek reads a beginning only after two prompts had it, so two must come before the others."""
    system = script.text(size)
    for number in range(6):
        body = script.body(system, user(script, 30))
        if follow == "send_one_first":
            script.call(body, None if number > 1 else "first_call", pause=4.0 if number < 3 else 0.002, took=2.0)
            continue
        expect = "concurrent" if number > 1 else "first_call"
        lost = _shared_tokens(script, system) if number > 1 else None
        script.call(body, expect, pause=0.002 if number else 1.0, took=2.0, lost=lost)


@scenario(GPT56, apis=(RESPONSES,), sizes=(1800, 5000))
def _groups_of_simultaneous_calls(script: Script, size: int, follow: str | None) -> None:
    """Prewarming the beginning of a group costs one read of it more than the group alone."""
    for _ in range(2):
        beginning = [{"role": "developer", "content": breakpoint_at(script.text(size))}]
        body = script.body(None, beginning)
        body.pop("instructions")
        if follow == "prewarm":
            options = {"prompt_cache_options": {"prewarm": True}}
            script.call({**body, **options}, "first_call", pause=60.0)
        for number in range(5):
            sent = {**body, "input": [*beginning, *user(script, 30)]}
            sent["prompt_cache_options"] = {"mode": "explicit"}
            if follow == "prewarm":
                script.call(sent, pause=5.0 if number == 0 else 0.002, took=2.0)
                continue
            lost = _until_user(script, sent) if number else None
            expect = "concurrent" if number else "first_call"
            script.call(sent, expect, pause=0.002 if number else 60.0, took=2.0, lost=lost)


def _until_user(script: Script, body: Json) -> int:
    return len(script.provider.render({"input": body["input"][:1]}, []).tokens)


@scenario(GPT56, CLAUDE, sizes=(2500, 5000))
def _simultaneous_without_breakpoint(script: Script, size: int, follow: str | None) -> None:
    """A breakpoint would not have helped the first group, because no earlier call had written its beginning."""
    system = script.text(size)
    if script.rules.marks == "claude" and script.api == RESPONSES:
        return
    more: Json = {"cache_control": {"type": "ephemeral"}} if script.rules.marks == "claude" else {}
    if follow == "write_less":
        more = {"prompt_cache_options": {"mode": "explicit"}}
    for _ in range(4):
        script.call(script.body(system, user(script, 60), **more), "first_call", pause=0.002, took=2.0)


def _shared_tokens(script: Script, system: Any) -> int:
    prompt = script.provider.render({"messages": [{"role": "system", "content": system}]}, [])
    shared = len(prompt.tokens) if script.api == CHAT else len(prompt.tokens) - script.rules.message_tokens
    # The role of the next message is shared, too.
    shared += script.rules.message_tokens if script.rules.marks == "none" else 0
    return shared // script.rules.step * script.rules.step
