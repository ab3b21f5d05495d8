"""The simulated providers: count the tokens of a request, and read and write a prompt cache by published rules."""

from __future__ import annotations

import copy
import json
import math
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

Token = Any
Json = dict[str, Any]
NEVER = -math.inf
_NAMED = 128

COMPACTED_TOKENS = 1_400
SETTINGS = ("service_tier", "effort", "verbosity", "parallel_tool_calls")


@dataclass(frozen=True)
class Rules:
    """The rules in a provider's documents; ``keep_s`` is how long this simulated provider keeps an unused entry."""

    name: str
    model: str
    minimum: int
    step: int
    keep_s: float
    marks: str = "none"  # none: any prefix; units: whole prompts and beginnings that two prompts shared;
    # openai: breakpoints and the newest message; claude: cache_control
    provider: str = "unknown"
    read_price: float = 0.1  # relative to an uncached token
    write_price: float = 1.0
    long_keep_s: float = 0.0  # if the request asks for the long lifetime
    long_write_price: float = 1.0
    message_tokens: int = 4
    width: float = 4.2  # characters per token
    spread: float = 0.0  # the largest relative deviation of a text from the width

    @property
    def has_writes(self) -> bool:
        """Return True if writes to the cache are billed and reported."""
        return self.marks in ("openai", "claude")


GPT41 = Rules("OpenAI", "gpt-4.1", 1024, 128, 24 * 3600.0, read_price=0.25)
GPT41_MEMORY = Rules("OpenAI in memory", "gpt-4.1", 1024, 128, 300.0, read_price=0.25)
GPT55 = Rules("OpenAI GPT-5.5", "gpt-5.5", 1024, 128, 24 * 3600.0)
GPT56 = Rules(
    "OpenAI GPT-5.6", "gpt-5.6-sol", 1024, 1, 1800.0, "openai", "unknown", 0.1, 1.25, 12 * 3600.0, 2.5, message_tokens=3
)
CLAUDE = Rules("Claude", "anthropic/claude-sonnet-4.5", 1024, 1, 300.0, "claude", "unknown", 0.1, 1.25, 3600.0, 2.0)
CLAUDE_HAIKU = Rules(
    "Claude Haiku", "anthropic/claude-haiku-4.5", 4096, 1, 300.0, "claude", "unknown", 0.1, 1.25, 3600.0, 2.0
)
CLAUDE_SONNET_55 = Rules(
    "Claude Sonnet 5.5", "claude-sonnet-5-5", 512, 1, 300.0, "claude", "anthropic", 0.05, 1.25, 3600.0, 2.0
)
GEMINI = Rules("Gemini", "gemini-2.5-flash", 2048, 1, 240.0, read_price=0.25)
DEEPSEEK = Rules("DeepSeek", "deepseek-chat", 64, 64, 7200.0, "units", "deepseek")
GROK = Rules("Grok", "grok-4.3", 128, 128, 240.0, provider="xai", read_price=0.25)


@dataclass
class Prompt:
    """A rendered prompt: tokens, where messages and marked blocks end, and where the messages begin."""

    tokens: list[Token] = field(default_factory=list)
    head: int = 0
    has_images: bool = False
    message_ends: list[int] = field(default_factory=list)
    block_ends: list[int] = field(default_factory=list)
    marked_ends: list[int] = field(default_factory=list)


@dataclass
class Usage:
    """The usage that the provider reports."""

    prompt: int
    cached: int
    written: int


class Provider:
    """One provider with its caches and the conversations that it stores."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.written: dict[Any, tuple[float, float, float]] = {}  # prefix: ready at, last use, kept for
        self.stored: dict[str, list[Any]] = {}
        self.prompts: dict[Any, list[list[Token]]] = {}  # of providers that cache whole prompts, by model and settings

    def copy(self) -> Provider:
        other = Provider(self.rules)
        other.written, other.stored = dict(self.written), copy.deepcopy(self.stored)
        other.prompts = {namespace: list(prompts) for namespace, prompts in self.prompts.items()}
        return other

    # -- tokens ---------------------------------------------------------------------------------------------------

    def split(self, text: str) -> list[Token]:
        width = 3.2 if text[:1] == "{" else self.rules.width
        width *= 1 + self.rules.spread * (zlib.crc32(text[-40:].encode()) / 2**31 - 1)
        return list(_split(text, width))

    def render(self, body: Json, history: list[Any]) -> Prompt:
        """Render tools, the response format, instructions, what the server stores, and the messages."""
        prompt = Prompt()
        for tool in body.get("tools", ()):
            self._block(prompt, self.split(json.dumps(tool)), tool)
        form = body.get("response_format") or (body.get("text") or {}).get("format")
        if form:
            self._block(prompt, self.split(json.dumps(form)), form)
        if body.get("instructions"):
            self._block(prompt, self.split(body["instructions"]), {})
        prompt.head = len(prompt.tokens)
        for message in [*history, *_messages(body)]:
            is_head = message.get("role") in ("system", "developer") and prompt.head == len(prompt.tokens)
            self._message(prompt, message)
            prompt.head = len(prompt.tokens) if is_head else prompt.head
        if body.get("cache_control"):
            prompt.marked_ends.append(len(prompt.tokens))
        return prompt

    def _message(self, prompt: Prompt, message: Json) -> None:
        if message.get("type") == "compaction":
            prompt.tokens += [("compacted", message["id"], n) for n in range(COMPACTED_TOKENS)]
            prompt.block_ends.append(len(prompt.tokens))
            return
        prompt.tokens += [message.get("role")] * self.rules.message_tokens
        content = message.get("content") or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if "text" in part:
                self._block(prompt, self.split(part["text"]), part)
            else:
                url = json.dumps(part)
                prompt.has_images = True
                self._block(prompt, [(url, n) for n in range(_image_tokens(part))], part)
        if message.get("role") != "assistant":
            prompt.message_ends.append(len(prompt.tokens))

    @staticmethod
    def _block(prompt: Prompt, tokens: list[Token], block: Json) -> None:
        prompt.tokens += tokens
        prompt.block_ends.append(len(prompt.tokens))
        if block.get("prompt_cache_breakpoint") or block.get("cache_control"):
            prompt.marked_ends.append(len(prompt.tokens))

    # -- the cache ------------------------------------------------------------------------------------------------

    def ask(self, body: Json, now: float, took: float = 1.0, *, miss: bool = False, answer: str = "") -> Usage:
        """Return the usage of a request, and store the prefixes that it writes. ``miss`` forces a cache miss."""
        history = self._history(body)
        prompt = self.render(body, history)
        namespace = (body["model"], body.get("prompt_cache_key"), *self._settings(body))
        keep, _ = self.lifetime(body)
        reads, writes = self._ends(body, prompt)
        if self.rules.marks == "units":
            reads = writes = self._units(namespace, prompt.tokens)
        names = self._names(namespace, prompt.tokens, {*reads, *writes})
        if self.rules.marks == "claude":  # the messages depend on more settings than the tools and the system prompt
            of_messages = self._names((*namespace, *_message_settings(body, prompt)), prompt.tokens, {*reads, *writes})
            names = {end: of_messages[end] if end > prompt.head else name for end, name in names.items()}
        size = len(prompt.tokens)
        cached = 0
        if size >= self.rules.minimum and not miss:
            cached = max((end for end in reads if self._is_readable(names[end], now)), default=0)
            cached -= cached % self.rules.step
        written = max([*writes, 0]) if size >= self.rules.minimum else 0
        if size >= self.rules.minimum:
            for end in {*writes, *([cached] if cached in names else [])}:
                ready, used, kept = self.written.get(names[end], (now + took, NEVER, keep))
                if now - used > kept or ready > now:
                    ready = min(ready, now + took) if now - used <= kept else now + took
                self.written[names[end]] = (ready, now, max(keep, kept if now - used <= kept else 0.0))
        self._store(body, history, answer)
        return Usage(size, cached, max(0, written - cached) if self.rules.has_writes else 0)

    def _units(self, namespace: Any, tokens: list[Token]) -> list[int]:
        """Return the ends of the units that DeepSeek's document names: this prompt, and what earlier ones also had."""
        earlier = self.prompts.setdefault(namespace, [])
        ends = {len(tokens), *(_shared(tokens, each) for each in earlier)}
        earlier.append(tokens)
        return sorted(end for end in ends if end >= self.rules.minimum)

    def lifetime(self, body: Json) -> tuple[float, float]:
        """Return how long the entries of a request are kept, and the relative price of writing a token."""
        rules = self.rules
        long = (body.get("prompt_cache_options") or {}).get("ttl") == "12h" or '"ttl": "1h"' in json.dumps(body)
        long = long or (body.get("prompt_cache_retention") == "24h" and bool(rules.long_keep_s))
        return (rules.long_keep_s, rules.long_write_price) if long else (rules.keep_s, rules.write_price)

    def _is_readable(self, name: Any, now: float) -> bool:
        ready, used, kept = self.written.get(name, (0.0, NEVER, 0.0))
        return ready <= now and now - used <= kept

    def _ends(self, body: Json, prompt: Prompt) -> tuple[list[int], list[int]]:
        """Return where the request may read a prefix, and where it writes one."""
        least, marks = self.rules.minimum, self.rules.marks
        if marks == "none":
            ends = list(range(least, len(prompt.tokens) + 1, 1))
            ends = [end for end in ends if end % self.rules.step == 0]
            return ends, ends
        marked = [end for end in prompt.marked_ends if end >= least]
        if marks == "claude":
            blocks = prompt.block_ends
            reads = {
                end
                for mark in marked
                for end in blocks[max(0, blocks.index(mark) - 19) : blocks.index(mark) + 1]
                if end >= least
            }
            return sorted(reads), marked[-4:]
        newest = [end for end in prompt.message_ends if end >= least]
        if (body.get("prompt_cache_options") or {}).get("mode") == "explicit":
            return marked[-80:], marked[-4:]
        return sorted({*marked, *newest})[-80:], sorted({*marked[-3:], *newest[-1:]})

    @staticmethod
    def _names(namespace: tuple[Any, ...], tokens: list[Token], ends: set[int]) -> dict[int, Any]:
        """Return a name for each prefix: it depends on the tokens only, not on the other ends."""
        found, chain = {}, hash(namespace)
        for start in range(0, len(tokens), _NAMED):
            piece = tokens[start : start + _NAMED]
            for end in range(start + 1, start + len(piece) + 1):
                if end in ends:
                    found[end] = (chain, hash(tuple(piece[: end - start])))
            chain = hash((chain, tuple(piece)))
        return found

    @staticmethod
    def _settings(body: Json) -> tuple[Any, ...]:
        tier = body.get("service_tier")
        effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
        verbosity = body.get("verbosity") or (body.get("text") or {}).get("verbosity")
        effort = effort or (body.get("output_config") or {}).get("effort")
        thinking, speed = json.dumps(body.get("thinking")), body.get("speed")
        tier = None if tier in ("auto", "default") else tier
        return (tier, effort, verbosity, body.get("parallel_tool_calls"), thinking, speed)

    # -- stored conversations -------------------------------------------------------------------------------------

    def _history(self, body: Json) -> list[Any]:
        name = body.get("previous_response_id") or body.get("conversation")
        return self.stored.get(name, []) if name else []

    def _store(self, body: Json, history: list[Any], answer: str) -> None:
        after = [*history, *_messages(body), {"role": "assistant", "content": answer}]
        for rule in body.get("context_management", ()):
            if len(self.render({"input": after}, []).tokens) > rule["compact_threshold"]:
                after = [{"type": "compaction", "id": f"c{len(self.stored)}"}]
        for name in (body.get("x_response_id"), body.get("conversation")):
            if name:
                self.stored[name] = after


def _message_settings(body: Json, prompt: Prompt) -> tuple[Any, ...]:
    """Return the settings that only Claude's cache of messages depends on: the tool choice, and the use of images."""
    choice = body.get("tool_choice")
    return (None if choice in (None, "auto") else json.dumps(choice), prompt.has_images)


@lru_cache(20_000)
def _split(text: str, width: float) -> tuple[str, ...]:
    ends = [round(number * width) for number in range(math.ceil(len(text) / width) + 1)]
    return tuple([text[start:stop] for start, stop in pairwise(ends)])


def _shared(one: list[Token], other: list[Token]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _messages(body: Json) -> list[Json]:
    given = body.get("messages", body.get("input", []))
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _image_tokens(part: Json) -> int:
    """OpenAI's tiles: 85 tokens, and 170 for each tile; the test's URLs contain the number of tiles."""
    url = json.dumps(part)
    tiles = int(url.split("tiles=")[1][:1]) if "tiles=" in url else 4
    return 85 + 170 * tiles
