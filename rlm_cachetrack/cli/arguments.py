"""What several commands take: the address, moments, query ids and runs."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlm_cachetrack.errors import ConfigError

from .output import clean, clean_lines, moment, number, stderr

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import RunListing
    from rlm_cachetrack.client import TimescaleDBClient

__all__ = [
    "AsCsv",
    "AsJson",
    "DbUrl",
    "NotFound",
    "QueryId",
    "Yes",
    "command_line",
    "confirm",
    "find_run",
    "find_runs",
    "open_client",
    "parse_age",
    "parse_moment",
    "with_option_names",
]

PROGRAM = "rlm-cachetrack"

_RELATIVE = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MANY_RUNS = 10_000


class NotFound(Exception):  # noqa: N818 - an answer, not an error of ours
    """What was asked for is not stored: exit code 1."""


def _query_id(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is not valid UTF-8, as no stored id is") from None
    if not value or "\0" in value:
        raise typer.BadParameter("expected the id of a query")
    return value


def _optional_query_id(value: str | None) -> str | None:
    return None if value is None else _query_id(value)


DbUrl = Annotated[
    str | None,
    typer.Option(
        "--db-url",
        metavar="URL",
        show_default=False,
        help="Address of the database. Default: RLM_CACHETRACK_DB_URL, else TIMESCALE_DB_URL, else the embedded "
        "PostgreSQL.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)]
QueryId = Annotated[
    str, typer.Argument(metavar="QUERY_ID", callback=_query_id, help="As `runs` lists it.", show_default=False)
]
OptionalQueryId = Annotated[
    str | None,
    typer.Option("--query", metavar="QUERY_ID", callback=_optional_query_id, help="Only its runs.", show_default=False),
]


def open_client(db_url: str | None) -> TimescaleDBClient:
    """Connect; brings the schema up to date and adopts left-over journals.

    A mistake in the pricing file is told, and stops nothing: what is stored has its prices.
    """
    from rlm_cachetrack.client import ReadingClient

    client = ReadingClient(db_url)
    if client.pricing_error is not None:
        told = stderr()
        told.print(f"{PROGRAM}: {clean_lines(str(client.pricing_error))}", soft_wrap=True)
        told.print("Until that is mended, what is not stored yet waits.", style="dim")
    return client


def parse_moment(text: str | None, option: str) -> datetime | None:
    """A moment: ISO 8601 (UTC where it has no offset), or how long ago, as 7d, 24h, 90m, 30s, 2w.

    Raises:
        ConfigError: It is neither.
    """
    if text is None:
        return None
    try:
        if found := _RELATIVE.fullmatch(text.strip().lower()):
            return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        value = datetime.fromisoformat(text.strip())
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option} {text!r}: expected a date and time such as 2026-01-31 or 2026-01-31T12:00+01:00, "
            "or how long ago, such as 7d or 24h"
        ) from None


def parse_age(text: str, option: str) -> timedelta | None:
    """How old: as 7d, 24h, 2w; None for ``off``.

    Raises:
        ConfigError: It is neither.
    """
    if text.strip().lower() == "off":
        return None
    found = _RELATIVE.fullmatch(text.strip().lower())
    try:
        if found:
            return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        pass
    raise ConfigError(f"{option} {text!r}: expected an age such as 7d, 24h or 2w, or off")


def find_run(client: TimescaleDBClient, query_id: str, run: str) -> tuple[datetime, int]:
    """The run that ``run`` means, and how many runs the query has at least (up to 100 are counted).

    Args:
        client: Where to look.
        query_id: The query.
        run: ``latest``, or a run's id: as ``runs`` shows it, in full, or the beginning of it (UTC).

    Raises:
        NotFound: There is none, or more than one.
    """
    newest = client.list_query_runs(limit=100, query_id=query_id)
    if not newest:
        raise NotFound(f"no run of query {query_id!r} is stored; `{command_line('runs')}` lists what is")
    if run == "latest":
        return newest[0]["run_id"], len(newest)
    matching = _matching(newest, run)
    if not matching and len(newest) == 100:
        matching = _matching(client.list_query_runs(limit=_MANY_RUNS, query_id=query_id), run)
    if not matching:
        listing = command_line("runs", "--query", query_id=query_id)
        raise NotFound(f"query {query_id!r} has no run {run!r}; `{listing}` lists those it has")
    if len(matching) > 1:
        some = ", ".join(moment(value, full=True) for value in matching[:3])
        raise NotFound(
            f"{number(len(matching))} runs of query {query_id!r} begin with {run!r}: "
            f"{some}{' …' if len(matching) > 3 else ''}"
        )
    return matching[0], len(newest)


def find_runs(client: TimescaleDBClient, text: str) -> list[tuple[str, datetime]]:
    """The run, or the group of runs, that one word of the command line means.

    Args:
        client: Where to look.
        text: A query's id (its newest run); with ``@`` and a run's id, or the beginning of one; with ``@*`` all of the
            query's runs, with ``@2026-11*`` those that begin like that. A query whose own id has an ``@`` goes first.

    Raises:
        NotFound: There is none, or more than one that begins like that.
    """
    text = _query_id(text)
    query_id, _, run = text.rpartition("@")
    if not query_id or client.list_query_runs(limit=1, query_id=text):
        return [(text, find_run(client, text, "latest")[0])]
    if not run.endswith("*"):
        return [(query_id, find_run(client, query_id, run)[0])]
    listed = client.list_query_runs(limit=_MANY_RUNS, query_id=query_id)
    beginning = run[:-1].strip()
    found = [each["run_id"] for each in listed] if not beginning else _matching(listed, beginning)
    if not listed:
        raise NotFound(f"no run of query {query_id!r} is stored; `{command_line('runs')}` lists what is")
    if not found:
        raise NotFound(f"no run of query {query_id!r} begins with {beginning!r}")
    return [(query_id, run_id) for run_id in found]


def _matching(runs: list[RunListing], text: str) -> list[datetime]:
    ids = [run["run_id"] for run in runs]
    beginning = re.sub(r"(Z|[+-]00:?00)$", "", text.strip().replace(" ", "T"), flags=re.IGNORECASE)
    try:
        exact = datetime.fromisoformat(text.strip())
        if exact.tzinfo is not None and exact in ids:
            return [exact.astimezone(UTC)]
    except ValueError:
        pass
    return [value for value in ids if beginning and moment(value, full=True).startswith(beginning)]


def with_option_names(message: str) -> str:
    """What the library calls an argument is an option here."""
    return message.replace("the db_url argument", "--db-url")


def confirm(question: str) -> None:
    """Ask; go on only after a yes.

    Raises:
        ConfigError: There is no terminal to ask at.
        typer.Exit: The answer was no.
    """
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask at; add --yes to go on without a question")
    if not typer.confirm(question, err=True):
        stderr().print("Nothing was done.")
        raise typer.Exit(1)


def command_line(*words: str, query_id: str | None = None) -> str:
    """A command line of ours to copy, under the name by which it can be called here.

    Args:
        words: Command and options; ``--query`` at the end takes the query.
        query_id: Foreign text to end with; where it cannot be copied, a word stands for it.
    """
    program = PROGRAM
    if shutil.which(program) is None:  # a virtual environment that is not activated
        started = Path(sys.argv[0]).absolute()
        if started.name == program and started.is_file():
            here = Path.cwd()
            program = str(started.relative_to(here) if started.is_relative_to(here) else started)
    if query_id is not None:
        shown = query_id if clean(query_id) == query_id else "QUERY_ID"
        if words[-1] == "--query":
            words = (*words[:-1], f"{words[-1]}={shown}")
        else:
            words = (*words, "--", shown) if shown.startswith("-") else (*words, shown)
    return clean(shlex.join((program, *words)))
