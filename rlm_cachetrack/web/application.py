"""The ASGI application: access control, security headers, error pages and static files."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import jinja2
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from rlm_cachetrack.config import redact
from rlm_cachetrack.errors import CacheTrackError, ConfigError, RecordError, StoreError

from . import api, pages
from .cached_queries import CachedQueries
from .live import Live
from .rendering import HERE, environment, plotly_script

if TYPE_CHECKING:
    from .source import DashboardStore

_COOKIE = "rlm_cachetrack_token"
# Plotly sets styles from script, which counts as inline. Scripts load from this server only. data: is for its icons.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_STATIC = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "live.js": "text/javascript",
    "plotly.min.js": "text/javascript",
}

_Next = Callable[[Request], Awaitable[Response]]


def build(source: DashboardStore, *, token: str | None, hosts: frozenset[str] | None) -> FastAPI:
    """See :func:`.create_app`."""
    queries = CachedQueries(source)
    live = Live(queries)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await live.close()

    app = FastAPI(
        title="rlm_cachetrack",
        summary="The numbers of the dashboard as JSON.",
        description="Times are ISO 8601 in UTC; costs in USD; rates 0-1, percentages 0-100; null means not known.",
        version=api.VERSION,
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's page loads scripts from another server; /api/docs is served by the pages
        redoc_url=None,
        lifespan=lifespan,
    )
    templates = environment()
    shown = pages.Pages(queries, templates, app)
    app.include_router(api.Api(queries).router())
    app.include_router(shown.router())
    _add_static_files(app)
    _add_event_stream(app, live)
    _add_error_pages(app, shown)
    _add_access_control(app, token, hosts, templates)
    if token is not None:
        _add_login(app, token, templates)
    return app


def _add_event_stream(app: FastAPI, live: Live) -> None:
    @app.get("/live", include_in_schema=False)
    async def stream() -> StreamingResponse:
        return StreamingResponse(
            live.events(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _add_error_pages(app: FastAPI, shown: pages.Pages) -> None:
    @app.exception_handler(CacheTrackError)
    async def store_failed(request: Request, exc: Exception) -> Response:
        status = 400 if isinstance(exc, (ConfigError, RecordError)) else 503 if isinstance(exc, StoreError) else 500
        return _problem(request, shown, status, redact(str(exc)))

    @app.exception_handler(HTTPException)
    async def request_failed(request: Request, exc: Exception) -> Response:
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        return _problem(request, shown, status, str(getattr(exc, "detail", "")))


def _problem(request: Request, shown: pages.Pages, status: int, reason: str) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": reason}, status)
    return shown.problem(status, reason)


def _add_static_files(app: FastAPI) -> None:
    def add(name: str, media_type: str) -> None:
        path = plotly_script() if name == "plotly.min.js" else HERE / "static" / name

        @app.get(f"/static/{name}", include_in_schema=False, name=f"static-{name}")
        def static() -> FileResponse:
            return FileResponse(path, media_type=media_type, headers={"Cache-Control": "no-cache"})

    for name, media_type in _STATIC.items():
        add(name, media_type)


# -- access ------------------------------------------------------------------------------------------------------------


def _add_access_control(
    app: FastAPI, token: str | None, hosts: frozenset[str] | None, templates: jinja2.Environment
) -> None:
    @app.middleware("http")
    async def guard(request: Request, call_next: _Next) -> Response:
        response = _access_refused(request, token, hosts, templates) or await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _cookie_value(token: str) -> str:
    """Return the value of the cookie, which grants access but does not reveal the token."""
    return hashlib.sha256(f"rlm_cachetrack dashboard\0{token}".encode()).hexdigest()


def _is_equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


def _access_refused(
    request: Request, token: str | None, hosts: frozenset[str] | None, templates: jinja2.Environment
) -> Response | None:
    if hosts is not None:
        name = request.headers.get("host", "")
        name = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() and not name.endswith("]") else name
        if name.lower() not in hosts:
            return JSONResponse({"detail": "the Host header names another server"}, 421)
    if token is None or request.url.path in ("/static/app.css", "/login"):
        return None
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _is_equal(given.strip(), token):
        return None
    if _is_equal(request.cookies.get(_COOKIE, ""), _cookie_value(token)):
        return None
    given = request.query_params.get("token", "")
    if given and request.method == "GET" and _is_equal(given, token):
        # Redirect to an address without the token, which would stay in the history and in copied links.
        rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
        return _with_cookie(RedirectResponse(request.url.path + (f"?{rest}" if rest else ""), 303), token)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": "a token is required"}, 401, {"WWW-Authenticate": "Bearer"})
    return HTMLResponse(templates.get_template("login.html").render(is_wrong=bool(given)), 401)


def _with_cookie(response: Response, token: str) -> Response:
    response.set_cookie(_COOKIE, _cookie_value(token), httponly=True, samesite="strict", max_age=30 * 24 * 3600)
    return response


def _add_login(app: FastAPI, token: str, templates: jinja2.Environment) -> None:
    @app.post("/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > 10_000:
                break
        given = dict(parse_qsl(body.decode("utf-8", "replace"))).get("token", "")
        if _is_equal(given, token):
            return _with_cookie(RedirectResponse("/", 303), token)
        return HTMLResponse(templates.get_template("login.html").render(is_wrong=True), 401)

    @app.get("/login", include_in_schema=False)
    def login_form() -> Response:
        return HTMLResponse(templates.get_template("login.html").render(is_wrong=False))
