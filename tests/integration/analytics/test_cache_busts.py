"""Warnings for calls that break a cached prefix, while the run is in progress."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from rlm_cachetrack import flush, instrument, query_run, uninstrument
from rlm_cachetrack.errors import CacheBustWarning, ConfigError
from rlm_cachetrack.simulator import SimulatedEndpoint
from tests.support.memory import MemorySink

LONG = "All that the model must know, said at length and in full. " * 150
SHORT = "Some things that the model should know. " * 60


@pytest.fixture
def client() -> Iterator[OpenAI]:
    with SimulatedEndpoint(latency=False) as endpoint, OpenAI(base_url=endpoint.base_url, api_key="k") as made:
        yield made


@pytest.fixture(autouse=True)
def _all_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "rlm_cachetrack")


def ask(client: OpenAI, head: str = "", messages: int = 1, system: str = LONG, **more: Any) -> None:
    talk = [{"role": "user", "content": f"question {number}"} for number in range(messages)]
    given: Any = [{"role": "system", "content": head + system}, *talk]
    client.chat.completions.create(model="gpt-4.1", messages=given, **more)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert flush(120)
    return [each.getMessage() for each in caplog.records if getattr(each, "category", None) is CacheBustWarning]


def test_a_broken_prefix_is_reported_once_per_cause(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    instrument(client, store=MemorySink(), cache_bust_warnings=True)
    with query_run("q"):
        ask(client)
        ask(client, messages=2)
        assert warnings(caplog) == []
        ask(client, head="It is 10:01. ", messages=3)
        (first,) = warnings(caplog)
        ask(client, head="It is 10:02. ", messages=4)
        assert len(warnings(caplog)) == 1
    assert "CacheBustWarning: the system prompt was edited" in first
    lost = re.search(r"([\d,]+) tokens were not read from the cache \(\$0\.00\d+\)", first)
    assert lost is not None
    assert int(lost[1].replace(",", "")) > 1_024
    assert "of q;" in first
    assert "must know" not in first


def test_another_cause_and_another_run_are_reported(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    instrument(client, store=MemorySink(), cache_bust_warnings=True)
    for run in range(2):
        with query_run("q"):
            for step in range(1, 4):
                ask(client, messages=step)
            head = f"It is 10:0{run}. "  # another one in each run, because the provider keeps the first
            ask(client, head=head, messages=4)
            assert len(warnings(caplog)) == 2 * run + 1
            ask(client, head=head, messages=5)
            tool = {"type": "function", "function": {"name": f"look_up_{run}", "parameters": {"type": "object"}}}
            ask(client, head=head, messages=6, tools=[tool])
            assert len(warnings(caplog)) == 2 * run + 2
    assert "tools were added" in warnings(caplog)[-1]


def test_small_losses_and_other_misses_are_not_reported(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    instrument(client, store=MemorySink(), cache_bust_warnings=True)
    with query_run("q"):
        ask(client, system=SHORT)
        ask(client, head="It is 10:01. ", system=SHORT)
        ask(client, system="Another prompt, which begins differently. " * 200)
        ask(client, system="Another prompt, which begins differently. " * 200, messages=2)
    assert warnings(caplog) == []


def test_without_the_option_nothing_is_reported(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()
    instrument(client, store=sink, cache_bust_warnings=True)
    uninstrument()
    instrument(client, store=sink)
    with query_run("q"):
        ask(client)
        ask(client, messages=2)
        ask(client, head="It is 10:01. ", messages=3)
    assert warnings(caplog) == []
    assert len(sink.rows) == 3


def test_the_environment_has_the_same_effect(
    client: OpenAI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_CACHE_BUST_WARNINGS", "1")
    instrument(client, store=MemorySink())
    with query_run("q"):
        ask(client)
        ask(client, messages=2)
        ask(client, head="It is 10:01. ", messages=3)
    assert len(warnings(caplog)) == 1


def test_a_wrong_value_in_the_environment_is_an_error(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHETRACK_CACHE_BUST_WARNINGS", "perhaps")
    with pytest.raises(ConfigError, match="RLM_CACHETRACK_CACHE_BUST_WARNINGS"):
        instrument(client, store=MemorySink())


def test_a_long_run_is_compared_with_its_newest_calls(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    instrument(client, store=MemorySink(), cache_bust_warnings=True)
    with query_run("q"):
        for step in range(200):
            ask(client, messages=1 + step % 30)
        ask(client, head="It is 10:01. ", messages=2)
    assert len(warnings(caplog)) == 1
