"""``report``: a run in one file, as a web page or as Markdown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlm_cachetrack.errors import ConfigError
from rlm_cachetrack.formatting import clean

from .arguments import DbUrl, NotFound, QueryId, open_client, option
from .output import slow_status, stderr
from .run_selection import find_run


def report(
    query_id: QueryId,
    run: Annotated[
        str,
        typer.Option(
            "--run", metavar="RUN_ID", help="The run: latest, an id listed by `runs`, or the beginning of one."
        ),
    ] = "latest",
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
        chosen = find_run(store, query_id, run)
        found = reports.read(store, query_id, chosen.run_id, chosen.record)
    if found is None:
        raise NotFound(f"no run of query {query_id!r} is stored")
    if html is not None:
        text = reports.as_html(found)
        try:
            html.write_text(text, encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"--html {html}: {exc.strerror}") from exc
        stderr().print(f"Wrote {clean(html)}.", soft_wrap=True)
    if markdown or html is None:
        sys.stdout.write(reports.as_markdown(found))
