"""Arguments that several commands share: the database, times, query ids and runs."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean, clean_lines

from .output import print_prose, stderr

if TYPE_CHECKING:
    from rlm_cachetrack.client import TimescaleDBClient

PROGRAM = "rlm-cachetrack"

_RELATIVE = re.compile(r"(\d{1,9})\s*([smhdw])")
_OPTIONS = {"group_by": "--by", "by": "--by", **{name: f"--{name}" for name in ("range", "confidence", "days")}}
_ARGUMENT = re.compile(rf"^({'|'.join(_OPTIONS)})=")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class NotFound(Exception):  # noqa: N818 - a result of the command, not an error of the library
    """The requested query, run or price is not stored: exit code 1."""


def check_query_id(value: str) -> str:
    """Return the id of a query; reject text that cannot be a stored id.

    Raises:
        typer.BadParameter: The text is empty, or contains NUL or invalid UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("not valid UTF-8, so no stored id can match it") from None
    if not value or "\0" in value:
        raise typer.BadParameter("expected the id of a query")
    return value


def option(*names: str, help: str, **more: Any) -> Any:
    """Declare an option whose default is not shown, because it is None or off."""
    return typer.Option(*names, help=help, show_default=False, **more)


def argument(*, help: str, **more: Any) -> Any:
    """Declare an argument whose default is not shown."""
    return typer.Argument(help=help, show_default=False, **more)


def _one_format(context: typer.Context, is_given: bool) -> bool:
    """Check, when the second of ``--json`` and ``--csv`` is parsed, that the first one is not given."""
    if is_given and (context.params.get("as_json") or context.params.get("as_csv")):
        raise ConfigError("--json and --csv are mutually exclusive")
    return is_given


DbUrl = Annotated[
    str | None,
    option(
        "--db-url",
        metavar="URL",
        help="Address of the database. Default: RLM_CACHETRACK_DB_URL, else TIMESCALE_DB_URL, else the embedded "
        "PostgreSQL.",
    ),
]
AsJson = Annotated[bool, option("--json", help="Print JSON.", callback=_one_format)]
AsCsv = Annotated[bool, option("--csv", help="Print CSV.", callback=_one_format)]
Yes = Annotated[bool, option("--yes", "-y", help="Do not ask for confirmation.")]
QueryId = Annotated[str, argument(metavar="QUERY_ID", callback=check_query_id, help="Id of the query, from `runs`.")]
RunArgument = Annotated[
    str | None,
    argument(
        metavar="QUERY[@RUN]",
        help="A query's id or its beginning, for its newest run; with @RUN, that run. Default: the newest run of all.",
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", "-n", metavar="ROWS", min=1, max=100_000, help="Maximum number of rows.")
]
GROUPINGS = "model, provider, query, depth, call_site, tag:NAME, metadata.KEY, hour, day, week, month"
GroupBy = Annotated[str | None, option("--by", metavar="GROUPINGS", help=f"{GROUPINGS}; separate several by commas.")]
Run = Annotated[
    str,
    option("--run", metavar="RUN_ID", help="An id listed by `runs`, or its beginning. Default: the newest run."),
]


def open_client(db_url: str | None) -> TimescaleDBClient:
    """Connect, migrate the schema and recover the journals of dead processes.

    An invalid pricing file is reported on stderr, but is not an error: stored calls already have their prices.
    """
    from rlm_cachetrack.client import ReadingClient

    client = ReadingClient(db_url)
    if client.pricing_error is not None:
        console = stderr()
        print_prose(console, f"{PROGRAM}: {clean_lines(str(client.pricing_error))}")
        console.print("Calls that are not stored yet wait until the file is corrected.", style="dim")
    return client


def parse_moment(text: str | None, option: str) -> datetime | None:
    """Parse a time: ISO 8601 (UTC if it has no offset), or an age such as 7d, 24h, 90m, 30s or 2w.

    Raises:
        ConfigError: The text is neither.
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
            "or an age such as 7d or 24h"
        ) from None


def parse_age(text: str, option: str) -> timedelta | None:
    """Parse an age such as 7d, 24h or 2w; None for ``off``.

    Raises:
        ConfigError: The text is neither.
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


def with_option_names(message: str) -> str:
    """Replace names of Python arguments in a message with those of the command-line options."""
    named = _ARGUMENT.sub(lambda found: f"{_OPTIONS[found[1]]} ", message)
    return named.replace("the db_url argument", "--db-url")


def confirm(question: str) -> None:
    """Ask for confirmation; return if the answer is yes.

    Raises:
        ConfigError: stdin is not a terminal.
        typer.Exit: The answer was no.
    """
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for confirmation; add --yes to continue without it")
    if not typer.confirm(question, err=True):
        stderr().print("Nothing was changed.")
        raise typer.Exit(1)


def command_line(*words: str, query_id: str | None = None) -> str:
    """Return a command line that a user can copy and run in this environment.

    Args:
        words: Command and options. If the last word is ``--query``, the query's id follows it.
        query_id: A query's id as the last argument; ``QUERY_ID`` stands for one that cannot be copied.
    """
    program = PROGRAM
    if shutil.which(program) is None:  # the virtual environment is not activated
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
