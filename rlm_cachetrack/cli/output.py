"""The output of the commands: consoles, JSON, CSV, lines and tables.

Query ids, model names and statuses are untrusted. They are never printed unescaped: markup is off, and
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean, clean_lines, number, same_decimals

_GAP = 2
_MIN_WIDTH = 8
_STATUS_DELAY_S = 2.0


# -- consoles, JSON and CSV ----------------------------------------------------------------------


def stdout() -> Console:
    """Return the console for results: as wide as the terminal or ``COLUMNS``, with colours only on a terminal."""
    return Console(markup=False, emoji=False, highlight=False)


def stderr() -> Console:
    """Return the console for errors, questions and progress."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def print_json(value: Any) -> None:
    """Write ``value`` as JSON to stdout: times in ISO 8601 with offset, ids as text, floats in full precision.

    The output is ASCII, so control characters are escaped and any encoding of stdout can represent it.
    """
    sys.stdout.write(json.dumps(_plain(value), indent=2, default=str) + "\n")
    sys.stdout.flush()  # raises for a closed pipe here, where the error is handled, and not at exit


def print_data(found: Any, as_json: bool, as_csv: bool = False, rows: Any = None, row_type: str = "") -> bool:
    """Print a result as JSON, or its rows as CSV; return False if neither was asked for.

    Args:
        found: The result.
        as_json: Print all of it as JSON.
        as_csv: Print its rows as CSV.
        rows: The rows; None if they are the result.
        row_type: Module and name of the type of a row, for the header if there are no rows.
    """
    if as_json:
        print_json(found)
    elif as_csv:
        print_csv(found if rows is None else rows, row_type)
    return as_json or as_csv


def print_csv(rows: Sequence[Mapping[str, Any]], row_type: str = "") -> None:
    """Write rows as CSV to stdout, with a header; nested values as JSON, NULL as an empty field.

    Args:
        rows: The rows, all with the same keys.
        row_type: Module and name of the type of a row, for the header if there are no rows. The module is imported on
            demand, because that also imports the database driver.
    """
    if not rows and row_type:
        module, _, name = row_type.rpartition(".")
        names = list(getattr(importlib.import_module(f"..{module}", __package__), name).__annotations__)
    else:
        names = list(rows[0]) if rows else []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = (_plain(row[name]) for name in names)
        writer.writerow([json.dumps(v, default=str) if isinstance(v, (dict, list)) else v for v in values])
    sys.stdout.flush()


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 call``, ``2,000 calls``."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def require_one_format(*formats: bool) -> None:
    """Check that at most one output format is selected.

    Raises:
        ConfigError: More than one is selected.
    """
    if sum(formats) > 1:
        raise ConfigError("--json, --csv and --live are mutually exclusive")


@contextlib.contextmanager
def slow_status(activity: str) -> Iterator[None]:
    """Show an activity on stderr if stderr is a terminal and the activity takes longer than two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    status = stderr().status(f"{activity} …")
    timer = threading.Timer(_STATUS_DELAY_S, status.start)
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
        return None  # JSON cannot represent it
    return value


# -- lines and tables ---------------------------------------------------------------------------------------


def print_line(console: Console, name: str, *texts: str, indent: int = 14, mark: tuple[str, str] = ("", "")) -> None:
    """Print ``name  text``; texts are wrapped with an indent, but a URL stays in one piece for copying.

    Args:
        console: The console to print to.
        name: Printed in bold, before the first text.
        texts: May be untrusted. Each starts on a line of its own; without any, nothing is printed.
        indent: Column in which the texts start.
        mark: A symbol before the name, and its style.
    """
    sign = f"{mark[0]:<2} " if mark[0] else ""
    head = Text.assemble((sign, mark[1]), (name.ljust(indent - len(sign)), "bold"))
    width = max(console.width - indent, 20)
    pieces: list[str] = []
    for line in [line for text in texts for line in clean_lines(text).split("\n")]:
        pieces += textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    for piece in pieces:
        console.print(Text.assemble(head, piece), soft_wrap=True)
        head = Text(" " * indent)


@dataclass(frozen=True)
class Column:
    """A column of a table: its header, and how to get its cell from a row.

    Attributes:
        title: The header.
        value: The key of the value in a row, or a function of the row. None: the row is a sequence of values in the
            order of the columns.
        shown: Formats the value. The text may be untrusted.
        optional: Omitted if the terminal is too narrow, the highest number first; 0 is never omitted.
        flexible: Shortened with an ellipsis if the terminal is too narrow.
        style: Style of the cells.
        min_width: Optional columns are omitted before this flexible one gets narrower.
    """

    title: str
    value: str | Callable[[Any], Any] | None = None
    shown: Callable[[Any], str] = clean
    optional: int = 0
    flexible: bool = False
    style: str = ""
    min_width: int = 18

    def cells(self, index: int, rows: Iterable[Any]) -> list[str]:
        """Return the texts of the column with this index."""
        value = index if self.value is None else self.value
        return [self.shown(value(row) if callable(value) else row[value]) for row in rows]


class Figure(Column):
    """A column of numbers: aligned to the right, amounts with the same number of decimals."""

    def cells(self, index: int, rows: Iterable[Any]) -> list[str]:
        """Return the texts of the column with this index."""
        return same_decimals(super().cells(index, rows))


def table(columns: Sequence[Column], rows: Sequence[Any], width: int) -> Table:
    """Build a table of one line per row that fits ``width``. The flexible column is shortened, numbers never are."""
    cells = [column.cells(index, rows) for index, column in enumerate(columns)]
    natural = [max(map(cell_len, (column.title, *texts))) for column, texts in zip(columns, cells, strict=True)]
    shown = list(range(len(columns)))

    def room() -> int:
        """Return the width left for the flexible column."""
        fixed = sum(natural[index] for index in shown if not columns[index].flexible)
        return width - fixed - _GAP * (len(shown) - 1)

    wanted = max((natural[index] for index, column in enumerate(columns) if column.flexible), default=0)
    min_width = max((column.min_width for column in columns if column.flexible), default=0)
    while room() < min(wanted, min_width) and (spare := [index for index in shown if columns[index].optional]):
        shown.remove(max(spare, key=lambda index: columns[index].optional))
    flexible = max(min(wanted, room()), _MIN_WIDTH)

    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for index in shown:
        column = columns[index]
        justify: Any = "right" if isinstance(column, Figure) else "left"
        grid.add_column(column.title, justify=justify, no_wrap=True, style=column.style or None)
    for row in zip(*cells, strict=True):
        grid.add_row(*(shorten(row[i], flexible) if columns[i].flexible else Text(row[i]) for i in shown))
    return grid


def shorten(text: str, width: int) -> Text:
    """Shorten ``text`` to at most ``width`` cells."""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1).rstrip() + "…"
    return Text(text)
