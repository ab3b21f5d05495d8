"""Recorded usages of real providers, if available, are read correctly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
)

from rlm_cachetrack.usage import locate_usage, plain, read_usage
from tests.support.recorded import ABSENT, FIELDS, FILE, expected_tokens, load

ROOT = Path(__file__).resolve().parents[3]


needs_corpus = pytest.mark.skipif(not FILE.is_file(), reason=ABSENT)


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return load()


def payloads(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the body, or the data of each event of a stream."""
    if isinstance(case.get("response_json"), dict):
        yield case["response_json"]
    for line in (case.get("response_sse") or "").splitlines():
        if line.startswith("data:"):
            try:
                data = json.loads(line[5:])
            except ValueError:  # [DONE] and truncated events
                continue
            if isinstance(data, dict):
                yield data


def raw_usage(case: dict[str, Any]) -> dict[str, Any] | None:
    """Return the last usage that is not null; the API sends cumulative totals."""
    last = None
    for payload in payloads(case):
        last = locate_usage(payload) or last
    return plain(last)


@needs_corpus
@pytest.mark.parametrize("know_provider", [False, True], ids=["behind a proxy", "provider known"])
def test_recorded_usages_are_read_as_expected_with_documented_exceptions(
    cases: list[dict[str, Any]], know_provider: bool
) -> None:
    kinds: Counter[str] = Counter()
    wrong = []
    for case in cases:
        want, kind = expected_tokens(case)
        reading = read_usage(raw_usage(case), provider=case["provider"] if know_provider else None)
        kinds[kind] += 1
        if {name: getattr(reading, name) for name in FIELDS} != want:
            wrong.append((case["id"], case["provider"], want, reading))
        assert reading.reasoning_tokens == case["extra"].get("reasoning_tokens"), case["id"]
        if kind == "cached tokens counted apart":
            assert reading.anomaly == "cached_outside_prompt", case["id"]
    assert wrong == []
    assert {kind: kinds[kind] for kind in kinds if kind != "equal"} == {
        "cached tokens counted apart": 33,
        "reasoning counted apart": 40,
        "spelling that a plain reading does not know": 40,
    }


@needs_corpus
def test_no_recorded_usage_gives_a_hit_rate_over_one(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        reading = read_usage(raw_usage(case))
        if reading.cached_tokens:
            assert reading.prompt_tokens is not None
            assert reading.cached_tokens <= reading.prompt_tokens, case["id"]


@needs_corpus
def test_recorded_costs_are_read(cases: list[dict[str, Any]]) -> None:
    """Costs in the corpus, and in two forms that it lacks: Perplexity's object and xAI's ticks."""
    for case in cases:
        raw = raw_usage(case)
        noted = case["extra"].get("cost")
        ticks = (raw or {}).get("cost_in_usd_ticks")
        if ticks:
            noted = ticks / 10**10
        elif isinstance((raw or {}).get("cost"), dict):
            noted = raw["cost"]["total_cost"]  # type: ignore[index]
        assert read_usage(raw).provider_cost_usd == noted, case["id"]


@needs_corpus
def test_objects_of_the_sdk_give_the_same_usage_as_the_recorded_json(cases: list[dict[str, Any]]) -> None:
    models = {
        "chat": ChatCompletion,
        "responses": Response,
        "completions": Completion,
        "embeddings": CreateEmbeddingResponse,
    }
    compared = 0
    for case in cases:
        for payload in payloads(case):
            if case.get("response_sse"):
                if case["api"] == "responses" and payload.get("type") != "response.completed":
                    continue
                chunk = Completion if case["api"] == "completions" else ChatCompletionChunk
                model: Any = ResponseCompletedEvent if case["api"] == "responses" else chunk
            else:
                model = models[case["api"]]
            found = locate_usage(model.construct(**payload))
            assert plain(found) == plain(locate_usage(payload)), case["id"]
            compared += found is not None
    assert compared >= 1085  # every usage of the corpus, including the repeated ones of streams
