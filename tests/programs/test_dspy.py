"""``dspy`` with ``integrations.dspy.track()``: each request is one record, whichever engine sends it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_cachetrack import query_run, stats, uninstrument
from rlm_cachetrack.integrations.dspy import track
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import SYSTEM, Recorder, hints_of
from tests.support.anthropic_server import TEXT, AnthropicServer

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise LiteLLM fetches its price list when it is imported
dspy = pytest.importorskip("dspy", reason="the package dspy is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

ANSWER = "[[ ## answer ## ]]\n42\n\n[[ ## completed ## ]]"
OPENAI, DEEPSEEK, CLAUDE = "openai/gpt-4.1", "deepseek/deepseek-chat", "anthropic/claude-sonnet-4-5"
ENGINES = ["auto", "litellm"]
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What is it?"}]


@pytest.fixture
def tracked(recorder: Recorder) -> Iterator[Recorder]:
    track()
    before = stats()["internal_errors"]
    yield recorder
    assert stats()["internal_errors"] == before
    uninstrument()


@pytest.fixture
def anthropic() -> Iterator[AnthropicServer]:
    with AnthropicServer() as server:
        yield server


def model(base_url: str, name: str = OPENAI, **more: Any) -> Any:
    return dspy.LM(name, **{"api_base": base_url, "api_key": "sk-test", "cache": False, "num_retries": 0, **more})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "model_type"), [(OPENAI, "chat"), (DEEPSEEK, "chat"), (OPENAI, "responses")])
def test_each_call_of_a_program_is_one_record(tracked: Recorder, name: str, model_type: str, engine: str) -> None:
    tracked.endpoint.script(Reply(text=ANSWER), Reply(text=ANSWER))
    lm = model(tracked.endpoint.base_url, name, model_type=model_type, engine=engine)
    with dspy.context(lm=lm), query_run("q") as run:
        for _ in run.iterations(range(2)):
            assert dspy.Predict("question -> answer")(question="What is it?").answer == "42"
    rows = tracked.rows()
    assert len(rows) == len(tracked.endpoint.requests) == 2
    for number, (row, request) in enumerate(zip(rows, tracked.endpoint.requests, strict=True), 1):
        assert (row["query_id"], row["iteration"], row["success"]) == ("q", number, True)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (request.prompt_tokens, request.completion_tokens)
        assert row["model"].startswith(name.partition("/")[2])
        assert row["response_length"] == len(ANSWER)


def test_the_engine_of_dspy_sends_the_calls(tracked: Recorder) -> None:
    """The other tests must not pass because DSPy chose LiteLLM."""
    lm = model(tracked.endpoint.base_url, engine="lm15")
    lm(messages=MESSAGES)
    lm(messages=MESSAGES)
    rows = tracked.rows()
    counts = [(request.prompt_tokens, request.cached_tokens) for request in tracked.endpoint.requests]
    assert [(row["prompt_tokens"], row["cached_tokens"]) for row in rows] == counts
    assert rows[1]["cached_tokens"] > 0
    assert [row["context_messages"] for row in rows] == [2, 2]
    assert all(row["fingerprint"] is not None for row in rows)
    assert all(row["response_id"] for row in rows)
    # The address determines the provider, so the prices of OpenAI do not apply.
    assert {row["provider"].partition("@")[0] for row in rows} == {"unknown"}


@pytest.mark.parametrize("name", [OPENAI, DEEPSEEK])
async def test_asynchronous_calls_are_recorded(tracked: Recorder, name: str) -> None:
    tracked.endpoint.script(Reply(text=ANSWER))
    with dspy.context(lm=model(tracked.endpoint.base_url, name)):
        assert (await dspy.Predict("question -> answer").acall(question="What is it?")).answer == "42"
    (row,) = tracked.rows()
    assert row["prompt_tokens"] == tracked.endpoint.requests[0].prompt_tokens


@pytest.mark.parametrize("engine", ENGINES)
def test_streamed_calls_are_recorded(tracked: Recorder, engine: str) -> None:
    tracked.endpoint.script(Reply(text=ANSWER))
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )

    async def run() -> list[Any]:
        return [part async for part in program(question="What is it?")]

    with dspy.context(lm=model(tracked.endpoint.base_url, engine=engine)), query_run("q"):
        parts = asyncio.run(run())
    assert parts[-1].answer == "42"
    (row,) = tracked.rows()
    (request,) = tracked.endpoint.requests
    assert request.stream
    assert (row["query_id"], row["success"], row["metadata"]["stream"]) == ("q", True, True)
    assert row["time_to_first_token_ms"] is not None
    if engine == "auto":  # DSPy's engine requests the usage of a stream; LiteLLM counts the tokens itself
        assert (row["prompt_tokens"], row["completion_tokens"]) == (request.prompt_tokens, request.completion_tokens)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_call_of_another_provider_has_its_usage(tracked: Recorder, anthropic: AnthropicServer, engine: str) -> None:
    model(anthropic.base_url, CLAUDE, engine=engine, max_tokens=100)(messages=MESSAGES)
    assert len(anthropic.requests) == 1
    (row,) = tracked.rows()
    # 12 + 2,048 read + 256 written are input; USD per million: 3, 0.30 read, 3.75 written, 15 output
    assert (row["prompt_tokens"], row["cached_tokens"], row["cache_write_tokens"]) == (2316, 2048, 256)
    assert (row["completion_tokens"], row["provider"], row["response_length"]) == (30, "anthropic", len(TEXT))
    assert float(row["total_cost"]) == pytest.approx((12 * 3 + 2048 * 0.3 + 256 * 3.75 + 30 * 15) / 1e6)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_rejected_request_is_one_failed_record(tracked: Recorder, asynchronous: bool) -> None:
    tracked.endpoint.script(Reply(status=400, error="not like this"))
    lm = model(tracked.endpoint.base_url)
    with pytest.raises(Exception, match="not like this"):
        asyncio.run(lm.acall(messages=MESSAGES)) if asynchronous else lm(messages=MESSAGES)
    (row,) = tracked.rows()
    assert (row["success"], row["metadata"]["status_code"]) == (False, 400)
    assert "not like this" in row["error_message"]


def test_a_retried_call_is_one_record_per_request(tracked: Recorder) -> None:
    tracked.endpoint.script(Reply(status=500, error="later"), Reply(text=ANSWER))
    model(tracked.endpoint.base_url, num_retries=2)(messages=MESSAGES)
    assert [row["success"] for row in tracked.rows()] == [False, True]
    assert len(tracked.endpoint.requests) == 2


def test_a_request_that_the_engine_refuses_is_not_recorded(tracked: Recorder) -> None:
    with pytest.raises(Exception, match="LiteLLM compatibility engine"):
        model(tracked.endpoint.base_url, engine="lm15", model_type="text")("What is it?")
    assert tracked.rows() == tracked.endpoint.requests == []


def test_an_answer_of_the_cache_is_not_recorded(tracked: Recorder) -> None:
    lm = model(tracked.endpoint.base_url, cache=True)
    question = [{"role": "user", "content": f"What is it? {os.urandom(8).hex()}"}]
    assert lm(messages=question) == lm(messages=question)
    assert len(tracked.rows()) == len(tracked.endpoint.requests) == 1


@pytest.mark.parametrize("name", [OPENAI, DEEPSEEK])
def test_calls_on_the_threads_of_dspy_are_recorded(tracked: Recorder, name: str) -> None:
    tracked.endpoint.script(*[Reply(text=ANSWER)] * 4)
    with dspy.context(lm=model(tracked.endpoint.base_url, name)), query_run("q"):
        program = dspy.Predict("question -> answer")
        examples = [(program, dspy.Example(question=str(number)).with_inputs("question")) for number in range(4)]
        dspy.Parallel(num_threads=2, disable_progress_bar=True)(examples)
    rows = tracked.rows()
    assert len(rows) == len(tracked.endpoint.requests) == 4
    assert {row["query_id"] for row in rows} == {"q"}


def test_embeddings_are_recorded(tracked: Recorder) -> None:
    address = {"api_base": tracked.endpoint.base_url, "api_key": "sk-test"}
    dspy.Embedder("openai/text-embedding-3-small", **address, caching=False)(["one", "two"])
    assert len(tracked.rows()) == len(tracked.endpoint.requests) == 1


def test_tracking_twice_changes_nothing_and_uninstrument_restores(recorder: Recorder) -> None:
    from dspy.clients.engines import lm15_engine

    classes = (lm15_engine.LM15Engine, lm15_engine.AsyncLM15Engine)
    before = [dict(vars(each)) for each in classes]
    track()
    track()
    lm = model(recorder.endpoint.base_url)
    lm(messages=MESSAGES)
    assert len(recorder.rows()) == 1
    uninstrument()
    assert [dict(vars(each)) for each in classes] == before
    lm(messages=MESSAGES)
    assert len(recorder.rows()) == 1


@pytest.mark.parametrize(
    ("tracks", "expected"), [("", 1), ("from rlm_cachetrack.integrations import dspy as ours; ours.track()", 0)]
)
def test_a_program_without_track_gets_one_log_line(tmp_path: Path, tracks: str, expected: int) -> None:
    found = hints_of(f"import dspy, litellm\n{tracks}", tmp_path)
    assert len(found) == expected
    assert all("from rlm_cachetrack.integrations.dspy import track; track()" in line for line in found)
