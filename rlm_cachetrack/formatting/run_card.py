"""A run in four lines, and as a card for notebooks. All text is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from .tables import facts_as_html
from .text import NONE, clean, duration, moment, number, rate, usd

_MOST_BARS = 60


def run_lines(name: str, state: str, summary: Mapping[str, Any], savings: float | None) -> str:
    """Return four lines: the run, its calls, its cache use, its cost.

    Args:
        name: The query.
        state: For example ``open`` or ``over``.
        summary: Its totals, see ``TokenCacheSummary``.
        savings: What the cache saved, in USD; None if not known.
    """
    models = ", ".join(clean(model) for model in summary["models"]) or "no model yet"
    calls, failed = number(summary["total_interactions"]), number(summary["failed_interactions"])
    cached, prompt = number(summary["total_cached_tokens"]), number(summary["total_prompt_tokens"])
    tokens = f": {cached} of {prompt} prompt tokens cached"
    if summary["interactions_not_reported"] == summary["total_interactions"]:
        tokens = " (not reported)" if summary["total_interactions"] else ""
    cost, taken = usd(summary["total_cost"]), duration(summary["avg_duration_ms"])
    return "\n".join(
        (
            f"{clean(name)}, run {moment(summary['run_id'])}, {state}",
            f"calls     {calls} ({failed} failed), {models}",
            f"hit rate  {rate(summary['cache_hit_rate'])}{tokens}",
            f"cost      {cost}, saved {usd(savings)}, {taken} per call",
        )
    )


def run_card(name: str, state: str, report: Mapping[str, Any]) -> str:
    """Return a run as HTML: main figures, a bar per iteration, and all totals in a folded table.

    Args:
        name: The query.
        state: For example ``open`` or ``over``.
        report: The run, see ``RunReport``.
    """
    summary, costs = report["summary"], report["optimization"]
    figures = (
        ("hit rate", rate(summary["cache_hit_rate"])),
        ("cost", usd(summary["total_cost"])),
        ("saved", usd(costs["cost_savings"])),
        ("calls", number(summary["total_interactions"])),
    )
    tiles = "".join(
        f'<div><div style="font-size:1.5em;font-weight:600">{html.escape(value)}</div>'
        f'<div style="opacity:.7">{title}</div></div>'
        for title, value in figures
    )
    head = f"<b>{html.escape(clean(name))}</b> run {html.escape(moment(summary['run_id']))}, {html.escape(state)}"
    folded = f"<details><summary>all totals</summary>{facts_as_html(summary)}</details>"
    return (
        '<div style="border:1px solid #8886;border-radius:6px;padding:.8em 1em;max-width:44em">'
        f'<div>{head}</div><div style="display:flex;gap:2.5em;margin:.6em 0">{tiles}</div>'
        f"{_bars(costs['cache_evolution'])}{folded}</div>"
    )


def _bars(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return a bar per iteration; of a long run the first ones."""
    rows = "".join(_bar(step) for step in steps[:_MOST_BARS])
    more = f"<div>{number(len(steps) - _MOST_BARS)} more iterations</div>" if len(steps) > _MOST_BARS else ""
    return f"<div>{rows}{more}</div>"


def _bar(step: Mapping[str, Any]) -> str:
    share = step["cache_hit_rate"]
    width = 0.0 if share is None else 100 * share
    shown = NONE if share is None else rate(share)
    return (
        '<div style="display:flex;align-items:center;gap:.6em">'
        f'<span style="width:3em;text-align:right">{number(step["iteration"])}</span>'
        '<span style="flex:1;background:#8883;height:.7em">'
        f'<span style="display:block;background:#2a9d5c;height:100%;width:{width:.1f}%"></span></span>'
        f'<span style="width:4em">{shown}</span></div>'
    )
