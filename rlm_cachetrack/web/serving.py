"""Build the dashboard's application and serve it, without loading FastAPI before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm_cachetrack._process import is_ctrl_c_pressed
from rlm_cachetrack.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from .source import DashboardStore

_MISSING = "the dashboard needs additional packages: pip install 'rlm_cachetrack[dashboard]'"


def create_app(
    source: DashboardStore,
    *,
    token: str | None = None,
    hosts: frozenset[str] | None = None,
    trace_url: str | None = None,
) -> FastAPI:
    """Build the ASGI application.

    Args:
        source: The store to read from.
        token: Required from every client; None: every client that can connect has access.
        hosts: Accepted values of the Host header; None: any. Protects a server without a token against DNS rebinding,
            that is, pages of other sites whose name resolves to this machine.
        trace_url: Address of a trace in the user's tracing system, with ``{trace_id}`` in place of its id. Calls that
            have a trace are linked to it.

    Raises:
        ConfigError: The extra is not installed, or ``trace_url`` is not such an address.
    """
    if trace_url is not None and not (trace_url.startswith(("https://", "http://")) and "{trace_id}" in trace_url):
        raise ConfigError(
            f"trace URL {trace_url!r}: expected an http or https address that contains {{trace_id}}, such as "
            "https://traces.example.com/trace/{trace_id}"
        )
    try:
        from .application import build
    except ImportError as exc:
        if str(exc.name).startswith("rlm_cachetrack"):
            raise
        raise ConfigError(_MISSING) from exc
    return build(source, token=token, hosts=hosts, trace_url=trace_url)


def is_loopback(host: str) -> bool:
    """Return True if only this machine can connect to the address."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def serve(app: FastAPI, host: str, port: int, *, started: Callable[[int], None]) -> None:
    """Serve until interrupted. Blocks.

    Args:
        app: As returned by :func:`create_app`.
        host: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        started: Called with the port once the server listens.

    Raises:
        ConfigError: The address or port is not available.
    """
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as exc:
        listening.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {exc.strerror}; --port 0 picks a free one") from exc
    with listening:
        listening.listen(128)
        started(listening.getsockname()[1])
        # No access log: a URL may contain a token or the id of a query. Open event streams end with the server.
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False
        )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
                self.should_exit |= is_ctrl_c_pressed()  # uvicorn's handler only knows of what came after its start

        Server(config).run(sockets=[listening])
