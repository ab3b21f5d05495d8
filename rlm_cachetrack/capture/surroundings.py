"""Find the function that makes a call, and the current OpenTelemetry span."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import FrameType
from typing import Any

OPENTELEMETRY = "opentelemetry.trace"
"""The module that holds the current span, if the program imported it."""

# The first part of the names of modules that pass a call on: the SDK, its HTTP libraries, and frameworks on top of it.
_FRAMEWORKS = frozenset(
    {
        "agents",
        "anyio",
        "asyncio",
        "backoff",
        "concurrent",
        "contextlib",
        "crewai",
        "dspy",
        "functools",
        "haystack",
        "httpx",
        "httpx2",
        "instructor",
        "langchain",
        "langchain_core",
        "langchain_openai",
        "langgraph",
        "litellm",
        "llama_index",
        "openai",
        "pydantic_ai",
        "rlm_cachetrack",
        "rlm",
        "smolagents",
        "tenacity",
        "threading",
        "wrapt",
    }
)


@lru_cache(maxsize=1024)
def _is_framework(module: str) -> bool:
    return module.partition(".")[0] in _FRAMEWORKS


def call_site() -> str | None:
    """Return ``module:function`` of the innermost frame outside the SDK and known frameworks; None if there is none.

    In asyncio, the frames are those of the task that makes the call.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__") or "?"
        if not _is_framework(module):
            return f"{module}:{frame.f_code.co_qualname}"[:256]
        frame = frame.f_back
    return None


def current_span() -> dict[str, Any]:
    """Return ``trace_id`` and ``span_id`` of the current span as integers; empty if none is valid."""
    span = sys.modules[OPENTELEMETRY].get_current_span().get_span_context()
    return {"trace_id": span.trace_id, "span_id": span.span_id} if span.is_valid else {}
