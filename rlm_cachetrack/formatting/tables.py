"""Results that are plain lists and dicts, and render as tables in a notebook.

All text is HTML-escaped. pandas is imported only by :meth:`Table.to_pandas`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .text import clean, duration, moment, number, percentage, rate, usd

if TYPE_CHECKING:
    import pandas

RowT = TypeVar("RowT")

_ROWS = 50
_LONGEST = 80
_USD = ("_cost", "_price", "cost_savings", "avg_cost_per_interaction", "effect")
_SAME = ("a", "b", "difference", "low", "high")
_FEW_DIGITS = 1000


class Table(list[RowT], Generic[RowT]):
    """A list of rows, all with the same columns.

    Args:
        rows: The rows.
        columns: Their columns, for a table without rows.
    """

    def __init__(self, rows: Iterable[RowT] = (), columns: Iterable[str] = ()) -> None:
        super().__init__(rows)
        self._columns = tuple(columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        first: Any = self[0] if self else None
        return tuple(first) if first is not None else self._columns

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(list(self), columns=list(self.columns))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join(f"<tr>{_cells(row)}</tr>" for row in self[:_ROWS])
        more = f"<p>{number(len(self) - _ROWS)} more rows</p>" if len(self) > _ROWS else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


class Facts(dict[str, Any]):
    """A dict that renders as a table of names and values."""

    def _repr_html_(self) -> str:
        return facts_as_html(self)


class Sheet(dict[str, Any]):
    """A dict of values, sentences and tables, rendered one below the other."""

    def _repr_html_(self) -> str:
        plain = {name: value for name, value in self.items() if not isinstance(value, (list, dict))}
        shown = [facts_as_html(plain)]
        for name, value in self.items():
            if isinstance(value, Table) and value:
                shown.append(f"<p>{html.escape(name)}</p>{value._repr_html_()}")
            elif isinstance(value, list) and value and all(isinstance(each, str) for each in value):
                shown += [f"<p>{html.escape(clean(each))}</p>" for each in value]
        return "".join(shown)


def facts_as_html(facts: Mapping[str, Any]) -> str:
    """Render a dict as an HTML table of two columns: names and values."""
    rows = "".join(f"<tr><th>{html.escape(name)}</th>{_cell(name, value)}</tr>" for name, value in facts.items())
    return f"<table><tbody>{rows}</tbody></table>"


def _cells(row: Any) -> str:
    # The name of a row, such as total_cost, determines the unit of its numbers.
    figure = row.get("name") if isinstance(row.get("name"), str) else None
    return "".join(_cell(figure if figure and name in _SAME else name, value) for name, value in row.items())


def _cell(name: str, value: Any) -> str:
    shown = _shown(name, value)
    shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f'<td style="text-align:{"right" if numeric else "left"}">{html.escape(shown)}</td>'


def _shown(name: str, value: Any) -> str:
    if value is None:
        return number(None)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, (dict, list)):
        return clean(json.dumps(value, default=str, ensure_ascii=False))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return clean(value)
    if name.endswith(_USD) or "usd" in name:
        return usd(value)
    if name.endswith("_rate") or name in ("relative", "confidence"):
        return rate(value)
    if name.endswith("_percentage"):
        return percentage(value)
    if name.endswith("_ms"):
        return duration(value)
    exact = isinstance(value, int) or value.is_integer() or abs(value) >= _FEW_DIGITS
    return number(value) if exact else f"{value:,.4g}"
