"""The charts as Plotly figures without colours; the page sets the colours by the role of a trace (``meta``).

The page of each chart also has a table of the same numbers, for people who cannot see the chart.
Source: https://plotly.com/javascript/reference/, read 2026-11-23.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from rlm_cachetrack.analytics import Call, Experiment, Iteration, Usage, UsageRow, quality_and_costs
from rlm_cachetrack.analytics.planning import Forecast, MonthOutlook
from rlm_cachetrack.analytics.time_ranges import floor
from rlm_cachetrack.formatting import clean

if TYPE_CHECKING:
    from .view import View

Figure = dict[str, Any]

_MAX_LABEL = 40
_MAX_MODELS = 12
_MAX_MARKERS = 60
_MAX_NAMED_CALLS = 40
_MAX_INDENT = 6
_HEIGHT_OF_MANY = 420
_MAX_TICKS = 20
_MAX_DEPTH = 5
_MAX_NAMED_GROUPS = 12
_UTC = ZoneInfo("UTC")
_WIDTHS_MS: Mapping[str, int] = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
"""Width of a bucket; months vary."""
_WEIGHTED_BY: Mapping[str, Literal["hour", "day"]] = {"minute": "hour", "hour": "day"}
"""The wider unit by which the hit rate is shown, because short buckets with few calls have no meaningful rate."""
_STEPS = {"shape": "hv"}
_SMALLEST_PX, _GROWTH_PX = 3, 9
_RATE_AXIS = {
    "overlaying": "y",
    "side": "right",
    "tickformat": ".0%",
    "range": [0, 1.02],
    "dtick": 0.25,
    "showgrid": False,
}


def label(text: str, max_length: int = _MAX_LABEL) -> str:
    """Format untrusted text for a chart: on one line, shortened, and escaped, because Plotly interprets some HTML."""
    return html.escape(_shorten(text, max_length), quote=False)


def _shorten(text: str, max_length: int) -> str:
    shown = clean(text)
    return shown if len(shown) <= max_length else f"{shown[: max_length - 1]}…"


def _bar(name: str, role: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {"type": "bar", "name": name, "meta": role, "x": list(x), "y": list(y), **more}


def _figure(identity: str, title: str, traces: list[dict[str, Any]], **layout: Any) -> Figure:
    if width := layout.pop("barwidth_ms", 0):
        # Bars are as wide as their bucket, even if most buckets are empty.
        traces = [{**trace, "width": width * 0.88} if trace["type"] == "bar" else trace for trace in traces]
    return {"id": identity, "title": title, "data": traces, "layout": layout}


def _line(role: str, x: Sequence[Any], y: Sequence[Any], *, mode: str = "lines+markers", **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "mode": mode, "name": "hit rate", "meta": role, "x": list(x), "y": list(y), **more}


def _token_bars(x: Sequence[Any], parts: Sequence[Mapping[str, int | None]]) -> list[dict[str, Any]]:
    """Make one bar series per kind of prompt tokens, without those that are zero throughout."""
    names = {"cached": "cached", "written": "written to the cache", "uncached": "not cached", "unknown": "not reported"}
    return [
        _bar(name, role, x, [part[role] for part in parts])
        for role, name in names.items()
        if any(part[role] for part in parts)
    ]


def of_usage(usage: Usage, view: View) -> list[Figure]:
    """Chart cost, hit rate, tokens and calls over time, from the start of the range to its end.

    A click on a bar opens its day.
    """
    rows, zone = usage["buckets"], view.zone
    x = [_local(row["bucket"], zone) for row in rows]
    time = {**_time_axis(usage, zone), "hovermode": "x unified"}
    if usage["unit"] != "minute":
        time["meta"] = {"opens": view.link("/", with_filters=True, range="", since="", until="")}
    money = {"hovertemplate": "%{y:$,.4f}"}
    unit = _WEIGHTED_BY.get(usage["unit"], usage["unit"])
    rate = _line("line", x, _weighted_rates(usage, zone), mode="lines", yaxis="y2", hovertemplate="%{y:.1%}")
    costs = [
        _bar("cost", "cost", x, [row["total_cost"] for row in rows], **money),
        _bar("saved", "saved", x, [row["cost_savings"] for row in rows], **money),
        {**rate, "name": f"hit rate by {unit}", **({"line": _STEPS} if usage["unit"] in _WEIGHTED_BY else {})},
    ]
    rates = _hit_rates(usage, x, zone)
    calls = [
        _bar("succeeded", "cost", x, [row["total_interactions"] - row["failed_interactions"] for row in rows]),
        _bar("failed", "failed", x, [row["failed_interactions"] for row in rows]),
    ]
    usd = {"tickprefix": "$", "rangemode": "tozero"}
    return [
        _figure("cost", "Cost, savings and hit rate", costs, yaxis=usd, yaxis2=_RATE_AXIS, barmode="relative", **time),
        _figure(
            "hit-rate",
            "Hit rate, weighted by prompt tokens",
            rates,
            yaxis={"tickformat": ".0%", "range": [0, 1.02]},
            **time,
        ),
        _figure("tokens", "Prompt tokens", _token_bars(x, list(map(_parts, rows))), barmode="stack", **time),
        _figure("calls", "Calls", calls, barmode="stack", **time),
    ]


def _hit_rates(usage: Usage, x: Sequence[str | None], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Chart the hit rate by day, and faintly by hour; of minutes, by hour and faintly by minute.

    A single call determines the rate of an hour with few calls, so each point is as large as its share of the tokens.
    """
    weighted = _weighted_rates(usage, zone)
    percent = {"hovertemplate": "%{y:.1%}"}
    if usage["unit"] not in _WEIGHTED_BY:
        mode = "lines+markers" if len(x) <= _MAX_MARKERS else "lines"
        return [_line("cached", x, weighted, mode=mode, **percent)]
    rows = usage["buckets"]
    tokens = [row["total_prompt_tokens"] for row in rows]
    most = max([*tokens, 1])
    sizes = [round(_SMALLEST_PX + _GROWTH_PX * math.sqrt(each / most), 1) for each in tokens]
    parts = _line("cached", x, [row["cache_hit_rate"] for row in rows], mode="markers", opacity=0.45, **percent)
    whole = _line("cached", x, weighted, mode="lines", line=_STEPS, **percent)
    return [
        {**parts, "name": f"by {usage['unit']}, larger with more tokens", "marker": {"size": sizes}},
        {**whole, "name": f"by {_WEIGHTED_BY[usage['unit']]}"},
    ]


def _weighted_rates(usage: Usage, zone: ZoneInfo) -> list[float | None]:
    """Return the hit rate at each bucket: the day's rate for hours, the hour's rate for minutes, else its own rate."""
    unit, rows = _WEIGHTED_BY.get(usage["unit"]), usage["buckets"]
    if unit is None:
        return [row["cache_hit_rate"] for row in rows]
    wholes = [floor(row["bucket"], unit, zone.key) if row["bucket"] else None for row in rows]
    sums: dict[datetime | None, tuple[int, int]] = {}
    for whole, row in zip(wholes, rows, strict=True):
        if row["cache_hit_rate"] is not None:
            cached, uncached = sums.get(whole, (0, 0))
            sums[whole] = cached + (row["total_cached_tokens"] or 0), uncached + (row["total_uncached_tokens"] or 0)
    rates = {whole: cached / (cached + uncached) for whole, (cached, uncached) in sums.items() if cached + uncached}
    return [rates.get(whole) for whole in wholes]


def _local(moment: datetime | None, zone: ZoneInfo) -> str | None:
    """Format a time for an axis; Plotly shows it as it is, without regard to an offset."""
    return None if moment is None else moment.astimezone(zone).replace(tzinfo=None).isoformat()


def _time_axis(usage: Usage, zone: ZoneInfo) -> dict[str, Any]:
    width = _WIDTHS_MS.get(usage["unit"], 0)
    axis: dict[str, Any] = {"type": "date"}
    if usage["since"] is not None:
        half = timedelta(milliseconds=width / 2)  # a bar is centred on the start of its bucket
        end = usage["until"] or max(datetime.now(UTC), usage["since"])
        axis["range"] = [_local(usage["since"] - half, zone), _local(end + half, zone)]
    return {"xaxis": axis, "barwidth_ms": width}


def of_models(rows: Sequence[UsageRow]) -> list[Figure]:
    """Chart cost and hit rate of the most expensive models."""
    most_expensive = sorted(rows, key=lambda row: -(row["total_cost"] or 0.0))
    shown = list(reversed(most_expensive[:_MAX_MODELS]))
    names = [f"{label(row['model'] or '', 26)} · {label(row['provider'] or 'unknown', 14)}" for row in shown]
    # Two providers may have models of the same name, so the position identifies a model and the name is only its label.
    y = list(range(len(shown)))
    axis = {"tickvals": y, "ticktext": names, "range": [-0.6, len(shown) - 0.4]}
    height = 110 + 30 * len(shown)
    found = []
    if any(row["total_cost"] is not None for row in shown):
        found.append(
            _figure(
                "cost-by-model",
                "Cost and savings",
                [
                    _bar("cost", "cost", [row["total_cost"] for row in shown], y, orientation="h"),
                    _bar("saved", "saved", [row["cost_savings"] for row in shown], y, orientation="h"),
                ],
                barmode="relative",
                xaxis={"tickprefix": "$", "rangemode": "tozero"},
                yaxis=axis,
                height=height,
                meta={"two_lines": True},
            )
        )
    rates = [row["cache_hit_rate"] for row in shown]
    if any(rate is not None for rate in rates):
        found.append(
            _figure(
                "hit-rate-by-model",
                "Hit rate",
                [_bar("hit rate", "cached", rates, y, orientation="h")],
                xaxis={"tickformat": ".0%", "range": [0, 1]},
                yaxis=axis,
                height=height,
                meta={"two_lines": True},
            )
        )
    return found


def _parts(row: UsageRow) -> dict[str, int | None]:
    cached, uncached = row["total_cached_tokens"] or 0, row["total_uncached_tokens"] or 0
    written = row["total_cache_write_tokens"] or 0
    return {
        "cached": cached,
        "written": written,
        "uncached": max(uncached - written, 0),
        "unknown": max(row["total_prompt_tokens"] - cached - uncached, 0),
    }


def of_iterations(steps: Sequence[Iteration]) -> list[Figure]:
    """Chart a run by iteration: its prompt tokens, the hit rate, and the cost with and without the cache."""
    x = [step["iteration"] for step in steps]
    axis: dict[str, Any] = {"title": {"text": "iteration"}, "tickformat": "d"}
    if len(x) <= _MAX_TICKS:
        axis["dtick"] = 1
    traces = _token_bars(
        x,
        [
            {
                "cached": step["cached_tokens"],
                "written": step["cache_write_tokens"],
                "uncached": step["uncached_tokens"],
                "unknown": step["unreported_tokens"],
            }
            for step in steps
        ],
    )
    if any(step["cache_hit_rate"] is not None for step in steps):
        traces.append(_line("line", x, [step["cache_hit_rate"] for step in steps], yaxis="y2"))
    title = "Prompt tokens and hit rate by iteration"
    figures = [_figure("evolution", title, traces, barmode="stack", xaxis=axis, yaxis2=_RATE_AXIS)]
    if any(step["total_cost"] is not None for step in steps):
        costs = [
            _bar("with cache", "cost", x, [step["total_cost"] for step in steps]),
            _bar("without cache", "unknown", x, [step["original_cost"] for step in steps]),
        ]
        usd = {"tickprefix": "$", "rangemode": "tozero"}
        title = "Cost with and without the cache"
        figures.append(_figure("cost-by-iteration", title, costs, barmode="group", xaxis=axis, yaxis=usd))
    return figures


def of_calls(calls: Sequence[Call], zone: ZoneInfo = _UTC) -> list[Figure]:
    """Chart the calls over time, one bar each, coloured by depth of recursion; failed calls have their own colour."""
    if not calls:
        return []
    traces = []
    depths = [(None if not call["success"] else call["current_depth"] or 0) for call in calls]
    for depth in sorted({depth for depth in depths if depth is not None}) + [None] * (None in depths):
        chosen = [(row, call) for row, (call, each) in enumerate(zip(calls, depths, strict=True), 1) if each == depth]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": "failed" if depth is None else f"depth {depth}",
                "meta": "failed" if depth is None else f"depth{min(depth, _MAX_DEPTH)}",
                "y": [row for row, _ in chosen],
                "base": [_local(call["time"], zone) for _, call in chosen],
                "x": [max(call["duration_ms"] or 0, 1) for _, call in chosen],
                "hovertext": [_hover_text(call) for _, call in chosen],
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
            height=110 + 20 * len(calls) if len(calls) <= _MAX_NAMED_CALLS else _HEIGHT_OF_MANY,
            xaxis={"type": "date"},
            yaxis={
                "range": [len(calls) + 0.5, 0.5],
                "tickformat": "d",
                "showgrid": False,
                **({"dtick": 1} if len(calls) <= _MAX_NAMED_CALLS else {}),
                **(_names(calls) if len(calls) <= _MAX_NAMED_CALLS else {}),
            },
        )
    ]


def _names(calls: Sequence[Call]) -> dict[str, Any]:
    """Label the axis with models, indented by the depth of their calls."""
    shown = []
    for call in calls:
        depth = call["current_depth"] or 0
        shown.append(
            "\u00a0\u00a0\u00a0" * min(depth, _MAX_INDENT) + ("└ " if depth else "") + _shorten(call["model"], 22)
        )
    # Padded to align left like a tree, because Plotly aligns axis labels right.
    longest = max(map(len, shown))
    return {
        "tickvals": list(range(1, len(calls) + 1)),
        "ticktext": [html.escape(text, quote=False) + "\u00a0" * (longest - len(text)) for text in shown],
        "tickfont": {"family": "ui-monospace, Menlo, Consolas, monospace", "size": 11},
    }


def of_month(month: MonthOutlook) -> list[Figure]:
    """Chart the cost of the calendar month: spent so far, expected with its interval, and the budget as a line."""
    days = month["by_day"]
    over = [day for day in days if day["cost"] is not None]
    coming = [day for day in days if day["cost"] is None]
    money = {"hovertemplate": "%{y:$,.2f}"}
    x = [day["day"].isoformat() for day in over]
    traces = [_named_line("spent", "cost", x, [day["sum_cost"] for day in over], **money)]
    if coming:
        # From the end of today on, so that the lines meet.
        x = [over[-1]["day"].isoformat(), *(day["day"].isoformat() for day in coming)]
        now = over[-1]["sum_cost"]
        edge = {"mode": "lines", "showlegend": False, "line": {"width": 0}, "hoverinfo": "skip"}
        low = [now, *(day["low"] for day in coming)]
        high = [now, *(day["high"] for day in coming)]
        name = f"{month['confidence']:.0%} interval"
        traces += [
            _named_line("low", "band", x, low, **edge),
            {**_named_line(name, "band", x, high, **edge), "fill": "tonexty", "showlegend": True},
            _named_line(
                "expected", "cost", x, [now, *(day["sum_cost"] for day in coming)], line={"dash": "dot"}, **money
            ),
        ]
    if month["budget"] is not None:
        ends = [month["month_from"].isoformat(), month["month_to"].isoformat()]
        traces.append(_named_line("budget", "failed", ends, [month["budget"]] * 2, line={"dash": "dash"}, **money))
    axis = {"tickprefix": "$", "rangemode": "tozero"}
    title = f"{month['month_from']:%B}: cost so far and expected"
    time = {"type": "date", "tickformat": "%b %-d"}
    return [_figure("month", title, traces, yaxis=axis, xaxis=time, hovermode="x unified")]


def _named_line(name: str, role: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {**_line(role, x, y, **{"mode": "lines", **more}), "name": name}


def of_experiments(groups: Sequence[Experiment]) -> list[Figure]:
    """Chart the score, or else the success rate, over the cost per run; the best groups have their own colour."""
    name, figures = quality_and_costs(groups)
    has_scores = name == "avg_score"
    points = [
        (group, quality, costs.mean, costs)
        for group, (quality, costs) in zip(groups, figures, strict=True)
        if quality is not None and costs.mean is not None
    ]
    if not points:
        return []
    highest = max(mean for _, _, mean, _ in points)
    traces = []
    for is_best, legend in ((True, "no group is cheaper and as good"), (False, "other groups")):
        chosen = [point for point in points if point[0]["is_pareto"] == is_best]
        if chosen:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers+text" if len(points) <= _MAX_NAMED_GROUPS else "markers",
                    "name": legend,
                    "meta": "saved" if is_best else "unknown",
                    "x": [mean for _, _, mean, _ in chosen],
                    "y": [quality for _, quality, _, _ in chosen],
                    "text": [label(group["group"] or "not set", 24) for group, _, _, _ in chosen],
                    # A label above a point at the edge of the chart would be cut.
                    "textposition": ["top left" if mean > 0.6 * highest else "top right" for _, _, mean, _ in chosen],
                    "marker": {"size": 11},
                    "cliponaxis": False,
                    "error_x": {
                        "type": "data",
                        "symmetric": False,
                        "array": [(costs.high or mean) - mean for _, _, mean, costs in chosen],
                        "arrayminus": [mean - (costs.low or mean) for _, _, mean, costs in chosen],
                        "thickness": 1,
                    },
                }
            )
    axis: dict[str, Any] = {"title": {"text": "mean score" if has_scores else "success rate"}}
    if has_scores:
        scores = [quality for _, quality, _, _ in points]
        margin = max(0.15 * (max(scores) - min(scores)), 0.02 * max(map(abs, scores)), 0.01)
        axis["range"] = [min(scores) - margin, max(scores) + 2 * margin]
    else:
        axis.update(tickformat=".0%", range=[-0.05, 1.1])
    runs = "run with a score" if has_scores else "judged run"
    cost = {"title": {"text": f"mean cost per {runs}"}, "tickprefix": "$", "rangemode": "tozero"}
    title = f"{'Score' if has_scores else 'Success rate'} over cost"
    return [_figure("experiments", title, traces, xaxis=cost, yaxis=axis, height=360, hovermode="closest")]


def of_forecast(forecast: Forecast, spent: Sequence[UsageRow] = ()) -> list[Figure]:
    """Chart the cost of past days, without today, and the expected cost of the coming days."""
    days = forecast["by_day"]
    if not days:
        return []
    first = days[0]["day"].isoformat()
    past = [(row["bucket"].date().isoformat(), row["total_cost"]) for row in spent if row["bucket"]]
    past = [(day, cost) for day, cost in past if day < first]
    expected = _bar(
        "expected", "cost", [day["day"].isoformat() for day in days], [day["expected_cost"] for day in days]
    )
    before = _bar("spent", "unknown", [day for day, _ in past], [cost for _, cost in past])
    axis = {"tickprefix": "$", "rangemode": "tozero"}
    return [_figure("forecast", "Cost by day", [before, expected] if past else [expected], yaxis=axis)]


def _hover_text(call: Call) -> str:
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
