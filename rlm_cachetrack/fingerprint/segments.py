"""What a prompt was, without its content: a keyed hash and a size for each of its segments. Pure.

A provider's cache reads the longest beginning of a prompt that it has seen before, so what matters of a prompt is the
order of its parts and whether each is the same as before. A **segment** is one tool definition, the response format, or
one part of one message; it is kept as its kind, its size in characters and five bytes of a BLAKE2b hash under a secret
of this installation. Nothing of the text can be had back, and without the secret not even a guess can be tested.

The order of segments is that in which prompts are rendered: tools, response format, instructions, then the messages.

Source: https://developers.openai.com/api/docs/guides/prompt-caching (messages, images, tools and output schemas are
part of the prefix; ``prompt_cache_key``, ``prompt_cache_options``, ``prompt_cache_breakpoint``), read 2026-11-27;
Anthropic's ``cache_control``, as OpenRouter takes it: https://openrouter.ai/docs/features/prompt-caching, read
2026-11-27.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

try:
    from pydantic_core import to_json as _to_json
except ImportError:  # openai with pydantic 1
    _to_json = None  # type: ignore[assignment]

__all__ = ["DIGEST_BYTES", "KINDS", "Digests", "Fingerprint", "Segment", "of_request"]

KINDS = (
    "other",
    "tool_definition",
    "response_format",
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "previous_response",
    "conversation",
    "prompt_template",
)
"""The kinds of segments; the number of a kind is its place here, so new ones go to the end."""

_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
DIGEST_BYTES = 5
_MARKS = ("prompt_cache_breakpoint", "cache_control")
_MOST_REMEMBERED = 8_192


class Segment(NamedTuple):
    """One part of a prompt.

    Attributes:
        kind: One of :data:`KINDS`.
        message: The number of its message, from 0; None for what is in none.
        size: Characters, as sent; 0 where the text is at the server (``previous_response``, ``conversation``).
        digest: Five bytes; equal for equal segments of one installation.
        breakpoint: The request asks the cache to end a prefix after it.
    """

    kind: str
    message: int | None
    size: int
    digest: bytes
    breakpoint: bool = False


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a prompt was.

    Attributes:
        segments: In the order in which the prompt is rendered.
        cache_key: Four bytes for the ``prompt_cache_key`` of the request; None where it had none.
        retention: What the request says of how long: ``in_memory`` or ``24h``; None where it says nothing.
        explicit: The request switches the provider's own breakpoint off (``prompt_cache_options.mode``).
        response: Five bytes for the id of the response, which a later ``previous_response`` segment has as its digest.
        installation: Two bytes for the secret: fingerprints of two installations cannot be compared.
    """

    segments: tuple[Segment, ...]
    cache_key: bytes | None = None
    retention: str | None = None
    explicit: bool = False
    response: bytes | None = None
    installation: bytes = b"\0\0"


class Digests:
    """Hashes text under a secret; remembers, without their text, those it met.

    Conversations send the same messages again and again, and a string knows its own hash, so most of a prompt is not
    read a second time.

    Args:
        key: The secret, 16 to 64 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[tuple[str, int, int], bytes] = {}
        self.installation = blake2b(b"installation", digest_size=2, key=key).digest()

    def of_text(self, domain: str, text: str) -> bytes:
        """Five bytes for a text; a domain keeps equal texts of different meaning apart."""
        # Python's own hash is 64 bits under a random key of the process: two texts of one length do not share it.
        known = (domain, hash(text), len(text))
        found = self._known.get(known)
        if found is None:
            found = self.of_bytes(domain, text.encode("utf-8", "surrogatepass"))
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[known] = found
        return found

    def of_bytes(self, domain: str, data: bytes, size: int = DIGEST_BYTES) -> bytes:
        """The same of bytes, not remembered."""
        hashed = blake2b(domain.encode() + b"\0", digest_size=size, key=self._key)
        hashed.update(data)
        return hashed.digest()


def of_request(api: str, body: Mapping[str, Any], digests: Digests, response_id: str | None = None) -> Fingerprint:
    """The fingerprint of a request.

    Args:
        api: ``chat.completions``, ``responses``, ``responses.compact`` or ``completions``.
        body: What was sent. Neither consumed nor changed; what is in it may be dicts or the SDK's objects.
        digests: Hashes under the installation's secret.
        response_id: The id of the answer.

    Raises:
        Exception: The body is nothing that a server would take either.
    """
    reader = _Reader(digests)
    for tool in _items(body.get("tools")):
        reader.whole("tool_definition", None, tool)
    for function in _items(body.get("functions")):  # before tools
        reader.whole("tool_definition", None, function)
    text = _plain(body.get("text"))
    wanted = _plain(body.get("response_format"))
    form = wanted if wanted is not None else (text.get("format") if isinstance(text, Mapping) else None)
    if form is not None and _plain(form) != {"type": "text"}:
        reader.whole("response_format", None, form)
    if api == "chat.completions":
        reader.messages(_items(body.get("messages")))
    elif api == "completions":
        reader.prompt(body.get("prompt"))
    else:
        reader.response(body)
    options = _plain(body.get("prompt_cache_options"))
    options = options if isinstance(options, Mapping) else {}
    key, retention = body.get("prompt_cache_key"), body.get("prompt_cache_retention")
    return Fingerprint(
        tuple(reader.segments),
        digests.of_bytes("key", key.encode("utf-8", "surrogatepass"), 4) if isinstance(key, str) and key else None,
        retention if retention in ("in_memory", "24h") else None,
        options.get("mode") == "explicit",
        None if not isinstance(response_id, str) else digests.of_text("response", response_id),
        digests.installation,
    )


class _Reader:
    """Collects segments."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self.segments: list[Segment] = []

    def text(self, kind: str, message: int | None, text: str, more: str = "", *, marked: bool = False) -> None:
        """A text; ``more`` is what else is said of it, such as whose it is."""
        digest = self._digests.of_text(kind + more, text)
        self.segments.append(Segment(kind, message, len(text), digest, marked))

    def whole(self, kind: str, message: int | None, value: Any) -> None:
        """A value that is a segment as it stands."""
        value = _plain(value)
        marked = isinstance(value, Mapping) and any(value.get(mark) for mark in _MARKS)
        if marked:
            value = {name: item for name, item in value.items() if name not in _MARKS}
        self.text(kind, message, _rendered(value), marked=marked)

    def at_the_server(self, kind: str, value: Any) -> None:
        """What is not sent but named; its size is not known."""
        domain = "response" if kind == "previous_response" else kind
        named = value if isinstance(value, str) else _rendered(_plain(value))
        self.segments.append(Segment(kind, None, 0, self._digests.of_text(domain, named)))

    def messages(self, messages: Iterable[Any]) -> None:
        """The messages of a chat."""
        for number, message in enumerate(messages):
            self.message(number, _plain(message))

    def message(self, number: int, message: Any) -> None:
        """One message: a segment for each part of its content, each tool call, and what else it says."""
        if not isinstance(message, Mapping):
            self.whole("other", number, message)
            return
        role = message.get("role")
        kind = role if role in _NUMBER else ("tool" if role == "function" else "other")
        before = len(self.segments)
        content = message.get("content")
        if len(message) == 2 and type(content) is str:  # as most are
            self.text(kind, number, content)
            return
        rest = {
            name: value
            for name, value in message.items()
            if value is not None
            and value != []
            and name not in ("role", "content", "tool_calls", "type", "status", *_MARKS)
        }
        more = _rendered(rest) if rest else ""
        marked = any(message.get(mark) for mark in _MARKS)
        if isinstance(content, str):
            if content or more:
                self.text(kind, number, content, more, marked=marked)
        else:
            for part in _items(content):
                self.part(kind, number, _plain(part), more)
        for call in _items(message.get("tool_calls")):
            self.whole(kind, number, call)
        if len(self.segments) == before:  # a message that says nothing is a message
            self.text(kind, number, "", more)
        elif marked and not isinstance(content, str):
            self.segments[-1] = self.segments[-1]._replace(breakpoint=True)

    def part(self, kind: str, number: int, part: Any, more: str) -> None:
        """One part of a message's content; a text is the same however it is wrapped."""
        of_text = isinstance(part, Mapping) and part.get("type") in ("text", "input_text", "output_text")
        if of_text and isinstance(text := part.get("text"), str):
            self.text(kind, number, text, more, marked=any(part.get(mark) for mark in _MARKS))
        else:
            self.whole(kind, number, part)

    def prompt(self, prompt: Any) -> None:
        """The prompt of a legacy completion: a text, several, or tokens."""
        if isinstance(prompt, str):
            self.text("user", 0, prompt)
        elif isinstance(prompt, Sequence) and prompt and all(isinstance(each, str) for each in prompt):
            for number, each in enumerate(prompt):
                self.text("user", number, each)
        elif prompt is not None:
            self.whole("user", 0, prompt)

    def response(self, body: Mapping[str, Any]) -> None:
        """The input of a response."""
        if (instructions := body.get("instructions")) is not None:
            if isinstance(instructions, str):
                self.text("system", None, instructions)
            else:
                self.whole("system", None, instructions)
        for kind, name in (("prompt_template", "prompt"), ("conversation", "conversation")):
            if (value := body.get(name)) is not None:
                self.at_the_server(kind, value)
        if (previous := body.get("previous_response_id")) is not None:
            self.at_the_server("previous_response", previous)
        given = body.get("input")
        if isinstance(given, str):
            self.text("user", 0, given)
            return
        for number, item in enumerate(_items(given)):
            self.item(number, _plain(item))

    def item(self, number: int, item: Any) -> None:
        """One item of the input of a response."""
        kind = item.get("type") if isinstance(item, Mapping) else None
        if isinstance(item, Mapping) and "role" in item and kind in (None, "message"):
            # The id is the server's; the same text sent without it is the same text.
            self.message(number, {name: value for name, value in item.items() if name != "id"})
        elif isinstance(kind, str) and kind.endswith("_output"):
            self.whole("tool", number, item)
        elif kind in ("function_call", "reasoning", "custom_tool_call") or str(kind).endswith("_call"):
            self.whole("assistant", number, item)
        else:
            self.whole("other", number, item)


def _items(value: Any) -> Iterable[Any]:
    """What can be walked without using it up."""
    return value if isinstance(value, (list, tuple)) else ()


def _plain(value: Any) -> Any:
    """A dict for an object of the SDK; anything else as it is."""
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    return value if dump is None or isinstance(value, Mapping) else dump(exclude_unset=True, mode="json")


def _rendered(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(_to_json(value, fallback=str), "utf-8")
    except Exception:  # half a surrogate pair, or no pydantic 2
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
