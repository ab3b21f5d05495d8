"""The HTTP library that the installed SDK uses: httpx up to openai 2, httpx2 from openai 3 on.

Both may be installed, so the SDK's version determines the choice: the SDK accepts only clients of its own library.
"""

from __future__ import annotations

import importlib
from typing import Any

from openai import DefaultHttpxClient

__all__ = ["httpx"]

httpx: Any = importlib.import_module(
    next(
        kind.__module__.partition(".")[0] for kind in DefaultHttpxClient.__mro__ if kind.__module__.startswith("httpx")
    )
)
"""With ``Client``, ``AsyncClient``, ``MockTransport`` and ``Response`` for the installed SDK."""
