"""``policy``: show or change when calls move to the columnstore, and when they are deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from rlm_cachetrack.formatting import clean, moment, number

from .arguments import AsJson, DbUrl, Yes, confirm, option, parse_age
from .output import print_json, print_prose, slow_status, stdout


def policy(
    columnstore_after: Annotated[
        str | None, option("--columnstore-after", metavar="AGE", help="Age at which calls are compressed, or off.")
    ] = None,
    retain: Annotated[
        str | None, option("--retain", metavar="AGE", help="Age at which calls are deleted, or off.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    db_url: DbUrl = None,
) -> None:
    """Show or change compression and retention (TimescaleDB). Ages: 7d, 24h, 12w, off."""
    from rlm_cachetrack.client import runtime_for
    from rlm_cachetrack.pipeline import diagnostics

    ages: dict[str, timedelta | None] = {}
    if columnstore_after is not None:
        ages["columnstore_after"] = parse_age(columnstore_after, "--columnstore-after")
    if retain is not None:
        ages["retention_after"] = parse_age(retain, "--retain")
    if ages.get("retention_after") is not None and not yes:
        confirm(f"Delete calls older than {in_words(ages['retention_after'])}, now and from now on?")
    with slow_status("changing policies" if ages else "reading policies"):
        found = diagnostics.change_policies(runtime_for(db_url), **ages)
    if as_json:
        print_json(policy_facts(found))
        return
    for name, text in policy_lines(found) or [("calls", "in a plain table; policies need TimescaleDB")]:
        print_prose(stdout(), f"{name:<10} {text}")


def policy_facts(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the facts for JSON, with ages in seconds."""
    if found is None:
        return None
    return {key: value.total_seconds() if isinstance(value, timedelta) else value for key, value in found.items()}


def policy_lines(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return names and texts to print; none if calls are in a plain table."""
    if found is None:
        return []
    chunks, packed = found["chunks"], found["columnstore_chunks"]
    lines = [
        (
            "chunks",
            f"{number(chunks)} of {in_words(found['chunk_interval'])}"
            + (f", {number(packed)} in the columnstore" if packed else ""),
        )
    ]
    if found["limits"] is None:
        after, kept = found["columnstore_after"], found["retention_after"]
        compress = "off" if after is None else f"after {in_words(after)}, segmented by {found['segment_by']}"
        retention = "off: calls are never deleted" if kept is None else f"calls are deleted after {in_words(kept)}"
        lines += [("compress", compress), ("retention", retention)]
    every = found["hourly_every"]
    hourly = f"cache_usage_hourly is a {found['hourly']}"
    lines.append(("hourly", hourly + (f", refreshed every {in_words(every)}" if every else "")))
    lines += [("jobs", text) for text in failed_jobs(found)]
    if found["limits"] is not None:
        lines.append(("limits", found["limits"]))
    return lines


def failed_jobs(found: dict[str, Any] | None) -> list[str]:
    """Return a sentence for each background job of TimescaleDB that does not work."""
    sentences = []
    for job in found["failed_jobs"] if found else ():
        last = "never succeeded" if job["last_success"] is None else f"last succeeded {moment(job['last_success'])} UTC"
        why = f"fails: {clean(job['error'])}" if job["error"] else "fails or does not run"
        sentences.append(f"{job['job']} {why} ({last})")
    return sentences


def in_words(span: timedelta | None) -> str:
    """Format a duration: ``7 days``, ``15 minutes``."""
    if span is None:
        return "unknown"
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if span >= unit and not span % unit:
            count = span // unit
            return f"{number(count)} {name}{'' if count == 1 else 's'}"
    return str(span)
