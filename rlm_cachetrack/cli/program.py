"""The command line as a whole: its commands, its errors and exit codes, its entry point."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperArgument, TyperGroup

from rlm_cachetrack._version import __version__
from rlm_cachetrack.config import redact
from rlm_cachetrack.errors import CacheTrackError, ConfigError, RecordError, StoreUnreachableError
from rlm_cachetrack.formatting import clean_lines

from .arguments import PROGRAM, NotFound, option, with_option_names
from .checking import check
from .comparing import compare
from .dashboard import dashboard
from .database import embedded_app, migrate
from .delete import delete, prune
from .demo import demo
from .doctor import doctor
from .experiments import experiments, outcome
from .explaining import explain
from .journal import journal_app
from .latency import latency
from .live import live
from .metrics import metrics
from .models import models
from .output import print_prose, stderr
from .planning import budget_app, forecast, reconcile, what_if
from .policy import policy
from .price_entries import add_price
from .price_updates import update_prices
from .prices import prices_app
from .reading import runs, show, top
from .reporting import report
from .repricing import reprice
from .rules import rules
from .transferring import export, import_
from .usage import usage
from .watching import watch


def exit_code(exc: Exception) -> int:
    """Return the exit code for an error."""
    if isinstance(exc, StoreUnreachableError):
        return 3
    return 2 if isinstance(exc, (ConfigError, RecordError)) else 1


def report_error(exc: Exception) -> None:
    """Print the error on one line of stderr, with the traceback if ``RLM_CACHETRACK_DEBUG`` is set."""
    message = str(exc) if isinstance(exc, (CacheTrackError, NotFound)) else f"internal error: {_named(exc)}"
    if os.environ.get("RLM_CACHETRACK_DEBUG", "") not in ("", "0"):
        sys.stderr.write(redact("".join(traceback.format_exception(exc))))
    print_prose(
        stderr(),
        Text.assemble((f"{PROGRAM}: ", "bold red"), clean_lines(redact(with_option_names(message)))),
    )


def _named(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc} (set RLM_CACHETRACK_DEBUG=1 for the traceback)"


def _without_types(params: Any) -> Any:
    for param in params:
        if isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        elif getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class _Commands(TyperGroup):
    """Converts errors of this library to one line and an exit code; typer handles its own errors.

    Help shows no types: switches have none, and the other options name their values.
    """

    def get_params(self, ctx: Any) -> Any:
        return _without_types(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            for command in (found, *getattr(found, "commands", {}).values()):
                _without_types(command.get_params(ctx))
        return found

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (CacheTrackError, NotFound) as exc:
            report_error(exc)
            raise typer.Exit(exit_code(exc)) from exc


app = typer.Typer(
    name=PROGRAM,
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Shows what the prompt cache saves, from the calls recorded by `instrument(client)`.",
    epilog="Exit codes: 0 ok, 1 not found or a check failed, 2 invalid usage or settings, 3 database unreachable.",
)
for view in (
    demo,
    runs,
    show,
    explain,
    rules,
    compare,
    experiments,
    top,
    models,
    usage,
    live,
    latency,
    report,
    dashboard,
):
    app.command(rich_help_panel="View")(view)
for plan in (check, forecast, what_if, reconcile, watch):
    app.command(rich_help_panel="Plan")(plan)
app.add_typer(budget_app, name="budget", rich_help_panel="Plan")
for maintain in (outcome, metrics, doctor, migrate, policy, reprice, delete, prune):
    app.command(rich_help_panel="Maintain")(maintain)
prices_app.command("add")(add_price)
prices_app.command("update")(update_prices)
app.add_typer(prices_app, name="prices", rich_help_panel="View")
app.command(rich_help_panel="Import and export")(export)
app.command("import", rich_help_panel="Import and export")(import_)
app.add_typer(journal_app, name="journal", rich_help_panel="Maintain")
app.add_typer(embedded_app, name="db", rich_help_panel="Maintain")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"rlm_cachetrack {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Shows what the prompt cache saves, from the calls recorded by instrument(client)."""


def main() -> None:
    """Run the command line and end the process with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # so that a character missing from the encoding is not an error
            stream.reconfigure(errors="replace")
    # The command itself reports a database that cannot be reached; the pool would report it again.
    logging.basicConfig(format=f"{PROGRAM}: %(message)s", level=logging.WARNING)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    try:
        app(prog_name=PROGRAM)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as exc:
        report_error(exc)
        sys.exit(1)
