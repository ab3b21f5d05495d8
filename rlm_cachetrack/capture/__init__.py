"""Turn calls of the OpenAI SDK into journal events. The only package that knows openai and wrapt."""

from . import context
from .context import ContextThreadPoolExecutor
from .model_list import list_models
from .patching import instrument, uninstrument

__all__ = [
    "ContextThreadPoolExecutor",
    "context",
    "instrument",
    "list_models",
    "uninstrument",
]
