"""Describe the cause of a cache miss in a sentence. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm_cachetrack.usage import NAMED_TOOL

from .chains import IMAGES
from .divergence import segment_words

if TYPE_CHECKING:
    from .chains import Call
    from .verdicts import Cause

SETTING_WORDS = {
    "reasoning_effort": "reasoning effort",
    "verbosity": "verbosity",
    "service_tier": "the service tier",
    "parallel_tool_calls": "parallel_tool_calls",
    "text_format": "the response format",
    "tool_choice": "tool_choice",
    "thinking": "thinking",
    "speed": "speed",
    "images": "images",
}


def cause_words(call: Call, cause: Cause, gap: float) -> str:
    """Return the cause in a sentence."""
    if cause.setting is not None:
        return _setting_words(call, cause)
    if cause.divergence is not None:
        part, change = segment_words(cause.divergence.part), cause.divergence.change
        verb = "were" if part == "tools" else "was"
        the = part if part.startswith("message") else f"the {part}"
        return f"{the} {verb} {change}, so nothing after the change could be read from the cache"
    earlier = f"a call {span(gap)} earlier has the same beginning"
    match cause.verdict:
        case "expired":
            return f"{span(gap)} passed since the last call with the same beginning; {_kept(call)}"
        case "model_changed":
            return f"the same beginning was sent to {cause.compared.row['model']}; each model has its own cache"
        case "key_changed":
            return "the same beginning was sent with another prompt_cache_key"
        case "concurrent":
            return "the earlier call was still in progress, so there was nothing to read yet"
        case "context_compacted" if not cause.is_certain:
            return "context_management is set, so the provider may have compacted the context before this call"
        case "context_compacted":
            return "the provider compacted the context, so the prompt no longer begins like the earlier one"
        case "partial_hit":
            return f"{earlier}, but only a part of it was read"
        case _:
            unsure = "" if cause.is_certain else f"; {_kept(call)}"
            return f"{earlier}, but nothing was read{unsure}"


def _kept(call: Call) -> str:
    lifetime = call.lifetime
    if lifetime.guaranteed_s == lifetime.longest_s:
        return f"entries are kept for {span(lifetime.longest_s)}"
    if not lifetime.guaranteed_s:
        return "this provider does not publish for how long entries are kept"
    return f"entries are kept for at least {span(lifetime.guaranteed_s)} and at most {span(lifetime.longest_s)}"


def _setting_words(call: Call, cause: Cause) -> str:
    name = cause.setting or ""
    words = SETTING_WORDS.get(name, name)
    if cause.divergence is not None:
        return f"{words} changed, so nothing after the change could be read from the cache"
    if name == IMAGES:
        change = "contains images and the earlier one did not" if call.setting(name) else "no longer contains images"
        return f"the prompt {change}, so its messages could not be read from the cache"
    before, now = cause.compared.setting(name), call.setting(name)
    return f"{words} changed from {_value(before)} to {_value(now)}"


def _value(value: object) -> str:
    if value is None:
        return "the default"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "another tool" if text.startswith(NAMED_TOOL) else text


def span(seconds: float) -> str:
    """Return a time span in words: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
