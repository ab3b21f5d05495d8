"""Advice that would cost money, or not help, is withheld."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_cachetrack.analytics.explain import CacheAdvice
from tests.support.cache_simulator.provider import GPT41, Json
from tests.support.cache_simulator.registry import talk, turn, user
from tests.support.cache_simulator.scores import explain
from tests.support.cache_simulator.script import T0, Script

PRICES = ("prompt_token_price", "cached_token_price", "completion_token_price")


def advice(script: Script, rule: str) -> list[CacheAdvice]:
    return [each for each in explain(script)[str(T0)]["advice"] if each["rule"] == rule]


def conversation(script: Script, changed: Json, factor: float, output: int = 60) -> float:
    """Send three calls, and three more with the change, at another price. Returns the cost of the lost tokens."""
    system = script.text(4000)
    messages = talk(script, system, 3)
    for _ in range(3):
        script.call({**script.body(system, messages), **changed})
        row = script.calls[-1].row
        row.update({name: row[name] * factor for name in PRICES}, completion_tokens=output)
        messages = turn(script, messages)
    lost = [call["usd_lost"] for call in explain(script)[str(T0)]["interactions"]]
    return sum(usd or 0.0 for usd in lost)


CHANGES: list[tuple[str, Any]] = [
    ("stay_with_one_model", {"model": "gpt-4.1-mini"}),
    ("hold_setting_constant", {"service_tier": "flex"}),
]


@pytest.mark.parametrize(("rule", "changed"), CHANGES)
def test_a_move_to_higher_prices_is_not_advised(rule: str, changed: Json) -> None:
    script = Script(GPT41)
    assert conversation(script, changed, factor=0.2, output=500) > 0
    assert advice(script, rule) == []


@pytest.mark.parametrize(("rule", "changed"), CHANGES)
def test_a_move_to_lower_prices_claims_only_the_lost_tokens(rule: str, changed: Json) -> None:
    script = Script(GPT41)
    lost = conversation(script, changed, factor=5.0)
    (given,) = advice(script, rule)
    assert given["words"].endswith(("Send all of them to the first model", "Keep the value of the first call"))
    assert given["usd_at_stake"] == pytest.approx(lost)


@pytest.mark.parametrize(("pause", "is_given"), [(2.0, False), (10.0, True)])
def test_one_key_is_not_advised_for_more_calls_than_it_serves(pause: float, is_given: bool) -> None:
    script = Script(GPT41)
    system = script.text(3000)
    for number in range(40):
        script.call(script.body(system, user(script, 30)), pause=pause, miss=number in (20, 25, 30))
    assert bool(advice(script, "set_prompt_cache_key")) is is_given


def test_a_crowded_key_is_split_into_as_few_keys_as_serve_the_calls() -> None:
    script = Script(GPT41)
    system = script.text(3000)
    for number in range(60):
        body = script.body(system, user(script, 30), prompt_cache_key="all")
        script.call(body, pause=2.6, miss=number % 20 > 15)
    (given,) = advice(script, "split_prompt_cache_key")
    assert "Use 2 keys instead" in given["words"]


@pytest.mark.parametrize(("tokens", "is_given"), [(60, True), (900, False)])
def test_all_tools_in_every_call_are_advised_only_if_they_cost_less(tokens: int, is_given: bool) -> None:
    """Each call sends 2 of 12 tools; sending all of them costs their reading in every call."""
    script = Script(GPT41)
    system = script.text(3000)
    tools = [{"type": "function", "function": {"name": f"t{n}", "description": script.text(tokens)}} for n in range(12)]
    for _ in range(20):
        script.call(script.body(system, user(script), tools=script.chance.sample(tools, 2)))
    given = advice(script, "hold_tools_constant")
    assert bool(given) is is_given
    lost = sum(call["usd_lost"] or 0.0 for call in explain(script)[str(T0)]["interactions"])
    assert all(0 < (each["usd_at_stake"] or 0.0) < lost for each in given)


def test_a_tool_whose_text_changes_is_advised_to_stay() -> None:
    script = Script(GPT41)
    system, other = script.text(1500), script.text(60)
    for number in range(20):
        texts = (other, f"Today is day {number}. {script.text(600)}")
        tools = [
            {"type": "function", "function": {"name": f"t{n}", "description": text}} for n, text in enumerate(texts)
        ]
        script.call(script.body(system, user(script), tools=tools))
    (given,) = advice(script, "hold_tools_constant")
    assert given["calls"] == 19


@pytest.mark.parametrize(("tokens", "is_given"), [(200, True), (600, False)])
def test_dropping_history_less_often_is_advised_only_for_a_clear_saving(tokens: int, is_given: bool) -> None:
    """The longer the dropped messages are, the more it costs to keep them until the next drop."""
    script = Script(GPT41)
    system, messages = script.text(1500), user(script)
    for _ in range(12):
        script.call(script.body(system, messages))
        reply = {"role": "assistant", "content": script.text(tokens)}
        messages = [*messages, reply, *user(script, 60)][-5:]
    assert bool(advice(script, "drop_history_seldom")) is is_given
