"""Log which calls of a loaded framework are not recorded, and the line of code that changes it; once per framework.

The writer thread reads ``sys.modules`` each time it wakes up, and the flush at the end of the process reads it once
more. A hook in the import system could delay or break an import of the program. A framework counts as loaded two
seconds after the end of its import, because ``track()`` usually follows the import.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import NamedTuple

from rlm_cachetrack.pipeline import runtimes

from . import clients

logger = logging.getLogger("rlm_cachetrack")


class _Hint(NamedTuple):
    """The hint for one framework.

    Attributes:
        package: The framework's package.
        integration: The integration that records the calls.
        message: Which calls are not recorded, and the line of code that changes it.
        modules: The modules that send such calls; one of them must be loaded in addition to the package.
        covers: A package below, which gets no separate hint, because the same line records its calls.
    """

    package: str
    integration: str
    message: str
    modules: tuple[str, ...]
    covers: str = ""


_CREWAI_PROVIDERS = ("anthropic", "azure", "bedrock", "gemini", "snowflake")  # it calls OpenAI through the SDK

_HINTS = (
    _Hint(
        "dspy",
        "dspy",
        "DSPy sends calls with its own engine, and these are not recorded. To record them: "
        "from rlm_cachetrack.integrations.dspy import track; track()",
        ("dspy.clients.engines.lm15_engine",),
        covers="litellm",
    ),
    _Hint(
        "litellm",
        "litellm",
        "LiteLLM sends the calls of most providers (Anthropic, Gemini, DeepSeek, ...) and Responses without the OpenAI "
        "SDK, and these are not recorded. To record them: "
        "from rlm_cachetrack.integrations.litellm import track; track()",
        ("litellm.main",),
    ),
    _Hint(
        "crewai",
        "",
        "CrewAI sends calls to Anthropic, Gemini, Bedrock, Azure and Snowflake without the OpenAI SDK, and these are "
        "not recorded. To record them: from rlm_cachetrack.integrations.litellm import track; track(); "
        "crewai.LLM(..., is_litellm=True)",
        tuple(f"crewai.llms.providers.{name}.completion" for name in _CREWAI_PROVIDERS),
    ),
    _Hint(
        "smolagents",
        "",
        "calls of the smolagents classes InferenceClientModel and AmazonBedrockModel are not recorded. To record them: "
        "from rlm_cachetrack.integrations.litellm import track; track(); smolagents.LiteLLMModel(...)",
        ("huggingface_hub.inference._client", "boto3"),
    ),
    _Hint(
        "agents",
        "openai_agents",
        "calls of openai-agents over its own websocket transport and in its Realtime sessions are not recorded, nor "
        "are the agent and the turn of its other calls. To record them: "
        "from rlm_cachetrack.integrations.openai_agents import track; track()",
        ("agents.models.openai_responses",),
    ),
    _Hint(
        "rlm",
        "rlm",
        "calls of an RLM are recorded without its runs, iterations and depth. To record these: "
        "from rlm_cachetrack.integrations.rlm import track; rlm = track(RLM(...))",
        ("rlm.core.rlm",),
    ),
)

_GRACE_S = 2.0

active_integrations: set[str] = set()
"""The integrations that record at present, by module name; they get no hint."""

_announced: set[str] = set()
_first_seen: dict[str, float] = {}  # time by package, on the monotonic clock


def look_for_frameworks() -> None:
    """Log the hints that are due. Called when the writer wakes up and before a flush. Does not block."""
    if clients.options_for_all is None:
        return
    now = time.monotonic()
    for hint in _HINTS:
        if hint.package in _announced or hint.integration in active_integrations or not _is_loaded(hint):
            continue
        seen = _first_seen.setdefault(hint.package, now)
        if now - seen >= _GRACE_S or runtimes.is_ending:
            _announced.update((hint.package, hint.covers))
            if _first_seen.pop(hint.package, None) is not None:  # no other thread logs it at this moment
                logger.warning("%s", hint.message)


def _is_loaded(hint: _Hint) -> bool:
    package = sys.modules.get(hint.package)
    if package is None or not any(module in sys.modules for module in hint.modules):
        return False
    # The import system sets `_initializing` while it runs the code of a module. `object` reads it, because reading an
    # attribute of a module of `importlib.util.LazyLoader` would import that module here.
    spec = object.__getattribute__(package, "__dict__").get("__spec__")
    return not getattr(spec, "_initializing", False)


runtimes.before_flush.append(look_for_frameworks)
runtimes.on_wake.append(look_for_frameworks)
