"""A loopback HTTP endpoint that speaks OpenAI's API and caches prompts by OpenAI's published rules.

It serves the demo, the examples and the tests, so that the real OpenAI SDK runs offline over real HTTP. It
is a simulation of the *rules*: no model answers, and the tokenizer is its own, so that counts can be done by
hand.

**Tokens.** A prompt is a row of segments, in the order in which OpenAI renders them: each tool, the output
schema, the instructions, each message. A segment is 4 tokens for its role and, for each of its parts (a
text, a name, a call's id), one token for every 4 characters begun; a picture or a file is 85. So
``prompt_tokens`` is the sum over the segments, and the messages that two prompts have in common are exactly
a common token prefix.

**Caching**, models before GPT-5.6: a prompt of at least 1,024 tokens is cached in steps of 128; a later one
reads the longest run of steps that it repeats exactly, so ``cached_tokens`` is 0, 1024, 1152, … A repeated
prompt may be read whole: nothing published holds its last step back, and a prompt of 1,024 tokens could
never hit otherwise. An entry expires ``ttl_s`` after its last use (``prompt_cache_retention="24h"``: after
24 hours).
From GPT-5.6 on: exact to the token, but only up to a breakpoint, which is the end of a user or tool message
(implicit) or of a block marked ``prompt_cache_breakpoint``; ``cache_write_tokens`` is reported; an entry
expires 30 minutes after its last use.
A cache belongs to one organization (here: API key), one model and one ``prompt_cache_key``. OpenAI calls the
key a matter of routing; here another key always means another machine. A call is looked up and stored as it
arrives.
Not simulated: eviction under load, the overflow above some 15 requests a minute, minimums above 1,024
tokens, and responses kept at the server (``previous_response_id`` is never found).

Source: https://developers.openai.com/api/docs/guides/prompt-caching (a stored copy, read 2026-11-23);
https://github.com/openai/openai-cookbook/blob/main/examples/Prompt_Caching_201.ipynb (tools and schemas come
before the instructions; read 2026-11-23); ``PromptCacheOptions`` of openai 3.54 (80 breakpoints considered).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import random
import re
import socket
import socketserver
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["Reply", "SimulatedEndpoint", "SimulatedRequest"]

MINIMUM_TOKENS = 1024
STEP_TOKENS = 128
_TOKEN_CHARS = 4
_ROLE_CHARS = 4 * _TOKEN_CHARS
_MEDIA_CHARS = 85 * _TOKEN_CHARS  # a picture of low detail on gpt-4o: 85 tokens
_BREAKPOINT_TTL_S, _EXTENDED_TTL_S = 1800.0, 86400.0
_BREAKPOINTS_READ = 80
_MAX_ENTRIES = 1 << 16  # about 12 MB: 16-byte digests of 8 million cached tokens, no text
_PIECE_TOKENS = 4  # tokens of the answer in one event of a stream
_THREAD_NAME = "rlm-cachetrack-simulator"

_APIS = "chat/completions|completions|responses|embeddings"
_PATH = re.compile(rf"(?:/openai)?(?:/v1)?(?:/deployments/(?P<deployment>[^/]+))?/(?P<api>{_APIS})")
# Source: the ``model`` of responses recorded from api.openai.com, 2024-10 to 2026-06; other names are echoed.
_SNAPSHOTS = {
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano"), "2025-08-07"),
    **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano"), "2025-04-14"),
    **dict.fromkeys(("o3", "o4-mini"), "2025-04-16"),
    **{"gpt-5.2": "2025-12-11", "gpt-5.4": "2026-03-05", "gpt-5.5": "2026-04-23"},
    **{"gpt-4o": "2024-08-06", "gpt-4o-mini": "2024-07-18"},
}
_NEVER_CACHED = re.compile(r"gpt-3|gpt-4(-|$)|davinci|babbage")  # caching begins with gpt-4o
_REASONS = re.compile(r"o\d|gpt-[5-9]")
_ERRORS = {  # status: type, code, message
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you cannot use it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
}
_SERVER_ERROR = ("server_error", None, "The server had an error while processing your request.")
_WORDS = (
    "answer",
    "source",
    "prefix",
    "context",
    "reads",
    "keeps",
    "every",
    "step",
    "before",
    "result",
    "and",
)
_SAMPLES = {"date-time": "2025-01-01T00:00:00Z", "date": "2025-01-01", "time": "00:00:00"}

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the next request gets, see :meth:`SimulatedEndpoint.script`. ``Reply()`` is an ordinary answer.

    Attributes:
        status: 400 or more sends OpenAI's error body with this status.
        error: The error's message. With status 200 it makes an error body under HTTP 200.
        param: The parameter that the error names; without a message it is called unknown.
        retry_after_s: Sent with an error as ``retry-after`` (whole seconds) and ``retry-after-ms``.
        cut_after: The connection breaks after so many events of a stream; a plain body breaks in the middle.
        error_after: An error event after so many events of a stream, which then ends.
        tool_calls: Names of the functions to call.
        text: The answer's text.
        usage: False leaves the usage out.
        cold: The request lands on a machine that has not seen the prefix: nothing is read from the cache.
        delay_s: Wait so long before the first byte, in seconds, whatever ``latency`` says.
    """

    status: int = 200
    error: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    cut_after: int | None = None
    error_after: int | None = None
    tool_calls: tuple[str, ...] = ()
    text: str | None = None
    usage: bool = True
    cold: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRequest:
    """A request, noted before the first byte of its answer leaves. It holds no text of the prompt.

    Attributes:
        api: ``chat``, ``responses``, ``completions``, ``embeddings``; ``unknown`` for another path.
        model: The model served, a dated snapshot where one is known; ``""`` if refused before that.
        status: HTTP status. A refused request has no tokens.
        include_usage: ``stream_options.include_usage`` was asked for.
        segment_tokens: Tokens of each segment of the prompt, in order; their sum is ``prompt_tokens``.
        retry: How many times the SDK had tried before.
        arrived_at: The endpoint's clock, in seconds.
    """

    api: str
    model: str = ""
    stream: bool = False
    status: int = 200
    request_id: str = ""
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    include_usage: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0
    segment_tokens: tuple[int, ...] = ()
    retry: int = 0
    arrived_at: float = 0.0


class _RefusedError(Exception):
    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400):
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


# --- The prompt: segments, tokens, cache ---


@dataclass(slots=True)
class _Prompt:
    """The prompt as a model sees it: 4 characters a token, padded so that each part ends with a token."""

    pieces: list[str] = field(default_factory=list)
    length: int = 0  # in characters, like the two lists of ends
    turns: list[int] = field(default_factory=list)  # where user and tool messages end
    marks: list[int] = field(default_factory=list)  # where blocks with a prompt_cache_breakpoint end
    segments: list[int] = field(default_factory=list)  # tokens of each
    last_role: str = ""

    @property
    def tokens(self) -> int:
        return self.length // _TOKEN_CHARS

    def add(self, role: str, *parts: object) -> None:
        start = self.tokens
        self._append(f"<|{role}|>"[:_ROLE_CHARS].ljust(_ROLE_CHARS))
        for part in parts:
            self._append(_visible(part))
            if isinstance(part, dict) and part.get("prompt_cache_breakpoint"):
                self.marks.append(self.length)
        self.segments.append(self.tokens - start)
        self.last_role = role
        if role in ("user", "tool"):
            self.turns.append(self.length)

    def _append(self, piece: str) -> None:
        self.pieces.append(piece + "\0" * (-len(piece) % _TOKEN_CHARS))
        self.length += len(self.pieces[-1])


def _visible(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        if isinstance(text := part.get("text", part.get("refusal")), str):
            return text
        part = {key: value for key, value in part.items() if key != "prompt_cache_breakpoint"}
    return hashlib.sha256(_compact(part).encode()).hexdigest().ljust(_MEDIA_CHARS)


def _read_prompt(api: str, body: _Json) -> _Prompt:
    prompt = _Prompt()
    for tool in _list(body, "tools"):
        prompt.add("tools", _compact(tool))  # keys as received: OpenAI's cache minds their order too
    if schema := _output_format(body):
        prompt.add("schema", _compact(schema))
    if isinstance(body.get("instructions"), str):
        prompt.add("system", body["instructions"])
    key = {"chat": "messages", "responses": "input"}.get(api, "prompt")
    if not body.get(key):
        raise _RefusedError(f"Missing required parameter: '{key}'.", key, "missing_required_parameter")
    for item in [body[key]] if isinstance(body[key], str) else _list(body, key, of=(dict, str)):
        _add_item(prompt, {"role": "user", "content": item} if isinstance(item, str) else item)
    return prompt


def _add_item(prompt: _Prompt, item: _Json) -> None:
    kind, content = item.get("type"), item.get("content")
    if kind == "function_call":
        prompt.add("assistant", _compact([item.get(name) for name in ("call_id", "name", "arguments")]))
    elif kind == "function_call_output":
        output = item.get("output")
        prompt.add("tool", str(item.get("call_id")), *(output if isinstance(output, list) else [str(output)]))
    elif kind in (None, "message"):
        named = [str(item[name]) for name in ("name", "tool_call_id") if item.get(name)]
        parts = content if isinstance(content, list) else [content] if content is not None else []
        calls = [_compact(item["tool_calls"], sort=True)] if item.get("tool_calls") else []
        prompt.add(str(item.get("role")), *named, *parts, *calls)
    elif kind != "reasoning":
        prompt.add(str(kind), _compact(item))


def _list(body: _Json, key: str, of: tuple[type, ...] = (dict,)) -> list[Any]:
    value = body.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, of) for item in value):
        raise _RefusedError(f"Invalid type for '{key}': expected an array of objects.", key, "invalid_type")
    return value


def _dict(body: _Json, key: str) -> _Json:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _output_format(body: _Json) -> _Json | None:
    asked = _dict(body, "response_format") or _dict(_dict(body, "text"), "format")
    return asked if asked.get("type") in ("json_schema", "json_object") else None


class _PromptCache:
    """Which prefixes were seen: digests with the time at which they expire; the oldest make room."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._expiry: dict[bytes, float] = {}

    def use(self, owner: str, model: str, body: _Json, prompt: _Prompt, now: float, cold: bool) -> tuple[int, int]:
        """Look the prompt up, then store it. Returns ``cached_tokens`` and ``cache_write_tokens``."""
        if _NEVER_CACHED.match(model):
            return 0, 0
        if by_breakpoint := _has_breakpoints(model):
            ttl_s = _BREAKPOINT_TTL_S
            explicit = _dict(body, "prompt_cache_options").get("mode") == "explicit"
            reads = sorted({*prompt.marks, *([] if explicit else prompt.turns)})[-_BREAKPOINTS_READ:]
            writes = prompt.marks[-4:] if explicit else [*prompt.marks[-3:], *prompt.turns[-1:]]
        else:
            ttl_s = _EXTENDED_TTL_S if body.get("prompt_cache_retention") == "24h" else self._ttl_s
            step = STEP_TOKENS * _TOKEN_CHARS
            reads = writes = list(range(step, prompt.length + 1, step))
        ends = sorted({end for end in (*reads, *writes) if end >= MINIMUM_TOKENS * _TOKEN_CHARS})
        namespace = _compact([owner, model, body.get("prompt_cache_key")])
        digests = dict(zip(ends, _prefix_digests(namespace, prompt, ends), strict=True))
        live = {end for end in ends if self._expiry.get(digests[end], -math.inf) >= now}
        cached = 0 if cold else max(live.intersection(reads), default=0)
        stored = [end for end in writes if end in digests]
        for end in (*stored, *([cached] if cached else [])):
            self._expiry.pop(digests[end], None)  # to the end of the queue
            self._expiry[digests[end]] = now + ttl_s
        while len(self._expiry) > _MAX_ENTRIES:
            del self._expiry[next(iter(self._expiry))]
        written = max(0, max(stored, default=0) - cached) if by_breakpoint else 0
        return cached // _TOKEN_CHARS, written // _TOKEN_CHARS


def _prefix_digests(namespace: str, prompt: _Prompt, ends: Sequence[int]) -> Iterator[bytes]:
    text, start = "".join(prompt.pieces), 0
    chain = hashlib.blake2b(namespace.encode() + b"\0", digest_size=16)
    for end in ends:
        chain.update(text[start:end].encode("utf-8", "surrogatepass"))
        yield chain.digest()
        start = end


def _has_breakpoints(model: str) -> bool:
    version = re.match(r"gpt-(\d+)(?:\.(\d+))?", model)
    return version is not None and (int(version[1]), int(version[2] or 0)) >= (5, 6)


# --- The answer ---


@dataclass(slots=True)
class _Answer:
    """What the simulated model says: text, or calls of functions as (id, name, arguments)."""

    text: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    reasoning_tokens: int = 0
    complete: bool = True

    @property
    def tokens(self) -> int:
        said = [self.text, *(name + arguments for _, name, arguments in self.calls)]
        return sum(math.ceil(len(part) / _TOKEN_CHARS) for part in said) + self.reasoning_tokens

    @property
    def finish_reason(self) -> str:
        return "length" if not self.complete else "tool_calls" if self.calls else "stop"


def _compose(body: _Json, model: str, last_role: str, rng: random.Random, reply: Reply) -> _Answer:
    specs = [_dict(tool, "function") or tool for tool in _list(body, "tools") if tool.get("type") == "function"]
    functions = {str(spec.get("name")): _dict(spec, "parameters") for spec in specs}
    output_format = _output_format(body)
    if names := reply.tool_calls or _called(functions, body.get("tool_choice"), last_role, rng, reply):
        calls = [(_new_id("call_"), name, _sample(functions.get(name, {"type": "object"}))) for name in names]
        answer = _Answer(calls=calls)
    elif reply.text is not None:
        answer = _Answer(reply.text)
    elif output_format is not None:
        spec = _dict(output_format, "json_schema") or output_format
        answer = _Answer(_sample(_dict(spec, "schema") or {"type": "object"}))
    else:
        answer = _Answer(" ".join(rng.choices(_WORDS, k=rng.randint(30, 90))))
    effort = body.get("reasoning_effort") or _dict(body, "reasoning").get("effort")
    thought = 64 * rng.randint(0, 4) if _REASONS.match(model) and effort not in ("none", "minimal") else 0
    limit = body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens")
    if limit is not None:
        if answer.tokens > limit and not answer.calls:
            answer.text, answer.complete = answer.text[: limit * _TOKEN_CHARS], False
        thought = max(0, min(thought, limit - answer.tokens))
    answer.reasoning_tokens = thought
    return answer


def _called(functions: _Json, choice: object, last_role: str, rng: random.Random, reply: Reply) -> tuple[str, ...]:
    """The functions that the model calls: the one it must; else one, every other time a user has spoken."""
    if not functions or choice == "none" or reply.text is not None:
        return ()
    if isinstance(choice, dict) and choice.get("type") == "function":
        return (str((_dict(choice, "function") or choice).get("name")),)
    required = (choice.get("mode") if isinstance(choice, dict) else choice) == "required"
    return (rng.choice(list(functions)),) if required or (last_role == "user" and rng.random() < 0.5) else ()


def _sample(schema: _Json) -> str:
    return json.dumps(_example(schema, schema))


def _example(schema: _Json, root: _Json, depth: int = 0) -> object:
    """The smallest value that fits a JSON schema, as far as structured outputs use schemas."""
    if isinstance(reference := schema.get("$ref"), str):
        target: _Json = root
        for name in reference.removeprefix("#").split("/")[1:]:
            target = target.get(name, {})
        return _example(target, root, depth + 1) if depth < 32 else None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        # A type that contains itself ends where it may be null.
        ordered = sorted(options, key=lambda option: (option.get("type") == "null") == (depth < 8))
        return _example(ordered[0], root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties, required = schema.get("properties") or {}, schema.get("required") or ()
        return {name: _example(properties.get(name, {}), root, depth + 1) for name in required}
    if kind == "array":
        items = schema.get("items") or {}
        return [_example(items, root, depth + 1) for _ in range(schema.get("minItems") or 0)]
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    return {"boolean": True, "null": None}.get(kind or "", _SAMPLES.get(schema.get("format", ""), "text"))


# --- Bodies and events ---


@dataclass(slots=True)
class _Outcome:
    """What goes over the wire: a body, or the events of a stream."""

    request_id: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[bytes] | None = None
    wait_s: float = 0.0
    gap_s: float = 0.0
    cut_after: int | None = None


def _render(known: SimulatedRequest, body: _Json, answers: list[_Answer], usage: _Json | None) -> _Outcome:
    prefix = {"chat": "chatcmpl-", "responses": "resp_"}.get(known.api, "cmpl-")
    head: _Json = {"id": _new_id(prefix), "model": known.model, "service_tier": known.service_tier}
    if known.api == "responses":
        document = _response(answers[0], head, body, usage)
        events = _response_events(document)
    else:
        head["created"] = int(time.time())
        document = {**head, **_completion(known.api, answers), **({"usage": usage} if usage else {})}
        events = _completion_events(known, answers, head, usage)
    if known.stream:
        return _Outcome(known.request_id, events=list(events))
    return _Outcome(known.request_id, body=_compact(document).encode())


def _usage(known: SimulatedRequest) -> _Json:
    read = {"cached_tokens": known.cached_tokens, "cache_write_tokens": known.cache_write_tokens}
    thought = {"reasoning_tokens": known.reasoning_tokens}
    asked, said = known.prompt_tokens, known.completion_tokens
    if known.api == "responses":
        details = {"input_tokens_details": read, "output_tokens_details": thought}
        return {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said, **details}
    usage: _Json = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    if known.api == "chat":  # the old completions have no details at OpenAI either
        predicted = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        usage["prompt_tokens_details"] = {**read, "audio_tokens": 0}
        usage["completion_tokens_details"] = {**thought, "audio_tokens": 0, **predicted}
    return usage


def _completion(api: str, answers: list[_Answer]) -> _Json:
    choices = []
    for index, answer in enumerate(answers):
        said: _Json = {"text": answer.text}
        if api == "chat":
            said = {"message": {"role": "assistant", "content": answer.text or None, "refusal": None}}
            if answer.calls:
                said["message"]["tool_calls"] = [_chat_call(*call) for call in answer.calls]
        choices.append({"index": index, **said, "logprobs": None, "finish_reason": answer.finish_reason})
    return {"object": "chat.completion" if api == "chat" else "text_completion", "choices": choices}


def _chat_call(call_id: str, name: str, arguments: str) -> _Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _completion_events(
    known: SimulatedRequest, answers: list[_Answer], head: _Json, usage: _Json | None
) -> Iterator[bytes]:
    def chunk(index: int, said: _Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish_reason}
        return _sse({**head, "choices": [choice], **no_usage})

    # Asked for usage, every chunk but the last says null; not asked, the key is missing.
    # Source: ChatCompletionStreamOptionsParam of openai 3.54 and streams recorded from api.openai.com.
    no_usage = {"usage": None} if known.include_usage else {}
    chat = known.api == "chat"
    head = {**head, "object": "chat.completion.chunk" if chat else "text_completion"}
    for index, answer in enumerate(answers):
        if chat:
            opening = {"role": "assistant", "content": None if answer.calls else "", "refusal": None}
            yield chunk(index, {"delta": opening})
        for piece in _pieces(answer.text):
            yield chunk(index, {"delta": {"content": piece}} if chat else {"text": piece})
        for number, (call_id, name, arguments) in enumerate(answer.calls):
            yield chunk(index, {"delta": {"tool_calls": [{"index": number, **_chat_call(call_id, name, "")}]}})
            for piece in _pieces(arguments):
                call = {"index": number, "function": {"arguments": piece}}
                yield chunk(index, {"delta": {"tool_calls": [call]}})
        yield chunk(index, {"delta": {}} if chat else {"text": ""}, answer.finish_reason)
    if usage is not None and known.include_usage:
        yield _sse({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


_ECHOED: _Json = {  # parameters that a response repeats, with what OpenAI fills in
    **dict.fromkeys(("instructions", "max_output_tokens", "previous_response_id", "prompt_cache_key", "user")),
    **{"metadata": {}, "parallel_tool_calls": True, "reasoning": {"effort": None, "summary": None}},
    **{"temperature": 1.0, "top_p": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto"},
}


def _response(answer: _Answer, head: _Json, body: _Json, usage: _Json | None) -> _Json:
    status = "completed" if answer.complete else "incomplete"
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}]
    items: list[_Json] = [
        {
            "id": _new_id("fc_"),
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        }
        for call_id, name, arguments in answer.calls
    ]
    message = {"id": _new_id("msg_"), "type": "message", "role": "assistant", "content": content}
    return {
        **{key: default if body.get(key) is None else body[key] for key, default in _ECHOED.items()},
        **{**head, "object": "response", "created_at": int(time.time()), "status": status, "error": None},
        **{"background": False, "store": False, "truncation": "disabled"},
        "incomplete_details": None if answer.complete else {"reason": "max_output_tokens"},
        "tools": [{"strict": True, **tool} for tool in _list(body, "tools")],
        "output": [{**item, "status": status} for item in items or [message]],
        "usage": usage,
    }


def _response_events(response: _Json) -> Iterator[bytes]:
    number = -1

    def event(kind: str, **fields: object) -> bytes:
        nonlocal number
        number += 1
        return _sse({"type": kind, "sequence_number": number, **fields}, kind)

    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(response["output"]):
        at: _Json = {"item_id": item["id"], "output_index": index}
        is_call = item["type"] == "function_call"
        added = {**item, "status": "in_progress", **({"arguments": ""} if is_call else {"content": []})}
        yield event("response.output_item.added", output_index=index, item=added)
        if is_call:
            for piece in _pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", **at, delta=piece)
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield event("response.function_call_arguments.done", **at, **done)
        else:
            (part,) = item["content"]
            at["content_index"] = 0
            yield event("response.content_part.added", **at, part={**part, "text": ""})
            for piece in _pieces(part["text"]):
                yield event("response.output_text.delta", **at, delta=piece, logprobs=[])
            yield event("response.output_text.done", **at, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **at, part=part)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{response['status']}", response=response)


def _embeddings(body: _Json, model: str, seed: int) -> tuple[_Json, int]:
    given = body.get("input")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not all(isinstance(item, (str, list)) and item for item in inputs):
        raise _RefusedError("Missing or invalid parameter: 'input'.", "input")
    size = body.get("dimensions") or (3072 if "large" in model else 1536)
    data, tokens = [], 0
    for index, item in enumerate(inputs):
        tokens += math.ceil(len(item) / _TOKEN_CHARS) if isinstance(item, str) else len(item)
        rng = random.Random(f"{seed}:{item}")  # noqa: S311 - reproducible, not secret
        vector = array("f", (rng.uniform(-1, 1) for _ in range(size)))
        packed = body.get("encoding_format") == "base64"
        embedding = base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}, tokens


def _error(status: int, message: str | None, param: str | None = None, code: str | None = None) -> _Json:
    kind, usual_code, usual_message = _ERRORS.get(status, _SERVER_ERROR)
    if message is None:
        message, code = usual_message, usual_code
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _sse(data: _Json, event: str | None = None) -> bytes:
    return (f"event: {event}\n" if event else "").encode() + b"data: " + _compact(data).encode() + b"\n\n"


def _pieces(text: str) -> list[str]:
    size = _PIECE_TOKENS * _TOKEN_CHARS
    return [text[start : start + size] for start in range(0, len(text), size)]


def _compact(value: object, *, sort: bool = False) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=sort)


def _new_id(prefix: str) -> str:
    return prefix + os.urandom(12).hex()


# --- The server ---


class SimulatedEndpoint:
    """The endpoint, a context manager. All methods may be called from any thread.

    ::

        with SimulatedEndpoint() as endpoint:
            client = OpenAI(base_url=endpoint.base_url, api_key="any")

    Attributes:
        requests: Every request so far, in the order in which the answers began.
        errors: Defects of the simulator itself; the client got status 500.

    Args:
        ttl_s: How long a prefix stays cached after its last use, in seconds (models before GPT-5.6).
        clock: The clock that expiry goes by, in seconds.
        seed: The answers follow from it and from the number of the request.
        latency: Answer as a model would, only faster: 20 ms and 10 µs for every token not read from the
            cache, at most 0.5 s, then 2 ms a piece of the answer (4 tokens). False: at once.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        *,
        ttl_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        seed: int = 0,
        latency: bool = True,
        port: int = 0,
    ) -> None:
        self.requests: list[SimulatedRequest] = []
        self.errors: list[BaseException] = []
        self._cache = _PromptCache(ttl_s)
        self._clock, self._seed, self._latency, self._port = clock, seed, latency, port
        self._script: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._count = 0

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``.

        Raises:
            RuntimeError: The endpoint is not started.
        """
        if self._server is None:
            raise RuntimeError("the simulated endpoint is not started: use it in a with statement, or start()")
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def start(self) -> None:
        """Listen on loopback; connections are taken when it returns. Does nothing where it already listens.

        Raises:
            OSError: The port is taken.
        """
        if self._server is None:
            self._server = _Server(self, self._port)

    def close(self) -> None:
        """Stop listening, break open connections and end the threads; waits for them at most 2 s."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def script(self, *replies: Reply) -> None:
        """Give these to the next requests, one each, as they arrive; the SDK's retries are requests too."""
        with self._lock:
            self._script.extend(replies)

    def _serve(self, method: str, path: str, headers: Message, raw: bytes | None) -> _Outcome:
        known = SimulatedRequest(api="unknown", request_id=_new_id("req_"), arrived_at=self._clock())
        path = path.partition("?")[0]
        try:
            route = _PATH.fullmatch(path)
            if route is None or method != "POST":
                raise _RefusedError(f"Invalid URL ({method} {path})", status=404)
            known = replace(known, api=route["api"].replace("chat/completions", "chat"))
            owner = headers.get("authorization") or headers.get("api-key")
            if not owner:
                raise _RefusedError("You didn't provide an API key in an Authorization header.", status=401)
            body = _parse(raw)
            asked, tier = str(body.get("model") or route["deployment"] or ""), body.get("service_tier")
            if not asked:
                raise _RefusedError("you must provide a model parameter")
            known = replace(
                known,
                model=f"{asked}-{_SNAPSHOTS[asked]}" if asked in _SNAPSHOTS else asked,
                stream=body.get("stream") is True,
                include_usage=_dict(body, "stream_options").get("include_usage") is True,
                prompt_cache_key=body.get("prompt_cache_key"),
                service_tier="default" if tier in (None, "auto") else tier,
                retry=int(headers.get("x-stainless-retry-count") or 0),
            )
            return self._reply(known, body, owner)
        except _RefusedError as exc:
            return self._refuse(known, exc.status, _error(exc.status, str(exc), exc.param, exc.code))
        except Exception as exc:
            self.errors.append(exc)
            return self._refuse(known, 500, _error(500, f"defect of the simulator: {type(exc).__name__}"))

    def _refuse(self, known: SimulatedRequest, status: int, error: _Json) -> _Outcome:
        self._note(replace(known, status=status))
        return _Outcome(known.request_id, status, body=_compact(error).encode())

    def _reply(self, known: SimulatedRequest, body: _Json, owner: str) -> _Outcome:
        with self._lock:
            reply = self._script.popleft() if self._script else Reply()
            rng = random.Random(f"{self._seed}:{self._count}")  # noqa: S311 - reproducible, not secret
            self._count += 1
        if reply.status >= 400 or (reply.error is not None and reply.error_after is None):
            outcome = self._fail(known, reply)
        elif known.api == "embeddings":
            document, tokens = _embeddings(body, known.model, self._seed)
            self._note(replace(known, prompt_tokens=tokens))
            outcome = _Outcome(known.request_id, body=_compact(document).encode())
        else:
            outcome = self._generate(known, body, owner, rng, reply)
        outcome.wait_s += reply.delay_s
        outcome.cut_after = reply.cut_after
        return outcome

    def _fail(self, known: SimulatedRequest, reply: Reply) -> _Outcome:
        message, code = reply.error, None
        if reply.param is not None and message is None:
            message, code = f"Unknown parameter: '{reply.param}'.", "unknown_parameter"
        outcome = self._refuse(known, reply.status, _error(reply.status, message, reply.param, code))
        if (after_s := reply.retry_after_s) is not None:
            after_ms = f"{after_s * 1000:g}"
            outcome.headers = {"retry-after": str(math.ceil(after_s)), "retry-after-ms": after_ms}
        return outcome

    def _generate(self, known: SimulatedRequest, body: _Json, owner: str, rng: random.Random, reply: Reply) -> _Outcome:
        prompt = _read_prompt(known.api, body)
        _check(known, body, prompt)
        said = [_compose(body, known.model, prompt.last_role, rng, reply) for _ in range(body.get("n") or 1)]
        with self._lock:
            cached, written = self._cache.use(owner, known.model, body, prompt, known.arrived_at, reply.cold)
        known = replace(
            known,
            prompt_tokens=prompt.tokens,
            cached_tokens=cached,
            cache_write_tokens=written,
            completion_tokens=sum(answer.tokens for answer in said),
            reasoning_tokens=sum(answer.reasoning_tokens for answer in said),
            tool_calls=sum(len(answer.calls) for answer in said),
            segment_tokens=tuple(prompt.segments),
        )
        self._note(known)
        outcome = _render(known, body, said, _usage(known) if reply.usage else None)
        if outcome.events is not None and reply.error_after is not None:
            error = _error(500, reply.error)
            failed = _sse({"type": "error", **error}, "error") if known.api == "responses" else _sse(error)
            outcome.events = [*outcome.events[: reply.error_after], failed]
        if self._latency:
            outcome.gap_s = 0.002
            outcome.wait_s = min(0.02 + 1e-5 * (prompt.tokens - cached), 0.5)
            if outcome.events is None:
                outcome.wait_s += outcome.gap_s * known.completion_tokens / _PIECE_TOKENS
        return outcome

    def _note(self, request: SimulatedRequest) -> None:
        with self._lock:
            self.requests.append(request)


def _parse(raw: bytes | None) -> _Json:
    if raw is None:
        raise _RefusedError("The request needs a Content-Length header.", status=411)
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _RefusedError("We could not parse the JSON body of your request.")
    for key in ("n", "max_tokens", "max_completion_tokens", "max_output_tokens", "dimensions"):
        if body.get(key) is not None and not (isinstance(body[key], int) and body[key] > 0):
            raise _RefusedError(f"Invalid '{key}': expected a whole number above 0.", key, "invalid_value")
    return body


def _check(known: SimulatedRequest, body: _Json, prompt: _Prompt) -> None:
    if body.get("stream_options") is not None and not known.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise _RefusedError(message, "stream_options")
    if (previous := body.get("previous_response_id")) is not None:
        message = f"Previous response with id '{previous}' not found."
        raise _RefusedError(message, "previous_response_id", "previous_response_not_found")
    if (prompt.marks or body.get("prompt_cache_options")) and not _has_breakpoints(known.model):
        message = "Cache breakpoints are not supported with this model."
        raise _RefusedError(message, "prompt_cache_options", "unsupported_parameter")


class _Server(ThreadingHTTPServer):
    """One thread a connection, each of them known, so that :meth:`stop` leaves none behind."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, endpoint: SimulatedEndpoint, port: int) -> None:
        self.endpoint = endpoint
        self.stopping = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self._acceptor = threading.Thread(target=self._accept, name=_THREAD_NAME, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        self.serve_forever(poll_interval=0.02)  # so long stop() may wait for it

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._open_lock:
            still_open = dict(self._open)
        for connection in still_open:
            with suppress(OSError):  # its thread may have closed it meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 2.0
        for thread in (self._acceptor, *still_open.values()):
            thread.join(max(0.0, deadline - time.monotonic()))

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the DNS for this machine's name
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        serve, arguments = self.process_request_thread, (request, client_address)
        thread = threading.Thread(target=serve, args=arguments, name=_THREAD_NAME, daemon=True)
        with self._open_lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.endpoint.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = _THREAD_NAME, ""
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        length = self.headers.get("content-length", "")
        raw = self.rfile.read(int(length)) if length.isdigit() else None
        if raw is None and self.command == "POST":
            self.close_connection = True  # a body of unknown size is left unread
        try:
            self._send(self.server.endpoint._serve(self.command, self.path, self.headers, raw))
        except ConnectionError:
            self.close_connection = True

    do_GET = do_POST = _handle  # noqa: N815 - the names that http.server looks for

    def _send(self, outcome: _Outcome) -> None:
        self._wait(outcome.wait_s)
        self.send_response(outcome.status)
        for name, value in outcome.headers.items():
            self.send_header(name, value)
        self.send_header("x-request-id", outcome.request_id)
        self.send_header("openai-processing-ms", str(round(outcome.wait_s * 1000)))
        cut = outcome.cut_after
        if outcome.events is None:
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(outcome.body)))
            self.end_headers()
            self.wfile.write(outcome.body if cut is None else outcome.body[: len(outcome.body) // 2])
        else:
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for number, event in enumerate(outcome.events[:cut]):
                self._wait(outcome.gap_s if number else 0.0)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        if cut is not None:
            self.close_connection = True

    def _wait(self, seconds: float) -> None:
        if seconds > 0 and self.server.stopping.wait(seconds):
            raise ConnectionAbortedError("the endpoint closes")
