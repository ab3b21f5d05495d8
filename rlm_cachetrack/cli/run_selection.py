"""Find the run, or the group of runs, that a command-line argument names.

A query is named by its id, or by the beginning of one if no other query begins with it. With filters, only the runs
that match them are considered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import moment, number

from .arguments import NotFound, check_query_id, command_line
from .output import EMPTY

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters, RunRecord
    from rlm_cachetrack.store import PostgresStore

_FEW_RUNS, _MANY_RUNS = 100, 10_000
_SHOWN = 3
NO_RUN = "no stored run matches the filters"


class FoundRun(NamedTuple):
    """A listed run, and the number of runs of its query (counted up to 100)."""

    record: RunRecord
    query_runs: int

    @property
    def query_id(self) -> str:
        """Return the query of the run."""
        return self.record["query_id"]

    @property
    def run_id(self) -> datetime:
        """Return the start of the run, which identifies it within its query."""
        return self.record["run_id"]


def find_named_run(store: PostgresStore, text: str | None, run: str, filters: CallFilters) -> FoundRun:
    """Find the run that the arguments of a command name. Blocks for a few queries.

    Args:
        store: The store to search.
        text: A query's id or its beginning, with ``@`` and a run's id or its beginning; None: the newest run of all.
        run: The value of ``--run``, if ``text`` names no run.
        filters: What the run must match.

    Raises:
        NotFound: No run matches, or more than one does.
        ConfigError: Both arguments name a run, ``run`` has no ``text``, or ``text`` and a filter name a query.
    """
    from rlm_cachetrack.analytics import list_runs, run_records

    if text is None:
        if run != "latest":
            raise ConfigError("--run needs the id of a query")
        newest = list_runs(store, 1, **filters)
        if not newest and filters:
            raise NotFound(NO_RUN)
        if not newest:
            raise NotFound(f"{EMPTY[:-1].lower()}; `{command_line('demo')}` records a run")
        return find_run(store, newest[0]["query_id"], moment(newest[0]["run_id"], full=True))
    _check_one_query(text, filters)
    records = run_records(store, check_query_id(text), limit=_FEW_RUNS)
    if records and not filters:  # the usual case needs no other query
        return find_run(store, text, run, newest=records)
    query_id, chosen = _parts(store, text)
    if chosen is not None and run != "latest":
        raise ConfigError(f"{text!r} names a run, and so does --run")
    return find_run(store, query_id, run if chosen is None else chosen, filters)


def _check_one_query(text: str, filters: CallFilters) -> None:
    if "query_id" in filters:
        raise ConfigError(f"{text!r} names a query, and so does --query")


def _parts(store: PostgresStore, text: str) -> tuple[str, str | None]:
    """Return the query that ``QUERY`` or ``QUERY@RUN`` names, and the text after the ``@``; an exact id comes first."""
    text = check_query_id(text)
    before, _, after = text.rpartition("@")
    for query_id, run in ((text, None), (before, after)):
        if query_id and (found := _query(store, query_id)):
            return found, run
    return (before, after) if before and after else (text, None)  # which find_run reports as not stored


def _query(store: PostgresStore, text: str) -> str | None:
    """Return the query with this id, or the one whose id begins with it; None if there is none.

    Raises:
        NotFound: Several begin with it.
    """
    from rlm_cachetrack.analytics import queries_beginning, run_records

    if run_records(store, text, limit=1):
        return text
    found = queries_beginning(store, text, _SHOWN + 1)
    if len(found) > 1:
        some = ", ".join(map(repr, found[:_SHOWN]))
        raise NotFound(f"several queries begin with {text!r}: {some}{', …' if len(found) > _SHOWN else ''}")
    return found[0] if found else None


def find_run(
    store: PostgresStore,
    query_id: str,
    run: str,
    filters: CallFilters | None = None,
    newest: Sequence[RunRecord] | None = None,
) -> FoundRun:
    """Find the run that ``run`` names. Blocks for one query, or two if the query has more than 100 runs.

    Args:
        store: The store to search.
        query_id: The query.
        run: ``latest``, or a run's id as ``runs`` shows it: in full, or its beginning (UTC).
        filters: What the run must match; None: any run.
        newest: The newest hundred runs of the query, if they were read already.

    Raises:
        NotFound: No run matches, or more than one does.
    """
    from rlm_cachetrack.analytics import run_records

    newest = run_records(store, query_id, limit=_FEW_RUNS) if newest is None else newest
    if not newest:
        raise NotFound(f"no run of query {query_id!r} is stored; `{command_line('runs')}` lists the stored runs")
    count = len(newest)
    if filters:
        newest = _filtered_records(store, query_id, filters)
    if run == "latest":
        return FoundRun(newest[0], count)
    matching = _matching(newest, run)
    if not matching and count == _FEW_RUNS and not filters:
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
    return FoundRun(matching[0], count)


def _filtered_records(store: PostgresStore, query_id: str, filters: CallFilters) -> list[RunRecord]:
    """Return the runs of a query that match filters, newest first.

    Raises:
        NotFound: None matches.
    """
    from rlm_cachetrack.analytics import list_runs, run_records

    which: CallFilters = {**filters, "query_id": query_id}
    matching = {each["run_id"] for each in list_runs(store, _MANY_RUNS, **which)}
    found = [each for each in run_records(store, query_id, limit=_MANY_RUNS) if each["run_id"] in matching]
    if not found:
        raise NotFound(f"{NO_RUN} of query {query_id!r}")
    return found


def find_runs(store: PostgresStore, text: str, filters: CallFilters) -> list[tuple[str, datetime]]:
    """Find the run, or the group of runs, that an argument names. Blocks for one or two queries.

    Args:
        store: The store to search.
        text: A query's id or its beginning (its newest run); with ``@`` and a run's id, or the beginning of one; with
            ``@*`` all runs of the query, with ``@2026-11*`` those whose ids begin with 2026-11. An id that contains
            ``@`` itself is tried first.
        filters: What the runs must match.

    Raises:
        NotFound: No run matches, or more than one begins with an id that must be unique.
        ConfigError: ``text`` and a filter name a query.
    """
    from rlm_cachetrack.analytics import run_records

    _check_one_query(text, filters)
    query_id, run = _parts(store, text)
    if run is None:
        return [(query_id, find_run(store, query_id, "latest", filters).run_id)]
    if not run.endswith("*"):
        return [(query_id, find_run(store, query_id, run, filters).run_id)]
    listed = run_records(store, query_id, limit=_MANY_RUNS)
    if listed and filters:
        listed = _filtered_records(store, query_id, filters)
    if not listed:
        raise NotFound(f"no run of query {query_id!r} is stored; `{command_line('runs')}` lists the stored runs")
    beginning = run[:-1].strip()
    found = _matching(listed, beginning) if beginning else listed
    if not found:
        raise NotFound(f"no run of query {query_id!r} begins with {beginning!r}")
    return [(query_id, each["run_id"]) for each in found]


def _matching(runs: Sequence[RunRecord], text: str) -> list[RunRecord]:
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
