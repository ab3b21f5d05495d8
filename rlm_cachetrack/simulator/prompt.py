"""The prompt of a simulated call, as segments and tokens, and the cache of prompt prefixes.

The package's docstring states the rules and their sources.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .request import Json, RejectedError, compact, get_array, get_object, requested_format

MINIMUM_TOKENS = 1024
STEP_TOKENS = 128
TOKEN_CHARS = 4
_ROLE_CHARS = 4 * TOKEN_CHARS
_MEDIA_CHARS = 85 * TOKEN_CHARS  # a low-detail image on gpt-4o: 85 tokens
_BREAKPOINT_TTL_S, _EXTENDED_TTL_S = 1800.0, 86400.0
_MAX_BREAKPOINTS_READ = 80
_NEVER_CACHED = re.compile(r"gpt-3|gpt-4(-|$)|davinci|babbage")  # caching begins with gpt-4o


@dataclass(slots=True)
class Prompt:
    """The prompt as a model reads it: 4 characters per token, padded so that each part ends with a full token."""

    pieces: list[str] = field(default_factory=list)
    length: int = 0  # characters; the two lists of ends have the same unit
    turn_ends: list[int] = field(default_factory=list)  # where user and tool messages end
    marked_ends: list[int] = field(default_factory=list)  # where blocks with a prompt_cache_breakpoint end
    segments: list[int] = field(default_factory=list)  # tokens of each
    last_role: str = ""

    @property
    def tokens(self) -> int:
        """Return the length of the prompt in tokens."""
        return self.length // TOKEN_CHARS

    def add(self, role: str, *parts: object) -> None:
        """Append a segment: its role, then its parts (texts, or blocks of JSON)."""
        start = self.tokens
        self._append(f"<|{role}|>"[:_ROLE_CHARS].ljust(_ROLE_CHARS))
        for part in parts:
            self._append(_visible(part))
            if isinstance(part, dict) and part.get("prompt_cache_breakpoint"):
                self.marked_ends.append(self.length)
        self.segments.append(self.tokens - start)
        self.last_role = role
        if role in ("user", "tool"):
            self.turn_ends.append(self.length)

    def _append(self, piece: str) -> None:
        self.pieces.append(piece + "\0" * (-len(piece) % TOKEN_CHARS))
        self.length += len(self.pieces[-1])


def _visible(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        if isinstance(text := part.get("text", part.get("refusal")), str):
            return text
        part = {key: value for key, value in part.items() if key != "prompt_cache_breakpoint"}
    return hashlib.sha256(compact(part).encode()).hexdigest().ljust(_MEDIA_CHARS)


def read_prompt(api: str, body: Json) -> Prompt:
    """Read the prompt of a request, in the order in which OpenAI renders it.

    Raises:
        RejectedError: The prompt is missing or malformed.
    """
    prompt = Prompt()
    for tool in get_array(body, "tools"):
        prompt.add("tools", compact(tool))  # keys in the order received: it matters to OpenAI's cache
    if schema := requested_format(body):
        prompt.add("schema", compact(schema))
    if isinstance(body.get("instructions"), str):
        prompt.add("system", body["instructions"])
    key = {"chat": "messages", "responses": "input"}.get(api, "prompt")
    if not body.get(key):
        raise RejectedError(f"Missing required parameter: '{key}'.", key, "missing_required_parameter")
    for item in [body[key]] if isinstance(body[key], str) else get_array(body, key, of=(dict, str)):
        _add_item(prompt, {"role": "user", "content": item} if isinstance(item, str) else item)
    return prompt


def _add_item(prompt: Prompt, item: Json) -> None:
    item_type, content = item.get("type"), item.get("content")
    if item_type == "function_call":
        prompt.add("assistant", compact([item.get(name) for name in ("call_id", "name", "arguments")]))
    elif item_type == "function_call_output":
        output = item.get("output")
        prompt.add("tool", str(item.get("call_id")), *(output if isinstance(output, list) else [str(output)]))
    elif item_type in (None, "message"):
        named = [str(item[name]) for name in ("name", "tool_call_id") if item.get(name)]
        parts = content if isinstance(content, list) else [content] if content is not None else []
        calls = [compact(item["tool_calls"], sort=True)] if item.get("tool_calls") else []
        prompt.add(str(item.get("role")), *named, *parts, *calls)
    elif item_type != "reasoning":
        prompt.add(str(item_type), compact(item))


class PromptCache:
    """The cached prefixes, as digests with the time at which each expires."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._expiry: dict[bytes, float] = {}

    def use(self, owner: str, model: str, body: Json, prompt: Prompt, now: float, cold: bool) -> tuple[int, int]:
        """Look up the prompt, then store it. Returns ``cached_tokens`` and ``cache_write_tokens``."""
        if _NEVER_CACHED.match(model):
            return 0, 0
        if by_breakpoint := has_breakpoints(model):
            ttl_s = _BREAKPOINT_TTL_S
            explicit = get_object(body, "prompt_cache_options").get("mode") == "explicit"
            reads = sorted({*prompt.marked_ends, *([] if explicit else prompt.turn_ends)})[-_MAX_BREAKPOINTS_READ:]
            writes = prompt.marked_ends[-4:] if explicit else [*prompt.marked_ends[-3:], *prompt.turn_ends[-1:]]
        else:
            ttl_s = _EXTENDED_TTL_S if body.get("prompt_cache_retention") == "24h" else self._ttl_s
            step = STEP_TOKENS * TOKEN_CHARS
            reads = writes = list(range(step, prompt.length + 1, step))
        ends = sorted({end for end in (*reads, *writes) if end >= MINIMUM_TOKENS * TOKEN_CHARS})
        namespace = compact([owner, model, body.get("prompt_cache_key")])
        digests = dict(zip(ends, _prefix_digests(namespace, prompt, ends), strict=True))
        live = {end for end in ends if self._expiry.get(digests[end], -math.inf) >= now}
        cached = 0 if cold else max(live.intersection(reads), default=0)
        stored = [end for end in writes if end in digests]
        for end in (*stored, *([cached] if cached else [])):
            self._expiry.pop(digests[end], None)  # moves the entry to the end of the queue
            self._expiry[digests[end]] = now + ttl_s
        written = max(0, max(stored, default=0) - cached) if by_breakpoint else 0
        return cached // TOKEN_CHARS, written // TOKEN_CHARS

    def shrink(self, max_entries: int) -> None:
        """Evict the oldest entries until at most ``max_entries`` are left."""
        while len(self._expiry) > max_entries:
            del self._expiry[next(iter(self._expiry))]


def _prefix_digests(namespace: str, prompt: Prompt, ends: Sequence[int]) -> Iterator[bytes]:
    text, start = "".join(prompt.pieces), 0
    chain = hashlib.blake2b(namespace.encode() + b"\0", digest_size=16)
    for end in ends:
        chain.update(text[start:end].encode("utf-8", "surrogatepass"))
        yield chain.digest()
        start = end


def has_breakpoints(model: str) -> bool:
    """Return True if the model caches up to breakpoints: GPT-5.6 and later."""
    version = re.match(r"gpt-(\d+)(?:\.(\d+))?", model)
    return version is not None and (int(version[1]), int(version[2] or 0)) >= (5, 6)
