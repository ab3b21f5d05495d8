"""``journal``: what waits to be stored, storing it now, and the records that cannot be stored."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rlm_cachetrack.errors import CacheTrackError, ConfigError, StoreUnreachableError

from .arguments import AsCsv, AsJson, DbUrl, NotFound, Yes, command_line, confirm, open_client
from .output import (
    Column,
    clean,
    counted,
    moment,
    number,
    print_csv,
    print_json,
    print_line,
    size,
    slow_status,
    stderr,
    stdout,
    table,
)

if TYPE_CHECKING:
    from rlm_cachetrack.client import TimescaleDBClient

__all__ = ["journal_app"]

_PROGRESS_S = 0.2
_SHOWN = 20

journal_app = typer.Typer(no_args_is_help=True, help="Records that wait to be stored, and those that cannot be.")

TimeoutS = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="Give up when nothing was stored for so long."),
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Only these; all where none is named.", show_default=False),
]


@journal_app.command()
def status(as_json: AsJson = False, db_url: DbUrl = None) -> None:
    """Say what waits in journals, by process. Needs no database, starts nothing."""
    from rlm_cachetrack.client import runtime_for

    facts = runtime_for(db_url).waiting()
    if as_json:
        print_json(facts)
        return
    console = stdout()
    if facts["journals"]:
        columns = (
            Column("process", numeric=True),
            Column("state"),
            Column("events", numeric=True),
            Column("size", numeric=True),
            Column("oldest (UTC)", optional=1),
        )
        rows = [
            [
                str(journal["pid"] or "?"),
                "live" if journal["live"] else "recoverable",
                number(journal["events"]),
                size(journal["bytes"]),
                moment(journal["oldest"]),
            ]
            for journal in facts["journals"]
        ]
        console.print(table(columns, rows, console.width))
        console.print()
    for name, text in _summary(facts):
        print_line(console, name, text, indent=14)


def _summary(facts: dict[str, Any]) -> list[tuple[str, str]]:
    waiting = f"{counted(facts['events'], 'event')} ({size(facts['bytes'])})" if facts["events"] else "nothing"
    lines = [("waiting", waiting)]
    if facts["recoverable_events"]:
        lines.append(
            ("", f"the next use stores what dead processes left, or now: `{command_line('journal', 'drain')}`")
        )
    if facts["dead_letters"]:
        listing = command_line("journal", "dead-letters")
        lines.append(("dead letters", f"{counted(facts['dead_letters'], 'record')} cannot be stored: `{listing}`"))
    else:
        lines.append(("dead letters", "none"))
    lines.append(("folder", facts["journal"]))
    if facts["for_other_stores"]["files"]:
        others = facts["for_other_stores"]
        lines.append(("other", f"{counted(others['files'], 'journal')} ({size(others['bytes'])}) of other databases"))
    return lines


# -- drain ----------------------------------------------------------------------------------------


@journal_app.command()
def drain(timeout_s: TimeoutS = 30.0, as_json: AsJson = False, db_url: DbUrl = None) -> None:
    """Store now what dead processes left in their journals.

    Exit code 0 when nothing is left, 1 when some records could not be stored, 3 when the database cannot be reached.
    Journals of processes that are alive are theirs to store.
    """
    began = time.monotonic()
    with open_client(db_url) as client:
        done = _store_all(client, timeout_s, quiet=as_json)
        counts = client.stats()
    facts = {
        "stored": counts["recovered"] + counts["recorded"] - counts["pending"] - counts["dead_letters"],
        "pending": counts["pending"],
        "dead_letters": counts["dead_letters"],
        "seconds": time.monotonic() - began,
        "error": counts["last_error"],
    }
    if as_json:
        print_json(facts)
    else:
        _say(facts)
    if not done:
        stderr().print(f"{counted(facts['pending'], 'event')} still in the journal: {facts['error']}", soft_wrap=True)
    raise typer.Exit(0 if done and not facts["dead_letters"] else 1)


def _store_all(client: TimescaleDBClient, timeout_s: float, *, quiet: bool) -> bool:
    """Flush, with a bar where somebody looks on; whether nothing waits any more."""
    columns = (TextColumn("storing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr(), transient=True, disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task("storing", total=None)
        before, since = -1, time.monotonic()
        while not client.flush(_PROGRESS_S):
            counts = client.stats()
            total = counts["recorded"] + counts["recovered"]
            done = total - counts["pending"]
            progress.update(task, total=total, completed=done)
            if done != before:
                before, since = done, time.monotonic()
            elif time.monotonic() - since > timeout_s:
                return False
    return True


def _say(facts: dict[str, Any]) -> None:
    console = stdout()
    if not (facts["stored"] or facts["pending"] or facts["dead_letters"]):
        console.print("Nothing was left to store.")
        return
    console.print(f"Stored {counted(facts['stored'], 'event')} in {facts['seconds']:.1f} s.")
    if facts["dead_letters"]:
        listing = command_line("journal", "dead-letters")
        console.print(
            f"{counted(facts['dead_letters'], 'record')} cannot be stored and {_were(facts['dead_letters'])} set "
            f"aside: `{listing}` shows why.",
            soft_wrap=True,
        )


# -- dead letters ---------------------------------------------------------------------------------


@journal_app.command("dead-letters")
def dead_letters(
    ids: Ids = None,
    retry: Annotated[bool, typer.Option("--retry", help="Offer them to the database again.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Delete them.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Print them whole, one line of JSON each.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """List the records that the database refuses, with its reasons; --retry, --discard or --export them."""
    from rlm_cachetrack.client import runtime_for

    if retry + discard + export > 1:
        raise ConfigError("--retry, --discard and --export exclude each other")
    if as_csv and (as_json or retry or discard or export):
        raise ConfigError("--csv is a form of the list: --json, --retry, --discard and --export exclude it")
    runtime = runtime_for(db_url)
    letters = runtime.dead_letters.read()
    if ids:
        letters = [letter for letter in letters if letter.id in ids]
        if missing := set(ids) - {letter.id for letter in letters}:
            raise NotFound(f"no dead letter has the id {', '.join(sorted(missing))}")
    chosen = [letter.id for letter in letters]
    if export:
        for letter in letters:
            sys.stdout.write(json.dumps(asdict(letter), default=str) + "\n")
    elif retry:
        _retry(db_url, chosen, as_json=as_json)
    elif discard:
        if chosen and not yes:
            confirm(f"Delete {counted(len(chosen), 'record')} for good?")
        with _rewriting():
            gone = runtime.dead_letters.remove(chosen)
        if as_json:
            print_json({"discarded": gone})
        else:
            stdout().print(f"Deleted {counted(gone, 'record')}.")
    elif as_json:
        print_json([asdict(letter) for letter in letters])
    elif as_csv:
        print_csv([asdict(letter) for letter in letters], ("id", "time", "reason", "event"))
    else:
        _list(letters)


def _retry(db_url: str | None, ids: Collection[str], *, as_json: bool) -> None:
    from rlm_cachetrack.client import runtime_for

    with open_client(db_url) as client, slow_status("storing"):
        with _rewriting():
            offered = runtime_for(db_url).retry_dead_letters(ids)
        if not client.flush():
            raise StoreUnreachableError(f"they wait in the journal now: {client.stats()['last_error']}")
        left = {letter.id for letter in runtime_for(db_url).dead_letters.read()}
    refused = len(left & offered)
    untaken = len((left & set(ids)) - offered)
    if as_json:
        print_json({"offered": len(offered), "stored": len(offered) - refused, "refused": refused})
    else:
        console = stdout()
        console.print(f"Stored {counted(len(offered) - refused, 'record')}.")
        if refused:
            console.print(f"{counted(refused, 'record')} {_were(refused)} refused again and set aside.")
        if untaken:
            console.print(
                f"{counted(untaken, 'record')} found no room in the journal and {_were(untaken)} not appended."
            )
    raise typer.Exit(1 if refused or untaken else 0)


@contextlib.contextmanager
def _rewriting() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise CacheTrackError(
            f"the file of dead letters cannot be rewritten ({exc.strerror}): all of them stay"
        ) from exc


def _list(letters: list[Any]) -> None:
    console = stdout()
    if not letters:
        console.print("There are no dead letters: every record could be stored.")
        return
    for letter in letters[:_SHOWN]:
        event = letter.event
        what = f"{event.get('kind')} of query {event.get('query_id')!r}"
        if event.get("model"):
            what += f", model {event['model']}"
        console.print(clean(letter.id), style="bold", soft_wrap=True)
        print_line(console, "  set aside", moment(datetime.fromisoformat(letter.time).astimezone(UTC)), indent=14)
        print_line(console, "  what", what, indent=14)
        print_line(console, "  why", letter.reason, indent=14)
    if len(letters) > _SHOWN:
        console.print(
            f"… and {number(len(letters) - _SHOWN)} more: `{command_line('journal', 'dead-letters', '--json')}`"
        )
    console.print()
    console.print(f"`{command_line('journal', 'dead-letters', '--retry')}` offers them again, --discard deletes them.")


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
