"""The coverage page in the docs matches the tests."""

from __future__ import annotations

import os
import subprocess
import sys

from rlm_cachetrack.usage.reading import DIALECTS
from tests.surfaces.calls import MODES, SURFACES
from tests.surfaces.coverage_page import PAGE, ROOT


def test_the_coverage_page_is_up_to_date() -> None:
    """Collect in a new process, because this run may have selected only some of the tests."""
    checked = subprocess.run(
        [sys.executable, "-m", "tests.surfaces.coverage_page", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_page_has_every_surface_form_and_dialect_and_names_the_uncovered_ones() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for surface in SURFACES:
        for form in surface.forms:
            for mode in MODES:
                assert f"`{surface.name}-{mode}-{form.replace(' ', '_')}`" in text
    for dialect in DIALECTS:
        assert f"| `{dialect.name}` |" in text
    left_out = text.partition("## Not covered")[2]
    for name in ("Realtime", "websocket", "error event"):
        assert name in left_out
