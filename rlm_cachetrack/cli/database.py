"""``migrate`` and ``db``: the schema of the database, and the embedded server."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from rlm_cachetrack.config import load_settings
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import moment, size

from .arguments import AsJson, DbUrl, option
from .output import print_json, print_line, slow_status, stderr, stdout

if TYPE_CHECKING:
    from rlm_cachetrack.store.embedded import EmbeddedStatus


class Engine(StrEnum):
    """Engines that ``migrate --print-sql`` knows."""

    POSTGRESQL = "postgresql"
    TIMESCALEDB = "timescaledb"
    CITUS = "citus"


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL for this database, and change nothing.")
    ] = False,
    print_sql: Annotated[
        bool,
        typer.Option("--print-sql", help="Print the complete SQL for an empty database. Connects to no database."),
    ] = False,
    engine: Annotated[Engine | None, option(help="Engine for --print-sql. Default: postgresql.")] = None,
    db_url: DbUrl = None,
) -> None:
    """Bring the schema of the database up to date. All other commands that connect do this automatically.

    Only this command upgrades existing tables of calls not created by rlm_cachetrack. It upgrades them in place and
    keeps every row, column and view.
    """
    from rlm_cachetrack.client import runtime_for
    from rlm_cachetrack.pipeline import diagnostics
    from rlm_cachetrack.store import complete_sql

    if print_sql or engine is not None:
        if not print_sql or dry_run:
            raise ConfigError("--engine requires --print-sql, and --print-sql cannot be combined with --dry-run")
        typer.echo(complete_sql((engine or Engine.POSTGRESQL).value), nl=False)
        return
    runtime, console = runtime_for(db_url), stdout()
    text, problems, notes = diagnostics.plan_migration(runtime)
    if dry_run:
        for line in (*(f"cannot be upgraded: {problem}" for problem in problems), *notes):
            typer.echo(f"-- {line}")
        typer.echo(text or "-- Nothing is pending: the schema is up to date.")
        raise typer.Exit(1 if problems else 0)
    for note in notes:
        console.print(note, markup=False)

    def show_step(label: str, number: int, count: int) -> None:
        stderr().print(f"step {number} of {count}: {label}", markup=False)

    with slow_status("changing the schema"):
        applied = diagnostics.migrate_store(runtime, show_step if notes else None)
    for label in applied:
        console.print(f"applied {label}")
    console.print("The schema is up to date.")


# -- the embedded server --------------------------------------------------------------------------

embedded_app = typer.Typer(no_args_is_help=True, help="The embedded PostgreSQL: status, stop.")


@embedded_app.command()
def status(as_json: AsJson = False) -> None:
    """Show whether the embedded PostgreSQL is running, without starting it. Exit code 0 if it is, else 1."""
    from rlm_cachetrack.store import embedded

    settings = load_settings()
    found = embedded.status(settings.data_dir)
    if as_json:
        print_json(status_facts(found))
    else:
        console = stdout()
        print_marked_lines(console, embedded_lines(status_facts(found)))
        if settings.db_url is not None:
            console.print(f"Not in use: {settings.db_url_origin} names another database.", style="dim")
    raise typer.Exit(0 if found.running else 1)


@embedded_app.command()
def stop() -> None:
    """Stop the embedded PostgreSQL. Stored data is kept; the next use starts the server again.

    An open dashboard, `live` and `watch` do not start it again.
    """
    from rlm_cachetrack.store import embedded

    stopped = embedded.stop(load_settings().data_dir)
    stdout().print("Stopped the embedded PostgreSQL." if stopped else "The embedded PostgreSQL was not running.")


def status_facts(status: EmbeddedStatus) -> dict[str, Any]:
    """Return the status of the embedded server as JSON-compatible values."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(status).items()}


def embedded_lines(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the lines about the embedded server, for :func:`print_marked_lines`."""
    name = f"PostgreSQL {facts['server_version']}" if facts["server_version"] else "PostgreSQL"
    if facts["running"]:
        lines = [("ok", "embedded", f"{name} is running since {moment(facts['started_at'])}, process {facts['pid']}")]
        lines.append(("", "", f"{facts['url']}"))
    elif facts["initialized"]:
        lines = [("", "embedded", f"{name} is stopped; the next use starts it")]
    elif facts["installed"]:
        lines = [("", "embedded", "not created yet; the first use creates it")]
    else:
        lines = [("", "embedded", "not installed: pip install 'rlm-cachetrack[embedded]'")]
    if facts["initialized"]:
        lines.append(("", "", f"{size(facts['size_bytes'])} in {facts['data_dir']}"))
    return lines


def print_marked_lines(console: Console, lines: list[tuple[str, str, str]]) -> None:
    """Print lines of (mark, name, text). Marks: ``ok``, ``bad``, ``note``, or empty."""
    marks = {"ok": ("✓", "green"), "bad": ("✗", "red"), "note": ("!", "yellow"), "": ("", "")}
    if not console.encoding.lower().startswith("utf"):
        marks = {**marks, "ok": ("+", "green"), "bad": ("x", "red")}
    for mark, name, text in lines:
        sign, style = marks[mark]
        print_line(console, name, text, indent=14, mark=(sign or " ", style))
