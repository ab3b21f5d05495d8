"""``usage``: hit rate and cost over time, or by model, query, tag and more."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlm_cachetrack.formatting import clean, number, rate, usd

from .arguments import AsCsv, AsJson, DbUrl, GroupBy, open_client
from .filters import filtered
from .output import (
    NO_MATCH,
    Column,
    Figure,
    print_data,
    print_prose,
    saved,
    slow_status,
    stdout,
    table,
)
from .run_view import usage_chart

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters

_MOST_ROWS = 48


@filtered()
def usage(
    filters: CallFilters,
    by: GroupBy = None,
    name: Annotated[str, typer.Option("--range", metavar="RANGE", help="1h, 24h, 7d, 30d, 90d or all.")] = "7d",
    time_zone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Time zone of days, weeks and months.")
    ] = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show hit rate and cost over time, or by model, query, tag and more."""
    from rlm_cachetrack import analytics

    within = analytics.span(name, filters.get("since"), filters.get("until"))
    model, provider = filters.get("model"), filters.get("provider")
    grouped = by is not None or "query_id" in filters or "tags" in filters or time_zone != "UTC"
    group_by = tuple(part.strip() for part in (by or ("hour" if within.unit == "minute" else within.unit)).split(","))
    found: Any
    by_day = False
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        if grouped:
            chosen: CallFilters = {**filters, "since": within.since, "until": within.until}
            found = client.get_usage(group_by, time_zone=time_zone, **chosen)
        else:
            found = analytics.usage(client.reader(), within, model=model, provider=provider)
            hours = len(found["buckets"])
            by_day = within.unit != "day" and hours > _MOST_ROWS and not as_json and not as_csv
            if by_day:
                found = analytics.usage(client.reader(), replace(within, unit="day"), model=model, provider=provider)
    rows = found if grouped else found["buckets"]
    if print_data(found, as_json, as_csv, rows, "analytics.UsageGroup" if grouped else "analytics.UsageRow"):
        return
    console = stdout()
    if not rows:
        console.print(NO_MATCH if filters else "No calls in this time range.")
    elif grouped:
        shown = {"hour": _hour}
        keys = [
            Column(name, name, shown.get(name, _group_value), flexible=not index, style="bold", min_width=32)
            for index, name in enumerate(group_by)
        ]
        console.print(table([*keys, *_group_columns()], rows, console.width))
    else:
        console.print(usage_chart(found, min(console.width, 120), console.encoding.lower().startswith("utf")))
        if by_day:
            print_prose(console, f"By day, because there are {number(hours)} {within.unit}s with calls.", "dim")


def _group_columns() -> list[Column]:
    return [
        Figure("Calls", "total_interactions", number, optional=4),
        Figure("Failed", "failed_interactions", number, optional=6),
        Figure("Unpriced", "unpriced_interactions", number, optional=5),
        Figure("Prompt", lambda row: row["total_prompt_tokens"] or None, number, optional=3),
        Figure("Completion", "total_completion_tokens", number, optional=7),
        Figure("Hit rate", "cache_hit_rate", rate),
        Figure("Cost", "total_cost", usd),
        Figure("Saved", lambda row: saved(row["cost_savings"], row["cache_hit_rate"]), usd, optional=2),
    ]


def _hour(value: datetime) -> str:
    """Format an hour with its offset from UTC, because an hour that the clocks repeat is two hours."""
    return value.isoformat(" ", "minutes").removesuffix("+00:00")


def _group_value(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d")
    return "(none)" if value is None else clean(str(value))
