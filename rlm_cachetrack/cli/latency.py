"""``latency``: the time that the cache saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from rlm_cachetrack.formatting import NONE, duration, number, percentage

from .arguments import AsCsv, AsJson, DbUrl, open_client
from .comparing import Confidence
from .filters import filtered
from .output import Column, Figure, print_data, print_line, print_prose, slow_status, stdout, table

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters, LatencyDividend, LatencyPair

_WIDEST_PERCENTAGE = 100  # an interval that includes a doubling of the time is too wide to show


@filtered()
def latency(
    filters: CallFilters,
    confidence: Confidence = 0.95,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show the time that the cache saves, from cached and uncached calls of similar prompt length."""
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.get_latency_dividend(confidence=confidence, **filters)
    if not print_data(found, as_json, as_csv, found["rows"], "analytics.LatencyRow"):
        _print_latency(stdout(), found)


def _print_latency(console: Console, found: LatencyDividend) -> None:
    print_prose(console, _summary(found), "bold")
    if found["rows"]:
        for words, pair in (("first token", found["time_to_first_token"]), ("duration", found["duration"])):
            if pair["cached_ms"] is not None:
                print_line(console, words, f"{_pair(pair)}{_interval(pair, found['confidence'])}")
        print_line(console, "in total", _total(found["saved_total_ms"]))
        console.print()
        ambiguous = len({(row["model"], row["prompt_tokens_from"]) for row in found["rows"]}) < len(found["rows"])
        is_streamed = found["time_to_first_token"]["cached_ms"] is not None
        columns = [
            Column("Provider", "provider", flexible=True, optional=0 if ambiguous else 5, min_width=8),
            Column("Model", "model", flexible=True, style="bold", min_width=24),
            Figure(
                "Prompt tokens", lambda row: f"{number(row['prompt_tokens_from'])} to {number(row['prompt_tokens_to'])}"
            ),
            Figure("Cached calls", "cached_calls", number, optional=4),
            Figure("Uncached calls", "uncached_calls", number, optional=3),
            Figure("First token", "time_to_first_token", _times, optional=0 if is_streamed else 1),
            Figure("Duration", "duration", _times, optional=1 if is_streamed else 0),
        ]
        console.print(table(columns, found["rows"], console.width))
        console.print("In parentheses: of uncached calls.", style="dim")
        compared = f"{number(found['compared_calls'])} calls compared"
        left_out = (
            f"{number(found['unmatched_calls'])} with no comparable call, "
            f"{number(found['partly_cached_calls'])} partly cached"
        )
        print_line(console, "calls", f"{compared}; left out: {left_out}")
    print_line(console, "notes", *found["notes"])


def _summary(found: LatencyDividend) -> str:
    """Return the result in one sentence."""
    if not found["rows"]:
        return "No cached call has a comparable uncached one, so the time that the cache saves is not known."
    name, pair = "duration", found["duration"]
    if found["time_to_first_token"]["cached_ms"] is not None:
        name, pair = "time to first token", found["time_to_first_token"]
    cached, uncached = duration(pair["cached_ms"]), duration(pair["uncached_ms"])
    share, low, high = pair["saved_percentage"] or 0.0, pair["low_percentage"], pair["high_percentage"]
    if low is None or high is None or low <= 0 <= high:
        return f"The effect of a cached prompt on the {name} is not clear: {cached} with it, {uncached} without."
    change = f"{percentage(abs(share))} {'shorter' if share >= 0 else 'longer'}"
    return f"With a cached prompt the {name} is {change}: {cached} instead of {uncached}."


def _times(pair: LatencyPair) -> str:
    if pair["cached_ms"] is None:
        return NONE
    return f"{duration(pair['cached_ms'])} ({duration(pair['uncached_ms'])})"


def _pair(pair: LatencyPair) -> str:
    times = f"{duration(pair['cached_ms'])} cached, {duration(pair['uncached_ms'])} uncached"
    return f"{times}: {_change(pair['saved_percentage'] or 0.0)}"


def _change(saved_percentage: float) -> str:
    return f"{percentage(abs(saved_percentage))} {'slower' if saved_percentage < 0 else 'less'}"


def _total(saved_ms: float | None) -> str:
    if saved_ms is not None and saved_ms < 0:
        return f"{duration(-saved_ms)} longer"
    return f"{duration(saved_ms)} of waiting saved"


def _interval(pair: LatencyPair, confidence: float) -> str:
    low, high = pair["low_percentage"], pair["high_percentage"]
    if low is None or high is None:
        return ""
    if low < -_WIDEST_PERCENTAGE:
        return "; too few calls for an interval"
    if low < 0 <= high:
        words = f"{_change(low)} to {_change(high)}"
    else:
        words = " to ".join(percentage(bound) for bound in sorted((abs(low), abs(high))))
    return f" ({confidence:.0%} interval: {words})"
