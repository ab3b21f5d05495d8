"""Concurrent requests to a FastAPI application over real HTTP, each in its own run."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest
from openai import AsyncOpenAI, OpenAI

from rlm_cachetrack import active_run, query_run
from rlm_cachetrack.simulator import Reply
from tests.programs.conftest import Recorder

fastapi = pytest.importorskip("fastapi", reason="the package fastapi is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the package uvicorn is not installed")
httpx = pytest.importorskip("httpx", reason="the package httpx is not installed")
responses = pytest.importorskip("fastapi.responses")

MODEL = "gpt-4.1"
AT_ONCE = 4
NAMES = [f"request-{number}" for number in range(AT_ONCE)]


class Meeting:
    """A barrier at which concurrent requests wait for each other, so that their runs overlap."""

    def __init__(self) -> None:
        self._threads = threading.Barrier(AT_ONCE)
        self._tasks = asyncio.Barrier(AT_ONCE)

    def in_threads(self) -> None:
        self._threads.wait(120)

    async def in_tasks(self) -> None:
        await asyncio.wait_for(self._tasks.wait(), 180)


async def run_of_the_request(name: str) -> AsyncIterator[Any]:
    async with query_run(name) as run:
        yield run


Run = Annotated[Any, fastapi.Depends(run_of_the_request)]


def application(meeting: Meeting) -> Any:
    """Return an application in which each path opens a run in another way and makes two calls, iterations 1 and 2."""
    sync: OpenAI
    asynchronous: AsyncOpenAI

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        nonlocal sync, asynchronous
        with OpenAI(max_retries=0) as sync:
            async with AsyncOpenAI(max_retries=0) as asynchronous:
                yield

    app = fastapi.FastAPI(lifespan=lifespan)

    def ask(name: str, **more: Any) -> Any:
        return sync.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": name}], **more)

    async def ask_async(name: str, **more: Any) -> Any:
        return await asynchronous.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": name}], **more
        )

    @app.get("/sync/{name}")
    def endpoint(name: str) -> str:
        with query_run(name) as run:
            for _ in run.iterations(range(2)):
                meeting.in_threads()
                ask(name)
        return name

    @app.get("/async/{name}")
    async def async_endpoint(name: str) -> str:
        async with query_run(name) as run:
            for _ in run.iterations(range(2)):
                await meeting.in_tasks()
                await ask_async(name)
        return name

    @app.get("/alone/{name}")
    async def alone(name: str) -> str:
        async with query_run(name):
            await ask_async(name)
        return name

    @app.get("/threads-of-async/{name}")
    async def async_endpoint_with_threads(name: str) -> str:
        async with query_run(name) as run:
            for _ in run.iterations(range(2)):
                await asyncio.to_thread(meeting.in_threads)
                await asyncio.to_thread(ask, name)
        return name

    @app.get("/dependency/{name}")
    async def endpoint_with_dependency(name: str, run: Run) -> str:
        for _ in run.iterations(range(2)):
            await meeting.in_tasks()
            await ask_async(name)
        return name

    @app.get("/sync-dependency/{name}")
    def sync_endpoint_with_dependency(name: str, run: Run) -> str:
        for _ in run.iterations(range(2)):
            meeting.in_threads()
            ask(name)
        return name

    @app.get("/stream/{name}")
    def streaming(name: str) -> Any:
        """Stream from a generator that the server advances from different threads."""

        @query_run(name)
        def pieces() -> Iterator[str]:
            run = active_run()
            assert run is not None
            for _ in run.iterations(range(2)):
                meeting.in_threads()
                for chunk in ask(name, stream=True):
                    yield chunk.choices[0].delta.content or ""

        return responses.StreamingResponse(pieces())

    @app.get("/async-stream/{name}")
    async def async_streaming(name: str) -> Any:
        async def pieces() -> AsyncIterator[str]:
            async with query_run(name) as run:
                for _ in run.iterations(range(2)):
                    await meeting.in_tasks()
                    async for chunk in await ask_async(name, stream=True):
                        yield chunk.choices[0].delta.content or ""

        return responses.StreamingResponse(pieces())

    @app.get("/late-stream/{name}")
    async def streaming_after_the_run(name: str) -> Any:
        """Make the calls inside the run; the server reads their streams after the run has ended."""
        async with query_run(name) as run:
            streams = []
            for _ in run.iterations(range(2)):
                await meeting.in_tasks()
                streams.append(await ask_async(name, stream=True))

        async def pieces() -> AsyncIterator[str]:
            for stream in streams:
                async for chunk in stream:
                    yield chunk.choices[0].delta.content or ""

        return responses.StreamingResponse(pieces())

    return app


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve the application with uvicorn on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(120)
            assert not thread.is_alive()


@pytest.fixture
async def get(recorder: Recorder) -> AsyncIterator[Callable[[str], Any]]:
    """Return a function that requests a path."""
    with served(application(Meeting())) as address:
        fresh = httpx.Limits(max_keepalive_connections=0)  # uvicorn closes the connection after a failed request
        async with httpx.AsyncClient(base_url=address, timeout=180, limits=fresh) as http:

            async def answer(path: str) -> str:
                got = await http.get(path)
                got.raise_for_status()
                return str(got.text)

            yield answer


@pytest.mark.parametrize(
    "way",
    [
        "sync",
        "async",
        "threads-of-async",
        "dependency",
        "sync-dependency",
        "stream",
        "async-stream",
        "late-stream",
    ],
)
async def test_each_concurrent_request_is_its_own_run(recorder: Recorder, get: Callable[[str], Any], way: str) -> None:
    answers = await asyncio.gather(*(get(f"/{way}/{name}") for name in NAMES))
    assert all(answers)
    rows = await asyncio.to_thread(recorder.check, 2 * AT_ONCE)
    runs = await asyncio.to_thread(recorder.db.list_query_runs)
    assert sorted(run["query_id"] for run in runs) == NAMES
    assert {run["status"] for run in runs} == {"completed"}
    for run in runs:
        mine = [row for row in rows if (row["query_id"], row["run_id"]) == (run["query_id"], run["run_id"])]
        assert [row["iteration"] for row in mine] == [1, 2]
        assert run["total_interactions"] == 2


async def test_a_failed_request_is_a_failed_run_and_does_not_affect_others(
    recorder: Recorder, get: Callable[[str], Any]
) -> None:
    recorder.endpoint.script(Reply(status=400, error="not like this"))
    with pytest.raises(httpx.HTTPStatusError):
        await get("/alone/first")
    assert await get("/alone/second")
    runs = await asyncio.to_thread(recorder.db.list_query_runs)
    assert {(run["query_id"], run["status"]) for run in runs} == {("first", "error"), ("second", "completed")}
    assert [row["query_id"] for row in await asyncio.to_thread(recorder.rows)] == ["first", "second"]
