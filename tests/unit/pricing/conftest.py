"""Price books for tests: the built-in table, and the table with a pricing file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rlm_cachetrack.pricing import PriceBook


@pytest.fixture(scope="session")
def built_in() -> PriceBook:
    return PriceBook.load(None)


@pytest.fixture
def book(tmp_path: Path) -> Callable[[str | bytes], PriceBook]:
    """Return a function that writes a pricing file ``prices.yaml`` and loads it."""

    def load(text: str | bytes) -> PriceBook:
        path = tmp_path / "prices.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return PriceBook.load(path)

    return load
