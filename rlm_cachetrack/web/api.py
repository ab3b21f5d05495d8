"""``/api/…``: the numbers of the pages as JSON, described by OpenAPI."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, create_model

from rlm_cachetrack.analytics import RunReport, TokenCacheOptimization, usage_views
from rlm_cachetrack.analytics.explain import report as explain
from rlm_cachetrack.formatting import tables

from .cached_queries import CachedQueries

__all__ = ["VERSION", "moment", "router", "span_of"]

VERSION = "1"

_made: dict[type, type[BaseModel]] = {}


def _model(row: type) -> type[BaseModel]:
    """A TypedDict of ours as a pydantic model; pydantic does not take those of Python 3.11 itself."""
    if row not in _made:
        fields: dict[str, Any] = {name: (_type(hint), ...) for name, hint in get_type_hints(row).items()}
        made: Any = create_model(row.__name__, __doc__=row.__doc__, **fields)
        _made[row] = made
    return _made[row]


def _type(hint: Any) -> Any:
    if get_origin(hint) in (list, tables.Table) and hasattr(get_args(hint)[0], "__total__"):
        return list[_model(get_args(hint)[0])]  # type: ignore[misc]
    return _model(hint) if hasattr(hint, "__total__") else hint


Range = Annotated[str, Query(alias="range", description=f"One of {', '.join(usage_views.RANGES)}.")]
Since = Annotated[str | None, Query(description="From this moment on, rounded to whole hours or minutes.")]
Until = Annotated[str | None, Query(description="Before this moment.")]
Model = Annotated[str | None, Query(description="Only this model.")]
Provider = Annotated[str | None, Query(description="Only this provider.")]
QueryId = Annotated[str, Query(description="As the runs list it.")]
RunId = Annotated[str, Query(description="ISO 8601 with an offset, as the runs list it.")]
After = Annotated[str | None, Query(description="`next` of the page before.")]


def moment(text: str, name: str) -> datetime:
    """A moment of a query string; UTC where it has no offset."""
    try:
        # A plus that was not escaped is a blank by now.
        value = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text.strip())
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(400, f"{name}: expected a date and time such as 2026-01-31T12:00:00Z") from None


def span_of(name: str, since: str | None, until: str | None) -> usage_views.Span:
    """The range that a query string names."""
    return usage_views.span(name, moment(since, "since") if since else None, moment(until, "until") if until else None)


def router(queries: CachedQueries) -> APIRouter:
    """The routes."""
    api = APIRouter(prefix="/api", tags=["numbers"])

    @api.get("/usage", response_model=_model(usage_views.Usage), summary="What was used, over time and by model")
    def usage(
        name: Range = "7d", since: Since = None, until: Until = None, model: Model = None, provider: Provider = None
    ) -> Any:
        return queries.usage(span_of(name, since, until), model or None, provider or None)

    @api.get(
        "/savings",
        response_model=list[_model(TokenCacheOptimization)],  # type: ignore[misc]
        summary="The runs in which the cache saved most",
    )
    def savings(limit: Annotated[int, Query(ge=1, le=1000)] = 25) -> Any:
        return queries.top_savings(limit)

    @api.get("/runs", response_model=_model(usage_views.RunsPage), summary="The list of runs, a page at a time")
    def runs(
        search: str | None = None,
        status: Annotated[str | None, Query(description="Only runs of this `state`.")] = None,
        sort: Annotated[str, Query(description=f"One of {', '.join(usage_views.SORTS)}.")] = "start",
        order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> Any:
        return queries.runs(
            search=search or None,
            state=status or None,
            sort=sort,
            ascending=order == "asc",
            after=after or None,
            limit=limit,
        )

    @api.get("/run", summary="One run: when and how it ended, its totals, and its iterations")
    def run(query_id: QueryId, run_id: RunId) -> dict[str, Any]:
        found = queries.run(query_id.replace("\0", ""), moment(run_id, "run_id"))
        if found is None:
            raise HTTPException(404, "no such run is stored")
        return found

    @api.get("/run/calls", response_model=_model(usage_views.CallsPage), summary="The calls of one run, page by page")
    def calls(
        query_id: QueryId, run_id: RunId, after: After = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> Any:
        return queries.calls(query_id.replace("\0", ""), moment(run_id, "run_id"), after or None, limit)

    @api.get("/run/explain", response_model=_model(explain.CacheExplanation), summary="Why the calls of one run missed")
    def explained(
        query_id: QueryId,
        run_id: RunId,
        limit: Annotated[int, Query(ge=1, le=10_000, description="Only so many calls, the newest.")] = 2_000,
    ) -> Any:
        query_id, key = query_id.replace("\0", ""), moment(run_id, "run_id")
        run = queries.run(query_id, key)
        found = None if run is None else queries.explanation(query_id, key, run["summary"], limit)
        if found is None:
            raise HTTPException(404, "no such run is stored, or it has no calls")
        return found

    @api.get("/forecast", summary="What the next days will cost, and how budgets stand")
    def forecast(days: Annotated[int, Query(ge=1, le=366)] = 30, model: Model = None) -> dict[str, Any]:
        return queries.forecast(days, model or None)

    @api.get("/health", summary="What is connected, and what waits to be stored on this machine")
    def health() -> dict[str, Any]:
        return queries.health()

    return api
