"""Every kind of client, however and whenever it was created: one record per call, and no other change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from rlm_cachetrack import instrument
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import (
    BY_NAME,
    MODES,
    TOKENS,
    call,
    client_of,
    entering,
    outcome,
    run,
    with_and_without,
)


class OwnOpenAI(OpenAI):
    """A client class that a user defines."""


class OwnAsyncOpenAI(AsyncOpenAI):
    """The async version of it."""


def http_of(mode: str) -> Any:
    return (openai.DefaultHttpxClient if mode == "sync" else openai.DefaultAsyncHttpxClient)(verify=False)


def bedrock(server: ScriptedServer, mode: str) -> Any:
    kind = getattr(openai, "BedrockOpenAI" if mode == "sync" else "AsyncBedrockOpenAI", None)
    if kind is None:
        pytest.skip(f"openai {openai.__version__} has no BedrockOpenAI")
    return kind(base_url=server.url, api_key="k", aws_region="us-east-1", max_retries=0, http_client=http_of(mode))


def azure(server: ScriptedServer, mode: str, **where: Any) -> Any:
    kind = AzureOpenAI if mode == "sync" else AsyncAzureOpenAI
    where = where or {"azure_endpoint": server.origin}
    return kind(**where, api_key="k", api_version="2024-10-21", max_retries=0, http_client=http_of(mode))


def own(server: ScriptedServer, mode: str) -> Any:
    kind = OwnOpenAI if mode == "sync" else OwnAsyncOpenAI
    return kind(base_url=server.url, api_key="k", max_retries=0, http_client=http_of(mode))


KINDS: dict[str, tuple[Callable[[ScriptedServer, str], Any], str]] = {
    "OpenAI": (client_of, "unknown"),
    "a subclass": (own, "unknown"),
    "AzureOpenAI": (azure, "azure"),
    "AzureOpenAI of a deployment": (
        lambda server, mode: azure(server, mode, azure_endpoint=server.origin, azure_deployment="gpt-5"),
        "azure",
    ),
    "AzureOpenAI by base_url": (lambda server, mode: azure(server, mode, base_url=server.origin + "/openai"), "azure"),
    "BedrockOpenAI": (bedrock, "bedrock"),
}
CALLS = [
    ("chat.completions.create", "plain"),
    ("chat.completions.create", "stream"),
    ("chat.completions.create", "raw"),
    ("responses.create", "plain"),
    ("responses.create", "stream"),
    ("embeddings.create", "plain"),
]


def ids(ways: Any) -> list[Any]:
    return [pytest.param(*way, id="-".join(way)) for way in ways]


def check(row: dict[str, Any], name: str, provider: str) -> None:
    assert {column: row[column] for column in TOKENS} == BY_NAME[name].tokens
    assert (row["provider"], row["api"], row["success"]) == (provider, BY_NAME[name].api, True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "form"), ids(CALLS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_client_gives_the_same_and_is_one_record(
    server: ScriptedServer, sink: MemorySink, kind: str, name: str, form: str, mode: str
) -> None:
    make, provider = KINDS[kind]
    with_us, without = with_and_without(
        server,
        mode,
        lambda: make(server, mode),
        lambda client: instrument(client, store=sink),
        lambda client: call(client, BY_NAME[name], form),
    )
    assert without[0] == "returned"
    assert with_us == without
    check(sink.row, name, provider)


DERIVED: dict[str, Callable[[Any], Any]] = {
    "with_options()": lambda client: client.with_options(timeout=9),
    "copy()": lambda client: client.copy(),
    "copy of a copy": lambda client: client.copy().with_options(max_retries=1),
    "with another key": lambda client: client.with_options(api_key="other"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["plain", "stream", "raw"])
@pytest.mark.parametrize(
    ("kind", "derived"),
    [
        pytest.param(kind, derived, id=f"{kind}-{derived}")
        for kind in ("OpenAI", "AzureOpenAI", "BedrockOpenAI")
        for derived in DERIVED
        if (kind, derived)
        != ("BedrockOpenAI", "with another key")  # there, another API key changes the authentication method
    ],
)
def test_a_client_derived_from_an_instrumented_one_is_recorded(
    server: ScriptedServer, sink: MemorySink, kind: str, derived: str, form: str, mode: str
) -> None:
    make, provider = KINDS[kind]
    with_us, without = with_and_without(
        server,
        mode,
        lambda: make(server, mode),
        lambda client: instrument(client, store=sink),
        lambda client: call(DERIVED[derived](client), BY_NAME["chat.completions.create"], form),
    )
    assert without[0] == "returned"
    assert with_us == without
    check(sink.row, "chat.completions.create", provider)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["OpenAI", "AzureOpenAI", "BedrockOpenAI"])
@pytest.mark.parametrize("when", ["made before", "made after", "derived after"])
def test_clients_made_before_and_after_instrument_are_recorded(
    server: ScriptedServer, sink: MemorySink, kind: str, when: str, mode: str
) -> None:
    make, provider = KINDS[kind]

    async def act() -> None:
        if when == "made after":
            instrument(store=sink)
        async with entering(make(server, mode)) as client:
            instrument(store=sink)
            used = client.with_options(timeout=9) if when == "derived after" else client
            await call(used, BY_NAME["chat.completions.create"], "plain")

    run(mode, act())
    check(sink.row, "chat.completions.create", provider)


@pytest.mark.parametrize("mode", MODES)
def test_a_client_not_passed_to_instrument_is_not_recorded(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    async def act() -> None:
        async with entering(client_of(server, mode)) as mine, entering(client_of(server, mode)) as other:
            instrument(mine, store=sink)
            await call(other, BY_NAME["chat.completions.create"], "stream")
            await call(other.copy(), BY_NAME["responses.create"], "plain")

    run(mode, act())
    assert sink.rows == []
    assert "stream_options" not in server.requests[0].body


@pytest.fixture
def module(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Configure the module ``openai`` itself as a client."""
    openai._reset_client()
    with openai.DefaultHttpxClient(verify=False) as http:
        monkeypatch.setattr(openai, "api_key", "k")
        monkeypatch.setattr(openai, "base_url", server.url + "/")
        monkeypatch.setattr(openai, "http_client", http)
        yield openai
    openai._reset_client()


@pytest.mark.parametrize(("name", "form"), ids([*CALLS, ("completions.create", "plain")]))
def test_the_module_itself_gives_the_same_and_is_one_record(
    server: ScriptedServer, sink: MemorySink, module: Any, name: str, form: str
) -> None:
    if not hasattr(module, name.partition(".")[0]) or isinstance(getattr(module, name.partition(".")[0]), ModuleType):
        pytest.skip(f"openai {openai.__version__} has no openai.{name}")

    class Module:
        """The module in place of a client, with a ``close`` that does nothing."""

        def __getattr__(self, attribute: str) -> Any:
            return getattr(module, attribute)

        def close(self) -> None:
            pass

    def act(client: Any) -> Any:
        return call(client, BY_NAME[name], form)

    without = outcome("sync", Module, lambda client: None, act)
    server.rewind()
    instrument(store=sink)
    with_us = outcome("sync", Module, lambda client: None, act)
    assert without[0] == "returned"
    assert with_us == without
    check(sink.row, name, "unknown")
