"""Scenarios about prompts and settings: growing, changed, reordered, other prompts, images, compaction."""

from __future__ import annotations

from typing import Any

from .provider import CLAUDE, CLAUDE_HAIKU, DEEPSEEK, GEMINI, GPT41, GPT55, GPT56, GROK, Json
from .registry import AUTOMATIC, CHAT, OLD, RESPONSES, breakpoint_at, marked, scenario, talk, tools, turn, user
from .script import Script

# -- no fault ---------------------------------------------------------------------------------------------------------


@scenario(*AUTOMATIC, sizes=(300, 1500, 6000))
def _growing(script: Script, size: int, follow: str | None) -> None:
    talk(script, script.text(size), 9)


@scenario(*OLD, GPT56, sizes=(1500, 6000))
def _two_conversations_in_turns(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    both = [user(script), user(script)]
    for number in range(8):
        messages = both[number % 2]
        first = None if number > 1 else {"first_call", "hit", "breakpoint_missing"}
        script.call(script.body(system, messages), first, arguable=number == 1)
        both[number % 2] = turn(script, messages)


@scenario(CLAUDE, CLAUDE_HAIKU, apis=(CHAT,), sizes=(1500, 6000))
def _claude_moving_mark(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    for number in range(6):
        sent = [*messages[:-1], {"role": "user", "content": marked(messages[-1]["content"])}]
        script.call(script.body(system, sent), None if number else "first_call")
        messages = turn(script, messages)


@scenario(GROK, GEMINI, apis=(CHAT,), sizes=(2500, 6000))
def _questions_that_begin_alike(script: Script, size: int, follow: str | None) -> None:
    """The same words begin each question, and sometimes a few more are equal by chance: no miss."""
    system, same, repeated = script.text(size), script.text(60), ""
    for number in range(9):
        question = same + script.text(script.chance.randint(20, 90))
        if number == 4:
            question = repeated + script.text(30)
        repeated = question[: len(same) + 50]
        script.call(script.body(system, [{"role": "user", "content": question}]))


# -- retrieval: no estimate may create a miss ------------------------------------------------------------------------


@scenario(GPT41, GPT55, GEMINI, sizes=(300, 500, 700))
def _equal_chunks(script: Script, size: int, follow: str | None) -> None:
    size = min(size, script.rules.minimum // 2)
    system = script.text(size)
    for _ in range(8):
        chunks = "\n".join(script.text(script.chance.randint(396, 404)) for _ in range(4 if size < 600 else 8))
        script.call(script.body(system, [{"role": "user", "content": f"{chunks}\n{script.text(12)}"}]), "first_call")


@scenario(GPT41, GPT55, sizes=(300,))
def _equal_chunks_as_parts(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    kind = "text" if script.api == CHAT else "input_text"
    for _ in range(8):
        parts = [{"type": kind, "text": script.text(script.chance.randint(297, 303))} for _ in range(5)]
        script.call(script.body(system, [{"role": "user", "content": parts}]), "first_call")


# -- changed beginnings -----------------------------------------------------------------------------------------------


def _stamp(script: Script, n: int) -> str:
    return f"Today is day {n}{'x' * script.chance.randint(0, 40)} of session {script.chance.random()}. "


@scenario(*OLD, DEEPSEEK, sizes=(1500, 6000, 40000))
def _head_of_system_changes(script: Script, size: int, follow: str | None) -> None:
    base = script.text(size)
    for number in range(5):
        stamp = _stamp(script, number)
        if follow == "move_changing_part":
            script.call(script.body(base, [{"role": "user", "content": stamp + script.text(30)}]))
            continue
        stamped = f"{stamp}{base}"
        lost = None if number == 0 else len(script.provider.split(base)) // script.rules.step * script.rules.step
        expect = "prefix_changed" if number else "first_call"
        script.call(
            script.body(stamped, user(script)),
            expect,
            lost=lost,
            detail="system prompt" if number else None,
            arguable=number == 1 and script.rules.marks == "units",  # the second prompt could not have read it anyway
        )


@scenario(*OLD, sizes=(1500, 8000))
def _head_of_user_document_changes(script: Script, size: int, follow: str | None) -> None:
    base = script.text(size)
    for number in range(4):
        stamp = _stamp(script, number)
        if follow == "move_changing_part":
            last = {"role": "user", "content": stamp + script.text(20)}
            script.call(script.body("Be brief.", [{"role": "user", "content": base}, last]))
            continue
        content = f"{stamp}{base}"
        lost = None if number == 0 else len(script.provider.split(base)) // script.rules.step * script.rules.step
        detail = "message 1 (user)" if script.api == CHAT else "message 0 (user)"
        script.call(
            script.body("Be brief.", [{"role": "user", "content": content}, *user(script, 20)]),
            "prefix_changed" if number else "first_call",
            lost=lost,
            detail=detail if number else None,
        )


@scenario(*OLD, sizes=(1500, 6000))
def _run_id_at_the_head(script: Script, size: int, follow: str | None) -> None:
    base = script.text(size)
    for run in range(2):
        system = f"run-{run:04d}: {base}" if follow is None else base
        for number in range(3):
            changed = run == 1 and number == 0 and follow is None
            lost = len(script.provider.split(base)) // script.rules.step * script.rules.step if changed else None
            expect = "prefix_changed" if changed else None
            script.call(
                script.body(system, user(script)), expect, lost=lost, detail="system prompt" if changed else None
            )
        script.next_run()


@scenario(*OLD, GPT56, sizes=(1500, 6000))
def _timestamp_in_a_conversation(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script)
    for number in range(7):
        stamped = f"It is {script.now:.3f} now. {system}" if number in (3, 5) else system
        if follow == "move_changing_part":
            stamped = system
        plain = script.body(system, messages)
        fault = stamped != system
        script.call(
            script.body(stamped, messages),
            "prefix_changed" if fault else None,
            without=plain if fault else None,
            detail="system prompt" if fault else None,
        )
        messages = turn(script, messages)


@scenario(*OLD, sizes=(1500, 6000))
def _edited_message(script: Script, size: int, follow: str | None) -> None:
    system, messages = script.text(size), user(script, 150)
    for number in range(7):
        sent = [dict(message) for message in messages]
        edited = script.text(80)
        fault = number == 5 and follow is None
        if fault:
            sent[2]["content"] = edited
        script.call(
            script.body(system, sent),
            {"prefix_changed"} if fault else None,
            without=script.body(system, messages) if fault else None,
            arguable=fault,
        )
        messages = turn(script, messages)


@scenario(*OLD, GPT56, sizes=(1500, 6000))
def _tools(script: Script, size: int, follow: str | None) -> None:
    system, given, messages = script.text(size), tools(script), user(script)
    for number in range(9):
        sent = given
        if number == 3:
            sent = given[::-1]
        elif number == 5:
            sent = given[:-1]
        elif number == 7:
            sent = [
                {"function": dict(reversed(list(tool["function"].items()))), "type": tool["type"]} for tool in given
            ]
        if follow in ("hold_tools_constant", "stop_reordering") and (number == 5) == (follow == "hold_tools_constant"):
            sent = given
        fault = sent is not given
        script.call(
            script.body(system, messages, tools=sent),
            "prefix_changed" if fault else None,
            without=script.body(system, messages, tools=given) if fault else None,
            detail="tools" if fault else None,
        )
        messages = turn(script, messages)


@scenario(*OLD, sizes=(1500, 4000))
def _all_tools_with_other_key_order(script: Script, size: int, follow: str | None) -> None:
    given = tools(script, size // 100)
    other = [{"function": dict(reversed(list(tool["function"].items()))), "type": tool["type"]} for tool in given]
    body = script.body("Be brief.", user(script), tools=given)
    script.call(body)
    script.call(script.body("Be brief.", user(script), tools=given))
    messages = user(script)
    if follow == "stop_reordering":
        script.call(script.body("Be brief.", messages, tools=given))
        return
    script.call(
        script.body("Be brief.", messages, tools=other),
        "prefix_changed",
        without=script.body("Be brief.", messages, tools=given),
        detail="tools",
    )


@scenario(*OLD, apis=(CHAT,), sizes=(1500, 3000))
def _sliding_window(script: Script, size: int, follow: str | None) -> None:
    system, messages, dropped = script.text(size), user(script, 100), 0
    every = 3 if follow == "drop_history_seldom" else 1
    for number in range(16):
        before = dropped
        if len(messages) - dropped > 9 and number % every == 0:
            dropped = len(messages) - 9
        sent = messages[dropped:]
        fault = dropped > before
        gone = len(script.provider.render({"input": messages[before:dropped]}, []).tokens)
        lost = None
        if fault:
            spare = script.provider.copy().ask(script.body(system, sent), script.now + 5).cached
            left = script.calls[-1].row["prompt_tokens"] - gone  # the tokens that remain of the previous prompt
            lost = max(0, left // script.rules.step * script.rules.step - spare)
        script.call(script.body(system, sent), {"prefix_changed"} if fault and lost else None, lost=lost)
        messages = turn(script, messages)


# -- other prompts are not edits --------------------------------------------------------------------------------------


@scenario(*OLD, GPT56, sizes=(1500, 4000))
def _two_agents_same_question(script: Script, size: int, follow: str | None) -> None:
    first = script.text(size)
    second = script.text(size)[: len(first)].ljust(len(first), "x")
    question = user(script, 60)
    script.call(script.body(first, question))
    script.call(script.body(second, question), "first_call")


@scenario(*OLD, GPT56, sizes=(1500, 4000))
def _variants_in_turns(script: Script, size: int, follow: str | None) -> None:
    variants = [script.text(size), script.text(size)]
    for number in range(8):
        expect = "first_call" if number < 2 else {"hit", "breakpoint_missing"}
        system: Any = variants[number % 2]
        if follow == "mark_shared_beginning":
            script.call(_marked_system(script, system), expect)
            continue
        script.call(script.body(system, user(script, 30)), expect, arguable=number > 1)


def _marked_system(script: Script, system: str) -> Json:
    """Return a request with a breakpoint after the system prompt, which ``instructions`` cannot have."""
    if script.api == CHAT:
        return script.body(breakpoint_at(system), user(script, 30))
    body = script.body(None, [{"role": "developer", "content": breakpoint_at(system)}, *user(script, 30)])
    body.pop("instructions")
    return body


@scenario(*OLD, GPT56, sizes=(1500, 4000))
def _two_sets_of_tools_in_turns(script: Script, size: int, follow: str | None) -> None:
    """Two agents have one system prompt, but no tool in common."""
    system, given = script.text(size), [tools(script), []]
    both = [user(script), user(script)]
    for number in range(8):
        body = script.body(system, both[number % 2], tools=given[number % 2])
        script.call(body, None if number > 1 else "first_call")
        both[number % 2] = turn(script, both[number % 2])


@scenario(*OLD, sizes=(1500, 4000))
def _planner_and_critic(script: Script, size: int, follow: str | None) -> None:
    planner, critic = script.text(size), script.text(size)
    for number in range(4):
        question = user(script, 60)
        plan = script.text(150)
        script.call(script.body(planner, question), None if number else "first_call")
        asked = [*question, {"role": "assistant", "content": plan}, {"role": "user", "content": "Criticize this plan."}]
        script.call(script.body(critic, asked), None if number else "first_call")


@scenario(*OLD, sizes=(300, 1500))
def _one_common_message_of_four(script: Script, size: int, follow: str | None) -> None:
    common = script.text(120)
    for _ in range(4):
        messages = [
            *user(script, 500),
            {"role": "assistant", "content": script.text(400)},
            {"role": "user", "content": common},
        ]
        script.call(script.body(script.text(size), messages), "first_call")


# -- settings ---------------------------------------------------------------------------------------------------------


@scenario(*OLD, GPT56, sizes=(1500, 6000))
def _settings(script: Script, size: int, follow: str | None) -> None:
    responses = script.api == RESPONSES
    changes: list[tuple[str, Json]] = [
        ("reasoning_effort", {"reasoning": {"effort": "high"}} if responses else {"reasoning_effort": "high"}),
        ("verbosity", {"text": {"verbosity": "low"}} if responses else {"verbosity": "low"}),
        ("service_tier", {"service_tier": "priority"}),
        ("parallel_tool_calls", {"parallel_tool_calls": False}),
    ]
    schema = {"type": "json_schema", "name": "x", "schema": {"type": "object", "title": script.text(40)}}
    form = {"text": {"format": schema}} if responses else {"response_format": schema}
    changes.append(("text_format", form))
    for setting, change in changes:
        system = script.text(size)
        messages = talk(script, system, 3)
        body = script.body(system, messages)
        held = follow == "hold_setting_constant"
        sent = body if held else {**body, **change}
        script.call(sent, None if held else "settings_changed", without=None if held else body, detail=setting)


# -- compaction -------------------------------------------------------------------------------------------------------


@scenario(*OLD, GPT56, apis=(RESPONSES,), sizes=(3000, 9000))
def _compaction(script: Script, size: int, follow: str | None) -> None:
    more: Json = {"context_management": [{"type": "compaction", "compact_threshold": size + 900}]}
    name = None
    for number in range(9):
        body = script.body("Be brief.", user(script, size if number == 0 else 120), **more)
        if name:
            body["previous_response_id"] = name
        body["x_response_id"] = f"resp_{script.seed}_{number}"
        history = script.provider.stored.get(name or "", [])
        compacted = history[:1] and history[0].get("type") == "compaction"
        before = script.calls[-1].row["prompt_tokens"] if script.calls else 0
        fresh = bool(compacted) and len(history) == 1
        script.call(
            body,
            "context_compacted" if fresh else None if not compacted else {"hit", "first_call", "below_minimum"},
            answer=script.text(150),
            arguable=bool(compacted) and not fresh,
            lost=None,
        )
        if fresh:  # the lost tokens cannot be measured, because the prompt itself is shorter
            script.calls[-1].lost = min(before, script.calls[-1].row["prompt_tokens"]) // script.rules.step
            script.calls[-1].lost *= script.rules.step
        name = body["x_response_id"]
        if fresh:
            break


# -- images -----------------------------------------------------------------------------------------------------------


@scenario(*OLD, apis=(CHAT,), sizes=(2700, 5000))
def _images(script: Script, size: int, follow: str | None) -> None:
    system = script.text(size)
    plain = [{"type": "image_url", "image_url": {"url": f"https://x.test/{n}?tiles=4&{'y' * 60}"}} for n in range(2)]
    text = {"type": "text", "text": script.text(150)}
    for number in range(6):
        changed = number > 0 and follow != "move_changing_part"
        signature = f"&signature={script.chance.random()}{'z' * 400}" if changed else ""
        first = {"type": "image_url", "image_url": {"url": plain[0]["image_url"]["url"] + signature}}
        messages = [{"role": "user", "content": [first, plain[1], text]}]
        sound = [{"role": "user", "content": [*plain, text]}]
        script.call(
            script.body(system, messages),
            {"prefix_changed"} if changed else None,
            without=script.body(system, sound) if changed else None,
        )
