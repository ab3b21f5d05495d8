"""``delete`` and ``prune``: show how much would be deleted, ask for confirmation, delete."""

from __future__ import annotations

from typing import Annotated

from rlm_cachetrack.formatting import moment

from .arguments import DbUrl, QueryId, Yes, confirm, open_client, option, parse_moment
from .output import counted, print_prose, slow_status, stdout
from .run_selection import find_run


def delete(
    query_id: QueryId,
    run: Annotated[
        str | None, option("--run", metavar="RUN_ID", help="Delete only this run. `latest` is the newest run.")
    ] = None,
    yes: Yes = False,
    db_url: DbUrl = None,
) -> None:
    """Delete all records of a query, or of one of its runs."""
    with open_client(db_url) as client:
        with slow_status("counting the calls"):
            found = find_run(client.reader(), query_id, "latest" if run is None else run)
            only = None if run is None else found.run_id
            counts = client.count(query_id=query_id, run_id=only)
        which = f"Query {query_id!r}" + ("" if only is None else f", run {moment(only, full=True)}")
        print_prose(stdout(), f"{which}: {_counted(counts)}")
        if not yes:
            confirm("Delete them?")
        with slow_status("deleting"):
            deleted = client.delete(query_id=query_id, run_id=only)
    stdout().print(f"Deleted: {_counted(deleted)}")


def prune(
    before: Annotated[
        str, option("--before", metavar="WHEN", help="A date such as 2026-01-31 (UTC), or an age such as 90d or 24h.")
    ],
    yes: Yes = False,
    db_url: DbUrl = None,
) -> None:
    """Delete the calls before a time, and the runs that have no calls left."""
    limit = parse_moment(before, "--before")
    with open_client(db_url) as client:
        with slow_status("counting the calls"):
            counts = client.count(before=limit)
        stdout().print(f"Before {moment(limit)}: {_counted(counts)}")
        if not any(counts.values()):
            return
        if not yes:
            confirm("Delete them?")
        with slow_status("deleting"):
            deleted = client.delete(before=limit)
    stdout().print(f"Deleted: {_counted(deleted)}")


def _counted(counts: dict[str, int]) -> str:
    calls, runs = counts["interactions"], counts["runs"]
    return f"{counted(calls, 'call')}, {counted(runs, 'run')}"
