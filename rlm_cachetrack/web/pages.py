"""The pages: read, put into a template. Each is whole without script; with it, it fetches itself anew on news."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from rlm_cachetrack.formatting import clean

from . import charts
from .api import After, Model, Provider, QueryId, Range, RunId, Since, Until, moment, span_of
from .cached_queries import CachedQueries
from .rendering import verdicts

__all__ = ["Pages"]

_RANGE_NAMES = {
    "1h": "last hour",
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
    "all": "all time",
}
_SORT_NAMES = {
    "start": "newest",
    "cost": "cost",
    "saved": "saved",
    "hit_rate": "hit rate",
    "calls": "calls",
    "tokens": "prompt tokens",
    "duration": "duration",
}
_STATES = ("running", "completed", "error", "never completed", "imported")
_ON_A_PAGE = 50
_CALLS_ON_A_PAGE = 100


class Pages:
    """The routes of the pages."""

    def __init__(self, queries: CachedQueries, templates: jinja2.Environment, app: FastAPI) -> None:
        self._queries = queries
        self._templates = templates
        self._app = app

    def show(
        self, request: Request, template: str, page: str, title: str, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A template as a response."""
        text = self._templates.get_template(template).render(
            page=page, title=title, rendered=datetime.now(UTC), live=status in (200, 503), **values
        )
        return HTMLResponse(text, status)

    def problem(self, request: Request, status: int, reason: str) -> HTMLResponse:
        """A page that says what is the matter; it comes back by itself when the database does."""
        titles = {400: "That cannot be shown", 404: "Nothing here", 503: "The database does not answer"}
        title = titles.get(status, "That did not work")
        return self.show(request, "problem.html", "", title, status, reason=clean(reason), code=status)

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(include_in_schema=False)
        queries = self._queries

        def filtered(request: Request, name: str, since: str, until: str, model: str, provider: str) -> dict[str, Any]:
            span = span_of(name, since or None, until or None)
            usage = queries.usage(span, model or None, provider or None)
            return {
                "usage": usage,
                "filters": {"range": name, "since": since, "until": until, "model": model, "provider": provider},
                "ranges": _RANGE_NAMES,
                "models": _with(usage["choices"]["models"], model),
                "providers": _with(usage["choices"]["providers"], provider),
            }

        @router.get("/")
        def overview(
            request: Request,
            name: Range = "7d",
            since: Since = "",
            until: Until = "",
            model: Model = "",
            provider: Provider = "",
        ) -> Any:
            values = filtered(request, name, since or "", until or "", model or "", provider or "")
            newest = queries.runs(limit=8)["runs"]
            figures = charts.of_usage(values["usage"])
            return self.show(request, "overview.html", "overview", "Overview", figures=figures, newest=newest, **values)

        @router.get("/models")
        def models(
            request: Request,
            name: Range = "7d",
            since: Since = "",
            until: Until = "",
            model: Model = "",
            provider: Provider = "",
        ) -> Any:
            values = filtered(request, name, since or "", until or "", model or "", provider or "")
            figures = charts.of_models(values["usage"]["models"])
            return self.show(request, "models.html", "models", "Models", figures=figures, **values)

        @router.get("/savings")
        def savings(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 25) -> Any:
            return self.show(request, "savings.html", "savings", "Top savings", top=queries.top_savings(limit))

        @router.get("/runs")
        def runs(
            request: Request,
            search: str = "",
            status: str = "",
            sort: str = "start",
            order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
            after: After = None,
        ) -> Any:
            found = queries.runs(
                search=search or None,
                state=status or None,
                sort=sort,
                ascending=order == "asc",
                after=after or None,
                limit=_ON_A_PAGE,
            )
            return self.show(
                request,
                "runs.html",
                "runs",
                "Runs",
                runs=found["runs"],
                next=found["next"],
                after=after,
                filters={"search": search, "status": status, "sort": sort, "order": order},
                sorts=_SORT_NAMES,
                statuses=_STATES,
            )

        @router.get("/run")
        def run(request: Request, query_id: QueryId, run_id: RunId, after: After = None) -> Any:
            query_id, key = query_id.replace("\0", ""), moment(run_id, "run_id")
            found = queries.run(query_id, key)
            if found is None:
                raise HTTPException(404, "No such run is stored.")
            calls = queries.calls(query_id, key, after or None, _CALLS_ON_A_PAGE)
            explained = queries.explanation(query_id, key, found["summary"])
            figures = [*charts.of_iterations(found["iterations"]), *charts.of_calls(calls["calls"])]
            return self.show(
                request,
                "run.html",
                "runs",
                "Run",
                **found,
                calls=calls["calls"],
                next=calls["next"],
                after=after,
                figures=figures,
                misses=explained,
                why=verdicts(explained),
            )

        @router.get("/forecast")
        def forecast(request: Request, days: Annotated[int, Query(ge=1, le=366)] = 30, model: Model = "") -> Any:
            found = queries.forecast(days, model or None)
            month = span_of("30d", None, None)
            spent = queries.usage(month, model or None)
            return self.show(
                request,
                "forecast.html",
                "forecast",
                "Forecast",
                **found,
                figures=charts.of_forecast(found["forecast"], spent["buckets"]),
                filters={"days": days, "model": model or ""},
                models=_with(spent["choices"]["models"], model),
            )

        @router.get("/health")
        def health(request: Request) -> Any:
            return self.show(request, "health.html", "health", "Health", health=queries.health())

        @router.get("/docs")
        def usual_docs() -> Any:
            return RedirectResponse("/api/docs")

        @router.get("/api/docs")
        def docs(request: Request) -> Any:
            return self.show(request, "docs.html", "docs", "API", spec=self._app.openapi())

        return router


def _with(known: list[str], chosen: str | None) -> list[str]:
    """What can be chosen, and what is."""
    return sorted({*known, chosen}) if chosen else known
