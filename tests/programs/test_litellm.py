"""LiteLLM with ``integrations.litellm.track()``: each request is one record, whichever client LiteLLM sends it with."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from rlm_cachetrack import query_run, uninstrument
from rlm_cachetrack.integrations.litellm import track
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import SYSTEM, Recorder, hints_of
from tests.support.anthropic_server import TEXT, AnthropicServer

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it fetches its price list when it is imported
litellm = pytest.importorskip("litellm", reason="the package litellm is not installed")

# LiteLLM leaves clients and tasks of finished event loops open, and its response models do not match their own types.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What is it?"}]
CLAUDE = "anthropic/claude-sonnet-4-5"


@pytest.fixture
def tracked(recorder: Recorder) -> Iterator[Recorder]:
    track()
    yield recorder
    uninstrument()


@pytest.fixture
def anthropic() -> Iterator[AnthropicServer]:
    with AnthropicServer() as server:
        yield server


async def consume(pending: Any) -> Any:
    """Await a response, and read it to its end if it is a stream."""
    answer = await pending
    return [chunk async for chunk in answer] if hasattr(answer, "__anext__") else answer


def call(recorder: Recorder, function: str, asynchronous: bool, **given: Any) -> Any:
    """Call a function of LiteLLM to the end of its response."""
    given = {"api_base": recorder.endpoint.base_url, "api_key": "sk-test", **given}
    if asynchronous:
        return asyncio.run(consume(getattr(litellm, f"a{function}")(**given)))
    answer = getattr(litellm, function)(**given)
    return list(answer) if hasattr(answer, "__next__") else answer


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat over the SDK": ("completion", {"model": "gpt-4.1", "messages": MESSAGES}),
    "chat over HTTP": ("completion", {"model": "deepseek/deepseek-chat", "messages": MESSAGES}),
    "chat over Responses": ("completion", {"model": "openai/responses/gpt-4.1", "messages": MESSAGES}),
    "responses": ("responses", {"model": "gpt-4.1", "input": "What is it?"}),
    "text": ("text_completion", {"model": "gpt-3.5-turbo-instruct", "prompt": "What is it?"}),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
def test_each_call_is_one_record_with_its_tokens(
    tracked: Recorder, name: str, asynchronous: bool, stream: bool
) -> None:
    function, given = CALLS[name]
    with query_run("q") as run:
        run.iteration = 2
        call(tracked, function, asynchronous, **given, **({"stream": True} if stream else {}))
    (request,) = tracked.endpoint.requests
    (row,) = tracked.rows()
    if stream and name == "chat over HTTP":  # LiteLLM does not request the usage of a stream, and counts itself
        assert (row["metadata"]["usage"], row["prompt_tokens"] > 1000) == ("estimated", True)
    else:
        counted = ("prompt_tokens", "cached_tokens", "completion_tokens")
        assert {key: row[key] or 0 for key in counted} == {key: getattr(request, key) for key in counted}
    assert (row["query_id"], row["iteration"], row["success"]) == ("q", 2, True)
    assert row["total_cost"] > 0


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("model", ["text-embedding-3-small", "mistral/mistral-embed"])
def test_embeddings_are_one_record(tracked: Recorder, model: str, asynchronous: bool) -> None:
    call(tracked, "embedding", asynchronous, model=model, input=["one", "two"])
    (request,) = tracked.endpoint.requests
    (row,) = tracked.rows()
    assert (row["api"], row["prompt_tokens"]) == ("embeddings", request.prompt_tokens)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_call_of_another_provider_has_its_usage_and_cost(
    tracked: Recorder, anthropic: AnthropicServer, asynchronous: bool, stream: bool
) -> None:
    call(
        tracked, "completion", asynchronous, model=CLAUDE, messages=MESSAGES, api_base=anthropic.base_url, stream=stream
    )
    assert len(anthropic.requests) == 1
    (row,) = tracked.rows()
    # 12 + 2,048 read + 256 written are input; USD per million: 3, 0.30 read, 3.75 written, 15 output
    assert (row["prompt_tokens"], row["cached_tokens"], row["cache_write_tokens"]) == (2316, 2048, 256)
    assert (row["completion_tokens"], row["provider"]) == (30, "anthropic")
    assert float(row["total_cost"]) == pytest.approx((12 * 3 + 2048 * 0.3 + 256 * 3.75 + 30 * 15) / 1e6)
    assert row["price_source"] == "provider"
    assert (row["response_length"], row["context_messages"]) == (len(TEXT), 2)
    assert row["fingerprint"] is not None
    assert (row["time_to_first_token_ms"] is not None) == stream


async def test_calls_in_a_running_loop_are_recorded_when_they_return(
    tracked: Recorder, anthropic: AnthropicServer
) -> None:
    given = {"model": CLAUDE, "messages": MESSAGES, "api_base": anthropic.base_url, "api_key": "sk"}
    await consume(litellm.acompletion(**given))
    assert len(tracked.rows()) == 1
    await consume(litellm.acompletion(**given, stream=True))
    assert len(tracked.rows()) == 2


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("model", [CLAUDE, "gpt-4.1"])
def test_a_rejected_request_is_one_failed_record(
    tracked: Recorder, anthropic: AnthropicServer, model: str, asynchronous: bool
) -> None:
    anthropic.status = 400
    tracked.endpoint.script(Reply(status=400, error="not like this"))
    base = anthropic.base_url if model == CLAUDE else tracked.endpoint.base_url
    with pytest.raises(litellm.BadRequestError, match="not like this"):
        call(tracked, "completion", asynchronous, model=model, messages=MESSAGES, api_base=base)
    (row,) = tracked.rows()
    assert (row["success"], row["error_type"]) == (False, "BadRequestError")


def test_a_retried_call_is_one_record_per_request(tracked: Recorder, anthropic: AnthropicServer) -> None:
    anthropic.status = 500
    with pytest.raises(litellm.InternalServerError):
        call(
            tracked,
            "completion",
            False,
            model=CLAUDE,
            messages=MESSAGES,
            api_base=anthropic.base_url,
            num_retries=2,
        )
    assert [row["success"] for row in tracked.rows()] == [False] * len(anthropic.requests)
    assert len(anthropic.requests) > 1


def test_a_stream_over_http_has_the_usage_that_the_program_requests(tracked: Recorder) -> None:
    given = {"model": "deepseek/deepseek-chat", "messages": MESSAGES, "stream": True}
    call(tracked, "completion", False, **given, stream_options={"include_usage": True})
    (row,) = tracked.rows()
    assert row["prompt_tokens"] == tracked.endpoint.requests[0].prompt_tokens
    assert "usage" not in row["metadata"]


# A stream of Anthropic itself needs the packages of LiteLLM's proxy.
@pytest.mark.parametrize(("model", "stream"), [(CLAUDE, False), ("openai/gpt-4.1", False), ("openai/gpt-4.1", True)])
def test_anthropic_messages_are_one_record(
    tracked: Recorder, anthropic: AnthropicServer, model: str, stream: bool
) -> None:
    base = anthropic.base_url if model == CLAUDE else tracked.endpoint.base_url
    given = {"model": model, "messages": MESSAGES[1:], "max_tokens": 100, "api_base": base, "api_key": "sk"}
    asyncio.run(consume(litellm.anthropic.messages.acreate(**given, stream=stream)))
    assert len(anthropic.requests) + len(tracked.endpoint.requests) == 1
    (row,) = tracked.rows()
    assert row["prompt_tokens"] == (2316 if model == CLAUDE else tracked.endpoint.requests[0].prompt_tokens)


def test_a_call_that_sends_nothing_is_not_recorded(tracked: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    for _ in range(2):
        call(tracked, "completion", False, model="deepseek/deepseek-chat", messages=MESSAGES)
        call(tracked, "completion", True, model="gpt-4.1", messages=MESSAGES)
    call(tracked, "completion", False, model="gpt-4.1", messages=[], mock_response="hello")
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(model="nobody-serves-this", messages=MESSAGES)
    assert len(tracked.rows()) == len(tracked.endpoint.requests) == 2


def test_direct_calls_of_the_sdk_are_still_recorded(tracked: Recorder, anthropic: AnthropicServer) -> None:
    with OpenAI() as client:
        call(tracked, "completion", False, model=CLAUDE, messages=MESSAGES, api_base=anthropic.base_url)
        client.chat.completions.create(model="gpt-4.1", messages=MESSAGES)  # type: ignore[arg-type]
        call(tracked, "completion", False, model="gpt-4.1", messages=MESSAGES)
        client.chat.completions.create(model="gpt-4.1", messages=MESSAGES)  # type: ignore[arg-type]
    assert [row["provider"].partition("@")[0] for row in tracked.rows()] == ["anthropic", *["unknown"] * 3]


def test_a_stream_that_is_not_read_to_its_end_is_one_record(tracked: Recorder, anthropic: AnthropicServer) -> None:
    stream = litellm.completion(CLAUDE, MESSAGES, api_base=anthropic.base_url, api_key="sk", stream=True)
    next(stream)
    del stream
    deadline = time.monotonic() + 10
    while not tracked.rows() and time.monotonic() < deadline:  # LiteLLM's threads release the stream after a moment
        gc.collect()
    (row,) = tracked.rows()
    assert (row["metadata"]["ended"], row["prompt_tokens"]) == ("abandoned", None)


def test_the_router_and_its_fallbacks_are_recorded(tracked: Recorder, anthropic: AnthropicServer) -> None:
    anthropic.status = 400
    models = [
        {"model_name": "first", "litellm_params": {"model": CLAUDE, "api_base": anthropic.base_url, "api_key": "x"}},
        {
            "model_name": "second",
            "litellm_params": {
                "model": "deepseek/deepseek-chat",
                "api_base": tracked.endpoint.base_url,
                "api_key": "x",
            },
        },
    ]
    router = litellm.Router(model_list=models, fallbacks=[{"first": ["second"]}], num_retries=0)
    router.completion("first", MESSAGES)
    asyncio.run(consume(router.acompletion("first", MESSAGES)))
    rows = tracked.rows()
    assert len(rows) == len(anthropic.requests) + len(tracked.endpoint.requests)
    assert [row["success"] for row in rows] == [False, True] * 2


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_custom_provider_is_one_record(
    tracked: Recorder, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the provider calls the SDK, the SDK's request is recorded; otherwise no request can be observed."""

    class Own(litellm.CustomLLM):  # type: ignore[misc, name-defined]
        def completion(self, *args: Any, **kwargs: Any) -> Any:
            if kwargs["model"] == "sdk":
                with OpenAI() as client:
                    client.chat.completions.create(model="gpt-4.1", messages=MESSAGES)  # type: ignore[arg-type]
            answer = kwargs["model_response"]
            answer.usage = litellm.Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
            return answer

        async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(self.completion, *args, **kwargs)

    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "own", "custom_handler": Own()}])
    litellm.utils.custom_llm_setup()
    call(tracked, "completion", asynchronous, model="own/plain", messages=MESSAGES)
    assert [row["prompt_tokens"] for row in tracked.rows()] == [10]


def test_tracking_twice_changes_nothing_and_uninstrument_restores(recorder: Recorder) -> None:
    from litellm.litellm_core_utils.litellm_logging import Logging

    before = dict(vars(Logging))
    callbacks = list(litellm.callbacks)
    track()
    track()
    call(recorder, "completion", False, model="deepseek/deepseek-chat", messages=MESSAGES)
    assert len(recorder.rows()) == 1
    uninstrument()
    assert dict(vars(Logging)) == before
    assert litellm.callbacks == callbacks
    call(recorder, "completion", False, model="deepseek/deepseek-chat", messages=MESSAGES)
    assert len(recorder.rows()) == 1


def test_the_program_gets_the_same_responses_as_without_us(recorder: Recorder) -> None:
    def answers() -> list[Any]:
        found = []
        for function, given in CALLS.values():
            for stream in (False, True):
                recorder.endpoint.script(Reply(text="one two three", cold=True))
                answer = call(recorder, function, False, **given, **({"stream": True} if stream else {}))
                found.append(
                    [(type(part).__name__, len(str(part.model_dump()))) for part in answer]
                    if stream
                    else type(answer).__name__
                )
        return found

    check: Callable[[], list[Any]] = answers
    without = check()
    track()
    assert check() == without


@pytest.mark.parametrize(
    ("tracks", "expected"), [("", 1), ("from rlm_cachetrack.integrations import litellm as ours; ours.track()", 0)]
)
def test_a_program_without_track_gets_one_log_line(tmp_path: Path, tracks: str, expected: int) -> None:
    found = hints_of(f"import litellm\n{tracks}", tmp_path)
    assert len(found) == expected
    assert all("from rlm_cachetrack.integrations.litellm import track; track()" in line for line in found)
