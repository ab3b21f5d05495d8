"""The pages, rendered by the server. A page is complete without JavaScript; with it, it refreshes itself on changes."""

from __future__ import annotations

import asyncio
import functools
import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from rlm_cachetrack.analytics import sorted_models, sorted_query_rows, time_ranges, usage_views, worse_queries
from rlm_cachetrack.formatting import clean

from . import charts
from .api import After, Days, Order, QueryId, RunId, Sort, parse_run
from .cached_queries import CachedQueries
from .overview import overview, period_before
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
_SAVINGS = 25
_WORSE_QUERIES = 3
_LOSSES_WAIT_S = 1.5

_WITHOUT_ADVICE = {
    "provider_miss": "The entry should have existed: nothing in the requests explains this miss.",
    "expired": "The entry had expired: calls in quicker succession, or a longer retention, would have read it.",
    "concurrent": "The calls were sent at the same time, before the first one had filled the cache.",
    "prefix_changed": "The prompt differs from the earlier one before its end; the calls of the run show where.",
    "model_changed": "Each model has its own cache.",
}
"""The texts for losses without advice."""

_MAX_FORM_BYTES = 100_000

Count = Annotated[int | None, Query(ge=0)]
By = Annotated[str, Query(max_length=200)]


class Pages:
    """The pages. Each blocks for its queries."""

    def __init__(self, queries: CachedQueries, templates: jinja2.Environment, app: FastAPI) -> None:
        self._queries = queries
        self._templates = templates
        self._app = app
        self._form_token = secrets.token_urlsafe(24)

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
            ("/alerts", self.alerts),
            ("/health", self.health),
            ("/api/docs", self.docs),
        ):
            router.add_api_route(path, self._shared(page))
        router.add_api_route("/health/dead-letters", self.change_dead_letters, methods=["POST"])
        router.add_api_route("/docs", lambda: RedirectResponse("/api/docs"))  # FastAPI's usual address
        return router

    def _shared(self, page: Callable[..., HTMLResponse]) -> Callable[..., HTMLResponse]:
        """Return a route that renders a page once for all equal requests; it has the parameters of the page."""

        @functools.wraps(page)
        def respond(**parameters: Any) -> HTMLResponse:
            body = self._queries.page((page.__name__, parameters), lambda: page(**parameters).body)
            return HTMLResponse(body)  # each request has its own, because the compression changes the headers

        return respond

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
        given: dict[str, Any] = {
            "view": view or View(),
            "ranges": _RANGE_NAMES,
            "default_range": "7d",
            "choices": lambda: self._queries.choices((view or View()).span(given["default_range"])),
            "figures": [],
            "rendered": datetime.now(UTC),
            **values,
        }
        shown = self._templates.get_template(template)
        return HTMLResponse(shown.render(page=page, title=title, live=status in (200, 503), **given), status)

    def problem(self, status: int, reason: str) -> HTMLResponse:
        """Render the page that explains an error. For status 503 it reloads itself when the database is back."""
        title = _PROBLEM_TITLES.get(status, "Something went wrong")
        return self.render("problem.html", title, status=status, reason=clean(reason), code=status)

    def overview(self, view: PageView) -> HTMLResponse:
        """The Overview: spend, savings, possible savings, and changes."""
        found = overview(self._queries, view)
        again = found["query_changes"] is None or any(
            report and report["pending_runs"] for report in (found["losses"], found["losses_before"])
        )
        return self.render("overview.html", "Overview", "overview", view=view, again=again, **found)

    def queries(self, view: PageView, by: By = "query", sort: str = "cost", order: Order = "desc") -> HTMLResponse:
        """Usage by query, tag or metadata key, and which one got worse."""
        span = view.span()
        rows = self._queries.query_rows(by, span, view.filters)
        return self.render(
            "queries.html",
            "Queries",
            "queries",
            view=view,
            rows=sorted_query_rows(rows, sort, is_ascending=order == "asc"),
            worse=worse_queries(rows)[:_WORSE_QUERIES],
            by=by,
            span=span,
            period=period_before(view),
            partial=self._queries.partial_data(span.before()),
            sorting={"sort": sort, "order": order},
        )

    def losses(self, view: PageView) -> HTMLResponse:
        """Losses through avoidable cache misses in the runs of a range, with reasons and advice."""
        report = self._queries.losses(view.span(), view.filters, _LOSSES_WAIT_S)
        return self.render(
            "losses.html",
            "Losses",
            "losses",
            view=view,
            report=report,
            reasons=_WITHOUT_ADVICE,
            again=bool(report["pending_runs"]),
        )

    def savings(self, view: PageView) -> HTMLResponse:
        """The runs with the largest cache savings."""
        found = self._queries.runs(view.span(), view.filters, sort="saved", limit=_SAVINGS)
        return self.render("savings.html", "Savings", "losses", view=view, runs=found["runs"])

    def models(self, view: PageView, sort: str = "cost", order: Order = "desc") -> HTMLResponse:
        """Usage by model."""
        usage = self._queries.usage(view.span(), view.filters)
        return self.render(
            "models.html",
            "Models",
            "models",
            view=view,
            usage=usage,
            rows=sorted_models(usage, sort, is_ascending=order == "asc"),
            figures=charts.of_models(usage["models"]),
            unpriced=self._queries.unpriced(usage, view.filters),
            sorting={"sort": sort, "order": order},
        )

    def failed(self, view: PageView) -> HTMLResponse:
        """The newest failed calls of a range."""
        return self.render(
            "failed.html",
            "Failed calls",
            "overview",
            view=view,
            calls=self._queries.failed_calls(view.span(), view.filters, _FAILED_CALLS),
            total=self._queries.usage(view.span(), view.filters)["total"],
            limit=_FAILED_CALLS,
        )

    def runs(
        self,
        view: PageView,
        search: str = "",
        status: str = "",
        outcome: str = "",
        sort: Sort = "start",
        order: Order = "desc",
        after: After = None,
    ) -> HTMLResponse:
        """The list of runs, one page at a time."""
        which = {"search": search, "state": status, "outcome": outcome}
        found = self._queries.runs(
            view.span("all"),
            view.filters,
            **which,
            sort=sort,
            ascending=order == "asc",
            after=after or None,
            limit=_RUNS_PER_PAGE,
        )
        return self.render(
            "runs.html",
            "Runs",
            "runs",
            view=view,
            default_range="all",
            **found,
            count=self._queries.count_runs(view.span("all"), view.filters, **which),
            after=after,
            kept={"search": search, "status": status, "outcome": outcome},
            sorting={"sort": sort, "order": order},
            statuses=_STATES,
            outcomes=usage_views.OUTCOMES,
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
        """Groups of runs with their outcomes and costs."""
        groups = self._queries.experiments(by, view.span("all"), view.filters)
        return self.render(
            "experiments.html",
            "Experiments",
            "experiments",
            view=view,
            default_range="all",
            groups=groups,
            by=by,
            figures=charts.of_experiments(groups),
        )

    def forecast(self, view: PageView, days: Days = 30) -> HTMLResponse:
        """The cost of the calendar month and of the next days, and the state of each budget."""
        found = self._queries.forecast(days, view.filters)
        month = self._queries.month(view.filters)
        spent = self._queries.usage(time_ranges.span("30d"), view.filters)
        return self.render(
            "forecast.html",
            "Forecast",
            "forecast",
            view=view,
            **found,
            month=month,
            days=days,
            figures=[*charts.of_month(month), *charts.of_forecast(found["forecast"], spent["buckets"])],
        )

    def alerts(self, view: PageView) -> HTMLResponse:
        """The states of the alert rules."""
        return self.render("alerts.html", "Alerts", "alerts", view=view, alerts=self._queries.alerts())

    def health(
        self,
        view: PageView,
        stored: Count = None,
        rejected: Count = None,
        kept: Count = None,
        waiting: Count = None,
        discarded: Count = None,
    ) -> HTMLResponse:
        """The state of the database, and of the journals of this machine."""
        health, unpriced = self._queries.health_of_page()
        return self.render(
            "health.html",
            "Health",
            "health",
            view=view,
            health=health,
            unpriced=unpriced,
            outcome={
                "Stored": stored,
                "Rejected again": rejected,
                "Not retried, because the journal is full": kept,
                "Waiting in the journal, because the database does not respond": waiting,
                "Deleted": discarded,
            },
            form_token=self._form_token,
        )

    async def change_dead_letters(self, request: Request) -> RedirectResponse:
        """Retry or discard the dead letters of a form on the page Health, then show that page with the outcome."""
        body = await request.body()
        if len(body) > _MAX_FORM_BYTES:
            raise HTTPException(413, "The form is too large.")
        form = parse_qs(body.decode("utf-8", "replace"))
        given, action, ids = form.get("form_token", [""])[0], form.get("action", [""])[0], form.get("id", [])
        # Another site can send a form to this server, but cannot read the token.
        if not hmac.compare_digest(given.encode(), self._form_token.encode()):
            raise HTTPException(403, "This form is not from this dashboard, or is old: reload the page Health.")
        if action == "retry":
            found = await asyncio.to_thread(self._queries.source.retry_dead_letters, ids)
            outcome = {"stored": found.stored, "rejected": found.rejected, "kept": found.kept}
            if not found.is_stored:
                outcome = {"waiting": found.retried}
        elif action == "discard":
            outcome = {"discarded": await asyncio.to_thread(self._queries.source.discard_dead_letters, ids)}
        else:
            raise HTTPException(400, "action: expected retry or discard")
        return RedirectResponse(f"/health?{urlencode(outcome)}", 303)

    def docs(self, view: PageView) -> HTMLResponse:
        """The description of the JSON API."""
        return self.render("docs.html", "API", "docs", view=view, spec=self._app.openapi())
