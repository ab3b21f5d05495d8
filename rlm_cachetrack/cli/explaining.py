"""``explain``: cache miss reasons, their cost, and recommendations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.text import Text

from rlm_cachetrack.formatting import clean, moment, number, percentage, rate, usd, verdict

from .arguments import AsCsv, AsJson, DbUrl, NotFound, QueryId, command_line, open_client, option
from .output import Column, Figure, counted, print_data, print_line, require_one_format, slow_status, stdout, table
from .reading import Run
from .run_selection import find_run

if TYPE_CHECKING:
    from rlm_cachetrack.analytics.explain import CacheExplanation

_STYLES = {"hit": "green", "first_call": "dim", "not_reported": "dim", "not_fingerprinted": "dim"}


def explain(
    query_id: QueryId,
    run: Run = "latest",
    calls: Annotated[bool, option("--calls", help="Show one line per call.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Explain why tokens of a run were not read from the cache: reasons, cost, and recommendations."""
    from rlm_cachetrack.analytics.explain import explain_cache

    require_one_format(as_json, as_csv)
    with open_client(db_url) as client, slow_status("comparing the prompts"):
        store = client.reader()
        found = explain_cache(store, query_id, find_run(store, query_id, run).run_id)
    if found is None:
        raise NotFound(f"the run of {query_id!r} has no calls yet")
    if not print_data(found, as_json, as_csv, found["interactions"]):
        _print(stdout(), found, calls=calls)


def _print(console: Console, found: CacheExplanation, *, calls: bool) -> None:
    line = partial(print_line, console)
    line("run", f"{found['query_id']}, {moment(found['run_id'])}, {number(found['total_interactions'])} calls")
    if found["cache_hit_rate"] is None:
        line("hit rate", "not reported by any call")
    else:
        line("hit rate", f"{rate(found['cache_hit_rate'])} (ceiling {rate(found['ceiling_hit_rate'])})")
    line("lost", _lost(found))
    console.print()
    columns = [
        Column("Reason", "verdict", verdict, style="bold"),
        Figure("Calls", "calls", number),
        Figure("Tokens lost", lambda each: each["tokens_lost"] or None, number),
        Figure("USD lost", lambda each: each["usd_lost"] if each["tokens_lost"] else None, usd),
    ]
    console.print(table(columns, found["verdicts"], console.width))
    if found["advice"]:
        console.print()
    for each in found["advice"]:
        at_stake = usd(each["usd_at_stake"]) if each["usd_at_stake"] else f"{number(each['tokens_at_stake'])} tokens"
        words = each["words"][0].upper() + each["words"][1:]
        line(at_stake, f"{words} ({counted(each['calls'], 'call')}).")
    if calls:
        console.print()
        _print_calls(console, found)
    console.print()
    for text in found["notes"]:
        console.print(Text(clean(text), style="dim"), soft_wrap=True)
    if not calls and found["tokens_lost"]:
        each_call = command_line("explain", "--calls", query_id=found["query_id"])
        console.print(Text(f"Each call: {each_call}", style="dim"), soft_wrap=True)


def _lost(found: CacheExplanation) -> str:
    if found["tokens_lost"]:
        cost = f" ({usd(found['usd_lost'])})" if found["usd_lost"] else ""
        return f"{number(found['tokens_lost'])} tokens{cost}, for the reasons below"
    unknown = sum(each["calls"] for each in found["verdicts"] if each["verdict"] == "not_fingerprinted")
    if unknown:
        total = counted(found["total_interactions"], "call")
        return f"miss reasons unknown: {number(unknown)} of {total} have no fingerprint"
    return "nothing: everything that could be read was read"


def _print_calls(console: Console, found: CacheExplanation) -> None:
    columns = [
        Column("Time (UTC)", "time", moment, style="cyan", optional=1),
        Figure("Iteration", "iteration", number, optional=2),
        Figure("Prompt", "prompt_tokens", number),
        Figure("Read", "cached_tokens", number),
        Figure("Ceiling", "ceiling_tokens", number),
        Figure("Lost", lambda each: each["tokens_lost"] or None, number),
        Figure("Confidence", lambda each: 100 * each["confidence"], percentage, optional=3),
        Column("Reason", lambda each: f"{verdict(each['verdict'])}: {each['words']}", flexible=True, min_width=24),
    ]
    console.print(table(columns, found["interactions"], console.width))
