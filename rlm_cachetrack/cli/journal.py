"""``journal``: list the events that wait to be stored, store them now, and handle dead letters."""

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
from rlm_cachetrack.formatting import clean, moment, number, size

from .arguments import AsCsv, AsJson, DbUrl, NotFound, Yes, argument, command_line, confirm, open_client
from .output import (
    Column,
    Figure,
    counted,
    print_data,
    print_json,
    print_line,
    print_prose,
    slow_status,
    stderr,
    stdout,
    table,
)

if TYPE_CHECKING:
    from rlm_cachetrack.client import TimescaleDBClient
    from rlm_cachetrack.journal import DeadLetter

_PROGRESS_S = 0.2
_SHOWN = 20

journal_app = typer.Typer(
    no_args_is_help=True, help="Records that wait to be stored, and dead letters, which cannot be stored."
)

TimeoutS = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="Stop if nothing is stored for this long."),
]
Ids = Annotated[list[str] | None, argument(metavar="ID", help="Ids of dead letters. Default: all.")]


@journal_app.command()
def status(as_json: AsJson = False, db_url: DbUrl = None) -> None:
    """Show the events that wait in journals, by process. Needs no database."""
    from rlm_cachetrack.client import runtime_for
    from rlm_cachetrack.pipeline import diagnostics

    facts = diagnostics.describe_journals(runtime_for(db_url))
    if print_data(facts, as_json):
        return
    console = stdout()
    if facts["journals"]:
        columns = (
            Figure("process", lambda journal: str(journal["pid"] or "?")),
            Column("state", lambda journal: "live" if journal["live"] else "recoverable"),
            Figure("events", "events", number),
            Figure("size", "bytes", size),
            Column("oldest (UTC)", "oldest", moment, optional=1),
        )
        console.print(table(columns, facts["journals"], console.width))
        console.print()
    for name, text in _summary(facts):
        print_line(console, name, text)


def _summary(facts: dict[str, Any]) -> list[tuple[str, str]]:
    waiting = f"{counted(facts['events'], 'event')} ({size(facts['bytes'])})" if facts["events"] else "nothing"
    lines = [("waiting", waiting)]
    if facts["recoverable_events"]:
        drain_now = command_line("journal", "drain")
        lines.append(("", f"the next process that uses this store recovers journals; to do it now: `{drain_now}`"))
    if facts["dead_letters"]:
        listing = command_line("journal", "dead-letters")
        lines.append(("dead letters", f"{counted(facts['dead_letters'], 'record')} cannot be stored: `{listing}`"))
    else:
        lines.append(("dead letters", "none"))
    lines.append(("folder", facts["journal"]))
    if facts["for_other_stores"]["files"]:
        others = facts["for_other_stores"]
        lines.append(("other", f"{counted(others['files'], 'journal')} ({size(others['bytes'])}) for other databases"))
    return lines


# -- drain ----------------------------------------------------------------------------------------


@journal_app.command()
def drain(timeout_s: TimeoutS = 30.0, as_json: AsJson = False, db_url: DbUrl = None) -> None:
    """Recover the journals of dead processes now and store their events.

    Live processes store their own journals. Exit code 0 if everything is stored, 1 if some records could not be stored,
    3 if the database cannot be reached.
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
    if not print_data(facts, as_json):
        _print_drained(facts)
    if not done:
        waiting = counted(facts["pending"], "event")
        print_prose(stderr(), f"{waiting} still in the journal: {facts['error']}")
    raise typer.Exit(0 if done and not facts["dead_letters"] else 1)


def _store_all(client: TimescaleDBClient, timeout_s: float, *, quiet: bool) -> bool:
    """Flush, with a progress bar on a terminal. Returns False if nothing was stored for ``timeout_s`` seconds."""
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


def _print_drained(facts: dict[str, Any]) -> None:
    console = stdout()
    if not (facts["stored"] or facts["pending"] or facts["dead_letters"]):
        console.print("The journals are empty.")
        return
    console.print(f"Stored {counted(facts['stored'], 'event')} in {facts['seconds']:.1f} s.")
    if facts["dead_letters"]:
        listing = command_line("journal", "dead-letters")
        print_prose(
            console,
            f"{counted(facts['dead_letters'], 'record')} cannot be stored: `{listing}` shows the reasons.",
        )


# -- dead letters ---------------------------------------------------------------------------------


@journal_app.command("dead-letters")
def dead_letters(
    ids: Ids = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try to store them again.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Delete them.")] = False,
    export: Annotated[bool, typer.Option("--export", help="Print them as JSON lines.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """List the records that the database rejected, with the reasons; or retry, discard or export them."""
    if retry + discard + export > 1:
        raise ConfigError("--retry, --discard and --export are mutually exclusive")
    if as_csv and (as_json or retry or discard or export):
        raise ConfigError("--csv cannot be combined with --json, --retry, --discard and --export")
    letters = _select(db_url, ids)
    if retry:
        _retry(db_url, [letter.id for letter in letters], as_json=as_json)
    elif discard:
        _discard(db_url, [letter.id for letter in letters], yes=yes, as_json=as_json)
    elif export:
        for letter in letters:
            sys.stdout.write(json.dumps(asdict(letter), default=str) + "\n")
    elif not print_data([asdict(letter) for letter in letters], as_json, as_csv, row_type="journal.DeadLetter"):
        _list(letters)


def _select(db_url: str | None, ids: Collection[str] | None) -> list[DeadLetter]:
    from rlm_cachetrack.client import runtime_for

    letters = runtime_for(db_url).dead_letters.read()
    if not ids:
        return letters
    if missing := set(ids) - {letter.id for letter in letters}:
        raise NotFound(f"no dead letter has the id {', '.join(sorted(missing))}")
    return [letter for letter in letters if letter.id in ids]


def _discard(db_url: str | None, ids: Collection[str], *, yes: bool, as_json: bool) -> None:
    from rlm_cachetrack.client import runtime_for

    if ids and not yes:
        confirm(f"Delete {counted(len(ids), 'record')}? This cannot be undone.")
    with _rewrite_errors():
        deleted = runtime_for(db_url).dead_letters.remove(ids)
    if as_json:
        print_json({"discarded": deleted})
    else:
        stdout().print(f"Deleted {counted(deleted, 'record')}.")


def _retry(db_url: str | None, ids: Collection[str], *, as_json: bool) -> None:
    from rlm_cachetrack.client import runtime_for
    from rlm_cachetrack.pipeline import retry_dead_letters

    with open_client(db_url) as client, slow_status("storing"):
        with _rewrite_errors():
            found = retry_dead_letters(runtime_for(db_url), ids)
        if not found.is_stored:
            raise StoreUnreachableError(f"the records wait in the journal now: {client.stats()['last_error']}")
    if as_json:
        print_json({"retried": found.retried, "stored": found.stored, "rejected": found.rejected})
    else:
        console = stdout()
        console.print(f"Stored {counted(found.stored, 'record')}.")
        if found.rejected:
            console.print(f"{counted(found.rejected, 'record')} rejected again: still in the dead-letter file.")
        if found.kept:
            console.print(f"{counted(found.kept, 'record')} not retried: the journal is full.")
    raise typer.Exit(1 if found.rejected or found.kept else 0)


@contextlib.contextmanager
def _rewrite_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise CacheTrackError(
            f"the dead-letter file cannot be rewritten ({exc.strerror}); all dead letters are kept"
        ) from exc


def _list(letters: list[DeadLetter]) -> None:
    console = stdout()
    if not letters:
        console.print("There are no dead letters.")
        return
    for letter in letters[:_SHOWN]:
        event = letter.event
        record = f"{event.get('kind')} of query {event.get('query_id')!r}"
        if event.get("model"):
            record += f", model {event['model']}"
        print_prose(console, clean(letter.id), "bold")
        print_line(console, "  time", moment(datetime.fromisoformat(letter.time).astimezone(UTC)))
        print_line(console, "  record", record)
        print_line(console, "  reason", letter.reason)
    if len(letters) > _SHOWN:
        listing = command_line("journal", "dead-letters", "--json")
        console.print(f"… and {number(len(letters) - _SHOWN)} more: `{listing}`")
    console.print()
    console.print(
        f"`{command_line('journal', 'dead-letters', '--retry')}` tries to store them again, --discard deletes them."
    )
