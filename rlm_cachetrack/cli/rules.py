"""``rules``: the providers' cache rules that ``explain`` uses, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from rlm_cachetrack.formatting import number

from .arguments import AsJson
from .output import print_data, print_line, stdout

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import CacheRule


def rules(as_json: AsJson = False) -> None:
    """Show the providers' cache rules, in the order in which they are tried, with their sources.

    Rules in the YAML file that RLM_CACHETRACK_CACHE_RULES names come first.
    """
    from rlm_cachetrack.analytics.explain import cache_rules

    found = [_plain(rule) for rule in cache_rules()]
    if print_data(found, as_json):
        return
    console = stdout()
    for rule in found:
        console.print(Text(rule["name"], style="bold"))
        print_line(console, "", _words(rule), f"{rule['source']}, read {rule['read']} ({rule['origin']})", indent=2)


_MATCHING = {
    "prefix": "reads any common prefix",
    "units": "reads whole earlier prompts, and beginnings that two earlier prompts had",
    "breakpoints": "reads up to a breakpoint",
}


def _plain(rule: CacheRule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "providers": None if rule.providers is None else sorted(rule.providers),
        "models": None if rule.models is None else rule.models.pattern,
        "matching": rule.matching,
        "minimum_tokens": rule.minimum_tokens,
        "minimum_tokens_max": rule.minimum_tokens_max,
        "step_tokens": rule.step_tokens,
        "step_tokens_max": rule.step_tokens_max,
        "lifetimes": {name: asdict(lifetime) for name, lifetime in rule.lifetimes.items()},
        "implicit_breakpoint": rule.implicit_breakpoint,
        "lookback_blocks": rule.lookback_blocks,
        "settings": list(rule.settings),
        "system_settings": list(rule.system_settings),
        "message_settings": list(rule.message_settings),
        "needs_key": rule.needs_key,
        "key_routes": rule.key_routes,
        "prewarm": rule.prewarm,
        "published": rule.published,
        "source": rule.source,
        "read": rule.read.isoformat(),
        "origin": rule.origin,
    }


def _words(rule: Mapping[str, Any]) -> str:
    """Describe the rule: the readable prefixes, the minimum number of tokens, and the lifetime."""
    if not rule["lifetimes"]:
        return "prompts are not cached"
    low, high = number(rule["minimum_tokens"]), number(rule["minimum_tokens_max"])
    parts = [
        _MATCHING[rule["matching"]],
        f"minimum {low if low == high else f'{low} to {high}'} tokens",
        f"steps of {rule['step_tokens']}" if rule["step_tokens"] > 1 else "",
        f"steps of up to {high_step}" if (high_step := rule["step_tokens_max"]) > rule["step_tokens"] else "",
        f"kept for {_lifetimes(rule['lifetimes'])}",
        _settings_words(rule),
        "" if rule["published"] else "estimates: the provider does not publish its rules",
    ]
    return "; ".join(part for part in parts if part)


def _settings_words(rule: Mapping[str, Any]) -> str:
    levels = {"settings": "everything", "system_settings": "system prompt and messages", "message_settings": "messages"}
    lost = [f"{', '.join(rule[name])} ({part})" for name, part in levels.items() if rule[name]]
    return f"lost by a change of {', '.join(lost)}" if lost else ""


def _lifetimes(lifetimes: Mapping[str, Mapping[str, float]]) -> str:
    usual = _lifetime(lifetimes["default"])
    others = [f"{name}: {text}" for name, each in lifetimes.items() if (text := _lifetime(each)) != usual]
    return f"{usual} ({', '.join(others)})" if others else usual


def _lifetime(lifetime: Mapping[str, float]) -> str:
    low, high = _span(lifetime["guaranteed_s"]), _span(lifetime["longest_s"])
    return low if low == high else f"{low} to {high}"


def _span(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"
