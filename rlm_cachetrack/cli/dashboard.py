"""``dashboard``: serve the dashboard on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from rlm_cachetrack.errors import ConfigError

from .arguments import DbUrl, option
from .output import print_prose, stderr

_PORT = 8765


def dashboard(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on. Any other than 127.0.0.1 requires --token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = _PORT,
    token: Annotated[
        str | None,
        option(
            envvar="RLM_CACHETRACK_DASHBOARD_TOKEN",
            metavar="TOKEN",
            help="Token that clients must present. Prefer the variable: other users can read the command line.",
        ),
    ] = None,
    trace_url: Annotated[
        str | None,
        option(
            "--trace-url",
            metavar="URL",
            help="Address of a trace, such as 'https://traces.example.com/{trace_id}', to link calls to traces.",
        ),
    ] = None,
    open_browser: Annotated[bool, option("--open", help="Open the dashboard in the browser.")] = False,
    db_url: DbUrl = None,
) -> None:
    """Serve a live dashboard on this machine: spending, losses, runs, experiments, alerts. JSON is under /api."""
    from rlm_cachetrack import web
    from rlm_cachetrack.web.source import DashboardStore

    local = web.is_loopback(host)
    if not local and not token:
        raise ConfigError(
            f"--host {host} lets other machines connect and read your usage and costs: set a token in "
            "RLM_CACHETRACK_DASHBOARD_TOKEN"
        )
    if token is not None and len(token) < 8:
        raise ConfigError("the token is too short to be safe: expected at least 8 characters")
    source = DashboardStore(db_url)
    hosts = frozenset({"127.0.0.1", "localhost", "[::1]", host}) if local else None
    app = web.create_app(source, token=token, hosts=hosts, trace_url=trace_url)

    def started(chosen: int) -> None:
        address = f"http://{f'[{host}]' if ':' in host else host}:{chosen}/"
        print_prose(stderr(), f"Dashboard at {address} (Ctrl-C stops it)")
        if open_browser:
            typer.launch(address)

    try:
        web.serve(app, host, port, started=started)
    finally:
        source.close()
