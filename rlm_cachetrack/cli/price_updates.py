"""The command ``prices update``: fetch the newest price list, show what changes, and store it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlm_cachetrack.formatting import clean, number, usd

from .arguments import AsJson, DbUrl, command_line, open_client, option
from .output import Column, counted, print_json, print_prose, slow_status, stderr, stdout, table
from .prices import PriceFigure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm_cachetrack.client import PriceUpdate, TimescaleDBClient

_SHOWN = 30
_NAMES_SHOWN = 8


def update_prices(
    origin: Annotated[
        str | None,
        option(
            "--from",
            metavar="FILE|URL",
            help="A downloaded price list or its address. Default: RLM_CACHETRACK_PRICES_URL, else where genai-prices "
            "publishes its newest data.",
        ),
    ] = None,
    dry_run: Annotated[bool, option("--dry-run", help="Only show the changes.")] = False,
    accept_implausible: Annotated[
        bool,
        option("--accept-implausible", help="Store the list even if a price changes by a factor of 10 or more."),
    ] = False,
    reprice: Annotated[
        bool,
        option("--reprice", help="Then re-price the stored calls that have no price."),
    ] = False,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Fetch the newest prices of genai-prices and store them in the database, for all programs that use it."""
    with open_client(db_url) as client:
        with slow_status("fetching the prices"):
            result = client.update_prices(origin, accept_implausible=accept_implausible, dry_run=dry_run)
        if as_json:
            repriced = client.reprice(unpriced=True) if reprice and not dry_run else None
            print_json({**result, "repriced": None if repriced is None else repriced["change"]})
            return
        console = stdout()
        _print_changes(console, result)
        if dry_run:
            print_prose(stderr(), f"Nothing was stored. In use: {result['in_use']}", "dim")
            return
        _print_outcome(console, result)
        _offer_repricing(client, console, reprice)


def _print_outcome(console: Console, result: PriceUpdate) -> None:
    if result["is_stored"]:
        print_prose(
            console,
            f"Stored {result['in_use']} from {clean(result['origin'])}. Running programs use it within a minute; "
            "stored calls keep their prices.",
        )
    else:
        print_prose(console, f"Up to date: {result['in_use']} is the newest list.")


def _offer_repricing(client: TimescaleDBClient, console: Console, reprice: bool) -> None:
    """Re-price calls without a price that have one now; if that was not requested, ask, or name the command."""
    difference = client.reprice(unpriced=True, dry_run=True)["difference"]
    count = sum(row["unpriced_before"] - row["unpriced_after"] for row in difference)
    if not count:
        if reprice:
            console.print("No stored call without a price has one now.")
        return
    calls = f"{counted(count, 'stored call')} without a price {'has' if count == 1 else 'have'} one now"
    if not reprice and not (sys.stdin.isatty() and typer.confirm(f"{calls}. Re-price?", err=True)):
        print_prose(console, f"{calls}: `{command_line('reprice', '--unpriced')}`")
        return
    change = client.reprice(unpriced=True)["change"]
    if change is not None:
        print_prose(
            console,
            f"Re-pricing {change['change_id']}: {counted(change['changed_interactions'], 'call')} priced, "
            f"{usd(change['cost_after'])}. Undo: `{command_line('reprice', '--undo')}`",
        )


def _print_changes(console: Console, result: PriceUpdate) -> None:
    changed = result["changed"]
    if changed:
        columns = [
            Column("Provider", optional=1),
            Column("Model", flexible=True, style="bold"),
            Column("Price"),
            PriceFigure("Before"),
            PriceFigure("After"),
        ]
        rows = [
            (
                clean(row["provider"]),
                clean(row["model"]),
                row["item"],
                row["before"],
                row["after"],
            )
            for row in changed[:_SHOWN]
        ]
        console.print(table(columns, rows, console.width))
        if (more := len(changed) - _SHOWN) > 0:
            console.print(f"and {number(more)} more: --json lists them", style="dim")
        print_prose(console, "USD per 1M tokens; searches and fees per request: USD per 1,000", "dim")
    kept = "no longer listed (they keep the price of the installed release)"
    for what, models in (("priced now", result["added"]), (kept, result["removed"])):
        if models:
            print_prose(console, f"{counted(len(models), 'model')} {what}: {_names(models)}")


def _names(models: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(clean(f"{provider} {model}") for provider, model in models[:_NAMES_SHOWN])
    more = len(models) - _NAMES_SHOWN
    return f"{shown}, and {number(more)} more" if more > 0 else shown
