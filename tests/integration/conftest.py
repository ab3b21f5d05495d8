"""Fixtures that tests of several packages share."""

from __future__ import annotations

import pytest


@pytest.fixture
def rejecting(db_url: str) -> str:
    """Return a database that stored the model ``good`` and rejected two calls of the model ``bad``."""
    from tests.integration.pipeline.test_writer import call, pipeline, reject_model, sql

    sql(db_url, reject_model("bad"))
    with pipeline(db_url) as runtime:
        for model in ("bad", "good", "bad"):
            runtime.journal.append(call(model=model))
        assert runtime.flush(120)
    return db_url
