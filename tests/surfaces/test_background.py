"""Background responses and retrieved responses: one record per response, with its usage counted once."""

from __future__ import annotations

import inspect
from typing import Any

import openai
import pytest
from openai.resources.responses import Responses

from rlm_cachetrack import instrument, stats
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import ScriptedServer
from tests.surfaces.calls import BY_NAME, MODES, TOKENS, client_of, entering, first, items, settled, with_and_without

NUMBERS = BY_NAME["responses.create"].tokens
FORMS = ("plain", "raw", "streaming response")
retrieves_streams = pytest.mark.skipif(
    "stream" not in inspect.signature(Responses.retrieve).parameters,
    reason=f"openai {openai.__version__} retrieves no streams",
)
cancels = pytest.mark.skipif(
    not hasattr(Responses, "cancel"), reason=f"openai {openai.__version__} has no responses.cancel"
)


async def begin(client: Any, form: str = "plain", **more: Any) -> Any:
    """Start a background response, as `background=True` does (openai 1.66 does not have that argument)."""
    return await call_and_parse(
        client, form, "create", model="gpt-5", input="hello", extra_body={"background": True}, **more
    )


async def call_and_parse(client: Any, form: str, method: str, *args: Any, **more: Any) -> Any:
    """Call a method of the Responses API in a form and return the parsed result."""
    resource = client.responses
    if form == "plain":
        return await settled(getattr(resource, method)(*args, **more))
    if form == "raw":
        return await settled((await settled(getattr(resource.with_raw_response, method)(*args, **more))).parse())
    async with entering(getattr(resource.with_streaming_response, method)(*args, **more)) as response:
        return await settled(response.parse())


def compare(server: ScriptedServer, sink: MemorySink, mode: str, act: Any) -> Any:
    with_us, without = with_and_without(
        server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
    )
    assert with_us == without
    return with_us


def check_finished(row: dict[str, Any]) -> None:
    assert {name: row[name] for name in TOKENS} == NUMBERS
    assert (row["api"], row["success"], row["finish_reason"]) == ("responses", True, "completed")
    assert row["metadata"]["background"] is True
    assert "usage" not in row["metadata"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("retrieved", FORMS)
@pytest.mark.parametrize("created", FORMS)
def test_a_background_response_is_counted_once_when_retrieved_complete(
    server: ScriptedServer, sink: MemorySink, created: str, retrieved: str, mode: str
) -> None:
    counts: list[int] = []

    async def act(client: Any) -> Any:
        observed = [await begin(client, created)]
        counts.append(stats()["recorded"])
        while observed[-1].status in ("queued", "in_progress"):
            observed.append(await call_and_parse(client, retrieved, "retrieve", observed[0].id))
            counts.append(stats()["recorded"])
        observed.append(await call_and_parse(client, retrieved, "retrieve", observed[0].id))
        counts.append(stats()["recorded"])
        return [describe(each) for each in observed]

    _, observed = compare(server, sink, mode, act)
    assert [each["fields"]["status"] for each in observed] == ["queued", "in_progress", "completed", "completed"]
    assert counts[4:] == [0, 0, 1, 1]
    check_finished(sink.row)


@cancels
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_a_cancelled_response_is_one_record_without_tokens(
    server: ScriptedServer, sink: MemorySink, form: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        response = await begin(client)
        return describe(await call_and_parse(client, form, "cancel", response.id))

    compare(server, sink, mode, act)
    row = sink.row
    assert all(row[name] is None for name in TOKENS)
    assert (row["finish_reason"], row["metadata"]["usage"]) == ("cancelled", "unknown")


@pytest.mark.parametrize("mode", MODES)
def test_a_background_response_never_retrieved_complete_has_no_tokens(
    server: ScriptedServer, sink: MemorySink, mode: str
) -> None:
    async def act(client: Any) -> Any:
        return describe(await begin(client))

    compare(server, sink, mode, act)
    row = sink.row
    assert all(row[name] is None for name in TOKENS)
    assert row["metadata"]["usage"] == "pending"


@retrieves_streams
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_a_background_response_whose_stream_is_retrieved_is_counted_once(
    server: ScriptedServer, sink: MemorySink, form: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        response = await begin(client)
        if form != "streaming response":
            stream = await call_and_parse(client, form, "retrieve", response.id, stream=True)
            return [describe(event) for event in await items(stream)]
        resource = client.responses.with_streaming_response
        async with entering(resource.retrieve(response.id, stream=True)) as raw:
            return [describe(event) for event in await items(await settled(raw.parse()))]

    compare(server, sink, mode, act)
    check_finished(sink.row)


@pytest.mark.parametrize("mode", MODES)
def test_a_background_stream_read_to_its_end_is_one_record(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    async def act(client: Any) -> Any:
        stream = await begin(client, stream=True)
        return [describe(event) for event in await items(stream)]

    compare(server, sink, mode, act)
    assert {name: sink.row[name] for name in TOKENS} == NUMBERS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["closed", "broken"])
def test_a_background_stream_that_ends_early_and_is_retrieved_is_one_record(
    server: ScriptedServer, sink: MemorySink, ending: str, mode: str
) -> None:
    """The response continues on the server, and a later retrieval returns the rest."""

    async def act(client: Any) -> Any:
        fault = {"x-fault": "cut stream"} if ending == "broken" else {}
        stream = await begin(client, stream=True, extra_headers=fault)
        observed = [await first(stream)]
        if ending == "closed":
            await settled(stream.close())
        else:
            with pytest.raises(Exception, match=r"peer closed|Connection error"):
                await items(stream)
        response_id = observed[0].response.id
        observed += [await call_and_parse(client, "plain", "retrieve", response_id) for _ in range(2)]
        return [describe(each) for each in observed]

    compare(server, sink, mode, act)
    check_finished(sink.row)


@pytest.mark.parametrize("mode", MODES)
def test_a_background_stream_that_breaks_for_good_is_one_failure(
    server: ScriptedServer, sink: MemorySink, mode: str
) -> None:
    async def act(client: Any) -> Any:
        return await items(await begin(client, stream=True, extra_headers={"x-fault": "cut stream"}))

    assert compare(server, sink, mode, act)[0] == "raised"
    row = sink.row
    assert (row["success"], row["prompt_tokens"], row["metadata"]["usage"]) == (False, None, "pending")
    assert row["error_type"] in ("APIConnectionError", "RemoteProtocolError")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_retrieving_a_stored_response_is_not_a_call(
    server: ScriptedServer, sink: MemorySink, form: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        return describe(await call_and_parse(client, form, "retrieve", "resp_stored"))

    compare(server, sink, mode, act)
    assert sink.rows == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["404", "broken json", "drop"])
def test_a_failed_retrieval_raises_the_same_and_makes_no_record(
    server: ScriptedServer, sink: MemorySink, form: str, mode: str, fault: str
) -> None:
    async def act(client: Any) -> Any:
        return describe(await call_and_parse(client, form, "retrieve", "resp_stored", extra_headers={"x-fault": fault}))

    assert compare(server, sink, mode, act)[0] == "raised"
    assert sink.rows == []


@pytest.mark.parametrize("mode", MODES)
def test_a_complete_response_is_recorded_from_a_body_read_without_parser(
    server: ScriptedServer, sink: MemorySink, mode: str
) -> None:
    async def act(client: Any) -> Any:
        response = await begin(client)
        observed = []
        for _ in range(2):
            async with entering(client.responses.with_streaming_response.retrieve(response.id)) as raw:
                observed.append(await settled(raw.read()))
        return observed

    compare(server, sink, mode, act)
    check_finished(sink.row)
