"""Score explanations against what is true in the simulator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from rlm_cachetrack.analytics.explain.report import CacheExplanation, explain_rows

from .scenarios import Scenario
from .script import T0, Script

NO_MISS = frozenset(("hit",))


@dataclass
class Score:
    """The score of all scenarios; ``wrong`` names the differences."""

    calls: int = 0
    right: int = 0
    misses: int = 0
    right_misses: int = 0
    lost: int = 0
    invented: int = 0
    unreported: int = 0
    wrong: list[str] = field(default_factory=list)


def explain(script: Script) -> dict[str, CacheExplanation]:
    """Explain every run of a script; the others are its neighbours."""
    runs = sorted({truth.row["run_id"] for truth in script.calls} | {T0})
    rows = [truth.row for truth in script.calls]
    return {
        str(run): explain_rows(
            "q", run, [row for row in rows if row["run_id"] == run], [row for row in rows if row["run_id"] != run]
        )
        for run in runs
    }


@cache
def played(scenario: Scenario) -> tuple[Script, dict[str, CacheExplanation]]:
    """Return a scenario's script and its explanations."""
    script = scenario.play()
    return script, explain(script)


def score(scenarios: Iterable[Scenario]) -> Score:
    """Play the scenarios and compare their explanations with the truth."""
    total = Score()
    for scenario in scenarios:
        script, found_by_run = played(scenario)
        explained = {call["interaction_id"]: call for found in found_by_run.values() for call in found["interactions"]}
        for number, truth in enumerate(script.calls):
            if truth.is_arguable:
                continue
            told = explained[truth.row["interaction_id"]]
            detail = {told["segment"], told["setting"]}
            right = told["verdict"] in truth.verdicts and (truth.detail is None or truth.detail in detail)
            total.calls += 1
            total.right += right
            is_miss = not truth.verdicts & NO_MISS
            total.misses += is_miss
            total.right_misses += is_miss and right
            total.lost += truth.lost
            total.invented += max(0, told["tokens_lost"] - truth.lost)
            total.unreported += max(0, truth.lost - told["tokens_lost"])
            off = abs(told["tokens_lost"] - truth.lost)
            if not right or off > 0.05 * truth.lost + 130:
                total.wrong.append(
                    f"{scenario.name}: call {number}: {told['verdict']} ({told['segment'] or told['setting']}), lost "
                    f"{told['tokens_lost']}; true {'/'.join(sorted(truth.verdicts))} ({truth.detail}), lost "
                    f"{truth.lost}; prompt {told['prompt_tokens']}, read {told['cached_tokens']}, ceiling "
                    f"{told['ceiling_tokens']}"
                )
    return total


@dataclass
class FollowedAdvice:
    """The claimed saving of a piece of advice, and the actual saving; None if the scenario cannot determine it."""

    scenario: str
    rule: str
    claimed: float
    saved: float | None


def follow_advice(scenarios: Iterable[Scenario]) -> Iterable[FollowedAdvice]:
    """Play each scenario again with each piece of advice that it gets."""
    for scenario in scenarios:
        script, found_by_run = played(scenario)
        claims: dict[str, float] = {}
        for found in found_by_run.values():
            for advice in found["advice"]:
                claims[advice["rule"]] = claims.get(advice["rule"], 0.0) + (advice["usd_at_stake"] or 0.0)
        for rule, claimed in claims.items():
            followed = scenario.play(rule)
            saved = script.bill - followed.bill if _differs(script, followed) else None
            yield FollowedAdvice(scenario.name, rule, claimed, saved)


def _differs(one: Script, other: Script) -> bool:
    """Return True if the scenario followed the advice; otherwise it made the same calls."""
    fields = ("time", "prompt_tokens", "cached_tokens", "cache_write_tokens", "request_options")
    rows = [[[call.row[name] for name in fields] for call in script.calls] for script in (one, other)]
    return rows[0] != rows[1]
