"""How processes begin, fork and end. Real processes, the real SDK over real HTTP, a real PostgreSQL."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.config import load_settings
from rlm_cachetrack.pipeline import runtimes
from rlm_cachetrack.simulator import Reply, SimulatedEndpoint
from tests.faults.conftest import environment_for, stored_requests
from tests.integration.pipeline.test_writer import in_time

BEGIN = """
import faulthandler, os, signal, sys, threading, time
from openai import OpenAI
import rlm_cachetrack
from rlm_cachetrack import flush, instrument, query_run, stats
faulthandler.dump_traceback_later(240, exit=True)
def connect():
    return instrument(OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0, timeout=120))
client = connect()
def call(client=client):
    return client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
"""


@pytest.fixture
def environment(db_url: str, endpoint: SimulatedEndpoint, tmp_path: Path) -> dict[str, str]:
    return {**environment_for(db_url, tmp_path), "ENDPOINT": endpoint.base_url}


def begin(body: str, environment: dict[str, str], tmp_path: Path) -> subprocess.Popen[str]:
    """Start a user's program from a file, which spawned child processes read again."""
    program = tmp_path / "program.py"
    program.write_text(BEGIN + textwrap.dedent(body))
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(program)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(body: str, environment: dict[str, str], tmp_path: Path) -> tuple[int, str, str]:
    """Run a program. Returns its exit code, standard output and standard error."""
    with begin(body, environment, tmp_path) as process:
        output, errors = process.communicate(timeout=600)
    return process.returncode, output, errors


def await_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line + "\n", process.communicate()


def journals(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state").rglob("*.jsonl"))


def stored(db_url: str) -> int:
    """Return the number of stored calls, after checking that none is stored twice."""
    counts = stored_requests(db_url)
    assert set(counts.values()) <= {1}
    return len(counts)


def stored_by_the_next_start(db_url: str) -> int:
    with TimescaleDBClient(db_url) as db:
        assert db.flush(120)
    return stored(db_url)


# -- the end of a program --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(3)", 3),
        ("raise SystemExit('over')", 1),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); os.kill(os.getpid(), signal.SIGTERM)", 4),
        ("threading.Thread(target=lambda: [time.sleep(0.2), call(), call()]).start()", 0),
    ],
    ids=["sys.exit", "SystemExit", "SIGTERM handled", "a thread goes on"],
)
def test_a_program_that_ends_normally_has_stored_its_calls(
    environment: dict[str, str], db_url: str, tmp_path: Path, end: str, code: int
) -> None:
    returned, _, errors = run(f"call(); call()\n{end}\n", environment, tmp_path)
    assert (returned, errors) == (code, "over\n" if "over" in end else "")
    assert stored(db_url) == (4 if "Thread" in end else 2)
    assert journals(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_a_program_at_once_leaves_its_calls_to_the_next(
    environment: dict[str, str], db_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    body = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    with begin(
        body + "[call() for _ in range(5)]\nprint('called', flush=True)\ntime.sleep(600)", environment, tmp_path
    ) as p:
        await_line(p, "called")
        p.send_signal(number)
        assert p.communicate(timeout=600)[1] == ""
    assert p.returncode == -number
    assert stored_by_the_next_start(db_url) == 5


def test_a_call_interrupted_by_control_c_is_a_failure_and_others_are_stored(
    environment: dict[str, str], endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path
) -> None:
    endpoint.script(Reply(), Reply(delay_s=200))
    with begin("call(); flush(120)\nprint('called', flush=True)\ncall()\n", environment, tmp_path) as process:
        await_line(process, "called")
        while len(endpoint.requests) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=600)[1]
    assert process.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert "rlm_cachetrack-writer" not in errors
    with TimescaleDBClient(db_url) as db:
        [run] = db.list_query_runs()
        calls = db.get_llm_interactions(run["query_id"], run["run_id"])
    assert [(each["success"], each["error_type"]) for each in calls] == [(True, None), (False, "KeyboardInterrupt")]


HANGS_S = 300
"""How long an attempt to connect to a silent server takes: longer than the exit of an interpreter under any load."""


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Yield the URL of a server that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        yield f"postgresql://someone:hunter2@127.0.0.1:{port}/nowhere?connect_timeout={HANGS_S}"


@pytest.mark.parametrize("timeout_s", [0.2, 1.5])
def test_closing_a_store_that_hangs_takes_the_given_time_in_all(silent_server: str, timeout_s: float) -> None:
    runtime = runtimes.open(load_settings(silent_server))
    runtime.append({"kind": "optimization", "query_id": "q", "run_id": "2026-01-01T00:00:00+00:00"})
    assert in_time(lambda: runtime.writer.running)
    began = time.monotonic()
    assert not runtime.close(timeout_s)
    assert time.monotonic() - began < HANGS_S / 2, "the close waited for an attempt to connect"


@pytest.mark.parametrize("timeout_s", [0.0, 1.5])
def test_the_interpreter_exits_in_time_if_the_database_hangs(
    environment: dict[str, str], silent_server: str, tmp_path: Path, timeout_s: float
) -> None:
    environment = {
        **environment,
        "RLM_CACHETRACK_DB_URL": silent_server,
        "RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S": str(timeout_s),
    }
    body = """
    [call() for _ in range(3)]
    flush(0.5)
    print(time.monotonic(), flush=True)  # all processes have the same clock
    """
    with begin(body, environment, tmp_path) as process:
        assert process.stdout is not None
        began = float(process.stdout.readline())
        errors = process.communicate(timeout=600)[1]
        took = time.monotonic() - began
    assert process.returncode == 0
    assert took >= 0.6 * timeout_s  # the rest is reserved for the interpreter's exit on a busy machine
    assert took < HANGS_S / 2, "the exit waited for an attempt to connect"
    assert "Traceback" not in errors
    assert "hunter2" not in errors
    assert sum(path.read_bytes().count(b"\n") for path in journals(tmp_path)) == 3


def test_signal_handlers_that_flush_or_shut_down_neither_hang_nor_lose_records(
    environment: dict[str, str], db_url: str, tmp_path: Path
) -> None:
    body = """
    call(); flush(20)  # completes the imports of the first call, which are not part of the test
    calls, busy = 1, False
    def handle(number, frame):
        global calls, busy
        if number == signal.SIGUSR1 and not busy:  # pools of HTTP connections are not reentrant
            busy = True
            call()
            calls += 1
            busy = False
        elif number == signal.SIGUSR2:
            flush(0.01)
    signal.signal(signal.SIGUSR1, handle), signal.signal(signal.SIGUSR2, handle)
    parent = os.getpid()
    if os.fork() == 0:
        for number in range(600):
            os.kill(parent, signal.SIGUSR1 if number % 3 else signal.SIGUSR2)
            time.sleep(0.002 * (number % 5))
        os._exit(0)
    until = time.monotonic() + 4
    rounds = 0
    while time.monotonic() < until:
        flush(0.01)
        stats()
        rounds += 1
        if rounds % 50 == 0:
            rlm_cachetrack.shutdown(0.5)
    os.wait()
    print(flush(120), stats()["dropped"], stats()["internal_errors"])
    print(calls)
    """
    returncode, output, errors = run(body, environment, tmp_path)
    assert (returncode, [line for line in errors.splitlines() if "were not stored in time" not in line]) == (0, [])
    result, calls = output.splitlines()
    assert result == "True {} 0"
    assert stored(db_url) == int(calls)


def test_a_second_control_c_during_exit_exits_at_once(
    environment: dict[str, str], silent_server: str, tmp_path: Path
) -> None:
    environment = {**environment, "RLM_CACHETRACK_DB_URL": silent_server, "RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S": "600"}
    body = """
    def announce():  # prints a line when the main thread is inside of our exit handler
        names = []
        while "at_exit" not in names[1:]:
            time.sleep(0.001)
            frame, names = sys._current_frames()[threading.main_thread().ident], []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
        print("leaving", flush=True)
    call()
    threading.Thread(target=announce, daemon=True).start()
    """
    with begin(body, environment, tmp_path) as process:
        await_line(process, "leaving")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    assert len(journals(tmp_path)) == 1


def test_daemon_threads_that_call_while_the_interpreter_ends_lose_no_calls(
    environment: dict[str, str], db_url: str, tmp_path: Path
) -> None:
    body = """
    import atexit
    notes = os.open("returned", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    returned = []
    def on():
        with OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0) as own:
            instrument(own)
            while True:
                os.write(notes, (call(own)._request_id + "\\n").encode())
                returned.append(True)
    for _ in range(3):
        threading.Thread(target=on, daemon=True).start()
    from rlm_cachetrack.pipeline import runtimes
    atexit.unregister(runtimes.at_exit)
    atexit.register(time.sleep, 0.5)  # runs after ours: they go on calling
    atexit.register(runtimes.at_exit)
    while len(returned) <= 50:
        time.sleep(0.01)
    """
    program = body.replace('"returned"', repr(str(tmp_path / "returned")))
    returncode, _, errors = run(program, environment, tmp_path)
    assert (returncode, errors) == (0, "")
    returned = (tmp_path / "returned").read_text().split()
    assert len(returned) > 50
    assert stored_by_the_next_start(db_url) >= len(returned)
    assert set(returned) <= set(stored_requests(db_url))


def test_calls_after_shutdown_go_to_the_configured_store(
    environment: dict[str, str], db_url: str, tmp_path: Path
) -> None:
    named = environment.pop("RLM_CACHETRACK_DB_URL")
    body = f"""
    rlm_cachetrack.uninstrument()
    client = instrument(OpenAI(base_url=os.environ["ENDPOINT"], api_key="x"), store={named!r})
    call(client)
    assert rlm_cachetrack.shutdown()
    call(client)
    """
    assert run(body, {**environment, "RLM_CACHETRACK_DISABLED": "0"}, tmp_path)[::2] == (0, "")
    assert stored(db_url) == 2


def test_a_call_in_flight_during_a_shutdown_is_stored(environment: dict[str, str], db_url: str, tmp_path: Path) -> None:
    body = """
    stream = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}], stream=True)
    next(stream)
    assert rlm_cachetrack.shutdown()
    list(stream)
    assert flush(120)
    os._exit(0)
    """
    assert run(body, environment, tmp_path)[::2] == (0, "")
    assert stored(db_url) == 1


# -- forks -----------------------------------------------------------------------------------------------------------


def test_workers_forked_after_instrument_record_however_they_end(
    environment: dict[str, str], db_url: str, tmp_path: Path
) -> None:
    """A pre-fork server loads the application once, then forks workers, which are killed and replaced."""
    body = """
    call()
    ends = [lambda: flush(120), lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(0), lambda: sys.exit(0)]
    def work(end):
        with OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0) as own:
            instrument(own)
            for _ in range(10):
                call(own)
            end()
    for _ in range(2):  # the second generation adopts what the first has left
        for end in ends:
            if os.fork() == 0:
                try:
                    work(end)
                finally:
                    sys.stderr.flush()
                    os._exit(0)
        for _ in ends:
            os.wait()
    call()
    assert flush(120)
    print("done")
    """
    assert run(body, environment, tmp_path) == (0, "done\n", "")
    assert stored(db_url) == 2 + 2 * 4 * 10
    assert journals(tmp_path) == []


def test_a_fork_while_the_writer_imports_and_stores_hangs_neither_process(
    environment: dict[str, str], db_url: str, tmp_path: Path
) -> None:
    # Records in a journal make the writer of the starting server import its dependencies and store at once.
    run("for _ in range(20): call()\nos._exit(0)", environment, tmp_path)
    body = """
    pids = []
    for number in range(25):  # over the second and a half that the writer's start takes
        pid = os.fork()
        if pid == 0:
            import psycopg, genai_prices  # as the worker itself may
            with query_run("forked"):
                pass
            done = flush(120)
            sys.stderr.flush()
            os._exit(0 if done else 1)
        pids.append(pid)
        time.sleep(0.06)
    print([os.waitpid(pid, 0)[1] for pid in pids] == [0] * 25)
    """
    assert run(body, environment, tmp_path) == (0, "True\n", "")
    assert stored(db_url) == 20


def test_forks_during_batches_and_from_threads_neither_duplicate_nor_lose_records(
    environment: dict[str, str], db_url: str, tmp_path: Path
) -> None:
    body = """
    failed = []
    def on(number):
        with OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0) as own:
            instrument(own)
            for count in range(30):
                call(own)
                if count % 10 == 5:
                    pid = os.fork()
                    if pid == 0:
                        with OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0) as mine:
                            call(instrument(mine))
                            os._exit(0 if number == 0 or flush(120) else 1)
                    failed.append((number, count, os.waitpid(pid, 0)[1]))
    threads = [threading.Thread(target=on, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print([each for each in failed if each[2]], len(failed), flush(120))
    """
    assert run(body, environment, tmp_path) == (0, "[] 12 True\n", "")
    assert stored(db_url) == 4 * 30 + 4 * 3


def test_a_daemon_that_forks_twice_and_closes_every_file_records(
    environment: dict[str, str], db_url: str, tmp_path: Path
) -> None:
    body = """
    call()
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.dup2(write, 250)
            os.closerange(3, 250)
            with OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0) as own:
                instrument(own)
                call(own); call(own)
                os.write(250, b"1" if flush(120) else b"0")
        os._exit(0)
    os.wait()
    os.close(write)
    print(os.read(read, 1), flush=True)
    os._exit(0)
    """
    assert run(body, environment, tmp_path) == (0, "b'1'\n", "")
    assert stored_by_the_next_start(db_url) == 3


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_parent_reads_what_its_multiprocessing_children_recorded(
    environment: dict[str, str], db_url: str, tmp_path: Path, method: str
) -> None:
    body = f"""
    import multiprocessing
    def work(number):
        with OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0) as own:
            instrument(own)
            call(own); call(own)
            if number == 2:
                os._exit(0)
    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        children = [context.Process(target=work, args=(number,)) for number in range(3)]
        [child.start() for child in children]
        [child.join() for child in children]
        with rlm_cachetrack.TimescaleDBClient() as db:
            print(sum(run["total_interactions"] for run in db.list_query_runs()))
    """
    assert run(body, environment, tmp_path) == (0, "6\n", "")
    assert stored(db_url) == 6
    assert journals(tmp_path) == []


# -- programs that live long -----------------------------------------------------------------------------------------


def test_an_asyncio_program_and_its_cancelled_calls(
    environment: dict[str, str], endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path
) -> None:
    endpoint.script(*[Reply(delay_s=200)] * 2)
    body = """
    import asyncio
    from openai import AsyncOpenAI
    async def main():
        async with AsyncOpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0) as client:
            instrument(client)
            def ask():
                return client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
            slow = [asyncio.create_task(ask()) for _ in range(2)]
            print("asked", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            for task in slow:
                task.cancel()
            results = await asyncio.gather(*slow, return_exceptions=True)
            await asyncio.gather(*[ask() for _ in range(10)])
            print([type(result).__name__ for result in results], flush=True)
    asyncio.run(main())
    """
    with begin(body, environment, tmp_path) as process:
        await_line(process, "asked")
        while len(endpoint.requests) < 2:
            time.sleep(0.01)
        output, errors = process.communicate("go on\n", timeout=240)
    assert (process.returncode, output, errors) == (0, "['CancelledError', 'CancelledError']\n", "")
    with TimescaleDBClient(db_url) as db:
        [adhoc] = db.list_query_runs()
        calls = db.get_llm_interactions(adhoc["query_id"], adhoc["run_id"])
    assert sorted(str(call["error_type"]) for call in calls) == ["CancelledError"] * 2 + ["None"] * 10


def test_a_notebook_that_is_interrupted_rerun_and_killed_loses_no_calls(
    environment: dict[str, str], endpoint: SimulatedEndpoint, db_url: str, tmp_path: Path
) -> None:
    """One long-lived interpreter runs cells by ``exec``; tests/programs/test_jupyter.py tests a real kernel."""
    body = """
    cells = [
        "client = connect()",
        "call(client)",
        "client = connect(); instrument(client)",  # the cell is run again
        "call(client)",
        "call(client)",  # interrupted
        "call(client); flushed = flush(120)",
        "run = query_run('notebook').__enter__(); call(client)",  # and never left
    ]
    namespace = globals()
    for number, cell in enumerate(cells):
        print(number, flush=True)
        try:
            exec(cell, namespace)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print(flushed, flush=True)
    time.sleep(600)
    """
    endpoint.script(Reply(), Reply(), Reply(delay_s=200))
    with begin(body, environment, tmp_path) as process:
        for number in range(5):
            await_line(process, str(number))
        while len(endpoint.requests) < 3:
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGINT)
        for line in ("interrupted", "5", "6", "True"):
            await_line(process, line)
        process.kill()  # restart of the kernel
        assert "Traceback" not in process.communicate()[1]
    assert stored_by_the_next_start(db_url) == 5  # the interrupted call has no id; NULL counts as one value
