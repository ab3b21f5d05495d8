"""``reprice``: say what other prices would change, ask, change it; continue, undo, list."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlm_cachetrack.errors import ConfigError

from .arguments import AsJson, DbUrl, Yes, command_line, confirm, open_client, parse_moment
from .output import Column, clean, counted, moment, number, print_json, slow_status, stderr, stdout, table, usd
from .prices import File
from .reading import Since, Until

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.planning import ModelDifference, PriceChange
    from rlm_cachetrack.client import TimescaleDBClient

__all__ = ["reprice"]


def reprice(
    pricing: File = None,
    since: Since = None,
    until: Until = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Only calls of this model.", show_default=False)
    ] = None,
    query: Annotated[
        str | None, typer.Option("--query", metavar="QUERY_ID", help="Only calls of this query.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.", show_default=False)] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue what was stopped before its end.", show_default=False)
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Undo the newest re-pricing, or that of --change.", show_default=False)
    ] = False,
    change: Annotated[
        int | None, typer.Option("--change", metavar="NUMBER", help="Which to undo.", show_default=False)
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="List the re-pricings.", show_default=False)] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Give stored calls other prices, and sum their runs up again; can be undone."""
    if sum((dry_run, resume, undo, log)) > 1:
        raise ConfigError("--dry-run, --resume, --undo and --log exclude each other")
    if change is not None and not undo:
        raise ConfigError("--change says which re-pricing to --undo")
    with open_client(db_url) as client:
        if log:
            _print_log(client.list_price_changes(1000), as_json)
        elif resume:
            with _progress() as told:
                _print_done(client.resume_repricing(told), as_json)
        elif undo:
            if not yes:
                confirm("Give the calls back the prices they had?")
            with _progress() as told:
                _print_done(client.undo_repricing(change, told), as_json)
        else:
            which: dict[str, Any] = {
                "since": parse_moment(since, "--since"),
                "until": parse_moment(until, "--until"),
                "model": model,
                "query_id": query,
            }
            _reprice(client, pricing, which, dry_run, yes, as_json)


def _reprice(
    client: TimescaleDBClient, pricing: Any, which: dict[str, Any], dry_run: bool, yes: bool, as_json: bool
) -> None:
    with slow_status("comparing the prices"):
        difference = client.reprice(pricing, dry_run=True, **which)["difference"]
    changed = sum(row["changed_interactions"] for row in difference)
    if dry_run and as_json:
        print_json({"difference": difference, "change": None})
        return
    _print_difference(stderr() if as_json else stdout(), difference)
    if dry_run or (not changed and not as_json):
        return
    if changed and not yes:
        confirm(f"Change the prices of {counted(changed, 'call')}?")
    with _progress() as told:
        done = client.reprice(pricing, progress=told, **which)
    if as_json:
        print_json(done)
    elif done["change"] is not None:
        _print_done(done["change"], as_json)


def _print_difference(console: Console, difference: list[ModelDifference]) -> None:
    changing = [row for row in difference if row["changed_interactions"]]
    total = sum(row["total_interactions"] for row in difference)
    if not changing:
        priced = f"{number(total)} calls have these prices already" if total else "no such call is stored"
        console.print(f"Nothing changes: {priced}.")
        return
    columns = [
        Column("Model", flexible=True, style="bold"),
        Column("Calls", numeric=True, optional=2),
        Column("Changed", numeric=True),
        Column("Unpriced", numeric=True, optional=1),
        Column("Then", numeric=True, optional=1),
        Column("Cost", numeric=True),
        Column("Then", numeric=True),
        Column("Difference", numeric=True),
    ]
    rows = [
        (
            clean(row["model"]),
            number(row["total_interactions"]),
            number(row["changed_interactions"]),
            number(row["unpriced_before"]),
            number(row["unpriced_after"]),
            usd(row["cost_before"]),
            usd(row["cost_after"]),
            usd((row["cost_after"] or 0) - (row["cost_before"] or 0)),
        )
        for row in changing
    ]
    console.print(table(columns, rows, console.width))
    changed = sum(row["changed_interactions"] for row in changing)
    console.print(f"{number(changed)} of {number(total)} calls change.", style="dim")
    losing = {row["model"]: row["unpriced_after"] - row["unpriced_before"] for row in changing}
    if losing := {model: count for model, count in losing.items() if count > 0}:
        count = sum(losing.values())
        lost = (
            "call has no price by the new list and would lose its cost"
            if count == 1
            else ("calls have no price by the new list and would lose their cost")
        )
        console.print(
            f"{number(count)} {lost} (NULL): {clean(', '.join(losing))}. Then and Difference leave "
            f"{'it' if count == 1 else 'them'} out.",
            style="yellow",
        )


def _print_done(change: PriceChange, as_json: bool) -> None:
    if as_json:
        print_json(change)
        return
    count = counted(change["changed_interactions"], "call")
    if change["status"] == "undone":
        stdout().print(f"Undone: re-pricing {change['change_id']}; {count} have what they had before.")
        return
    stdout().print(
        f"Re-pricing {change['change_id']}: {count} changed, from {usd(change['cost_before'])} to "
        f"{usd(change['cost_after'])}. To undo it: `{command_line('reprice', '--undo')}`",
        soft_wrap=True,
    )


def _print_log(found: list[PriceChange], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    console = stdout()
    if not found:
        console.print("Nothing was re-priced yet.")
        return
    columns = [
        Column("No.", numeric=True),
        Column("Begun (UTC)", style="cyan"),
        Column("Status"),
        Column("Changed", numeric=True),
        Column("Cost", numeric=True, optional=1),
        Column("Then", numeric=True, optional=1),
        Column("Prices", flexible=True),
    ]
    rows = [
        (
            str(change["change_id"]),
            moment(change["started_at"]),
            {"running": "stopped", "summing": "stopped"}.get(change["status"], change["status"]),
            number(change["changed_interactions"]),
            usd(change["cost_before"]),
            usd(change["cost_after"]),
            clean(change["pricing"]),
        )
        for change in found
    ]
    console.print(table(columns, rows, console.width))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal."""
    console = stderr()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("calls", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
