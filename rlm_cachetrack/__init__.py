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

from . import errors
from ._version import __version__
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
