"""Unmodified ``crewai``: its own client, which uses the SDK, and LiteLLM for the other providers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack import query_run, uninstrument
from rlm_cachetrack.integrations.litellm import track
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import Recorder, hints_of

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise LiteLLM fetches its price list when it is imported
os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false"}
crewai = pytest.importorskip("crewai", reason="the package crewai is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODELS: dict[str, dict[str, Any]] = {
    "the SDK": {"model": "gpt-4.1"},
    "LiteLLM over the SDK": {"model": "openai/gpt-4.1", "is_litellm": True},
    "LiteLLM over HTTP": {"model": "deepseek/deepseek-chat", "is_litellm": True},
}


@pytest.fixture
def tracked(recorder: Recorder, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")  # the variables of other tests are deleted before each test
    monkeypatch.chdir(tmp_path)
    track()
    yield recorder
    uninstrument()


@pytest.mark.parametrize("name", MODELS)
def test_each_call_of_a_model_is_one_record(tracked: Recorder, name: str) -> None:
    tracked.endpoint.script(Reply(text="the answer"))
    llm = crewai.LLM(**MODELS[name], base_url=tracked.endpoint.base_url, api_key="sk-test")
    with query_run("q"):
        assert llm.call([{"role": "user", "content": "What is it?"}]) == "the answer"
    (row,) = tracked.rows()
    (request,) = tracked.endpoint.requests
    assert (row["query_id"], row["prompt_tokens"]) == ("q", request.prompt_tokens)


@pytest.mark.parametrize("name", MODELS)
def test_each_call_of_a_crew_is_one_record(tracked: Recorder, name: str) -> None:
    tracked.endpoint.script(*[Reply(text="Thought: I now can give a great answer\nFinal Answer: 42")] * 3)
    llm = crewai.LLM(**MODELS[name], base_url=tracked.endpoint.base_url, api_key="sk-test")
    clerk = crewai.Agent(role="Clerk", goal="Answer.", backstory="Brief.", llm=llm)
    task = crewai.Task(description="What is it?", expected_output="A number.", agent=clerk)
    with query_run("q"):
        assert "42" in str(crewai.Crew(agents=[clerk], tasks=[task]).kickoff())
    rows = tracked.rows()
    assert len(rows) == len(tracked.endpoint.requests) >= 1
    assert {row["query_id"] for row in rows} == {"q"}


def test_a_program_that_only_uses_the_sdk_gets_no_log_line(tmp_path: Path) -> None:
    assert hints_of("import crewai\ncrewai.LLM(model='gpt-4.1')", tmp_path) == []


def test_a_program_that_uses_litellm_without_track_gets_one_log_line(tmp_path: Path) -> None:
    (line,) = hints_of("import crewai, litellm\ncrewai.LLM(model='deepseek/deepseek-chat', is_litellm=True)", tmp_path)
    assert "from rlm_cachetrack.integrations.litellm import track; track()" in line
