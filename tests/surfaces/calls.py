"""The table of ways to call the SDK: each surface, each form in which it can be called, sync and async.

One function runs a form for both kinds of client: for a sync client, :func:`run` drives it without an event loop, so
that the code under test runs as it does in a synchronous program.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import openai
import pydantic
import pytest
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import instrument
from tests.support.deep import describe, describe_error
from tests.support.memory import MemorySink
from tests.support.scripted import CHAT, EMBEDDINGS, LEGACY, RESPONSES, TEXT, ScriptedServer

MESSAGES: list[Any] = [{"role": "user", "content": "the prompt that nobody may read"}]
MODES = ("sync", "async")
TESTED = ("1.66.0", "1.109.1", "2.54.0", "3.57.0")
"""The versions of the SDK that this table was run on."""

Json = dict[str, Any]


class Answer(pydantic.BaseModel):
    """The output type of calls with structured output."""

    a: int


@dataclass(frozen=True)
class Surface:
    """One method of the SDK.

    Attributes:
        name: As a user writes it.
        api: The library's name of the endpoint that it calls.
        resource: Returns the resource of a client; raises AttributeError if the SDK lacks it.
        method: The method of the resource.
        arguments: The arguments of the call.
        forms: The forms in which it can be called.
        usage: The usage that the scripted server reports for it.
        since: The first tested SDK version that has it.
        raw_since: The first tested SDK version that has its raw responses.
    """

    name: str
    api: str
    resource: Callable[[Any], Any]
    method: str
    arguments: Json
    forms: tuple[str, ...]
    usage: Json
    since: str = "1.66.0"
    raw_since: str = "1.66.0"

    @property
    def tokens(self) -> Json:
        """The token counts of the record, written by hand from the usage that the server reports."""
        if self.usage is CHAT:
            numbers: tuple[Any, ...] = (1200, 34, 1234, 1024, 176, None, 30)
        elif self.usage is RESPONSES:
            numbers = (2300, 45, 2345, 2048, 252, 128, 40)
        elif self.usage is LEGACY:
            numbers = (7, 2, 9, None, None, None, None)
        else:
            numbers = (5, None, 5, None, None, None, None)
        return dict(zip(TOKENS, numbers, strict=True))


TOKENS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "uncached_prompt_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
PLAIN = ("plain", "raw", "streaming response")
STREAMED = ("stream", "raw stream", "streaming response stream")
_CHAT: Json = {"model": "gpt-5", "messages": MESSAGES}
_RESPONSE: Json = {"model": "gpt-5", "input": "the prompt that nobody may read"}

SURFACES = (
    Surface("chat.completions.create", "chat.completions", lambda c: c.chat.completions, "create", _CHAT,
            PLAIN + STREAMED, CHAT),
    Surface("chat.completions.parse", "chat.completions", lambda c: c.chat.completions, "parse",
            {**_CHAT, "response_format": Answer}, PLAIN, CHAT, since="1.109.1", raw_since="1.109.1"),
    Surface("chat.completions.stream", "chat.completions", lambda c: c.chat.completions, "stream",
            {**_CHAT, "response_format": Answer}, ("events",), CHAT, since="1.109.1"),
    Surface("beta.chat.completions.parse", "chat.completions", lambda c: c.beta.chat.completions, "parse",
            {**_CHAT, "response_format": Answer}, PLAIN, CHAT),
    Surface("beta.chat.completions.stream", "chat.completions", lambda c: c.beta.chat.completions, "stream",
            {**_CHAT, "response_format": Answer}, ("events",), CHAT),
    Surface("responses.create", "responses", lambda c: c.responses, "create", _RESPONSE, PLAIN + STREAMED, RESPONSES),
    Surface("responses.parse", "responses", lambda c: c.responses, "parse", {**_RESPONSE, "text_format": Answer},
            ("plain", "raw"), RESPONSES, raw_since="1.109.1"),
    Surface("responses.stream", "responses", lambda c: c.responses, "stream", {**_RESPONSE, "text_format": Answer},
            ("events",), RESPONSES),
    Surface("responses.compact", "responses.compact", lambda c: c.responses, "compact", _RESPONSE, PLAIN, RESPONSES,
            since="2.54.0", raw_since="2.54.0"),
    Surface("beta.responses.create", "responses", lambda c: c.beta.responses, "create", _RESPONSE, PLAIN + STREAMED,
            RESPONSES, since="2.54.0", raw_since="2.54.0"),
    Surface("beta.responses.compact", "responses.compact", lambda c: c.beta.responses, "compact", _RESPONSE, PLAIN,
            RESPONSES, since="2.54.0", raw_since="2.54.0"),
    Surface("completions.create", "completions", lambda c: c.completions, "create",
            {"model": "gpt-5", "prompt": "the prompt that nobody may read"}, PLAIN + STREAMED, LEGACY),
    Surface("embeddings.create", "embeddings", lambda c: c.embeddings, "create",
            {"model": "gpt-5", "input": ["the prompt that nobody may read"]}, PLAIN, EMBEDDINGS),
    Surface("post", "chat.completions", lambda c: c, "post",
            {"path": "/chat/completions", "body": _CHAT, "cast_to": object}, ("plain",), CHAT),
)  # fmt: skip
BY_NAME = {surface.name: surface for surface in SURFACES}
assert len(TEXT) == 8


@functools.cache
def _unused(mode: str) -> Any:
    """Return a client for attribute lookups, which makes no calls."""
    return (OpenAI if mode == "sync" else AsyncOpenAI)(api_key="x", base_url="http://127.0.0.1:1")


def lacking(surface: Surface, form: str, mode: str) -> str | None:
    """Return why the installed SDK cannot be called in this form; None if it can."""
    client = _unused(mode)
    reason = f"openai {openai.__version__} has no "
    try:
        resource = surface.resource(client)
    except AttributeError:
        return reason + surface.name
    if not hasattr(resource, surface.method):
        return reason + surface.name
    prefix = prefix_of(form)
    if prefix and not hasattr(getattr(resource, prefix), surface.method):
        return reason + f"{prefix} of {surface.name}"
    return None


def require(surface: Surface, form: str, mode: str) -> None:
    """Skip the test, with the reason, if the installed SDK cannot be called in this form."""
    if reason := lacking(surface, form, mode):
        pytest.skip(reason)


def prefix_of(form: str) -> str | None:
    """Return the attribute of a resource that a raw form uses; None for other forms."""
    if form.startswith("raw"):
        return "with_raw_response"
    return "with_streaming_response" if form.startswith("streaming response") else None


# -- one function for sync and async ----------------------------------------------------------------------------------


async def settled(value: Any) -> Any:
    """Return the value, awaited if it is awaitable."""
    return await value if inspect.isawaitable(value) else value


async def items(stream: Any) -> list[Any]:
    """Return all items of a stream."""
    if hasattr(stream, "__aiter__"):
        return [item async for item in stream]
    return list(stream)


async def first(stream: Any) -> Any:
    """Return the next item of a stream."""
    return await stream.__anext__() if hasattr(stream, "__anext__") else next(stream)


class entering:  # noqa: N801 - reads as a word in `async with entering(manager)`
    """Enter a manager by ``with`` or ``async with``, depending on its type."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        enter = getattr(self._manager, "__aenter__", None) or self._manager.__enter__
        return await settled(enter())

    async def __aexit__(self, *exc: Any) -> Any:
        leave = getattr(self._manager, "__aexit__", None) or self._manager.__exit__
        return await settled(leave(*exc))


def run(mode: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end: async in a new event loop, sync without one."""
    if mode == "async":
        return asyncio.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("a sync client waited for an event loop")


# -- the forms --------------------------------------------------------------------------------------------------------


async def call(client: Any, surface: Surface, form: str, headers: Json | None = None) -> list[Any]:
    """Call a surface in a form and return the description of everything the caller can look at."""
    prefix = prefix_of(form)
    resource = surface.resource(client)
    method = getattr(getattr(resource, prefix) if prefix else resource, surface.method)
    arguments = dict(surface.arguments)
    if form.endswith("stream"):
        arguments["stream"] = True
    if form == "streaming response stream" and surface.api in ("chat.completions", "completions"):
        arguments["stream_options"] = {"include_usage": True}  # the library does not request it for streaming responses
    if headers:
        arguments |= {"options": {"headers": headers}} if surface.method == "post" else {"extra_headers": headers}
    if form == "events":
        return await _events(method(**arguments))
    if prefix == "with_streaming_response":
        async with entering(method(**arguments)) as response:
            observed = [describe(response)]
            observed += await _parsed(response, form)
            return [*observed, describe(response)]
    result = await settled(method(**arguments))
    if prefix:
        return [describe(result), *await _parsed(result, form), describe(result)]
    return await _read(result) if form == "stream" else [describe(result)]


async def _parsed(response: Any, form: str) -> list[Any]:
    parsed = await settled(response.parse())
    again = await settled(response.parse())
    observed = [again is parsed, *(await _read(parsed) if form.endswith("stream") else [describe(parsed)])]
    if form.endswith("stream"):
        return observed
    text = response.text
    return [*observed, await settled(text() if callable(text) else text)]


async def _read(stream: Any) -> list[Any]:
    observed = [describe(stream), stream.response.is_closed]
    observed += [describe(item) for item in await items(stream)]
    observed += [describe(stream.response), await items(stream)]
    await settled(stream.close())
    return observed


async def _events(manager: Any) -> list[Any]:
    async with entering(manager) as stream:
        observed = [describe(manager), describe(stream)]
        observed += [describe(event) for event in await items(stream)]
        final = getattr(stream, "get_final_completion", None) or stream.get_final_response
        return [*observed, describe(await settled(final()))]


# -- with and without recording ---------------------------------------------------------------------------------------

Act = Callable[[Any], Awaitable[Any]]


def outcome(mode: str, make: Callable[[], Any], prepare: Callable[[Any], Any], act: Act) -> Any:
    """Return what a caller observes: ``("returned", …)`` or ``("raised", …)``."""

    async def play() -> Any:
        client = make()
        prepare(client)
        try:
            return "returned", await act(client)
        except (Exception, asyncio.CancelledError) as error:
            return "raised", describe_error(error)
        finally:
            await settled(client.close())

    return run(mode, play())


def with_and_without(
    server: ScriptedServer, mode: str, make: Callable[[], Any], prepare: Callable[[Any], Any], act: Act
) -> tuple[Any, Any]:
    """Return what a caller observes with and without recording, from a server in the same state."""
    without = outcome(mode, make, lambda client: None, act)
    requests_without = [_comparable(request) for request in server.requests]
    server.rewind()
    with_us = outcome(mode, make, prepare, act)
    assert [_comparable(request) for request in server.requests] == requests_without
    return with_us, without


def assert_recording_changes_nothing(server: ScriptedServer, sink: MemorySink, mode: str, act: Act) -> None:
    """Call an ordinary client with and without recording: both return, and return the same."""
    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert without[0] == "returned"
    assert with_us == without


def _comparable(request: Any) -> Any:
    """Return a request as the server received it, without ``stream_options``, which the library adds.

    The boundary of a form is random.
    """
    body = {name: value for name, value in request.body.items() if name != "stream_options"}
    headers = {name: value for name, value in request.headers.items() if name not in ("content-length", "host")}
    headers["content-type"] = headers.get("content-type", "").partition("; boundary=")[0]
    return request.method, request.path, headers, body


def client_of(server: ScriptedServer, mode: str, **options: Any) -> Any:
    """Return an ordinary client of the scripted server."""
    # Without verification the certificates are not loaded, which takes half of a test's time. The server has no TLS.
    http = (openai.DefaultHttpxClient if mode == "sync" else openai.DefaultAsyncHttpxClient)(verify=False)
    options = {"base_url": server.url, "api_key": "k", "max_retries": 0, "timeout": 120, "http_client": http, **options}
    return (OpenAI if mode == "sync" else AsyncOpenAI)(**options)


def cells(*forms: str) -> list[Any]:
    """Return the parameters ``surface, mode, form`` of every surface, for all of its forms or only those given."""
    return [
        pytest.param(surface, mode, form, id=f"{surface.name}-{mode}-{form.replace(' ', '_')}")
        for surface in SURFACES
        for mode in MODES
        for form in surface.forms
        if not forms or form in forms
    ]
