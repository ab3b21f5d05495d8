"""The templates, with their filters, and the static files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import jinja2

from rlm_cachetrack.analytics import cost_trend, costs_of_outcome, is_cache_use_reported, mixed_queries
from rlm_cachetrack.analytics.explain import doubt_words, hit_rate_words, sureness_words
from rlm_cachetrack.formatting import text as wording

from .static_files import static_url

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import CacheExplanation, CallVerdict

HERE = Path(__file__).parent


def environment(trace_url: str | None = None) -> jinja2.Environment:
    """Return the environment of the templates; it escapes every value.

    Args:
        trace_url: Address of a trace, in which ``{trace_id}`` stands for its id; None: traces are not linked.
    """
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in (
        "number",
        "large_number",
        "rate",
        "percentage",
        "usd",
        "signed_usd",
        "signed_usd_column",
        "duration",
        "size",
        "clean",
        "verdict",
        "judged_words",
        "outcome_words",
    ):
        templates.filters[name] = getattr(wording, name)
    templates.tests["reporting_cache_use"] = is_cache_use_reported
    templates.globals["hit_rate_words"] = hit_rate_words
    templates.globals["dropped_details"] = wording.dropped_details
    templates.globals["static_url"] = static_url
    templates.globals["trace_link"] = lambda trace_id: _trace_link(trace_url, trace_id)
    templates.filters.update(day=_day, clock=_clock, spark=_spark, line=_line, points=_percentage_points)
    templates.filters["outcome_costs"] = lambda groups: [costs_of_outcome(group)._asdict() for group in groups]
    templates.globals["mixed_queries"] = mixed_queries
    templates.filters["cost_trend"] = cost_trend
    templates.filters["short"] = _short
    templates.filters["query"] = _query
    templates.filters["containing"] = _containing
    templates.filters["sureness"] = sureness_words
    templates.filters["doubt"] = doubt_words
    templates.filters["usd_column"] = _usd_column
    templates.policies["json.dumps_kwargs"] = {"default": _json_default}
    return templates


def verdicts(explained: CacheExplanation | None) -> dict[str, CallVerdict]:
    """Return the verdicts of an explanation by ``interaction_id``."""
    return {} if explained is None else {each["interaction_id"]: each for each in explained["interactions"]}


def _trace_link(trace_url: str | None, trace_id: str | None) -> str | None:
    return trace_url.replace("{trace_id}", quote(trace_id, safe="")) if trace_url and trace_id else None


def _short(text: object, max_length: int = 60) -> str:
    shown = wording.clean(text)
    return shown if len(shown) <= max_length else f"{shown[: max_length - 1]}…"


def _in_zone(context: jinja2.runtime.Context, value: datetime) -> datetime:
    """Return the local time of the page as if it were UTC, because the formats show UTC."""
    view = context.get("view")
    return value if view is None else value.astimezone(view.zone).replace(tzinfo=UTC)


@jinja2.pass_context
def _day(context: jinja2.runtime.Context, value: datetime) -> str:
    return wording.day(_in_zone(context, value))


@jinja2.pass_context
def _clock(context: jinja2.runtime.Context, value: datetime, *, full: bool = False) -> str:
    return wording.clock(_in_zone(context, value), full=full)


def _percentage_points(value: float | None) -> str:
    """Format a change between two rates in percentage points: ``+3.2``."""
    return wording.NONE if value is None else f"{100 * value:+.1f}"


def _spark(values: Sequence[float | None]) -> list[str]:
    """Return the points of a line over the values in a box of 100 x 24; an unknown value counts as 0."""
    known = [value or 0.0 for value in values]
    top, last = max([*known, 0.0]), len(known) - 1
    if last < 1 or top <= 0:
        return []
    return [f"{100 * number / last:.1f},{23 - 22 * max(value, 0.0) / top:.1f}" for number, value in enumerate(known)]


def _line(points: Sequence[str]) -> str:
    """Join the points of a line, without those between two points of the same height, which do not change it."""
    heights = [point.partition(",")[2] for point in points]
    ends = {0, len(points) - 1}
    kept = (each for each in range(len(points)) if each in ends or len(set(heights[each - 1 : each + 2])) > 1)
    return " ".join(points[each] for each in kept)


def _usd_column(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return wording.usd_column(row[name] for row in rows)


def _query(parameters: dict[str, Any]) -> str:
    return urlencode({name: value for name, value in parameters.items() if value not in (None, "")})


def _containing(texts: Sequence[str], part: str) -> list[str]:
    """Return the texts that contain a part, in upper or lower case."""
    return [text for text in texts if part.casefold() in text.casefold()]


def _json_default(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
