"""A dashboard with the calls that a module has stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.web import served


@pytest.fixture(scope="module")
def address(stored: str) -> Iterator[str]:
    """Yield the address of a dashboard for the database of the module's fixture ``stored``."""
    with served(stored) as address:
        yield address
