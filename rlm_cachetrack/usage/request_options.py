"""Read the values of a request, and of its response, that affect the price or the cache. Pure; no content is kept.

They are stored in the column ``request_options``. A value in the response replaces that of the request.

Source: https://developers.openai.com/api/docs/guides/prompt-caching and the types ``PromptCacheOptions`` and
``ResponseCreateParams`` of the openai SDK 3.57 (``prompt_cache_retention``, ``prompt_cache_options``,
``context_management``), read 2026-12-01; ``cache_control`` as https://openrouter.ai/docs/features/prompt-caching
describes it, read 2026-12-01; ``thinking``, ``output_config.effort`` and ``tool_choice`` affect Claude's
cache: https://platform.claude.com/docs/en/build-with-claude/prompt-caching, read 2026-12-01, and OpenRouter's
``reasoning``: https://openrouter.ai/docs/use-cases/reasoning-tokens, read 2026-12-01.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

UNKNOWN_WINDOW = "unknown"
"""The ``completion_window`` of a background response that another process requested; no response contains it."""

STANDARD_SPEED = "standard"
"""The ``speed`` that needs no extra payment."""

PRICE_AND_CACHE_FIELDS = frozenset(
    (
        *("service_tier", "background_options", "web_search_options", "prompt_cache_retention", "prompt_cache_options"),
        *("context_management", "cache_control", "speed", "inference_geo"),
    )
)
"""The fields of a request that affect its price or its cache, whatever the prompt is."""

_BLOCK_FIELDS = ("messages", "input", "tools")
_OPTIONS = PRICE_AND_CACHE_FIELDS.union(
    ("reasoning", "reasoning_effort", "text", "verbosity", "response_format", "parallel_tool_calls"),
    ("tool_choice", "thinking", "output_config"),
)
NAMED_TOOL = "tool "
"""The beginning of the ``tool_choice`` of a request that names a tool; a hash follows."""
_DEFAULT_TIERS = (None, "auto", "default", "standard")
_LONGEST_TEXT = 40


def read_request_options(
    body: Mapping[str, Any], hash_of: Callable[[Any], str] | None = None, *, marked: bool = False
) -> dict[str, Any]:
    """Read the options of a request.

    Args:
        body: The request body, which is not changed.
        hash_of: Returns the hash of a response format; None leaves ``text_format`` out.
        marked: Whether a part of the prompt has a ``cache_control`` field, whose lifetime is then looked for.

    Returns:
        Only the options in the request: ``reasoning_effort``, ``verbosity``, ``service_tier``, ``text_format`` (a
        hash), ``parallel_tool_calls``, ``tool_choice``, ``thinking``, ``cache_retention``, ``cache_ttl``,
        ``cache_mode``, ``prewarm``, ``completion_window``, ``context_management``.
    """
    found: dict[str, Any] = {}
    if not marked and _OPTIONS.isdisjoint(body):  # the usual request
        return found
    reasoning, text = _mapping(body.get("reasoning")), _mapping(body.get("text"))
    output = _mapping(body.get("output_config"))
    effort = body.get("reasoning_effort") or reasoning.get("effort") or output.get("effort")
    _add_text(found, "reasoning_effort", effort)
    _add_text(found, "verbosity", body.get("verbosity") or text.get("verbosity"))
    if (tier := body.get("service_tier")) not in _DEFAULT_TIERS:
        _add_text(found, "service_tier", tier)
    form = body.get("response_format") or text.get("format")
    if form is not None and hash_of is not None and _mapping(form) != {"type": "text"}:
        found["text_format"] = hash_of(form)
    if isinstance(parallel := body.get("parallel_tool_calls"), bool):
        found["parallel_tool_calls"] = parallel
    _add_text(found, "tool_choice", _tool_choice(body.get("tool_choice"), hash_of))
    _add_text(found, "thinking", _thinking(_mapping(body.get("thinking")), reasoning))
    found.update(read_cache_options(body))
    if _mapping(body.get("prompt_cache_options")).get("prewarm") is True:
        found["prewarm"] = True
    if body.get("background"):  # other requests have no window
        _add_text(found, "completion_window", _mapping(body.get("background_options")).get("completion_window"))
    if body.get("context_management"):
        found["context_management"] = True
    if isinstance(control := body.get("cache_control"), Mapping):  # the last block is a breakpoint
        found["cache_mode"] = "automatic"
        _add_text(found, "cache_ttl", control.get("ttl"))
    elif marked and (ttl := _longest_ttl(body)) is not None:
        found["cache_ttl"] = ttl
    return found


def read_cache_options(source: Mapping[str, Any]) -> dict[str, Any]:
    """Read the cache options that a request asks for, or that its response contains.

    Returns:
        ``cache_retention``, ``cache_ttl`` and ``cache_mode``, only those that are stated.
    """
    found: dict[str, Any] = {}
    _add_text(found, "cache_retention", source.get("prompt_cache_retention"))
    if (given := source.get("prompt_cache_options")) is not None:
        options = _mapping(given)
        _add_text(found, "cache_ttl", options.get("ttl"))
        _add_text(found, "cache_mode", options.get("mode"))
    return found


def _tool_choice(given: Any, hash_of: Callable[[Any], str] | None) -> str | None:
    """Return the tool choice; None for the default. A tool is not named: a hash stands for it."""
    kind = _mapping(given).get("type") if not isinstance(given, str) else given
    if kind in ("none", "required", "any"):
        return str(kind)
    if given is None or kind == "auto" or hash_of is None:
        return None
    return NAMED_TOOL + hash_of(given)


def _thinking(given: Mapping[str, Any], reasoning: Mapping[str, Any]) -> str | None:
    """Return the mode of Claude's thinking and its budget, from Anthropic's field or from OpenRouter's."""
    mode, budget = given.get("type"), given.get("budget_tokens")
    if not given and "max_tokens" in reasoning:
        mode, budget = "enabled", reasoning["max_tokens"]
    if not given and reasoning.get("enabled") is False:
        mode = "disabled"
    return f"{mode} {budget}" if isinstance(budget, int) and mode else mode


def _add_text(found: dict[str, Any], name: str, value: Any) -> None:
    """Add a value if it is a short text; a longer one is content, not an option."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT:
        found[name] = str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping unchanged and an object of the SDK as one; an empty mapping for other values."""
    if isinstance(value, Mapping):
        return value
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    return {} if dump is None else dump(exclude_unset=True, mode="json")


def _longest_ttl(body: Mapping[str, Any]) -> str | None:
    """Return ``1h`` if a part of the prompt asks for it, else another stated lifetime, else None."""
    found = None
    for field in _BLOCK_FIELDS:
        for block in map(_mapping, _list(body.get(field))):
            for part in (block, *map(_mapping, _list(block.get("content")))):
                ttl = _mapping(part.get("cache_control")).get("ttl")
                if ttl == "1h":
                    return "1h"
                found = ttl if isinstance(ttl, str) and len(ttl) <= _LONGEST_TEXT else found
    return found


def _list(value: Any) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, (list, tuple)) else ()
