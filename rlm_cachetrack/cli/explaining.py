"""``explain``: cache miss reasons, their cost, and recommendations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.text import Text

from rlm_cachetrack.formatting import clean, moment, number, percentage, rate, usd, verdict

from .arguments import AsCsv, AsJson, DbUrl, NotFound, Run, RunArgument, command_line, open_client, option
from .filters import filtered
from .output import (
    Column,
    Figure,
    counted,
    print_data,
    print_line,
    print_prose,
    slow_status,
    stdout,
    table,
)
from .run_selection import find_named_run

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters
    from rlm_cachetrack.analytics.explain import CacheExplanation, CallVerdict


@filtered("runs")
def explain(
    filters: CallFilters,
    which: RunArgument = None,
    run: Run = "latest",
    calls: Annotated[bool, option("--calls", help="Show one line per call.")] = False,
    agreement: Annotated[bool, option("--agreement", help="Compare the provider's own reasons with ours.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Explain why tokens of a run were not read from the cache: reasons, cost, and recommendations."""
    from rlm_cachetrack.analytics.explain import explain_cache

    with open_client(db_url) as client, slow_status("comparing the prompts"):
        store = client.reader()
        chosen = find_named_run(store, which, run, filters)
        found = explain_cache(store, chosen.query_id, chosen.run_id)
    if found is None:
        raise NotFound(f"the run of {chosen.query_id!r} has no calls yet")
    if not print_data(found, as_json, as_csv, found["interactions"]):
        if agreement:
            _print_agreement(stdout(), found)
        else:
            named = which if which is not None and run == "latest" and not filters else None
            _print(stdout(), found, named or f"{chosen.query_id}@{moment(chosen.run_id, full=True)}", calls=calls)


def _print(console: Console, found: CacheExplanation, named: str, *, calls: bool) -> None:
    from rlm_cachetrack.analytics.explain import hit_rate_words

    line = partial(print_line, console)
    line("run", f"{found['query_id']}, {moment(found['run_id'])}, {number(found['total_interactions'])} calls")
    line("hit rate", hit_rate_words(found))
    if calls and found["ceiling_hit_rate"] is not None:
        line("readable", _readable_words(found))
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
        console.print(Text("Recommendations, with what each would have saved in this run:", style="bold"))
    for each in found["advice"]:
        at_stake = usd(each["usd_at_stake"]) if each["usd_at_stake"] else f"{number(each['tokens_at_stake'])} tokens"
        line(at_stake, f"{each['words']} ({counted(each['calls'], 'call')}).")
    if calls:
        console.print()
        _print_calls(console, found)
    console.print()
    for text in found["notes"]:
        print_prose(console, Text(clean(f"{text[:1].upper()}{text[1:]}."), style="dim"))
    if not calls and found["tokens_lost"]:
        each_call = command_line("explain", "--calls", query_id=named)
        print_prose(console, Text(f"The reason of each call: `{each_call}`", style="dim"))


def _readable_words(found: CacheExplanation) -> str:
    """Return what could be read, and why the achievable hit rate can exceed it: it assumes that prompts change."""
    readable, achievable = rate(found["ceiling_hit_rate"]), rate(found["achievable_hit_rate"])
    words = f"as the prompts were sent, at most {readable} could be read"
    if found["achievable_hit_rate"] is None or found["tokens_lost"] == 0 or achievable == readable:
        return words
    return f"{words}; without the avoidable misses below, {achievable}"


def _reason(call: CallVerdict) -> str:
    """Return the reason of a call in words, with the provider's own reason and ours where they differ."""
    text = f"{verdict(call['verdict'])}: {call['words']}"
    if call["provider_reason"] is None:
        return text
    own = call["own_verdict"]
    other = f"; without it: {verdict(own)}" if own is not None and own != call["verdict"] else ""
    return f"{text} (reported by the provider: {call['provider_reason']}{other})"


def _print_agreement(console: Console, found: CacheExplanation) -> None:
    pairs, share = found["agreement"], found["agreement_rate"]
    line = partial(print_line, console)
    if share is None:
        line("agreement", "unknown: no call has a diagnosis of the provider; cache_diagnostics=True requests it")
        return
    calls = sum(each["calls"] for each in pairs)
    agreed = sum(each["calls"] for each in pairs if each["agrees"])
    line("agreement", f"{rate(share)}: {number(agreed)} of {counted(calls, 'call')} with a diagnosis of the provider")
    console.print()
    columns = [
        Column("Provider's reason", lambda each: clean(each["provider_reason"]), style="bold"),
        Column("Reason found here", "own_verdict", verdict),
        Column("Agree", lambda each: "yes" if each["agrees"] else "no"),
        Figure("Calls", "calls", number),
    ]
    console.print(table(columns, pairs, console.width))


def _print_calls(console: Console, found: CacheExplanation) -> None:
    columns = [
        Column("Time (UTC)", "time", moment, style="cyan", optional=1),
        Figure("Iteration", "iteration", number, optional=2),
        Figure("Prompt", "prompt_tokens", number),
        Figure("Read", "cached_tokens", number),
        Figure("Readable", "ceiling_tokens", number),
        Figure("Lost", lambda each: each["tokens_lost"] or None, number),
        Figure("Confidence", lambda each: 100 * each["confidence"], percentage, optional=3),
        Column("Reason", _reason, flexible=True, min_width=24),
    ]
    console.print(table(columns, found["interactions"], console.width))
