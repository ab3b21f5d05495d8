"""``check``: a gate for CI, with absolute limits and limits against a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean

from .arguments import AsJson, DbUrl, argument, open_client, option
from .comparing import RUNS_HELP
from .filters import filtered
from .output import print_json, print_prose, slow_status, stdout
from .planning import share
from .run_selection import find_runs

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters, Gate

Runs = Annotated[str, argument(metavar="RUN", help=RUNS_HELP)]
_SHARE: Any = {"metavar": "SHARE", "show_default": False}
Drop = Annotated[str | None, typer.Option("--max-hit-rate-drop", help="Maximum drop of the hit rate: 2%.", **_SHARE)]
CostDelta = Annotated[str | None, typer.Option("--max-cost-delta", help="Maximum increase of the cost: 5%.", **_SHARE)]
UncachedDelta = Annotated[
    str | None, typer.Option("--max-uncached-delta", help="Maximum increase of uncached tokens: 5%.", **_SHARE)
]
FirstTokenDelta = Annotated[
    str | None, typer.Option("--max-ttft-delta", help="Maximum increase of time to first token: 5%.", **_SHARE)
]


@filtered("runs")
def check(
    filters: CallFilters,
    run: Runs,
    baseline: Annotated[
        str | None, option("--baseline", metavar="RUN|FILE", help="A run, or a file that --save wrote.")
    ] = None,
    min_hit_rate: Annotated[
        str | None, option("--min-hit-rate", metavar="SHARE", help="Minimum hit rate: 0.6 or 60%.")
    ] = None,
    max_cost: Annotated[float | None, option("--max-cost", metavar="USD", help="Maximum cost of a run.")] = None,
    max_uncached_tokens: Annotated[
        int | None, option("--max-uncached-tokens", metavar="N", help="Maximum uncached tokens of a run.")
    ] = None,
    max_hit_rate_drop: Drop = None,
    max_cost_delta: CostDelta = None,
    max_uncached_delta: UncachedDelta = None,
    max_ttft_delta: FirstTokenDelta = None,
    save: Annotated[
        Path | None, option("--save", metavar="FILE", help="Write the figures of RUN to a baseline file.")
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
        raise ConfigError("nothing to check: give a limit, such as --min-hit-rate 60%, or --save FILE")
    with open_client(db_url) as client, slow_status("reading the runs"):
        store = client.reader()
        runs = find_runs(store, run, filters)
        rows, found = analytics.rows_of_runs(store, runs), None
        if wanted:
            before = None
            if baseline is not None and Path(baseline).is_file():
                before = analytics.read_baseline(baseline, runs[0][0])
            elif baseline is not None:
                before = analytics.rows_of_runs(store, find_runs(store, baseline, filters))
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
        print_prose(console, Text.assemble((f"{mark[0]} ", mark[1]), line["words"]))
    if found["comparison"] is not None:
        for text in found["comparison"]["notes"]:
            print_prose(console, Text(f"  {clean(text)}", style="dim"))
