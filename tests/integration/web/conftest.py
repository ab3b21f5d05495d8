"""Closing a client waits as long as a machine under load needs to store what the test recorded."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient(isolated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time that closing a client waits for its records, from 5 seconds."""
    monkeypatch.setenv("RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S", "180")
