"""The registry of scenarios, and the types from which scenarios are built.

A scenario takes the name of a piece of advice that it follows, or None. It then makes the same calls as a user who
followed the advice would, so that the bills can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from .provider import DEEPSEEK, GEMINI, GPT41, GPT55, GPT56, GROK, Json, Rules
from .script import Script

Build = Callable[[Script, int, str | None], None]
CHAT, RESPONSES = "chat.completions", "responses"
OLD = (GPT41, GPT55)
AUTOMATIC = (*OLD, GPT56, GEMINI, DEEPSEEK, GROK)


@dataclass(frozen=True)
class Scenario:
    """One scenario with one provider, API, size and seed."""

    kind: str
    build: Build
    rules: Rules
    api: str
    size: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.rules.name}, {self.api}, {self.size}, {self.seed}"

    def play(self, follow: str | None = None) -> Script:
        """Make the calls; ``follow`` is the advice that the program follows."""
        script = Script(self.rules, self.api, self.seed)
        self.build(script, self.size, follow)
        return script


_BUILDS: list[tuple[str, Build, tuple[Rules, ...], tuple[str, ...], tuple[int, ...]]] = []


def scenario(
    *rules: Rules, apis: tuple[str, ...] = (CHAT, RESPONSES), sizes: tuple[int, ...] = (1500, 6000)
) -> Callable[[Build], Build]:
    """Register a scenario."""

    def register(build: Build) -> Build:
        _BUILDS.append((build.__name__.strip("_"), build, rules, apis, sizes))
        return build

    return register


def scenarios(seeds: int = 2, spread: float = 0.0) -> Iterator[Scenario]:
    """Yield every scenario.

    Args:
        seeds: How many times with other texts.
        spread: How far the characters per token differ between texts, as a share.
    """
    for kind, build, rules, apis, sizes in _BUILDS:
        for rule, api, size, seed in product(rules, apis, sizes, range(1, seeds + 1)):
            size = max(size, 2 * rule.minimum) if rule.minimum > 1100 else size
            yield Scenario(kind, build, replace(rule, spread=spread), api, size, seed)


def turn(script: Script, messages: list[Json]) -> list[Json]:
    """Add an answer and the next question."""
    chance = script.chance
    return [
        *messages,
        {"role": "assistant", "content": script.text(chance.randint(30, 250))},
        {"role": "user", "content": script.text(chance.randint(15, 120))},
    ]


def user(script: Script, tokens: int = 40) -> list[Json]:
    return [{"role": "user", "content": script.text(tokens)}]


def talk(script: Script, system: Any, turns: int, **more: Any) -> list[Json]:
    """Make a conversation without faults; its first call may be cold. Returns the next request's messages."""
    messages = user(script)
    for number in range(turns):
        body = script.body(system, messages, **more)
        script.call(body, None if number else {"first_call", "hit", "below_minimum"})
        messages = turn(script, messages)
    return messages


def marked(text: str, **control: Any) -> list[Json]:
    """Return a text with Claude's mark."""
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", **control}}]


def breakpoint_at(text: str) -> list[Json]:
    """Return a text with OpenAI's mark."""
    return [{"type": "text", "text": text, "prompt_cache_breakpoint": {"mode": "explicit"}}]


def tools(script: Script, count: int = 4) -> list[Json]:
    """Return tool definitions of about 90 tokens each."""
    return [
        {"type": "function", "function": {"name": f"tool_{n}", "description": script.text(60), "strict": True}}
        for n in range(count)
    ]
