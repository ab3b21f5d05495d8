"""Find the run, or the group of runs, that a command-line argument names."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from rlm_cachetrack.formatting import moment, number

from .arguments import NotFound, check_query_id, command_line

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import RunRecord
    from rlm_cachetrack.store import PostgresStore

_FEW_RUNS, _MANY_RUNS = 100, 10_000


class FoundRun(NamedTuple):
    """A listed run, and the number of runs of its query (counted up to 100)."""

    record: RunRecord
    query_runs: int

    @property
    def run_id(self) -> datetime:
        """Return the start of the run, which identifies it within its query."""
        return self.record["run_id"]


def find_run(store: PostgresStore, query_id: str, run: str) -> FoundRun:
    """Find the run that ``run`` names. Blocks for one query, or two if the query has more than 100 runs.

    Args:
        store: The store to search.
        query_id: The query.
        run: ``latest``, or a run's id as ``runs`` shows it: in full, or its beginning (UTC).

    Raises:
        NotFound: No run matches, or more than one does.
    """
    from rlm_cachetrack.analytics import run_records

    newest = run_records(store, query_id, limit=_FEW_RUNS)
    if not newest:
        raise NotFound(f"no run of query {query_id!r} is stored; `{command_line('runs')}` lists the stored runs")
    if run == "latest":
        return FoundRun(newest[0], len(newest))
    matching = _matching(newest, run)
    if not matching and len(newest) == _FEW_RUNS:
        matching = _matching(run_records(store, query_id, limit=_MANY_RUNS), run)
    if not matching:
        listing = command_line("runs", "--query", query_id=query_id)
        raise NotFound(f"query {query_id!r} has no run {run!r}; `{listing}` lists its runs")
    if len(matching) > 1:
        some = ", ".join(moment(each["run_id"], full=True) for each in matching[:3])
        raise NotFound(
            f"{number(len(matching))} runs of query {query_id!r} begin with {run!r}: "
            f"{some}{' …' if len(matching) > 3 else ''}"
        )
    return FoundRun(matching[0], len(newest))


def find_runs(store: PostgresStore, text: str) -> list[tuple[str, datetime]]:
    """Find the run, or the group of runs, that an argument names. Blocks for one or two queries.

    Args:
        store: The store to search.
        text: A query's id (its newest run); with ``@`` and a run's id, or the beginning of one; with ``@*`` all runs of
            the query, with ``@2026-11*`` those whose ids begin with 2026-11. An id that contains ``@`` itself is tried
            first.

    Raises:
        NotFound: No run matches, or more than one begins with an id that must be unique.
    """
    from rlm_cachetrack.analytics import run_records

    text = check_query_id(text)
    query_id, _, run = text.rpartition("@")
    if not query_id or run_records(store, text):
        return [(text, find_run(store, text, "latest").run_id)]
    if not run.endswith("*"):
        return [(query_id, find_run(store, query_id, run).run_id)]
    listed = run_records(store, query_id, limit=_MANY_RUNS)
    if not listed:
        raise NotFound(f"no run of query {query_id!r} is stored; `{command_line('runs')}` lists the stored runs")
    beginning = run[:-1].strip()
    found = _matching(listed, beginning) if beginning else listed
    if not found:
        raise NotFound(f"no run of query {query_id!r} begins with {beginning!r}")
    return [(query_id, each["run_id"]) for each in found]


def _matching(runs: list[RunRecord], text: str) -> list[RunRecord]:
    beginning = re.sub(r"(Z|[+-]00:?00)$", "", text.strip().replace(" ", "T"), flags=re.IGNORECASE)
    try:
        exact = datetime.fromisoformat(text.strip())
    except ValueError:
        exact = None
    if exact is not None and exact.tzinfo is not None:
        same = [run for run in runs if run["run_id"] == exact.astimezone(UTC)]
        if same:
            return same
    return [run for run in runs if beginning and moment(run["run_id"], full=True).startswith(beginning)]
