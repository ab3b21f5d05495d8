"""A run in four lines and as a card."""

from __future__ import annotations

from openai import OpenAI

from rlm_cachetrack import instrument, query_run
from rlm_cachetrack.formatting import NONE
from rlm_cachetrack.pytest_plugin import CacheTrack
from rlm_cachetrack.simulator import SimulatedEndpoint

PROMPT = "All that the model must know of the matter. " * 200


def _ask(endpoint: SimulatedEndpoint, question: str) -> None:
    client = OpenAI(base_url=endpoint.base_url, api_key="k")
    client.chat.completions.create(
        model="gpt-4.1", messages=[{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
    )


def test_a_run_prints_four_lines_and_renders_as_a_card(reused_db_url: str) -> None:
    with SimulatedEndpoint(latency=False) as endpoint:
        instrument(store=reused_db_url)
        with query_run("<b>card</b>") as run:
            assert str(run).splitlines()[2] == f"hit rate  {NONE}"
            for question in run.iterations(["one", "two", "three"]):
                _ask(endpoint, question)
        lines = str(run).splitlines()
        card = run._repr_html_()
    assert len(lines) == 4
    assert lines[0].startswith("<b>card</b>, run 20")
    assert "3 (0 failed), gpt-4.1" in lines[1]
    assert "prompt tokens cached" in lines[2]
    assert "$" in lines[3]
    assert card is not None
    assert "<b>card</b>" not in card
    assert card.count("height:100%") == 3, "a bar per iteration"
    assert "<details><summary>all totals" in card
    assert repr(query_run("later")) == str(query_run("later"))


def test_cachetrack_shows_its_figures(cachetrack: CacheTrack) -> None:
    assert repr(cachetrack) == "<cachetrack: no call>"
    with SimulatedEndpoint(latency=False) as endpoint:
        _ask(endpoint, "one")
        _ask(endpoint, "two")
    assert repr(cachetrack).startswith("<cachetrack: 2 calls, hit rate ")
    assert "prompt tokens cached, cost $" in repr(cachetrack)
