"""The pages, rendered by the server. A page is complete without JavaScript; with it, it refreshes itself on changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, RedirectResponse

from rlm_cachetrack.analytics import sorted_models, usage_views
from rlm_cachetrack.formatting import clean

from . import charts
from .api import After, Days, Limit, Order, QueryId, RunId, Sort, parse_run, run_filters
from .cached_queries import CachedQueries
from .overview import overview
from .rendering import verdicts
from .view import PageView, View

_RANGE_NAMES = {
    "1h": "last hour",
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
    "all": "all time",
}
_STATES = ("running", "completed", "error", "never completed", "imported")
_PROBLEM_TITLES = {400: "Invalid request", 404: "Not found", 503: "The database is not responding"}
_RUNS_PER_PAGE = 50
_CALLS_PER_PAGE = 100
_FAILED_CALLS = 200
_LOSSES_WAIT_S = 1.5
_GROUPINGS = ("query", "model", "label")

_WITHOUT_ADVICE = {
    "provider_miss": "The entry should have existed: nothing in the requests explains this miss.",
    "expired": "The entry had expired: calls in quicker succession, or a longer retention, would have read it.",
    "concurrent": "The calls were sent at the same time, before the first one had filled the cache.",
    "prefix_changed": "The prompt differs from the earlier one before its end; the calls of the run show where.",
    "model_changed": "Each model has a cache of its own.",
}
"""What is shown of a loss for which explain has no advice."""

By = Annotated[str, Query(max_length=200)]


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
            ("/queries", self.queries),
            ("/losses", self.losses),
            ("/savings", self.savings),
            ("/models", self.models),
            ("/runs", self.runs),
            ("/run", self.run),
            ("/failed", self.failed),
            ("/experiments", self.experiments),
            ("/forecast", self.forecast),
            ("/health", self.health),
            ("/api/docs", self.docs),
        ):
            router.add_api_route(path, page)
        router.add_api_route("/docs", lambda: RedirectResponse("/api/docs"))  # FastAPI's usual address
        return router

    def render(
        self, template: str, title: str, page: str = "", status: int = 200, view: View | None = None, **values: Any
    ) -> HTMLResponse:
        """Render a template as a response.

        Args:
            template: Name of the template's file.
            title: Title of the page.
            page: Key of the page in the navigation.
            status: HTTP status.
            view: The range, filters and time zone.
            values: Variables of the template.
        """
        given = {"view": view or View(), "ranges": _RANGE_NAMES, "figures": [], "rendered": datetime.now(UTC), **values}
        shown = self._templates.get_template(template)
        return HTMLResponse(shown.render(page=page, title=title, live=status in (200, 503), **given), status)

    def problem(self, status: int, reason: str) -> HTMLResponse:
        """Render the page that explains an error. For status 503 it reloads itself when the database is back."""
        title = _PROBLEM_TITLES.get(status, "Something went wrong")
        return self.render("problem.html", title, status=status, reason=clean(reason), code=status)

    def overview(self, view: PageView) -> HTMLResponse:
        """What was spent and saved, what could still be saved, and what changed."""
        found = overview(self._queries, view)
        again = any(report and report["pending_runs"] for report in (found["losses"], found["losses_before"]))
        return self.render(
            "overview.html", "Overview", "overview", view=view, again=again, **found, **_choices(found["usage"], view)
        )

    def queries(self, view: PageView, by: By = "query") -> HTMLResponse:
        """Usage by query, tag or metadata key."""
        usage = view.usage(self._queries)
        rows = self._queries.query_rows(by, view.span(), view.model or None, view.provider or None)
        groupings = _with(["query", *self._queries.groupings()], by)
        return self.render(
            "queries.html",
            "Queries",
            "queries",
            view=view,
            rows=rows,
            by=by,
            groupings=groupings,
            **_choices(usage, view),
        )

    def losses(self, view: PageView) -> HTMLResponse:
        """What the newest runs lost by avoidable cache misses, with the reasons and advice."""
        usage = view.usage(self._queries)
        model, provider = view.model or None, view.provider or None
        report = self._queries.losses(view.span(), model, provider, _LOSSES_WAIT_S)
        span = view.span()
        filters = {"since": span.since, "until": span.until, "model": model, "provider": provider}
        return self.render(
            "losses.html",
            "Losses",
            "losses",
            view=view,
            report=report,
            reasons=_WITHOUT_ADVICE,
            all_runs=self._queries.count_runs(**filters),
            again=bool(report["pending_runs"]),
            **_choices(usage, view),
        )

    def savings(self, view: PageView, limit: Limit = 25) -> HTMLResponse:
        """The runs with the largest cache savings."""
        top = self._queries.top_savings(limit)
        return self.render("savings.html", "Savings", "losses", view=view, top=top)

    def models(self, view: PageView, sort: str = "cost", order: Order = "desc") -> HTMLResponse:
        """Usage by model."""
        usage = view.usage(self._queries)
        rows = sorted_models(usage, sort, is_ascending=order == "asc")
        unpriced = self._queries.unpriced(usage, view.model, view.provider)
        return self.render(
            "models.html",
            "Models",
            "models",
            view=view,
            usage=usage,
            rows=rows,
            figures=charts.of_models(usage["models"]),
            unpriced=unpriced,
            sorting={"sort": sort, "order": order},
            **_choices(usage, view),
        )

    def failed(self, view: PageView) -> HTMLResponse:
        """The newest failed calls of a range."""
        usage = view.usage(self._queries)
        calls = self._queries.failed_calls(view.span(), view.model or None, view.provider or None, _FAILED_CALLS)
        return self.render(
            "failed.html",
            "Failed calls",
            "overview",
            view=view,
            calls=calls,
            total=usage["total"],
            limit=_FAILED_CALLS,
            **_choices(usage, view),
        )

    def runs(
        self,
        view: PageView,
        search: str = "",
        status: str = "",
        tag: str = "",
        sort: Sort = "start",
        order: Order = "desc",
        after: After = None,
    ) -> HTMLResponse:
        """The list of runs, one page at a time."""
        filters = run_filters(view, search, status, tag)
        found = self._queries.runs(
            **filters, sort=sort, ascending=order == "asc", after=after or None, limit=_RUNS_PER_PAGE
        )
        usage = view.usage(self._queries, "all")
        return self.render(
            "runs.html",
            "Runs",
            "runs",
            view=view,
            **found,
            count=self._queries.count_runs(**filters),
            after=after,
            kept={"search": search, "status": status, "tag": tag},
            sorting={"sort": sort, "order": order},
            statuses=_STATES,
            **_choices(usage, view),
        )

    def run(self, view: PageView, query_id: QueryId, run_id: RunId, after: After = None) -> HTMLResponse:
        """One run: totals, cache misses, charts, iterations, calls."""
        key = parse_run(query_id, run_id)
        found = self._queries.run(*key)
        if found is None:
            raise HTTPException(404, "No such run is stored.")
        calls = self._queries.calls(*key, after or None, _CALLS_PER_PAGE)
        explained = self._queries.explanation(*key, found["summary"])
        figures = [*charts.of_iterations(found["iterations"]), *charts.of_calls(calls["calls"], view.zone)]
        return self.render(
            "run.html",
            "Run",
            "runs",
            view=view,
            **found,
            **calls,
            after=after,
            figures=figures,
            misses=explained,
            why=verdicts(explained),
        )

    def experiments(self, view: PageView, by: By = "query") -> HTMLResponse:
        """What groups of runs achieved, and what that cost."""
        groups = self._queries.experiments(by, view.span("all"))
        return self.render(
            "experiments.html",
            "Experiments",
            "experiments",
            view=view,
            groups=groups,
            by=by,
            groupings=_with([*_GROUPINGS, *self._queries.groupings()], by),
            figures=charts.of_experiments(groups),
        )

    def forecast(self, view: PageView, days: Days = 30) -> HTMLResponse:
        """The cost of the calendar month and of the next days, and the state of each budget."""
        model = view.model or None
        found = self._queries.forecast(days, model)
        month = self._queries.month(model, None)
        spent = self._queries.usage(usage_views.span("30d"), model)
        return self.render(
            "forecast.html",
            "Forecast",
            "forecast",
            view=view,
            **found,
            month=month,
            days=days,
            figures=[*charts.of_month(month), *charts.of_forecast(found["forecast"], spent["buckets"])],
            **_choices(spent, view),
        )

    def health(self, view: PageView) -> HTMLResponse:
        """The state of the database, and of the journals of this machine."""
        return self.render("health.html", "Health", "health", view=view, health=self._queries.health())

    def docs(self, view: PageView) -> HTMLResponse:
        """The description of the JSON API."""
        return self.render("docs.html", "API", "docs", view=view, spec=self._app.openapi())


def _choices(usage: usage_views.Usage, view: View) -> dict[str, Any]:
    """Return the models and providers to filter by."""
    return {
        "models": _with(usage["choices"]["models"], view.model),
        "providers": _with(usage["choices"]["providers"], view.provider),
    }


def _with(choices: list[str], chosen: str | None) -> list[str]:
    """Return the choices, including the selected one even if it is unknown."""
    return [*choices, chosen] if chosen and chosen not in choices else choices
