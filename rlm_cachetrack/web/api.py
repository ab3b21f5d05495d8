"""The JSON API under ``/api``: the numbers of the pages, described by OpenAPI."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, create_model

from rlm_cachetrack.analytics import (
    ContentFilters,
    Experiment,
    QueryRow,
    RunReport,
    TokenCacheOptimization,
    time_ranges,
    usage_views,
)
from rlm_cachetrack.analytics.alerts import AlertState
from rlm_cachetrack.analytics.explain import report as explain
from rlm_cachetrack.analytics.planning import MonthOutlook
from rlm_cachetrack.formatting import Table

from .cached_queries import CachedQueries
from .losses import LossReport
from .view import Model, Provider, QueryFilter, Range, Since, Tag, Until, View, parse_moment

VERSION = "1"
_LOSSES_WAIT_S = 5.0

QueryId = Annotated[str, Query(description="The id of the query, as in the list of runs.")]
RunId = Annotated[str, Query(description="The id of the run: ISO 8601 with an offset, as in the list of runs.")]
After = Annotated[str | None, Query(description="`next` of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most this number of rows.")]
Days = Annotated[int, Query(ge=1, le=366, description="The number of days, including today.")]
Search = Annotated[str, Query(description="Only runs whose query id contains this text.")]
State = Annotated[str, Query(description="Only runs of this `state`.")]
Outcome = Annotated[str, Query(description=f"Only runs of this outcome: {', '.join(usage_views.OUTCOMES)}.")]
Sort = Annotated[str, Query(description=f"One of {', '.join(usage_views.SORTS)}.")]
Order = Annotated[str, Query(pattern="^(asc|desc)$", description="asc: lowest first; desc: highest first.")]
By = Annotated[str, Query(description="query, tag:NAME or metadata.KEY.")]
ExperimentBy = Annotated[str, Query(description="query, model, label, tag:NAME or metadata.KEY.")]
AllRange = Annotated[
    str, Query(alias="range", description=f"One of {', '.join(time_ranges.RANGES)}; since and until replace it.")
]


def _usage_filters(
    name: Range = "7d",
    since: Since = None,
    until: Until = None,
    model: Model = None,
    provider: Provider = None,
    query: QueryFilter = None,
    tag: Tag = None,
) -> View:
    return View(name, since or "", until or "", model or "", provider or "", query or "", tag or "")


def _run_filters(view: Annotated[View, Depends(_usage_filters)], name: AllRange = "all") -> View:
    return replace(view, range=name)


def _call_filters(
    model: Model = None, provider: Provider = None, query: QueryFilter = None, tag: Tag = None
) -> ContentFilters:
    return View(model=model or "", provider=provider or "", query=query or "", tag=tag or "").filters


UsageFilters = Annotated[View, Depends(_usage_filters)]
RunFilters = Annotated[View, Depends(_run_filters)]
Filters = Annotated[ContentFilters, Depends(_call_filters)]


def parse_run(query_id: str, run_id: str) -> tuple[str, datetime]:
    """Parse the key of a run in a query string.

    Raises:
        HTTPException: The run's id is not a date and time (status 400).
    """
    return query_id.replace("\0", ""), parse_moment(run_id, "run_id")


def reject_unknown(request: Request) -> None:
    """Reject a request with a parameter that the endpoint does not describe (status 400): it would have no effect."""
    described = request.app.openapi()["paths"][request.scope["route"].path]["get"].get("parameters", [])
    known = {parameter["name"] for parameter in described}
    unknown = sorted(set(request.query_params) - known - {"token"})
    if unknown:
        given = ", ".join(name[:60] for name in unknown)
        raise HTTPException(400, f"unknown parameter {given}; expected {', '.join(sorted(known)) or 'none'}")


class Api:
    """The endpoints of the JSON API. Each blocks for its query."""

    def __init__(self, queries: CachedQueries) -> None:
        self._queries = queries

    def router(self) -> APIRouter:
        """Return the routes; the docstrings of the endpoints describe them in OpenAPI."""
        savings, explanation = TokenCacheOptimization, explain.CacheExplanation
        router = APIRouter(prefix="/api", tags=["numbers"], dependencies=[Depends(reject_unknown)])
        for path, endpoint, response in (
            ("/usage", self.usage, _model(usage_views.Usage)),
            ("/savings", self.savings, list[_model(savings)]),  # type: ignore[misc]
            ("/runs", self.runs, _model(usage_views.RunsPage)),
            ("/run", self.run, _model(RunReport)),
            ("/run/calls", self.calls, _model(usage_views.CallsPage)),
            ("/run/explain", self.explanation, _model(explanation)),
            ("/queries", self.queries, list[_model(QueryRow)]),  # type: ignore[misc]
            ("/losses", self.losses, _model(LossReport)),
            ("/month", self.month, _model(MonthOutlook)),
            ("/experiments", self.experiments, list[_model(Experiment)]),  # type: ignore[misc]
            ("/forecast", self.forecast, dict[str, Any]),
            ("/alerts", self.alerts, list[_model(AlertState)]),  # type: ignore[misc]
            ("/health", self.health, dict[str, Any]),
        ):
            router.add_api_route(path, endpoint, response_model=response, summary=str(endpoint.__doc__).rstrip("."))
        return router

    def usage(self, filters: UsageFilters) -> Any:
        """Usage over time and by model."""
        return self._queries.usage(filters.span(), filters.filters)

    def savings(self, limit: Limit = 25) -> Any:
        """The runs with the largest cache savings."""
        return self._queries.top_savings(limit)

    def runs(
        self,
        view: RunFilters,
        search: Search = "",
        status: State = "",
        outcome: Outcome = "",
        sort: Sort = "start",
        order: Order = "desc",
        after: After = None,
        limit: Limit = 50,
    ) -> Any:
        """A page of the list of runs."""
        return self._queries.runs(
            view.span("all"),
            view.filters,
            search=search,
            state=status,
            outcome=outcome,
            sort=sort,
            ascending=order == "asc",
            after=after or None,
            limit=limit,
        )

    def queries(self, view: UsageFilters, by: By = "query") -> Any:
        """Usage by query, tag or metadata key, with the cost per solved task."""
        return self._queries.query_rows(by, view.span(), view.filters)

    def losses(self, view: UsageFilters) -> Any:
        """Losses through avoidable cache misses in the runs of a range, by query and reason. Waits for at most 5 s."""
        return self._queries.losses(view.span(), view.filters, _LOSSES_WAIT_S)

    def month(self, filters: Filters) -> Any:
        """The calendar month: spend, expected cost, and budget."""
        return self._queries.month(filters)

    def experiments(self, view: RunFilters, by: ExperimentBy = "query") -> Any:
        """Groups of runs with their outcomes and costs."""
        return self._queries.experiments(by, view.span("all"), view.filters)

    def run(self, query_id: QueryId, run_id: RunId) -> Any:
        """One run: its status, totals and iterations."""
        found = self._queries.run(*parse_run(query_id, run_id))
        if found is None:
            raise HTTPException(404, "no such run is stored")
        return found

    def calls(self, query_id: QueryId, run_id: RunId, after: After = None, limit: Limit = 100) -> Any:
        """The calls of one run, one page at a time."""
        return self._queries.calls(*parse_run(query_id, run_id), after or None, limit)

    def explanation(
        self,
        query_id: QueryId,
        run_id: RunId,
        limit: Annotated[int, Query(ge=1, le=10_000, description="Only this many calls, the newest.")] = 2_000,
    ) -> Any:
        """The cache misses of one run, and the reasons."""
        key = parse_run(query_id, run_id)
        run = self._queries.run(*key)
        found = None if run is None else self._queries.explanation(*key, run["summary"], limit)
        if found is None:
            raise HTTPException(404, "no such run is stored, or it has no calls")
        return found

    def forecast(self, filters: Filters, days: Days = 30) -> Any:
        """The cost of the next days, and the state of each budget."""
        return self._queries.forecast(days, filters)

    def alerts(self) -> Any:
        """The states of the alert rules since their last changes."""
        return self._queries.alerts()

    def health(self) -> Any:
        """The state of the database, and of the journals of this machine."""
        return self._queries.health()


_models: dict[type, type[BaseModel]] = {}


def _model(row: type) -> type[BaseModel]:
    """Return the pydantic model of a TypedDict. Pydantic itself does not accept those of Python 3.11."""
    if row not in _models:
        fields: dict[str, Any] = {name: (_field_type(hint), ...) for name, hint in get_type_hints(row).items()}
        made: Any = create_model(row.__name__, __doc__=row.__doc__, **fields)
        _models[row] = made
    return _models[row]


def _field_type(hint: Any) -> Any:
    if get_origin(hint) in (list, Table) and hasattr(get_args(hint)[0], "__total__"):
        return list[_model(get_args(hint)[0])]  # type: ignore[misc]
    return _model(hint) if hasattr(hint, "__total__") else hint
