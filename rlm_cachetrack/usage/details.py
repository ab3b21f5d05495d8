"""Parts of the counts of a usage that have a separate price or meaning: audio, images, retention of cache writes.

The spellings do not depend on the dialect, because gateways pass on the details of the server behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .dialects import Path, get_path, has_path
from .request_options import STANDARD_SPEED

# Chat, Responses and Realtime. Source: https://github.com/openai/openai-python src/openai/types/completion_usage.py,
# responses/response_usage.py, realtime/realtime_response_usage.py; 2026-12-01.
_INPUT = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_SECONDS = "seconds"
_DEFAULT_WRITES = ("cache_write_5m_tokens", "cache_write_30m_tokens")
_LONG_WRITES = ("cache_write_1h_tokens", "cache_write_12h_tokens")


def _under(parents: tuple[str, ...], *keys: str) -> tuple[Path, ...]:
    return tuple((parent, *keys) for parent in parents)


DETAILS: Mapping[str, tuple[Path, ...]] = {
    **{f"{kind}_prompt_tokens": _under(_INPUT, f"{kind}_tokens") for kind in ("audio", "image", "video")},
    **{
        f"{kind}_cached_tokens": _under(_INPUT, "cached_tokens_details", f"{kind}_tokens")
        for kind in ("audio", "image", "video")
    },
    **{f"{kind}_completion_tokens": _under(_OUTPUT, f"{kind}_tokens") for kind in ("audio", "image", "video")},
    "accepted_prediction_tokens": _under(_OUTPUT, "accepted_prediction_tokens"),
    "rejected_prediction_tokens": _under(_OUTPUT, "rejected_prediction_tokens"),
    "cache_write_30m_tokens": _under(_INPUT, "cache_write_tokens_details", "ttl_30m_tokens"),
    "cache_write_12h_tokens": _under(_INPUT, "cache_write_tokens_details", "ttl_12h_tokens"),
    # Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (1-hour cache duration); the second
    # spelling: https://docs.litellm.ai/docs/completion/prompt_caching; 2026-12-01.
    "cache_write_5m_tokens": (
        ("cache_creation", "ephemeral_5m_input_tokens"),
        *_under(_INPUT, "cache_creation_token_details", "ephemeral_5m_input_tokens"),
    ),
    "cache_write_1h_tokens": (
        ("cache_creation", "ephemeral_1h_input_tokens"),
        *_under(_INPUT, "cache_creation_token_details", "ephemeral_1h_input_tokens"),
    ),
    # Source: https://docs.perplexity.ai/guides/pricing; 2026-12-01.
    "citation_tokens": (("citation_tokens",),),
    "search_queries": (("num_search_queries",),),
    # Audio billed by its length: OpenAI's transcriptions, audio input of Mistral's models, xAI's voice models. Sources:
    # https://github.com/openai/openai-python
    # src/openai/types/realtime/conversation_item_input_audio_transcription_completed_event.py,
    # https://docs.mistral.ai/studio/audio/overview (usage), the usage of xAI's Realtime API in genai-prices 0.2.3;
    # 2026-12-01.
    _SECONDS: ((_SECONDS,), ("prompt_audio_seconds",), ("billable_audio_seconds",)),
    "text_messages": (("input_text_messages",),),
}
"""The paths of each part, by the name that it has in the column ``token_details``."""

TOOLS: Mapping[str, tuple[Path, ...]] = {
    # Claude: https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool (usage); 2026-12-01.
    # Perplexity's Responses API: the usage in genai-prices 0.2.3; 2026-12-01.
    "web_search": (("server_tool_use", "web_search_requests"), ("tool_calls_details", "search_web", "invocation")),
    # Claude: https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool; 2026-12-02.
    "code_execution": (("server_tool_use", "code_execution_requests"),),
    # xAI: https://docs.x.ai/developers/cost-tracking; 2026-12-02.
    "server_side_tools": (("num_server_side_tools_used",),),
}
"""The paths of tool uses in the usage, by the name of the tool."""

OPTIONS: Mapping[str, tuple[Path, ...]] = {"region": (("inference_geo",),), "speed": (("speed",),)}
"""The paths of region and speed in a usage, by their names in the column ``request_options``.

Source: https://platform.claude.com/docs/en/build-with-claude/data-residency and …/fast-mode, 2026-12-01.
"""
_USUAL = frozenset(("global", STANDARD_SPEED))
_NOT_STATED = "not_available"
_LONGEST_OPTION = 20

# Google's lists of counts by modality; documents cost what images do. Source:
# https://ai.google.dev/api/generate-content#UsageMetadata; 2026-12-01.
_MODALITY_LISTS = {
    "prompt": ("promptTokensDetails", "prompt_tokens_details"),
    "cached": ("cacheTokensDetails", "cache_tokens_details"),
    "completion": ("candidatesTokensDetails", "candidates_tokens_details"),
}


MOST = 2**31 - 1
"""The largest count that is believed; a larger one would only make the cost, and every sum with it, absurd."""


def is_count(value: object) -> bool:
    """Return True if a value is a whole number from 1 to :data:`MOST`."""
    return type(value) is int and 0 < value <= MOST


def find_paths(raw: Mapping[str, Any], names: Mapping[str, tuple[Path, ...]]) -> tuple[tuple[str, Path], ...]:
    """Return the paths that a usage may have, judging by the first two levels of its keys."""
    found = [(name, path) for name, paths in names.items() for path in paths if has_path(raw, path[:2])]
    if names is DETAILS:
        found += [
            (part, (key,)) for part, keys in _MODALITY_LISTS.items() for key in keys if isinstance(raw.get(key), list)
        ]
    return tuple(found)


def read_details(raw: Mapping[str, Any], paths: tuple[tuple[str, Path], ...]) -> dict[str, Any] | None:
    """Return the counts, or seconds, at ``paths`` that are not 0; None if there are none."""
    found: dict[str, Any] | None = None
    for name, path in paths:
        value = get_path(raw, path)
        if not value:
            continue
        if found is None:
            found = {}
        if is_count(value) or (name == _SECONDS and type(value) is float and 0 < value <= MOST):
            found.setdefault(name, value)
        elif isinstance(value, list):
            _read_modalities(name, value, found)
    return found or None


def _read_modalities(part: str, listed: list[Any], found: dict[str, int]) -> None:
    for entry in listed:
        if not isinstance(entry, Mapping):
            continue
        kind, count = str(entry.get("modality")).lower(), entry.get("tokenCount", entry.get("token_count"))
        kind = "image" if kind == "document" else kind
        if kind in ("audio", "image", "video") and is_count(count):
            name = f"{kind}_{part}_tokens"
            found[name] = found.get(name, 0) + count


def read_options(raw: Mapping[str, Any], paths: tuple[tuple[str, Path], ...]) -> dict[str, str | None] | None:
    """Return region and speed of a call as in its usage, None for the usual one; None if it has neither."""
    found: dict[str, str | None] = {}
    for name, path in paths:
        value = get_path(raw, path)
        if type(value) is str and 0 < len(value) <= _LONGEST_OPTION and value != _NOT_STATED:
            found[name] = None if value in _USUAL else value
    return found or None


def split_writes(write: int | None, details: dict[str, int]) -> int | None:
    """Return the written tokens, and remove those with the default retention from ``details``.

    If a server reports only the tokens of each retention, their sum is returned.
    """
    by_retention = sum([details.pop(name, 0) for name in _DEFAULT_WRITES])
    by_retention += sum([details.get(name, 0) for name in _LONG_WRITES])
    return write or min(by_retention, MOST) or write
