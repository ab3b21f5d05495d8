"""Write ``docs/reference/command-line.md``: every command with every argument and option, from the program."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from rlm_cachetrack.cli import app

HEAD = """\
# Command line

Results go to stdout, everything else to stderr. `rlm-cachetrack COMMAND --help` shows the same as this page.

| exit code | meaning |
|--:|---|
| 0 | ok |
| 1 | not found, or a check failed |
| 2 | wrong usage or setting |
| 3 | the database cannot be reached |

`show`, `explain` and `report` take the id of a query or its beginning, `QUERY@RUN`, or nothing for the newest run.
Times are `2026-01-31`, `2026-01-31T12:00+01:00` or an age such as `7d`, `24h`, `90m`. `rlm-cachetrack
--install-completion` installs the completion of commands and options in your shell.

Every command that reads calls or runs has the same filters: `--since`, `--until`, `--model`, `--provider`, `--query`
and `--tag`. They can be combined; with several `--tag`, calls must have all of them.

- `usage`, `models`, `latency`, `what-if`, `forecast`, `live` and `export` sum or list the selected calls.
- `runs`, `top`, `experiments`, `show`, `explain`, `report`, `compare` and `check` select the runs that have such a call
  and, with `--since` and `--until`, began in this time. Their figures are those of whole runs. `show`, `explain` and
  `report` without an id take the newest selected run.
- A filter that a command cannot apply is rejected with the reason: `forecast` has no `--until`, `live` has neither
  `--since` nor `--until`, `reconcile` only `--provider`, `reprice` neither `--provider` nor `--tag`.
- In Python, the reading methods of `TimescaleDBClient` take `since`, `until`, `model`, `provider`, `query_id` and
  `tags`.

Generated from the program by `make pages`; a test fails if this page is out of date.
"""


def commands(group: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield each command: its name with that of its group, the command, and its context."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = typer.Context(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from ((f"{name} {sub}", *rest) for sub, *rest in commands(command, inner))
        else:
            yield name, command, inner


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _option(names: str) -> str:
    return re.sub(r"<(?:int|float) range>", "N", names).replace("|", "\\|")


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        shown = parameter.get_help_record(context)
        if shown is not None and "--help" not in parameter.opts:
            yield shown


def _section(name: str, command: Any, context: Any) -> Iterator[str]:
    yield f"\n### {name}\n\n"
    yield f"{inspect.cleandoc(command.help or '')}\n\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"`rlm-cachetrack {name} {usage}`\n"
    rows = list(_parameters(command, context))
    if rows:
        yield "\n| argument or option | meaning |\n|---|---|\n"
        yield from (f"| `{_option(option)}` | {_cell(text)} |\n" for option, text in rows)


def render() -> str:
    """Return the page."""
    program = typer.main.get_command(app)
    context = typer.Context(program, info_name="rlm-cachetrack")
    panels: dict[str, list[tuple[str, Any, Any]]] = {}
    for name, command, inner in commands(program, context):
        outer = program.get_command(context, name.split()[0])  # type: ignore[attr-defined]
        panels.setdefault(outer.rich_help_panel, []).append((name, command, inner))
    parts = [HEAD, "\n| group | commands |\n|---|---|\n"]
    for panel, found in panels.items():
        links = ", ".join(f"[`{name}`](#{name.replace(' ', '-')})" for name, *_ in found)
        parts.append(f"| {panel} | {links} |\n")
    for panel, found in panels.items():
        parts.append(f"\n## {panel}\n")
        for one in found:
            parts.extend(_section(*one))
    return "".join(parts)
