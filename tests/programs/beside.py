"""Tests that run together with another instrumentation of the SDK; each ``test_beside_*.py`` provides one."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import uninstrument
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import SYSTEM, Recorder

MODEL = "gpt-4.1"  # not a reasoning model, so that the same text always has the same number of tokens
MESSAGES: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "What is it?"}]
ENDINGS = ("Completions", "Embeddings", "Responses")
TEXT = "one two three four five"


@dataclass
class Clients:
    sync: OpenAI
    asynchronous: AsyncOpenAI


class Theirs(Protocol):
    """The other instrumentation."""

    removable: bool

    def on(self, clients: Clients) -> None: ...

    def off(self) -> None: ...

    def spans(self) -> int:
        """Return the number of spans that it has created so far."""


@pytest.fixture
async def clients(idle_recorder: Recorder) -> AsyncIterator[Clients]:
    with OpenAI(max_retries=0) as sync:
        async with AsyncOpenAI(max_retries=0) as asynchronous:
            yield Clients(sync, asynchronous)


# -- one function per way to call; each returns everything that the caller can observe --------------------------------

Surface = Callable[[Clients], Awaitable[list[Any]]]


def observed(thing: Any) -> Any:
    """Return what a caller can observe of a response or chunk, without the fields that differ between any two calls."""

    def without_varying(value: Any) -> Any:
        if isinstance(value, dict):
            varying = ("id", "item_id", "created", "created_at", "prompt_cache_key")
            return {name: without_varying(item) for name, item in value.items() if name not in varying}
        return [without_varying(item) for item in value] if isinstance(value, list) else value

    return type(thing).__name__, without_varying(thing.to_dict())


async def chat_plain(clients: Clients) -> list[Any]:
    return [observed(clients.sync.chat.completions.create(model=MODEL, messages=MESSAGES))]


async def chat_raw(clients: Clients) -> list[Any]:
    raw = clients.sync.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    return [type(raw).__name__, raw.status_code, observed(raw.parse())]


async def chat_stream(clients: Clients) -> list[Any]:
    stream = clients.sync.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    return [isinstance(stream, openai.Stream), *[observed(chunk) for chunk in stream]]


async def chat_stream_with_usage(clients: Clients) -> list[Any]:
    stream = clients.sync.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    with stream:
        return [observed(chunk) for chunk in stream]


async def chat_async(clients: Clients) -> list[Any]:
    return [observed(await clients.asynchronous.chat.completions.create(model=MODEL, messages=MESSAGES))]


async def chat_async_stream(clients: Clients) -> list[Any]:
    stream = await clients.asynchronous.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    return [isinstance(stream, openai.AsyncStream), *[observed(chunk) async for chunk in stream]]


async def responses_plain(clients: Clients) -> list[Any]:
    return [observed(clients.sync.responses.create(model=MODEL, input=MESSAGES))]


async def responses_stream(clients: Clients) -> list[Any]:
    stream = clients.sync.responses.create(model=MODEL, input=MESSAGES, stream=True)
    return [isinstance(stream, openai.Stream), *[observed(event) for event in stream]]


async def responses_async(clients: Clients) -> list[Any]:
    return [observed(await clients.asynchronous.responses.create(model=MODEL, input=MESSAGES))]


async def responses_async_stream(clients: Clients) -> list[Any]:
    stream = await clients.asynchronous.responses.create(model=MODEL, input=MESSAGES, stream=True)
    return [isinstance(stream, openai.AsyncStream), *[observed(event) async for event in stream]]


CHAT = [chat_plain, chat_raw, chat_stream, chat_stream_with_usage, chat_async, chat_async_stream]
RESPONSES = [responses_plain, responses_stream, responses_async, responses_async_stream]


class BesideTests:
    """Install both instrumentations in either order and remove them in either order.

    The module of each subclass defines the fixture ``theirs``.
    """

    @pytest.mark.parametrize("removed_first", ["ours", "theirs"])
    @pytest.mark.parametrize("installed_first", ["ours", "theirs"])
    @pytest.mark.parametrize("surface", [*CHAT, *RESPONSES], ids=lambda surface: surface.__name__)
    async def test_a_call_has_one_record_their_spans_and_the_same_response(
        self,
        idle_recorder: Recorder,
        theirs: Theirs,
        clients: Clients,
        surface: Surface,
        installed_first: str,
        removed_first: str,
    ) -> None:
        recorder = idle_recorder
        if removed_first == "theirs" and not theirs.removable:
            pytest.skip("this instrumentation cannot be removed")

        async def call(recorded: bool) -> tuple[list[Any], int]:
            """Return what the caller observed, and the number of spans that were created."""
            requests, spans = len(recorder.endpoint.requests), theirs.spans()
            recorder.endpoint.script(Reply(text=TEXT, cold=True))
            answer = await surface(clients)
            (request,) = recorder.endpoint.requests[requests:]
            if recorded:
                recorder.check_only([request])
            else:
                assert request.request_id not in {row["request_id"] for row in recorder.rows()}
            return answer, theirs.spans() - spans

        alone, _ = await call(recorded=False)
        if installed_first == "ours":
            recorder.instrument()
            assert (await call(recorded=True))[0] == alone
            theirs.on(clients)
        else:
            theirs.on(clients)
            recorder.instrument()
        beside, spans = await call(recorded=True)
        if removed_first == "ours":
            uninstrument()
            assert await call(recorded=False) == (beside, spans)
            if not theirs.removable:
                return
            theirs.off()
        else:
            theirs.off()
            recorder.instrument()  # their removal may have removed our patch too; instrument() may be repeated
            assert await call(recorded=True) == (alone, 0)
            uninstrument()
        assert await call(recorded=False) == (alone, 0)
        assert spans > 0 or surface in self.without_spans
        recorder.instrument()
        assert (await call(recorded=True))[0] == alone

    without_spans: tuple[Surface, ...] = ()  # the surfaces that the other library does not instrument

    async def test_repeated_instrumenting_beside_them_makes_one_record_per_call(
        self, idle_recorder: Recorder, theirs: Theirs, clients: Clients
    ) -> None:
        for _ in range(3):
            idle_recorder.instrument()
            theirs.on(clients)
            uninstrument()
        idle_recorder.instrument()
        await chat_plain(clients)
        await chat_async(clients)
        idle_recorder.check(calls=2)


@contextmanager
def sdk_restored() -> Iterator[None]:
    """Undo all changes that the block makes to the classes of the SDK."""
    resources = ("chat.completions", "completions", "embeddings", "responses")
    modules = [importlib.import_module(f"openai.resources.{name}") for name in resources]
    classes = [kind for module in modules for name, kind in vars(module).items() if name.endswith(ENDINGS)]
    classes += [OpenAI, AsyncOpenAI, openai.Stream, openai.AsyncStream]
    before = {kind: dict(vars(kind)) for kind in classes}
    try:
        yield
    finally:
        for kind, attributes in before.items():
            for name in set(vars(kind)) | set(attributes):
                if name not in attributes:
                    delattr(kind, name)
                elif vars(kind).get(name) is not attributes[name]:
                    setattr(kind, name, attributes[name])
