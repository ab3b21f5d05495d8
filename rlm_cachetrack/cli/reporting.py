"""``report``: write a report on runs to one file, as a web page or as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean

from .arguments import DbUrl, NotFound, Run, RunArgument, open_client, option
from .filters import filtered
from .output import print_prose, slow_status, stderr
from .run_selection import find_named_run

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters
    from rlm_cachetrack.client import TimescaleDBClient


@filtered("runs")
def report(
    filters: CallFilters,
    which: RunArgument = None,
    run: Run = "latest",
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a web page with charts that works offline."),
    ] = None,
    markdown: Annotated[bool, option("--md", help="Print Markdown for a pull request; the default.")] = False,
    by: Annotated[
        str | None,
        option("--experiments", metavar="GROUPING", help="Report on groups of runs by metadata.KEY, model, …"),
    ] = None,
    db_url: DbUrl = None,
) -> None:
    """Write a report on one run, or on groups of runs, as a web page or as Markdown."""
    from rlm_cachetrack.web import report as reports

    as_html: Callable[[], str]
    as_markdown: Callable[[], str]
    with open_client(db_url) as client, slow_status("reading the runs"):
        if by is not None:
            chosen: CallFilters = {**filters, "query_id": which or filters.get("query_id")}
            groups = client.get_experiments(by, **chosen)
            if not groups:
                raise NotFound("no finished run matches")
            as_html = partial(reports.experiments_as_html, groups, by)
            as_markdown = partial(reports.experiments_as_markdown, groups, by)
        else:
            found = _read_run(client, which, run, filters)
            as_html, as_markdown = partial(reports.as_html, found), partial(reports.as_markdown, found)
    if html is not None:
        text = as_html()
        try:
            html.write_text(text, encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"--html {html}: {exc.strerror}") from exc
        print_prose(stderr(), f"Wrote {clean(html)}.")
    if markdown or html is None:
        sys.stdout.write(as_markdown())


def _read_run(client: TimescaleDBClient, which: str | None, run: str, filters: CallFilters) -> dict[str, Any]:
    from rlm_cachetrack.web import report as reports

    store = client.reader()
    chosen = find_named_run(store, which, run, filters)
    found = reports.read(store, chosen.query_id, chosen.run_id, chosen.record)
    if found is None:
        raise NotFound(f"the run of {chosen.query_id!r} was deleted")
    return found
