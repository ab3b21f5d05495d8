"""The pages, rendered by the server. A page is complete without JavaScript; with it, it refreshes itself on changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, RedirectResponse

from rlm_cachetrack.analytics import usage_views
from rlm_cachetrack.formatting import clean

from . import charts
from .api import After, Days, Limit, Model, QueryId, RunId, UsageFilters, parse_run
from .cached_queries import CachedQueries
from .rendering import verdicts

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
_PROBLEM_TITLES = {400: "Invalid request", 404: "Not found", 503: "The database is not responding"}
_RUNS_PER_PAGE = 50
_NEWEST_RUNS = 8
_CALLS_PER_PAGE = 100


class Pages:
    """The pages. Each blocks for its queries."""

    def __init__(self, queries: CachedQueries, templates: jinja2.Environment, app: FastAPI) -> None:
        self._queries = queries
        self._templates = templates
        self._app = app

    def router(self) -> APIRouter:
        """Return the routes of the pages."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        for path, page in (
            ("/", self.overview),
            ("/models", self.models),
            ("/savings", self.savings),
            ("/runs", self.runs),
            ("/run", self.run),
            ("/forecast", self.forecast),
            ("/health", self.health),
            ("/api/docs", self.docs),
        ):
            router.add_api_route(path, page)
        router.add_api_route("/docs", lambda: RedirectResponse("/api/docs"))  # FastAPI's usual address
        return router

    def render(self, template: str, title: str, page: str = "", status: int = 200, **values: Any) -> HTMLResponse:
        """Render a template as a response.

        Args:
            template: Name of the template's file.
            title: Title of the page.
            page: Key of the page in the navigation.
            status: HTTP status.
            values: Variables of the template.
        """
        text = self._templates.get_template(template).render(
            page=page, title=title, rendered=datetime.now(UTC), live=status in (200, 503), **values
        )
        return HTMLResponse(text, status)

    def problem(self, status: int, reason: str) -> HTMLResponse:
        """Render the page that explains an error. For status 503 it reloads itself when the database is back."""
        title = _PROBLEM_TITLES.get(status, "Something went wrong")
        return self.render("problem.html", title, status=status, reason=clean(reason), code=status)

    def overview(self, filters: UsageFilters) -> HTMLResponse:
        """Totals and usage over time, and the newest runs."""
        values = self._filtered(filters)
        newest = self._queries.runs(limit=_NEWEST_RUNS)["runs"]
        figures = charts.of_usage(values["usage"])
        return self.render("overview.html", "Overview", "overview", figures=figures, newest=newest, **values)

    def models(self, filters: UsageFilters) -> HTMLResponse:
        """Usage by model."""
        values = self._filtered(filters)
        figures = charts.of_models(values["usage"]["models"])
        unpriced = self._queries.unpriced(values["usage"], filters.model, filters.provider)
        return self.render("models.html", "Models", "models", figures=figures, unpriced=unpriced, **values)

    def savings(self, limit: Limit = 25) -> HTMLResponse:
        """The runs with the largest cache savings."""
        return self.render("savings.html", "Top savings", "savings", top=self._queries.top_savings(limit))

    def runs(
        self,
        search: str = "",
        status: str = "",
        sort: str = "start",
        order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
        after: After = None,
    ) -> HTMLResponse:
        """The list of runs, one page at a time."""
        found = self._queries.runs(
            search=search or None,
            state=status or None,
            sort=sort,
            ascending=order == "asc",
            after=after or None,
            limit=_RUNS_PER_PAGE,
        )
        return self.render(
            "runs.html",
            "Runs",
            "runs",
            **found,
            after=after,
            filters={"search": search, "status": status, "sort": sort, "order": order},
            sorts=_SORT_NAMES,
            statuses=_STATES,
        )

    def run(self, query_id: QueryId, run_id: RunId, after: After = None) -> HTMLResponse:
        """One run: totals, charts, cache misses, iterations, calls."""
        key = parse_run(query_id, run_id)
        found = self._queries.run(*key)
        if found is None:
            raise HTTPException(404, "No such run is stored.")
        calls = self._queries.calls(*key, after or None, _CALLS_PER_PAGE)
        explained = self._queries.explanation(*key, found["summary"])
        figures = [*charts.of_iterations(found["iterations"]), *charts.of_calls(calls["calls"])]
        return self.render(
            "run.html",
            "Run",
            "runs",
            **found,
            **calls,
            after=after,
            figures=figures,
            misses=explained,
            why=verdicts(explained),
        )

    def forecast(self, days: Days = 30, model: Model = "") -> HTMLResponse:
        """The cost of the next days, and the state of each budget."""
        found = self._queries.forecast(days, model or None)
        spent = self._queries.usage(usage_views.span("30d"), model or None)
        return self.render(
            "forecast.html",
            "Forecast",
            "forecast",
            **found,
            figures=charts.of_forecast(found["forecast"], spent["buckets"]),
            filters={"days": days, "model": model or ""},
            models=_with(spent["choices"]["models"], model),
        )

    def health(self) -> HTMLResponse:
        """The state of the database, and of the journals of this machine."""
        return self.render("health.html", "Health", "health", health=self._queries.health())

    def docs(self) -> HTMLResponse:
        """The description of the JSON API."""
        return self.render("docs.html", "API", "docs", spec=self._app.openapi())

    def _filtered(self, filters: UsageFilters) -> dict[str, Any]:
        """Return the usage that the filters select, and the variables of the filter form."""
        usage = filters.usage(self._queries)
        return {
            "usage": usage,
            "filters": filters,
            "ranges": _RANGE_NAMES,
            "models": _with(usage["choices"]["models"], filters.model),
            "providers": _with(usage["choices"]["providers"], filters.provider),
        }


def _with(choices: list[str], chosen: str | None) -> list[str]:
    """Return the choices in order, including the selected one even if it is unknown."""
    return sorted({*choices, chosen}) if chosen else choices
