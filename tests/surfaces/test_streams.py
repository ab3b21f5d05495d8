"""However a stream ends, it is recorded once, at that moment, and the caller gets the same as without recording."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from rlm_cachetrack import instrument, stats
from rlm_cachetrack.capture.call import Call
from rlm_cachetrack.capture.streams import watch_stream
from tests.support.deep import describe
from tests.support.memory import MemorySink
from tests.support.scripted import MODEL, TEXT, ScriptedServer
from tests.surfaces.calls import (
    BY_NAME,
    MODES,
    TOKENS,
    Act,
    call,
    client_of,
    entering,
    first,
    items,
    require,
    run,
    settled,
    with_and_without,
)

APIS = ("chat.completions.create", "responses.create", "completions.create")


class Moments:
    """Counts the records at the moments at which the test calls ``look``."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def look(self) -> None:
        self.counts.append(stats()["recorded"])


def compare(
    server: ScriptedServer, sink: MemorySink, mode: str, act: Act, moments: Moments | None = None, **options: Any
) -> Any:
    """Assert that the outcome is the same with and without recording. Returns the outcome and the only record."""
    made: list[int] = []

    def prepare(client: Any) -> None:
        made.append(len(moments.counts) if moments else 0)
        instrument(client, store=sink, **options)

    with_us, without = with_and_without(server, mode, lambda: client_of(server, mode), prepare, act)
    assert with_us == without
    if moments is not None:
        del moments.counts[: made[0]]  # the moments of the run without recording
    return with_us, sink.row


async def opened(client: Any, name: str, fault: str = "") -> Any:
    """Return a stream of which nothing has been read."""
    surface = BY_NAME[name]
    method = getattr(surface.resource(client), surface.method)
    return await settled(method(**surface.arguments, stream=True, extra_headers={"x-fault": fault}))


def check_unknown(row: dict[str, Any], ended: str | None) -> None:
    """Check the record of a stream that ended before its usage arrived."""
    assert all(row[name] is None for name in TOKENS)
    assert (row["total_cost"], row["original_cost"]) == (None, None)
    assert row["metadata"]["usage"] == "unknown"
    assert row["metadata"].get("ended") == ended
    assert (row["success"], row["error_type"]) == (True, None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", APIS)
def test_a_stream_read_to_its_end_is_recorded_with_its_last_item(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    moments = Moments()

    async def act(client: Any) -> Any:
        stream = await opened(client, name)
        moments.look()
        observed = [describe(await first(stream))]
        moments.look()
        observed += [describe(item) for item in await items(stream)]
        moments.look()
        await settled(stream.close())
        return [*observed, stream.response.is_closed]

    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == [0, 0, 1]
    assert {column: row[column] for column in TOKENS} == BY_NAME[name].tokens
    assert "ended" not in row["metadata"]
    assert 0 < row["time_to_first_token_ms"] <= row["duration_ms"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", APIS)
def test_a_read_stream_waits_for_the_garbage_collector_only_if_the_sdk_does(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    """openai 3 frees sync streams at once. Its async streams, and those of openai 1, wait for the collector anyway."""

    async def act(client: Any) -> Any:
        gc.collect()
        gc.disable()
        try:
            stream = await opened(client, name)
            response = weakref.ref(stream.response)
            await items(stream)
            await settled(stream.close())
            del stream
            return response() is None
        finally:
            gc.enable()

    compare(server, sink, mode, act)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("how", ["close()", "response.close()", "leaving its with", "before its first item"])
def test_a_stream_closed_early_is_recorded_when_it_is_closed(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str, how: str
) -> None:
    moments = Moments()

    async def act(client: Any) -> Any:
        stream = await opened(client, name)
        observed = []
        if how == "leaving its with":
            async with entering(stream) as same:
                assert same is stream
                observed += [describe(await first(stream)), describe(await first(stream))]
                moments.look()
        elif how == "response.close()":
            observed += [describe(await first(stream))]
            moments.look()
            response = stream.response
            await settled(getattr(response, "close" if mode == "sync" else "aclose")())
        else:
            if how == "close()":
                observed += [describe(await first(stream))]
            moments.look()
            await settled(stream.close())
        moments.look()
        await settled(stream.close())
        moments.look()
        return [*observed, describe(stream.response)]

    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == [0, 1, 1]
    check_unknown(row, "closed_early")
    assert (row["response_id"] is None) == (how == "before its first item")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("read", [0, 2])
def test_a_stream_without_references_is_recorded_when_it_is_collected(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str, read: int
) -> None:
    moments = Moments()

    async def act(client: Any) -> Any:
        stream = await opened(client, name)
        observed = [describe(await first(stream)) for _ in range(read)]
        response = stream.response
        moments.look()
        del stream
        gc.collect()
        moments.look()
        await settled(getattr(response, "close" if mode == "sync" else "aclose")())
        moments.look()
        return observed

    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == [0, 1, 1]
    assert row["metadata"]["ended"] in ("abandoned", "closed_early")
    check_unknown(row, row["metadata"]["ended"])


def test_streams_left_open_at_the_end_of_their_event_loop_log_nothing(
    server: ScriptedServer, sink: MemorySink, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop closes all generators at once. It logs errors of some generators of the SDK even without recording."""
    held = []

    async def act() -> None:
        client = instrument(client_of(server, "async"), store=sink)
        for _ in range(8):
            held.append(await opened(client, "chat.completions.create"))
            await first(held[-1])

    run("async", act())
    held.clear()
    gc.collect()
    assert "_async_items" not in caplog.text
    assert len(sink.rows) == 8


def test_a_stream_that_is_collected_leaves_the_sdks_generator_to_the_event_loop() -> None:
    """The loop closes ours and the SDK's generator in separate tasks; closing one of them twice is an error."""

    class Stream:
        def __init__(self, iterator: Any) -> None:
            self._iterator = iterator
            self.response = None

    async def events() -> AsyncIterator[int]:  # the SDK's generator, which closes its connection at the end
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)

    async def act() -> None:
        lines: list[bytes] = []
        taker = type("Taker", (), {"append": staticmethod(lines.append)})()
        theirs = events()
        stream = Stream(theirs)
        watch_stream(stream, Call(taker, "chat.completions", "openai", {}, stream=True))
        ours = stream._iterator
        assert await anext(ours) == 1
        del stream
        gc.collect()
        assert len(lines) == 1  # abandoned
        assert await asyncio.gather(ours.aclose(), theirs.aclose()) == [None, None]
        assert len(lines) == 1

    asyncio.run(act())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", APIS)
def test_an_exception_of_the_caller_propagates_and_the_call_is_no_failure(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        async with entering(await opened(client, name)) as stream:
            await first(stream)
            raise LookupError("the caller's own")

    (outcome, raised), row = compare(server, sink, mode, act)
    assert (outcome, raised["type"]) == ("raised", "builtins.LookupError")
    check_unknown(row, "closed_early")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", APIS)
def test_a_loop_that_ends_early_and_a_later_close_are_one_record(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        stream = await opened(client, name)
        if mode == "sync":
            for _item in stream:
                break
        else:
            async for _item in stream:
                break
        rest = len(await items(stream)) if mode == "sync" else 0
        await settled(stream.close())
        return [rest, stream.response.is_closed]

    _, row = compare(server, sink, mode, act)
    assert row["success"] is True


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("fault", ["hold", "hold stream"])
def test_a_cancelled_task_is_one_failure(server: ScriptedServer, sink: MemorySink, name: str, fault: str) -> None:
    """The task is cancelled while it waits for the response or for the next item of a stream."""

    async def act(client: Any) -> Any:
        waiting = asyncio.Event()

        async def read() -> None:
            stream = await opened(client, name, fault)
            for _ in range(2):
                await first(stream)
            waiting.set()
            await first(stream)

        task = asyncio.create_task(read())
        if fault == "hold stream":
            await waiting.wait()  # the task cannot receive the next item before it is cancelled
        else:
            await asyncio.to_thread(server.held.wait, 10)
        task.cancel()
        await task

    (outcome, raised), row = compare(server, sink, "async", act)
    assert (outcome, raised["type"]) == ("raised", "asyncio.exceptions.CancelledError")
    assert (row["success"], row["error_type"]) == (False, "CancelledError")
    assert all(row[column] is None for column in TOKENS)
    assert row["duration_ms"] > 0


def test_a_task_cancelled_between_two_items_closes_its_stream_early(server: ScriptedServer, sink: MemorySink) -> None:
    async def act(client: Any) -> Any:
        reading = asyncio.Event()

        async def read() -> None:
            async with await opened(client, "chat.completions.create") as stream:
                await first(stream)
                reading.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        await task

    _, row = compare(server, sink, "async", act)
    check_unknown(row, "closed_early")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["chat.completions.stream", "beta.chat.completions.stream", "responses.stream"])
@pytest.mark.parametrize("left", ["inside", "by an exception", "not entered"])
def test_a_helper_that_is_exited_early_is_at_most_one_record(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str, left: str
) -> None:
    surface = BY_NAME[name]
    require(surface, "events", mode)
    moments = Moments()

    async def act(client: Any) -> Any:
        manager = getattr(surface.resource(client), surface.method)(**surface.arguments)
        if left == "not entered":
            for waiting in vars(manager).values():
                if asyncio.iscoroutine(waiting):
                    waiting.close()  # Python warns about a coroutine that is never awaited
            return [describe(manager)]
        async with entering(manager) as stream:
            observed = [describe(await first(stream))]
            if left == "by an exception":
                raise LookupError("the caller's own")
            moments.look()
        moments.look()
        return observed

    if left == "not entered":
        with_us, without = with_and_without(
            server, mode, lambda: client_of(server, mode), lambda client: instrument(client, store=sink), act
        )
        assert with_us == without
        assert sink.rows == []
        return
    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == ([0, 1] if left == "inside" else [])
    check_unknown(row, "closed_early")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["chat.completions.create", "completions.create"])
@pytest.mark.parametrize("form", ["stream", "raw stream"])
def test_a_server_that_sends_no_usage_leaves_the_tokens_unknown(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str, form: str
) -> None:
    _, row = compare(server, sink, mode, lambda client: call(client, BY_NAME[name], form, {"x-fault": "no usage"}))
    check_unknown(row, None)
    assert row["response_length"] == len(TEXT)


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_call_beside_text_is_counted(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    surface = BY_NAME["chat.completions.create"]
    _, row = compare(
        server, sink, mode, lambda client: call(client, surface, "stream", {"x-fault": "text with a call"})
    )
    assert (row["has_tool_calls"], row["tool_call_count"], row["response_length"]) == (True, 1, len(TEXT))


# -- asking for usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["stream", "raw stream"])
@pytest.mark.parametrize("fault", ["stream_options", "stream_options 422"])
@pytest.mark.parametrize("name", ["chat.completions.create", "completions.create"])
def test_a_server_that_rejects_stream_options_still_streams(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str, form: str, fault: str
) -> None:
    surface = BY_NAME[name]

    def once(client: Any) -> Any:
        return call(client, surface, form, {"x-fault": fault})

    outcomes = []
    for prepare in (lambda client: client, lambda client: instrument(client, store=sink)):
        server.rewind()

        async def twice(prepare: Callable[[Any], Any] = prepare) -> Any:
            async with entering(client_of(server, mode)) as client:
                prepare(client)
                return [await once(client), await once(client)]

        outcomes.append(run(mode, twice()))
    assert outcomes[0] == outcomes[1]
    # Usage is requested once and rejected; the request is sent again unchanged, and later ones do not request usage.
    assert [bool(request.body.get("stream_options")) for request in server.requests] == [True, False, False]
    for row in sink.rows:
        check_unknown(row, None)
    assert [row["metadata"].get("stream_options") for row in sink.rows] == ["refused", None]


@pytest.mark.parametrize("mode", MODES)
def test_an_error_that_only_quotes_stream_options_is_raised(
    server: ScriptedServer, sink: MemorySink, mode: str
) -> None:
    """The server rejects something else and quotes the whole request; the next stream still requests usage."""
    surface = BY_NAME["chat.completions.create"]

    async def act() -> Any:
        async with entering(client_of(server, mode)) as client:
            instrument(client, store=sink)
            with pytest.raises(Exception, match="cannot read"):
                await call(client, surface, "stream", {"x-fault": "quotes the request"})
            await call(client, surface, "stream")

    run(mode, act())
    failed, fine = sink.rows
    assert (failed["success"], fine["success"]) == (False, True)
    assert fine["prompt_tokens"] == 1200


@pytest.mark.parametrize("mode", MODES)
def test_usage_requests_can_be_disabled_for_one_client(server: ScriptedServer, sink: MemorySink, mode: str) -> None:
    surface = BY_NAME["chat.completions.create"]

    async def act() -> Any:
        async with entering(client_of(server, mode)) as client, entering(client_of(server, mode)) as other:
            instrument(client, store=sink, stream_usage=False)
            instrument(other)
            for each in (client, client.with_options(timeout=5), other):
                await call(each, surface, "stream")

    run(mode, act())
    assert ["stream_options" in request.body for request in server.requests] == [False, False, True]
    first_row, copied, asked = sink.rows
    check_unknown(first_row, None)
    check_unknown(copied, None)
    assert asked["prompt_tokens"] == 1200


# -- raw streams that are not parsed ----------------------------------------------------------------------------------


OWN_WAYS = ("iter_lines", "iter_bytes", "iter_text", "read", "text", "json")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", OWN_WAYS)
@pytest.mark.parametrize(
    ("name", "stream"),
    [
        pytest.param("chat.completions.create", False, id="a chat"),
        pytest.param("chat.completions.create", True, id="a chat's stream"),
        pytest.param("responses.create", True, id="a response's stream"),
    ],
)
def test_a_streaming_response_whose_body_the_caller_reads_is_one_record(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str, how: str, stream: bool
) -> None:
    """Usage is not requested for such a response, but it is recorded if the body contains it."""
    if how == "json" and stream:
        how = "read"  # events are not JSON
    surface = BY_NAME[name]
    moments = Moments()

    async def act(client: Any) -> Any:
        method = getattr(surface.resource(client).with_streaming_response, surface.method)
        async with entering(method(**surface.arguments, **({"stream": True} if stream else {}))) as response:
            read = getattr(response, how)()
            observed = await items(read) if how.startswith("iter") else await settled(read)
            moments.look()
        moments.look()
        return [observed, describe(response)]

    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == [0, 1]
    assert "stream_options" not in server.requests[-1].body
    if stream and name == "chat.completions.create":  # usage was not requested
        check_unknown(row, None)
    else:
        assert {column: row[column] for column in TOKENS} == surface.tokens
    assert (row["success"], row["response_length"]) == (True, len(TEXT))
    assert row["time_to_first_token_ms"] is None  # the body is not read item by item


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["nothing", "a line", "raw bytes"])
def test_a_streaming_response_that_is_not_read_to_its_end_is_one_record(
    server: ScriptedServer, sink: MemorySink, mode: str, how: str
) -> None:
    surface = BY_NAME["chat.completions.create"]
    moments = Moments()

    async def act(client: Any) -> Any:
        method = client.chat.completions.with_streaming_response.create
        async with entering(method(**surface.arguments, stream=True)) as response:
            if how == "raw bytes":
                raw = response.http_response
                return [len(await items(raw.iter_raw() if mode == "sync" else raw.aiter_raw())) > 0]
            lines = response.iter_lines()
            observed = [await first(lines)] if how == "a line" else []
            if mode == "async":
                await lines.aclose()
            else:
                lines.close()
        moments.look()
        return observed

    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == ([] if how == "raw bytes" else [1])
    check_unknown(row, None if how == "raw bytes" else "closed_early")
    assert row["model"] == (MODEL if how == "a line" else "gpt-5")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["iter_lines", "read"])
@pytest.mark.parametrize("fault", ["cut stream", "cut body"])
def test_a_streaming_response_that_breaks_while_it_is_read_is_one_failure(
    server: ScriptedServer, sink: MemorySink, mode: str, how: str, fault: str
) -> None:
    surface = BY_NAME["chat.completions.create"]
    stream = {"stream": True} if fault == "cut stream" else {}

    async def act(client: Any) -> Any:
        method = client.chat.completions.with_streaming_response.create
        async with entering(method(**surface.arguments, **stream, extra_headers={"x-fault": fault})) as response:
            read = getattr(response, how)()
            return await items(read) if how == "iter_lines" else await settled(read)

    (outcome, raised), row = compare(server, sink, mode, act)
    assert outcome == "raised"
    assert (row["success"], row["error_type"]) == (False, raised["type"].rpartition(".")[2])
    assert all(row[column] is None for column in TOKENS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["iter_lines", "iter_bytes"])
def test_reading_a_body_twice_raises_and_the_call_is_no_failure(
    server: ScriptedServer, sink: MemorySink, mode: str, how: str
) -> None:
    surface = BY_NAME["chat.completions.create"]

    async def act(client: Any) -> Any:
        async with entering(client.chat.completions.with_streaming_response.create(**surface.arguments)) as response:
            await items(getattr(response, how)())
            return await items(getattr(response, how)())

    (outcome, raised), row = compare(server, sink, mode, act)
    assert (outcome, raised["type"].rpartition(".")[2]) == ("raised", "StreamConsumed")
    assert {column: row[column] for column in TOKENS} == surface.tokens
    assert row["success"] is True


@pytest.mark.parametrize("mode", MODES)
def test_a_raw_stream_that_is_never_parsed_is_recorded_when_it_is_collected(
    server: ScriptedServer, sink: MemorySink, mode: str
) -> None:
    moments = Moments()

    async def act(client: Any) -> Any:
        arguments = BY_NAME["chat.completions.create"].arguments
        raw = await settled(client.chat.completions.with_raw_response.create(**arguments, stream=True))
        response = raw.http_response
        moments.look()
        del raw
        gc.collect()
        moments.look()
        await settled(getattr(response, "close" if mode == "sync" else "aclose")())
        return []

    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == [0, 1]
    check_unknown(row, "abandoned")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", APIS)
def test_a_raw_response_without_references_does_not_end_its_stream(
    server: ScriptedServer, sink: MemorySink, name: str, mode: str
) -> None:
    surface = BY_NAME[name]

    async def act(client: Any) -> Any:
        method = getattr(surface.resource(client).with_raw_response, surface.method)
        stream = (await settled(method(**surface.arguments, stream=True))).parse()
        observed = [describe(await first(stream))]
        gc.collect()
        return observed + [describe(item) for item in await items(stream)]

    _, row = compare(server, sink, mode, act)
    assert {column: row[column] for column in TOKENS} == surface.tokens
    assert row["metadata"].get("ended") is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["lines", "read"])
@pytest.mark.parametrize("name", APIS)
def test_a_raw_stream_whose_body_the_caller_reads_is_recorded_with_its_last_byte(
    server: ScriptedServer, sink: MemorySink, name: str, how: str, mode: str
) -> None:
    moments = Moments()
    surface = BY_NAME[name]
    asked = {} if name == "responses.create" else {"stream_options": {"include_usage": True}}

    async def act(client: Any) -> Any:
        method = getattr(surface.resource(client).with_raw_response, surface.method)
        raw = await settled(method(**surface.arguments, **asked, stream=True))
        observed = await body_of(raw.http_response, how, mode)
        moments.look()
        return [observed, describe(raw)]

    _, row = compare(server, sink, mode, act, moments)
    assert moments.counts == [1]
    assert {column: row[column] for column in TOKENS} == surface.tokens
    assert (row["success"], row["model"], row["metadata"].get("ended")) == (True, MODEL, None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["lines", "read"])
def test_a_raw_stream_whose_body_breaks_while_it_is_read_is_one_failure(
    server: ScriptedServer, sink: MemorySink, how: str, mode: str
) -> None:
    async def act(client: Any) -> Any:
        arguments = {**BY_NAME["chat.completions.create"].arguments, "extra_headers": {"x-fault": "cut stream"}}
        raw = await settled(client.chat.completions.with_raw_response.create(**arguments, stream=True))
        return await body_of(raw.http_response, how, mode)

    (outcome, raised), row = compare(server, sink, mode, act)
    assert outcome == "raised"
    assert (row["success"], row["error_type"]) == (False, raised["type"].rpartition(".")[2])


async def body_of(response: Any, how: str, mode: str) -> Any:
    if how == "read":
        return await settled(response.read() if mode == "sync" else response.aread())
    return await items(response.iter_lines() if mode == "sync" else response.aiter_lines())
