"""Scenarios about Claude: settings that invalidate a part of the cache, images, and how far a breakpoint looks back.

Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching, "What invalidates the cache" and "How
automatic prefix checking works", read 2026-12-01.
"""

from __future__ import annotations

from .provider import CLAUDE, CLAUDE_SONNET_55, Json
from .registry import CHAT, marked, scenario, tools, turn, user
from .script import Script

_CHANGES: tuple[tuple[str, Json], ...] = (
    ("tool_choice", {"tool_choice": "required"}),
    ("thinking", {"thinking": {"type": "enabled", "budget_tokens": 4096}}),
    ("reasoning_effort", {"output_config": {"effort": "low"}}),
    ("speed", {"speed": "fast"}),
)


def _newest_marked(messages: list[Json]) -> list[Json]:
    last = messages[-1]
    content = last["content"]
    if isinstance(content, str):
        return [*messages[:-1], {**last, "content": marked(content)}]
    return [
        *messages[:-1],
        {**last, "content": [*content[:-1], {**content[-1], "cache_control": {"type": "ephemeral"}}]},
    ]


@scenario(CLAUDE, CLAUDE_SONNET_55, apis=(CHAT,))
def _claude_settings(script: Script, size: int, follow: str | None) -> None:
    """One setting changes in each conversation, and stays changed."""
    for setting, change in _CHANGES:
        system, messages, offered = script.text(size), user(script), tools(script)
        for number in range(6):
            body = script.body(marked(system), _newest_marked(messages), tools=offered)
            changed = number >= 3 and follow != "hold_setting_constant"
            sent = {**body, **change} if changed else body
            fault = changed and number == 3
            stated = change if changed and setting == "speed" else None  # the capture reads it as a part of the price
            if fault:
                script.call(sent, "settings_changed", without=body, detail=setting, stated=stated)
            else:
                script.call(sent, stated=stated)
            messages = turn(script, messages)


@scenario(CLAUDE, CLAUDE_SONNET_55, apis=(CHAT,))
def _claude_default_tool_choice(script: Script, size: int, follow: str | None) -> None:
    """A tool choice of ``auto`` is the default, so nothing changes."""
    system, messages, offered = script.text(size), user(script), tools(script)
    for number in range(5):
        more: Json = {"tool_choice": "auto"} if number % 2 else {}
        script.call(script.body(marked(system), _newest_marked(messages), tools=offered, **more))
        messages = turn(script, messages)


@scenario(CLAUDE, CLAUDE_SONNET_55, apis=(CHAT,))
def _claude_images(script: Script, size: int, follow: str | None) -> None:
    """The fourth message contains the first image, so the cached messages before it are invalidated once."""
    system, messages = script.text(size), [*user(script, 400)]
    for number in range(6):
        without = script.body(marked(system), _newest_marked(messages))
        if number == 3:
            image = {"type": "image_url", "image_url": {"url": "https://x.test/1?tiles=2"}}
            text = {"type": "text", "text": messages[-1]["content"]}
            messages = [*messages[:-1], {"role": "user", "content": [image, text]}]
        body = script.body(marked(system), _newest_marked(messages))
        fault = number == 3
        expect = "settings_changed" if fault else None
        script.call(body, expect, without=without if fault else None, detail="images" if fault else None)
        messages = turn(script, messages)


@scenario(CLAUDE, CLAUDE_SONNET_55, apis=(CHAT,))
def _claude_looks_back_over_20_blocks(script: Script, size: int, follow: str | None) -> None:
    """A turn of 19 blocks is read; one of 20 is not, because the last entry is one block too far away."""
    messages = user(script, size)
    for number, blocks in enumerate((1, 18, 19, 1)):
        if number:
            parts = [{"type": "text", "text": script.text(30)} for _ in range(blocks)]
            reply = {"role": "assistant", "content": script.text(60)}
            messages = [*messages, reply, {"role": "user", "content": parts}]
        missed = number == 2
        script.call(
            script.body(None, _newest_marked(messages)),
            {"breakpoint_missing"} if missed else None,
            lost=script.calls[-1].row["prompt_tokens"] if missed else None,
        )
