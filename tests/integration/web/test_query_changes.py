"""What changed on the overview and on Queries: which query costs more, and why."""

from __future__ import annotations

import html
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rlm_cachetrack import TimescaleDBClient
from tests.support.web import fetch, record

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

NOW = datetime.now(UTC)


def complete_page(address: str, path: str, **query: str) -> str:
    """Return a page once none of its figures is being computed."""
    deadline = time.monotonic() + 180
    while 'data-again="yes"' in (page := fetch(address, path, **query)):
        assert time.monotonic() < deadline, page
        time.sleep(0.2)
    return page


def changes(address: str, **query: str) -> dict[str, list[str]]:
    """Return the cells of the table of queries by the query's id, in the order of the page."""
    page = complete_page(address, "/", **query)
    if '<table class="changes">' not in page:
        return {}
    table = page[page.index('<table class="changes">') :]
    rows = re.findall(r"<tr>(.*?)</tr>", table[: table.index("</table>")], re.DOTALL)[1:]
    cells = [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    texts = [[" ".join(html.unescape(re.sub(r"<[^>]+>", "", cell)).split()) for cell in row] for row in cells]
    return {name: rest for name, *rest in texts}


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return a database with two weeks of five queries that make one call a day of 1,000 prompt tokens.

    A call costs USD 0.012 without the cache and 0.0048 with 800 cached tokens. Since a week: "worse" has no cached
    tokens, "busier" makes two calls a day, "new" began, "ended" makes no calls, and "steady" is as before.
    """
    with TimescaleDBClient(module_db_url) as db:
        for day in range(14):
            is_new = day < 7
            calls = {
                "worse": (1, 0 if is_new else 800),
                "busier": (2 if is_new else 1, 800),
                "new": (int(is_new), 0),
                "ended": (0 if is_new else 1, 800),
                "steady": (1, 800),
            }
            begun = NOW - timedelta(days=day, hours=1)
            for name, (count, cached) in calls.items():
                for number in range(count):
                    db.record_llm_interaction(record(name, begun, number, prompt_tokens=1000, cached_tokens=cached))
        assert db.flush()
    return module_db_url


def test_the_largest_changes_of_queries_are_listed_with_their_causes(address: str) -> None:
    found = changes(address)
    none = "–"  # noqa: RUF001
    # USD: new 7 x 0.012; worse 7 x 0.0072; busier 7 x 0.0048 more; ended 7 x 0.0048 less
    assert found == {
        "new": [none, "0.0%", "$0.0840", "+$0.0840 new", none, none, none, "Losses"],
        "worse": ["80.0%", "0.0%", "$0.0840", "+$0.0504", "$0", "+$0.0504", "$0", "Losses"],
        "busier": ["80.0%", "80.0%", "$0.0672", "+$0.0336", "+$0.0336", "$0", "$0", "Losses"],
        "ended": ["80.0%", none, none, "-$0.0336 ended", none, none, none, ""],
        "steady": ["80.0%", "80.0%", "$0.0336", "$0", "$0", "$0", "$0", "Losses"],
    }
    amounts = [float(re.sub(r"[^0-9.]", "", row[3])) for row in found.values()]
    assert amounts == sorted(amounts, reverse=True)


def test_a_query_links_to_its_overview_and_its_losses(address: str) -> None:
    page = complete_page(address, "/")
    table = html.unescape(page[page.index('<table class="changes">') :])
    assert 'href="/?query=worse"' in table
    assert 'href="/losses?query=worse"' in table


def test_the_changes_of_queries_obey_the_filters(address: str) -> None:
    assert changes(address, query="worse") == {}  # the causes of one query are those of the page
    assert changes(address, model="nothing") == {}
    assert list(changes(address, provider="openai")) == ["new", "worse", "busier", "ended", "steady"]


def test_queries_say_why_the_cost_of_a_query_changed(address: str) -> None:
    rows: list[dict[str, Any]] = json.loads(complete_page(address, "/api/queries"))
    effects = {
        row["group"]: [row[name] for name in ("volume_effect", "hit_rate_effect", "price_effect")] for row in rows
    }
    assert effects["worse"] == pytest.approx([0, 7 * 0.0072, 0], abs=1e-9)
    assert effects["busier"] == pytest.approx([7 * 0.0048, 0, 0], abs=1e-9)
    assert effects["new"] == [None, None, None]
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", complete_page(address, "/queries"))).split())
    assert "+$0.0504 by the hit rate, $0 by volume, $0 by prices and mix of models" in words
