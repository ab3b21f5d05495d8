"""The fingerprint of a prompt: a keyed hash and a size for each of its segments, without the content. Pure.

A provider's cache reads the longest prefix of a prompt that it has stored, so a hit depends on the order and the
content of the parts. A **segment** is one tool definition, the response format, one part of one message, or a piece of
a long text; its fingerprint is its kind, its size in characters, and five bytes of a BLAKE2b hash under the key of this
installation. The text cannot be recovered, and testing a guess requires the key.

A long text is cut at fixed distances from both of its ends, so that a text whose head, tail or middle changed still
shares pieces with the text before the change. The digest of a JSON value has two parts: three bytes do not depend on
the order of its keys, two do.

Segments are in the order in which providers render prompts: tools, response format, instructions, then the messages.

Source: https://developers.openai.com/api/docs/guides/prompt-caching (messages, images, tools and output schemas are
part of the prefix; ``prompt_cache_key``, ``prompt_cache_options``, ``prompt_cache_breakpoint``), read 2026-11-27;
Anthropic's ``cache_control``, in the form that OpenRouter accepts: https://openrouter.ai/docs/features/prompt-caching,
read 2026-11-27.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic_core import to_json

from .segment_codec import (
    BREAKPOINT,
    CONTINUES,
    DIGEST_BYTES,
    IN_MESSAGE,
    KINDS,
    NEW_MESSAGE,
    Segment,
    decode_segments,
    encode_segment,
    with_breakpoint,
)

CONTENT_BYTES = 3
"""The first bytes of a JSON value's digest, which do not depend on the order of its keys."""

_BREAKPOINT_FIELDS = ("prompt_cache_breakpoint", "cache_control")
_BLOCK_BYTES = 64  # the block size of SHA-256
_MEDIA = frozenset(
    ("image_url", "input_image", "input_audio", "audio", "file", "input_file", "video_url", "input_video", "document")
)
_INSTRUCTIONS = frozenset(("system", "developer"))
_FIRST_CUT = 256  # characters from either end of a long text; each further cut doubles the distance
_LONG_TEXT = 4_096  # texts of at least this many characters are cut into pieces, except instructions
_MAX_REMEMBERED = 8_192


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The fingerprint of a prompt.

    Attributes:
        segments: In the order in which the prompt is rendered.
        cache_key: Four bytes for the request's ``prompt_cache_key``; None if not specified.
        response: Five bytes for the id of the response; a later ``previous_response`` segment has the same digest.
        installation: Two bytes for the key; fingerprints of two installations cannot be compared.
    """

    segments: tuple[Segment, ...]
    cache_key: bytes | None = None
    response: bytes | None = None
    installation: bytes = b"\0\0"


class EncodedFingerprint(NamedTuple):
    """The fingerprint of a prompt with the bytes of its segments.

    Attributes:
        encoded: The segments, as :func:`~.segment_codec.encode_segment` returns them.
        has_breakpoint: Whether the request sets a cache breakpoint after one of them.
        cache_key, response, installation: As in :class:`Fingerprint`.
    """

    encoded: list[bytes]
    has_breakpoint: bool
    cache_key: bytes | None
    response: bytes | None
    installation: bytes

    def decoded(self) -> Fingerprint:
        """Return the same fingerprint with its segments as objects."""
        return Fingerprint(tuple(decode_segments(self.encoded, {})), self.cache_key, self.response, self.installation)


class Digests:
    """Hashes text with SHA-256 under a key, and caches the digests of recent texts without the texts.

    Conversations send the same messages again, and a string caches its own hash, so most of a prompt is not hashed
    again. The key fills the first block of the hash, and a digest is only a few bytes of it, which prevents length
    extension.

    Args:
        key: The secret key, 16 to 64 bytes.

    Attributes:
        installation: Two bytes for the key.
        known_messages: The segments of recent messages of one text, by role and by hash and length of the text.
    """

    def __init__(self, key: bytes) -> None:
        self._keyed = sha256(key.ljust(_BLOCK_BYTES, b"\0"))
        self._known: dict[tuple[str, int, int], bytes] = {}
        self._known_pieces: dict[tuple[str, int, int], tuple[tuple[int, bytes], ...]] = {}
        self.known_messages: dict[tuple[str, int, int], list[bytes]] = {}
        self.installation = self.of_bytes("installation", b"", 2)

    def of_text(self, domain: str, text: str) -> bytes:
        """Return five bytes for a text. Equal texts in different domains have different digests."""
        # Python's hash has 64 bits and a random key per process: two texts of one length do not collide.
        known = (domain, hash(text), len(text))
        found = self._known.get(known)
        if found is None:
            found = self.of_bytes(domain, text.encode("utf-8", "surrogatepass"))
            remember(self._known, known, found)
        return found

    def of_pieces(self, domain: str, text: str) -> tuple[tuple[int, bytes], ...]:
        """Return size and digest of each piece of a long text, cut at fixed distances from both of its ends."""
        known = (domain, hash(text), len(text))
        found = self._known_pieces.get(known)
        if found is None:
            cuts = _cuts(len(text))
            pieces = [text[begin:end] for begin, end in pairwise(cuts)]
            data = [piece.encode("utf-8", "surrogatepass") for piece in pieces]
            found = tuple((len(piece), self.of_bytes(domain, each)) for piece, each in zip(pieces, data, strict=True))
            remember(self._known_pieces, known, found)
        return found

    def of_json(self, domain: str, rendered: str) -> bytes:
        """Return five bytes for rendered JSON; three of them do not depend on the order of its keys."""
        known = (f"{domain} json", hash(rendered), len(rendered))
        found = self._known.get(known)
        if found is None:
            data = content = rendered.encode("utf-8", "surrogatepass")
            with contextlib.suppress(ValueError):  # a text, not JSON
                content = json.dumps(json.loads(rendered), sort_keys=True).encode()
            exact = self.of_bytes(domain, data, DIGEST_BYTES - CONTENT_BYTES)
            found = self.of_bytes(domain, content, CONTENT_BYTES) + exact
            remember(self._known, known, found)
        return found

    def of_format(self, form: Any) -> str:
        """Return a hash of a response format, as text; the order of its keys does not matter."""
        return self.of_json("response_format", _rendered(_plain(form)))[:CONTENT_BYTES].hex()

    def of_bytes(self, domain: str, data: bytes, size: int = DIGEST_BYTES) -> bytes:
        """Return ``size`` bytes for data, without caching them."""
        hashed = self._keyed.copy()
        hashed.update(domain.encode() + b"\0")
        hashed.update(data)
        return hashed.digest()[:size]


def remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    """Add a value to a cache of bounded size."""
    if len(cache) >= _MAX_REMEMBERED:
        cache.clear()
    cache[key] = value


def fingerprint_request(
    api: str, body: Mapping[str, Any], digests: Digests, response_id: str | None = None
) -> EncodedFingerprint:
    """Return the fingerprint of a request.

    Args:
        api: ``chat.completions``, ``responses``, ``responses.compact`` or ``completions``.
        body: The request, which is neither consumed nor changed; it may contain dicts or objects of the SDK.
        digests: Hashes under the installation's key.
        response_id: The id of the response.

    Raises:
        Exception: No server would accept the body.
    """
    collector = _SegmentCollector(digests)
    for tool in _items(body.get("tools")):
        collector.whole("tool_definition", None, tool)
    for function in _items(body.get("functions")):  # the legacy form of tools
        collector.whole("tool_definition", None, function)
    text = _plain(body.get("text"))
    wanted = _plain(body.get("response_format"))
    form = wanted if wanted is not None else (text.get("format") if isinstance(text, Mapping) else None)
    if form is not None and _plain(form) != {"type": "text"}:
        collector.whole("response_format", None, form)
    if api == "chat.completions":
        collector.messages(_items(body.get("messages")))
    elif api == "completions":
        collector.prompt(body.get("prompt"))
    else:
        collector.response(body)
    if body.get("cache_control"):  # the provider marks the last block
        collector.mark_last()
    key = body.get("prompt_cache_key")
    return EncodedFingerprint(
        collector.encoded,
        collector.has_breakpoint,
        digests.of_bytes("key", key.encode("utf-8", "surrogatepass"), 4) if isinstance(key, str) and key else None,
        None if not isinstance(response_id, str) else digests.of_text("response", response_id),
        digests.installation,
    )


class _SegmentCollector:
    """Collects the segments of one request."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._message: int | None = None  # the message of the last segment that belongs to one
        self.encoded: list[bytes] = []
        self.has_breakpoint = False

    def _add(
        self, kind: str, message: int | None, size: int, digest: bytes, *, marked: bool = False, continues: bool = False
    ) -> None:
        flags = (BREAKPOINT if marked else 0) | (CONTINUES if continues else 0)
        if message is not None:
            flags |= IN_MESSAGE | (NEW_MESSAGE if message != self._message else 0)
            self._message = message
        self.has_breakpoint = self.has_breakpoint or marked
        self.encoded.append(encode_segment(kind, flags, size, digest))

    def mark_last(self) -> None:
        """Mark that the request sets a cache breakpoint after the last segment."""
        if self.encoded:
            self.encoded[-1] = with_breakpoint(self.encoded[-1])
            self.has_breakpoint = True

    def text(self, kind: str, message: int | None, text: str, more: str = "", *, marked: bool = False) -> None:
        """Add a text; ``more`` are the other fields of its message, such as a name."""
        size = len(text)
        if size < 2 * _FIRST_CUT or (size < _LONG_TEXT and kind not in _INSTRUCTIONS):
            self._add(kind, message, size, self._digests.of_text(kind + more, text), marked=marked)
            return
        pieces = self._digests.of_pieces(kind + more, text)
        for number, (size, digest) in enumerate(pieces, 1):
            ends = marked and number == len(pieces)
            self._add(kind, message, size, digest, marked=ends, continues=number > 1)

    def whole(self, kind: str, message: int | None, value: Any) -> None:
        """Add a value that is one segment."""
        value = _plain(value)
        marked = isinstance(value, Mapping) and any(value.get(mark) for mark in _BREAKPOINT_FIELDS)
        if marked:
            value = {name: item for name, item in value.items() if name not in _BREAKPOINT_FIELDS}
        rendered = _rendered(value)
        size = 0 if kind in ("media", "compaction") else len(rendered) - _size_of_ciphertext(value)
        self._add(kind, message, size, self._digests.of_json(kind, rendered), marked=marked)

    def reference(self, kind: str, value: Any) -> None:
        """Add text that the request only references and the server has; its size is unknown."""
        domain = "response" if kind == "previous_response" else kind
        value = _plain(value)
        if isinstance(value, Mapping) and kind == "conversation":
            value = value.get("id")
        named = value if isinstance(value, str) else _rendered(value)
        self._add(kind, None, 0, self._digests.of_text(domain, named))

    def messages(self, messages: Iterable[Any]) -> None:
        """Add the messages of a chat."""
        for number, message in enumerate(messages):
            self.message(number, message if type(message) is dict else _plain(message))

    def message(self, number: int, message: Any) -> None:
        """Add a message: a segment for each part of its content and each tool call."""
        if type(message) is not dict and not isinstance(message, Mapping):
            self.whole("other", number, message)
            return
        role = message.get("role")
        kind = role if role in KINDS else ("tool" if role == "function" else "other")
        content = message.get("content")
        before = len(self.encoded)
        if len(message) == 2 and type(content) is str:  # the usual message
            known = (kind, hash(content), len(content))
            found = self._digests.known_messages.get(known)
            if found is None:
                self.text(kind, number, content)
                remember(self._digests.known_messages, known, self.encoded[before:])
            else:
                self._message = number
                self.encoded += found
            return
        rest = {
            name: value
            for name, value in message.items()
            if value is not None
            and value != []
            and name not in ("role", "content", "tool_calls", "type", "status", *_BREAKPOINT_FIELDS)
        }
        more = _rendered(rest) if rest else ""
        marked = any(message.get(mark) for mark in _BREAKPOINT_FIELDS)
        if isinstance(content, str):
            if content or more:
                self.text(kind, number, content, more, marked=marked)
        else:
            for part in _items(content):
                self.part(kind, number, _plain(part), more)
        for call in _items(message.get("tool_calls")):
            self.whole(kind, number, call)
        if len(self.encoded) == before:  # an empty message is a segment, too
            self.text(kind, number, "", more)
        elif marked and not isinstance(content, str):
            self.mark_last()

    def part(self, kind: str, number: int, part: Any, more: str) -> None:
        """Add one part of a message's content; a text has the same digest in every form."""
        is_text = isinstance(part, Mapping) and part.get("type") in ("text", "input_text", "output_text")
        if is_text and isinstance(text := part.get("text"), str):
            self.text(kind, number, text, more, marked=any(part.get(mark) for mark in _BREAKPOINT_FIELDS))
        else:
            is_media = isinstance(part, Mapping) and part.get("type") in _MEDIA
            self.whole("media" if is_media else kind, number, part)

    def prompt(self, prompt: Any) -> None:
        """Add the prompt of a legacy completion: a text, several texts, or token ids."""
        if isinstance(prompt, str):
            self.text("user", 0, prompt)
        elif isinstance(prompt, Sequence) and prompt and all(isinstance(each, str) for each in prompt):
            for number, each in enumerate(prompt):
                self.text("user", number, each)
        elif prompt is not None:
            self.whole("user", 0, prompt)

    def response(self, body: Mapping[str, Any]) -> None:
        """Add the input of a response."""
        if (instructions := body.get("instructions")) is not None:
            if isinstance(instructions, str):
                self.text("system", None, instructions)
            else:
                self.whole("system", None, instructions)
        for kind, name in (("prompt_template", "prompt"), ("conversation", "conversation")):
            if (value := body.get(name)) is not None:
                self.reference(kind, value)
        if (previous := body.get("previous_response_id")) is not None:
            self.reference("previous_response", previous)
        given = body.get("input")
        if isinstance(given, str):
            self.text("user", 0, given)
            return
        for number, item in enumerate(_items(given)):
            self.item(number, _plain(item))

    def item(self, number: int, item: Any) -> None:
        """Add one item of the input of a response."""
        kind = item.get("type") if isinstance(item, Mapping) else None
        if isinstance(item, Mapping) and "role" in item and kind in (None, "message"):
            # The server assigned the id; the text is the same without it.
            self.message(number, {name: value for name, value in item.items() if name != "id"})
        elif kind in ("compaction", "compaction_summary"):
            self.whole("compaction", number, item)
        elif isinstance(kind, str) and kind.endswith("_output"):
            self.whole("tool", number, item)
        elif kind in ("function_call", "reasoning", "custom_tool_call") or str(kind).endswith("_call"):
            self.whole("assistant", number, item)
        else:
            self.whole("other", number, item)


def _cuts(size: int) -> list[int]:
    """Return where a text of this size is cut, 0 and its end included."""
    distances = [0]
    while (distance := _FIRST_CUT << (len(distances) - 1)) <= size // 2:
        distances.append(distance)
    ends = [size - distance for distance in reversed(distances)]
    return distances + (ends[1:] if ends[0] == distances[-1] else ends)


def _size_of_ciphertext(value: Any) -> int:
    """Return the size of the encrypted part of an item, whose token count does not follow from its characters."""
    content = value.get("encrypted_content") if isinstance(value, Mapping) else None
    return len(content) if isinstance(content, str) else 0


def _items(value: Any) -> Iterable[Any]:
    """Return a list or tuple unchanged, and an empty one for other values: an iterator must not be consumed."""
    return value if isinstance(value, (list, tuple)) else ()


def _plain(value: Any) -> Any:
    """Convert an SDK object to a dict; return other values unchanged."""
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    return value if dump is None or isinstance(value, Mapping) else dump(exclude_unset=True, mode="json")


def _rendered(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(to_json(value, fallback=str), "utf-8")
    except Exception:  # a lone surrogate
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
