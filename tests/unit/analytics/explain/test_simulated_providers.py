"""Explanations of simulated providers: verdicts, lost tokens, and advice that saves what it claims."""

from __future__ import annotations

import pytest

from tests.support.cache_simulator.provider import GPT41
from tests.support.cache_simulator.registry import turn, user
from tests.support.cache_simulator.scenarios import Scenario, scenarios
from tests.support.cache_simulator.scores import Score, explain, follow_advice, played, score
from tests.support.cache_simulator.script import T0, Script

ALL = [each for each in scenarios(seeds=1) if each.size < 20_000]
KINDS = sorted({each.kind for each in ALL})


def of_kind(kind: str) -> list[Scenario]:
    return [each for each in ALL if each.kind == kind]


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    return {kind: score(of_kind(kind)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_and_losses_are_right(scores: dict[str, Score], kind: str) -> None:
    assert scores[kind].calls
    assert scores[kind].wrong == []


def test_the_sum_of_the_losses_is_right(scores: dict[str, Score]) -> None:
    lost = sum(each.lost for each in scores.values())
    assert sum(each.calls for each in scores.values()) > 2_000
    assert sum(each.invented for each in scores.values()) <= 0.01 * lost
    assert sum(each.unreported for each in scores.values()) <= 0.02 * lost


def test_verdicts_stay_right_where_texts_have_different_widths() -> None:
    found = score(each for each in scenarios(seeds=1, spread=0.15) if each.size in (300, 1500))
    assert found.right >= 0.98 * found.calls
    assert found.right_misses >= 0.95 * found.misses
    assert found.invented <= 0.01 * found.lost
    assert found.unreported <= 0.02 * found.lost


@pytest.mark.parametrize("kind", KINDS)
def test_advice_saves_about_what_it_claims(kind: str) -> None:
    for advice in follow_advice(of_kind(kind)):
        assert advice.claimed > 0, advice
        assert advice.saved is not None, f"the scenario does not follow {advice}"
        assert advice.saved == pytest.approx(advice.claimed, rel=0.25, abs=0.0006), advice


def test_keeping_a_conversation_alive_counts_the_calls_after_its_end() -> None:
    followed = list(follow_advice(of_kind("several_conversations_with_a_pause")))
    assert any(advice.rule == "keep_alive" for advice in followed)
    for advice in followed:
        assert advice.saved is not None
        assert advice.claimed <= 1.05 * advice.saved, advice


def test_keeping_alive_leaves_out_prompts_below_the_minimum() -> None:
    given = [
        advice["words"]
        for each in of_kind("several_conversations_with_a_pause")
        for advice in played(each)[1][str(T0)]["advice"]
        if advice["rule"] == "keep_alive"
    ]
    assert given
    assert all("the last prompt of the conversation" in words for words in given)
    assert all("Leave out prompts of fewer than 1,024 tokens" in words for words in given)


NO_ADVICE = ("growing", "two_conversations_in_turns", "claude_moving_mark", "twelve_hours", "two_agents_same_question")


@pytest.mark.parametrize("kind", [*NO_ADVICE, "equal_chunks", "conversation", "previous_response", "short_first_turns"])
def test_without_an_avoidable_miss_there_is_no_advice(kind: str) -> None:
    given = [
        (each.name, advice["rule"])
        for each in of_kind(kind)
        for found in played(each)[1].values()
        for advice in found["advice"]
    ]
    assert given == []


def test_a_compaction_that_is_not_proven_is_only_possible() -> None:
    script = Script(GPT41, "responses")
    more = {"context_management": [{"type": "compaction", "compact_threshold": 100_000}]}
    system, messages = script.text(3000), user(script)
    for number in range(3):
        script.call(script.body(system, messages, **more), miss=number == 2)
        messages = turn(script, messages)
    last = explain(script)[str(T0)]["interactions"][-1]
    assert last["verdict"] == "context_compacted"
    assert last["confidence"] < 0.6
    assert "may have compacted the context" in last["words"]


def test_the_two_hit_rates_and_the_loss_agree() -> None:
    for scenario in ALL[::7]:
        for found in played(scenario)[1].values():
            if found["prompt_tokens"]:
                read, lost = found["cached_tokens"], found["tokens_lost"]
                assert found["achievable_hit_rate"] == (read + lost) / found["prompt_tokens"]
                assert lost == sum(call["tokens_lost"] for call in found["interactions"])
                assert found["achievable_hit_rate"] <= 1
