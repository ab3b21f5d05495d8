"""``experiments`` and ``outcome``: what groups of runs achieved and cost, and what one run achieved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlm_cachetrack.formatting import NONE, clean, duration, moment, number, rate, usd

from .arguments import AsCsv, AsJson, DbUrl, QueryFilter, command_line, open_client, parse_moment
from .output import Column, counted, print_csv, print_json, require_one_format, row_columns, slow_status, stdout, table
from .reading import Since, Until
from .run_selection import find_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm_cachetrack.analytics import Experiment

_COLUMNS = [
    Column("", optional=0),
    Column("Group", flexible=True, style="bold", min_width=12),
    Column("Runs", numeric=True, optional=1),
    Column("Solved", numeric=True),
    Column("Score", numeric=True, optional=3),
    Column("Cost/run", numeric=True, optional=2),
    Column("95 %", optional=7),
    Column("Cost/success", numeric=True),
    Column("95 %", optional=6),
    Column("As if first", numeric=True, optional=5),
    Column("Time/success", numeric=True, optional=8),
    Column("Tokens/success", numeric=True, optional=9),
    Column("Hit rate", numeric=True, optional=4),
]


def experiments(
    by: Annotated[
        str,
        typer.Option("--by", metavar="GROUPING", help="query, model, label, metadata.KEY or tag:NAME."),
    ] = "query",
    since: Since = None,
    until: Until = None,
    query: QueryFilter = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Compare groups of runs: success rate, cost per run and cost per success."""
    require_one_format(as_json, as_csv)
    first, last = parse_moment(since, "--since"), parse_moment(until, "--until")
    with open_client(db_url) as client, slow_status("reading the runs"):
        found = client.get_experiments(by, first, last, query)
    if as_json:
        print_json(found)
    elif as_csv:
        print_csv(found, row_columns("analytics", "Experiment"))
    else:
        _print(stdout(), found)


def _print(console: Console, found: Sequence[Experiment]) -> None:
    if not found:
        console.print("No finished run matches.")
        return
    rows = [
        (
            "*" if group["is_pareto"] else "",
            "(none)" if group["group"] is None else clean(group["group"]),
            number(group["runs"]),
            rate(group["success_rate"]),
            NONE if group["avg_score"] is None else f"{group['avg_score']:.3g}",
            usd(group["avg_cost"]),
            _interval(group["avg_cost_low"], group["avg_cost_high"]),
            usd(group["cost_per_success"]),
            _interval(group["cost_per_success_low"], group["cost_per_success_high"]),
            usd(group["avg_original_cost"]),
            duration(group["ms_per_success"]),
            number(None if group["tokens_per_success"] is None else round(group["tokens_per_success"])),
            rate(group["cache_hit_rate"]),
        )
        for group in found
    ]
    console.print(table(_COLUMNS, rows, console.width))
    if any(group["is_pareto"] for group in found):
        console.print("* no other group is cheaper per run and at least as good", style="dim")
    console.print(
        "Cost per success covers judged runs, failed ones included. As if first: nothing cached.", style="dim"
    )
    if unjudged := sum(group["runs"] - group["judged_runs"] for group in found):
        console.print(
            f"{counted(unjudged, 'run')} without an outcome: record it with run.record_outcome(success=…) or "
            f"`{command_line('outcome')}`.",
            style="dim",
            soft_wrap=True,
        )
    if unpriced := sum(group["unpriced_interactions"] for group in found):
        console.print(f"{counted(unpriced, 'unpriced call')} not in the costs.", style="yellow")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None and high is None else f"{usd(low)} to {'∞' if high is None else usd(high)}"


def outcome(
    run: Annotated[str, typer.Argument(metavar="QUERY[@RUN]", help="The run; without @RUN the newest of the query.")],
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="Whether the task was solved.", show_default=False)
    ] = None,
    score: Annotated[
        float | None, typer.Option("--score", help="A number, higher is better.", show_default=False)
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="TEXT", help="A word of your own.", show_default=False)
    ] = None,
    db_url: DbUrl = None,
) -> None:
    """Record what a run achieved."""
    with open_client(db_url) as client:
        found = find_runs(client.reader(), run)
        for query_id, run_id in found:
            client.record_outcome(query_id, run_id, success, score, label)
        client.flush()
    for query_id, run_id in found:
        stdout().print(f"Outcome of {clean(query_id)}, {moment(run_id)}, stored.")
