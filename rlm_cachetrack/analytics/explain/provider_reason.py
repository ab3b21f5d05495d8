"""Read the provider's own reason for a cache miss, from the column ``cache_diagnostics``. Pure.

Sources, read 2026-12-01: https://developers.openai.com/api/docs/guides/prompt-caching/diagnostics and the types
``PromptCacheDiagnostics*`` of the openai SDK 3.57; https://platform.claude.com/docs/en/build-with-claude/cache-diagnostics
for ``diagnostics.cache_miss_reason`` of Claude.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .verdicts import Verdict


class ProviderReason(NamedTuple):
    """A provider's reason for a miss.

    Attributes:
        name: As the provider returned it.
        verdict: The verdict that it means.
        setting: The setting that changed; None if the reason is another.
        words: The reason in a phrase.
        missed_tokens: The tokens that were affected according to the provider.
    """

    name: str
    verdict: Verdict
    setting: str | None
    words: str
    missed_tokens: int


TOOLS_CHANGED = "tools_changed"

_REASONS: dict[str, tuple[Verdict, str | None, str]] = {
    "model_changed": ("model_changed", None, "the model changed"),
    "prompt_cache_key_changed": ("key_changed", None, "prompt_cache_key changed"),
    TOOLS_CHANGED: ("prefix_changed", None, "the tools changed"),
    "text_format_changed": ("settings_changed", "text_format", "the response format changed"),
    "reasoning_effort_changed": ("settings_changed", "reasoning_effort", "reasoning effort changed"),
    "verbosity_changed": ("settings_changed", "verbosity", "verbosity changed"),
    "service_tier_changed": ("settings_changed", "service_tier", "the service tier changed"),
    "context_compacted": ("context_compacted", None, "the context was compacted"),
    "input_changed": ("prefix_changed", None, "the input changed"),
    "system_changed": ("prefix_changed", None, "the system prompt changed"),
    "messages_changed": ("prefix_changed", None, "the messages changed"),
}


def provider_reason(diagnostics: Any) -> ProviderReason | None:
    """Return the reason that a provider gave; None if it gave none, or one that is not known."""
    if not isinstance(diagnostics, Mapping):
        return None
    if isinstance(of_claude := diagnostics.get("cache_miss_reason"), Mapping):
        name, missed = of_claude.get("type"), of_claude.get("cache_missed_input_tokens")
    elif diagnostics.get("type") == "cache_miss":
        name, missed = diagnostics.get("reason"), diagnostics.get("cache_missed_tokens")
    else:
        return None
    known = _REASONS.get(name) if isinstance(name, str) else None
    if known is None:
        return None
    return ProviderReason(str(name), *known, max(0, missed) if isinstance(missed, int) else 0)


def says_hit(diagnostics: Any) -> bool:
    """Return True if the provider found that the prefix was reused."""
    return isinstance(diagnostics, Mapping) and diagnostics.get("type") == "cache_hit"
