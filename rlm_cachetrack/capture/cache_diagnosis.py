"""Request the provider's cache diagnosis: name the previous response of the same prefix in a Responses request.

Source: https://developers.openai.com/api/docs/guides/prompt-caching/diagnostics, read 2026-12-01, and the type
``PromptCacheOptions`` of the openai SDK 3.57. ``prompt_cache_options.comparison_response_id`` names a completed
response of the same organization whose prefix the request is expected to reuse. GPT-5.6 and later models support it. It
changes neither the cache nor the conversation.

Responses are remembered by run and host, with hashes of the first parts of their prompts. All of this runs on the
calling thread.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Mapping
from itertools import takewhile
from typing import Any, NamedTuple

from . import context
from .fields import get_field

FIELD = "prompt_cache_options"
COMPARISON = "comparison_response_id"

_GPT = re.compile(r"(?:^|[/:])gpt-(\d+)(?:\.(\d+))?(?![\d.])")
_FIRST_VERSION = (5, 6)
_MAX_RUNS = 256
_MAX_RESPONSES = 32  # remembered per run
_MAX_PARTS = 16
_MAX_DEPTH = 8

_Outline = tuple[int, ...]
_RunKey = tuple[Any, Any, str]

# Each change of a dictionary or deque is atomic under the GIL, so no lock of our own is needed.
_runs: OrderedDict[_RunKey, deque[tuple[_Outline, str]]] = OrderedDict()


class PromptStart(NamedTuple):
    """The start of a prompt in its run.

    Attributes:
        run: The query, run and host of the call.
        outline: Hashes of the first parts of the prompt.
    """

    run: _RunKey
    outline: _Outline

    def previous(self) -> str | None:
        """Return the id of the response whose prompt shares the most leading parts; of equals, the newest."""
        best, most = None, 0
        for outline, response_id in list(_runs.get(self.run, ())):
            pairs = zip(outline, self.outline, strict=False)
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if shared and shared >= most:
                best, most = response_id, shared
        return best

    def remember(self, response_id: str) -> None:
        """Remember the completed response to this prompt."""
        _runs.setdefault(self.run, deque(maxlen=_MAX_RESPONSES)).append((self.outline, response_id))
        while len(_runs) > _MAX_RUNS:
            _runs.popitem(last=False)


def supports_diagnosis(model: Any) -> bool:
    """Return True for GPT-5.6 and later models."""
    found = _GPT.search(model) if isinstance(model, str) else None
    return found is not None and (int(found[1]), int(found[2] or 0)) >= _FIRST_VERSION


def prompt_start(body: Mapping[str, Any], host: str) -> PromptStart | None:
    """Return the start of the prompt of a Responses request; None for an empty prompt."""
    parts: list[Any] = [part for name in ("conversation", "prompt") if (part := body.get(name)) is not None]
    parts += [body["instructions"]] if body.get("instructions") else []
    given = body.get("input")
    if isinstance(given, str):
        parts.append({"role": "user", "content": given})
    elif isinstance(given, (list, tuple)):
        parts += given[:_MAX_PARTS]
    if not parts:
        return None
    run = context.current()
    outline = tuple([_digest(part) for part in parts[:_MAX_PARTS]])
    return PromptStart((run.get("query_id"), str(run.get("run_id")), host), outline)


def with_comparison(body: Mapping[str, Any], start: PromptStart | None) -> dict[str, Any] | None:
    """Return the request body with the response to compare with; None if there is none, or if the caller named one.

    A continued response (``previous_response_id``) is compared with itself. Other cache options of the caller stay.
    """
    given = body.get(FIELD)
    given = {} if given is None else given
    if not isinstance(given, Mapping) or COMPARISON in given or given.get("prewarm"):
        return None
    response_id = body.get("previous_response_id") or (None if start is None else start.previous())
    return {**body, FIELD: {**given, COMPARISON: response_id}} if isinstance(response_id, str) else None


def forget_responses() -> None:
    """Forget all responses."""
    _runs.clear()


def _digest(value: Any, depth: int = 0) -> int:
    """Return a hash of JSON content, which is valid in this process."""
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            # A message may be sent with or without its type.
            items = [(str(k), _digest(v, depth + 1)) for k, v in value.items() if (k, v) != ("type", "message")]
            return hash(tuple(sorted(items)))
        if isinstance(value, (list, tuple)):
            return hash(tuple([_digest(item, depth + 1) for item in value]))
        if (dump := get_field(value, "model_dump")) is not None and callable(dump):
            return _digest(dump(exclude_unset=True), depth)
    return hash(value) if isinstance(value, (str, int, float, bool, type(None))) else 0
