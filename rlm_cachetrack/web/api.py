"""The JSON API under ``/api``: the numbers of the pages, described by OpenAPI."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel, create_model

from rlm_cachetrack.analytics import RunReport, TokenCacheOptimization, usage_views
from rlm_cachetrack.analytics.explain import report as explain
from rlm_cachetrack.formatting import Table

from .cached_queries import CachedQueries

VERSION = "1"

Since = Annotated[str | None, Query(description="From this time on, rounded to whole hours or minutes.")]
Until = Annotated[str | None, Query(description="Before this moment.")]
Range = Annotated[str, Query(alias="range", description=f"One of {', '.join(usage_views.RANGES)}.")]
Model = Annotated[str | None, Query(description="Only this model.")]
Provider = Annotated[str | None, Query(description="Only this provider.")]
QueryId = Annotated[str, Query(description="As in the list of runs.")]
RunId = Annotated[str, Query(description="ISO 8601 with an offset, as in the list of runs.")]
After = Annotated[str | None, Query(description="`next` of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Days = Annotated[int, Query(ge=1, le=366)]


def parse_moment(text: str, name: str) -> datetime:
    """Parse a time in a query string; without an offset it is UTC.

    Raises:
        HTTPException: The text is not a date and time (status 400).
    """
    try:
        # An unescaped plus sign arrives as a space.
        value = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text.strip())
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(400, f"{name}: expected a date and time such as 2026-01-31T12:00:00Z") from None


def parse_run(query_id: str, run_id: str) -> tuple[str, datetime]:
    """Parse the key of a run in a query string.

    Raises:
        HTTPException: The run's id is not a date and time (status 400).
    """
    return query_id.replace("\0", ""), parse_moment(run_id, "run_id")


@dataclass(frozen=True, slots=True)
class _Filters:
    """The filters of a usage page, as given in its query string."""

    range: str
    since: str
    until: str
    model: str
    provider: str

    def usage(self, queries: CachedQueries) -> usage_views.Usage:
        """Query the usage that the filters select. Blocks."""
        since = parse_moment(self.since, "since") if self.since else None
        until = parse_moment(self.until, "until") if self.until else None
        return queries.usage(usage_views.span(self.range, since, until), self.model or None, self.provider or None)


def _filters(
    name: Range = "7d", since: Since = None, until: Until = None, model: Model = None, provider: Provider = None
) -> _Filters:
    return _Filters(name, since or "", until or "", model or "", provider or "")


UsageFilters = Annotated[_Filters, Depends(_filters)]


class Api:
    """The endpoints of the JSON API. Each blocks for its query."""

    def __init__(self, queries: CachedQueries) -> None:
        self._queries = queries

    def router(self) -> APIRouter:
        """Return the routes; the docstrings of the endpoints describe them in OpenAPI."""
        savings, explanation = TokenCacheOptimization, explain.CacheExplanation
        router = APIRouter(prefix="/api", tags=["numbers"])
        for path, endpoint, response in (
            ("/usage", self.usage, _model(usage_views.Usage)),
            ("/savings", self.savings, list[_model(savings)]),  # type: ignore[misc]
            ("/runs", self.runs, _model(usage_views.RunsPage)),
            ("/run", self.run, _model(RunReport)),
            ("/run/calls", self.calls, _model(usage_views.CallsPage)),
            ("/run/explain", self.explanation, _model(explanation)),
            ("/forecast", self.forecast, dict[str, Any]),
            ("/health", self.health, dict[str, Any]),
        ):
            router.add_api_route(path, endpoint, response_model=response, summary=str(endpoint.__doc__).rstrip("."))
        return router

    def usage(self, filters: UsageFilters) -> Any:
        """Usage over time and by model."""
        return filters.usage(self._queries)

    def savings(self, limit: Limit = 25) -> Any:
        """The runs with the largest cache savings."""
        return self._queries.top_savings(limit)

    def runs(
        self,
        search: str | None = None,
        status: Annotated[str | None, Query(description="Only runs of this `state`.")] = None,
        sort: Annotated[str, Query(description=f"One of {', '.join(usage_views.SORTS)}.")] = "start",
        order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
        after: After = None,
        limit: Limit = 50,
    ) -> Any:
        """A page of the list of runs."""
        return self._queries.runs(
            search=search or None,
            state=status or None,
            sort=sort,
            ascending=order == "asc",
            after=after or None,
            limit=limit,
        )

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

    def forecast(self, days: Days = 30, model: Model = None) -> Any:
        """The cost of the next days, and the state of each budget."""
        return self._queries.forecast(days, model or None)

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
