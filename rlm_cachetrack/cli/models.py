"""``models``: the cache effectiveness of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from rich.text import Text

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import NONE, clean, duration, moment, number, rate, usd

from .arguments import AsCsv, AsJson, DbUrl, open_client, option
from .filters import filtered
from .lifecycle import print_lifecycle
from .output import (
    EMPTY,
    NO_MATCH,
    Column,
    Figure,
    cached,
    print_data,
    print_line,
    saved,
    slow_status,
    stdout,
    table,
)
from .unpriced import unpriced_lines

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters


@filtered()
def models(
    filters: CallFilters,
    lifecycle: Annotated[
        bool,
        option("--lifecycle", help="Ask the provider of OPENAI_API_KEY when the models in use shut down."),
    ] = False,
    replacement: Annotated[
        str | None,
        option(
            "--replacement", metavar="MODEL", help="With --lifecycle: what the calls would have cost on this model."
        ),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    db_url: DbUrl = None,
) -> None:
    """Show the cache effectiveness by provider and model, and why calls are unpriced."""
    if lifecycle:
        with open_client(db_url) as client, slow_status("asking for the list of models"):
            rows = client.model_lifecycle(replacement, **filters)
        if not print_data(rows, as_json, as_csv, row_type="analytics.planning.lifecycle.ModelLifecycle"):
            print_lifecycle(rows)
        return
    if replacement is not None:
        raise ConfigError("--replacement needs --lifecycle")
    with open_client(db_url) as client, slow_status("aggregating the calls"):
        found = client.get_cache_effectiveness_by_model(**filters)
        is_text = not as_json and not as_csv
        unpriced = client.list_unpriced_models(**filters) if is_text and _any_unpriced(found) else []
    if print_data(found, as_json, as_csv, row_type="analytics.ModelEffectiveness"):
        return
    console = stdout()
    if "since" in filters or "until" in filters:
        span = [f"since {moment(filters['since'])}"] if "since" in filters else []
        span += [f"before {moment(filters['until'])}"] if "until" in filters else []
        console.print(Text(f"Calls {' and '.join(span)}", style="dim"))
    if not found:
        console.print(NO_MATCH if filters else EMPTY)
        return
    columns = [
        Column("Model", "model", flexible=True, style="bold", min_width=32 if stdout().width >= 80 else 14),
        Column("Provider", "provider", lambda name: NONE if name is None else clean(name), flexible=True, min_width=8),
        Figure("Calls", "total_interactions", number, optional=1),
        Figure("Hits", "interactions_with_cache", number, optional=5),
        Figure("Misses", "interactions_without_cache", number, optional=6),
        Figure("Failed", "failed_interactions", number, optional=5),
        Figure("Unpriced", "unpriced_interactions", number, optional=4),
        Figure("Prompt", lambda row: row["total_prompt_tokens"] or None, number, optional=2),
        Figure("Cached", cached, optional=8),
        Figure("Hit rate", "avg_cache_hit_rate", rate),
        Figure("Cost", "total_cost", usd),
        Figure("Saved", lambda row: saved(row["cost_savings"], row["avg_cache_hit_rate"]), usd, optional=1),
        Figure("Latency", "avg_duration_ms", duration, optional=3),
        Figure("First token", "avg_time_to_first_token_ms", duration, optional=7),
    ]
    console.print(table(columns, found, console.width))
    for index, line in enumerate(unpriced_lines(unpriced)):
        print_line(console, "" if index else "unpriced", line, indent=10)


def _any_unpriced(found: Sequence[Mapping[str, Any]]) -> bool:
    return any(row["unpriced_interactions"] for row in found)
