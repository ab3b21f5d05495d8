"""Calls made while the writer thread imports genai-prices, which imports httpx2."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

MARKER = """
import sys, types
from rlm_cachetrack._process import import_httpx2
{before}
import_httpx2()
print("httpx2" in sys.modules)
"""
CALLS_DURING_THE_IMPORT = """
import importlib, sys, threading
import openai
from rlm_cachetrack import instrument

class Sink:
    def store(self, batch):
        pass
    def close(self):
        pass

instrument(openai.OpenAI(api_key="none"), store=Sink())
from openai import _httpx2
imported = threading.Event()

def write():
    importlib.import_module("genai_prices.data")
    imported.set()

threading.Thread(target=write).start()
calls = 0
while not imported.is_set():
    _httpx2.http_response_types()  # every call does this
    calls += 1
print(calls > 100)
"""


def run(program: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("before", "imported"),
    [("", "False"), ("sys.modules['openai._httpx2'] = types.ModuleType('openai._httpx2')", "True")],
    ids=["other versions", "openai 2.x"],
)
def test_httpx2_is_imported_early_only_for_openai_2(before: str, imported: str, tmp_path: Path) -> None:
    assert run(MARKER.format(before=before), tmp_path) == imported


@pytest.mark.skipif(importlib.util.find_spec("openai._httpx2") is None, reason="this openai never looks httpx2 up")
def test_openai_2_calls_work_while_genai_prices_is_imported(tmp_path: Path) -> None:
    assert run(CALLS_DURING_THE_IMPORT, tmp_path) == "True"
