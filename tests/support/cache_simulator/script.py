"""A scripted run: its calls as rows of ``explain_calls``, each with its true cause and its true cost."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rlm_cachetrack.fingerprint.delta_codec import Encoder
from rlm_cachetrack.fingerprint.segments import Digests, fingerprint_request
from rlm_cachetrack.usage import read_request_options

from .provider import Json, Provider, Rules, Usage

T0 = datetime(2026, 3, 2, tzinfo=UTC)
PRICE = 0.002  # USD per 1,000 uncached prompt tokens
WORDS = [
    f"{word}{end}"
    for word in ("alpha", "be", "cotton", "door", "energy", "from", "guess", "in", "kite")
    for end in " 719\n4"
]
_DIGESTS = Digests(b"k" * 32)


@dataclass
class Truth:
    """A call's row, the verdicts that are right, the true loss, and the detail that must be named."""

    row: Json
    verdicts: frozenset[str]
    lost: int
    detail: str | None
    is_arguable: bool


@dataclass
class Script:
    """Sends requests to a simulated provider, and records the true cause and cost of each call.

    Args:
        rules: The provider.
        api: ``chat.completions`` or ``responses``.
        seed: The seed of the texts.
    """

    rules: Rules
    api: str = "chat.completions"
    seed: int = 1
    now: float = 0.0
    run: int = 0
    bill: float = 0.0
    calls: list[Truth] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.provider = Provider(self.rules)
        self.encoders: dict[int, Encoder] = {}

    def text(self, tokens: int) -> str:
        """Return a text of about this number of tokens, with some lines."""
        length = round(tokens * self.rules.width)
        text = ""
        while len(text) < length:
            text += "".join(self.chance.choices(WORDS, k=length // 6 + 4))
        return text[:length]

    def body(self, system: Any, messages: list[Json], **more: Any) -> Json:
        """Return a request of the script's API."""
        if self.api == "responses":
            return {"model": self.rules.model, "instructions": system, "input": messages, **more}
        first = [{"role": "system", "content": system}] if system else []
        return {"model": self.rules.model, "messages": [*first, *messages], **more}

    def call(
        self,
        body: Json,
        expect: str | Iterable[str] | None = None,
        *,
        pause: float = 5.0,
        without: Json | None = None,
        without_pause: bool = False,
        miss: bool = False,
        detail: str | None = None,
        arguable: bool = False,
        took: float = 1.0,
        answer: str = "",
        stated: Json | None = None,
        diagnostics: Json | None = None,
        fingerprinted: bool = True,
        lost: int | None = None,
    ) -> Usage:
        """Send a request.

        Args:
            body: The request.
            expect: The right verdicts; None: those that follow from the usage without a fault.
            pause: Seconds since the previous call.
            without: The request without the fault.
            without_pause: Whether the pause is the fault.
            miss: The provider drops the readable prefix.
            detail: The segment or setting that the explanation must name.
            arguable: Do not count the call.
            took: Seconds until the first token.
            answer: The output, which the server stores.
            stated: Options in the response.
            diagnostics: The provider's reason that the response has.
            fingerprinted: Whether the row has a fingerprint.
            lost: The true loss, if it is not that of ``without``.
        """
        before, spare = self.now, self.provider.copy()
        self.now += pause
        usage = self.provider.ask(body, self.now, took, miss=miss, answer=answer)
        if lost is None:
            lost = 0
            if without is not None or without_pause or miss:
                at = before + min(5.0, pause) if without_pause else self.now
                could = spare.ask(without or body, at, took).cached
                lost = max(0, min(could, usage.prompt) - usage.cached)
        if expect is None:
            expect = "hit" if usage.cached else "below_minimum" if usage.prompt < self.rules.minimum else "first_call"
        verdicts = frozenset([expect] if isinstance(expect, str) else expect)
        self.pay(body, usage)
        row = self._row(body, usage, took, stated, diagnostics, fingerprinted)
        self.calls.append(Truth(row, verdicts, lost, detail, arguable))
        return usage

    def pay(self, body: Json, usage: Usage) -> None:
        """Add the cost of the prompt to the bill, in USD."""
        write = self.provider.lifetime(body)[1]
        plain = usage.prompt - usage.cached - usage.written
        self.bill += (plain + usage.cached * self.rules.read_price + usage.written * write) * PRICE / 1000

    def next_run(self) -> None:
        """Begin another run of the same query."""
        self.run += 1

    def _row(
        self, body: Json, usage: Usage, took: float, stated: Json | None, diagnostics: Json | None, fingerprinted: bool
    ) -> Json:
        number = (self.seed << 24) + len(self.calls) + 1
        fingerprint = fingerprint_request(self.api, body, _DIGESTS, body.get("x_response_id"))
        marked = fingerprint.has_breakpoint
        options = {**read_request_options(body, _DIGESTS.of_format, marked=marked), **(stated or {})}
        encoder = self.encoders.setdefault(self.run, Encoder())
        encoded = encoder.encode("q", number, fingerprint) if fingerprinted else None
        write = self.provider.lifetime(body)[1]
        return {
            "query_id": "q",
            "run_id": T0 + timedelta(days=self.run),
            "time": T0 + timedelta(seconds=self.now),
            "interaction_id": str(UUID(int=0x7000_8000_0000_0000_0000 << 48 | number)),
            "start_time": T0 + timedelta(seconds=self.now),
            "duration_ms": took * 1000 + 500,
            "time_to_first_token_ms": took * 1000,
            "iteration": None,
            "recursion_id": None,
            "model": body["model"],
            "provider": self.rules.provider,
            "api": self.api,
            "service_tier": None,
            "success": True,
            "prompt_tokens": usage.prompt,
            "completion_tokens": 60,
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.written if self.rules.has_writes else None,
            "prompt_token_price": PRICE,
            "cached_token_price": PRICE * self.rules.read_price,
            "cache_write_token_price": PRICE * write if self.rules.has_writes else None,
            "completion_token_price": 0.008,
            "total_cost": None,
            "fingerprint": encoded,
            "request_options": options or None,
            "cache_diagnostics": diagnostics,
        }
