"""All scenarios: each injects one kind of fault, or none, with several sizes, providers and both APIs."""

from . import cache_scenarios, claude_scenarios, concurrent_scenarios, prompt_scenarios
from .registry import Scenario, scenarios

__all__ = [
    "Scenario",
    "cache_scenarios",
    "claude_scenarios",
    "concurrent_scenarios",
    "prompt_scenarios",
    "scenarios",
]
