"""The hit rate on the overview: hours with few calls do not dominate the charts."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rlm_cachetrack import TimescaleDBClient
from tests.support import clock
from tests.support.web import fetch, record

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

WEIGHTED = 8000 / 10_100


def figures(address: str, range_: str) -> dict[str, dict[str, Any]]:
    """Return the charts of the overview by id."""
    page = fetch(address, "/", range=range_)
    found = re.findall(r'id="figure-([^"]*)".*?<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return {name: json.loads(html.unescape(text)) for name, text in found}


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return a database with two calls per day: one of 10,000 tokens, 8,000 cached, and one of 100 that missed."""
    midnight = clock.today(timedelta(minutes=5))
    # The last 24 hours must contain both calls of a day, or none of them.
    newest = midnight if datetime.now(UTC).hour >= 3 else midnight - timedelta(hours=4)
    with TimescaleDBClient(module_db_url) as db:
        for day in range(9):
            begun = newest - timedelta(days=day)
            for hour, (prompt, cached) in enumerate(((10_000, 8_000), (100, 0))):
                moment = begun + timedelta(hours=hour)
                db.record_llm_interaction(
                    record("task", begun, hour, start_time=moment, prompt_tokens=prompt, cached_tokens=cached)
                )
        assert db.flush()
    return module_db_url


@pytest.mark.parametrize("range_", ["24h", "7d", "30d"])
def test_the_prominent_hit_rate_is_weighted_by_day(range_: str, address: str) -> None:
    with_rate = {"cost": figures(address, range_)["cost"], "hit-rate": figures(address, range_)["hit-rate"]}
    for name, figure in with_rate.items():
        (line,) = [each for each in figure["series"] if each["type"] == "line"]
        assert "faint" not in line
        assert "by day" in line["name"] or range_ == "30d", name
        assert line["y"] == pytest.approx([WEIGHTED] * len(line["y"])), name
        first, last = figure["x"]["min"], figure["x"]["max"]
        assert line["y"]
        assert all(first <= x <= last for x in line["x"]), name


@pytest.mark.parametrize("range_", ["24h", "7d"])
def test_hours_are_faint_and_as_large_as_their_volume(range_: str, address: str) -> None:
    (hours,) = [each for each in figures(address, range_)["hit-rate"]["series"] if each["name"].startswith("by hour")]
    assert hours["faint"]
    assert hours["type"] == "points"
    sizes = dict(zip(hours["y"], hours["sizes"], strict=True))
    assert set(sizes) == {0.8, 0}
    assert sizes[0.8] > 2 * sizes[0]


def test_days_have_no_other_hit_rate_beside_them(address: str) -> None:
    (line,) = figures(address, "30d")["hit-rate"]["series"]
    assert line["type"] == "line"
    assert line["points"]
