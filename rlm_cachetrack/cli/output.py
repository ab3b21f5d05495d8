"""How the commands speak: consoles, JSON, numbers that do not pretend, and foreign text made harmless.

Query ids, model names and statuses come from outside. They never reach the terminal raw: markup is off everywhere, and
:func:`clean` makes control characters, escape sequences and bidirectional overrides visible.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import math
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import NONE, clean, clean_lines, duration, moment, number, percentage, rate, size, usd

__all__ = [
    "NONE",
    "Column",
    "clean",
    "clean_lines",
    "counted",
    "duration",
    "moment",
    "number",
    "percentage",
    "print_csv",
    "print_json",
    "print_line",
    "rate",
    "require_one_format",
    "row_columns",
    "shorten",
    "size",
    "slow_status",
    "stderr",
    "stdout",
    "table",
    "usd",
]

_GAP = 2
_NARROWEST = 8
_PATIENCE_S = 2.0


# -- where to -------------------------------------------------------------------------------------


def stdout() -> Console:
    """The console for results: as wide as the terminal or ``COLUMNS``, without colour where it is none."""
    return Console(markup=False, emoji=False, highlight=False)


def stderr() -> Console:
    """The console for errors, questions and progress."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def print_json(value: Any) -> None:
    """Write ``value`` as JSON to stdout: moments in ISO 8601 with offset, ids as text, floats in full precision.

    ASCII only, so that what a terminal would act on is escaped, and any encoding of stdout will do.
    """
    sys.stdout.write(json.dumps(_plain(value), indent=2, default=str) + "\n")
    sys.stdout.flush()  # a closed pipe shows here, where it is handled, not at exit


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV to stdout, the names of the columns first; nested values as JSON, NULL as nothing.

    Args:
        rows: Keyed by column, all alike.
        columns: Where there may be no row to tell.
    """
    names = list(rows[0]) if rows else list(columns)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = (_plain(row[name]) for name in names)
        writer.writerow([json.dumps(v, default=str) if isinstance(v, (dict, list)) else v for v in values])
    sys.stdout.flush()


def counted(count: int, noun: str) -> str:
    """A number and what is counted: ``1 call``, ``2,000 calls``."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def row_columns(module: str, row: str) -> tuple[str, ...]:
    """The columns of a row of a reading module, which is loaded only when it is needed: the driver comes with it."""
    found = getattr(importlib.import_module(f"..{module}", __package__), row)
    return tuple(found.__annotations__)


def require_one_format(*forms: bool) -> None:
    """Refuse several forms of output at once.

    Raises:
        ConfigError: More than one is asked for.
    """
    if sum(forms) > 1:
        raise ConfigError("--json, --csv and --live exclude each other")


@contextlib.contextmanager
def slow_status(words: str) -> Iterator[None]:
    """Say on stderr what takes so long, where somebody looks on and it takes longer than two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    status = stderr().status(f"{words} …")
    timer = threading.Timer(_PATIENCE_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    return value


# -- lines and tables ---------------------------------------------------------------------------------------


def print_line(console: Console, name: str, text: str, *, indent: int, mark: tuple[str, str] = ("", "")) -> None:
    """Print ``name  text``; prose is wrapped under itself, an address is left whole for copying.

    Args:
        console: Where to.
        name: Set in bold.
        text: May be foreign.
        indent: Where ``text`` begins.
        mark: A sign before the name, and its style.
    """
    sign = f"{mark[0]:<2} " if mark[0] else ""
    head = Text.assemble((sign, mark[1]), (name.ljust(indent - len(sign)), "bold"))
    width = max(console.width - indent, 20)
    pieces: list[str] = []
    for line in clean_lines(text).split("\n"):
        pieces += textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    for piece in pieces:
        console.print(Text.assemble(head, piece), soft_wrap=True)
        head = Text(" " * indent)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its head.
        numeric: Set to the right.
        optional: Left out where the terminal is too narrow, the highest number first; 0 stays.
        flexible: Shortened with an ellipsis where the terminal is too narrow.
        style: Of its cells.
        least: Columns that may be left out go before this flexible one gets narrower than that.
    """

    title: str
    numeric: bool = False
    optional: int = 0
    flexible: bool = False
    style: str = ""
    least: int = 18


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A table of one line a row that fits ``width``: numbers are never cut, the flexible column is."""
    natural = [
        max(cell_len(text) for text in (column.title, *(row[index] for row in rows)))
        for index, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))

    def room() -> int:
        """What is left for the flexible column."""
        fixed = sum(natural[index] for index in shown if not columns[index].flexible)
        return width - fixed - _GAP * (len(shown) - 1)

    wanted = max((natural[index] for index, column in enumerate(columns) if column.flexible), default=0)
    least = max((column.least for column in columns if column.flexible), default=0)
    while room() < min(wanted, least) and (spare := [index for index in shown if columns[index].optional]):
        shown.remove(max(spare, key=lambda index: columns[index].optional))
    flexible = max(min(wanted, room()), _NARROWEST)

    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for index in shown:
        column = columns[index]
        grid.add_column(
            column.title, justify="right" if column.numeric else "left", no_wrap=True, style=column.style or None
        )
    for row in rows:
        grid.add_row(*(shorten(row[i], flexible) if columns[i].flexible else Text(row[i]) for i in shown))
    return grid


def shorten(text: str, width: int) -> Text:
    """``text`` in at most ``width`` cells."""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1).rstrip() + "…"
    return Text(text)
