"""The list of runs: outcomes and tags, and the filter by outcome, on the page, in the API and in the terminal."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import urllib.error
from datetime import timedelta
from typing import Any

import pytest
from openai import OpenAI
from typer.testing import CliRunner

from rlm_cachetrack import TimescaleDBClient, flush, instrument, query_run
from rlm_cachetrack.cli import app
from rlm_cachetrack.formatting.text import NONE
from tests.support.web import BEGUN, fetch, record, served

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

OUTCOMES: dict[str, dict[str, Any]] = {
    "solved": {"success": True, "score": 0.83},
    "unsolved": {"success": False, "label": "timeout"},
    "scored": {"score": 0.5},
    "unjudged": {},
}


def table_of(address: str, **query: str) -> list[list[str]]:
    """Return the cells of the list of runs, its header first."""
    page = fetch(address, "/runs", **query)
    rows = re.findall(r"<tr>(.*?)</tr>", page[page.index("<table") :], re.DOTALL)
    cells = [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in cells]


@pytest.fixture(scope="module")
def stored(module_db_url: str) -> str:
    """Return a database with a run of each outcome, of which one has tags."""
    with TimescaleDBClient(module_db_url) as db:
        for number, (name, outcome) in enumerate(OUTCOMES.items()):
            begun = BEGUN - timedelta(minutes=number)
            db.initialize_query_run(name, begun)
            db.record_llm_interaction(record(name, begun, prompt_tokens=1000))
            if outcome:
                db.record_outcome(name, begun, **outcome)
            db.complete_query_run(name, begun)
        assert db.flush()
    return module_db_url


def test_the_list_of_runs_shows_their_outcomes(address: str) -> None:
    header, *rows = table_of(address)
    shown = {row[0]: row[header.index("Outcome")] for row in rows}
    assert {name: words.split(" Outcome")[0] for name, words in shown.items()} == {
        "solved": "succeeded, score 0.83",
        "unsolved": "failed, label timeout",
        "scored": "score 0.5",
        "unjudged": NONE,
    }


@pytest.mark.parametrize(
    ("outcome", "names"),
    [
        ("", {"solved", "unsolved", "scored", "unjudged"}),
        ("succeeded", {"solved"}),
        ("failed", {"unsolved"}),
        ("not recorded", {"unjudged"}),
    ],
)
@pytest.mark.parametrize("sort", ["start", "cost", "saved"])
def test_runs_are_filtered_by_outcome(sort: str, outcome: str, names: set[str], address: str) -> None:
    found = json.loads(fetch(address, "/api/runs", outcome=outcome, sort=sort))["runs"]
    assert {run["query_id"] for run in found} == names
    assert {row[0] for row in table_of(address, outcome=outcome, sort=sort)[1:]} == names
    assert f"{len(names)} run" in fetch(address, "/runs", outcome=outcome)


def test_an_unknown_outcome_is_refused(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        fetch(address, "/api/runs", outcome="won")
    with refused.value as answer:
        assert "expected one of succeeded, failed, not recorded" in answer.read().decode()


def test_the_tags_of_a_run_are_listed(db_url: str, endpoint: Any) -> None:
    with OpenAI(base_url=endpoint.base_url, api_key="k") as client:
        instrument(client, store=db_url)
        for name, tags in (("tagged", {"agent": "planner", "team": "search"}), ("plain", None)):
            with query_run(name, tags=tags):
                client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "Hello"}])
        assert flush(timeout_s=120)
    with served(db_url) as address:
        header, *rows = table_of(address)
        assert {row[0] for row in rows} == {"tagged agent=planner , team=search", "plain"}
        tags = {run["query_id"]: run["tags"] for run in json.loads(fetch(address, "/api/runs"))["runs"]}
        assert tags == {"tagged": {"agent": "planner", "team": "search"}, "plain": None}
        assert "Outcome" not in header


def test_the_terminal_lists_outcomes(stored: str) -> None:
    wide = CliRunner().invoke(app, ["runs", "--db-url", stored], env={"COLUMNS": "200"}).stdout
    assert "succeeded, score 0.83" in wide
    (row,) = [
        row
        for row in csv.DictReader(io.StringIO(CliRunner().invoke(app, ["runs", "--csv", "--db-url", stored]).stdout))
        if row["query_id"] == "unsolved"
    ]
    assert (row["success"], row["outcome_label"], row["score"]) == ("False", "timeout", "")
