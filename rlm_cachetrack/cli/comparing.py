"""``compare``: compare two runs, or two groups of runs, iteration by iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from rlm_cachetrack.formatting import NONE, duration, moment, number, percentage, rate, usd, usd_column, verdict

from .arguments import AsCsv, AsJson, DbUrl, argument, open_client
from .filters import filtered
from .output import Column, Figure, print_data, print_line, slow_status, stdout, table
from .run_selection import find_runs

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters, Comparison, ComparisonMetric, ComparisonSide

RUNS_HELP = "QUERY_ID (its newest run), QUERY_ID@RUN, QUERY_ID@BEGINNING* or QUERY_ID@* (a group)."
Confidence = Annotated[
    float, typer.Option("--confidence", metavar="SHARE", help="Confidence level of the intervals, between 0 and 1.")
]


@filtered("runs")
def compare(
    filters: CallFilters,
    a: Annotated[str, argument(metavar="RUN_A", help=RUNS_HELP)],
    b: Annotated[str, argument(metavar="RUN_B", help="The run or group to compare with A.")],
    confidence: Confidence = 0.95,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Compare two runs, or two groups of runs, iteration by iteration: the differences and their causes."""
    from rlm_cachetrack import analytics

    with open_client(db_url) as client, slow_status("reading the runs"):
        store = client.reader()
        found = analytics.compare_runs(store, find_runs(store, a, filters), find_runs(store, b, filters), confidence)
    if not print_data(found, as_json, as_csv, found["metrics"], "analytics.ComparisonMetric"):
        _print_comparison(stdout(), found)


def _count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}".removesuffix(".0")


_METRICS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "cache_hit_rate": ("hit rate", rate),
    "uncached_prompt_tokens": ("uncached tokens", number),
    "total_cost": ("cost", usd),
    "cached_tokens": ("cached tokens", number),
    "original_cost": ("cost without cache", usd),
    "time_to_first_token_ms": ("first token", duration),
    "duration_ms": ("duration", duration),
    "calls": ("calls", _count),
    "failed": ("failed calls", _count),
    "prompt_tokens": ("prompt tokens", number),
    "completion_tokens": ("completion tokens", number),
    "success_rate": ("success rate", rate),
    "score": ("score", lambda score: NONE if score is None else f"{score:.3g}"),
}


_FACTORS = {
    "calls": "number of calls",
    "prompt length": "prompt length",
    "cache": "cache hit rate",
    "completion length": "completion length",
    "prices": "prices",
    "other": "other costs that the provider returned",
}


def _print_comparison(console: Console, found: Comparison) -> None:
    for letter, side in (("A", found["a"]), ("B", found["b"])):
        print_line(console, letter, _side(side))
    console.print()
    if found["metrics"]:
        columns = [
            Column("Per run", style="bold"),
            Figure("A"),
            Figure("B"),
            Figure("Difference"),
            Figure("%", optional=2),
            Figure(f"{found['confidence']:.0%} interval", optional=1),
        ]
        rows = _metrics([each for each in found["metrics"] if each["a"] is not None or each["b"] is not None])
        shown = columns if any(metric["low"] is not None for metric in found["metrics"]) else columns[:-1]
        console.print(table(shown, [row[: len(shown)] for row in rows], console.width))
        console.print()
        _print_iterations(console, found)
    if found["effects"]:
        console.print()
        for index, effect in enumerate(found["effects"]):
            change = _factor_change(effect["factor"], effect["a"], effect["b"])
            text = f"{_signed(usd(effect['effect']), effect['effect'])}  {_FACTORS[effect['factor']]}{change}"
            print_line(console, "" if index else "cost effects", text)
    _print_miss_reasons(console, found)
    if found["worst_iterations"]:
        worst = ", ".join(number(iteration) for iteration in found["worst_iterations"])
        print_line(console, "worst", f"iteration {worst}: B has the most additional uncached tokens")
    print_line(console, "notes", *found["notes"])


def _side(side: ComparisonSide) -> str:
    runs = side["runs"]
    first = f"{runs[0]['query_id']}, run {moment(runs[0]['run_id'])}"
    what = first if len(runs) == 1 else f"{number(len(runs))} runs: {first} and others"
    return f"{what}; {number(side['iterations'])} iterations; {', '.join(side['models'])}"


def _metrics(metrics: Sequence[ComparisonMetric]) -> list[tuple[str, ...]]:
    """Return the rows of the table of metrics. All amounts have the same number of decimals."""
    costs = [each for each in metrics if _METRICS[each["name"]][1] is usd]
    amounts = [
        value for each in costs for value in (each["a"], each["b"], each["difference"], each["low"], each["high"])
    ]
    texts = dict(zip(amounts, usd_column(amounts), strict=True))
    return [_metric(each, texts) for each in metrics]


def _metric(metric: ComparisonMetric, amounts: Mapping[float | None, str]) -> tuple[str, ...]:
    words, shown = _METRICS[metric["name"]]
    if shown is usd:
        shown = amounts.__getitem__
    difference = metric["difference"]
    interval = ""
    if metric["low"] is not None and metric["high"] is not None:
        interval = f"{_signed(shown(metric['low']), metric['low'])} to {_signed(shown(metric['high']), metric['high'])}"
    relative = "" if metric["relative"] is None else _signed(percentage(100 * metric["relative"]), metric["relative"])
    return (words, shown(metric["a"]), shown(metric["b"]), _signed(shown(difference), difference), relative, interval)


def _signed(text: str, value: float | None) -> str:
    return f"+{text}" if value is not None and value > 0 else text


def _print_iterations(console: Console, found: Comparison) -> None:
    columns = [
        Figure("Iteration", "iteration", number, style="cyan"),
        Figure("Hit rate A", lambda step: step["a"]["cache_hit_rate"], rate),
        Figure("Hit rate B", lambda step: step["b"]["cache_hit_rate"], rate),
        Figure("Uncached A", lambda step: step["a"]["uncached_prompt_tokens"], number, optional=1),
        Figure("Uncached B", lambda step: step["b"]["uncached_prompt_tokens"], number, optional=1),
        Figure("Cost A", lambda step: step["a"]["total_cost"], usd),
        Figure("Cost B", lambda step: step["b"]["total_cost"], usd),
        Figure("First token A", lambda step: step["a"]["time_to_first_token_ms"], duration, optional=2),
        Figure("First token B", lambda step: step["b"]["time_to_first_token_ms"], duration, optional=2),
    ]
    console.print(table(columns, found["iterations"], console.width))


def _print_miss_reasons(console: Console, found: Comparison) -> None:
    achievable = found["achievable"]
    if found["verdicts"] is None or achievable is None:
        return
    console.print()
    for index, each in enumerate(found["verdicts"]):
        what = verdict(each["verdict"]) + (f" ({each['segment']})" if each["segment"] else "")
        lost = _signed(number(each["difference"]), each["difference"])
        calls = f"{_count(each['calls_a'])} → {_count(each['calls_b'])} calls per run"
        print_line(console, "" if index else "tokens lost", f"{lost}  {what}: {calls}")
    rates = f"hit rate {rate(achievable['a'])} → {rate(achievable['b'])} without avoidable misses"
    print_line(console, "achievable", rates)


def _factor_change(factor: str, a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return ""
    before, after = _factor(factor, a), _factor(factor, b)
    return f": {after}" if before == after else f": {before} → {after}"


def _factor(factor: str, value: float) -> str:
    if factor == "calls":
        return f"{value:.1f}".removesuffix(".0") + " per run"
    if factor == "cache":
        return rate(value)
    if factor == "prices":
        return f"{usd(value)} per 1M prompt tokens"
    return f"{number(round(value))} tokens per call"
