"""What does the prompt cache save you? One line records every call of the OpenAI SDK.

::

    from openai import OpenAI
    from rlm_cachetrack import instrument, query_run

    client = instrument(OpenAI())
    with query_run("benchmark-001") as run:
        for step in run.iterations(range(5)):
            client.chat.completions.create(model="gpt-6.1-sol", messages=messages)
    print(run.summary()["cache_hit_rate"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import errors
    from .capture import ContextThreadPoolExecutor, instrument, uninstrument
    from .client import TimescaleDBClient
    from .errors import CacheTrackError, ConfigError, PricingError, RecordError, StoreError, StoreUnreachableError
    from .pipeline import flush, shutdown, stats
    from .records import LLMInteractionRecord, RecordBatch, RecordSink
    from .runs import QueryRun, active_run, query_run, tags

__all__ = [
    "CacheTrackError",
    "ConfigError",
    "ContextThreadPoolExecutor",
    "LLMInteractionRecord",
    "PricingError",
    "QueryRun",
    "RecordBatch",
    "RecordError",
    "RecordSink",
    "StoreError",
    "StoreUnreachableError",
    "TimescaleDBClient",
    "__version__",
    "active_run",
    "errors",
    "flush",
    "instrument",
    "query_run",
    "shutdown",
    "stats",
    "tags",
    "uninstrument",
]

# Imported on first use, so that the command line, which imports this package too, starts fast.
_MODULES = {
    "capture": ("ContextThreadPoolExecutor", "instrument", "uninstrument"),
    "client": ("TimescaleDBClient",),
    "errors": ("CacheTrackError", "ConfigError", "PricingError", "RecordError", "StoreError", "StoreUnreachableError"),
    "pipeline": ("flush", "shutdown", "stats"),
    "records": ("LLMInteractionRecord", "RecordBatch", "RecordSink"),
    "runs": ("QueryRun", "active_run", "query_run", "tags"),
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module(".errors", __name__)
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(importlib.import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
