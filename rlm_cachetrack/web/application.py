"""The ASGI application: pages, JSON API, events, error pages and static files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from rlm_cachetrack.analytics.metrics import CONTENT_TYPE
from rlm_cachetrack.config import redact
from rlm_cachetrack.errors import CacheTrackError, ConfigError, RecordError, StoreError

from . import api, pages, static_files
from .access import AccessControl
from .cached_queries import CachedQueries
from .live import Live
from .rendering import environment

if TYPE_CHECKING:
    from .source import DashboardStore

_COMPRESSED_FROM_BYTES = 1_000


def build(source: DashboardStore, *, token: str | None, hosts: frozenset[str] | None, trace_url: str | None) -> FastAPI:
    """See :func:`.create_app`."""
    queries = CachedQueries(source)
    live = Live(queries)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await live.close()
        queries.close()

    app = FastAPI(
        title="rlm_cachetrack",
        summary="The numbers of the dashboard as JSON.",
        description="Times are ISO 8601 in UTC; costs in USD; rates 0-1, percentages 0-100; null means not known.",
        version=api.VERSION,
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's page loads scripts from another server; /api/docs is served by the pages
        redoc_url=None,
        redirect_slashes=False,  # the redirect would contain the Host header
        lifespan=lifespan,
    )
    templates = environment(trace_url)
    shown = pages.Pages(queries, templates, app)
    app.include_router(api.Api(queries).router())
    app.include_router(shown.router())
    app.include_router(static_files.router())
    _add_event_stream(app, live)
    _add_metrics(app, queries)
    _add_error_pages(app, shown)
    app.add_middleware(GZipMiddleware, minimum_size=_COMPRESSED_FROM_BYTES, compresslevel=5)
    app.add_middleware(AccessControl, token=token, hosts=hosts, templates=templates)
    return app


def _add_event_stream(app: FastAPI, live: Live) -> None:
    @app.get("/live", include_in_schema=False)
    async def stream() -> StreamingResponse:
        return StreamingResponse(
            live.events(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _add_metrics(app: FastAPI, queries: CachedQueries) -> None:
    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(queries.metrics(), media_type=CONTENT_TYPE)


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
    if request.scope["path"].startswith("/api/"):
        return JSONResponse({"detail": reason}, status)
    return shown.problem(status, reason)
