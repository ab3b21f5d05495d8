"""Turn calls of the OpenAI SDK into journal events. The only package that knows openai and wrapt."""

from . import context
from .context import ContextThreadPoolExecutor
from .endpoints import provider_of
from .external import ExternalCall, begin_external, sdk_request_hooks, uninstrument_hooks
from .framework_hints import active_integrations
from .model_list import list_models
from .patching import instrument, uninstrument
from .sockets import SocketClient, observe_socket

NEWEST_TESTED_SDK = "3.57.0"
"""The newest release of openai whose methods docs/coverage.md lists and the tests call."""

__all__ = [
    "NEWEST_TESTED_SDK",
    "ContextThreadPoolExecutor",
    "ExternalCall",
    "SocketClient",
    "active_integrations",
    "begin_external",
    "context",
    "instrument",
    "list_models",
    "observe_socket",
    "provider_of",
    "sdk_request_hooks",
    "uninstrument",
    "uninstrument_hooks",
]
