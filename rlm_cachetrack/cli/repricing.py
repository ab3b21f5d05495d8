"""The command ``reprice``: show the effect of other prices, ask, apply them; resume, undo, list."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean, moment, number, usd

from .arguments import AsJson, DbUrl, Yes, command_line, confirm, open_client, option
from .filters import filtered
from .output import Column, Figure, counted, print_data, print_json, print_prose, slow_status, stderr, stdout, table
from .prices import File

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters
    from rlm_cachetrack.analytics.planning import ModelDifference, PriceChange
    from rlm_cachetrack.client import TimescaleDBClient


@filtered(**dict.fromkeys(("provider", "tag"), "a re-pricing selects calls by --since, --until, --model and --query"))
def reprice(
    filters: CallFilters,
    pricing: File = None,
    unpriced: Annotated[bool, option("--unpriced", help="Only calls without a cost.")] = False,
    include_given: Annotated[
        bool, option("--include-given", help="Also calls whose prices were given by hand.")
    ] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Only show the changes.")] = False,
    resume: Annotated[bool, option("--resume", help="Resume an interrupted re-pricing.")] = False,
    undo: Annotated[bool, option("--undo", help="Undo the newest re-pricing, or the one of --change.")] = False,
    change: Annotated[int | None, option("--change", metavar="NUMBER", help="The re-pricing to undo.")] = None,
    log: Annotated[bool, option("--log", help="List the re-pricings.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Re-price stored calls and update the totals of their runs. Can be undone."""
    if sum((dry_run, resume, undo, log)) > 1:
        raise ConfigError("--dry-run, --resume, --undo and --log cannot be combined")
    if change is not None and not undo:
        raise ConfigError("--change needs --undo")
    with open_client(db_url) as client:
        if log:
            _print_log(client.list_price_changes(1000), as_json)
        elif resume:
            with _progress() as progress:
                _print_done(client.resume_repricing(progress), as_json)
        elif undo:
            if not yes:
                confirm("Restore the prices that the calls had before?")
            with _progress() as progress:
                _print_done(client.undo_repricing(change, progress), as_json)
        else:
            which: dict[str, Any] = {**filters, "unpriced": unpriced, "include_given": include_given}
            _reprice(client, pricing, which, dry_run, yes, as_json)


def _reprice(
    client: TimescaleDBClient, pricing: Any, which: dict[str, Any], dry_run: bool, yes: bool, as_json: bool
) -> None:
    with slow_status("comparing the prices"):
        planned = client.reprice(pricing, dry_run=True, **which)
    changed = sum(row["changed_interactions"] for row in planned["difference"])
    if dry_run and as_json:
        print_json(planned)
        return
    _print_difference(stderr() if as_json else stdout(), planned["difference"], planned["kept_interactions"])
    if dry_run or (not changed and not as_json):
        return
    if changed and not yes:
        confirm(f"Change the prices of {counted(changed, 'call')}?")
    with _progress() as progress:
        done = client.reprice(pricing, progress=progress, **which)
    if as_json:
        print_json(done)
    elif done["change"] is not None:
        _print_done(done["change"], as_json)


def _print_difference(console: Console, difference: list[ModelDifference], kept: int) -> None:
    changing = [row for row in difference if row["changed_interactions"]]
    total = sum(row["total_interactions"] for row in difference)
    reasons = [f"{counted(total, 'call')} already {'has' if total == 1 else 'have'} these prices"] if total else []
    if kept:
        reasons.append(f"{counted(kept, 'call')} {'keeps' if kept == 1 else 'keep'} the prices given by hand")
    if not changing:
        console.print(f"Nothing changes: {'; '.join(reasons) or 'no call matches'}.")
        return
    columns = [
        Column("Model", "model", flexible=True, style="bold"),
        Figure("Calls", "total_interactions", number, optional=2),
        Figure("Changed", "changed_interactions", number),
        Figure("Unpriced before", "unpriced_before", number, optional=1),
        Figure("Unpriced after", "unpriced_after", number, optional=1),
        Figure("Cost before", "cost_before", usd),
        Figure("Cost after", "cost_after", usd),
        Figure("Difference", lambda row: (row["cost_after"] or 0) - (row["cost_before"] or 0), usd),
    ]
    console.print(table(columns, changing, console.width))
    changed = sum(row["changed_interactions"] for row in changing)
    by_hand = f"; {reasons[-1]}" if kept else ""
    console.print(f"{number(changed)} of {number(total)} calls change{by_hand}.", style="dim")
    losing = {row["model"]: row["unpriced_after"] - row["unpriced_before"] for row in changing}
    if losing := {model: count for model, count in losing.items() if count > 0}:
        count = counted(sum(losing.values()), "call")
        console.print(
            f"The new list has no price for {count}, which would become unpriced (NULL): {clean(', '.join(losing))}. "
            "Cost after and Difference exclude unpriced calls.",
            style="yellow",
        )


def _print_done(change: PriceChange, as_json: bool) -> None:
    if print_data(change, as_json):
        return
    count = counted(change["changed_interactions"], "call")
    if change["status"] == "undone":
        stdout().print(f"Re-pricing {change['change_id']} undone: prices of {count} restored.")
        return
    print_prose(
        stdout(),
        f"Re-pricing {change['change_id']}: {count} changed, from {usd(change['cost_before'])} to "
        f"{usd(change['cost_after'])}. Undo: `{command_line('reprice', '--undo')}`",
    )


def _print_log(found: list[PriceChange], as_json: bool) -> None:
    if print_data(found, as_json):
        return
    console = stdout()
    if not found:
        console.print("No re-pricing yet.")
        return
    columns = [
        Figure("No.", lambda change: str(change["change_id"])),
        Column("Started (UTC)", "started_at", moment, style="cyan"),
        Column(
            "Status",
            lambda change: {"running": "interrupted", "summing": "interrupted"}.get(change["status"], change["status"]),
        ),
        Figure("Changed", "changed_interactions", number),
        Figure("Cost before", "cost_before", usd, optional=1),
        Figure("Cost after", "cost_after", usd, optional=1),
        Column("Prices", "pricing", flexible=True),
    ]
    console.print(table(columns, found, console.width))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr if it is a terminal; yields the function that moves it."""
    console = stderr()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("calls", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
