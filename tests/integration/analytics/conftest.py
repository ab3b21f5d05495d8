"""Pricing files of the tests that re-price."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the pricing file with the text ``OLD`` of the test module."""
    path = tmp_path / "old.yaml"
    path.write_text(request.module.OLD)
    return path


@pytest.fixture
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the pricing file with the text ``NEW`` of the test module."""
    path = tmp_path / "new.yaml"
    path.write_text(request.module.NEW)
    return path
