"""How the commands speak: consoles, JSON, numbers that do not pretend, and foreign text made harmless.

Query ids, model names and statuses come from outside. They never reach the terminal raw: markup is off everywhere, and
:func:`clean` makes control characters, escape sequences and bidirectional overrides visible.
"""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "NONE",
    "Column",
    "clean",
    "clean_lines",
    "duration",
    "moment",
    "number",
    "percentage",
    "print_json",
    "print_line",
    "rate",
    "shorten",
    "size",
    "stderr",
    "stdout",
    "table",
    "usd",
]

NONE = "–"  # noqa: RUF001
"""Shown for NULL: not known, not reported. Never for 0."""

_GAP = 2
_NARROWEST = 8


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


# -- words and numbers ----------------------------------------------------------------------------


def clean(text: object) -> str:
    r"""``text`` on one line, with everything that is not printable made visible, as ``\x1b``."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(text))


def clean_lines(text: str) -> str:
    """Like :func:`clean`, but the line breaks stay: of messages of ours, in which foreign text is quoted."""
    return "\n".join(map(clean, text.split("\n")))


def number(value: float | None) -> str:
    """A whole number with thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """A fraction 0-1 as a percentage; neither 0 nor 100 % unless it is."""
    if value is None or not math.isfinite(value):
        return NONE
    if 0 < value < 0.001:
        return "<0.1 %"
    return ">99.9 %" if 0.999 < value < 1 else f"{value:.1%}".replace("%", " %")


def percentage(value: float | None) -> str:
    """A percentage 0-100, like :func:`rate`."""
    return rate(None if value is None else value / 100)


def usd(value: float | None) -> str:
    """US dollars: cents from one dollar on, below it at least three digits that mean something."""
    if value is None or not math.isfinite(value):
        return NONE
    amount, sign = abs(value), "-" if value < 0 else ""
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"{sign}${amount:,.2f}"
    digits = max(4, 2 - math.floor(math.log10(amount)))
    if digits > 10:
        return f"{sign}${amount:.1e}"
    text = f"{amount:.{digits}f}"
    while len(text) > 6 and text.endswith("0"):  # $0.00000450: the first four decimals stay, for the look of columns
        text = text[:-1]
    return f"{sign}${text}"


def duration(milliseconds: float | None) -> str:
    """A time span, from ``0.4 ms`` to ``3 h 02 min``."""
    if milliseconds is None or not math.isfinite(milliseconds):
        return NONE
    if milliseconds < 999.5:
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def size(count: float) -> str:
    """Bytes, from ``17 bytes`` to ``1.2 GB``."""
    if count < 1000:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} GB"


def moment(value: datetime | None, *, full: bool = False) -> str:
    """A moment in UTC, to the second or in full, in one word that ``--run`` takes."""
    if value is None:
        return NONE
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds" if full else "seconds")
    return f"{text}Z"


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
    """

    title: str
    numeric: bool = False
    optional: int = 0
    flexible: bool = False
    style: str = ""


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
    while room() < min(wanted, 18) and (spare := [index for index in shown if columns[index].optional]):
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
