"""``integrations.openai_agents.track()``: websockets, Realtime sessions, and the run context of agents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from rlm_cachetrack import ConfigError, RecordError, query_run, uninstrument
from rlm_cachetrack.integrations.openai_agents import track
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import Recorder, hints_of
from tests.support import realtime_events, socket_server
from tests.support.socket_server import Peer, SocketServer

agents = pytest.importorskip("agents", reason="the package openai-agents is not installed")
realtime = pytest.importorskip("agents.realtime")

# openai-agents does not close its client.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def tracked(recorder: Recorder) -> Iterator[Recorder]:
    agents.set_tracing_disabled(True)  # otherwise the package sends traces to api.openai.com
    track()
    yield recorder
    uninstrument()


def agent(name: str = "Clerk", **more: Any) -> Any:
    if "model" not in more:  # with a new client, because the package's client is cached and belongs to one event loop
        more["model"] = agents.OpenAIResponsesModel("gpt-4.1", AsyncOpenAI(max_retries=0))
    return agents.Agent(name=name, instructions="Be brief.", **more)


async def run(starting: Any, streamed: bool, **more: Any) -> Any:
    if not streamed:
        return await agents.Runner.run(starting, "What is it?", **more)
    result = agents.Runner.run_streamed(starting, "What is it?", **more)
    async for _event in result.stream_events():
        pass
    return result


def run_context(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["query_id"], row["iteration"], row["current_depth"], row["model_type"]


@agents.function_tool
def look_up(name: str) -> str:
    """Look something up."""
    return f"found {name}"


@pytest.mark.parametrize("streamed", [False, True])
async def test_turns_are_iterations_and_a_run_of_an_agent_is_a_run(tracked: Recorder, streamed: bool) -> None:
    for _ in range(2):
        tracked.endpoint.script(Reply(tool_calls=("look_up",)), Reply(text="done"))
        assert (await run(agent(tools=[look_up]), streamed)).final_output == "done"
    rows = tracked.check(calls=4)
    assert [run_context(row) for row in rows] == [("agents", 1, 0, "Clerk"), ("agents", 2, 0, "Clerk")] * 2
    assert len({row["run_id"] for row in rows}) == 2
    await asyncio.sleep(0)  # the callback of a streamed run's task
    assert {listed["status"] for listed in tracked.db.list_query_runs()} == {"completed"}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_handoff_goes_one_level_deeper(tracked: Recorder, streamed: bool) -> None:
    tracked.endpoint.script(Reply(tool_calls=("transfer_to_writer",)), Reply(text="from the writer"))
    async with query_run("q") as whole:
        result = await run(agent(handoffs=[agent("Writer")]), streamed)
    rows = tracked.check(calls=2)
    assert result.last_agent.name == "Writer"
    assert [run_context(row) for row in rows] == [("q", 1, 0, "Clerk"), ("q", 2, 1, "Writer")]
    assert rows[1]["parent_recursion_id"] == rows[0]["recursion_id"]
    assert {row["run_id"] for row in rows} == {whole.run_id}


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_as_a_tool_is_a_level_with_its_own_turns(tracked: Recorder, streamed: bool) -> None:
    tracked.endpoint.script(Reply(tool_calls=("ask",)), Reply(text="inner"), Reply(text="outer"))
    inner = agent("Inner").as_tool(tool_name="ask", tool_description="Asks.")
    assert (await run(agent(tools=[inner]), streamed)).final_output == "outer"
    rows = tracked.check(calls=3)
    assert [run_context(row)[1:] for row in rows] == [(1, 0, "Clerk"), (1, 1, "Inner"), (2, 0, "Clerk")]
    assert rows[1]["parent_recursion_id"] == rows[0]["recursion_id"] == rows[2]["recursion_id"]


async def test_concurrent_agents_in_one_run_do_not_mix(tracked: Recorder) -> None:
    tracked.endpoint.script(*[Reply(tool_calls=("look_up",))] * 2, *[Reply(text="done")] * 2)
    barrier = asyncio.Barrier(2)

    @agents.function_tool(name_override="look_up")
    async def meet(name: str) -> str:
        """Look something up."""
        await barrier.wait()
        return name

    async with query_run("q"):
        await asyncio.gather(*(run(agent(name, tools=[meet]), False) for name in ("A", "B")))
    rows = tracked.check(calls=4)
    assert sorted(run_context(row) for row in rows) == [("q", turn, 0, name) for turn in (1, 2) for name in ("A", "B")]


def test_agents_on_two_threads_are_two_runs(tracked: Recorder) -> None:
    tracked.endpoint.script(*[Reply(text="done")] * 4)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: agents.Runner.run_sync(agent(name), "Hi"), ["A", "B", "C", "D"]))
    rows = tracked.check(calls=4)
    assert len({row["run_id"] for row in rows}) == 4
    assert {run_context(row)[:3] for row in rows} == {("agents", 1, 0)}


async def test_iterations_that_the_program_sets_are_kept(tracked: Recorder) -> None:
    tracked.endpoint.script(*[Reply(tool_calls=("look_up",)), Reply(text="done")] * 2)
    async with query_run("q") as whole:
        for _ in whole.iterations(range(2)):
            await run(agent(tools=[look_up]), False)
    assert [row["iteration"] for row in tracked.check(calls=4)] == [1, 1, 2, 2]


async def test_the_calling_code_keeps_its_run_context(tracked: Recorder) -> None:
    tracked.endpoint.script(Reply(text="one"), Reply(text="two"))
    client = AsyncOpenAI()
    result = agents.Runner.run_streamed(agent(), "Hi")
    await client.responses.create(model="gpt-4.1", input="direct")
    async for _event in result.stream_events():
        pass
    await client.close()
    assert sorted(row["query_id"] for row in tracked.check(calls=2)) == ["adhoc", "agents"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failed_run_of_an_agent_is_a_failed_run(tracked: Recorder, streamed: bool) -> None:
    tracked.endpoint.script(Reply(status=400, error="not like this"))
    with pytest.raises(Exception, match="not like this"):
        await run(agent(), streamed)
    await asyncio.sleep(0)
    (listed,) = tracked.db.list_query_runs()
    assert (listed["query_id"], listed["status"]) == ("agents", "error")


async def test_the_hooks_of_the_program_are_called_as_without_us(tracked: Recorder) -> None:
    class Hooks(agents.RunHooks):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.called: list[str] = []

        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                self.called.append(name)
            return super().__getattribute__(name)

    async def called() -> list[str]:
        tracked.endpoint.script(Reply(tool_calls=("look_up",)), Reply(tool_calls=("transfer_to_writer",)), Reply())
        hooks = Hooks()
        await run(agent(tools=[look_up], handoffs=[agent("Writer")]), False, hooks=hooks)
        return hooks.called

    with_us = await called()
    uninstrument()
    assert await called() == with_us
    assert {"on_llm_start", "on_handoff", "on_tool_end", "on_agent_end"} <= set(with_us)


# -- websockets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sockets() -> Iterator[SocketServer]:
    with SocketServer() as server:
        yield server


@pytest.mark.parametrize("streamed", [False, True])
async def test_calls_over_the_websocket_transport_are_recorded(
    tracked: Recorder, sockets: SocketServer, streamed: bool
) -> None:
    def serve(peer: Peer) -> None:
        number = 0
        while True:
            assert peer.get()["type"] == "response.create"
            number += 1
            output = (
                [socket_server.message()]
                if number > 1
                else [{**socket_server.function_call(), "name": "look_up", "arguments": '{"name": "x"}'}]
            )
            peer.send(socket_server.created(f"resp_{number}"), socket_server.delta())
            peer.send(socket_server.completed(f"resp_{number}", output=output))

    sockets.script = serve
    client = AsyncOpenAI(websocket_base_url=f"ws://{sockets.address}/v1")
    model = agents.OpenAIResponsesWSModel("gpt-5", client)
    result = await run(agent(tools=[look_up], model=model), streamed)
    assert result.final_output == socket_server.TEXT
    await model.close()
    await client.close()
    rows = tracked.rows()
    assert len(rows) == len(sockets.messages) == 2
    assert [run_context(row) for row in rows] == [("agents", 1, 0, "Clerk"), ("agents", 2, 0, "Clerk")]
    assert [(row["prompt_tokens"], row["cached_tokens"], row["tool_call_count"]) for row in rows] == [
        (2300, 2048, 1),
        (2300, 2048, 0),
    ]
    assert {row["metadata"]["transport"] for row in rows} == {"websocket"}


async def test_a_lost_websocket_is_one_failed_record(tracked: Recorder, sockets: SocketServer) -> None:
    def serve(peer: Peer) -> None:
        peer.get()
        peer.send(socket_server.created("resp_1"), socket_server.delta())
        peer.drop()

    sockets.script = serve
    client = AsyncOpenAI(websocket_base_url=f"ws://{sockets.address}/v1")
    model = agents.OpenAIResponsesWSModel("gpt-5", client)
    with pytest.raises(Exception, match="close"):
        await run(agent(model=model), True)
    await client.close()
    (row,) = tracked.rows()
    assert (row["success"], row["prompt_tokens"]) == (False, None)


async def test_a_realtime_session_is_recorded(tracked: Recorder, sockets: SocketServer) -> None:
    def serve(peer: Peer) -> None:
        peer.send(realtime_events.session())
        number = 0
        while True:
            if peer.get()["type"] == "response.create":
                number += 1
                peer.send(realtime_events.created(f"resp_{number}"), realtime_events.done(f"resp_{number}", output=[]))

    sockets.script = serve
    runner = realtime.RealtimeRunner(realtime.RealtimeAgent(name="Voice", instructions="Be brief."))
    session = await runner.run(
        model_config={"api_key": "sk-test", "url": f"ws://{sockets.address}/v1/realtime?model=m"}
    )
    async with session:
        ended = 0
        for number in (1, 2):
            await session.send_message("Hello")
            async for event in session:
                ended += event.type == "raw_model_event" and event.data.type == "turn_ended"
                if ended == number:
                    break
    asked = [message for message in sockets.messages if message["type"] == "response.create"]
    rows = tracked.rows()
    assert len(rows) == len(asked) == 2
    assert {(row["api"], row["model"]) for row in rows} == {("realtime", realtime_events.MODEL)}
    assert [(row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) for row in rows] == [
        (132, 64, 121)
    ] * 2
    assert len({row["run_id"] for row in rows}) == 1


# -- track itself ------------------------------------------------------------------------------------------------------


def test_uninstrument_restores_the_package(recorder: Recorder) -> None:
    from agents.run import AgentRunner

    before = [dict(vars(kind)) for kind in (AgentRunner, agents.OpenAIResponsesWSModel)]
    track()
    track("other")
    uninstrument()
    assert [dict(vars(kind)) for kind in (AgentRunner, agents.OpenAIResponsesWSModel)] == before


def test_an_invalid_name_raises(recorder: Recorder) -> None:
    with pytest.raises((RecordError, ConfigError), match="query_id"):
        track("")


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [("", 1), ("from rlm_cachetrack.integrations import openai_agents as ours; ours.track()", 0)],
)
def test_a_program_without_track_gets_one_log_line(tmp_path: Path, tracks: str, expected: int) -> None:
    found = hints_of(f"import agents\n{tracks}", tmp_path)
    assert len(found) == expected
    assert all("from rlm_cachetrack.integrations.openai_agents import track; track()" in line for line in found)
