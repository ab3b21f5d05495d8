"""Print a run or usage over time in the terminal: blocks of figures, and a bar per iteration or bucket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlm_cachetrack.formatting import (
    NONE,
    clean,
    dropped_details,
    duration,
    moment,
    number,
    outcome_words,
    percentage,
    rate,
    usd,
    usd_column,
)

from .output import counted, not_shown

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CacheEvolutionStep, RunReport, TokenCacheOptimization, TokenCacheSummary, Usage

_WIDEST = 100
_SHORTEST_BAR = 8
_LONGEST_EVOLUTION = 48
_NOT_REPORTED = "not reported"


def print_report(console: Console, report: RunReport) -> None:
    """Print a run: savings, tokens, calls, cost, latency, and a bar per iteration."""
    run, summary, optimization = report["run"] or {}, report["summary"], report["optimization"]
    width = min(console.width, _WIDEST)
    console.print(_heading(run, summary))
    console.print()
    if not summary["total_interactions"]:
        console.print("No call of this run is stored.")
        return
    if note := dropped_details(summary["dropped_interactions"], summary["total_interactions"]):
        console.print(note, style="yellow", soft_wrap=True)
        console.print()
    console.print(Panel(_savings(summary, optimization), width=width, border_style="dim", padding=(0, 1)))
    blocks = _side_by_side(console, width, [_tokens(summary), _calls(summary), _cost_and_time(run, summary)])
    console.print()
    console.print(blocks, width=width)
    console.print()
    unicode = console.encoding.lower().startswith("utf")
    console.print(_evolution(optimization["cache_evolution"], width, unicode))


def _heading(run: dict[str, Any], summary: TokenCacheSummary) -> Text:
    status = clean(run.get("state") or NONE)
    style = {"completed": "green", "error": "red"}.get(status, "yellow")
    first = Text.assemble(
        (clean(summary["query_id"]), "bold"),
        "  run ",
        (moment(summary["run_id"], full=True), "cyan"),
        "  ",
        (status, style),
        f" after {duration(run['duration_ms'])}" if run.get("duration_ms") is not None else "",
    )
    models = ", ".join(clean(model) for model in summary["models"])
    reached = outcome_words(run)
    lines = [first, Text(f"Outcome: {reached}" if reached else ""), Text(models, style="dim")]
    return Text("\n").join(line for line in lines if line.plain)


def _savings(summary: TokenCacheSummary, costs: TokenCacheOptimization) -> Table:
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(justify="right", style="bold", no_wrap=True)
    lines.add_column()
    unreported = summary["interactions_not_reported"]
    if _none_reported(summary):
        lines.add_row(NONE, "no call of this run reported its cache use")
    elif unreported:
        lines.add_row(
            rate(summary["cache_hit_rate"]),
            f"of the prompt tokens came from the cache: {number(summary['total_cached_tokens'])} "
            f"({counted(unreported, 'call')} did not report it)",
        )
    else:
        lines.add_row(
            rate(summary["cache_hit_rate"]),
            f"of the prompt tokens came from the cache: {number(summary['total_cached_tokens'])} "
            f"of {number(summary['total_prompt_tokens'])}",
        )
    saved = costs["cost_savings"]
    if summary["total_cost"] is None:
        lines.add_row(NONE, "cost and savings unknown: no call of this run has a known price")
        return lines
    if saved is None:
        lines.add_row(NONE, "savings unknown: the original cost of these calls is not known")
        return lines
    if _none_reported(summary) and not saved:
        lines.add_row(
            NONE, f"savings unknown: the cost, {usd(costs['cached_cost'])}, counts every prompt token as uncached"
        )
        return lines
    share = costs["cost_savings_percentage"]
    words = f": {usd(costs['cached_cost'])} instead of {usd(costs['original_cost'])}"
    if share is not None:
        words += f" ({percentage(abs(share))})"
    if saved < 0:
        lines.add_row(Text(usd(-saved), style="red"), f"more than without a cache{words}")
    else:
        lines.add_row(Text(usd(saved), style="green" if saved else ""), f"saved{words}")
    return lines


def _tokens(summary: TokenCacheSummary) -> Table:
    unreported = _none_reported(summary)
    # The sums are 0 only if no call reported a count, because every prompt has at least one token.
    known = bool(summary["total_prompt_tokens"] or summary["total_completion_tokens"])
    rows = [
        ("prompt", number(summary["total_prompt_tokens"]) if known else NONE),
        ("  cached", _NOT_REPORTED if unreported else number(summary["total_cached_tokens"])),
        ("  not cached", _NOT_REPORTED if unreported else number(summary["total_uncached_tokens"])),
        ("completion", number(summary["total_completion_tokens"]) if known else NONE),
        ("total", number(summary["total_tokens"]) if known else NONE),
    ]
    if written := summary["total_cache_write_tokens"]:
        rows.insert(3, ("  cache writes", number(written)))
    if reasoning := summary["total_reasoning_tokens"]:
        rows.insert(-1, ("  reasoning", number(reasoning)))
    return _block("Tokens", rows)


def _calls(summary: TokenCacheSummary) -> Table:
    rows = [
        ("hits", number(summary["interactions_with_cache"])),
        ("misses", number(summary["interactions_without_cache"])),
        (_NOT_REPORTED, number(summary["interactions_not_reported"])),
        ("total", number(summary["total_interactions"])),
        ("failed", number(summary["failed_interactions"])),
        ("unpriced", number(summary["unpriced_interactions"])),
    ]
    return _block("Calls", rows)


def _cost_and_time(run: dict[str, Any], summary: TokenCacheSummary) -> Table:
    rows = [
        ("cost", usd(summary["total_cost"])),
        ("per call", usd(summary["avg_cost_per_interaction"])),
        ("latency p50", duration(run.get("p50_duration_ms"))),
        ("        p95", duration(run.get("p95_duration_ms"))),
        ("    average", duration(summary["avg_duration_ms"])),
        ("first token", duration(summary["avg_time_to_first_token_ms"])),
    ]
    return _block("Cost and time", rows)


def _side_by_side(console: Console, width: int, blocks: list[Table]) -> Table:
    room = width - sum(console.measure(block).maximum for block in blocks)
    if room < 2 * (len(blocks) - 1):  # stacked, because no number may be cut off
        column = Table.grid()
        for index, block in enumerate(blocks):
            if index:
                column.add_row("")
            column.add_row(block)
        return column
    row = Table.grid(padding=(0, max(2, min(8, room // (len(blocks) - 1))), 0, 0))
    for _ in blocks:
        row.add_column(no_wrap=True)
    row.add_row(*blocks)
    return row


def _block(title: str, rows: list[tuple[str, str]]) -> Table:
    block = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    block.add_column(no_wrap=True)
    block.add_column(justify="right", no_wrap=True)
    block.add_row(Text(title, style="bold"), "")
    for name, value in rows:
        block.add_row(name, Text(value, style="dim" if value in (NONE, _NOT_REPORTED) else ""))
    return block


def _evolution(steps: list[CacheEvolutionStep], width: int, unicode: bool) -> RenderableType:
    shown: list[CacheEvolutionStep | None] = list(steps)
    if len(steps) > _LONGEST_EVOLUTION:
        half = _LONGEST_EVOLUTION // 2
        shown = [*steps[:half], None, *steps[-half:]]
    texts: list[tuple[str, ...]] = [_step(step) for step in shown]
    heads: tuple[str, ...] = ("Iteration", "Prompt", "Cached", "Hit rate")
    fit, length = _fit_next_to_bar((heads, *texts), width, 50, (2, 1))
    omitted = [head for index, head in enumerate(heads) if index not in fit]
    heads, texts = _only(heads, fit), [_only(text, fit) for text in texts]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        grid.add_column(head, justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for step, text in zip(shown, texts, strict=True):
        if step is None:
            left_out = len(steps) - _LONGEST_EVOLUTION
            grid.add_row(*text, Text(f"{number(left_out)} more; see --json", style="dim"))
        else:
            grid.add_row(*text, _bar(step["cache_hit_rate"], length, unicode))
    return Group(grid, not_shown(omitted, width)) if omitted else grid


def _bar(share: float | None, length: int, unicode: bool) -> Text:
    """Draw a rate as a bar: only 0 is empty and only 1 is full. Nothing is drawn for None."""
    if share is None:
        return Text()
    full, rest = ("█", "░") if unicode else ("#", ".")
    filled = round(length * share)
    if 0 < share < 1:
        filled = min(max(filled, 1), length - 1)
    return Text.assemble((full * filled, "green"), (rest * (length - filled), "dim"))


def _fit_next_to_bar(
    rows: Sequence[Sequence[str]], width: int, longest: int, spare: Sequence[int]
) -> tuple[list[int], int]:
    """Choose the columns that fit next to a bar, and the bar's length; ``spare`` columns are dropped in order."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = list(range(len(widths)))

    def room() -> int:
        return width - sum(widths[index] + 2 for index in shown)

    for index in spare:
        if room() >= _SHORTEST_BAR:
            break
        shown.remove(index)
    return shown, max(min(longest, room()), 1)


def _only(row: Sequence[str], indexes: Sequence[int]) -> tuple[str, ...]:
    return tuple(row[index] for index in indexes)


def usage_chart(usage: Usage, width: int, unicode: bool) -> RenderableType:
    """Return a table of hit rate and cost over time, one line per bucket with a bar for the rate."""
    left_out = max(len(usage["buckets"]) - _LONGEST_EVOLUTION, 0)
    rows = usage["buckets"][left_out:]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    heads: tuple[str, ...] = ("From (UTC)", "Calls", "Prompt", "Cost", "Saved", "Hit rate")
    costs, savings = (usd_column(row[name] for row in rows) for name in ("total_cost", "cost_savings"))
    texts: list[tuple[str, ...]] = [
        (
            moment(row["bucket"]).removesuffix(":00Z"),
            number(row["total_interactions"]),
            number(row["total_prompt_tokens"]),
            cost,
            saved,
            rate(row["cache_hit_rate"]),
        )
        for row, cost, saved in zip(rows, costs, savings, strict=True)
    ]
    fit, length = _fit_next_to_bar((heads, *texts), width, 40, (1, 2, 3, 4))
    omitted = [head for index, head in enumerate(heads) if index not in fit]
    heads, texts = _only(heads, fit), [_only(text, fit) for text in texts]
    for index, head in enumerate(heads):
        grid.add_column(head, justify="right" if index else "left", no_wrap=True)
    grid.add_column("", no_wrap=True)
    if left_out:
        grid.add_row("…", *[""] * (len(heads) - 1), Text(f"{number(left_out)} earlier; see --json", style="dim"))
    for row, text in zip(rows, texts, strict=True):
        grid.add_row(*text, _bar(row["cache_hit_rate"], length, unicode))
    return Group(grid, not_shown(omitted, width)) if omitted else grid


def _step(step: CacheEvolutionStep | None) -> tuple[str, str, str, str]:
    if step is None:
        return ("…", "", "", "")
    cached = step["cached_tokens"]
    return (
        str(step["iteration"]),
        # The sum is 0 only if no call reported a count, because every prompt has at least one token.
        number(step["prompt_tokens"] or None),
        _NOT_REPORTED if cached is None else number(cached),
        rate(step["cache_hit_rate"]),
    )


def _none_reported(summary: TokenCacheSummary) -> bool:
    from rlm_cachetrack.analytics import is_cache_use_reported

    return not is_cache_use_reported(summary)
