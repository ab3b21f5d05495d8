"""``live``: show the current activity until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlm_cachetrack._process import CtrlC
from rlm_cachetrack.errors import ConfigError, StoreError
from rlm_cachetrack.formatting import NONE, clean, clock, duration, number, rate, usd, verdict

from .arguments import DbUrl, open_client
from .filters import filtered
from .output import EMPTY, NO_MATCH, Column, Figure, counted, shorten, stdout, table

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import ContentFilters, LiveView, NewestCall
    from rlm_cachetrack.store import PostgresStore

_PERIOD_S = 1.0
_FULL_S = 15.0  # minutes pass even without calls
_EXPLAINING_SHARE = 0.1
_HEAD_LINES = 9
_NAMES_WIDTH = 12
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"


@filtered(**dict.fromkeys(("since", "until"), "live shows today and the last hour; `usage` shows other times"))
def live(
    filters: ContentFilters,
    period: Annotated[
        float, typer.Option("--every", min=0.2, metavar="SECONDS", help="How often the calls are read.")
    ] = _PERIOD_S,
    db_url: DbUrl = None,
) -> None:
    """Show today's spend, calls per minute, hit rate and the newest calls, until Ctrl-C."""
    from rlm_cachetrack import analytics

    console = stdout()
    if not console.is_terminal:
        raise ConfigError("live needs a terminal; `usage` and `runs` print once")
    with (
        open_client(db_url) as client,
        CtrlC() as ctrl_c,
        Live(console=console, screen=True, auto_refresh=False) as screen,
    ):
        client.runtime.restarts_server = False
        store, explainer = client.reader(), _Explainer()
        shown: RenderableType = ""
        read_at, marker = -_FULL_S, ""
        while not ctrl_c.is_pressed:
            status = Text(f"{datetime.now(UTC):%H:%M:%S} UTC, press Ctrl-C to quit", style="dim")
            try:
                current = analytics.marker(store)
                if current != marker or time.monotonic() - read_at >= _FULL_S:
                    view = analytics.live_view(store, filters, max(console.height - _HEAD_LINES, 3))
                    reason = explainer.reason(store, view["last_miss"])
                    shown = _layout(console, view, reason, NO_MATCH if filters else EMPTY)
                    read_at, marker = time.monotonic(), current
            except StoreError as exc:
                status = Text(clean(f"The database does not respond: {exc}"), style="red")
            screen.update(Group(status, shown), refresh=True)
            ctrl_c.sleep(period)


class _Explainer:
    """Explains the last miss, and spends at most a tenth of the time on that."""

    def __init__(self) -> None:
        self._call: Any = None
        self._reason = ""
        self._next = 0.0

    def reason(self, store: PostgresStore, call: NewestCall | None) -> str:
        """Return why the call missed in a sentence; the earlier result if it is too soon for another one."""
        from rlm_cachetrack.analytics.explain import explain_cache

        if call is None:
            return "none in these calls"
        if call["interaction_id"] == self._call or time.monotonic() < self._next:
            return self._reason
        began = time.monotonic()
        found = explain_cache(store, call["query_id"], call["run_id"])
        wanted = str(call["interaction_id"])
        rows = [each for each in found["interactions"] if str(each["interaction_id"]) == wanted] if found else []
        why = f"{verdict(rows[0]['verdict'])}: {rows[0]['words']}" if rows else "unknown"
        self._call = call["interaction_id"]
        self._reason = f"{clock(call['time'])}  {_short(call['query_id'])}, {_short(call['model'])}: {_short(why, 200)}"
        self._next = time.monotonic() + (time.monotonic() - began) / _EXPLAINING_SHARE
        return self._reason


def _short(text: str, width: int = 60) -> str:
    return shorten(clean(text), width).plain


def _layout(console: Console, view: LiveView, reason: str, no_calls: str) -> RenderableType:
    bars = _BARS if console.encoding.lower().startswith("utf") else _ASCII_BARS
    spent = Text.assemble(
        (usd(view["spent_today"]), "green"),
        f" for {counted(view['calls_today'], 'call')} since 00:00 UTC; {view['calls_per_minute']:.1f} calls per minute",
    )
    today = f"{rate(view['hit_rate_today'])} today; last hour "
    room = max(console.width - _NAMES_WIDTH - len(today), 10)
    rates = Text.assemble(today, (sparkline(view["hit_rates"][-room:], bars), "green"))
    head = Table.grid()
    head.add_column(width=_NAMES_WIDTH, style="bold")
    for name, text in (("spent today", spent), ("hit rate", rates), ("last miss", reason)):
        head.add_row(name, text)
    calls: RenderableType = _calls(view["newest"], console.width) if view["newest"] else no_calls
    return Group(head, "", calls)


def _calls(calls: Sequence[NewestCall], width: int) -> RenderableType:
    columns = [
        Column("Time (UTC)", "time", clock, style="cyan"),
        Column("Query", "query_id", _short, flexible=True, style="bold", min_width=24),
        Column("Model", "model", _short, flexible=True, min_width=32),
        Figure("Prompt", "prompt_tokens", number, optional=2),
        Figure("Cached", "cached_tokens", number, optional=3),
        Figure("Hit rate", _hit_rate, rate),
        Figure("Cost", "total_cost", usd),
        Figure("Time", "duration_ms", duration, optional=4),
        Column("Failed", lambda call: "" if call["success"] else call["error_type"] or "failed", optional=1),
    ]
    return table(columns if any(not call["success"] for call in calls) else columns[:-1], calls, width)


def _hit_rate(call: NewestCall) -> float | None:
    if not call["prompt_tokens"] or call["cached_tokens"] is None:
        return None
    return call["cached_tokens"] / call["prompt_tokens"]


def sparkline(rates: Sequence[float | None], bars: str = _BARS) -> str:
    """Draw rates from 0 to 1 as one character each; a dash for None."""
    top = len(bars) - 1
    return "".join(NONE if each is None else bars[min(int(each * len(bars)), top)] for each in rates)
