"""The charts as plain data without colours, which ``static/charts.js`` draws.

A figure has an ``id``, a ``title``, the axes ``x`` and ``y``, and ``series``. Each series has a ``type``, a ``name``
and a ``role``, by which the page chooses its colour. The ``unit`` of an axis determines the format of its values: time,
usd, rate, count or score. The page of each chart also has a table of the same numbers, for people who cannot see the
chart.
"""

from __future__ import annotations

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
_MAX_DEPTH = 5
_MAX_NAMED_GROUPS = 12
_UTC = ZoneInfo("UTC")
_WIDTHS_MS: Mapping[str, int] = {
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 604_800_000,
    "month": 28 * 86_400_000,
}
"""Width of a bucket, of months the shortest."""
_WEIGHTED_BY: Mapping[str, Literal["hour", "day"]] = {"minute": "hour", "hour": "day"}
"""The wider unit by which the hit rate is shown, because short buckets with few calls have no meaningful rate."""
_SMALLEST_PX, _GROWTH_PX = 3, 9
_USD = {"unit": "usd"}
_COUNT = {"unit": "count"}
_RATE = {"unit": "rate", "min": 0, "max": 1.02}


def label(text: str, max_length: int = _MAX_LABEL) -> str:
    """Format untrusted text for a chart: on one line, and shortened."""
    shown = clean(text)
    return shown if len(shown) <= max_length else f"{shown[: max_length - 1]}…"


def _series(type_: str, name: str, role: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {"type": type_, "name": name, "role": role, "x": list(x), "y": list(y), **more}


def _bars(name: str, role: str, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Any]:
    return _series("bars", name, role, x, y)


def _line(name: str, role: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    return _series("line", name, role, x, y, **more)


def _figure(
    identity: str,
    title: str,
    series: list[dict[str, Any]],
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    **more: Any,
) -> Figure:
    return {"id": identity, "title": title, "series": series, "x": dict(x), "y": dict(y), **more}


def _token_bars(x: Sequence[Any], parts: Sequence[Mapping[str, int | None]]) -> list[dict[str, Any]]:
    """Make one bar series per kind of prompt tokens, without those that are zero throughout."""
    names = {"cached": "cached", "written": "written to the cache", "uncached": "not cached", "unknown": "not reported"}
    return [
        _bars(name, role, x, [part[role] for part in parts])
        for role, name in names.items()
        if any(part[role] for part in parts)
    ]


def of_usage(usage: Usage, view: View) -> list[Figure]:
    """Chart cost, hit rate, tokens and calls over time, from the start of the range to its end.

    A click on a bar opens its day.
    """
    rows, zone = usage["buckets"], view.zone
    x = [_local(row["bucket"], zone) for row in rows]
    time = _time_axis(usage, zone)
    opens = {}
    if usage["unit"] != "minute":
        opens["opens"] = view.link("/", with_filters=True, range="", since="", until="")
    unit = _WEIGHTED_BY.get(usage["unit"], usage["unit"])
    weighted = _weighted_rates(usage, zone)
    costs = [
        _bars("cost", "cost", x, [row["total_cost"] for row in rows]),
        _bars("saved", "saved", x, [row["cost_savings"] for row in rows]),
        _line(f"hit rate by {unit}", "line", x, weighted, axis="rate", steps=usage["unit"] in _WEIGHTED_BY),
    ]
    calls = [
        _bars("succeeded", "cost", x, [row["total_interactions"] - row["failed_interactions"] for row in rows]),
        _bars("failed", "failed", x, [row["failed_interactions"] for row in rows]),
    ]
    tokens = _token_bars(x, list(map(_parts, rows)))
    return [
        _figure("cost", "Cost, savings and hit rate", costs, time, _USD, stacked=True, **opens),
        _figure(
            "hit-rate", "Hit rate, weighted by prompt tokens", _hit_rates(usage, x, weighted), time, _RATE, **opens
        ),
        _figure("tokens", "Prompt tokens", tokens, time, _COUNT, stacked=True, **opens),
        _figure("calls", "Calls", calls, time, _COUNT, stacked=True, **opens),
    ]


def _hit_rates(usage: Usage, x: Sequence[str | None], weighted: Sequence[float | None]) -> list[dict[str, Any]]:
    """Chart the hit rate by day, and faintly by hour; of minutes, by hour and faintly by minute.

    A single call determines the rate of an hour with few calls, so each point is as large as its share of the tokens.
    """
    if usage["unit"] not in _WEIGHTED_BY:
        return [_line("hit rate", "cached", x, weighted, points=len(x) <= _MAX_MARKERS)]
    rows = usage["buckets"]
    tokens = [row["total_prompt_tokens"] for row in rows]
    most = max([*tokens, 1])
    sizes = [round(_SMALLEST_PX + _GROWTH_PX * math.sqrt(each / most), 1) for each in tokens]
    name, rates = f"by {usage['unit']}, larger with more tokens", [row["cache_hit_rate"] for row in rows]
    return [
        _series("points", name, "cached", x, rates, faint=True, sizes=sizes),
        _line(f"by {_WEIGHTED_BY[usage['unit']]}", "cached", x, weighted, steps=True),
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
    """Format a time for an axis, which shows it as it is."""
    return None if moment is None else moment.astimezone(zone).replace(tzinfo=None).isoformat()


def _time_axis(usage: Usage, zone: ZoneInfo) -> dict[str, Any]:
    # Bars are as wide as their bucket, even if most buckets are empty.
    axis: dict[str, Any] = {"unit": "time", "bucket": _WIDTHS_MS[usage["unit"]]}
    if usage["since"] is not None:
        half = timedelta(milliseconds=axis["bucket"] / 2)  # a bar is centred on the start of its bucket
        end = usage["until"] or max(datetime.now(UTC), usage["since"])
        axis.update(min=_local(usage["since"] - half, zone), max=_local(end + half, zone))
    return axis


def of_models(rows: Sequence[UsageRow]) -> list[Figure]:
    """Chart cost and hit rate of the most expensive models."""
    most_expensive = sorted(rows, key=lambda row: -(row["total_cost"] or 0.0))
    shown = list(reversed(most_expensive[:_MAX_MODELS]))
    # Two providers may have models of the same name, so the position identifies a model and the name is only its label.
    names = [[label(row["model"] or "", 26), label(row["provider"] or "unknown", 14)] for row in shown]
    y = list(range(len(shown)))
    common: dict[str, Any] = {"y": {"labels": names}, "horizontal": True, "height": 110 + 30 * len(shown)}
    found = []
    if any(row["total_cost"] is not None for row in shown):
        costs = [
            _bars("cost", "cost", [row["total_cost"] for row in shown], y),
            _bars("saved", "saved", [row["cost_savings"] for row in shown], y),
        ]
        found.append(_figure("cost-by-model", "Cost and savings", costs, _USD, stacked=True, **common))
    rates = [row["cache_hit_rate"] for row in shown]
    if any(rate is not None for rate in rates):
        bars = [_bars("hit rate", "cached", rates, y)]
        found.append(_figure("hit-rate-by-model", "Hit rate", bars, {**_RATE, "max": 1}, **common))
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
    axis = {**_COUNT, "title": "iteration", "bucket": 1}
    series = _token_bars(
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
        series.append(
            _line("hit rate", "line", x, [step["cache_hit_rate"] for step in steps], axis="rate", points=True)
        )
    title = "Prompt tokens and hit rate by iteration"
    figures = [_figure("evolution", title, series, axis, _COUNT, stacked=True)]
    if any(step["total_cost"] is not None for step in steps):
        costs = [
            _bars("with cache", "cost", x, [step["total_cost"] for step in steps]),
            _bars("without cache", "unknown", x, [step["original_cost"] for step in steps]),
        ]
        figures.append(_figure("cost-by-iteration", "Cost with and without the cache", costs, axis, _USD))
    return figures


def of_calls(calls: Sequence[Call], zone: ZoneInfo = _UTC) -> list[Figure]:
    """Chart the calls over time, one bar each, coloured by depth of recursion; failed calls have their own colour."""
    if not calls:
        return []
    series = []
    depths = [(None if not call["success"] else call["current_depth"] or 0) for call in calls]
    for depth in sorted({depth for depth in depths if depth is not None}) + [None] * (None in depths):
        chosen = [(row, call) for row, (call, each) in enumerate(zip(calls, depths, strict=True)) if each == depth]
        series.append(
            _series(
                "spans",
                "failed" if depth is None else f"depth {depth}",
                "failed" if depth is None else f"depth{min(depth, _MAX_DEPTH)}",
                [_local(call["time"], zone) for _, call in chosen],
                [row for row, _ in chosen],
                durations=[max(call["duration_ms"] or 0, 1) for _, call in chosen],
                texts=[_hover_text(call) for _, call in chosen],
            )
        )
    is_named = len(calls) <= _MAX_NAMED_CALLS
    return [
        _figure(
            "waterfall",
            "Calls by time",
            series,
            {"unit": "time"},
            {"labels": list(map(_name, calls)) if is_named else [str(row) for row in range(1, len(calls) + 1)]},
            horizontal=True,
            downwards=True,
            height=110 + 20 * len(calls) if is_named else _HEIGHT_OF_MANY,
        )
    ]


def _name(call: Call) -> str:
    """Label the axis with the call's model, indented by its depth."""
    depth = call["current_depth"] or 0
    return "\u00a0\u00a0\u00a0" * min(depth, _MAX_INDENT) + ("└ " if depth else "") + label(call["model"], 22)


def of_month(month: MonthOutlook) -> list[Figure]:
    """Chart the cost of the calendar month: spent so far, expected with its interval, and the budget as a line."""
    days = month["by_day"]
    over = [day for day in days if day["cost"] is not None]
    coming = [day for day in days if day["cost"] is None]
    x = [day["day"].isoformat() for day in over]
    series = [_line("spent", "cost", x, [day["sum_cost"] for day in over])]
    if coming:
        # From the end of today on, so that the lines meet.
        x = [over[-1]["day"].isoformat(), *(day["day"].isoformat() for day in coming)]
        now = over[-1]["sum_cost"]
        name = f"{month['confidence']:.0%} interval"
        high = [now, *(day["high"] for day in coming)]
        low = [now, *(day["low"] for day in coming)]
        series += [
            _series("band", name, "band", x, high, low=low),
            _line("expected", "cost", x, [now, *(day["sum_cost"] for day in coming)], dash="dot"),
        ]
    if month["budget"] is not None:
        x = [day["day"].isoformat() for day in days]
        series.append(_line("budget", "failed", x, [month["budget"]] * len(x), dash="dash"))
    title = f"{month['month_from']:%B}: cost so far and expected"
    return [_figure("month", title, series, {"unit": "time"}, _USD)]


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
    series = []
    for is_best, legend in ((True, "no group is cheaper and as good"), (False, "other groups")):
        chosen = [point for point in points if point[0]["is_pareto"] == is_best]
        if chosen:
            series.append(
                _series(
                    "points",
                    legend,
                    "saved" if is_best else "unknown",
                    [mean for _, _, mean, _ in chosen],
                    [quality for _, quality, _, _ in chosen],
                    labels=[label(group["group"] or "not set", 24) for group, _, _, _ in chosen],
                    low=[costs.low or mean for _, _, mean, costs in chosen],
                    high=[costs.high or mean for _, _, mean, costs in chosen],
                )
            )
    if has_scores:
        scores = [quality for _, quality, _, _ in points]
        margin = max(0.15 * (max(scores) - min(scores)), 0.02 * max(map(abs, scores)), 0.01)
        axis = {"unit": "score", "title": "mean score", "min": min(scores) - margin, "max": max(scores) + 2 * margin}
    else:
        axis = {"unit": "rate", "title": "success rate", "min": -0.05, "max": 1.1}
    cost = {**_USD, "title": f"mean cost per {'run with a score' if has_scores else 'judged run'}"}
    title = f"{'Score' if has_scores else 'Success rate'} over cost"
    return [_figure("experiments", title, series, cost, axis, height=360, named=len(points) <= _MAX_NAMED_GROUPS)]


def of_forecast(forecast: Forecast, spent: Sequence[UsageRow] = ()) -> list[Figure]:
    """Chart the cost of past days, without today, and the expected cost of the coming days."""
    days = forecast["by_day"]
    if not days:
        return []
    first = days[0]["day"].isoformat()
    past = [(row["bucket"].date().isoformat(), row["total_cost"]) for row in spent if row["bucket"]]
    past = [(day, cost) for day, cost in past if day < first]
    expected = _bars(
        "expected", "cost", [day["day"].isoformat() for day in days], [day["expected_cost"] for day in days]
    )
    before = _bars("spent", "unknown", [day for day, _ in past], [cost for _, cost in past])
    axis = {"unit": "time", "bucket": _WIDTHS_MS["day"]}
    return [_figure("forecast", "Cost by day", [before, expected] if past else [expected], axis, _USD, stacked=True)]


def _hover_text(call: Call) -> list[str]:
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
    return lines
