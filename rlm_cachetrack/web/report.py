"""A run, or a comparison of groups of runs, in one file: a web page with charts, or Markdown for a pull request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlm_cachetrack.analytics import (
    RunRecord,
    calls_of_run,
    costs_of_outcome,
    is_cache_use_reported,
    mixed_queries,
    run_report,
)
from rlm_cachetrack.analytics.explain import CacheExplanation, explain_cache, hit_rate_words
from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import (
    NONE,
    clean,
    dropped_details,
    duration,
    judged_words,
    moment,
    number,
    outcome_words,
    rate,
    usd,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm_cachetrack.analytics import Experiment
    from rlm_cachetrack.store import PostgresStore

_CALLS = 150
_STEPS = 60
_EXPLAINED = 10_000


def read(
    store: PostgresStore, query_id: str, run_id: datetime, record: RunRecord | None = None
) -> dict[str, Any] | None:
    """Read the contents of a report; None for an unknown run. Blocks for up to nine queries.

    Args:
        store: The store to read.
        query_id: The query.
        run_id: The run of the query.
        record: The run's record, if the caller has read it.
    """
    found = run_report(store, query_id, run_id, record=record)
    if found is None:
        return None
    return {
        **found,
        **calls_of_run(store, query_id, run_id, limit=_CALLS),
        "misses": explain_cache(store, query_id, run_id, limit=_EXPLAINED),
    }


def as_html(report: dict[str, Any], *, made: datetime | None = None) -> str:
    """Render a report as one page that needs no other file and no network.

    Args:
        report: As :func:`read` returns it.
        made: The time of the report, as shown on the page; None: now.

    Raises:
        ConfigError: The extra ``dashboard`` is not installed.
    """
    charts, rendering = _page_modules()
    return _page(
        "_run.html",
        clean(report["summary"]["query_id"])[:60],
        "Prompt cache report of one run",
        made,
        **report,
        after=None,
        why=rendering.verdicts(report["misses"]),
        figures=[*charts.of_iterations(report["iterations"]), *charts.of_calls(report["calls"])],
    )


def experiments_as_html(groups: Sequence[Experiment], by: str, *, made: datetime | None = None) -> str:
    """Render groups of runs, with their score over cost, as one page that needs no other file and no network.

    Args:
        groups: As :func:`.experiments` returns them.
        by: What the runs are grouped by.
        made: The time of the report, as shown on the page; None: now.

    Raises:
        ConfigError: The extra ``dashboard`` is not installed.
    """
    charts, _ = _page_modules()
    title = f"Runs by {clean(by)[:40]}"
    return _page("_experiments.html", title, title, made, groups=groups, by=by, figures=charts.of_experiments(groups))


def _page_modules() -> tuple[Any, Any]:
    try:
        from . import charts, rendering
    except ImportError as exc:
        raise ConfigError("the report as HTML needs: pip install 'rlm_cachetrack[dashboard]'") from exc
    return charts, rendering


def _page(part: str, title: str, heading: str, made: datetime | None, **values: Any) -> str:
    from .rendering import environment
    from .static_files import FILES, SCRIPTS

    return (
        environment()
        .get_template("report.html")
        .render(
            part=part,
            title=title,
            heading=heading,
            css=FILES["app.css"].body.decode(),
            scripts=[_within_script(FILES[name].body.decode()) for name in SCRIPTS],
            rendered=made or datetime.now(UTC),
            **values,
        )
    )


def _within_script(text: str) -> str:
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def as_markdown(report: dict[str, Any]) -> str:
    """Render a report as GitHub Markdown: totals, a line per iteration, and the cache miss reasons."""
    run, summary = report["run"] or {}, report["summary"]
    ended = f" after {duration(run['duration_ms'])}" if run.get("duration_ms") is not None else ""
    known = is_cache_use_reported(summary)
    saved = summary["cost_savings"] if known or summary["cost_savings"] else None
    instead = f" instead of {usd(summary['original_cost'])}" if known and summary["original_cost"] is not None else ""
    dropped = dropped_details(summary["dropped_interactions"], summary["total_interactions"])
    lines = [
        f"### {_code(summary['query_id'])}",
        "",
        f"Run {moment(summary['run_id'])}, {clean(run.get('state') or NONE)}{ended}; "
        f"models: {', '.join(map(_code, summary['models'])) or NONE}"
        + (f"; outcome: {_text(reached)}" if (reached := outcome_words(run)) else ""),
        "",
        "| hit rate | saved | cost | calls | failed | prompt tokens | cached | completion tokens |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| {rate(summary['cache_hit_rate'])} | {usd(saved)} | {usd(summary['total_cost'])}{instead} "
        f"| {number(summary['total_interactions'])} | {number(summary['failed_interactions'])} "
        f"| {number(summary['total_prompt_tokens'])} | {number(summary['total_cached_tokens'] if known else None)} "
        f"| {number(summary['total_completion_tokens'])} |",
        "",
        *([dropped, ""] if dropped else []),
        "| iteration | prompt | cached | hit rate | cost | without cache | saved |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    steps = report["iterations"]
    lines += [
        f"| {step['iteration']} | {number(step['prompt_tokens'])} | {number(step['cached_tokens'])} "
        f"| {rate(step['cache_hit_rate'])} | {usd(step['total_cost'])} | {usd(step['original_cost'])} "
        f"| {usd(step['cost_savings'])} |"
        for step in steps[:_STEPS]
    ]
    if len(steps) > _STEPS:
        lines += ["", f"… and {number(len(steps) - _STEPS)} more iterations."]
    if report["misses"] is not None:
        lines += ["", *_misses(report["misses"])]
    return "\n".join(lines) + "\n"


def experiments_as_markdown(groups: Sequence[Experiment], by: str) -> str:
    """Render groups of runs as a GitHub Markdown table, in the given order."""
    lines = [
        f"### Runs by {_code(by)}",
        "",
        "| group | runs | success | score | cost per success | 95% interval | cost per run | without cache "
        "| hit rate |",
        "|:---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for group in groups:
        name = "not set" if group["group"] is None else _code(group["group"])
        score = NONE if group["avg_score"] is None else f"{group['avg_score']:.3f}"
        costs, judged = costs_of_outcome(group), judged_words(group)
        runs = f"{number(group['runs'])}{f', {judged}' if judged else ''}"
        low, high = group["cost_per_success_low"], group["cost_per_success_high"]
        interval = NONE if low is None or high is None else f"{usd(low)} to {usd(high)}"
        lines.append(
            f"| {name}{' ★' if group['is_pareto'] else ''} | {runs} | {rate(group['success_rate'])} "
            f"| {score} | {usd(group['cost_per_success'])} | {interval} | {usd(costs.mean)} "
            f"| {usd(costs.original)} | {rate(group['cache_hit_rate'])} |"
        )
    lines += ["", "★: no other group is cheaper per run and at least as good."]
    if any(map(judged_words, groups)):
        lines += ["", "In groups with judged runs, costs per run cover these."]
    if mixed_queries(groups, by):
        lines += ["", "The groups contain runs of several queries, whose tasks may differ."]
    return "\n".join(lines) + "\n"


def _misses(found: CacheExplanation) -> list[str]:
    """Render the cache miss reasons as a table, and the recommendations as a list."""
    lines = [f"Hit rate: {hit_rate_words(found)}.", ""]
    lines += ["| reason | calls | tokens lost | USD lost |", "|:---|---:|---:|---:|"]
    lines += [
        f"| {verdict(each['verdict'])} | {number(each['calls'])} | {number(each['tokens_lost'])} "
        f"| {usd(each['usd_lost'] if each['tokens_lost'] else None)} |"
        for each in found["verdicts"]
    ]
    if found["advice"]:
        lines += ["", "What would help:", ""]
    for each in found["advice"]:
        at_stake = usd(each["usd_at_stake"]) if each["usd_at_stake"] else f"{number(each['tokens_at_stake'])} tokens"
        lines.append(f"- {at_stake} ({number(each['calls'])} calls): {_text(each['words'])}.")
    return lines


def _text(text: str) -> str:
    """Escape markup and mentions in text that may contain a model's name."""
    import re

    return re.sub(r"([\\`*_{}\[\]<>|~#!])", r"\\\1", clean(text)).replace("@", "@\u2060")


def _code(text: str) -> str:
    """Render untrusted text as code, where markup and mentions have no effect, also inside a table."""
    shown = clean(text)
    shown = shown if len(shown) <= 200 else f"{shown[:199]}…"
    fence = "`" * (max((len(run) for run in _runs_of_backticks(shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}".replace("|", "\\|")


def _runs_of_backticks(text: str) -> list[str]:
    import re

    return re.findall(r"`+", text)
