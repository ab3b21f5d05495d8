"""The avoidable amount of a range over real HTTP: the same runs and the same amount on every page, and its limits."""

from __future__ import annotations

import html
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from openai import OpenAI

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run
from rlm_cachetrack.capture import call as calls
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.web import fetch, record, served

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

NOW = datetime.now(UTC)
QUERIES = ("first", "second")


def text_of(address: str, path: str, **query: str) -> str:
    page = fetch(address, path, **query)
    content = re.sub(r"<script.*?</script>", "", page[page.index('<div id="content"') :], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content)).split())


def explained(address: str, path: str, **query: str) -> str:
    """Return the words of a page once no run of it waits to be explained."""
    deadline = time.monotonic() + 120
    while "so far" in (words := text_of(address, path, **query)):
        assert time.monotonic() < deadline, words
        time.sleep(0.2)
    return words


def amount(address: str, path: str, **query: str) -> float:
    """Return the avoidable amount that a page shows, once all its runs are explained."""
    explained(address, path, **query)
    before = "Could still be saved</dt>" if path == "/" else "Cost of avoidable"
    found = re.search(before + r'.*?<data value="([^"]*)"', fetch(address, path, **query), re.DOTALL)
    assert found is not None
    return float(found[1])


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return a database with 44 runs of two calls; the second call of each misses because its prompt changed.

    Of each query 20 runs began this week, and two in the week before.
    """
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=module_db_url)
        for query in QUERIES:
            for number in range(22):
                begun = NOW - (timedelta(hours=1 + number) if number < 20 else timedelta(days=9, hours=number))
                with query_run(query, begun) as run:
                    for step in run.iterations(range(2)):
                        system = f"Call {step} of {query} {number}. " + f"Rules of {query} {number}. " * 300
                        client.chat.completions.create(
                            model="gpt-4.1",
                            messages=[{"role": "system", "content": system}, {"role": "user", "content": "Now?"}],
                        )
        assert flush(timeout_s=120)
    return module_db_url


def loss_of_each_run(address: str, **query: str) -> float:
    runs: list[dict[str, Any]] = json.loads(fetch(address, "/api/runs", limit="100", **query))["runs"]
    found = [
        json.loads(fetch(address, "/api/run/explain", query_id=run["query_id"], run_id=run["run_id"])) for run in runs
    ]
    return float(sum(each["usd_lost"] for each in found))


def test_the_amount_is_that_of_every_run_of_the_range_on_each_page(address: str) -> None:
    expected = loss_of_each_run(address, range="7d")
    assert expected > 0
    assert "avoidable misses of all 40 runs. Why, and what to do" in explained(address, "/", range="7d")
    assert amount(address, "/", range="7d") == pytest.approx(expected)
    assert "of all 40 runs." in explained(address, "/losses", range="7d")
    assert amount(address, "/losses", range="7d") == pytest.approx(expected)
    of_queries = [amount(address, "/losses", range="7d", query=query) for query in QUERIES]
    assert sum(of_queries) == pytest.approx(expected)
    assert amount(address, "/", range="7d", query="first") == pytest.approx(of_queries[0])
    assert "of all 20 runs." in explained(address, "/losses", range="7d", query="first")


def test_a_longer_range_contains_the_losses_of_the_shorter_one(address: str) -> None:
    assert "of all 44 runs." in explained(address, "/losses", range="30d")
    assert amount(address, "/losses", range="30d") == pytest.approx(loss_of_each_run(address, range="30d"))
    assert amount(address, "/losses", range="30d") > amount(address, "/losses", range="7d")


def test_runs_that_are_left_out_are_counted_and_not_compared(stored: str) -> None:
    compared = r"of all 40 runs\. Why, and what to do [+m].*?from \$[0-9.]+ in the 7 days before"
    with served(stored) as address:
        explained(address, "/")
        deadline = time.monotonic() + 120
        while not re.search(compared, words := text_of(address, "/")):
            assert time.monotonic() < deadline, words
            time.sleep(0.2)
    with TimescaleDBClient(stored) as db:
        for number in range(6):
            begun = NOW - timedelta(days=10, hours=number)
            for call in range(2001 if number == 0 else 2000):
                db.record_llm_interaction(record("long", begun, call, prompt_tokens=1000, cached_tokens=0))
        assert db.flush()
    with served(stored) as address:
        words = explained(address, "/losses", range="30d")
        # 4 runs of 2,000 calls and the 44 small ones: the fifth would exceed 10,000 calls.
        assert "of the newest 48 of 50 runs; only the newest 2,000 calls of each run." in words
        overview = explained(address, "/", range="30d")
        assert "avoidable misses of the newest 48 of 50 runs; only" in overview
        # The runs of both periods are among those explained for the page above, so nothing is pending.
        assert "of all 40 runs. Why" in text_of(address, "/")
        card = text_of(address, "/").split("Could still be saved")[1].split("Why, and what to do")[1]
        assert not card.startswith((" +", " -", " more"))  # two runs of the period before are left out


@pytest.mark.parametrize(
    ("minutes", "total", "reason"),
    [
        # Entries of gpt-4.1 are kept for 5 minutes to 24 hours.
        (33, 0.0, "again : not read by the provider (uncertain) The entry may have expired in a pause of 33 min."),
        (2, None, "again : not read by the provider The entry should have existed"),
    ],
)
def test_a_loss_that_is_not_likely_is_listed_separately(
    db_url: str, monkeypatch: pytest.MonkeyPatch, minutes: int, total: float | None, reason: str
) -> None:
    ahead = -7200.0
    monkeypatch.setattr(calls, "time_ns", lambda: int((time.time() + ahead) * 1e9))
    messages: list[Any] = [
        {"role": "system", "content": "All that the model must know. " * 300},
        {"role": "user", "content": "Now?"},
    ]
    with (
        SimulatedEndpoint(latency=False, ttl_s=0.0) as endpoint,
        OpenAI(base_url=endpoint.base_url, api_key="k") as client,
    ):
        instrument(client, store=db_url)
        with query_run("again", NOW - timedelta(hours=2)):
            for _ in range(2):
                client.chat.completions.create(model="gpt-4.1", messages=messages)
                ahead += 60.0 * minutes
    assert flush(timeout_s=120)
    with served(db_url) as address:
        words = explained(address, "/losses")
        assert reason in words
        (each,) = json.loads(fetch(address, "/api/run/explain", query_id="again", run_id=run_of(address)))["verdicts"][
            :1
        ]
        assert each["usd_lost"] > 0
        assert amount(address, "/losses") == pytest.approx(each["usd_lost"] if total is None else total)
        assert amount(address, "/") == amount(address, "/losses")
        assert ("Uncertain These misses were probably not avoidable." in words) == (total is not None)
        assert "should have existed" not in words or total is None


def run_of(address: str) -> str:
    return str(json.loads(fetch(address, "/api/runs"))["runs"][0]["run_id"])
