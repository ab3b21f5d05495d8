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
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rlm_cachetrack.formatting import clean, clean_lines, number, usd, usd_column

EMPTY = "Nothing is stored yet."
NO_MATCH = "No stored call matches the filters."
_GAP = 2
_MIN_WIDTH = 8
_MOST_LINES = 6
_STATUS_DELAY_S = 2.0
_WHOLE = re.compile(r"://|`|^\s*[\w~.]*/\w")
_WORD = re.compile(r"\s*(?:[^\s`]*`[^`\n]*`\S*|\S+)\s*")


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


def print_prose(console: Console, text: str | Text, style: str = "") -> None:
    """Print sentences, wrapped at words; a URL, or a command between backticks, stays in one piece for copying.

    On stderr they are wrapped only on a terminal, so that a message is one line of a log file.

    Args:
        console: The console to print to.
        text: May be untrusted if it is a ``str``.
        style: Style of the text.
    """
    text = Text(clean_lines(text), style) if isinstance(text, str) else text
    if console.stderr and not console.is_terminal:
        console.print(text, soft_wrap=True)
        return
    for line in text.split("\n", allow_blank=True):
        starts = _line_starts(line.plain, console.width)
        for part in line.divide(starts[1:]):
            part.rstrip()
            console.print(part, soft_wrap=True)


def _line_starts(text: str, width: int) -> list[int]:
    """Return where the lines begin into which a text is wrapped. Commands, URLs and paths are never divided."""
    starts, used = [0], 0
    for word in _WORD.finditer(text):
        length = cell_len(word[0].rstrip())
        if used and used + length > width:
            starts.append(word.start())
            used = 0
        if length > width and not _WHOLE.search(word[0]):
            starts += range(word.start() + width, word.end(), width)
        used += cell_len(word[0])
    return starts


def print_line(console: Console, name: str, *texts: str, indent: int = 14, mark: tuple[str, str] = ("", "")) -> None:
    """Print ``name  text``; texts are wrapped with an indent, but a URL stays in one piece for copying.

    Args:
        console: The console to print to.
        name: Printed in bold, before the first text.
        texts: May be untrusted. Each starts on a new line; without any, nothing is printed.
        indent: Column in which the texts start.
        mark: A symbol before the name, and its style.
    """
    sign = f"{mark[0]:<2} " if mark[0] else ""
    head = Text.assemble((sign, mark[1]), (name.ljust(indent - len(sign)), "bold"))
    width = max(console.width - indent, 20)
    pieces: list[str] = []
    for line in [line for text in texts for line in clean_lines(text).split("\n")]:
        pieces += [piece.plain for piece in Text(line).divide(_line_starts(line, width)[1:])] or [""]
    for piece in pieces:
        console.print(Text.assemble(head, piece.rstrip()), soft_wrap=True)
        head = Text(" " * indent)


@dataclass(frozen=True)
class Column:
    """A column of a table: its header, and how to get its cell from a row.

    Attributes:
        title: The header.
        value: The key of the value in a row, or a function of the row. None: the row is a sequence of values in the
            order of the columns.
        shown: Formats the value. The text may be untrusted.
        optional: Omitted if the terminal is too narrow, the highest number first; 0 is never omitted. A line below the
            table names the omitted columns.
        flexible: Continued on further lines if the terminal is too narrow, at most six.
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
        return list(map(self.shown, self.values(index, rows)))

    def values(self, index: int, rows: Iterable[Any]) -> list[Any]:
        """Return the values of the column with this index."""
        value = index if self.value is None else self.value
        return [value(row) if callable(value) else row[value] for row in rows]


class Figure(Column):
    """A column of numbers: aligned to the right. Amounts formatted by ``usd`` have the same number of decimals."""

    def cells(self, index: int, rows: Iterable[Any]) -> list[str]:
        """Return the texts of the column with this index."""
        return usd_column(self.values(index, rows)) if self.shown is usd else super().cells(index, rows)


def table(columns: Sequence[Column], rows: Sequence[Any], width: int) -> RenderableType:
    """Build a table that fits ``width``, and name the columns that do not fit. No cell is cut off."""
    cells = [column.cells(index, rows) for index, column in enumerate(columns)]
    natural = [max(map(cell_len, (column.title, *texts))) for column, texts in zip(columns, cells, strict=True)]
    shown = list(range(len(columns)))

    def least() -> int:
        """Return the width below which a column is omitted."""
        widths = [min(natural[i], columns[i].min_width) if columns[i].flexible else natural[i] for i in shown]
        return sum(widths) + _GAP * (len(shown) - 1)

    while least() > width and (spare := [index for index in shown if columns[index].optional]):
        shown.remove(max(spare, key=lambda index: columns[index].optional))
    widths = _fit({index: natural[index] for index in shown}, {i for i in shown if columns[i].flexible}, width)
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for index in shown:
        column = columns[index]
        grid.add_column(
            column.title,
            justify="right" if isinstance(column, Figure) else "left",
            no_wrap=not column.flexible,
            overflow="fold",
            width=widths[index],
            style=column.style or None,
        )
    for row in zip(*cells, strict=True):
        grid.add_row(*(shorten(row[index], widths[index] * _MOST_LINES) for index in shown))
    omitted = [clean(column.title) for index, column in enumerate(columns) if index not in shown]
    return Group(grid, not_shown(omitted, width)) if omitted else grid


def not_shown(names: Sequence[str], width: int) -> Text:
    """Return the line below a table that names the columns for which the terminal is too narrow."""
    return Text(f"Not shown in {width} columns: {', '.join(names)}.", style="dim")


def _fit(natural: dict[int, int], flexible: set[int], width: int) -> dict[int, int]:
    """Make the flexible columns narrower, the widest first, until all columns fit."""
    widths = dict(natural)
    while sum(widths.values()) + _GAP * (len(widths) - 1) > width:
        index = max(flexible, key=lambda each: widths[each], default=-1)
        if index < 0 or widths[index] <= _MIN_WIDTH:
            break
        widths[index] -= 1
    return widths


def shorten(text: str, width: int) -> Text:
    """Shorten ``text`` to at most ``width`` cells."""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1).rstrip() + "…"
    return Text(text)


def saved(savings: float | None, hit_rate: float | None) -> float | None:
    """Return savings; 0 is unknown if no call reported its cache use, because every token was counted as uncached."""
    return None if hit_rate is None and not savings else savings


def cached(row: Mapping[str, Any]) -> str:
    """Format cached tokens; the sum is unknown if no call reported its cache use."""
    from rlm_cachetrack.analytics import is_cache_use_reported

    return number(row["total_cached_tokens"] if is_cache_use_reported(row) else None)
