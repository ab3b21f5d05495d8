"""Scenarios about caches: pauses, stored conversations, breakpoints, keys, the provider's misses, short prompts."""

from __future__ import annotations

from typing import Any

from .provider import CLAUDE, CLAUDE_SONNET_55, DEEPSEEK, GEMINI, GPT41, GPT41_MEMORY, GPT56, Json
from .registry import AUTOMATIC, CHAT, OLD, RESPONSES, breakpoint_at, marked, scenario, talk, turn, user
from .script import Script

# -- pauses and lifetimes ---------------------------------------------------------------------------------------------


@scenario(GPT56, sizes=(1500, 6000))
def _twelve_hours(script: Script, size: int, follow: str | None) -> None:
    more = {"prompt_cache_options": {"ttl": "12h"}}
    system, messages = script.text(size), user(script)
    for number in range(6):
        pause = {2: 3 * 3600.0, 4: 8 * 3600.0}.get(number, 5.0)
        script.call(script.body(system, messages, **more), pause=pause)
        messages = turn(script, messages)


@scenario(GPT56, GPT41_MEMORY, CLAUDE, sizes=(1500, 6000))
def _pauses(script: Script, size: int, follow: str | None) -> None:
    if script.rules.name == CLAUDE.name and script.api == RESPONSES:
        return
    system, messages = script.text(size), user(script)
    more: Json = {"prompt_cache_retention": "in_memory"} if script.rules.name == GPT41_MEMORY.name else {}
    ttl: Json = {}
    if follow == "longer_lifetime":
        more = {"prompt_cache_options": {"ttl": "12h"}} if script.rules.name == GPT56.name else more
        ttl = {"ttl": "1h"} if script.rules.name == CLAUDE.name else {}
    cold = 2.5 * script.rules.keep_s
    for number in range(8):
        sent = messages
        if script.rules.name == CLAUDE.name:
            sent = [*messages[:-1], {"role": "user", "content": marked(messages[-1]["content"], **ttl)}]
        body = script.body(system, sent, **more)
        pause = cold if number in (3, 5, 6) else 5.0
        fault = pause == cold and follow is None
        if follow == "keep_alive" and pause == cold:
            for _ in range(2):
                script.call(script.calls_body, pause=0.96 * script.rules.keep_s)  # type: ignore[attr-defined]
            pause = cold - 2 * 0.96 * script.rules.keep_s
        if follow == "longer_lifetime" and script.rules.name == GPT41_MEMORY.name:
            fault, pause = False, 5.0  # 24h retention costs nothing
        script.call(body, "expired" if fault else None, pause=pause, without_pause=fault)
        script.calls_body = body  # type: ignore[attr-defined]
        messages = turn(script, messages)


@scenario(CLAUDE, apis=(CHAT,), sizes=(1500, 6000))
def _several_conversations_with_a_pause(script: Script, size: int, follow: str | None) -> None:
    """Each of three conversations pauses once. Short prompts, which cannot be cached, are sent between them.

    A program that keeps a conversation alive does not know that it has ended: it repeats the last prompt then, too.
    """
    keep = script.rules.keep_s
    ttl = {"ttl": "1h"} if follow == "longer_lifetime" else {}
    for number in range(3):
        system, messages = script.text(size), user(script)
        before: Json = {}
        for pause in (5.0, 3.5 * keep):
            sent = [*messages[:-1], {**messages[-1], "content": marked(messages[-1]["content"], **ttl)}]
            body = script.body(system, sent)
            fault = pause > keep and follow is None
            spent = _repeat(script, before) if pause > keep and follow == "keep_alive" else 0.0
            script.call(body, "expired" if fault else None, pause=pause - spent, without_pause=fault)
            before, messages = body, turn(script, messages)
        if number < 2:
            spent = _repeat(script, before) if follow == "keep_alive" else 0.0
            script.call(script.body(script.text(60), user(script)), "below_minimum", pause=4 * keep - spent)


def _repeat(script: Script, body: Json) -> float:
    """Repeat a prompt three times, like calls that keep its entries alive. Returns the seconds that this takes."""
    every = 0.96 * script.rules.keep_s
    for _ in range(3):
        script.call(body, pause=every)
    return 3 * every


@scenario(*OLD, sizes=(1500, 6000))
def _default_retention_is_a_day(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    for number in range(7):
        pause = {2: 1200.0, 4: 7200.0}.get(number, 5.0)
        script.call(
            script.body(system, messages), "provider_miss" if number == 4 else None, pause=pause, miss=number == 4
        )
        messages = turn(script, messages)


@scenario(GPT41, apis=(RESPONSES,), sizes=(1500, 6000))
def _stated_retention(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    for number in range(5):
        fault = number == 3
        script.call(
            script.body(system, messages),
            "provider_miss" if fault else None,
            pause=3 * 3600.0 if fault else 5.0,
            miss=fault,
            stated={"cache_retention": "24h"},
        )
        messages = turn(script, messages)


@scenario(*OLD, GPT56, sizes=(1500, 6000))
def _after_more_than_a_day(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    for number in range(5):
        fault = number == 3
        script.call(
            script.body(system, messages),
            "expired" if fault else None,
            pause=26 * 3600.0 if fault else 5.0,
            without_pause=fault,
        )
        messages = turn(script, messages)


# -- stored conversations ---------------------------------------------------------------------------------------------


@scenario(*OLD, GPT56, apis=(RESPONSES,), sizes=(1500, 6000))
def _conversation(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    for number in range(7):
        body = script.body(system, user(script, 90), conversation=f"conv_{script.seed}")
        body["x_response_id"] = f"resp_{script.seed}_{number}"
        script.call(body, answer=script.text(250), miss=number == 5, expect="provider_miss" if number == 5 else None)


@scenario(*OLD, GPT56, apis=(RESPONSES,), sizes=(1500, 6000))
def _previous_response(script: Script, size: int, follow: str | None) -> None:
    system, name = script.text(size), None
    for number in range(7):
        body = script.body(system, user(script, 90), x_response_id=f"resp_{script.seed}_{number}")
        if name:
            body["previous_response_id"] = name
        script.call(body, answer=script.text(250))
        name = body["x_response_id"]


# -- breakpoints ------------------------------------------------------------------------------------------------------


@scenario(GPT56, sizes=(1500, 6000))
def _no_breakpoint_at_the_shared_beginning(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    for number in range(6):
        given: Any = system
        if follow == "mark_shared_beginning":
            given = breakpoint_at(system)
        if script.api == RESPONSES:
            messages = [{"role": "developer", "content": given}, *user(script, 60)]
            body = script.body(None, messages)
            body.pop("instructions")
        else:
            body = script.body(given, user(script, 60))
        fault = number > 0 and not follow
        script.call(body, "breakpoint_missing" if fault else None, lost=size if fault else None)
        if fault:
            script.calls[-1].lost = _until_user(script, body)


@scenario(GPT56, CLAUDE, apis=(CHAT,))
def _several_beginnings_without_breakpoint(script: Script, size: int, follow: str | None) -> None:
    """Each of four agents asks four questions. A breakpoint makes each of them write its beginning once."""
    is_claude = script.rules.marks == "claude"
    more: Json = {} if is_claude else {"prompt_cache_options": {"mode": "explicit", "ttl": "12h"}}
    for _ in range(4):
        system: Any = script.text(size)
        if follow == "mark_shared_beginning":
            system = marked(system) if is_claude else breakpoint_at(system)
        for number in range(4):
            missed = number > 0 and follow is None
            marks = marked(system) if is_claude else breakpoint_at(system)
            body = script.body(system, user(script), **more)
            sound = script.body(marks, body["messages"][1:], **more) if missed else None
            lost = _until_user_of_chat(script, sound) if sound is not None else None
            script.call(body, "breakpoint_missing" if missed else None, lost=lost)


def _until_user_of_chat(script: Script, body: Json) -> int:
    return len(script.provider.render({"messages": body["messages"][:1]}, []).tokens)


def _until_user(script: Script, body: Json) -> int:
    messages = body.get("messages") or body["input"]
    return len(script.provider.render({"input": messages[:-1]}, []).tokens)


@scenario(GPT56, sizes=(1500, 6000))
def _explicit_without_breakpoint(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    more = {} if follow == "mark_shared_beginning" else {"prompt_cache_options": {"mode": "explicit"}}
    for number in range(6):
        body = script.body(system, messages, **more)
        fault = bool(more) and number > 0
        plain = script.calls[-1].row["prompt_tokens"] if fault else None
        script.call(body, "breakpoint_missing" if fault else None, lost=plain)
        messages = turn(script, messages)


@scenario(GPT56, apis=(CHAT,), sizes=(1500, 6000))
def _explicit_with_an_early_breakpoint(script: Script, size: int, follow: str | None) -> None:
    system, messages = breakpoint_at(script.text(size)), user(script)
    more = {} if follow == "mark_shared_beginning" else {"prompt_cache_options": {"mode": "explicit"}}
    for _ in range(8):
        script.call(script.body(system, messages, **more))
        messages = turn(script, messages)


@scenario(GPT56, apis=(CHAT,), sizes=(1500, 6000))
def _unread_writes(script: Script, size: int, follow: str | None) -> None:
    system = breakpoint_at(script.text(size))
    more = {"prompt_cache_options": {"mode": "explicit"}} if follow == "write_less" else {}
    for _ in range(8):
        script.call(script.body(system, user(script, 600), **more))


# -- keys, models, the provider's own misses --------------------------------------------------------------------------


@scenario(*OLD, GPT56, sizes=(1500, 6000))
def _keys_and_models(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    messages = talk(script, system, 3)
    body = script.body(system, messages)
    sound = follow == "share_prompt_cache_key"
    sent = body if sound else {**body, "prompt_cache_key": "another"}
    script.call(sent, None if sound else "key_changed", without=None if sound else body)
    messages = turn(script, messages)
    body = script.body(system, messages)
    script.call(body)
    messages = turn(script, messages)
    body = script.body(system, messages)
    sound = follow == "stay_with_one_model"
    sent = body if sound else {**body, "model": f"{script.rules.model}-mini"}
    script.call(sent, None if sound else "model_changed", without=None if sound else body)


@scenario(*AUTOMATIC, sizes=(2500, 6000))
def _provider_miss(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    for number in range(8):
        fault = number in (3, 6) and follow != "set_prompt_cache_key"
        body = script.body(system, messages, **_keyed(follow))
        script.call(body, "provider_miss" if fault else None, miss=fault)
        messages = turn(script, messages)


def _keyed(follow: str | None) -> Json:
    """Return the key with which the prompts go to one machine, so that none misses."""
    return {"prompt_cache_key": "one"} if follow == "set_prompt_cache_key" else {}


@scenario(*OLD, apis=(CHAT,), sizes=(2500, 6000))
def _too_many_calls_for_one_key(script: Script, size: int, follow: str | None) -> None:
    """One machine serves about 15 calls per minute and key; further calls go to machines without its cache."""
    system = script.text(size)
    for number in range(44):
        split = follow == "split_prompt_cache_key"
        fault = number % 22 > 16 and not split
        key = f"user-{number % 2}" if split else "all"
        body = script.body(system, user(script, 30), prompt_cache_key=key)
        script.call(body, "provider_miss" if fault else None, pause=2.6, miss=fault)


@scenario(*OLD, sizes=(2500, 6000))
def _provider_miss_with_new_questions(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    for number in range(9):
        fault = number in (4, 7) and follow != "set_prompt_cache_key"
        body = script.body(system, user(script, 20 + 37 * number), **_keyed(follow))
        script.call(body, "provider_miss" if fault else None, miss=fault)


# -- minimums and units -----------------------------------------------------------------------------------------------


@scenario(CLAUDE_SONNET_55, apis=(CHAT,), sizes=(560, 900))
def _above_the_minimum_of_512(script: Script, size: int, follow: str | None) -> None:
    system = marked(script.text(size), **({"ttl": "1h"} if follow == "longer_lifetime" else {}))
    for number in range(4):
        script.call(script.body(system, user(script)), None if number else "first_call")
    if follow == "keep_alive":
        for _ in range(3):
            script.call(script.body(system, user(script)), pause=285.0)
        script.call(script.body(system, user(script)), pause=45.0)
        return
    expect = "hit" if follow else "expired"
    script.call(script.body(system, user(script)), expect, pause=900.0, without_pause=True, arguable=size < 600)


@scenario(DEEPSEEK, apis=(CHAT,), sizes=(700, 4000))
def _third_prompt_reads_the_shared_beginning(script: Script, size: int, follow: str | None) -> None:
    """The second prompt with a beginning cannot read it, but causes it to be stored, and the third prompt reads it."""
    system = script.text(size)
    for number in range(5):
        script.call(script.body(system, user(script)), "hit" if number > 1 else "first_call")
    script.call(script.body(system, user(script)), "provider_miss", miss=True)


# -- short prompts ----------------------------------------------------------------------------------------------------


@scenario(GPT41, GPT56, GEMINI, sizes=(200, 400))
def _short_prompts(script: Script, size: int, follow: str | None) -> None:
    system = script.text(min(size, 400))
    if follow == "batch_short_prompts":
        questions = [user(script, 50)[0]["content"] for _ in range(4)]
        script.call(script.body(system, [{"role": "user", "content": "".join(questions)}]), "below_minimum")
        return
    for _ in range(4):
        script.call(script.body(system, user(script, 50)), "below_minimum")


@scenario(GPT41, GPT56, sizes=(300, 500))
def _short_first_turns(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(min(size, 500)), user(script)
    for number in range(7):
        expect = None if number != 0 else {"below_minimum"}
        script.call(script.body(system, messages), expect, arguable=False)
        if script.calls[-1].verdicts == {"first_call"}:  # the first prompt above the minimum
            script.calls[-1].verdicts = frozenset(("first_call", "below_minimum"))
        messages = turn(script, messages)


# -- fingerprints and the provider's diagnosis ------------------------------------------------------------------------


@scenario(*OLD, sizes=(1500, 6000))
def _without_fingerprints(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    for _ in range(4):
        script.call(script.body(system, messages), "unknown", fingerprinted=False)
        messages = turn(script, messages)


@scenario(GPT56, apis=(RESPONSES,), sizes=(1500, 13000))
def _provider_diagnosis(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    reasons = (
        ("reasoning_effort_changed", "settings_changed"),
        ("tools_changed", "prefix_changed"),
        ("context_compacted", "context_compacted"),
        ("service_tier_changed", "settings_changed"),
    )
    messages = talk(script, system, 3)
    for reason, verdict in reasons:
        diagnosis = {"type": "cache_miss", "reason": reason, "cache_missed_tokens": size}
        held = follow == "hold_setting_constant" and verdict == "settings_changed"
        body = script.body(system, messages)
        script.call(body, None if held else verdict, miss=not held, diagnostics=None if held else diagnosis)
        messages = turn(script, messages)
