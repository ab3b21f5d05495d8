"""Unmodified ``langgraph``: the model calls of a graph, sync, async and streamed, in the run of the code around it."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest

from rlm_cachetrack import query_run
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import Recorder

graphs = pytest.importorskip("langgraph.graph", reason="the package langgraph is not installed")
langchain_openai = pytest.importorskip("langchain_openai")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


class State(TypedDict):
    text: str


def graph(recorder: Recorder, asynchronous: bool = False, fan_out: bool = False) -> Any:
    """Return a graph of two nodes with a model call each, one after the other or at the same time."""
    model = langchain_openai.ChatOpenAI(model="gpt-4.1", base_url=recorder.endpoint.base_url, api_key="sk-test")

    def ask(state: State) -> dict[str, Any]:
        answer = model.invoke(state["text"])
        return {} if fan_out else {"text": answer.content}

    async def ask_async(state: State) -> dict[str, Any]:
        answer = await model.ainvoke(state["text"])
        return {} if fan_out else {"text": answer.content}

    made = graphs.StateGraph(State)
    for name in ("first", "second"):
        made.add_node(name, ask_async if asynchronous else ask)
    made.add_edge(graphs.START, "first")
    made.add_edge(graphs.START if fan_out else "first", "second")
    return made.compile()


@pytest.mark.parametrize("fan_out", [False, True])
def test_each_node_is_one_record_in_the_run(recorder: Recorder, fan_out: bool) -> None:
    recorder.endpoint.script(Reply(text="one"), Reply(text="two"))
    with query_run("q") as run:
        for _ in run.iterations(range(1)):
            graph(recorder, fan_out=fan_out).invoke({"text": "Hi"})
    assert [(row["query_id"], row["iteration"]) for row in recorder.check(calls=2)] == [("q", 1)] * 2


@pytest.mark.parametrize("fan_out", [False, True])
async def test_asynchronous_nodes_are_recorded(recorder: Recorder, fan_out: bool) -> None:
    recorder.endpoint.script(Reply(text="one"), Reply(text="two"))
    async with query_run("q"):
        await graph(recorder, asynchronous=True, fan_out=fan_out).ainvoke({"text": "Hi"})
    assert [row["query_id"] for row in recorder.check(calls=2)] == ["q"] * 2


def test_streamed_messages_are_recorded(recorder: Recorder) -> None:
    recorder.endpoint.script(Reply(text="one two three"), Reply(text="four"))
    with query_run("q"):
        pieces = list(graph(recorder).stream({"text": "Hi"}, stream_mode="messages"))
    assert len(pieces) > 2
    rows = recorder.check(calls=2)
    assert [(row["query_id"], row["metadata"]["stream"]) for row in rows] == [("q", True)] * 2
