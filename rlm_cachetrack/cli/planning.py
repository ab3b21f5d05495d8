"""The commands ``what-if``, ``forecast``, ``budget`` and ``reconcile``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import NONE, clean, number, percentage, rate, usd

from .arguments import AsCsv, AsJson, DbUrl, argument, open_client, option
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
from .prices import File

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm_cachetrack.analytics import CallFilters
    from rlm_cachetrack.analytics.planning import BudgetCheck, Forecast, Reconciliation, WhatIf

_WHOLE_EXPORT = "an export covers all calls of its days, so they are compared as a whole"
HitRate = Annotated[
    str | None, option("--hit-rate", metavar="SHARE", help="Share of input read from the cache: 0.8 or 80%.")
]


def share(text: str | None, option: str) -> float | None:
    """Parse a share from 0 to 1, given as a fraction or with a percent sign.

    Raises:
        ConfigError: The text is neither.
    """
    if text is None:
        return None
    try:
        value = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{option} {text!r}: expected a share such as 0.8 or 80%")
    return value


@filtered()
def what_if(
    filters: CallFilters,
    to_model: Annotated[str | None, option("--to-model", metavar="NAME", help="Price the calls as this model.")] = None,
    to_provider: Annotated[
        str | None, option("--to-provider", metavar="NAME", help="The provider whose prices of --to-model apply.")
    ] = None,
    tier: Annotated[str | None, option("--tier", metavar="TIER", help="Price the calls at this service tier.")] = None,
    hit_rate: HitRate = None,
    pricing: File = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show the cost of recorded calls with another model, tier, price list or hit rate."""
    if to_model is None and tier is None and hit_rate is None and pricing is None:
        raise ConfigError("give at least one of --to-model, --tier, --hit-rate, --pricing")
    if to_provider is not None and to_model is None:
        raise ConfigError("--to-provider needs --to-model")
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.what_if(
            to_model=to_model,
            to_provider=to_provider,
            tier=tier,
            hit_rate=share(hit_rate, "--hit-rate"),
            pricing=pricing,
            **filters,
        )
    if not print_data(found, as_json, as_csv, found["by_model"], "analytics.planning.WhatIfModel"):
        _print_what_if(stdout(), found)


def _print_what_if(console: Console, found: WhatIf) -> None:
    if not found["compared_interactions"]:
        console.print("No matching call has a known cost on both sides.")
        return
    columns = [
        Column("Model", "model", flexible=True, style="bold"),
        Figure("Calls", "compared_interactions", number),
        Figure("Cost", "actual_cost", usd),
        Figure("What-if cost", "what_if_cost", usd),
        Figure("Difference", lambda row: (row["what_if_cost"] or 0) - (row["actual_cost"] or 0), usd),
        Figure("Hit rate", lambda row: _share(row["cached_tokens"], row), rate, optional=2),
        Figure("What-if hit rate", lambda row: _share(row["what_if_cached_tokens"], row), rate, optional=1),
    ]
    rows: list[dict[str, Any]] = [{**row} for row in found["by_model"] if row["compared_interactions"]]
    if len(rows) > 1:
        sums = {name: sum(row[name] or 0 for row in rows) for name in rows[0] if name not in ("model", "provider")}
        rows.append({**sums, "model": "all"})
    console.print(table(columns, rows, console.width))
    left_out = found["total_interactions"] - found["compared_interactions"]
    if left_out:
        console.print(f"Left out: {counted(left_out, 'call')} whose cost is not known on both sides.", style="dim")
    print_line(console, "assumptions", *found["assumptions"])


def _share(tokens: float, row: Mapping[str, Any]) -> float | None:
    return tokens / row["prompt_tokens"] if row["prompt_tokens"] else None


@filtered(until="the history of a forecast always ends yesterday; --since sets its beginning")
def forecast(
    filters: CallFilters,
    days: Annotated[
        int, typer.Option("--days", metavar="DAYS", min=1, max=3660, help="Number of days, including today.")
    ] = 30,
    hit_rate: HitRate = None,
    confidence: Annotated[
        float, typer.Option("--confidence", metavar="SHARE", help="Confidence level of the interval, between 0 and 1.")
    ] = 0.8,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Forecast the cost of the next days from the past days, with an interval."""
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.forecast_cost(days, hit_rate=share(hit_rate, "--hit-rate"), confidence=confidence, **filters)
    if not print_data(found, as_json):
        _print_forecast(stdout(), found)


def _print_forecast(console: Console, found: Forecast) -> None:
    if found["reason"] is not None:
        print_prose(console, f"No forecast: {found['reason']}.")
        return

    line = partial(print_line, console)
    line("expected", f"{usd(found['expected_cost'])} in {number(found['days'])} days")
    line("", f"{found['confidence']:.0%} interval: {usd(found['low'])} to {usd(found['high'])}")
    if found["at_hit_rate"] is not None:
        line("", f"{usd(found['expected_cost_at_hit_rate'])} at a hit rate of {rate(found['at_hit_rate'])}")
    split = found["split"]
    if split is not None:
        per_day = f"{number(split['interactions'])} calls and {number(split['prompt_tokens'])} prompt tokens per day"
        line("volume", per_day)
        line("hit rate", f"{rate(split['hit_rate'])}, saving {rate(split['savings_rate'])}")
        line("price", f"{usd(split['price'])} per 1M prompt tokens without the cache, completions included")
        effects = [split["volume_effect"], split["hit_rate_effect"], split["price_effect"]]
        if split["cost_change"] is not None and None not in effects:
            parts = zip(("volume", "hit rate", "price"), effects, strict=True)
            shares = ", ".join(f"{name} {usd(effect)}" for name, effect in parts)
            change = f"{usd(split['cost_change'])} per day from the first half of the history to the second"
            line("change", f"{change}: {shares}")
    history = f"{found['history_days']} days, {found['history_from']} to {found['history_to']}"
    line("history", f"{history}; {found['method']}")
    print_line(console, "assumptions", *found["assumptions"])


budget_app = typer.Typer(no_args_is_help=True, help="Spending limits: set, check, list, remove.")
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the budget.")]


@budget_app.command("set")
def set_(
    amount: Annotated[float, argument(metavar="USD", help="The limit in USD.")],
    per: Annotated[
        str, typer.Option("--per", metavar="PERIOD", help="day, week (from Monday) or month, in UTC.")
    ] = "month",
    name: Name = "default",
    model: Annotated[str | None, option("--model", metavar="NAME", help="Only calls of this model.")] = None,
    db_url: DbUrl = None,
) -> None:
    """Set or change a budget."""
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        client.set_budget(amount, per, name, model)
    stdout().print(f"Budget {clean(name)}: {usd(amount)} per {per}{f' for {clean(model)}' if model else ''}.")


@budget_app.command()
def check(
    name: Name = "default",
    strict: Annotated[bool, option("--strict", help="Also fail if the budget is expected to be exceeded.")] = False,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Check a budget, and show when it runs out. Exit code 1 if it is exceeded or not set."""
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.check_budget(name)
    if not print_data(found, as_json):
        _print_check(stdout(), found)
    failing = ("exceeded", "will be exceeded") if strict else ("exceeded",)
    raise typer.Exit(1 if found["status"] in failing else 0)


def _print_check(console: Console, found: BudgetCheck) -> None:
    line = partial(print_line, console)
    of = f" for {found['model']}" if found["model"] else ""
    line("budget", f"{found['name']}: {usd(found['amount_usd'])} per {found['period']}{of}")
    line("spent", f"{usd(found['spent'])} since {found['period_from']}, {usd(found['left'])} left")
    if unpriced := found["unpriced_interactions"]:
        line("", f"not counted: {counted(unpriced, 'unpriced call')}")
    if found["expected_cost"] is not None:
        line("expected", f"{usd(found['expected_cost'])} by the end of {found['period_to']}")
    if found["reason"]:
        line("no forecast", found["reason"])
    out = {"exceeded": "used up on", "will be exceeded": "runs out on"}.get(found["status"])
    line("status", found["status"] + (f": {out} {found['runs_out']}" if out else ""))


@budget_app.command("list")
def list_(as_json: AsJson = False, as_csv: AsCsv = False, db_url: DbUrl = None) -> None:
    """List the budgets."""
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.list_budgets()
    if print_data(found, as_json, as_csv, row_type="analytics.planning.Budget"):
        return
    console = stdout()
    if not found:
        console.print("No budget is set.")
        return
    columns = [
        Column("Budget", "name", flexible=True, style="bold"),
        Figure("Limit", "amount_usd", usd),
        Column("Period", "period"),
        Column("Model", lambda b: b["model"] or "all"),
    ]
    console.print(table(columns, found, console.width))


@budget_app.command()
def remove(name: Name = "default", db_url: DbUrl = None) -> None:
    """Remove a budget."""
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        client.remove_budget(name)
    stdout().print(f"Budget {clean(name)} removed.")


@filtered(**dict.fromkeys(("since", "until", "model", "query", "tag"), _WHOLE_EXPORT))
def reconcile(
    filters: CallFilters,
    file: Annotated[Path, argument(metavar="FILE", help="Costs or usage from OpenAI, OpenRouter or Azure.")],
    at_least: Annotated[
        str | None, option("--at-least", metavar="SHARE", help="Exit with code 1 if the coverage is lower: 95%.")
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Compare recorded calls with a provider's export, by day, model and tier.

    The format of the file determines the provider, unless --provider names it.
    """
    least = share(at_least, "--at-least")
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.reconcile(file, provider=filters.get("provider"))
    if not print_data(found, as_json, as_csv, found["rows"], "analytics.planning.ReconciliationRow"):
        _print_reconciliation(stdout(), found)
    if least is not None and (found["coverage_percentage"] or 0.0) < 100 * least:
        raise typer.Exit(1)


def _print_reconciliation(console: Console, found: Reconciliation) -> None:
    columns = [
        Column("Day", lambda row: row["day"].isoformat(), style="cyan"),
        Column("Model", lambda row: row["model"] or "all", flexible=True, style="bold"),
        Column("Tier", lambda row: row["service_tier"] or NONE, optional=2),
        Figure("Exported", "exported_cost", usd),
        Figure("Recorded", "recorded_cost", usd),
        Figure("Covered", "coverage_percentage", percentage),
        Figure("Unexplained", "unexplained_cost", usd),
        Figure("Exported calls", lambda row: row["exported_requests"] or None, number, optional=3),
        Figure("Recorded calls", "recorded_requests", number, optional=3),
    ]
    console.print(table(columns, found["rows"], console.width))
    basis = "cost" if found["kind"] == "costs" else "tokens"
    print_line(console, "covered", f"{percentage(found['coverage_percentage'])} by {basis}")
    print_line(console, "unexplained", usd(found["unexplained_cost"]))
    print_line(console, "", *found["notes"])
