"""``compare``, ``check``, ``latency``: runs beside each other, a gate for CI, and the time that the cache saves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import verdict

from .arguments import AsCsv, AsJson, DbUrl, ModelFilter, QueryFilter, open_client, parse_moment
from .output import (
    Column,
    clean,
    duration,
    moment,
    number,
    percentage,
    print_csv,
    print_json,
    print_line,
    rate,
    require_one_format,
    row_columns,
    slow_status,
    stdout,
    table,
    usd,
)
from .planning import share
from .reading import Since, Until
from .run_selection import find_runs

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import (
        Comparison,
        ComparisonMetric,
        ComparisonSide,
        Gate,
        LatencyDividend,
        LatencyPair,
    )

__all__ = ["check", "compare", "latency"]

_INDENT = 14
_HARDLY = 100  # percent: an interval that reaches to twice the time says nothing
_RUNS = "QUERY_ID (its newest run), QUERY_ID@RUN, QUERY_ID@BEGINNING* or QUERY_ID@* (a group)."
Runs = Annotated[str, typer.Argument(metavar="RUN", show_default=False, help=_RUNS)]
_SHARE: Any = {"metavar": "SHARE", "show_default": False}
Drop = Annotated[
    str | None, typer.Option("--max-hit-rate-drop", help="Points at most below the baseline's: 2%.", **_SHARE)
]
CostDelta = Annotated[str | None, typer.Option("--max-cost-delta", help="At most above the baseline's: 5%.", **_SHARE)]
UncachedDelta = Annotated[str | None, typer.Option("--max-uncached-delta", help="Uncached tokens, likewise.", **_SHARE)]
FirstTokenDelta = Annotated[
    str | None, typer.Option("--max-ttft-delta", help="Time to first token, likewise.", **_SHARE)
]
Confidence = Annotated[float, typer.Option("--confidence", help="Of the intervals, between 0 and 1.")]


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN_A", show_default=False, help=_RUNS)],
    b: Annotated[str, typer.Argument(metavar="RUN_B", show_default=False, help="What is compared with it, likewise.")],
    confidence: Confidence = 0.95,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Compare two runs, or groups of runs, at equal iteration: what differs, and what explains it."""
    from rlm_cachetrack import analytics

    with open_client(db_url) as client, slow_status("reading the runs"):
        store = client.reader()
        found = analytics.compare_runs(store, find_runs(store, a), find_runs(store, b), confidence)
    if as_json:
        print_json(found)
    else:
        _print_comparison(stdout(), found)


_METRICS = {
    "cache_hit_rate": ("hit rate", rate),
    "uncached_prompt_tokens": ("uncached tokens", number),
    "total_cost": ("cost", usd),
    "cached_tokens": ("cached tokens", number),
    "original_cost": ("cost without cache", usd),
    "time_to_first_token_ms": ("first token", duration),
    "duration_ms": ("duration", duration),
    "calls": ("calls", number),
    "failed": ("failed calls", number),
    "prompt_tokens": ("prompt tokens", number),
    "completion_tokens": ("completion tokens", number),
}


def _print_comparison(console: Console, found: Comparison) -> None:
    for letter, side in (("A", found["a"]), ("B", found["b"])):
        print_line(console, letter, _side(side), indent=_INDENT)
    console.print()
    if found["metrics"]:
        columns = [
            Column("A run", style="bold"),
            Column("A", numeric=True),
            Column("B", numeric=True),
            Column("Difference", numeric=True),
            Column("%", numeric=True, optional=2),
            Column(f"{found['confidence']:.0%} interval", numeric=True, optional=1),
        ]
        rows = [_metric(metric) for metric in found["metrics"] if metric["a"] is not None or metric["b"] is not None]
        shown = columns if any(metric["low"] is not None for metric in found["metrics"]) else columns[:-1]
        console.print(table(shown, [row[: len(shown)] for row in rows], console.width))
        console.print()
        _print_iterations(console, found)
    if found["effects"]:
        console.print()
        for index, effect in enumerate(found["effects"]):
            said = _effect(effect["factor"], effect["a"], effect["b"])
            text = f"{_signed(usd(effect['effect']), effect['effect'])}  {effect['factor']}{said}"
            print_line(console, "" if index else "cost differs", text, indent=_INDENT)
    _print_misses(console, found)
    if found["worst_iterations"]:
        worst = ", ".join(number(iteration) for iteration in found["worst_iterations"])
        print_line(console, "look at", f"iteration {worst}: most uncached tokens more in B", indent=_INDENT)
    for index, text in enumerate(found["notes"]):
        print_line(console, "" if index else "know that", text, indent=_INDENT)


def _side(side: ComparisonSide) -> str:
    runs = side["runs"]
    first = f"{runs[0]['query_id']}, run {moment(runs[0]['run_id'])}"
    what = first if len(runs) == 1 else f"{number(len(runs))} runs: {first} and others"
    return f"{what}; {number(side['iterations'])} iterations; {', '.join(side['models'])}"


def _metric(metric: ComparisonMetric) -> tuple[str, ...]:
    words, said = _METRICS[metric["name"]]
    difference = metric["difference"]
    interval = ""
    if metric["low"] is not None and metric["high"] is not None:
        interval = f"{_signed(said(metric['low']), metric['low'])} to {_signed(said(metric['high']), metric['high'])}"
    relative = "" if metric["relative"] is None else _signed(percentage(100 * metric["relative"]), metric["relative"])
    return (
        words,
        said(metric["a"]),
        said(metric["b"]),
        _signed(said(difference), difference),
        relative,
        interval,
    )


def _signed(text: str, value: float | None) -> str:
    return f"+{text}" if value is not None and value > 0 else text


def _print_iterations(console: Console, found: Comparison) -> None:
    columns = [
        Column("Iteration", numeric=True, style="cyan"),
        Column("Hit rate A", numeric=True),
        Column("B", numeric=True),
        Column("Uncached A", numeric=True, optional=1),
        Column("B", numeric=True, optional=1),
        Column("Cost A", numeric=True),
        Column("B", numeric=True),
        Column("First token A", numeric=True, optional=2),
        Column("B", numeric=True, optional=2),
    ]
    rows = [
        (
            number(step["iteration"]),
            rate(step["a"]["cache_hit_rate"]),
            rate(step["b"]["cache_hit_rate"]),
            number(step["a"]["uncached_prompt_tokens"]),
            number(step["b"]["uncached_prompt_tokens"]),
            usd(step["a"]["total_cost"]),
            usd(step["b"]["total_cost"]),
            duration(step["a"]["time_to_first_token_ms"]),
            duration(step["b"]["time_to_first_token_ms"]),
        )
        for step in found["iterations"]
    ]
    console.print(table(columns, rows, console.width))


def _print_misses(console: Console, found: Comparison) -> None:
    ceiling = found["ceiling"]
    if found["verdicts"] is None or ceiling is None:
        return
    console.print()
    for index, each in enumerate(found["verdicts"]):
        what = verdict(each["verdict"]) + (f" ({each['segment']})" if each["segment"] else "")
        lost = f"{_signed(number(each['difference']), each['difference'])} tokens"
        calls = f"{_count(each['calls_a'])} → {_count(each['calls_b'])} calls a run"
        print_line(console, "" if index else "lost to", f"{lost}  {what}: {calls}", indent=_INDENT)
    print_line(console, "possible", f"hit rate {rate(ceiling['a'])} → {rate(ceiling['b'])}", indent=_INDENT)


def _count(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _effect(factor: str, a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return ""
    before, after = _factor(factor, a), _factor(factor, b)
    return f": {after}" if before == after else f": {before} → {after}"


def _factor(factor: str, value: float) -> str:
    if factor == "calls":
        return f"{value:.1f}".removesuffix(".0") + " a run"
    if factor == "cache":
        return f"{rate(value)} read"
    if factor == "prices":
        return f"{usd(value)} per 1M prompt tokens"
    return f"{number(round(value))} tokens a call"


# -- a gate for CI ---------------------------------------------------------------------------------------------------


def check(
    run: Runs,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="RUN|FILE", show_default=False, help="What to compare with: a run, or a saved file."
        ),
    ] = None,
    min_hit_rate: Annotated[
        str | None, typer.Option("--min-hit-rate", metavar="SHARE", show_default=False, help="At least: 0.6 or 60%.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", metavar="USD", show_default=False, help="A run costs at most.")
    ] = None,
    max_uncached_tokens: Annotated[
        int | None, typer.Option("--max-uncached-tokens", metavar="N", show_default=False, help="A run, at most.")
    ] = None,
    max_hit_rate_drop: Drop = None,
    max_cost_delta: CostDelta = None,
    max_uncached_delta: UncachedDelta = None,
    max_ttft_delta: FirstTokenDelta = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE", show_default=False, help="Keep the figures of RUN there, as a baseline for later."
        ),
    ] = None,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Check a run against limits and a baseline: exit code 1 if a limit is exceeded. For CI."""
    from rlm_cachetrack import analytics

    limits: dict[str, float | str | None] = {
        "min_hit_rate": min_hit_rate,
        "max_cost": max_cost,
        "max_uncached_tokens": max_uncached_tokens,
        "max_hit_rate_drop": max_hit_rate_drop,
        "max_cost_delta": max_cost_delta,
        "max_uncached_delta": max_uncached_delta,
        "max_ttft_delta": max_ttft_delta,
    }
    share(min_hit_rate, "--min-hit-rate")
    wanted = any(value is not None for value in limits.values())
    if not wanted and save is None:
        raise ConfigError("nothing is to be checked: give a limit, such as --min-hit-rate 60%, or --save FILE")
    with open_client(db_url) as client, slow_status("reading the runs"):
        store = client.reader()
        runs = find_runs(store, run)
        rows, found = analytics.rows_of_runs(store, runs), None
        if wanted:
            before = None
            if baseline is not None and Path(baseline).is_file():
                before = analytics.read_baseline(baseline, runs[0][0])
            elif baseline is not None:
                before = analytics.rows_of_runs(store, find_runs(store, baseline))
            found = analytics.check_rows(rows, before, **limits)
        if save is not None and (found is None or found["passed"]):
            analytics.write_baseline(save, runs[0][0], rows)
    if found is not None:
        if as_json:
            print_json(found)
        else:
            _print_gate(stdout(), found)
    if found is not None and not found["passed"]:
        raise typer.Exit(1)


def _print_gate(console: Console, found: Gate) -> None:
    for line in found["checks"]:
        mark = ("✓", "green") if line["passed"] else ("✗", "bold red")
        if not console.encoding.lower().startswith("utf"):
            mark = ("ok" if line["passed"] else "!!", mark[1])
        console.print(Text.assemble((f"{mark[0]} ", mark[1]), line["words"]), soft_wrap=True)
    if found["comparison"] is not None:
        for text in found["comparison"]["notes"]:
            console.print(Text(f"  {clean(text)}", style="dim"), soft_wrap=True)


# -- the time that the cache saves ---------------------------------------------------------------------------------


def latency(
    since: Since = None,
    until: Until = None,
    model: ModelFilter = None,
    query: QueryFilter = None,
    confidence: Confidence = 0.95,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show the time that the cache saves: cached against uncached calls of the same length of prompt."""
    require_one_format(as_json, as_csv)
    with open_client(db_url) as client, slow_status("adding up the calls"):
        found = client.get_latency_dividend(
            since=parse_moment(since, "--since"),
            until=parse_moment(until, "--until"),
            model=model,
            query_id=query,
            confidence=confidence,
        )
    if as_json:
        print_json(found)
    elif as_csv:
        print_csv(found["rows"], row_columns("analytics", "LatencyRow"))
    else:
        _print_latency(stdout(), found)


def _print_latency(console: Console, found: LatencyDividend) -> None:
    if found["rows"]:
        for words, pair in (("first token", found["time_to_first_token"]), ("duration", found["duration"])):
            if pair["cached_ms"] is not None:
                print_line(console, words, f"{_pair(pair)}{_sure(pair, found['confidence'])}", indent=_INDENT)
        print_line(console, "in all", f"{duration(found['saved_total_ms'])} of waiting saved", indent=_INDENT)
        console.print()
        columns = [
            Column("Model", flexible=True, style="bold"),
            Column("Prompt tokens", numeric=True),
            Column("Cached", numeric=True, optional=1),
            Column("Uncached", numeric=True, optional=1),
            Column("First token", numeric=True),
            Column("Uncached", numeric=True),
            Column("Duration", numeric=True),
            Column("Uncached", numeric=True),
        ]
        rows = [
            (
                clean(row["model"]),
                f"{number(row['prompt_tokens_from'])} to {number(row['prompt_tokens_to'])}",
                number(row["cached_calls"]),
                number(row["uncached_calls"]),
                duration(row["time_to_first_token"]["cached_ms"]),
                duration(row["time_to_first_token"]["uncached_ms"]),
                duration(row["duration"]["cached_ms"]),
                duration(row["duration"]["uncached_ms"]),
            )
            for row in found["rows"]
        ]
        console.print(table(columns, rows, console.width))
        compared = f"{number(found['compared_calls'])} calls compared"
        left = (
            f"{number(found['unmatched_calls'])} without a like, {number(found['partly_cached_calls'])} partly cached"
        )
        print_line(console, "of", f"{compared}; left out: {left}", indent=_INDENT)
    for index, text in enumerate(found["notes"]):
        print_line(console, "" if index else "know that", text, indent=_INDENT)


def _pair(pair: LatencyPair) -> str:
    taken = percentage(pair["saved_percentage"])
    return f"{duration(pair['cached_ms'])} cached, {duration(pair['uncached_ms'])} uncached: {taken} less"


def _sure(pair: LatencyPair, confidence: float) -> str:
    if pair["low_percentage"] is None:
        return ""
    if pair["low_percentage"] < -_HARDLY:
        return "; too few calls to be sure"
    low, high = percentage(pair["low_percentage"]), percentage(pair["high_percentage"])
    return f" ({low} to {high} with {confidence:.0%} confidence)"
