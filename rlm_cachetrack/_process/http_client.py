"""Import ``httpx2`` before another thread can use the partially initialized module.

``genai-prices`` imports ``httpx2``, on the writer thread. Every call of ``openai`` 2.x looks ``httpx2`` up in
``sys.modules`` and reads its attributes without importing it, so a call made during that import would raise
``AttributeError``. ``openai`` 1.x never looks it up, and 3.x imports it itself.

Source: ``openai/_httpx2.py`` of openai 2.54.0, ``genai_prices/update_prices.py`` of genai-prices 0.2.3, 2026-11-28.
"""

from __future__ import annotations

import contextlib
import importlib
import sys


def import_httpx2() -> None:
    """Import ``httpx2`` on the calling thread if openai 2.x is loaded; otherwise do nothing.

    Call it while recording is set up, before the first call. Blocks for about 50 ms, once per process.
    """
    if "openai._httpx2" in sys.modules and "httpx2" not in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("httpx2")
