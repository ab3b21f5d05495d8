"""``runs``, ``show``, ``top``, ``models``, ``usage``: show stored runs and calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from rlm_cachetrack.formatting import clean, moment, number, outcome_words, percentage, rate, usd

from .arguments import (
    AsCsv,
    AsJson,
    DbUrl,
    Limit,
    NotFound,
    Run,
    RunArgument,
    command_line,
    open_client,
)
from .filters import filtered
from .output import (
    EMPTY,
    Column,
    Figure,
    cached,
    counted,
    print_data,
    print_prose,
    saved,
    slow_status,
    stdout,
    table,
)
from .run_selection import find_named_run
from .run_view import print_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm_cachetrack.analytics import CallFilters, RunLevel, TokenCacheOptimization


@filtered("runs")
def runs(
    filters: CallFilters,
    limit: Limit = 20,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """List the newest runs."""
    with open_client(db_url) as client, slow_status("reading the runs"):
        found = client.list_query_runs(limit=limit + 1, **filters)
    more = len(found) > limit
    del found[limit:]
    if print_data(found, as_json, as_csv, row_type="analytics.RunListing"):
        return
    console = stdout()
    if not found:
        if filters:
            print_prose(console, "No stored run matches the filters.")
        else:
            print_prose(console, f"{EMPTY} To see how it looks, run `{command_line('demo')}`.")
        return
    all_completed = all(run["state"] == "completed" for run in found)
    columns = [
        Column("Query", "query_id", flexible=True, style="bold", min_width=24),
        Column("Run (UTC)", lambda run: moment(run["run_id"], full=full), style="cyan"),
        Column("Status", lambda run: clean(run["state"]), optional=6 if all_completed else 4),
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
        Figure("Saved", lambda run: saved(run["cost_savings"], run["cache_hit_rate"]), usd, optional=3),
    ]
    if any(map(outcome_words, found)):
        columns.insert(3, Column("Outcome", lambda run: outcome_words(run) or None, optional=1))
    # Ids are shown in full only where two runs began in the same second.
    seconds = [(run["query_id"], moment(run["run_id"])) for run in found]
    full = len(set(seconds)) < len(seconds)
    console.print(table(columns, found, console.width))
    if more:
        console.print("There are older runs: --limit shows more.", style="dim")


@filtered("runs")
def show(
    filters: CallFilters,
    which: RunArgument = None,
    run: Run = "latest",
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="GROUPING", help="depth or subtree: a row per level of recursion.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show the cache use of one run: totals, savings, and a bar per iteration."""
    from rlm_cachetrack.analytics import run_levels, run_report

    with open_client(db_url) as client, slow_status("reading the run"):
        store = client.reader()
        found = find_named_run(store, which, run, filters)
        query_id = found.query_id
        if by is not None:
            _show_levels(run_levels(store, query_id, found.run_id, by), as_json, as_csv)  # type: ignore[arg-type]
            return
        report = run_report(store, query_id, found.run_id, record=found.record)
    if report is None:
        raise NotFound(f"the run {moment(found.run_id, full=True)} of query {query_id!r} was deleted")
    count = found.query_runs
    steps = report["optimization"]["cache_evolution"]
    if print_data({**report, "other_runs": count - 1}, as_json, as_csv, steps, "analytics.CacheEvolutionStep"):
        return
    console = stdout()
    print_report(console, report)
    if count > 1:
        many = counted(count - 1, "other run") if count < 100 else "at least 99 other runs"
        listing = command_line("runs", "--query", query_id=query_id)
        console.print()
        print_prose(
            console,
            f"This query has {many}: list them with `{listing}`, show one with --run RUN_ID.",
            style="dim",
        )


def _show_levels(found: Sequence[RunLevel], as_json: bool, as_csv: bool) -> None:
    if print_data(found, as_json, as_csv, row_type="analytics.RunLevel"):
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


@filtered("runs")
def top(
    filters: CallFilters,
    limit: Limit = 10,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """List the runs with the largest cache savings."""
    with open_client(db_url) as client, slow_status("reading the savings"):
        found = client.get_top_cache_savings(limit, **filters)
        empty = not found and not client.list_query_runs(limit=1)
    if print_data(found, as_json, as_csv, row_type="analytics.TokenCacheOptimization"):
        return
    console = stdout()
    if found:
        console.print(_top_table(found, console.width))
    elif empty:
        console.print(EMPTY)
    else:
        print_prose(console, f"No finished run {'that matches the filters ' if filters else ''}has known savings yet.")


def _top_table(found: Sequence[TokenCacheOptimization], width: int) -> RenderableType:
    columns = [
        Figure("Saved", lambda run: saved(run["cost_savings"], run["cache_savings_percentage"]), usd, style="green"),
        Figure("Saved %", lambda run: run["cost_savings_percentage"] or None, percentage, optional=4),
        Column("Query", "query_id", flexible=True, style="bold", min_width=24),
        Column("Run (UTC)", "run_id", moment, style="cyan"),
        Figure("Calls", "total_interactions", number, optional=5),
        Figure("Cached", cached, optional=6),
        Figure("Prompt", lambda run: run["total_prompt_tokens"] or None, number, optional=7),
        Figure("Hit rate", "cache_savings_percentage", percentage, optional=3),
        Figure("Cost", "cached_cost", usd, optional=2),
        Figure("Without cache", "original_cost", usd, optional=8),
    ]
    return table(columns, found, width)
