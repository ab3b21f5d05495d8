"""``experiments`` and ``outcome``: what groups of runs achieved and cost, and what one run achieved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlm_cachetrack.formatting import NONE, clean, duration, judged_words, moment, number, rate, usd

from .arguments import AsCsv, AsJson, DbUrl, command_line, open_client, option
from .filters import filtered
from .output import Column, Figure, counted, print_data, print_prose, slow_status, stdout, table
from .run_selection import find_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm_cachetrack.analytics import CallFilters, Experiment

_COLUMNS = [
    Column("", lambda group: "*" if group["is_pareto"] else ""),
    Column(
        "Group",
        "group",
        lambda group: "(none)" if group is None else clean(group),
        flexible=True,
        style="bold",
        min_width=24,
    ),
    Figure("Runs", "runs", number, optional=1),
    Column("Judged", lambda group: judged_words(group) or "all", optional=4),
    Figure("Solved", "success_rate", rate),
    Figure("Score", "avg_score", lambda score: NONE if score is None else f"{score:.3g}", optional=3),
    Figure("Cost/run", "mean", usd, optional=2),
    Column("95% of cost/run", lambda group: _interval(group["low"], group["high"]), optional=8),
    Figure("Cost/success", "cost_per_success", usd),
    Column(
        "95% of cost/success",
        lambda group: _interval(group["cost_per_success_low"], group["cost_per_success_high"]),
        optional=7,
    ),
    Figure("Uncached", "original", usd, optional=6),
    Figure("Time/success", "ms_per_success", duration, optional=9),
    Figure("Tokens/success", "tokens_per_success", number, optional=10),
    Figure("Hit rate", "cache_hit_rate", rate, optional=5),
]


@filtered("runs")
def experiments(
    filters: CallFilters,
    by: Annotated[
        str,
        typer.Option("--by", metavar="GROUPING", help="query, model, label, metadata.KEY or tag:NAME."),
    ] = "query",
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Compare groups of runs: success rate, cost per run and cost per success."""
    with open_client(db_url) as client, slow_status("reading the runs"):
        found = client.get_experiments(by, **filters)
    if not print_data(found, as_json, as_csv, row_type="analytics.Experiment"):
        _print(stdout(), found, by)


def _print(console: Console, found: Sequence[Experiment], by: str) -> None:
    if not found:
        console.print("No finished run matches.")
        return
    from rlm_cachetrack.analytics import costs_of_outcome, mixed_queries

    has_unjudged = any(map(judged_words, found))
    columns = [column for column in _COLUMNS if has_unjudged or column.title != "Judged"]
    rows = [{**group, **costs_of_outcome(group)._asdict()} for group in found]
    console.print(table(columns, rows, console.width))
    if any(group["is_pareto"] for group in found):
        console.print("* no other group is cheaper per run and at least as good", style="dim")
    console.print(
        "Cost per success covers judged runs, failed ones included. Uncached: the cost per run with nothing cached.",
        style="dim",
    )
    if has_unjudged:
        print_prose(
            console,
            "In groups with judged runs, cost per run and uncached cover these; the hit rate covers all runs.",
            style="dim",
        )
    if mixed_queries(found, by):
        print_prose(
            console,
            "The groups contain runs of several queries, whose tasks may differ: compare those of one with `--query`.",
            style="dim",
        )
    if unjudged := sum(group["runs"] - max(group["judged_runs"], group["scored_runs"]) for group in found):
        print_prose(
            console,
            f"{counted(unjudged, 'run')} without an outcome: record it with run.record_outcome(success=…) or "
            f"`{command_line('outcome')}`.",
            style="dim",
        )
    if unpriced := sum(group["unpriced_interactions"] for group in found):
        console.print(f"{counted(unpriced, 'unpriced call')} not in the costs.", style="yellow")


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None and high is None else f"{usd(low)} to {'∞' if high is None else usd(high)}"


def outcome(
    run: Annotated[str, typer.Argument(metavar="QUERY[@RUN]", help="The run; without @RUN, the query's newest run.")],
    success: Annotated[bool | None, option("--success/--failure", help="Whether the task was solved.")] = None,
    score: Annotated[float | None, option("--score", metavar="NUMBER", help="A number, higher is better.")] = None,
    label: Annotated[str | None, option("--label", metavar="TEXT", help="A label of your choice.")] = None,
    db_url: DbUrl = None,
) -> None:
    """Record what a run achieved."""
    with open_client(db_url) as client:
        found = find_runs(client.reader(), run, {})
        for query_id, run_id in found:
            client.record_outcome(query_id, run_id, success, score, label)
        client.flush()
    for query_id, run_id in found:
        stdout().print(f"Outcome of {clean(query_id)}, {moment(run_id)}, stored.")
