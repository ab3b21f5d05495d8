"""A provider and conversations with known faults, to compare verdicts with the actual causes.

It shares only the published cache rules with the library's simulator: its tokenizer, its overheads per message and
response, its clock and its cache (a set of whole prefixes, compared token by token) are separate and vary by
:class:`Shape`. The cost of a fault is measured by repeating the call without the fault against a copy of the cache.
"""

from __future__ import annotations

import copy
import json
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from rlm_cachetrack.fingerprint.delta_codec import Encoder
from rlm_cachetrack.fingerprint.segments import Digests, fingerprint_request

T0 = datetime(2026, 3, 2, tzinfo=UTC)
WORDS = [f"word{number}" for number in range(2000)]


@dataclass(frozen=True)
class Shape:
    """The way in which the provider counts tokens and caches."""

    characters_per_token: float = 4.0
    message_overhead: int = 0
    answer_overhead: int = 0
    step: int = 128
    minimum: int = 1024
    ttl_s: float = 300.0
    api: str = "chat.completions"
    model: str = "gpt-4.1"
    breakpoints: bool = False
    system_tokens: tuple[int, int] = (1300, 2500)


@lru_cache(maxsize=1000)
def split(text: str, width: float) -> tuple[str, ...]:
    """Return the tokens of a text. Calls of a conversation repeat most of its texts, so they are kept."""
    return tuple(text[round(i * width) : round((i + 1) * width)] for i in range(math.ceil(len(text) / width)))


@dataclass
class Provider:
    """Counts tokens and caches prompt prefixes."""

    shape: Shape
    turns: list[int] = field(default_factory=list)
    written_at: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def tokens_of(self, body: dict[str, Any]) -> list[Any]:
        found: list[Any] = []
        self.turns = []
        for tool in body.get("tools", ()):
            found += self._split(json.dumps(tool))
        if "instructions" in body:
            found += self._split(body["instructions"])
        for message in body.get("messages") or body.get("input"):
            found += [message["role"]] * self.shape.message_overhead
            found += self._split(message["content"])
            if message["role"] == "user":
                self.turns.append(len(found))
        return found

    def _split(self, text: str) -> tuple[str, ...]:
        return split(text, self.shape.characters_per_token)

    def ask(self, body: dict[str, Any], model: str, now: float) -> tuple[int, int]:
        """Return ``prompt_tokens`` and ``cached_tokens``, and write the prompt to the cache."""
        tokens = self.tokens_of(body)
        cache_key = (model, body.get("prompt_cache_key"))
        if self.shape.breakpoints:
            return len(tokens) + self.shape.answer_overhead, self._by_turns(tokens, cache_key, now)
        cached, chain = 0, hash(cache_key)
        live = []
        for index in range(self.shape.step, len(tokens) + 1, self.shape.step):
            chain = hash((chain, tuple(tokens[index - self.shape.step : index])))
            live.append((index, (cache_key, index, chain)))
        if len(tokens) >= self.shape.minimum:
            for index, name in live:
                if self.written_at.get(name, -math.inf) >= now - self.shape.ttl_s:
                    cached = index
                else:
                    break
            cached = cached if cached >= self.shape.minimum else 0
            for _, name in live:
                self.written_at[name] = now
        return len(tokens) + self.shape.answer_overhead, cached

    def _by_turns(self, tokens: list[Any], cache_key: tuple[Any, ...], now: float) -> int:
        """Read up to the last turn that was written before, and write up to the end of the last turn."""
        ends = [end for end in self.turns if end >= self.shape.minimum]
        names = {end: (cache_key, end, hash(tuple(tokens[:end]))) for end in ends}
        live = [end for end in ends if self.written_at.get(names[end], -math.inf) >= now - self.shape.ttl_s]
        for end in {*live[-1:], *ends[-1:]}:
            self.written_at[names[end]] = now
        return max(live, default=0)


@dataclass
class ScriptedCall:
    """A call as the database stores it, and its true verdict and loss."""

    row: dict[str, Any]
    verdict: str
    lost: int


class Script:
    """Interleaved conversations in which each call may have a fault.

    Args:
        shape: How the provider counts.
        seed: The seed of all random choices.
        conversations: How many are interleaved.
        longest: The most messages of a conversation.
    """

    FAULTS = ("timestamp", "tools", "dropped", "pause", "model", "key", "short")

    def __init__(self, shape: Shape, seed: int, conversations: int = 3, longest: int = 30) -> None:
        self.chance = random.Random(seed)
        self.shape, self.provider, self.longest = shape, Provider(shape), longest
        self.digests, self.encoder = Digests(b"k" * 32), Encoder()
        self.now, self.number = 0.0, seed << 24
        self.talks: list[dict[str, Any]] = [self._talk() for _ in range(conversations)]
        self.calls: list[ScriptedCall] = []

    def text(self, tokens: int) -> str:
        words, size = [], 0
        while size < tokens * self.shape.characters_per_token:
            words.append(self.chance.choice(WORDS))
            size += len(words[-1]) + 1
        return " ".join(words)

    def _talk(self) -> dict[str, Any]:
        tools = [
            {"type": "function", "function": {"name": f"f{self.chance.random()}", "description": self.text(60)}}
            for _ in range(self.chance.choice((0, 3, 5)))
        ]
        return {
            "tools": tools,
            "system": self.text(self.chance.randint(*self.shape.system_tokens)),
            "messages": [{"role": "user", "content": self.text(self.chance.randint(30, 300))}],
            "calls": 0,
        }

    def run(self, calls: int, faults: float = 0.35) -> list[ScriptedCall]:
        """Make the given number of calls, each with its true verdict."""
        while len(self.calls) < calls:
            index = self.chance.randrange(len(self.talks))
            talk = self.talks[index]
            if len(talk["messages"]) > self.longest:
                talk = self.talks[index] = self._talk()
            self.now += self.chance.uniform(1, 8)
            fault = self.chance.choice(self.FAULTS) if talk["calls"] > 2 and self.chance.random() < faults else None
            self._call(talk, fault)
        return self.calls

    def _with_fault(
        self, talk: dict[str, Any], fault: str | None
    ) -> tuple[dict[str, Any], str, str, tuple[dict[str, Any], str], str | None]:
        """Return body and model to send, the true verdict, body and model without the fault, and the fault if any."""
        model, body = self.shape.model, self._body(talk["tools"], talk["system"], talk["messages"])
        verdict = "first_call" if talk["calls"] == 0 else "hit"
        sound = copy.deepcopy(body), model
        messages = [dict(message) for message in talk["messages"]]
        if fault == "timestamp":
            body = self._body(talk["tools"], f"It is {self.now:.3f} now. {talk['system']}", messages)
            verdict = "prefix_changed"
        elif fault == "tools" and len(talk["tools"]) > 1:
            tools = talk["tools"][::-1]
            body, verdict = self._body(tools, talk["system"], messages), "prefix_changed"
        elif fault == "dropped" and len(messages) > 5:
            index = self.chance.randrange(1, len(messages) - 4)
            sound = (self._body(talk["tools"], talk["system"], messages), model)
            del messages[index]
            body, verdict = self._body(talk["tools"], talk["system"], messages), "prefix_changed"
        elif fault == "pause":
            self.now += 2 * self.shape.ttl_s
            verdict = "expired"
        elif fault == "model":
            model, verdict = f"{model}-mini", "model_changed"
        elif fault == "key":
            body["prompt_cache_key"], verdict = f"other-{self.now}", "key_changed"
        elif fault == "short":
            body, verdict = (
                self._body([], "", [{"role": "user", "content": self.text(900)}], plain=True),
                "below_minimum",
            )
        else:
            fault = None
        return body, model, verdict, sound, fault

    def _call(self, talk: dict[str, Any], fault: str | None) -> None:
        sound_now = self.now
        body, model, verdict, sound, fault = self._with_fault(talk, fault)
        spare = Provider(self.shape, written_at=dict(self.provider.written_at))
        tokens, cached = self.provider.ask(body, model, self.now)
        lost = 0
        if verdict == "hit" and self.now - talk["last"] > self.shape.ttl_s:  # the other conversations paused
            fault, verdict, sound_now = "pause", "expired", talk["last"]
        if fault not in (None, "short"):
            could = spare.ask(sound[0], sound[1], sound_now)[1]
            if fault == "dropped":  # a dropped message cannot be read from the cache, but the messages after it could
                could -= (could - len(spare.tokens_of(body)) > 0) * (could - len(spare.tokens_of(body)))
            lost = max(0, could - cached)
            if not lost:  # a fault that costs nothing does not count
                cold = self.now - talk["last"] > self.shape.ttl_s
                verdict = "hit" if cached else "any" if cold else "first_call"
        if verdict == "hit" and not cached:  # the consequence of an earlier fault
            verdict = "any"
        self._note(body, model, tokens, cached, verdict, lost)
        if fault != "short":
            talk["calls"] += 1
            talk["last"] = self.now
            talk["messages"] += [
                {"role": "assistant", "content": self.text(self.chance.randint(20, 200))},
                {"role": "user", "content": self.text(self.chance.randint(20, 300))},
            ]

    def _body(
        self, tools: list[Any], system: str, messages: list[dict[str, str]], plain: bool = False
    ) -> dict[str, Any]:
        if self.shape.api == "responses":
            body: dict[str, Any] = {"input": [dict(message) for message in messages]}
            if not plain:
                body["instructions"] = system
        else:
            first = [] if plain else [{"role": "system", "content": system}]
            body = {"messages": [*first, *(dict(message) for message in messages)]}
        if tools:
            body["tools"] = tools
        return body

    def _note(self, body: dict[str, Any], model: str, tokens: int, cached: int, verdict: str, lost: int) -> None:
        self.number += 1
        fingerprint = fingerprint_request(self.shape.api, body, self.digests)
        row = {
            "query_id": "q",
            "run_id": T0,
            "time": T0 + timedelta(seconds=self.now),
            "interaction_id": str(UUID(int=0x7000_8000_0000_0000_0000 << 48 | self.number)),
            "start_time": T0 + timedelta(seconds=self.now),
            "duration_ms": 500.0,
            "time_to_first_token_ms": None,
            "iteration": None,
            "recursion_id": None,
            "model": model,
            "provider": "openai",
            "api": self.shape.api,
            "service_tier": None,
            "success": True,
            "prompt_tokens": tokens,
            "completion_tokens": 100,
            "cached_tokens": cached,
            "cache_write_tokens": None,
            "prompt_token_price": 0.002,
            "cached_token_price": 0.0005,
            "cache_write_token_price": 0.002,
            "completion_token_price": 0.008,
            "total_cost": None,
            "fingerprint": self.encoder.encode("q", self.number, fingerprint),
            "request_options": None if self.shape.breakpoints else {"cache_retention": "in_memory"},
        }
        self.calls.append(ScriptedCall(row, verdict, lost))
