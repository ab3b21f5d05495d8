"""Unmodified ``smolagents``: models over LiteLLM and over the SDK, plain and streamed."""

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
smolagents = pytest.importorskip("smolagents", reason="the package smolagents is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

CODE = "Thought: easy\n<code>\nfinal_answer(42)\n</code>"
MODELS = ["openai/gpt-4.1", "deepseek/deepseek-chat", None]  # None: over the SDK


@pytest.fixture
def tracked(recorder: Recorder) -> Iterator[Recorder]:
    track()
    yield recorder
    uninstrument()


def model(recorder: Recorder, name: str | None) -> Any:
    address = {"api_base": recorder.endpoint.base_url, "api_key": "sk-test"}
    if name is None:
        return smolagents.OpenAIServerModel("gpt-4.1", **address)
    return smolagents.LiteLLMModel(name, **address)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_each_step_of_an_agent_is_one_record(tracked: Recorder, name: str | None, streamed: bool) -> None:
    tracked.endpoint.script(Reply(text="Thought: hm\n<code>\nx = 1\n</code>"), Reply(text=CODE))
    agent = smolagents.CodeAgent(tools=[], model=model(tracked, name), stream_outputs=streamed, verbosity_level=0)
    with query_run("q"):
        assert agent.run("What is it?") == 42
    rows = tracked.rows()
    assert len(rows) == len(tracked.endpoint.requests) == 2
    assert {(row["query_id"], row["success"]) for row in rows} == {("q", True)}
    # smolagents requests the usage of its streams.
    assert [row["prompt_tokens"] for row in rows] == [request.prompt_tokens for request in tracked.endpoint.requests]


MODELS_AND_HINTS = {
    "OpenAIServerModel('gpt-4.1', api_key='sk')": [],
    "LiteLLMModel('deepseek/deepseek-chat')": ["integrations.litellm import track; track()"],
    "InferenceClientModel('some/model', api_key='hf')": ["smolagents.LiteLLMModel(...)"],
}


@pytest.mark.parametrize("made", MODELS_AND_HINTS)
def test_a_program_without_track_gets_a_log_line_if_calls_are_not_recorded(tmp_path: Path, made: str) -> None:
    found = hints_of(f"import smolagents\nsmolagents.{made}", tmp_path)
    assert [line[-len(end) :] for line, end in zip(found, MODELS_AND_HINTS[made], strict=True)] == MODELS_AND_HINTS[
        made
    ]
