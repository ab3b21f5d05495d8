"""``report``: a run in one file, as a web page or as Markdown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean

from .arguments import DbUrl, NotFound, Run, RunArgument, open_client, option
from .filters import filtered
from .output import print_prose, slow_status, stderr
from .run_selection import find_named_run

if TYPE_CHECKING:
    from rlm_cachetrack.analytics import CallFilters


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
    db_url: DbUrl = None,
) -> None:
    """Write the report on a run as one web page, or as Markdown."""
    from rlm_cachetrack.web import report as reports

    with open_client(db_url) as client, slow_status("reading the run"):
        store = client.reader()
        chosen = find_named_run(store, which, run, filters)
        found = reports.read(store, chosen.query_id, chosen.run_id, chosen.record)
    if found is None:
        raise NotFound(f"the run of {chosen.query_id!r} was deleted")
    if html is not None:
        text = reports.as_html(found)
        try:
            html.write_text(text, encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"--html {html}: {exc.strerror}") from exc
        print_prose(stderr(), f"Wrote {clean(html)}.")
    if markdown or html is None:
        sys.stdout.write(reports.as_markdown(found))
