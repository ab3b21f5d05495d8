"""What charts show, as Plotly figures without colours: the page gives those by the part a trace plays (``meta``).

Every chart stands beside a table of the same numbers, for those who cannot see it.
Source: https://plotly.com/javascript/reference/, read 2026-11-23.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from ..forecast import Forecast
from ..usage_views import Call, Iteration, Usage, UsageRow
from ..wording import clean

__all__ = ["Figure", "label", "of_calls", "of_forecast", "of_iterations", "of_usage"]

Figure = dict[str, Any]

_LONGEST = 40


def label(text: str, longest: int = _LONGEST) -> str:
    """Foreign text in a chart: on one line, not too long, and never markup, of which Plotly knows some."""
    shown = clean(text)
    return html.escape(shown if len(shown) <= longest else f"{shown[: longest - 1]}…")


def _bar(name: str, role: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {"type": "bar", "name": name, "meta": role, "x": list(x), "y": list(y), **more}


def _figure(identity: str, title: str, traces: list[dict[str, Any]], **layout: Any) -> Figure:
    return {"id": identity, "title": title, "data": traces, "layout": layout}


def of_usage(usage: Usage) -> list[Figure]:
    """Cost, hit rate, tokens and calls over time."""
    rows = usage["buckets"]
    x = [row["bucket"].isoformat() if row["bucket"] else None for row in rows]
    parts = [_parts(row) for row in rows]
    usd = {"yaxis": {"tickprefix": "$", "rangemode": "tozero"}, "barmode": "relative"}
    return [
        _figure(
            "cost",
            "Cost, and what the cache saved",
            [
                _bar("cost", "cost", x, [row["total_cost"] for row in rows]),
                _bar("saved", "saved", x, [row["cost_savings"] for row in rows]),
            ],
            **usd,
        ),
        _figure(
            "hit-rate",
            "Hit rate",
            [
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": "hit rate",
                    "meta": "cached",
                    "x": x,
                    "y": [row["cache_hit_rate"] for row in rows],
                }
            ],
            yaxis={"tickformat": ".0%", "range": [0, 1]},
        ),
        _figure(
            "tokens",
            "Prompt tokens",
            [
                _bar(name, role, x, [part[role] for part in parts])
                for name, role in (
                    ("cached", "cached"),
                    ("written", "written"),
                    ("not cached", "uncached"),
                    ("not reported", "unknown"),
                )
                if any(part[role] for part in parts)
            ],
            barmode="stack",
        ),
        _figure(
            "calls",
            "Calls",
            [
                _bar("answered", "cost", x, [row["total_interactions"] - row["failed_interactions"] for row in rows]),
                _bar("failed", "failed", x, [row["failed_interactions"] for row in rows]),
            ],
            barmode="stack",
        ),
    ]


def _parts(row: UsageRow) -> dict[str, int]:
    written = row["total_cache_write_tokens"]
    return {
        "cached": row["total_cached_tokens"],
        "written": written,
        "uncached": max(row["total_uncached_tokens"] - written, 0),
        "unknown": max(row["total_prompt_tokens"] - row["total_cached_tokens"] - row["total_uncached_tokens"], 0),
    }


def of_iterations(steps: Sequence[Iteration]) -> list[Figure]:
    """How a run went: what its prompts were made of, the hit rate, and the cost with and without the cache."""
    x = [step["iteration"] for step in steps]
    whole: dict[str, Any] = {"title": {"text": "iteration"}, "tickformat": "d"}
    if len(x) <= 20:
        whole["dtick"] = 1
    return [
        _figure(
            "evolution",
            "Prompt tokens and hit rate by iteration",
            [
                _bar("cached", "cached", x, [step["cached_tokens"] for step in steps]),
                _bar("written", "written", x, [step["cache_write_tokens"] for step in steps]),
                _bar("not cached", "uncached", x, [step["uncached_tokens"] for step in steps]),
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": "hit rate",
                    "meta": "line",
                    "yaxis": "y2",
                    "x": x,
                    "y": [step["cache_hit_rate"] for step in steps],
                },
            ],
            barmode="stack",
            xaxis=whole,
            yaxis2={
                "overlaying": "y",
                "side": "right",
                "tickformat": ".0%",
                "range": [0, 1.02],
                "dtick": 0.25,
                "showgrid": False,
            },
        ),
        _figure(
            "cost-by-iteration",
            "Cost with and without the cache",
            [
                _bar("with the cache", "cost", x, [step["total_cost"] for step in steps]),
                _bar("without", "unknown", x, [step["original_cost"] for step in steps]),
            ],
            barmode="group",
            xaxis=whole,
            yaxis={"tickprefix": "$", "rangemode": "tozero"},
        ),
    ]


def of_calls(calls: Sequence[Call]) -> list[Figure]:
    """The calls by time, a line each, by depth of recursion."""
    if not calls:
        return []
    traces = []
    for depth in sorted({call["current_depth"] or 0 for call in calls}):
        chosen = [(place, call) for place, call in enumerate(calls, 1) if (call["current_depth"] or 0) == depth]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": f"depth {depth}",
                "meta": f"depth{depth % 6}",
                "y": [place for place, _ in chosen],
                "base": [call["time"].isoformat() for _, call in chosen],
                "x": [max(call["duration_ms"] or 0, 1) for _, call in chosen],
                "hovertext": [_told(call) for _, call in chosen],
                "hoverinfo": "text",
                "width": 0.8,
            }
        )
    return [
        _figure(
            "waterfall",
            "Calls by time",
            traces,
            barmode="overlay",
            height=min(160 + 14 * len(calls), 900),
            xaxis={"type": "date"},
            yaxis={
                "autorange": "reversed",
                "title": {"text": "call"},
                "tickformat": "d",
                **({"dtick": 1} if len(calls) <= 20 else {}),
            },
        )
    ]


def of_forecast(forecast: Forecast) -> list[Figure]:
    """The expected cost of each day to come."""
    days = forecast["by_day"]
    if not days:
        return []
    x = [day["day"].isoformat() for day in days]
    expected = _bar("expected", "cost", x, [day["expected_cost"] for day in days])
    axis = {"tickprefix": "$", "rangemode": "tozero"}
    return [_figure("forecast", "Expected cost by day", [expected], yaxis=axis)]


def _told(call: Call) -> str:
    def shown(value: Any) -> str:
        return "not reported" if value is None else f"{value:,}"

    lines = [
        label(call["model"]),
        f"prompt {shown(call['prompt_tokens'])}, cached {shown(call['cached_tokens'])}",
        f"completion {shown(call['completion_tokens'])}",
    ]
    if call["duration_ms"] is not None:
        lines.append(f"{call['duration_ms']:,.0f} ms")
    if not call["success"]:
        lines.append(f"failed: {label(call['error_type'] or '')}")
    return "<br>".join(lines)
