"""Access control of the dashboard at the level of ASGI: every request without the token is refused, whatever its form.

`nox -s oldest_web` runs it on the oldest versions of FastAPI and Starlette that pyproject.toml allows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the dashboard needs its extra")

from rlm_cachetrack.web import create_app
from rlm_cachetrack.web.source import DashboardStore

TOKEN = "correct horse"
ROOT = Path(__file__).parents[3]
PATHS = ("/", "/runs", "/live", "/api/health", "/api/openapi.json", "/api/docs", "/static/app.js", "/nothing")
HOSTS = ("x", "x/login?", "x/login#", "x/static/app.css?", "/login", "localhost", "[::1]", "a@b/login?", "")


def ask(app: Any, path: str, query: str = "", *, method: str = "GET", body: bytes = b"", **headers: str) -> Any:
    """Send one request to the application; return the status, the headers and the body."""
    sent: list[dict[str, Any]] = []
    bodies = [body]
    given = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": given,
        "server": ("127.0.0.1", 8765),
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> dict[str, Any]:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        await asyncio.sleep(60)  # the client does not disconnect
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    answer = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answer, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture(scope="module")
def guarded() -> Any:
    """Return an application with a token, whose store does not exist: a request that is admitted gets a 503."""
    return create_app(DashboardStore("postgresql://127.0.0.1:1/none", timeout_s=0.1), token=TOKEN, hosts=None)


@pytest.mark.parametrize("path", PATHS)
def test_no_host_header_bypasses_the_token(path: str, guarded: Any) -> None:
    for host in HOSTS:
        status, headers, _ = ask(guarded, path, host=host)
        assert status == 401, host
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"


def test_no_form_of_a_path_bypasses_the_token(guarded: Any) -> None:
    forms = [f"{before}{path}{after}" for path in ("/login", "/static/app.css") for before, after in FORMS]
    for path in forms:
        assert ask(guarded, path, host="x")[0] == 401, path


FORMS = [
    pair
    for pair in itertools.product(
        ("", "/", "//", "/.", "/api/..", "http://x", "/runs;"),
        ("", "/", "//", "/..", "/../runs", "?", "%3f", "\0", ";a"),
    )
    if pair != ("", "")
]


def test_methods_without_a_page_need_the_token_too(guarded: Any) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "login"):
        assert ask(guarded, "/api/health", method=method, host="x")[0] == 401
        assert ask(guarded, "/login", method=method, host="x")[0] in (200, 401, 405)


def test_a_websocket_is_refused(guarded: Any) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    asyncio.run(guarded({"type": "websocket", "path": "/login", "headers": []}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize("path", ["//evil.example/a", "///evil.example/a", "/\\evil.example/a", "/a\r\nSet-Cookie: b"])
def test_the_redirect_after_a_token_stays_on_this_server(path: str, guarded: Any) -> None:
    for host in HOSTS:
        status, headers, _ = ask(guarded, path, f"token={TOKEN.replace(' ', '+')}&next=//evil.example", host=host)
        assert status == 303
        location = headers["location"]
        assert location[0] == "/"
        assert location[1] not in "/\\"
        assert not set(location) & set("\r\n\\")


def test_the_login_page_and_its_style_need_no_token(guarded: Any) -> None:
    assert ask(guarded, "/login", host="x")[0] == 200
    assert ask(guarded, "/static/app.css", host="x")[0] == 200
    status, headers, _ = ask(guarded, "/login", method="POST", body=b"token=correct+horse", host="x")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"].split(";")[0]
    assert ask(guarded, "/static/app.js", host="x", cookie=cookie)[0] == 200
    assert ask(guarded, "/login", method="POST", body=b"token=wrong", host="x")[0] == 401
    long = b"a=" + b"b" * 100_000 + b"&token=correct+horse"
    assert ask(guarded, "/login", method="POST", body=long, host="x")[0] == 413


def test_the_token_admits(guarded: Any) -> None:
    assert ask(guarded, "/static/app.js", host="x", authorization=f"Bearer {TOKEN}")[0] == 200
    assert ask(guarded, "/api/usage", host="x", authorization=f"Bearer {TOKEN}")[0] == 503  # no database
    for given in ("Bearer wrong", "Bearer", "", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        assert ask(guarded, "/static/app.js", host="x", authorization=given)[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost@evil.example", "", "localhost/x"]
)
def test_only_known_hosts_are_served(host: str) -> None:
    app = create_app(DashboardStore("postgresql://127.0.0.1:1/none"), hosts=frozenset({"localhost", "[::1]"}))
    assert ask(app, "/static/app.js", host=host)[0] == 421
    assert ask(app, "/static/app.js")[0] == 421
    for known in ("localhost", "LOCALHOST:8765", "[::1]", "[::1]:8765"):
        assert ask(app, "/static/app.js", host=known)[0] == 200
        assert ask(app, "/runs/", host=known)[0] == 404  # not a redirect, which would contain the Host header


def oldest_versions() -> list[str]:
    """Return the lower bounds of the web packages as requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    packages = project["optional-dependencies"]["dashboard"]
    return [package.replace(">=", "==") for package in packages if package.startswith(("fastapi", "starlette"))]


@pytest.mark.skipif("RLM_CACHETRACK_TEST_OLDEST_WEB" not in os.environ, reason="only in `nox -s oldest_web`")
def test_these_are_the_oldest_versions() -> None:
    assert [f"{name}=={version(name)}" for name in ("fastapi", "starlette")] == oldest_versions()
