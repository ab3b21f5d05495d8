"""``runs``, ``show``, ``top``, ``models``, ``usage``: show stored runs and calls."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from rlm_cachetrack.errors import ConfigError, StoreError
from rlm_cachetrack.formatting import clean, duration, moment, number, percentage, rate, usd

from .arguments import (
    AsCsv,
    AsJson,
    DbUrl,
    ModelFilter,
    NotFound,
    OptionalQueryId,
    ProviderFilter,
    QueryFilter,
    QueryId,
    TagFilter,
    command_line,
    open_client,
    option,
    parse_moment,
    parse_tags,
)
from .lifecycle import print_lifecycle
from .output import (
    Column,
    Figure,
    counted,
    print_data,
    print_json,
    print_line,
    require_one_format,
    shorten,
    slow_status,
    stdout,
    table,
)
from .run_selection import find_run
from .run_view import print_report, usage_chart
from .unpriced import unpriced_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm_cachetrack.analytics import RunLevel, TokenCacheOptimization

_LIVE_S = 0.5

_EMPTY = "Nothing is stored yet."
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Maximum number of rows.")]
Since = Annotated[
    str | None, option("--since", metavar="WHEN", help="Only calls since this time: 2026-01-31 (UTC), 7d, 24h.")
]
Until = Annotated[str | None, option("--until", metavar="WHEN", help="Only calls before this time.")]
GROUPINGS = "model, provider, query, depth, call_site, tag:NAME, metadata.KEY, hour, day, week, month"
GroupBy = Annotated[str | None, option("--by", metavar="GROUPINGS", help=f"{GROUPINGS}; several with commas.")]
Run = Annotated[
    str,
    typer.Option("--run", metavar="RUN_ID", help="The run: latest, an id listed by `runs`, or the beginning of one."),
]


def runs(
    query: OptionalQueryId = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """List the newest runs."""
    require_one_format(as_json, as_csv)
    with open_client(db_url) as client, slow_status("reading the runs"):
        found = client.list_query_runs(limit=limit + 1, query_id=query)
    more = len(found) > limit
    del found[limit:]
    if print_data(found, as_json, as_csv, row_type="analytics.RunListing"):
        return
    console = stdout()
    if not found:
        if query is None:
            console.print(f"{_EMPTY} To see how it looks, run `{command_line('demo')}`.", soft_wrap=True)
        else:
            console.print(f"No run of query {query!r} is stored.", soft_wrap=True)
        return
    all_completed = all(run["state"] == "completed" for run in found)
    columns = [
        Column("Query", "query_id", flexible=True, style="bold", min_width=14),
        Column("Run (UTC)", lambda run: moment(run["run_id"], full=full), style="cyan", optional=1),
        Column("Status", lambda run: shorten(clean(run["state"]), 15).plain, optional=6 if all_completed else 4),
        Figure("Calls", "total_interactions", number, optional=5),
        Figure("Failed", "failed_interactions", number, optional=8),
        Figure("Prompt", lambda run: run["total_prompt_tokens"] or None, number, optional=7),
        Figure(
            "Completion",
            lambda run: run["total_completion_tokens"] if run["total_prompt_tokens"] else None,
            number,
            optional=9,
        ),
        Figure("Hit rate", "cache_hit_rate", rate),
        Figure("Cost", "total_cost", usd, optional=2),
        Figure("Saved", lambda run: _saved(run["cost_savings"], run["cache_hit_rate"]), optional=3),
    ]
    # Ids are shown in full only where two runs began in the same second.
    seconds = [(run["query_id"], moment(run["run_id"])) for run in found]
    full = len(set(seconds)) < len(seconds)
    console.print(table(columns, found, console.width))
    if more:
        console.print("There are older runs: --limit shows more.", style="dim")


def show(
    query_id: QueryId,
    run: Run = "latest",
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="GROUPING", help="Show depth or subtree of the recursion instead.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Show the cache use of one run: totals, savings, and a bar per iteration."""
    from rlm_cachetrack.analytics import run_levels, run_report

    with open_client(db_url) as client, slow_status("reading the run"):
        store = client.reader()
        found = find_run(store, query_id, run)
        if by is not None:
            _show_levels(run_levels(store, query_id, found.run_id, by), as_json)  # type: ignore[arg-type]
            return
        report = run_report(store, query_id, found.run_id, record=found.record)
    if report is None:
        raise NotFound(f"the run {moment(found.run_id, full=True)} of query {query_id!r} was deleted")
    count = found.query_runs
    if as_json:
        print_json({**report, "other_runs": count - 1})
        return
    console = stdout()
    print_report(console, report)
    if count > 1:
        many = counted(count - 1, "other run") if count < 100 else "at least 99 other runs"
        listing = command_line("runs", "--query", query_id=query_id)
        console.print()
        console.print(
            f"This query has {many}: list them with `{listing}`, show one with --run RUN_ID.",
            style="dim",
            soft_wrap=True,
        )


def _show_levels(found: Sequence[RunLevel], as_json: bool) -> None:
    if print_data(found, as_json):
        return
    console = stdout()
    columns = [
        Column("Depth", lambda row: "  " * (row["depth"] or 0) + ("-" if row["depth"] is None else str(row["depth"]))),
        Column("Type", lambda row: row["model_type"] or "", flexible=True, style="bold", min_width=8),
        Figure("Levels", "levels", number, optional=3),
        Figure("Calls", "total_interactions", number),
        Figure("Failed", "failed_interactions", number, optional=4),
        Figure("Prompt", "total_prompt_tokens", number, optional=2),
        Figure("Hit rate", "cache_hit_rate", rate),
        Figure("Cost", "total_cost", usd),
        Figure("Share", "cost_share", rate, optional=1),
        Figure("Saved", "cost_savings", usd, optional=5),
    ]
    console.print(table(columns, found, console.width))


def top(
    limit: Limit = 10,
    live: Annotated[bool, option("--live", help="Update the list until Ctrl-C.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """List the runs with the largest cache savings."""
    require_one_format(as_json, as_csv, live)
    if live:
        _top_live(limit, db_url)
        return
    with open_client(db_url) as client, slow_status("reading the savings"):
        found = client.get_top_cache_savings(limit)
        empty = not found and not client.list_query_runs(limit=1)
    if print_data(found, as_json, as_csv, row_type="analytics.TokenCacheOptimization"):
        return
    console = stdout()
    console.print(_EMPTY if empty else _top_table(found, console.width), soft_wrap=not found)


def _top_live(limit: int, db_url: str | None) -> None:
    """Show the list twice a second on the alternate screen, and wait while the database does not respond."""
    console = stdout()
    if not console.is_terminal:
        raise ConfigError("--live needs a terminal; leave it out to print the list once")
    with (
        open_client(db_url) as client,
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console, screen=True, auto_refresh=False) as screen,
    ):
        shown: RenderableType = ""
        while True:
            status = Text(f"{datetime.now(UTC):%H:%M:%S} UTC, press Ctrl-C to quit", style="dim")
            try:
                shown = _top_table(client.get_top_cache_savings(limit), console.width)
            except StoreError as exc:
                status = Text(clean(f"The database does not respond: {exc}"), style="red")
            screen.update(Group(shown, status), refresh=True)
            time.sleep(_LIVE_S)


def _top_table(found: Sequence[TokenCacheOptimization], width: int) -> RenderableType:
    if not found:
        return "No finished run has known savings yet."
    columns = [
        Figure("Saved", lambda run: _saved(run["cost_savings"], run["cache_savings_percentage"]), style="green"),
        Figure("Saved %", lambda run: run["cost_savings_percentage"] or None, percentage, optional=4),
        Column("Query", "query_id", flexible=True, style="bold", min_width=14),
        Column("Run (UTC)", "run_id", moment, style="cyan", optional=1),
        Figure("Calls", "total_interactions", number, optional=5),
        Figure("Cached", _cached, optional=6),
        Figure("Prompt", lambda run: run["total_prompt_tokens"] or None, number, optional=7),
        Figure("Hit rate", "cache_savings_percentage", percentage, optional=3),
        Figure("Cost", "cached_cost", usd, optional=2),
        Figure("Without cache", "original_cost", usd, optional=8),
    ]
    return table(columns, found, width)


def models(
    since: Since = None,
    until: Until = None,
    lifecycle: Annotated[
        bool,
        option("--lifecycle", help="Ask the provider of OPENAI_API_KEY when the models in use shut down."),
    ] = False,
    replacement: Annotated[
        str | None,
        option(
            "--replacement", metavar="MODEL", help="With --lifecycle: what the calls would have cost on this model."
        ),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show the cache effectiveness of each model, and why calls are unpriced."""
    require_one_format(as_json, as_csv)
    first, last = parse_moment(since, "--since"), parse_moment(until, "--until")
    if first is not None and last is not None and first >= last:
        raise ConfigError(f"--since, {moment(first)}, is not before --until, {moment(last)}")
    if lifecycle:
        with open_client(db_url) as client, slow_status("asking for the list of models"):
            rows = client.model_lifecycle(replacement, since=first, until=last)
        if not print_data(rows, as_json, as_csv, row_type="analytics.planning.lifecycle.ModelLifecycle"):
            print_lifecycle(rows)
        return
    if replacement is not None:
        raise ConfigError("--replacement needs --lifecycle")
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.get_cache_effectiveness_by_model(since=first, until=last)
        is_text = not as_json and not as_csv
        unpriced = client.list_unpriced_models(first, last) if is_text and _any_unpriced(found) else []
    if print_data(found, as_json, as_csv, row_type="analytics.ModelEffectiveness"):
        return
    console = stdout()
    if first is not None or last is not None:
        span = [f"since {moment(first)}"] if first is not None else []
        span += [f"before {moment(last)}"] if last is not None else []
        console.print(Text(f"Calls {' and '.join(span)}", style="dim"))
    if not found:
        console.print("No calls in this time range." if first or last else _EMPTY)
        return
    columns = [
        Column("Model", "model", flexible=True, style="bold", min_width=36 if stdout().width >= 80 else 14),
        Figure("Calls", "total_interactions", number, optional=1),
        Figure("Hits", "interactions_with_cache", number, optional=5),
        Figure("Misses", "interactions_without_cache", number, optional=6),
        Figure("Failed", "failed_interactions", number, optional=5),
        Figure("Unpriced", "unpriced_interactions", number, optional=4),
        Figure("Prompt", lambda row: row["total_prompt_tokens"] or None, number, optional=2),
        Figure("Cached", _cached, optional=8),
        Figure("Hit rate", "avg_cache_hit_rate", rate),
        Figure("Cost", "total_cost", usd),
        Figure("Saved", lambda row: _saved(row["cost_savings"], row["avg_cache_hit_rate"]), optional=1),
        Figure("Latency", "avg_duration_ms", duration, optional=3),
        Figure("First token", "avg_time_to_first_token_ms", duration, optional=7),
    ]
    console.print(table(columns, found, console.width))
    for index, line in enumerate(unpriced_lines(unpriced)):
        print_line(console, "" if index else "unpriced", line, indent=10)


def _any_unpriced(found: Sequence[Mapping[str, Any]]) -> bool:
    return any(row["unpriced_interactions"] for row in found)


def usage(
    by: GroupBy = None,
    name: Annotated[str, typer.Option("--range", metavar="RANGE", help="1h, 24h, 7d, 30d, 90d or all.")] = "7d",
    since: Since = None,
    until: Until = None,
    model: ModelFilter = None,
    provider: ProviderFilter = None,
    query: QueryFilter = None,
    tag: TagFilter = None,
    time_zone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Time zone of days, weeks and months.")
    ] = "UTC",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show hit rate and cost over time, or by model, query, tag and more."""
    from rlm_cachetrack import analytics

    require_one_format(as_json, as_csv)
    within = analytics.span(name, parse_moment(since, "--since"), parse_moment(until, "--until"))
    tags = parse_tags(tag)
    grouped = by is not None or query is not None or tags is not None or time_zone != "UTC"
    group_by = tuple(part.strip() for part in (by or ("hour" if within.unit == "minute" else within.unit)).split(","))
    found: Any
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        if grouped:
            found = client.get_usage(
                group_by,
                since=within.since,
                until=within.until,
                model=model,
                provider=provider,
                query_id=query,
                tags=tags,
                time_zone=time_zone,
            )
        else:
            found = analytics.usage(client.reader(), within, model, provider)
    rows = found if grouped else found["buckets"]
    if print_data(found, as_json, as_csv, rows, "analytics.UsageGroup" if grouped else "analytics.UsageRow"):
        return
    console = stdout()
    if not rows:
        console.print("No calls in this time range.")
    elif grouped:
        keys = [
            Column(name, name, _group_value, flexible=not index, style="bold", min_width=14)
            for index, name in enumerate(group_by)
        ]
        console.print(table([*keys, *_group_columns()], rows, console.width))
    else:
        console.print(usage_chart(found, min(console.width, 120), console.encoding.lower().startswith("utf")))


def _group_columns() -> list[Column]:
    return [
        Figure("Calls", "total_interactions", number, optional=4),
        Figure("Failed", "failed_interactions", number, optional=6),
        Figure("Unpriced", "unpriced_interactions", number, optional=5),
        Figure("Prompt", lambda row: row["total_prompt_tokens"] or None, number, optional=3),
        Figure("Completion", "total_completion_tokens", number, optional=7),
        Figure("Hit rate", "cache_hit_rate", rate),
        Figure("Cost", "total_cost", usd),
        Figure("Saved", lambda row: _saved(row["cost_savings"], row["cache_hit_rate"]), optional=2),
    ]


def _group_value(value: Any) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d" if value.hour == value.minute == 0 else "%Y-%m-%d %H:%M")
    return "(none)" if value is None else clean(str(value))


def _saved(savings: float | None, hit_rate: float | None) -> str:
    """Format savings; 0 is unknown if no call reported its cache use, because every token was counted as uncached."""
    return usd(None if hit_rate is None and not savings else savings)


def _cached(row: Mapping[str, Any]) -> str:
    """Format cached tokens; the sum is unknown if no call reported its cache use."""
    from rlm_cachetrack.analytics import is_cache_use_reported

    return number(row["total_cached_tokens"] if is_cache_use_reported(row) else None)
