"""``doctor`` warns about an SDK that is newer than the newest tested release."""

from __future__ import annotations

import importlib
import importlib.metadata

import pytest
from typer.testing import CliRunner

from rlm_cachetrack.capture import NEWEST_TESTED_SDK
from rlm_cachetrack.cli import app


@pytest.mark.parametrize(
    ("installed", "warns"),
    [
        ("3.58.0", True),
        ("4.0.0", True),
        ("3.57.1", True),
        (NEWEST_TESTED_SDK, False),
        ("2.99.0", False),
        ("1.66.0", False),
    ],
)
def test_doctor_warns_of_an_untested_sdk(
    db_url: str, installed: str, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version
    doctor = importlib.import_module("rlm_cachetrack.cli.doctor")
    monkeypatch.setattr(doctor, "version", lambda name: installed if name == "openai" else real(name))
    result = CliRunner().invoke(app, ["doctor", "--db-url", db_url], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert (f"openai {installed} is newer than the newest tested release" in text) == warns
